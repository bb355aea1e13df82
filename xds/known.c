/* Open addressing by the hash of a resource's bytes. */
#include "xds/known.h"

#include "base/must.h"

enum { KNOWN_FIRST = 16, KNOWN_TOMB = UINT32_MAX };

static struct known_slot *known_at(const struct known *k, uint64_t hash)
{
    return &k->slots[hash & (k->cap - 1)];
}

static struct known_slot *known_next(const struct known *k, struct known_slot *s)
{
    return ++s == k->slots + k->cap ? k->slots : s;
}

static bool known_is_free(const struct known_slot *s)
{
    return !s->resource && s->len != KNOWN_TOMB;
}

struct known_slot *known_find(const struct known *k, uint64_t hash, size_t len)
{
    if (!k->used) return NULL;
    for (struct known_slot *s = known_at(k, hash); !known_is_free(s); s = known_next(k, s))
        if (s->hash == hash && s->len == len && s->resource) return s;
    return NULL;
}

static void known_place(struct known *k, const struct known_slot *slot)
{
    struct known_slot *s = known_at(k, slot->hash);
    while (!known_is_free(s))
        s = known_next(k, s);
    *s = *slot;
    k->used++;
}

/* Drops the tombs, too. */
static void known_grow(struct known *k)
{
    struct known old = *k;
    size_t live = 0, cap = KNOWN_FIRST;
    for (size_t i = 0; i < old.cap; i++)
        live += old.slots[i].resource != NULL;
    while (cap < live * 2)
        must(size_mul(cap, 2, &cap));
    *k = (struct known){.slots = mem_array(cap, sizeof *k->slots), .cap = cap};
    for (size_t i = 0; i < old.cap; i++)
        if (old.slots[i].resource) known_place(k, &old.slots[i]);
    mem_free(old.slots);
}

void known_put(struct known *k, const struct known_slot *slot)
{
    if ((k->used + 1) * 4 > k->cap * 3) known_grow(k);
    known_place(k, slot);
}

void known_remove(struct known *k, uint64_t hash, const struct resource *r)
{
    if (!k->used) return;
    for (struct known_slot *s = known_at(k, hash); !known_is_free(s); s = known_next(k, s)) {
        if (s->resource != r) continue;
        *s = (struct known_slot){.len = KNOWN_TOMB};
        return;
    }
}

void known_release(struct known *k)
{
    mem_free(k->slots);
    *k = (struct known){0};
}
