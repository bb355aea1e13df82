/* Metadata (google.protobuf.Struct as plain C) and filter state: what filters, routes, hosts and
 * matchers tell each other. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

struct arena;

enum value_kind { VALUE_NULL, VALUE_BOOL, VALUE_NUMBER, VALUE_STRING, VALUE_LIST, VALUE_STRUCT };
struct value_field;
/* Immutable once shared. */
struct value {
    enum value_kind kind;
    union {
        bool boolean;
        double number;
        struct str text;
        struct {
            struct value *items;
            size_t count;
        } list;
        struct {
            struct value_field *fields;
            size_t count;
        } fields; /* sorted by name */
    } u;
};
struct value_field {
    struct str name;
    struct value value;
};
/* Namespaces ("envoy.lb", filter names) to structs. */
struct metadata {
    struct value root; /* VALUE_STRUCT: namespace -> struct */
    /* Of an endpoint: PROXY TLVs for its connections (PerHostConfig), encoded; usually empty. */
    struct str proxy_tlvs;
};
/* NULL: no such path. */
const struct value *value_field(const struct value *v, struct str name);
const struct value *metadata_find(const struct metadata *m, struct str ns, const struct str *path,
                                  size_t count);
/* Sets ns.key in dynamic metadata (merges structs as Envoy does); all copies in `a`. *m may be NULL
 * (made). */
void metadata_set(struct metadata **m, struct arena *a, struct str ns, struct str key,
                  const struct value *v);
bool value_equal(const struct value *a, const struct value *b);
struct sb;
/* Compact JSON, keys sorted, numbers as Envoy prints them. */
void value_json(const struct value *v, struct sb *out);
/* The same in the arena; fits filter_state_entry.text: `v` is a struct value. */
struct str value_text(const void *v, struct arena *a);

/* Filter state: objects by name with a serialisation; request or connection lifespan. */
struct filter_state_entry {
    struct str name;
    const void *object;
    struct str (*text)(const void *object,
                       struct arena *a); /* %FILTER_STATE(name:PLAIN)% ; NULL: none */
    const struct value *value;           /* %FILTER_STATE(name:TYPED)%; NULL: the text */
    bool fields; /* %FILTER_STATE(name:FIELD:key)% gives the fields of value */
    bool read_only, shared;
    struct filter_state_entry *next;
};
struct filter_state {
    struct arena *arena;
    struct filter_state_entry *first;
};
const struct filter_state_entry *filter_state_find(const struct filter_state *s, struct str name);
/* False: exists and is read-only. *s may be NULL (made in a). */
bool filter_state_set(struct filter_state **s, struct arena *a, const struct filter_state_entry *e);
/* A string object. */
bool filter_state_set_text(struct filter_state **s, struct arena *a, struct str name,
                           struct str text);
