/* Secrets in binary messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/errors.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proto/print.h"
#include "proto/redact.h"

static Google__Protobuf__Any *packed(struct arena *a, const ProtobufCMessageDescriptor *desc,
                                     const char *yaml)
{
    struct errors errors = {.arena = a};
    const ProtobufCMessage *m =
        json_read(a, desc, str_of(yaml), JSON_FORMAT_YAML, NULL, NULL, &errors);
    assert_non_null(m);
    return proto_any_pack(a, m);
}

/* What is hidden in bytes is what is hidden in text. */
static void same_as_in_text(const ProtobufCMessageDescriptor *desc, const char *yaml)
{
    static const struct print_opts redact = {.redact = true}, plain = {0};
    struct arena *a = arena_new("test", 0);
    Google__Protobuf__Any *any = packed(a, desc, yaml);
    struct str before = print_to(a, &any->base, &plain), want = print_to(a, &any->base, &redact);
    assert_false(str_eq(before, want));
    proto_redact_any(a, any);
    assert_string_equal(print_to(a, &any->base, &plain).ptr, want.ptr);
    arena_free(&a);
}

static void hides_what_text_hides(void **state)
{
    (void)state;
    same_as_in_text(
        &envoy__extensions__transport_sockets__tls__v3__secret__descriptor,
        "{name: s, tls_certificate: {certificate_chain: {inline_string: public}, private_key: {inline_string: secret}, password: "
        "{inline_bytes: c2VjcmV0}}}");
    same_as_in_text(
        &envoy__extensions__transport_sockets__tls__v3__secret__descriptor,
        "{name: s, session_ticket_keys: {keys: [{inline_bytes: c2VjcmV0}, {inline_string: b}]}}");
    same_as_in_text(
        &envoy__config__cluster__v3__cluster__descriptor,
        "{typed_extension_protocol_options: {k: {'@type': a/envoy.extensions.transport_sockets.tls.v3.GenericSecret, secret: {filename: x}}}}");
}

static void keeps_the_rest(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    Google__Protobuf__Any *any =
        packed(a, &envoy__config__cluster__v3__cluster__descriptor,
               "{name: c, connect_timeout: 2s, alt_stat_name: '', dns_lookup_family: V4_ONLY}");
    ProtobufCBinaryData before = any->value;
    proto_redact_any(a, any);
    assert_ptr_not_equal(any->value.data, before.data);
    assert_int_equal(any->value.len, before.len);
    assert_memory_equal(any->value.data, before.data, before.len);
    any->type_url = (char *)(uintptr_t) "a/of.nobody";
    before = any->value;
    proto_redact_any(a, any);
    assert_ptr_equal(any->value.data, before.data);
    arena_free(&a);
}

/* A field that we do not declare, and bytes that are none of the type's. */
static void leaves_out_what_it_cannot_know(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    static uint8_t unknown[] = {0x0a, 1, 'n', 0xf2, 0x7f, 2, 'h', 'i'}, broken[] = {0x0a, 9, 'n'};
    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = (char *)(uintptr_t) "a/envoy.extensions.transport_sockets.tls.v3.Secret";
    any.value = (ProtobufCBinaryData){.data = unknown, .len = sizeof unknown};
    proto_redact_any(a, &any);
    assert_int_equal(any.value.len, 3);
    assert_memory_equal(any.value.data, unknown, 3);
    any.value = (ProtobufCBinaryData){.data = broken, .len = sizeof broken};
    proto_redact_any(a, &any);
    assert_int_equal(any.value.len, 0);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hides_what_text_hides),
        cmocka_unit_test(keeps_the_rest),
        cmocka_unit_test(leaves_out_what_it_cannot_know),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
