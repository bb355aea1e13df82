/* Arenas: alignment, growth, hooks, reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/arena.h"

static char hook_order[8];

static void note_hook(void *ptr)
{
    size_t len = strlen(hook_order);
    hook_order[len] = *(const char *)ptr;
    hook_order[len + 1] = 0;
}

static void aligns_and_separates(void **state)
{
    struct arena *a = arena_new("test", 0);
    (void)state;
    char *before = NULL;
    for (size_t size = 0; size < 300; size++) {
        char *p = arena_alloc_raw(a, size);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_ptr_not_equal(p, before);
        memset(p, 0xaa, size);
        before = p;
    }
    for (size_t size = 1; size < 200000; size = size * 3 + 1) {
        char *p = arena_alloc(a, size);
        for (size_t i = 0; i < size; i++)
            assert_int_equal(p[i], 0);
        memset(p, 0xbb, size);
    }
    arena_free(&a);
    assert_null(a);
    arena_free(&a);
}

static void runs_hooks_backwards_once(void **state)
{
    struct arena *a = arena_new("test", 300);
    (void)state;
    static char first[] = "1", second[] = "2", third[] = "3";
    hook_order[0] = '\0';
    arena_on_free(a, note_hook, first);
    arena_on_free(a, note_hook, second);
    arena_reset(a);
    assert_string_equal(hook_order, "21");
    arena_on_free(a, note_hook, third);
    arena_free(&a);
    assert_string_equal(hook_order, "213");
}

static void reset_keeps_one_block(void **state)
{
    struct arena *a = arena_new("test", 0);
    (void)state;
    size_t start = arena_size(a);
    for (int round = 0; round < 3; round++) {
        (void)arena_alloc(a, 100000);
        for (int i = 0; i < 1000; i++)
            (void)arena_alloc(a, 100);
        assert_true(arena_size(a) > start + 200000);
        arena_reset(a);
        assert_int_equal(arena_size(a), start);
    }
    arena_free(&a);
    arena_thread_release();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligns_and_separates),
        cmocka_unit_test(runs_hooks_backwards_once),
        cmocka_unit_test(reset_keeps_one_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
