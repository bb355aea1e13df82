/* The hash map against a plain array, and the hashes that Envoy shares. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/map.h"
#include "base/rand.h"

enum { KEYS = 500 };

static void agrees_with_an_array(void **state)
{
    static char names[KEYS][16];
    static int there[KEYS];
    struct map m = {0};
    struct rng r;
    size_t count = 0;
    (void)state;
    rng_init(&r, 42);
    for (int i = 0; i < KEYS; i++)
        (void)snprintf(names[i], sizeof(names[i]), "k%d", i);
    for (int step = 0; step < 20000; step++) {
        size_t i = rng_below(&r, KEYS);
        if (rng_below(&r, 2)) {
            void *old = map_put(&m, str_of(names[i]), &there[i]);
            assert_ptr_equal(old, there[i] ? &there[i] : NULL);
            count += !there[i];
            there[i] = 1;
        } else {
            void *old = map_remove(&m, str_of(names[i]));
            assert_ptr_equal(old, there[i] ? &there[i] : NULL);
            count -= (size_t)there[i];
            there[i] = 0;
        }
        assert_int_equal(m.count, count);
    }
    for (int i = 0; i < KEYS; i++)
        assert_ptr_equal(map_get(&m, str_of(names[i])), there[i] ? &there[i] : NULL);
    size_t it = 0, seen = 0;
    struct str key;
    void *value;
    while (map_next(&m, &it, &key, &value)) {
        seen++;
        assert_ptr_equal(map_remove(&m, key), value);
    }
    assert_int_equal(seen, count);
    assert_int_equal(m.count, 0);
    map_release(&m);
}

static void holds_the_empty_key(void **state)
{
    struct map m = {0};
    int value;
    (void)state;
    assert_null(map_get(&m, STR_NONE));
    assert_null(map_put(&m, STR_NONE, &value));
    assert_ptr_equal(map_get(&m, STR("")), &value);
    assert_ptr_equal(map_remove(&m, STR("")), &value);
    assert_null(map_get(&m, STR_NONE));
    map_release(&m);
}

static void hashes_are_xxh64(void **state)
{
    (void)state;
    /* Published test values of xxHash. */
    assert_true(hash_xxh64(STR(""), 0) == 0xef46db3751d8e999u);
    assert_true(hash_xxh64(STR("a"), 0) == 0xd24ec4f1a98c6e5bu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_an_array),
        cmocka_unit_test(holds_the_empty_key),
        cmocka_unit_test(hashes_are_xxh64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
