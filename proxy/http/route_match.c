/* Finds the route of a request: the virtual host by its name, then the first route in configured
 * order for which all is true. An index gives the few routes whose path may fit, so that a thousand
 * routes cost what one costs. */
#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/metadata.h"
#include "proxy/api/route_ops.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"
#include "proxy/http/format_internal.h"
#include "proxy/http/route_internal.h"
#include "proxy/runtime/values.h"

/* One search. */
struct search {
    const struct route_config *config;
    struct worker *worker;
    const struct headers *headers;
    const struct stream_info *info;
    struct arena *scratch;
    struct str full;  /* :path as it is; ptr NULL: none (CONNECT) */
    struct str path;  /* without query, fragment and (as configured) path parameters */
    struct str lower; /* the same in lower case, made at first use */
    bool connect;
};

/* Without ";name=value" at the end of each segment. */
static struct str without_parameters(struct str path, struct arena *a)
{
    if (str_find_char(path, ';') == SIZE_MAX) return path;
    char *out = str_z(a, path);
    size_t n = 0;
    bool skip = false;
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] == '/') skip = false;
        if (path.ptr[i] == ';') skip = true;
        if (!skip) out[n++] = path.ptr[i];
    }
    return str_make(out, n);
}

/* The path that routes see. */
static struct str matched_path(const struct route_config *c, struct str full, struct arena *a)
{
    for (size_t i = 0; i < full.len; i++) {
        if (full.ptr[i] == '?' || full.ptr[i] == '#') {
            full.len = i;
            break;
        }
    }
    return c->ignore_path_parameters ? without_parameters(full, a) : full;
}

static struct str lower_path(struct search *s)
{
    if (!s->lower.ptr) s->lower = str_dup_lower(s->scratch, s->path);
    return s->lower;
}

static bool path_starts(const struct route_entry *e, struct str path)
{
    return e->ignore_case ? str_case_starts(path, e->route.path) : str_starts(path, e->route.path);
}

static bool path_fits(const struct search *s, const struct route_entry *e)
{
    if (e->route.path_kind == PATH_CONNECT) return s->connect;
    if (!s->full.ptr) return false; /* Envoy: requests without a path match CONNECT matchers only */
    switch (e->route.path_kind) {
    case PATH_PREFIX: return path_starts(e, s->path);
    case PATH_EXACT:
        return e->ignore_case ? str_case_eq(s->path, e->route.path)
                              : str_eq(s->path, e->route.path);
    case PATH_SEPARATED_PREFIX:
        return path_starts(e, s->path) &&
               (s->path.len == e->route.path.len || s->path.ptr[e->route.path.len] == '/');
    case PATH_REGEX:
    case PATH_TEMPLATE: return regex_full(e->regex, s->path);
    case PATH_CONNECT: break;
    }
    return false;
}

static bool yes_no_fits(enum route_yes_no wanted, bool is)
{
    return wanted == ROUTE_ANY || (wanted == ROUTE_YES) == is;
}

/* Envoy: without TLS a tls_context never matches. */
static bool tls_fits(const struct search *s, const struct route_conditions *e)
{
    const struct tls_info *t = s->info->conn ? s->info->conn->tls : NULL;
    if (!t) return false;
    return yes_no_fits(e->tls_presented, t->peer.present) &&
           yes_no_fits(e->tls_validated, t->peer.present && t->peer_validated);
}

static bool state_fits(const struct search *s, const struct filter_state_matcher *m)
{
    const struct filter_state_entry *x = filter_state_find(s->info->state, m->key);
    if (!x && s->info->conn) x = filter_state_find(s->info->conn->state, m->key);
    if (!x || !x->text) return false;
    struct str text = x->text(x->object, s->scratch);
    if (!m->ranges) return string_match(&m->string, text);
    struct addr ip;
    if (!addr_parse_ip(text, 0, &ip) && !addr_parse(text, &ip)) return false;
    for (size_t i = 0; i < m->range_count; i++) {
        if (cidr_contains(&m->ranges[i], &ip)) return !m->invert;
    }
    return m->invert;
}

static bool cookies_fit(const struct search *s, const struct route_conditions *e)
{
    for (size_t i = 0; i < e->cookie_count; i++) {
        const struct cookie_matcher *m = &e->cookies[i];
        struct str v = cookie_value(s->headers, m->name);
        bool fits = v.ptr && string_match(&m->string, v);
        if (fits == m->invert) return false;
    }
    return true;
}

static bool rest_fits(const struct search *s, const struct route_conditions *e)
{
    if (!e) return true;
    if (e->has_fraction &&
        !runtime_fraction(s->worker, e->runtime_key, e->numerator, e->denominator, s->info->random))
        return false;
    if (e->grpc && !headers_is_grpc(s->headers)) return false;
    if (!header_match_all(e->headers, e->header_count, s->headers, s->scratch)) return false;
    if (e->query_count && !query_match_all(e->query, e->query_count, s->full, s->scratch))
        return false;
    if (!cookies_fit(s, e)) return false;
    if ((e->tls_presented != ROUTE_ANY || e->tls_validated != ROUTE_ANY) && !tls_fits(s, e))
        return false;
    for (size_t i = 0; i < e->metadata_count; i++) {
        if (!metadata_match(&e->metadata[i], s->info->dynamic)) return false;
    }
    for (size_t i = 0; i < e->state_count; i++) {
        if (!state_fits(s, &e->state[i])) return false;
    }
    return true;
}

static bool entry_fits(const struct search *s, const struct route *r)
{
    const struct route_entry *e = (const struct route_entry *)r;
    return path_fits(s, e) && rest_fits(s, e->more);
}

