/* Messages as JSON text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/errors.h"
#include "envoy/admin/v3/server_info.pb-c.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "proto/json.h"
#include "proto/print.h"

static void prints(const ProtobufCMessageDescriptor *desc, const struct print_opts *opts,
                   const char *yaml, const char *want)
{
    struct arena *arena = arena_new("test", 0);
    struct errors errors = {.arena = arena};
    const ProtobufCMessage *m =
        json_read(arena, desc, str_of(yaml), JSON_FORMAT_YAML, NULL, NULL, &errors);
    if (!m) print_error("%s\n", errors_text(&errors, arena, STR_NONE).ptr);
    assert_non_null(m);
    assert_string_equal(print_to(arena, m, opts).ptr, want);
    arena_free(&arena);
}

static void pretty_as_envoy(void **state)
{
    (void)state;
    static const struct print_opts pretty = {.pretty = true};
    prints(
        &envoy__config__cluster__v3__cluster__descriptor, &pretty,
        "{name: \"a<b>\\u2028\\x01\", connect_timeout: 1.5s, metadata: {filter_metadata: {z: {}, y: {k: [1, {}, []]}}}}",
        "{\n \"name\": \"a\\u003cb\\u003e\\u2028\\u0001\",\n \"connect_timeout\": \"1.500s\",\n \"metadata\": {\n  \"filter_metadata\": {\n"
        "   \"y\": {\n    \"k\": [\n     1,\n     {},\n     []\n    ]\n   },\n   \"z\": {}\n  }\n }\n}");
}

static void zero_fields_when_asked(void **state)
{
    (void)state;
    static const struct print_opts all = {.always_primitive = true};
    prints(
        &envoy__admin__v3__server_info__descriptor, &all, "{state: LIVE, uptime_all_epochs: 2s}",
        "{\"version\":\"\",\"state\":\"LIVE\",\"uptime_all_epochs\":\"2s\",\"hot_restart_version\":\"\"}");
}

static void hides_secrets(void **state)
{
    (void)state;
    static const struct print_opts redact = {.redact = true};
    prints(
        &envoy__extensions__transport_sockets__tls__v3__secret__descriptor, &redact,
        "{name: s, tls_certificate: {certificate_chain: {inline_string: public}, private_key: {inline_string: secret}, password: "
        "{inline_bytes: c2VjcmV0}}}",
        "{\"name\":\"s\",\"tls_certificate\":{\"certificate_chain\":{\"inline_string\":\"public\"},\"private_key\":{\"inline_string\":"
        "\"[redacted]\"},\"password\":{\"inline_bytes\":\"W3JlZGFjdGVkXQ==\"}}}");
    prints(
        &envoy__config__cluster__v3__cluster__descriptor, &redact,
        "{typed_extension_protocol_options: {k: {'@type': a/envoy.extensions.transport_sockets.tls.v3.GenericSecret, secret: {filename: x}}}}",
        "{\"typed_extension_protocol_options\":{\"k\":{\"@type\":\"a/envoy.extensions.transport_sockets.tls.v3.GenericSecret\",\"secret\":"
        "{\"filename\":\"[redacted]\"}}}}");
}

/* A broken secret is still one. */
static void hides_what_cannot_be_read(void **state)
{
    (void)state;
    static const char url[] =
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    uint8_t bytes[] = {0x12, 0x40, ' ', 's', 'e', 'c', 'r', 'e', 't'};
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = (char *)(uintptr_t)url;
    any.value = (ProtobufCBinaryData){sizeof(bytes), bytes};
    struct arena *a = arena_new("test", 0);
    for (int hide = 0; hide < 2; hide++) {
        struct print_opts opts = {.redact = hide};
        struct str text = print_to(a, &any.base, &opts);
        assert_int_equal(str_find(text, STR("c2VjcmV0")) == SIZE_MAX, hide);
        assert_int_equal(str_find(text, STR("W3JlZGFjdGVkXQ==")) != SIZE_MAX, hide);
    }
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pretty_as_envoy),
        cmocka_unit_test(zero_fields_when_asked),
        cmocka_unit_test(hides_secrets),
        cmocka_unit_test(hides_what_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
