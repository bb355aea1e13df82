/* A hash map from strings to pointers (open addressing, keys borrowed by the map), and the hash in
 * use. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

/* xxh3 of the bytes, unseeded: stable within and between runs. Not for keys that a peer chooses
 * freely without a bound. */
uint64_t hash_str(struct str s);
/* xxh64, as Envoy's ring hash, maglev and hash policies use it. */
uint64_t hash_xxh64(struct str s, uint64_t seed);

struct map_slot {
    struct str key; /* ptr NULL: free (the empty key is stored with a non-NULL ptr) */
    uint64_t hash;
    void *value; /* never NULL for a used slot */
};
/* Zero-initialised is empty and valid. Heap; map_release frees the table (not keys or values). */
struct map {
    struct map_slot *slots;
    size_t count, cap, tombs;
};

void *map_get(const struct map *m, struct str key);
void *map_get_hashed(const struct map *m, struct str key, uint64_t hash);
/* Stores value (non-NULL) under key; the key's bytes must live as long as the entry. Gives back the
 * old value or NULL (the stored key is replaced, too, so an old value that owned its key may be
 * freed). */
void *map_put(struct map *m, struct str key, void *value);
/* Removes and gives back the value, or NULL. */
void *map_remove(struct map *m, struct str key);
/* Iteration: it = 0; while (map_next(m, &it, &key, &value)). Removing the current entry is allowed;
 * adding is not. */
bool map_next(const struct map *m, size_t *it, struct str *key, void **value);
void map_release(struct map *m);
