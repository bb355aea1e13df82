/* Bump allocation in blocks that double up to 64 KiB. The arena itself lives at the start of its
 * first block, and each thread keeps a few standard blocks for the next arena, so that a
 * short-lived arena costs no malloc at all. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/must.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define ARENA_POISON(p, n) __asan_poison_memory_region((p), (n))
#define ARENA_UNPOISON(p, n) __asan_unpoison_memory_region((p), (n))
#else
#define ARENA_POISON(p, n) ((void)(p), (void)(n))
#define ARENA_UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum {
    ARENA_ALIGN = 16,
    ARENA_BLOCK_MIN = 256,
    ARENA_BLOCK_USUAL = 4096,
    ARENA_BLOCK_MOST = 65536,
    ARENA_BIG = 16384, /* from here an allocation gets a block of its own */
    ARENA_CLASSES = 5, /* 4, 8, 16, 32 and 64 KiB */
#ifdef SKIFF_SANITIZED
    ARENA_RED_ZONE = 16,
    ARENA_CACHE_BYTES = 0, /* sanitisers see each block's own birth and death */
#else
    ARENA_RED_ZONE = 0,
    ARENA_CACHE_BYTES = 256 * 1024, /* kept in each class of each thread */
#endif
};

struct arena_block {
    struct arena_block *next;
    size_t size; /* with this head */
};

struct arena_hook {
    struct arena_hook *next;
    void (*fn)(void *ptr);
    void *ptr;
};

struct arena {
    char *at, *end;             /* free room of the current block */
    struct arena_block *blocks; /* all; the last one holds this struct */
    struct arena_hook *hooks;   /* newest first */
    const char *what;
    size_t next_size;
    size_t total;
};

struct arena_cache {
    struct arena_block *free[ARENA_CLASSES];
    size_t count[ARENA_CLASSES];
};
/* This thread's spare blocks; arena_thread_release empties it. */
static _Thread_local struct arena_cache arena_cache;

static size_t round_up(size_t n, size_t to)
{
    return (n + (to - 1)) & ~(to - 1);
}

