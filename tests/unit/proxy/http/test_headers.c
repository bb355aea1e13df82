/* Header lists: order, known names, replacing, removing, joining. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "proxy/api/headers.h"

static void expect(struct str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr, want, got.len);
}

static void test_every_known_name_is_found(void **state)
{
    (void)state;
    for (unsigned id = 1; id < HDR_COUNT; id++) {
        struct str name = header_name_of((enum header_id)id);
        assert_true(name.len > 0);
        assert_int_equal(header_id_of(name), id);
    }
    assert_int_equal(header_id_of(STR("hosu")), HDR_OTHER);
    assert_int_equal(header_id_of(STR("")), HDR_OTHER);
    assert_int_equal(header_id_of(STR("content-lengti")), HDR_OTHER);
}

static void test_set_keeps_the_first_place(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct headers *h = headers_new(a);
    headers_add(h, STR("via"), STR("1"));
    headers_add(h, STR("x"), STR("y"));
    headers_add(h, STR("via"), STR("2"));
    headers_set(h, STR("via"), STR("3"));
    uint32_t it = 0;
    expect(headers_next(h, &it)->value, "3");
    expect(headers_next(h, &it)->name, "x");
    assert_null(headers_next(h, &it));
    assert_int_equal(h->live, 2);
    assert_int_equal(h->bytes, 3 + 1 + 1 + 1);
    arena_free(&a);
}

static void test_remove_and_add_again(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct headers *h = headers_new(a);
    headers_add(h, STR("host"), STR("a"));
    headers_add(h, STR("host"), STR("b"));
    assert_int_equal(headers_remove_id(h, HDR_HOST), 2);
    assert_false(headers_has(h, HDR_HOST));
    headers_add(h, STR("host"), STR("c"));
    expect(headers_get(h, HDR_HOST), "c");
    assert_int_equal(h->live, 1);
    arena_free(&a);
}

static void test_join_and_tokens(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct headers *h = headers_new(a);
    headers_add(h, STR("connection"), STR("Close"));
    headers_add(h, STR("connection"), STR("te, x"));
    expect(headers_all(h, STR("connection"), a), "Close,te, x");
    assert_true(headers_has_token(h, HDR_CONNECTION, STR("close")));
    assert_true(headers_has_token(h, HDR_CONNECTION, STR("x")));
    assert_false(headers_has_token(h, HDR_CONNECTION, STR("t")));
    headers_append(h, STR("via"), STR("1"), STR(", "));
    headers_append(h, STR("via"), STR("2"), STR(", "));
    expect(headers_get(h, HDR_VIA), "1, 2");
    assert_null(headers_find(h, STR("none")).ptr);
    headers_set_status(h, 204);
    assert_int_equal(headers_status(h), 204);
    arena_free(&a);
}

static void test_grows(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct headers *h = headers_new(a);
    for (int i = 0; i < 1000; i++)
        headers_add(h, STR("n"), STR("v"));
    assert_int_equal(h->live, 1000);
    assert_int_equal(headers_remove(h, STR("n")), 1000);
    assert_int_equal(h->bytes, 0);
    arena_free(&a);
}

static void test_grpc_timeout(void **state)
{
    static const struct {
        const char *text;
        uint64_t us;
    } good[] = {{"1H", 3600000000}, {"2M", 120000000}, {"3S", 3000000},
                {"4m", 4000},       {"5u", 5},         {"12345678n", 12345}};
    static const char *const bad[] = {"", "5", "S", "5s", "123456789S", "-1S", "1 S"};
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct headers *h = headers_new(a);
    uint64_t us = 0;
    assert_false(headers_grpc_timeout(h, &us));
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        headers_set_id(h, HDR_GRPC_TIMEOUT, str_of(good[i].text));
        assert_true(headers_grpc_timeout(h, &us));
        assert_int_equal(us, good[i].us);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        headers_set_id(h, HDR_GRPC_TIMEOUT, str_of(bad[i]));
        assert_false(headers_grpc_timeout(h, &us));
    }
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_known_name_is_found),
        cmocka_unit_test(test_set_keeps_the_first_place),
        cmocka_unit_test(test_remove_and_add_again),
        cmocka_unit_test(test_join_and_tokens),
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_grpc_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
