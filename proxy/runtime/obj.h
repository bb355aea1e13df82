/* Translated configuration objects: immutable plain C, made, counted and freed on main; workers
 * borrow through pins. */
#pragma once
#include <stdint.h>
#include "base/str.h"

struct arena;

/* First member of every published object (cluster, host set, route table, filter chain, secret
 * ...). refs is touched on main only: each worker that was told of the object holds one reference
 * and hands it back by mail. */
struct obj {
    struct arena *arena; /* owns all of the object, and itself */
    uint32_t refs;
    struct str name;
    struct str version;             /* xDS version_info, or empty */
    uint64_t hash;                  /* of the message's meaning: equal hash = nothing changed */
    void (*on_free)(struct obj *o); /* optional: runs on main before the arena goes */
};
/* Main thread. obj_new allocates `size` zeroed bytes in a new arena of the object's own; refs = 1.
 */
void *obj_new(size_t size, const char *what);
/* Puts an object at the front of an arena that exists already (translation made the arena first);
 * refs = 1. */
void *obj_new_in(struct arena *a, size_t size);
struct obj *obj_ref(struct obj *o);
void obj_unref(struct obj **o);