enum { BLOCK_HEAD = (sizeof(struct arena_block) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN };
enum { ARENA_HEAD = (sizeof(struct arena) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN };

/* The cache class of a block size, or ARENA_CLASSES when such blocks are not kept. */
static size_t class_of(size_t size)
{
    for (size_t i = 0; i < ARENA_CLASSES; i++) {
        if (size == ((size_t)ARENA_BLOCK_USUAL << i)) return i;
    }
    return ARENA_CLASSES;
}

static struct arena_block *block_new(size_t size)
{
    size_t class = class_of(size);
    struct arena_block *b = class < ARENA_CLASSES ? arena_cache.free[class] : NULL;
    if (b) {
        arena_cache.free[class] = b->next;
        arena_cache.count[class]--;
    } else {
        b = mem_realloc(NULL, size);
    }
    b->next = NULL;
    b->size = size;
    ARENA_POISON((char *)b + BLOCK_HEAD, size - BLOCK_HEAD);
    return b;
}

static void block_free(struct arena_block *b)
{
    size_t class = class_of(b->size);
    ARENA_UNPOISON((char *)b, b->size);
    if (class < ARENA_CLASSES && (arena_cache.count[class] + 1) * b->size <= ARENA_CACHE_BYTES) {
        b->next = arena_cache.free[class];
        arena_cache.free[class] = b;
        arena_cache.count[class]++;
        return;
    }
    mem_free(b);
}

void arena_thread_release(void)
{
    for (size_t i = 0; i < ARENA_CLASSES; i++) {
        while (arena_cache.free[i]) {
            struct arena_block *b = arena_cache.free[i];
            arena_cache.free[i] = b->next;
            mem_free(b);
        }
        arena_cache.count[i] = 0;
    }
}

struct arena *arena_new(const char *what, size_t first_block)
{
    if (first_block == 0) first_block = ARENA_BLOCK_USUAL;
    if (first_block < ARENA_BLOCK_MIN) first_block = ARENA_BLOCK_MIN;
    if (first_block > ARENA_BLOCK_MOST) first_block = ARENA_BLOCK_MOST;
    first_block = round_up(first_block, ARENA_ALIGN);
    struct arena_block *b = block_new(first_block);
    struct arena *a = (struct arena *)(void *)((char *)b + BLOCK_HEAD);
    ARENA_UNPOISON(a, sizeof(*a));
    *a = (struct arena){
        .at = (char *)b + BLOCK_HEAD + ARENA_HEAD,
        .end = (char *)b + first_block,
        .blocks = b,
        .what = what,
        .next_size = first_block,
        .total = first_block,
    };
    return a;
}

static void run_hooks(struct arena *a)
{
    while (a->hooks) {
        struct arena_hook *h = a->hooks;
        a->hooks = h->next;
        h->fn(h->ptr);
    }
}

void arena_free(struct arena **ap)
{
    struct arena *a = *ap;
    *ap = NULL;
    if (!a) return;
    run_hooks(a);
    struct arena_block *b = a->blocks;
    while (b) {
        struct arena_block *next = b->next;
        block_free(b);
        b = next;
    }
}

void arena_reset(struct arena *a)
{
    run_hooks(a);
    struct arena_block *b = a->blocks;
    while (b->next) {
        struct arena_block *next = b->next;
        block_free(b);
        b = next;
    }
    a->blocks = b;
    a->at = (char *)b + BLOCK_HEAD + ARENA_HEAD;
    a->end = (char *)b + b->size;
    a->next_size = b->size;
    a->total = b->size;
    ARENA_POISON(a->at, (size_t)(a->end - a->at));
}

/* A block of its own; the current one stays current. */
static void *alloc_big(struct arena *a, size_t need)
{
    size_t size;
    must(size_add(need, BLOCK_HEAD, &size));
    struct arena_block *b = block_new(size);
    /* Blocks are only pushed in front: the first one, which holds the arena, must stay last. Where
     * the room is that at and end speak of does not depend on the order. */
    b->next = a->blocks;
    a->blocks = b;
    a->total += size;
    return (char *)b + BLOCK_HEAD;
}

static void *alloc_slow(struct arena *a, size_t need)
{
    if (need >= ARENA_BIG) return alloc_big(a, need);
    size_t size = a->next_size;
    do {
        size *= 2;
    } while (size < need + BLOCK_HEAD);
    if (size > ARENA_BLOCK_MOST) size = ARENA_BLOCK_MOST;
    struct arena_block *b = block_new(size);
    b->next = a->blocks;
    a->blocks = b;
    a->next_size = size;
    a->total += size;
    a->at = (char *)b + BLOCK_HEAD + need;
    a->end = (char *)b + size;
    return (char *)b + BLOCK_HEAD;
}

void *arena_alloc_raw(struct arena *a, size_t size)
{
    size_t need;
    must(size_add(size, ARENA_ALIGN + ARENA_RED_ZONE, &need));
    need = round_up(size ? size : 1, ARENA_ALIGN) + ARENA_RED_ZONE;
    void *p;
    if (__builtin_expect(need <= (size_t)(a->end - a->at), 1)) {
        p = a->at;
        a->at += need;
    } else {
        p = alloc_slow(a, need);
    }
    ARENA_UNPOISON(p, size);
    return p;
}

void *arena_alloc(struct arena *a, size_t size)
{
    return memset(arena_alloc_raw(a, size), 0, size);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t total;
    must(size_mul(count, size, &total));
    return arena_alloc(a, total);
}

void *arena_copy(struct arena *a, const void *from, size_t size)
{
    void *to = arena_alloc_raw(a, size);
    if (size) memcpy(to, from, size);
    return to;
}

void arena_on_free(struct arena *a, void (*fn)(void *ptr), void *ptr)
{
    struct arena_hook *h = ARENA_NEW(a, struct arena_hook);
    *h = (struct arena_hook){.next = a->hooks, .fn = fn, .ptr = ptr};
    a->hooks = h;
}

size_t arena_size(const struct arena *a)
{
    return a->total;
}
