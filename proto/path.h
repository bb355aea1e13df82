/* Paths of fields, kept as a chain on the stack and turned into text only when something is wrong.
 */
#pragma once
#include <stddef.h>
#include "base/str.h"

struct arena;

/* One step. Zero fields are absent: a root has no `up`; a step is a name, then an index or a key,
 * or neither. */
struct proto_path {
    const struct proto_path *up; /* NULL: the root */
    struct str name;             /* field name; on a root any text, may be empty */
    struct str key;              /* map key; ptr NULL: none */
    size_t index;                /* element of a repeated field; PROTO_NO_INDEX: none */
};
#define PROTO_NO_INDEX ((size_t)-1)

/* A root from text ("static_resources.listeners[0]"); empty text is fine. */
static inline struct proto_path proto_path_root(struct str text)
{
    return (struct proto_path){.name = text, .index = PROTO_NO_INDEX};
}
/* The step to a field of the message at `up`. */
static inline struct proto_path proto_path_field(const struct proto_path *up, const char *name)
{
    return (struct proto_path){.up = up, .name = str_of(name), .index = PROTO_NO_INDEX};
}
/* The step to element `index` of a repeated field. */
static inline struct proto_path proto_path_item(const struct proto_path *up, const char *name,
                                                size_t index)
{
    return (struct proto_path){.up = up, .name = str_of(name), .index = index};
}
/* The step to the value under `key` of a map field. */
static inline struct proto_path proto_path_key(const struct proto_path *up, const char *name,
                                               struct str key)
{
    return (struct proto_path){.up = up, .name = str_of(name), .key = key, .index = PROTO_NO_INDEX};
}
/* "virtual_hosts[2].typed_per_filter_config[\"a\"].x" in the arena. NULL path: empty. */
struct str proto_path_text(struct arena *a, const struct proto_path *path);
