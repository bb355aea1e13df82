/* The table that recognises unchanged resources by their bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "xds/known.h"

static struct resource *resource_number(uintptr_t n)
{
    return (struct resource *)(n + 1); /* never looked into */
}

static void put(struct known *k, uint64_t hash, uintptr_t n)
{
    const struct known_slot slot = {.hash = hash, .resource = resource_number(n), .len = 10};
    known_put(k, &slot);
}

static void test_finds_what_was_put_through_growth_and_removal(void **state)
{
    (void)state;
    enum { MANY = 5000, STRIDE = 64 }; /* a stride makes neighbours fight for slots */
    struct known k = {0};
    assert_null(known_find(&k, 0, 10));
    for (uintptr_t i = 0; i < MANY; i++)
        put(&k, i * STRIDE, i);
    for (uintptr_t i = 0; i < MANY; i += 2)
        known_remove(&k, i * STRIDE, resource_number(i));
    for (uintptr_t i = 0; i < MANY; i++) {
        const struct known_slot *s = known_find(&k, i * STRIDE, 10);
        if (i % 2 == 0) assert_null(s);
        if (i % 2) assert_ptr_equal(s->resource, resource_number(i));
    }
    known_release(&k);
}

static void test_length_and_owner_must_agree(void **state)
{
    (void)state;
    struct known k = {0};
    put(&k, 7, 1);
    assert_null(known_find(&k, 7, 11));
    known_remove(&k, 7, resource_number(2)); /* another's: stays */
    assert_non_null(known_find(&k, 7, 10));
    known_release(&k);
}

/* The same resource changes for ever: tombs must not fill the table. */
static void test_changes_do_not_grow_the_table(void **state)
{
    (void)state;
    struct known k = {0};
    for (uint64_t i = 0; i < 100000; i++) {
        put(&k, i * 0x9e3779b97f4a7c15ull, 1);
        known_remove(&k, i * 0x9e3779b97f4a7c15ull, resource_number(1));
    }
    assert_true(k.cap <= 64);
    known_release(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_what_was_put_through_growth_and_removal),
        cmocka_unit_test(test_length_and_owner_must_agree),
        cmocka_unit_test(test_changes_do_not_grow_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
