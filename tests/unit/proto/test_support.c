#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "envoy/config/core/v3/config_source.pb-c.h"
#include "proto/support.h"
#include "tests/unit/proto/help.h"

static bool check(struct world *w, const ProtobufCMessage *m)
{
    const struct proto_opts opts = {.on_note = world_on_note, .user = w};
    return proto_support_check(m, NULL, &opts, &w->errors);
}

static void test_refused_field_is_an_error_with_its_path(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Bootstrap__V3__Bootstrap config = ENVOY__CONFIG__BOOTSTRAP__V3__BOOTSTRAP__INIT;
    char prefix[] = "x-mine";
    assert_true(check(&w, &config.base));
    config.header_prefix = prefix;
    assert_false(check(&w, &config.base));
    assert_error(&w, "header_prefix", "not supported");
    arena_free(&w.arena);
}

static void test_ignored_field_is_a_note_with_its_reason(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Bootstrap__V3__Bootstrap bootstrap =
        ENVOY__CONFIG__BOOTSTRAP__V3__BOOTSTRAP__INIT;
    char path[] = "/flags";
    bootstrap.flags_path = path;
    assert_true(check(&w, &bootstrap.base));
    assert_int_equal(w.notes, 1);
    assert_int_equal(w.note_kind, PROTO_NOTE_IGNORED);
    assert_str(w.note_path, "flags_path");
    assert_true(w.note_text.len > 0);
    arena_free(&w.arena);
}

static void test_left_out_enum_stands_for_a_refused_value(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Core__V3__ApiConfigSource source =
        ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__INIT;
    assert_false(check(&w, &source.base));
    assert_error(&w, "api_type", "DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE");
    arena_free(&w.arena);
}

static void test_refused_enum_value(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Core__V3__ApiConfigSource source =
        ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__INIT;
    source.api_type = ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__GRPC;
    source.transport_api_version = ENVOY__CONFIG__CORE__V3__API_VERSION__V2;
    assert_false(check(&w, &source.base));
    assert_error(&w, "transport_api_version", "V2");
    source.transport_api_version = ENVOY__CONFIG__CORE__V3__API_VERSION__V3;
    assert_true(check(&w, &source.base));
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_field_is_an_error_with_its_path),
        cmocka_unit_test(test_ignored_field_is_a_note_with_its_reason),
        cmocka_unit_test(test_left_out_enum_stands_for_a_refused_value),
        cmocka_unit_test(test_refused_enum_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
