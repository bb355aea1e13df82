/* Strings: comparison, cutting, numbers, copies and the growing text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/str.h"

static void assert_str(struct str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    if (got.len) assert_memory_equal(got.ptr, want, got.len);
}

static void compares(void **state)
{
    (void)state;
    assert_true(str_eq(STR_NONE, STR("")));
    assert_false(str_eq(STR("a"), STR("b")));
    assert_true(str_case_eq(STR("Content-Type"), STR("content-tYPE")));
    assert_false(str_case_eq(STR("a["), STR("a{")));
    assert_true(str_cmp(STR("ab"), STR("abc")) < 0);
    assert_true(str_cmp(STR("b"), STR("abc")) > 0);
    assert_true(str_cmp(STR_NONE, STR("")) == 0);
    assert_true(str_starts(STR("abc"), STR("ab")) && !str_starts(STR("a"), STR("ab")));
    assert_true(str_ends(STR("abc"), STR("bc")) && !str_ends(STR("c"), STR("bc")));
}

static void cuts(void **state)
{
    struct str left, right, token, rest = STR("a,,b");
    (void)state;
    assert_true(str_cut(STR("a:b:c"), ':', &left, &right));
    assert_str(left, "a");
    assert_str(right, "b:c");
    assert_true(str_cut_last(STR("a:b:c"), ':', &left, &right));
    assert_str(left, "a:b");
    assert_false(str_cut(STR("abc"), ':', &left, &right));
    assert_true(str_next(&rest, ',', &token));
    assert_str(token, "a");
    assert_true(str_next(&rest, ',', &token));
    assert_str(token, "");
    assert_true(str_next(&rest, ',', &token));
    assert_str(token, "b");
    assert_false(str_next(&rest, ',', &token));
    assert_str(str_trim(STR(" \t a b\r\n")), "a b");
    assert_str(str_trim(STR("  ")), "");
    assert_str(str_sub(STR("abc"), 1, 99), "bc");
    assert_str(str_sub(STR("abc"), 9, 1), "");
    assert_int_equal(str_find(STR("hello"), STR("lo")), 3);
    assert_true(str_find(STR("hello"), STR("x")) == SIZE_MAX);
}

static void reads_numbers(void **state)
{
    uint64_t u;
    uint16_t h;
    int64_t i;
    double d;
    (void)state;
    assert_true(str_to_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(str_to_u64(STR("18446744073709551616"), &u));
    assert_false(str_to_u64(STR(""), &u) || str_to_u64(STR("+1"), &u) || str_to_u64(STR("1 "), &u));
    assert_true(str_to_u16(STR("65535"), &h) && h == 65535);
    assert_false(str_to_u16(STR("65536"), &h));
    assert_true(str_to_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_false(str_to_i64(STR("9223372036854775808"), &i) || str_to_i64(STR("-"), &i));
    assert_true(str_to_double(STR("-1.5e3"), &d));
    assert_true(d <= -1500.0 && d >= -1500.0);
    assert_true(str_to_double(STR(".5"), &d) && str_to_double(STR("5."), &d));
    assert_false(str_to_double(STR("0x10"), &d) || str_to_double(STR("inf"), &d) ||
                 str_to_double(STR("nan"), &d));
    assert_false(str_to_double(STR(" 1"), &d) || str_to_double(STR("1e"), &d) ||
                 str_to_double(STR("1e999"), &d));
}

static void copies_end_in_nul(void **state)
{
    struct arena *a = arena_new("test", 0);
    (void)state;
    assert_string_equal(str_dup(a, STR("abc")).ptr, "abc");
    assert_string_equal(str_dup(a, STR_NONE).ptr, "");
    assert_string_equal(str_dup_lower(a, STR("A-Z")).ptr, "a-z");
    assert_string_equal(str_cat(a, STR("a"), STR("b")).ptr, "ab");
    struct str big = str_fmt(a, "%0500d", 7);
    assert_int_equal(big.len, 500);
    assert_int_equal(big.ptr[500], 0);
    arena_free(&a);
}

static void writes_numbers(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    assert_string_equal(str_from_u64(a, 0).ptr, "0");
    assert_string_equal(str_from_u64(a, 9010).ptr, "9010");
    assert_string_equal(str_from_u64(a, UINT64_MAX).ptr, "18446744073709551615");
    arena_free(&a);
}

static void measures_distance(void **state)
{
    (void)state;
    assert_int_equal(str_distance(STR("route_config"), STR("route_confg"), 3), 1);
    assert_int_equal(str_distance(STR("kitten"), STR("sitting"), 5), 3);
    assert_int_equal(str_distance(STR("abc"), STR("xyz"), 2), 3);
    assert_int_equal(str_distance(STR_NONE, STR("ab"), 2), 2);
}

static struct str nearest(const char *wanted)
{
    struct str best = STR_NONE;
    str_nearer(str_of(wanted), STR("payments"), &best);
    str_nearer(str_of(wanted), STR("app"), &best);
    str_nearer(str_of(wanted), STR("apps"), &best);
    return best;
}

static void finds_the_word_that_was_meant(void **state)
{
    (void)state;
    assert_true(str_eq(nearest("ap"), STR("app")));
    assert_true(str_eq(nearest("appss"), STR("apps")));
    assert_true(str_eq(nearest("paymnets"), STR("payments")));
    assert_int_equal(nearest("orders").len, 0);
    assert_int_equal(nearest("b").len, 0); /* one letter for another is no slip */
}

static void grows_text(void **state)
{
    struct sb b = {0};
    (void)state;
    for (int i = 0; i < 1000; i++)
        sb_fmt(&b, "%d,", i);
    assert_true(str_ends(sb_str(&b), STR("998,999,")));
    sb_clear(&b);
    sb_u64(&b, UINT64_MAX);
    sb_char(&b, ' ');
    sb_u64(&b, 0);
    assert_str(sb_str(&b), "18446744073709551615 0");
    sb_clear(&b);
    sb_json_escaped(&b, STR("a\"\\\n\x01\xc3\xa9\xff"
                            "b"));
    assert_str(sb_str(&b), "a\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd"
                           "b");
    sb_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares),          cmocka_unit_test(cuts),
        cmocka_unit_test(reads_numbers),     cmocka_unit_test(copies_end_in_nul),
        cmocka_unit_test(measures_distance), cmocka_unit_test(finds_the_word_that_was_meant),
        cmocka_unit_test(grows_text),        cmocka_unit_test(writes_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
