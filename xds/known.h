/* What a source said of a type, by its bytes: an unchanged resource of a state-of-the-world
 * response is recognised by one probe of this table, without a look at the resource or its name.
 * Main thread.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct resource;
struct known_slot {
    uint64_t hash;
    struct resource *resource; /* borrowed; NULL: free, or a tomb */
    uint32_t len;              /* of the bytes */
    uint32_t seen;             /* generation of the last response that had it */
};
/* Zero is empty. */
struct known {
    struct known_slot *slots;
    size_t cap, used; /* used: tombs included */
};

/* NULL: not known. */
struct known_slot *known_find(const struct known *k, uint64_t hash, size_t len);
/* Adds what known_find does not find. */
void known_put(struct known *k, const struct known_slot *slot);
/* Forgets what a resource said; fine when it is not there. */
void known_remove(struct known *k, uint64_t hash, const struct resource *r);
void known_release(struct known *k);
