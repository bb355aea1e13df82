/* Regular expressions through the C face. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/regex.h"

static struct arena *a;

static void matches(void **state)
{
    struct str why = STR_NONE, groups[3];
    struct regex *r = regex_new(a, STR("/v(\\d+)/(x)?"), &why);
    (void)state;
    assert_non_null(r);
    assert_int_equal(regex_group_count(r), 2);
    assert_true(regex_full(r, STR("/v12/x")) && !regex_full(r, STR("/v12/xy")));
    assert_true(regex_partial(r, STR("a/v1/b")));
    assert_true(regex_groups(r, STR("a/v12/b"), groups, 3));
    assert_true(str_eq(groups[0], STR("/v12/")) && str_eq(groups[1], STR("12")));
    assert_null(groups[2].ptr);
    assert_false(regex_groups(r, STR_NONE, groups, 3));
}

static void replaces(void **state)
{
    struct str why = STR_NONE;
    struct regex *r = regex_new(a, STR("(a+)b"), &why);
    (void)state;
    assert_true(str_eq(regex_replace_all(r, a, STR("aab-ab"), STR("<\\1>")), STR("<aa>-<a>")));
    assert_true(regex_check_rewrite(r, a, STR("\\1"), &why));
    assert_false(regex_check_rewrite(r, a, STR("\\2"), &why));
    assert_true(why.len > 0);
}

static void tells_what_is_wrong(void **state)
{
    struct str why = STR_NONE;
    (void)state;
    assert_null(regex_new(a, STR("a(b"), &why));
    assert_true(str_eq(why, STR("missing ): a(b")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches),
        cmocka_unit_test(replaces),
        cmocka_unit_test(tells_what_is_wrong),
    };
    a = arena_new("test", 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&a);
    return failed;
}
