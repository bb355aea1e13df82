#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "tests/unit/proto/help.h"
#include "xds/type/v3/typed_struct.pb-c.h"

static const ProtobufCMessageDescriptor *const node = &envoy__config__core__v3__node__descriptor;
static const ProtobufCMessageDescriptor *const pipe_type =
    &envoy__config__core__v3__pipe__descriptor;

static void test_decodes_into_the_arena(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Core__V3__Node *m = (Envoy__Config__Core__V3__Node *)proto_decode(
        w.arena, node, STR("\x0a\x01n"), NULL, NULL, &w.errors);
    assert_non_null(m);
    assert_string_equal(m->id, "n");
    assert_string_equal(m->cluster, "");
    arena_free(&w.arena);
}

static void test_broken_rule_is_told_at_the_path(void **state)
{
    (void)state;
    struct world w = world_new();
    const struct proto_path at = proto_path_item(NULL, "addresses", 3);
    assert_null(proto_decode(w.arena, pipe_type, STR(""), NULL, &at, &w.errors));
    assert_error(&w, "addresses[3].path", "at least 1 characters");
    arena_free(&w.arena);
}

static void test_any_of_the_wrong_or_an_unknown_type(void **state)
{
    (void)state;
    struct world w = world_new();
    const struct proto_path at = proto_path_field(NULL, "typed_config");
    Envoy__Config__Core__V3__Pipe m = ENVOY__CONFIG__CORE__V3__PIPE__INIT;
    char path[] = "/x", unknown[] = "type.googleapis.com/a.b.C", empty[] = "";
    m.path = path;
    Google__Protobuf__Any *any = proto_any_pack(w.arena, &m.base);
    assert_non_null(proto_any_unpack(w.arena, any, pipe_type, NULL, &at, &w.errors));
    assert_non_null(proto_any_unpack(w.arena, any, NULL, NULL, &at, &w.errors));
    assert_null(proto_any_unpack(w.arena, any, node, NULL, &at, &w.errors));
    assert_error(&w, "typed_config", "expected a envoy.config.core.v3.Node");
    w.errors.count = 0;
    any->type_url = unknown;
    assert_null(proto_any_unpack(w.arena, any, NULL, NULL, &at, &w.errors));
    assert_error(&w, "typed_config", "the type a.b.C is not supported");
    w.errors.count = 0;
    any->type_url = empty;
    assert_null(proto_any_unpack(w.arena, any, NULL, NULL, &at, &w.errors));
    assert_error(&w, "typed_config", "missing");
    arena_free(&w.arena);
}

static void test_typed_struct_is_resolved(void **state)
{
    (void)state;
    struct world w = world_new();
    /* {"path": "/x"} as a Struct */
    struct str value = STR("\x0a\x0c\x0a\x04path\x12\x04\x1a\x02/x");
    Xds__Type__V3__TypedStruct t = XDS__TYPE__V3__TYPED_STRUCT__INIT;
    char url[] = "type.googleapis.com/envoy.config.core.v3.Pipe";
    t.type_url = url;
    t.value = (Google__Protobuf__Struct *)proto_unpack(
        w.arena, &google__protobuf__struct__descriptor, value, NULL, NULL, &w.errors);
    assert_non_null(t.value);
    Google__Protobuf__Any *any = proto_any_pack(w.arena, &t.base);
    assert_str(proto_any_name(w.arena, any), "envoy.config.core.v3.Pipe");
    Envoy__Config__Core__V3__Pipe *m = (Envoy__Config__Core__V3__Pipe *)proto_any_unpack(
        w.arena, any, pipe_type, NULL, NULL, &w.errors);
    assert_non_null(m);
    assert_string_equal(m->path, "/x");
    arena_free(&w.arena);
}

static void test_empty_member_of_a_oneof_survives_an_any(void **state)
{
    (void)state;
    struct world w = world_new();
    struct str text = STR(
        "typed_config: {\"@type\": type.googleapis.com/envoy.config.route.v3.RouteMatch, prefix: \"\"}");
    Envoy__Config__Core__V3__TransportSocket *m =
        (Envoy__Config__Core__V3__TransportSocket *)json_read(
            w.arena, &envoy__config__core__v3__transport_socket__descriptor, text, JSON_FORMAT_YAML,
            NULL, NULL, &w.errors);
    assert_non_null(m);
    Envoy__Config__Route__V3__RouteMatch *match =
        (Envoy__Config__Route__V3__RouteMatch *)proto_any_unpack(w.arena, m->typed_config, NULL,
                                                                 NULL, NULL, &w.errors);
    assert_non_null(match);
    assert_int_equal(match->path_specifier_case,
                     ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_PREFIX);
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_into_the_arena),
        cmocka_unit_test(test_broken_rule_is_told_at_the_path),
        cmocka_unit_test(test_any_of_the_wrong_or_an_unknown_type),
        cmocka_unit_test(test_typed_struct_is_resolved),
        cmocka_unit_test(test_empty_member_of_a_oneof_survives_an_any),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
