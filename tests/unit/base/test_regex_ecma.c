#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/regex_ecma.h"

static void look_aheads_and_groups(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct str why = STR_NONE, groups[4];
    struct regex_ecma *r =
        regex_ecma_new(a, STR("^\\w+?(?=\\.).*?\\.(kind\\.(.+?)\\.)(never)?"), &why);
    assert_non_null(r);
    assert_int_equal(regex_ecma_group_count(r), 3);
    struct str name = STR("app.deep.kind.blue.total");
    assert_true(regex_ecma_groups(r, name, groups, 4));
    assert_true(str_eq(groups[1], STR("kind.blue.")));
    assert_ptr_equal(groups[1].ptr, name.ptr + strlen("app.deep."));
    assert_true(str_eq(groups[2], STR("blue")));
    assert_null(groups[3].ptr);
    assert_false(regex_ecma_groups(r, STR("kind.blue.total"), groups, 4));
    assert_false(regex_ecma_groups(r, STR_NONE, groups, 4));
    arena_free(&a);
}

static void what_cannot_be_compiled_is_told(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct str why = STR_NONE;
    static const char *const patterns[] = {"(?<=behind)x", "(a", "(a)\\1"};
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        why = STR_NONE;
        assert_null(regex_ecma_new(a, str_of(patterns[i]), &why));
        assert_true(why.len > 0);
    }
    arena_free(&a);
}

/* The library's other way recurses by the byte: neither may overflow the stack. */
static void a_long_text_does_not_match(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct str why, groups[2];
    struct regex_ecma *r = regex_ecma_new(a, STR("^(a|b)*(?=\\.)"), &why);
    assert_non_null(r);
    size_t len = REGEX_ECMA_TEXT_MOST + 1;
    char *text = arena_alloc(a, len);
    memset(text, 'a', len);
    text[REGEX_ECMA_TEXT_MOST - 1] = '.';
    assert_true(regex_ecma_groups(r, str_make(text, REGEX_ECMA_TEXT_MOST), groups, 2));
    assert_false(regex_ecma_groups(r, str_make(text, len), groups, 2));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(look_aheads_and_groups),
        cmocka_unit_test(what_cannot_be_compiled_is_told),
        cmocka_unit_test(a_long_text_does_not_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
