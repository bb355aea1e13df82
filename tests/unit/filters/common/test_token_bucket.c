/* Token buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filters/common/token_bucket.h"

enum { SECOND = 1000 * 1000 };

static void test_full_at_first(void **state)
{
    (void)state;
    struct token_bucket b;
    token_bucket_init(&b, 3, 1, SECOND);
    for (int i = 0; i < 3; i++)
        assert_true(token_bucket_take(&b, 50 * SECOND));
    assert_false(token_bucket_take(&b, 50 * SECOND));
}

static void test_trickles(void **state)
{
    (void)state;
    struct token_bucket b;
    token_bucket_init(&b, 2, 2, SECOND); /* one every half second */
    uint64_t now = 100 * (uint64_t)SECOND;
    assert_true(token_bucket_take(&b, now));
    assert_true(token_bucket_take(&b, now));
    assert_false(token_bucket_take(&b, now + SECOND / 4));
    assert_true(token_bucket_take(&b, now + SECOND / 2));
    assert_false(token_bucket_take(&b, now + SECOND / 2));
}

static void test_never_over_the_top(void **state)
{
    (void)state;
    struct token_bucket b;
    token_bucket_init(&b, 2, 100, SECOND);
    uint64_t now = 100 * (uint64_t)SECOND;
    (void)token_bucket_take(&b, now);
    now += 3600 * (uint64_t)SECOND;
    assert_true(token_bucket_take(&b, now));
    assert_true(token_bucket_take(&b, now));
    assert_false(token_bucket_take(&b, now));
}

/* Another worker's clock is a little behind. */
static void test_clock_behind(void **state)
{
    (void)state;
    struct token_bucket b;
    token_bucket_init(&b, 1, 1, SECOND);
    uint64_t now = 100 * (uint64_t)SECOND;
    assert_true(token_bucket_take(&b, now));
    assert_false(token_bucket_take(&b, now - 1000));
    assert_false(token_bucket_take(&b, now));
}

static void test_early_times(void **state)
{
    (void)state;
    struct token_bucket b;
    token_bucket_init(&b, 1000000, 1,
                      3600 * (uint64_t)SECOND); /* holds more time than the clock has seen */
    for (int i = 0; i < 10; i++)
        assert_true(token_bucket_take(&b, 5));
}

/* What the headers tell of a bucket agrees with what it gives. */
static void test_tells_its_content(void **state)
{
    (void)state;
    struct token_bucket b;
    token_bucket_init(&b, 2, 1, 10 * SECOND); /* one every ten seconds */
    uint64_t now = 100 * (uint64_t)SECOND;
    assert_int_equal(token_bucket_left(&b, now), 2);
    assert_int_equal(token_bucket_next_in_s(&b, now), 0);
    assert_true(token_bucket_take(&b, now));
    assert_int_equal(token_bucket_left(&b, now), 1);
    assert_true(token_bucket_take(&b, now));
    assert_int_equal(token_bucket_left(&b, now), 0);
    assert_int_equal(token_bucket_next_in_s(&b, now), 10);
    assert_int_equal(token_bucket_next_in_s(&b, now + 4 * SECOND), 6);
    assert_int_equal(token_bucket_left(&b, now - 1000), 0);                    /* a clock behind */
    assert_int_equal(token_bucket_left(&b, now + 3600 * (uint64_t)SECOND), 2); /* full, not more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_at_first),      cmocka_unit_test(test_trickles),
        cmocka_unit_test(test_never_over_the_top), cmocka_unit_test(test_clock_behind),
        cmocka_unit_test(test_early_times),        cmocka_unit_test(test_tells_its_content),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
