#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "proto/path.h"
#include "proto/wire.h"
#include "tests/unit/proto/help.h"

static const ProtobufCMessageDescriptor *const node = &envoy__config__core__v3__node__descriptor;

static bool check(struct world *w, const ProtobufCMessageDescriptor *desc, struct str bytes,
                  enum proto_unknown unknown)
{
    const struct proto_opts opts = {.unknown = unknown, .on_note = world_on_note, .user = w};
    return proto_wire_check(desc, bytes, &opts, NULL, &w->errors);
}

static void test_good_bytes_pass(void **state)
{
    (void)state;
    struct world w = world_new();
    assert_true(check(&w, node,
                      STR("\x0a\x01n\x12\x01"
                          "c"),
                      PROTO_UNKNOWN_REJECT));
    assert_true(check(&w, node, STR_NONE, PROTO_UNKNOWN_REJECT));
    assert_int_equal(w.errors.count, 0);
    arena_free(&w.arena);
}

static void test_string_must_be_clean(void **state)
{
    (void)state;
    struct world w = world_new();
    assert_false(check(&w, node,
                       str_make("\x0a\x03"
                                "a\0b",
                                5),
                       PROTO_UNKNOWN_REJECT));
    assert_error(&w, "id", "NUL");
    w.errors.count = 0;
    assert_false(check(&w, node, STR("\x0a\x02\xc3("), PROTO_UNKNOWN_REJECT));
    assert_error(&w, "id", "UTF-8");
    arena_free(&w.arena);
}

static void test_path_names_list_items_and_map_keys(void **state)
{
    (void)state;
    struct world w = world_new();
    /* RouteConfiguration.virtual_hosts[1].name with a bad byte */
    struct str bytes = STR("\x12\x03\x0a\x01"
                           "a"
                           "\x12\x03\x0a\x01\xff");
    assert_false(check(&w, &envoy__config__route__v3__route_configuration__descriptor, bytes,
                       PROTO_UNKNOWN_REJECT));
    assert_error(&w, "virtual_hosts[1].name", "UTF-8");
    w.errors.count = 0;
    /* Struct.fields["k"].string_value with a bad byte */
    bytes = STR("\x0a\x08\x0a\x01k\x12\x03\x1a\x01\xff");
    assert_false(check(&w, &google__protobuf__struct__descriptor, bytes, PROTO_UNKNOWN_REJECT));
    assert_error(&w, "fields[\"k\"].string_value", "UTF-8");
    arena_free(&w.arena);
}

static void test_unknown_number_by_option(void **state)
{
    (void)state;
    struct world w = world_new();
    struct str bytes = STR("\xa2\x1f\x01x"); /* field 500 */
    assert_false(check(&w, node, bytes, PROTO_UNKNOWN_REJECT));
    assert_error(&w, "", "unknown field number 500 of envoy.config.core.v3.Node");
    w.errors.count = 0;
    assert_true(check(&w, node, bytes, PROTO_UNKNOWN_WARN));
    assert_int_equal(w.notes, 1);
    assert_int_equal(w.note_kind, PROTO_NOTE_UNKNOWN);
    assert_true(check(&w, node, bytes, PROTO_UNKNOWN_IGNORE));
    assert_int_equal(w.notes, 1);
    arena_free(&w.arena);
}

static void test_malformed_bytes_are_refused(void **state)
{
    (void)state;
    const struct str bad[] = {
        STR("\x0a\x05n"),                                    /* truncated string */
        STR("\x0a"),                                         /* no length */
        STR("\x0b"),                                         /* group */
        STR("\x02\x00"),                                     /* field number 0 */
        STR("\x08\x01"),                                     /* id as a varint */
        STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), /* endless tag */
        STR("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),     /* huge length */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct world w = world_new();
        assert_false(check(&w, node, bad[i], PROTO_UNKNOWN_IGNORE));
        assert_int_equal(w.errors.count, 1);
        arena_free(&w.arena);
    }
}

/* ListValue of ListValue of …: each level wraps in Value.list_value and ListValue.values. */
static struct str nested(struct arena *a, unsigned levels)
{
    struct str inner = STR("");
    for (unsigned i = 0; i < levels; i++) {
        struct sb out = {0};
        size_t len = inner.len;
        sb_char(&out, i % 2 ? 0x32 : 0x0a);
        for (; len >= 0x80; len >>= 7)
            sb_char(&out, (char)(len | 0x80));
        sb_char(&out, (char)len);
        sb_add(&out, inner);
        inner = str_dup(a, sb_str(&out));
        sb_release(&out);
    }
    return inner;
}

static void test_depth_is_limited(void **state)
{
    (void)state;
    struct world w = world_new();
    const ProtobufCMessageDescriptor *list = &google__protobuf__list_value__descriptor;
    assert_true(check(&w, list, nested(w.arena, 99), PROTO_UNKNOWN_REJECT));
    assert_false(check(&w, list, nested(w.arena, 10001), PROTO_UNKNOWN_REJECT));
    assert_int_equal(w.errors.count, 1);
    assert_str(w.errors.v[0].text, "nested too deeply");
    arena_free(&w.arena);
}

static void test_tiny_messages_may_not_fill_memory(void **state)
{
    (void)state;
    struct world w = world_new();
    size_t count = 4 << 20;
    char *bytes = arena_alloc_raw(w.arena, count * 2);
    for (size_t i = 0; i < count; i++)
        memcpy(bytes + 2 * i, "\x12", 2); /* an empty virtual host */
    assert_false(check(&w, &envoy__config__route__v3__route_configuration__descriptor,
                       str_make(bytes, count * 2), PROTO_UNKNOWN_REJECT));
    assert_int_equal(w.errors.count, 1);
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_bytes_pass),
        cmocka_unit_test(test_string_must_be_clean),
        cmocka_unit_test(test_path_names_list_items_and_map_keys),
        cmocka_unit_test(test_unknown_number_by_option),
        cmocka_unit_test(test_malformed_bytes_are_refused),
        cmocka_unit_test(test_depth_is_limited),
        cmocka_unit_test(test_tiny_messages_may_not_fill_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
