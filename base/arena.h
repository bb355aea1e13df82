/* Arenas: memory that is freed all at once, by lifetime (process, object, decode, conn, stream,
 * scratch). */
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct arena;

/* A new arena; `what` (static text) names its lifetime in reports. Never NULL. first_block 0 =
 * default (4 KiB). */
struct arena *arena_new(const char *what, size_t first_block);
/* Runs the on-free hooks in reverse order, frees all and leaves NULL. NULL is fine. */
void arena_free(struct arena **a);
/* Runs the hooks, forgets all allocations, keeps one block for the next use. */
void arena_reset(struct arena *a);
/* Zeroed (calloc) or raw bytes, aligned for any type. size 0 gives a unique non-NULL pointer.
 * Aborts when out of memory. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_alloc_raw(struct arena *a, size_t size);
/* Zeroed array with overflow check. */
void *arena_array(struct arena *a, size_t count, size_t size);
void *arena_copy(struct arena *a, const void *from, size_t size);
/* Calls fn(ptr) when the arena is freed or reset. */
void arena_on_free(struct arena *a, void (*fn)(void *ptr), void *ptr);
/* Bytes taken from the system so far. */
size_t arena_size(const struct arena *a);
/* Frees this thread's cached blocks (thread end). */
void arena_thread_release(void);

#define ARENA_NEW(a, type) ((type *)arena_alloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, count) ((type *)arena_array((a), (count), sizeof(type)))

#ifdef __cplusplus
}
#endif