/* Lists of candidates, each in order; the lowest ordinal of all comes first. */
enum { LISTS_MOST = 32 };
struct lists {
    const struct route_bucket *v[LISTS_MOST];
    size_t at[LISTS_MOST];
    size_t count;
    bool full; /* more lists than fit: every route is looked at */
};

static void lists_add(struct lists *l, const struct route_bucket *b)
{
    if (!b || !b->count) return;
    if (l->count == LISTS_MOST) {
        l->full = true;
        return;
    }
    l->at[l->count] = 0;
    l->v[l->count++] = b;
}

static void lists_add_prefixes(struct lists *l, const struct map *m, const uint32_t *lengths,
                               size_t count, struct str path)
{
    for (size_t i = 0; i < count; i++) {
        if (lengths[i] <= path.len) lists_add(l, map_get(m, str_sub(path, 0, lengths[i])));
    }
}

static void collect(struct search *s, const struct route_index *x, struct lists *l)
{
    lists_add(l, &x->rest);
    if (!s->full.ptr) return;
    lists_add(l, map_get(&x->exact, s->path));
    lists_add_prefixes(l, &x->prefix, x->lengths, x->length_count, s->path);
    if (x->exact_lower.count) lists_add(l, map_get(&x->exact_lower, lower_path(s)));
    if (x->length_lower_count)
        lists_add_prefixes(l, &x->prefix_lower, x->lengths_lower, x->length_lower_count,
                           lower_path(s));
}

/* Takes the lowest ordinal left; false: none. */
static bool lists_next(struct lists *l, uint32_t *ordinal)
{
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < l->count; i++) {
        if (l->at[i] == l->v[i]->count) continue;
        if (best == SIZE_MAX || l->v[i]->ordinals[l->at[i]] < l->v[best]->ordinals[l->at[best]])
            best = i;
    }
    if (best == SIZE_MAX) return false;
    *ordinal = l->v[best]->ordinals[l->at[best]++];
    return true;
}

static const struct route *tree_fit(struct search *s, const struct virtual_host *v)
{
    struct match_ask ask = {.worker = s->worker,
                            .scratch = s->scratch,
                            .conn = s->info->conn,
                            .info = s->info,
                            .request = s->headers};
    const void *action;
    if (match_tree_find(v->match_tree, &ask, &action) != MATCH_FOUND) return NULL;
    const struct route_choices *c = action;
    for (size_t i = 0; i < c->count; i++) {
        if (entry_fits(s, c->v[i])) return c->v[i];
    }
    return NULL;
}

static const struct route *first_fit(struct search *s, const struct virtual_host *v)
{
    if (v->match_tree) return tree_fit(s, v);

    const struct route_index *x = v->index;
    struct lists l = {.count = 0};
    if (x) collect(s, x, &l);
    if (!x || l.full) {
        for (size_t i = 0; i < v->route_count; i++) {
            if (entry_fits(s, v->routes[i])) return v->routes[i];
        }
        return NULL;
    }
    uint32_t ordinal;
    while (lists_next(&l, &ordinal)) {
        if (entry_fits(s, v->routes[ordinal])) return v->routes[ordinal];
    }
    return NULL;
}

/* Envoy: all requests, or those from outside, that did not come by https are sent there. */
static bool wants_https(const struct virtual_host *v, const struct headers *h)
{
    if (v->require_tls == REQUIRE_TLS_NONE) return false;
    struct str proto = headers_get(h, HDR_X_FORWARDED_PROTO);
    if (!proto.ptr) proto = headers_get(h, HDR_SCHEME);
    if (str_eq(proto, STR("https"))) return false;
    return v->require_tls == REQUIRE_TLS_ALL ||
           !str_eq(headers_get(h, HDR_X_ENVOY_INTERNAL), STR("true"));
}

const struct route *route_find(const struct route_config *c, struct worker *w,
                               const struct headers *h, struct stream_info *info)
{
    struct search s = {.config = c, .worker = w, .headers = h, .info = info};
    s.scratch = w && w->scratch ? w->scratch : info->arena;
    info->vhost = route_table_find(c, h, s.scratch);
    info->route = NULL;
    info->virtual_cluster = STR_NONE;
    if (!info->vhost) return NULL;
    if (wants_https(info->vhost, h)) {
        info->route = info->vhost->https_route;
        return info->route;
    }
    s.full = headers_get(h, HDR_PATH);
    s.path = s.full.ptr ? matched_path(c, s.full, s.scratch) : STR_NONE;
    s.connect = str_eq(headers_get(h, HDR_METHOD), STR("CONNECT"));
    info->route = first_fit(&s, info->vhost);
    if (info->route && info->vhost->virtual_cluster_count) {
        info->virtual_cluster = route_virtual_cluster(info->vhost, h, s.scratch);
    }
    return info->route;
}

bool route_match_fits(const struct route_match *m, struct worker *w, const struct headers *h,
                      const struct stream_info *info)
{
    static const struct route_config plain;
    struct search s = {.config = &plain, .worker = w, .headers = h, .info = info};
    s.scratch = w && w->scratch ? w->scratch : info->arena;
    s.full = headers_get(h, HDR_PATH);
    s.path = s.full.ptr ? matched_path(&plain, s.full, s.scratch) : STR_NONE;
    s.connect = str_eq(headers_get(h, HDR_METHOD), STR("CONNECT"));
    return path_fits(&s, &m->entry) && rest_fits(&s, m->entry.more);
}

struct str route_virtual_cluster(const struct virtual_host *v, const struct headers *h,
                                 struct arena *scratch)
{
    for (size_t i = 0; i < v->virtual_cluster_count; i++) {
        const struct virtual_cluster *c = &v->virtual_clusters[i];
        if (header_match_all(c->headers, c->header_count, h, scratch)) return c->name;
    }
    return STR_NONE;
}
