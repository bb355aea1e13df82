/* Failed checks, noted bugs and the heap that aborts. */
#include "base/must.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"

enum { BUG_PLACES = 64 };

/* The two mutable globals of this file: a bug may be noted in any thread before any server exists.
 */
static atomic_ulong bugs;
static atomic_uintptr_t bug_places[BUG_PLACES];

void must_fail(const char *file, int line, const char *cond)
{
    fprintf(stderr, "%s:%d: must hold: %s\n", file, line, cond);
    abort();
}

/* True the first time that this text (a literal: its address names the place) is seen. */
static bool bug_is_new(const char *text)
{
    uintptr_t place = (uintptr_t)text;
    for (size_t i = 0; i < BUG_PLACES; i++) {
        uintptr_t seen = 0;
        if (atomic_compare_exchange_strong(&bug_places[i], &seen, place)) return true;
        if (seen == place) return false;
    }
    return false;
}

bool bug_note(bool cond, const char *file, int line, const char *text)
{
    if (__builtin_expect(!cond, 1)) return false;
    atomic_fetch_add_explicit(&bugs, 1, memory_order_relaxed);
    if (bug_is_new(text)) log_write(LOG_C_MISC, LOG_CRITICAL, file, line, "bug: %s", text);
#ifdef SKIFF_SANITIZED
    abort();
#endif
    return true;
}

unsigned long bug_count(void)
{
    return atomic_load_explicit(&bugs, memory_order_relaxed);
}

static _Noreturn void mem_out(size_t size)
{
    fprintf(stderr, "out of memory: %zu bytes asked\n", size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p) mem_out(size);
    return p;
}

void *mem_array(size_t count, size_t size)
{
    size_t total;
    must(size_mul(count, size, &total));
    return mem_alloc(total);
}

void *mem_realloc(void *ptr, size_t size)
{
    void *p = realloc(ptr, size ? size : 1);
    if (!p) mem_out(size);
    return p;
}

void mem_free(void *ptr)
{
    free(ptr);
}
