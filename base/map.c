/* Open addressing with linear probing; a table is a power of two and at most 3/4 used (tombs
 * included). */
#include "base/map.h"

#define XXH_INLINE_ALL
#define XXH_NO_XXH3_AVX512
#include <xxhash.h>

#include "base/must.h"

enum { MAP_FIRST = 8 };

/* The empty key needs a non-NULL pointer to tell its slot from a free one; a tomb has this pointer
 * and no value. */
static const char map_empty_key[] = "";

uint64_t hash_str(struct str s)
{
    return XXH3_64bits(s.ptr ? s.ptr : map_empty_key, s.len);
}

uint64_t hash_xxh64(struct str s, uint64_t seed)
{
    return XXH64(s.ptr ? s.ptr : map_empty_key, s.len, seed);
}

static struct map_slot *map_find(const struct map *m, struct str key, uint64_t hash)
{
    if (m->count == 0) return NULL;
    size_t mask = m->cap - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        struct map_slot *s = &m->slots[i];
        if (!s->key.ptr) return NULL;
        if (s->hash == hash && s->value && str_eq(s->key, key)) return s;
    }
}

void *map_get_hashed(const struct map *m, struct str key, uint64_t hash)
{
    struct map_slot *s = map_find(m, key, hash);
    return s ? s->value : NULL;
}

void *map_get(const struct map *m, struct str key)
{
    return m->count ? map_get_hashed(m, key, hash_str(key)) : NULL;
}

/* Puts a slot whose key is not in the table. */
static void map_place(struct map *m, struct map_slot slot)
{
    size_t mask = m->cap - 1;
    size_t i = slot.hash & mask;
    while (m->slots[i].value)
        i = (i + 1) & mask;
    if (m->slots[i].key.ptr) m->tombs--;
    m->slots[i] = slot;
    m->count++;
}

static void map_grow(struct map *m)
{
    struct map old = *m;
    size_t cap = m->cap ? m->cap : MAP_FIRST;
    while (cap / 2 < m->count + 1)
        must(size_mul(cap, 2, &cap));
    *m = (struct map){.slots = mem_array(cap, sizeof(*m->slots)), .cap = cap};
    for (size_t i = 0; i < old.cap; i++) {
        if (old.slots[i].value) map_place(m, old.slots[i]);
    }
    mem_free(old.slots);
}

void *map_put(struct map *m, struct str key, void *value)
{
    must(value);
    if (!key.ptr) key.ptr = map_empty_key;
    uint64_t hash = hash_str(key);
    struct map_slot *s = map_find(m, key, hash);
    if (s) {
        void *before = s->value;
        s->key = key;
        s->value = value;
        return before;
    }
    if ((m->count + m->tombs + 1) * 4 > m->cap * 3) map_grow(m);
    map_place(m, (struct map_slot){.key = key, .hash = hash, .value = value});
    return NULL;
}

void *map_remove(struct map *m, struct str key)
{
    struct map_slot *s = m->count ? map_find(m, key, hash_str(key)) : NULL;
    if (!s) return NULL;
    void *value = s->value;
    *s = (struct map_slot){.key = {map_empty_key, 0}};
    m->count--;
    m->tombs++;
    return value;
}

bool map_next(const struct map *m, size_t *it, struct str *key, void **value)
{
    while (*it < m->cap) {
        const struct map_slot *s = &m->slots[(*it)++];
        if (!s->value) continue;
        if (key) *key = s->key;
        if (value) *value = s->value;
        return true;
    }
    return false;
}

void map_release(struct map *m)
{
    mem_free(m->slots);
    *m = (struct map){0};
}
