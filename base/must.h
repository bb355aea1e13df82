/* Checks of our own errors, heap helpers that abort, CONTAINER_OF and checked arithmetic. */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

/* Prints "file:line: cond: text" and aborts. */
_Noreturn void must_fail(const char *file, int line, const char *cond);
#define must(cond) ((cond) ? (void)0 : must_fail(__FILE__, __LINE__, #cond))

/* Counts a bug (server.envoy_bug_failures), logs it once per place, aborts in sanitised builds.
 * Gives back `cond`. */
bool bug_note(bool cond, const char *file, int line, const char *text);
#define bug_if(cond) \
    (__builtin_expect((cond), 0) ? bug_note(true, __FILE__, __LINE__, #cond) : false)
/* Bugs noted so far in this process. */
unsigned long bug_count(void);

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* Heap that aborts when memory is out; zeroed. mem_free(NULL) is fine. */
void *mem_alloc(size_t size);
void *mem_array(size_t count, size_t size);
void *mem_realloc(void *ptr, size_t size);
void mem_free(void *ptr);

/* False on overflow, *out untouched. */
static inline bool size_add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}
static inline bool size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
