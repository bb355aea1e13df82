/* Domains to virtual hosts, and the index over the routes of a virtual host. */
#include <stdlib.h>

#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/http/route_internal.h"

static void release_map(void *m)
{
    map_release(m);
}

struct route_table *route_table_new(struct arena *a)
{
    struct route_table *t = ARENA_NEW(a, struct route_table);
    arena_on_free(a, release_map, &t->exact);
    arena_on_free(a, release_map, &t->suffix);
    arena_on_free(a, release_map, &t->prefix);
    return t;
}

enum route_domain route_table_add(struct arena *a, struct route_table *t, struct str domain,
                                  const struct virtual_host *v)
{
    struct str name = str_dup_lower(a, domain);
    struct map *m = &t->exact;
    if (str_eq(name, STR("*"))) {
        if (t->any) return ROUTE_DOMAIN_ANY_TWICE;
        t->any = v;
        return ROUTE_DOMAIN_OK;
    }
    if (str_starts(name, STR("*"))) {
        m = &t->suffix;
        name = str_sub(name, 1, name.len);
    } else if (str_ends(name, STR("*"))) {
        m = &t->prefix;
        name.len--;
    }
    if (map_get(m, name)) return ROUTE_DOMAIN_TWICE;
    (void)map_put(m, name, (void *)(uintptr_t)v);
    return ROUTE_DOMAIN_OK;
}

static int longest_first(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return a < b ? 1 : a > b ? -1 : 0;
}

/* The different lengths of the keys, longest first. */
static uint32_t *key_lengths(struct arena *a, const struct map *m, size_t *count)
{
    uint32_t *v = ARENA_ARRAY(a, uint32_t, m->count);
    size_t it = 0, n = 0, unique = 0;
    struct str key;
    void *value;
    while (map_next(m, &it, &key, &value))
        v[n++] = (uint32_t)key.len;
    if (n > 1) qsort(v, n, sizeof *v, longest_first);
    for (size_t i = 0; i < n; i++) {
        if (!unique || v[unique - 1] != v[i]) v[unique++] = v[i];
    }
    *count = unique;
    return v;
}

void route_table_finish(struct arena *a, struct route_table *t)
{
    t->suffix_lengths = key_lengths(a, &t->suffix, &t->suffix_length_count);
    t->prefix_lengths = key_lengths(a, &t->prefix, &t->prefix_length_count);
}

static struct str host_without_port(struct str host)
{
    size_t colon = str_rfind_char(host, ':');
    if (colon == SIZE_MAX || (host.len && host.ptr[host.len - 1] == ']')) return host;
    uint16_t port;
    return str_to_u16(str_sub(host, colon + 1, host.len), &port) ? str_sub(host, 0, colon) : host;
}

static struct str lower_host(struct str host, struct arena *scratch)
{
    for (size_t i = 0; i < host.len; i++) {
        if (host.ptr[i] >= 'A' && host.ptr[i] <= 'Z') return str_dup_lower(scratch, host);
    }
    return host;
}

static const struct virtual_host *find_wildcard(const struct route_table *t, struct str host)
{
    for (size_t i = 0; i < t->suffix_length_count; i++) {
        size_t len = t->suffix_lengths[i];
        if (len >= host.len) continue; /* Envoy: "*" stands for at least one character */
        const struct virtual_host *v = map_get(&t->suffix, str_sub(host, host.len - len, len));
        if (v) return v;
    }
    for (size_t i = 0; i < t->prefix_length_count; i++) {
        size_t len = t->prefix_lengths[i];
        if (len >= host.len) continue;
        const struct virtual_host *v = map_get(&t->prefix, str_sub(host, 0, len));
        if (v) return v;
    }
    return t->any;
}

const struct virtual_host *route_table_find(const struct route_config *c, const struct headers *h,
                                            struct arena *scratch)
{
    const struct route_table *t = c->table;
    if (!t->exact.count && !t->suffix_length_count && !t->prefix_length_count) return t->any;
    struct str host =
        c->vhost_header.len ? headers_find(h, c->vhost_header) : headers_get(h, HDR_AUTHORITY);
    if (!host.ptr) return c->vhost_header.len ? t->any : NULL;
    if (c->ignore_port_in_host_matching) host = host_without_port(host);
    host = lower_host(host, scratch);
    const struct virtual_host *v = map_get(&t->exact, host);
    return v ? v : find_wildcard(t, host);
}

static void bucket_add(struct arena *a, struct route_bucket *b, uint32_t ordinal)
{
    if (b->count == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 1;
        uint32_t *grown = ARENA_ARRAY(a, uint32_t, cap);
        if (b->count) memcpy(grown, b->ordinals, b->count * sizeof *grown);
        b->ordinals = grown;
        b->cap = cap;
    }
    b->ordinals[b->count++] = ordinal;
}

static void map_add(struct arena *a, struct map *m, struct str key, uint32_t ordinal)
{
    struct route_bucket *b = map_get(m, key);
    if (!b) {
        b = ARENA_NEW(a, struct route_bucket);
        (void)map_put(m, key, b);
    }
    bucket_add(a, b, ordinal);
}

const struct route_index *route_index_new(struct arena *a, const struct virtual_host *v)
{
    if (v->route_count < ROUTE_INDEX_FROM) return NULL;
    struct route_index *x = ARENA_NEW(a, struct route_index);
    struct map *maps[] = {&x->exact, &x->exact_lower, &x->prefix, &x->prefix_lower};
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++)
        arena_on_free(a, release_map, maps[i]);
    for (size_t i = 0; i < v->route_count; i++) {
        const struct route_entry *e = (const struct route_entry *)v->routes[i];
        struct str path = e->ignore_case ? str_dup_lower(a, e->route.path) : e->route.path;
        uint32_t n = (uint32_t)i;
        if (e->route.path_kind == PATH_EXACT) {
            map_add(a, e->ignore_case ? &x->exact_lower : &x->exact, path, n);
        } else if (e->route.path_kind == PATH_PREFIX ||
                   e->route.path_kind == PATH_SEPARATED_PREFIX) {
            map_add(a, e->ignore_case ? &x->prefix_lower : &x->prefix, path, n);
        } else {
            bucket_add(a, &x->rest, n);
        }
    }
    x->lengths = key_lengths(a, &x->prefix, &x->length_count);
    x->lengths_lower = key_lengths(a, &x->prefix_lower, &x->length_lower_count);
    return x;
}
