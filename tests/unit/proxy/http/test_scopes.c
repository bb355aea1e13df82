/* Keys of scoped routes, as Envoy 1.40 makes them (each row was tried on it). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/http/scopes.h"

struct row {
    const char *one, *two; /* values of x-one, x-two; NULL: absent */
    const char *want;      /* NULL: no key */
};

static void test_key(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"k=a", "x,b", "1:a1:b"},
        {"j=1;k=cc;z", "x,d,e", "2:cc1:d"},
        {"k=a", "x", NULL},
        {"k=a", NULL, NULL},
        {NULL, "x,b", NULL},
        {"k=", "x,b", "0:1:b"},
        {"k", "x,", "0:0:"},
        {"k=a=b", "x,b", "3:a=b1:b"},
        {"k=a", "x, b", "1:a2: b"},
        {"k=a;k=c", "x,b", "1:a1:b"},
        {"K=a", "x,b", NULL},
        {";;k=a", ",b", "1:a1:b"},
        {"kk=a;k=1:2", "b,b", "3:1:21:b"},
        {"", "", NULL},
    };
    static const struct scope_fragment fragments[] = {
        {.header = {"x-one", sizeof "x-one" - 1},
         .element_separator = {";", sizeof ";" - 1},
         .by_key = true,
         .key = {"k", sizeof "k" - 1},
         .separator = {"=", sizeof "=" - 1}},
        {.header = {"x-two", sizeof "x-two" - 1},
         .element_separator = {",", sizeof "," - 1},
         .index = 1},
    };
    const struct scope_key_builder builder = {fragments, ARRAY_LEN(fragments)};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct arena *a = arena_new("test", 0);
        struct headers *h = headers_new(a);
        if (rows[i].one) headers_add(h, STR("x-one"), str_of(rows[i].one));
        if (rows[i].two) headers_add(h, STR("x-two"), str_of(rows[i].two));
        struct str key = scope_key(&builder, h, a);
        if (rows[i].want)
            assert_string_equal(str_z(a, key), rows[i].want);
        else
            assert_null(key.ptr);
        arena_free(&a);
    }
}

static void test_without_separator_the_value_is_one_element(void **state)
{
    (void)state;
    static const struct scope_fragment whole[] = {{.header = {"x-one", sizeof "x-one" - 1}}};
    const struct scope_key_builder builder = {whole, 1};
    struct arena *a = arena_new("test", 0);
    struct headers *h = headers_new(a);
    headers_add(h, STR("x-one"), STR("a,b;c"));
    headers_add(h, STR("x-one"), STR("second"));
    assert_string_equal(str_z(a, scope_key(&builder, h, a)), "5:a,b;c");
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_without_separator_the_value_is_one_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
