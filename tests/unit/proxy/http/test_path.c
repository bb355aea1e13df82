/* Paths and hosts as Envoy 1.40 makes them (each row was tried on it). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/must.h"
#include "proxy/http/path.h"

struct row {
    const char *in, *want; /* want NULL: refused */
};

static void test_normalize(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"/", "/"},
        {"/a/b", "/a/b"},
        {"/a/./b", "/a/b"},
        {"/a/../b", "/b"},
        {"/../..", "/"},
        {"/a/..", "/"},
        {"/a/b/..", "/a/"},
        {"/a/b/.", "/a/b/"},
        {"/%2e%2e/a/%2E/b", "/a/b"},
        {"/a/..;/b/./c/.?x=/../y", "/b/c/?x=/../y"},
        {"/%41%7e", "/A~"},
        {"/a%2Fb", "/a%2Fb"},
        {"/a%3Fb%23c", "/a%3Fb%23c"},
        {"/a\\b", "/a/b"},
        {"//x/../y//z", "//y//z"},
        {"/a|b^`{}\"<>?|", "/a%7Cb%5E%60%7B%7D%22%3C%3E?|"},
        {"/a/%00", NULL},
        {"*", NULL},
        {"", NULL},
        {"/a?b/../c", "/a?b/../c"},
        {"/%zz/%4", "/%zz/%4"},
    };
    struct arena *a = arena_new("test", 0);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct str out = STR_NONE;
        bool fine = path_normalize(a, str_of(rows[i].in), &out);
        assert_int_equal(fine, rows[i].want != NULL);
        if (fine) assert_string_equal(str_z(a, out), rows[i].want);
    }
    arena_free(&a);
}

static void test_slashes(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    assert_string_equal(str_z(a, path_merge_slashes(a, STR("//a///b//?c//d"))), "/a/b/?c//d");
    assert_string_equal(str_z(a, path_merge_slashes(a, STR("/a/b"))), "/a/b");
    assert_true(path_has_escaped_slash(STR("/a%2fb")));
    assert_true(path_has_escaped_slash(STR("/a%5Cb")));
    assert_false(path_has_escaped_slash(STR("/a?%2f")));
    assert_false(path_has_escaped_slash(STR("/a%2")));
    assert_string_equal(str_z(a, path_unescape_slashes(a, STR("/a%2fb%5cc?%2f"))), "/a/b\\c?%2f");
    arena_free(&a);
}

static void test_host_port(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    assert_string_equal(str_z(a, host_strip_port(STR("a:80"), true, 0)), "a");
    assert_string_equal(str_z(a, host_strip_port(STR("a:80"), false, 80)), "a");
    assert_string_equal(str_z(a, host_strip_port(STR("a:80"), false, 81)), "a:80");
    assert_string_equal(str_z(a, host_strip_port(STR("a"), true, 0)), "a");
    assert_string_equal(str_z(a, host_strip_port(STR("[::1]:80"), true, 0)), "[::1]");
    assert_string_equal(str_z(a, host_strip_port(STR("[::1]"), true, 0)), "[::1]");
    assert_string_equal(str_z(a, host_strip_port(STR("a:x"), true, 0)), "a:x");
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_normalize),
                                       cmocka_unit_test(test_slashes),
                                       cmocka_unit_test(test_host_port)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
