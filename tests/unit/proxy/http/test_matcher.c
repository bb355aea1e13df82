/* Matchers of headers and strings, against what Envoy was seen to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/http/matcher.h"

/* The header x-h of six requests: absent, "a", "", "3", "a" and "b", "bA". */
static const char *const requests[][2] = {{NULL, NULL}, {"a", NULL}, {"", NULL},
                                          {"3", NULL},  {"a", "b"},  {"bA", NULL}};

static void expect(const struct header_matcher *m, const char *want, int row)
{
    struct arena *a = arena_new("test", 0);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct headers *h = headers_new(a);
        for (size_t k = 0; k < 2 && requests[i][k]; k++)
            headers_add(h, STR("x-h"), str_of(requests[i][k]));
        if (header_match(m, h, a) != (want[i] == 'Y'))
            fail_msg("matcher %d, request %zu: want %s", row, i, want);
    }
    arena_free(&a);
}

static void test_headers(void **state)
{
    (void)state;
    static const struct {
        enum header_match_kind kind;
        enum string_match_kind string;
        const char *text;
        bool fold, invert, missing;
        const char *want;
    } table[] = {
        {HEADER_MATCH_STRING, STRING_MATCH_EXACT, "a", false, false, false, ".Y..Y."},
        {HEADER_MATCH_STRING, STRING_MATCH_EXACT, "a", false, true, false, "..YY.Y"},
        {HEADER_MATCH_STRING, STRING_MATCH_EXACT, "a", false, true, true, "Y.YY.Y"},
        {HEADER_MATCH_STRING, STRING_MATCH_EXACT, "", false, false, false, "..Y..."},
        {HEADER_MATCH_STRING, STRING_MATCH_EXACT, "", false, false, true, "Y.Y..."},
        {HEADER_MATCH_STRING, STRING_MATCH_EXACT, "a,b", false, false, false, "......"},
        {HEADER_MATCH_STRING, STRING_MATCH_CONTAINS, "a", true, false, false, ".Y..YY"},
        {HEADER_MATCH_STRING, STRING_MATCH_SUFFIX, "a", true, false, false, ".Y..YY"},
        {HEADER_MATCH_STRING, STRING_MATCH_PREFIX, "b", false, false, false, "....YY"},
        {HEADER_MATCH_RANGE, STRING_MATCH_EXACT, "", false, false, false, "...Y.."},
        {HEADER_MATCH_RANGE, STRING_MATCH_EXACT, "", false, true, false, "YYY.YY"},
        {HEADER_MATCH_PRESENT, STRING_MATCH_EXACT, "", false, false, false, ".YYYYY"},
        {HEADER_MATCH_PRESENT, STRING_MATCH_EXACT, "", false, true, false, "Y....."},
        {HEADER_MATCH_PRESENT, STRING_MATCH_EXACT, "", false, false, true, "YYYYYY"},
        {HEADER_MATCH_ABSENT, STRING_MATCH_EXACT, "", false, false, false, "Y....."},
        {HEADER_MATCH_ABSENT, STRING_MATCH_EXACT, "", false, true, false, ".YYYYY"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct header_matcher m = {
            .name = STR("x-h"),
            .kind = table[i].kind,
            .invert = table[i].invert,
            .missing_as_empty = table[i].missing,
            .string = {table[i].string, table[i].fold, str_of(table[i].text), NULL},
            .range_start = 1,
            .range_end = 5};
        expect(&m, table[i].want, (int)i);
    }
}

static void test_query_is_taken_as_it_is(void **state)
{
    (void)state;
    assert_true(str_eq(query_find(STR("/a?b=c&d=%41#x"), STR("d")), STR("%41")));
    assert_true(str_eq(query_find(STR("/a?b=c&b=d"), STR("b")), STR("c")));
    assert_non_null(query_find(STR("/a?b"), STR("b")).ptr);
    assert_null(query_find(STR("/a?%62=c"), STR("b")).ptr);
    assert_null(query_find(STR("/a"), STR("b")).ptr);
}

static void test_values(void **state)
{
    (void)state;
    struct value items[] = {{.kind = VALUE_NUMBER, .u.number = 2},
                            {.kind = VALUE_STRING, .u.text = STR("x")}};
    struct value list = {.kind = VALUE_LIST, .u.list = {items, 2}};
    struct value_matcher range = {.kind = VALUE_MATCH_DOUBLE_RANGE, .number = 1, .range_end = 2.5};
    struct value_matcher one_of = {.kind = VALUE_MATCH_LIST, .sub = &range, .count = 1};
    struct value_matcher present = {.kind = VALUE_MATCH_PRESENT, .boolean = true},
                         null = {.kind = VALUE_MATCH_NULL};
    struct value_matcher both[] = {null, range},
                         either = {.kind = VALUE_MATCH_OR, .sub = both, .count = 2};
    assert_true(value_match(&range, &items[0]));
    assert_false(value_match(&range, &items[1]));
    assert_true(value_match(&one_of, &list));
    assert_true(value_match(&either, &items[0]));
    assert_false(value_match(&either, &list));
    assert_true(value_match(&present, &list));
    assert_false(value_match(&present, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_headers),
                                       cmocka_unit_test(test_query_is_taken_as_it_is),
                                       cmocka_unit_test(test_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
