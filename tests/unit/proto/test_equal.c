#include "envoy/config/core/v3/base.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "proto/decode.h"
#include "proto/equal.h"
#include "proto/proto.h"
#include "tests/unit/proto/help.h"

/* Struct {"a": true, "b": true} with its two entries in either order. */
#define AB                 \
    STR("\x0a\x07\x0a\x01" \
        "a\x12\x02 \x01"   \
        "\x0a\x07\x0a\x01" \
        "b\x12\x02 \x01")
#define BA                 \
    STR("\x0a\x07\x0a\x01" \
        "b\x12\x02 \x01"   \
        "\x0a\x07\x0a\x01" \
        "a\x12\x02 \x01")

static ProtobufCMessage *structure(struct world *w, struct str bytes)
{
    ProtobufCMessage *m = proto_unpack(w->arena, &google__protobuf__struct__descriptor, bytes, NULL,
                                       NULL, &w->errors);
    assert_non_null(m);
    return m;
}

static void test_order_of_map_entries_does_not_count(void **state)
{
    (void)state;
    struct world w = world_new();
    ProtobufCMessage *x = structure(&w, AB), *y = structure(&w, BA);
    assert_true(proto_equal(x, y));
    assert_true(proto_hash(x) == proto_hash(y));
    ((Google__Protobuf__Struct *)y)->fields[0]->value->bool_value = 0;
    assert_false(proto_equal(x, y));
    assert_true(proto_hash(x) != proto_hash(y));
    arena_free(&w.arena);
}

static void test_nor_inside_an_any(void **state)
{
    (void)state;
    struct world w = world_new();
    Google__Protobuf__Any *x = proto_any_pack(w.arena, structure(&w, AB));
    Google__Protobuf__Any *y = proto_any_pack(w.arena, structure(&w, BA));
    assert_false(str_eq(str_make((char *)x->value.data, x->value.len),
                        str_make((char *)y->value.data, y->value.len)));
    assert_true(proto_equal(&x->base, &y->base));
    arena_free(&w.arena);
}

static void test_canonical_bytes_are_valid_wire(void **state)
{
    (void)state;
    struct world w = world_new();
    struct str bytes = proto_canonical(w.arena, structure(&w, BA));
    assert_true(proto_equal(structure(&w, bytes), structure(&w, AB)));
    arena_free(&w.arena);
}

static void test_null_and_types(void **state)
{
    (void)state;
    struct world w = world_new();
    assert_true(proto_equal(NULL, NULL));
    assert_false(proto_equal(structure(&w, AB), NULL));
    Envoy__Config__Core__V3__Node node = ENVOY__CONFIG__CORE__V3__NODE__INIT;
    assert_false(proto_equal(structure(&w, STR("")), &node.base));
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_map_entries_does_not_count),
        cmocka_unit_test(test_nor_inside_an_any),
        cmocka_unit_test(test_canonical_bytes_are_valid_wire),
        cmocka_unit_test(test_null_and_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
