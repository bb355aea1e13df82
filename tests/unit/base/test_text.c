/* Encodings: base64, hex, UTF-8, percent, HTTP dates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/text.h"

static struct arena *a;

static void assert_str(struct str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr, want, got.len);
}

static void codes_base64(void **state)
{
    struct str out;
    (void)state;
    assert_str(base64_encode(a, STR("")), "");
    assert_str(base64_encode(a, STR("f")), "Zg==");
    assert_str(base64_encode(a, STR("fooba")), "Zm9vYmE=");
    assert_str(base64url_encode(a, STR("\xfb\xff")), "-_8");
    assert_true(base64_decode(a, STR("Zm9vYmFy"), &out));
    assert_str(out, "foobar");
    assert_true(base64_decode(a, STR("Zg"), &out) && base64_decode(a, STR("Zg=="), &out));
    assert_str(out, "f");
    assert_true(base64_decode(a, STR("-_8"), &out));
    assert_false(base64_decode(a, STR("Z"), &out) || base64_decode(a, STR("Zm9v!A=="), &out));
    assert_false(base64_decode(a, STR("Zh=="), &out) || base64_decode(a, STR("Zg="), &out));
}

static void codes_hex(void **state)
{
    (void)state;
    assert_str(hex_encode(a, STR("\x01\xab")), "01ab");
}

static void checks_utf8(void **state)
{
    (void)state;
    assert_true(utf8_valid(STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")));
    assert_false(utf8_valid(STR("\xc0\x80")));
    assert_false(utf8_valid(STR("\xed\xa0\x80")));
    assert_false(utf8_valid(STR("\xf4\x90\x80\x80")));
    assert_false(utf8_valid(STR("\xe2\x82")));
    assert_false(utf8_valid(STR("\x80")));
}

static void cleans_utf8(void **state)
{
    struct str good = STR("th\xc3\xa9");
    (void)state;
    assert_ptr_equal(utf8_clean(a, good, '!').ptr, good.ptr);
    assert_str(utf8_clean(a, STR("a\xff\xfe\xe2\x82z\xc3\xa9"), '!'), "a!!!!z\xc3\xa9");
    assert_str(utf8_clean(a, STR("\xc3"), '!'), "!");
}

static void codes_percent(void **state)
{
    (void)state;
    assert_str(percent_decode(a, STR("a%2Fb%zz%4")), "a/b%zz%4");
    assert_str(percent_encode(a, STR("a b/\xc3\xa9"), STR("/")), "a%20b/%C3%A9");
}

static void writes_dates(void **state)
{
    char out[30];
    (void)state;
    date_http(784111777u * UINT64_C(1000000), out);
    assert_string_equal(out, "Sun, 06 Nov 1994 08:49:37 GMT");
    date_http(UINT64_C(1709210096) * 1000000, out);
    assert_string_equal(out, "Thu, 29 Feb 2024 12:34:56 GMT");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_base64),  cmocka_unit_test(codes_hex),
        cmocka_unit_test(checks_utf8),   cmocka_unit_test(cleans_utf8),
        cmocka_unit_test(codes_percent), cmocka_unit_test(writes_dates),
    };
    a = arena_new("test", 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&a);
    return failed;
}
