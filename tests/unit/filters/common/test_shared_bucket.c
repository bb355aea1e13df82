/* Buckets by key: who shares one, and when it goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "filters/common/shared_bucket.h"
#include "filters/common/token_bucket.h"
#include "proxy/runtime/runtime.h"

static const struct shared_bucket_ask ask = {
    .key = {"key", 3}, .max = 1, .fill = 1, .interval_us = 1000000};

static void one_key_is_one_bucket(void **state)
{
    (void)state;
    struct runtime rt = {0};
    struct arena *a = arena_new("a", 0), *b = arena_new("b", 0);
    struct shared_bucket_ask other = ask, named = ask;
    other.max = 2;
    named.key = STR("another");
    struct token_bucket *first = shared_bucket_get(&rt, a, &ask);
    assert_ptr_equal(shared_bucket_get(&rt, b, &ask), first);
    assert_ptr_not_equal(shared_bucket_get(&rt, b, &other), first);
    assert_ptr_not_equal(shared_bucket_get(&rt, b, &named), first);
    arena_free(&a);
    arena_free(&b);
    assert_int_equal(rt.shared_buckets.count, 0);
}

/* What was taken stays taken while somebody holds it; then it is a new one. */
static void a_bucket_lives_as_long_as_its_users(void **state)
{
    (void)state;
    struct runtime rt = {0};
    struct arena *a = arena_new("a", 0), *b = arena_new("b", 0);
    assert_true(token_bucket_take(shared_bucket_get(&rt, a, &ask), 1));
    assert_false(token_bucket_take(shared_bucket_get(&rt, b, &ask), 1));
    arena_free(&a);
    a = arena_new("a", 0);
    assert_false(token_bucket_take(shared_bucket_get(&rt, a, &ask), 1));
    arena_free(&a);
    arena_free(&b);
    a = arena_new("a", 0);
    assert_true(token_bucket_take(shared_bucket_get(&rt, a, &ask), 1));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_key_is_one_bucket),
        cmocka_unit_test(a_bucket_lives_as_long_as_its_users),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
