#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "proto/path.h"
#include "proto/proto.h"
#include "tests/unit/proto/help.h"

static void test_every_type_is_found_by_name_and_matches_its_descriptor(void **state)
{
    (void)state;
    size_t count;
    const struct proto_type *const *types = proto_types(&count);
    assert_true(count > 500);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(proto_type_find(str_of(types[i]->name)), types[i]);
        assert_string_equal(types[i]->desc->name, types[i]->name);
        for (size_t k = 0; k < types[i]->desc->n_fields; k++) {
            const ProtobufCFieldDescriptor *f = &types[i]->desc->fields[k];
            const struct proto_type *sub = types[i]->fields[k].type;
            assert_int_equal(f->type == PROTOBUF_C_TYPE_MESSAGE, sub != NULL);
            if (sub) assert_ptr_equal(sub->desc, f->descriptor);
            assert_true(proto_field_by_name(types[i], str_of(f->name)) == k);
            assert_true(proto_field_by_name(types[i], str_of(types[i]->fields[k].json_name)) == k);
        }
    }
    assert_null(proto_type_find(STR("envoy.config.core.v3.Nod")));
}

static void test_type_urls(void **state)
{
    (void)state;
    const struct proto_type *node = proto_type_of(&envoy__config__core__v3__node__descriptor);
    assert_ptr_equal(proto_type_find_url(STR("type.googleapis.com/envoy.config.core.v3.Node")),
                     node);
    assert_ptr_equal(proto_type_find_url(STR("envoy.config.core.v3.Node")), node);
    assert_null(proto_type_find_url(STR("")));
}

static void test_presence(void **state)
{
    (void)state;
    const struct proto_type *type = proto_type_of(&envoy__config__cluster__v3__cluster__descriptor);
    Envoy__Config__Cluster__V3__Cluster cluster = ENVOY__CONFIG__CLUSTER__V3__CLUSTER__INIT;
    for (size_t i = 0; i < type->desc->n_fields; i++)
        assert_false(proto_field_set(&cluster.base, type, i));
    cluster.cluster_discovery_type_case =
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE;
    assert_true(proto_field_set(&cluster.base, type, proto_field_by_name(type, STR("type"))));
    assert_false(
        proto_field_set(&cluster.base, type, proto_field_by_name(type, STR("cluster_type"))));
    char name[] = "x";
    cluster.name = name;
    assert_true(proto_field_set(&cluster.base, type, proto_field_by_name(type, STR("name"))));
}

static void test_enum_names(void **state)
{
    (void)state;
    const ProtobufCEnumDescriptor *policy =
        &envoy__config__cluster__v3__cluster__lb_policy__descriptor;
    int value = 0;
    assert_true(proto_enum_by_name(policy, STR("RING_HASH"), &value));
    assert_string_equal(proto_enum_name(policy, value), "RING_HASH");
    assert_false(proto_enum_by_name(policy, STR("RING_HAS"), &value));
    assert_null(proto_enum_name(policy, 99));
}

static void test_path_text(void **state)
{
    (void)state;
    struct world w = world_new();
    struct proto_path root = proto_path_root(STR("static_resources")),
                      hosts = proto_path_item(&root, "listeners", 2);
    struct proto_path key = proto_path_key(&hosts, "metadata", STR("a\"b")),
                      last = proto_path_field(&key, "x");
    assert_str(proto_path_text(w.arena, &last),
               "static_resources.listeners[2].metadata[\"a\\\"b\"].x");
    assert_str(proto_path_text(w.arena, NULL), "");
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_is_found_by_name_and_matches_its_descriptor),
        cmocka_unit_test(test_type_urls),
        cmocka_unit_test(test_presence),
        cmocka_unit_test(test_enum_names),
        cmocka_unit_test(test_path_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
