/* Random numbers: bounds and UUIDs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/rand.h"

static void stays_below(void **state)
{
    struct rng r;
    int seen[7] = {0};
    (void)state;
    rng_init(&r, 0);
    for (int i = 0; i < 7000; i++)
        seen[rng_below(&r, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 700, 1300);
    assert_int_equal(rng_below(&r, 1), 0);
}

static void makes_version_4_uuids(void **state)
{
    struct rng r;
    char a[37], b[37];
    (void)state;
    rng_init(&r, 3);
    rng_uuid(&r, a);
    rng_uuid(&r, b);
    assert_int_equal(strlen(a), 36);
    assert_string_not_equal(a, b);
    assert_true(a[8] == '-' && a[13] == '-' && a[14] == '4' && a[18] == '-' && a[23] == '-');
    assert_non_null(strchr("89ab", a[19]));
    char seen[256] = {0};
    for (int i = 0; i < 200; i++) {
        rng_uuid(&r, a);
        for (size_t k = 0; k < 36; k++)
            seen[(unsigned char)a[k]] = 1;
    }
    for (int c = 0; c < 256; c++)
        assert_int_equal(seen[c], c && strchr("0123456789abcdef-", c) ? 1 : 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stays_below),
                                       cmocka_unit_test(makes_version_4_uuids)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
