/* Inside of route tables: what translation (proxy/config/route*.c) fills in and route_match.c
 * reads. Immutable. */
#pragma once
#include "base/addr.h"
#include "base/map.h"
#include "proxy/api/matcher.h"
#include "proxy/api/route.h"

/* RouteMatch.filter_state. */
struct filter_state_matcher {
    struct str key;
    struct string_matcher string;
    const struct cidr *ranges; /* instead of string */
    size_t range_count;
    bool invert; /* of ranges */
};
/* RouteMatch.cookies. */
struct cookie_matcher {
    struct str name;
    struct string_matcher string;
    bool invert;
};
enum route_yes_no { ROUTE_ANY, ROUTE_YES, ROUTE_NO };
/* What a request must be besides its path. Most routes ask for none of it. */
struct route_conditions {
    bool grpc, has_fraction;
    struct str runtime_key;
    uint32_t numerator, denominator;
    const struct header_matcher *headers;
    size_t header_count;
    const struct query_matcher *query;
    size_t query_count;
    const struct cookie_matcher *cookies;
    size_t cookie_count;
    const struct metadata_matcher *metadata;
    size_t metadata_count;
    const struct filter_state_matcher *state;
    size_t state_count;
    enum route_yes_no tls_presented, tls_validated;
};
/* A route and what must be true for it. */
struct route_entry {
    struct route route; /* first: struct route * and struct route_entry * are the same address */
    bool ignore_case;
    const struct regex *regex;           /* PATH_REGEX: whole path without query */
    const struct route_conditions *more; /* NULL: none */
};

/* Only what must be true (proxy/api/route_ops.h). */
struct route_match {
    struct route_entry entry;
};

/* What a virtual host's matcher tree leads to: the first that fits. */
struct route_choices {
    const struct route **v;
    size_t count;
};

/* Routes of one key (a path, a prefix), by ordinal. */
struct route_bucket {
    uint32_t *ordinals;
    size_t count, cap;
};
/* Finds candidates without looking at each route. NULL for a handful of routes. */
struct route_index {
    struct map exact, exact_lower;     /* path -> struct route_bucket * */
    struct map prefix, prefix_lower;   /* prefix or separated prefix -> struct route_bucket * */
    uint32_t *lengths, *lengths_lower; /* the different lengths of prefixes */
    size_t length_count, length_lower_count;
    struct route_bucket rest; /* all others: regex, CONNECT, templates */
};
enum { ROUTE_INDEX_FROM = 8 }; /* fewer routes are looked at one by one */

struct virtual_cluster {
    struct str name;
    const struct header_matcher *headers;
    size_t header_count;
};

/* Domains of a route configuration. */
struct route_table {
    struct map exact, suffix,
        prefix; /* lower case -> struct virtual_host *; "*.x" is kept as ".x", "x.*" as "x." */
    uint32_t *suffix_lengths, *prefix_lengths; /* longest first */
    size_t suffix_length_count, prefix_length_count;
    const struct virtual_host *any; /* "*" */
    const struct virtual_host *const *vhosts;
    size_t vhost_count;
};

/* --- building; main thread; all in `a`, whose end releases the maps too */
struct route_table *route_table_new(struct arena *a);
enum route_domain { ROUTE_DOMAIN_OK, ROUTE_DOMAIN_TWICE, ROUTE_DOMAIN_ANY_TWICE };
enum route_domain route_table_add(struct arena *a, struct route_table *t, struct str domain,
                                  const struct virtual_host *v);
void route_table_finish(struct arena *a, struct route_table *t);
/* The index over v->routes; NULL when there are few. */
const struct route_index *route_index_new(struct arena *a, const struct virtual_host *v);

/* The virtual host of a name; NULL: none. */
const struct virtual_host *route_table_find(const struct route_config *c, const struct headers *h,
                                            struct arena *scratch);

/* envoy.lb criteria of two levels, the inner one's winning; either may be NULL. */
const struct metadata *route_metadata_merge(const struct metadata *outer,
                                            const struct metadata *inner, struct arena *a);

enum hash_kind {
    HASH_HEADER,
    HASH_COOKIE,
    HASH_SOURCE_IP,
    HASH_QUERY,
    HASH_FILTER_STATE,
    HASH_NOTHING
};
struct hash_policy {
    enum hash_kind kind;
    bool terminal;
    struct str name; /* header, cookie, parameter, key */
    const struct regex *regex;
    struct str regex_to;
    bool has_ttl; /* cookies: made when absent */
    uint64_t ttl_s;
    struct str path, attributes; /* "; name=value; name" ready to append */
};
/* Internal redirects (RouteAction.internal_redirect_policy). */
struct internal_redirect {
    uint32_t codes; /* 1 << (code - 300) */
    bool cross_scheme;
    const struct str *copy_headers;
    size_t copy_count;
};

/* The value of a cookie over all cookie headers, without its quotes; ptr NULL: absent. */
struct str cookie_value(const struct headers *h, struct str name);
