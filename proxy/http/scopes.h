/* Scoped routes: a key made from the request's headers chooses the route table. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/map.h"
#include "proxy/runtime/obj.h"

struct arena;
struct headers;
struct route_config;

/* How one part of the key is taken from a header's first value. */
struct scope_fragment {
    struct str header;            /* lower case */
    struct str element_separator; /* empty: the value is one element */
    bool by_key;                  /* else by index */
    uint32_t index;
    struct str key, separator;
};
struct scope_key_builder {
    const struct scope_fragment *v;
    size_t count;
};
struct scope {
    struct str name;
    struct str table; /* RDS name; empty: routes */
    uint64_t table_hash;
    const struct route_config *routes; /* inline; in the set or referred to by it */
};
/* All scopes of one connection manager's scoped_routes. Published (TABLE_SCOPES), or part of the
 * connection manager's configuration. */
struct scope_set {
    struct obj obj;
    struct map by_key;  /* scope_key_add's text -> struct scope * */
    struct obj **holds; /* inline tables: references */
    size_t hold_count;
};

/* Appends one fragment to a key; scopes and requests build it the same way. */
void scope_key_add(struct sb *key, struct str fragment);
/* The request's key in `a`; ptr NULL: it has none. */
struct str scope_key(const struct scope_key_builder *b, const struct headers *h, struct arena *a);
