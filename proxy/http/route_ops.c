/* What is done with a matched route: cluster choice, rewrites, header changes, redirects,
 * overrides. */
#include "proxy/api/route_ops.h"

#include "base/arena.h"
#include "proxy/api/format.h"
#include "proxy/api/header_change.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/http/route_internal.h"
#include "proxy/runtime/values.h"

static uint64_t cluster_weight(const struct weighted_cluster *c, const struct stream_info *info)
{
    return c->runtime_key.len && info->worker ? runtime_u64(info->worker, c->runtime_key, c->weight)
                                              : c->weight;
}

/* Envoy: the value of the header decides when it is one number; else the stream's random number. */
static uint64_t weighted_random(const struct route *r, const struct headers *h,
                                const struct stream_info *info)
{
    uint64_t n;
    if (r->weighted_header.len && str_to_u64(headers_find(h, r->weighted_header), &n)) return n;
    struct str cookie;
    if (r->weighted_use_hash_policy &&
        route_hash(r->hash, r->hash_count, h, info, info->arena, &n, &cookie))
        return n;
    return info->random;
}

static const struct weighted_cluster *weighted_pick(const struct route *r, const struct headers *h,
                                                    const struct stream_info *info)
{
    uint64_t total = 0;
    if (r->weighted_runtime_prefix.len) {
        for (size_t i = 0; i < r->weighted_count; i++)
            total += cluster_weight(&r->weighted[i], info);
    } else {
        total = r->weighted_total;
    }
    if (!total) return r->weighted_count ? &r->weighted[r->weighted_count - 1] : NULL;
    uint64_t chosen = weighted_random(r, h, info) % total, end = 0;
    for (size_t i = 0; i < r->weighted_count; i++) {
        end += cluster_weight(&r->weighted[i], info);
        if (chosen < end) return &r->weighted[i];
    }
    return &r->weighted[r->weighted_count - 1];
}

static struct route_choice choice_of(struct str cluster, uint64_t hash)
{
    return (struct route_choice){.cluster = cluster, .hash = hash ? hash : hash_str(cluster)};
}

struct route_choice route_choose_cluster(const struct route *r, const struct headers *h,
                                         const struct stream_info *info)
{
    if (r->weighted_count) {
        const struct weighted_cluster *c = weighted_pick(r, h, info);
        if (!c) return (struct route_choice){0};
        struct route_choice choice =
            c->name.len ? choice_of(c->name, c->hash) : choice_of(headers_find(h, c->header), 0);
        choice.weighted = c;
        return choice;
    }
    if (r->cluster_header.len) return choice_of(headers_find(h, r->cluster_header), 0);
    return choice_of(r->cluster, r->cluster_hash);
}

static void apply_levels(const struct header_change *table, const struct header_change *vhost,
                         const struct header_change *route, bool specific_wins, struct headers *h,
                         const struct stream_info *info)
{
    header_change_apply(specific_wins ? table : route, h, info);
    header_change_apply(vhost, h, info);
    header_change_apply(specific_wins ? route : table, h, info);
}

static size_t path_len_without_query(struct str path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] == '?' || path.ptr[i] == '#') return i;
    }
    return path.len;
}

/* How much of the path the route matched: what prefix_rewrite replaces. */
static size_t matched_len(const struct route *r, struct str path)
{
    size_t bare = path_len_without_query(path);
    if (r->path_kind != PATH_PREFIX && r->path_kind != PATH_SEPARATED_PREFIX) return bare;
    return r->path.len < bare ? r->path.len : bare;
}

static struct str replaced(struct str path, size_t upto, struct str by, struct arena *a)
{
    return str_cat(a, by, str_sub(path, upto, path.len));
}

struct str route_rewrite_path(const struct route *r, const struct headers *h,
                              const struct stream_info *info, struct arena *a)
{
    struct str path = headers_get(h, HDR_PATH);
    bool redirect = r->action == ROUTE_REDIRECT;
    if (r->action == ROUTE_DIRECT_RESPONSE) return STR_NONE;
    struct str prefix = redirect ? r->redirect->prefix_rewrite : r->prefix_rewrite;
    const struct regex *regex = redirect ? r->redirect->regex : r->regex_rewrite;
    if (!path.ptr) return STR_NONE;
    if (regex) {
        size_t bare = path_len_without_query(path);
        struct str to = redirect ? r->redirect->regex_to : r->regex_rewrite_to;
        return replaced(path, bare, regex_replace_all(regex, a, str_sub(path, 0, bare), to), a);
    }
    if (prefix.len) return replaced(path, matched_len(r, path), prefix, a);
    if (!redirect && r->path_rewrite_format) {
        struct str to = format_dup(r->path_rewrite_format, info, a);
        if (to.len) return replaced(path, path_len_without_query(path), to, a);
    }
    return STR_NONE;
}

static struct str last_token(struct str list)
{
    size_t comma = str_rfind_char(list, ',');
    return comma == SIZE_MAX ? list : str_sub(list, comma + 1, list.len);
}

void route_rewrite_host(struct headers *h, struct str to, bool append_forwarded, bool keep_original)
{
    struct str old = headers_get(h, HDR_AUTHORITY);
    if (!to.len) return;
    if (append_forwarded && old.len &&
        !str_eq(last_token(headers_get(h, HDR_X_FORWARDED_HOST)), old)) {
        headers_append(h, STR("x-forwarded-host"), old, STR(","));
    }
    if (keep_original && old.len) headers_set_id(h, HDR_X_ENVOY_ORIGINAL_HOST, old);
    headers_set_id(h, HDR_AUTHORITY, to);
}

static struct str host_of_path(const struct route *r, const struct headers *h)
{
    struct str path = headers_get(h, HDR_PATH);
    struct str bare = str_sub(path, 0, path_len_without_query(path));
    return regex_replace_all(r->host_rewrite_regex, h->arena, bare, r->host_rewrite_value);
}

/* The new host; empty: it stays. */
static struct str host_after(const struct route *r, const struct headers *h,
                             const struct stream_info *info)
{
    switch (r->host_rewrite) {
    case HOST_REWRITE_NONE:
    case HOST_REWRITE_AUTO: return STR_NONE;
    case HOST_REWRITE_LITERAL: return r->host_rewrite_value;
    case HOST_REWRITE_HEADER: return headers_find(h, r->host_rewrite_value);
    case HOST_REWRITE_PATH_REGEX: return host_of_path(r, h);
    case HOST_REWRITE_FORMAT: return format_dup(r->host_rewrite_format, info, h->arena);
    }
    return STR_NONE;
}

static void rewrite_path(const struct route *r, struct headers *h, const struct stream_info *info,
                         bool set_original_path)
{
    struct str path = route_rewrite_path(r, h, info, h->arena);
    if (!path.ptr) return;
    if (set_original_path) headers_set_id(h, HDR_X_ENVOY_ORIGINAL_PATH, headers_get(h, HDR_PATH));
    headers_set_id(h, HDR_PATH, path);
}

void route_finalize_request(const struct route *r, const struct route_choice *choice,
                            struct headers *h, const struct stream_info *info,
                            bool set_original_path)
{
    const struct virtual_host *v = r->vhost;
    if (choice && choice->weighted) header_change_apply(choice->weighted->request_headers, h, info);
    apply_levels(v->config->request_headers, v->request_headers, r->request_headers,
                 v->config->most_specific_header_mutations_wins, h, info);
    if (choice && choice->weighted && choice->weighted->host_rewrite.len) {
        headers_set_id(h, HDR_AUTHORITY,
                       choice->weighted->host_rewrite); /* Envoy: leaves no trace of the old one */
    } else {
        route_rewrite_host(h, host_after(r, h, info), r->append_x_forwarded_host,
                           set_original_path);
    }
    rewrite_path(r, h, info, set_original_path);
}

void route_finalize_response(const struct route *r, const struct route_choice *choice,
                             struct headers *h, const struct stream_info *info)
{
    if (!r || !r->vhost) return;
    const struct virtual_host *v = r->vhost;
    if (choice && choice->weighted)
        header_change_apply(choice->weighted->response_headers, h, info);
    apply_levels(v->config->response_headers, v->response_headers, r->response_headers,
                 v->config->most_specific_header_mutations_wins, h, info);
}

/* Envoy: a port in the request's host goes when the redirect brings its own, or when it was the
 * default of the old scheme. */
static struct str redirect_host(const struct headers *h, struct str scheme, bool new_port)
{
    struct str host = headers_get(h, HDR_AUTHORITY);
    size_t colon = str_rfind_char(host, ':');
    if (colon == SIZE_MAX ||
        (host.len && host.ptr[0] == '[' && (colon == 0 || host.ptr[colon - 1] != ']')))
        return host;
    struct str port = str_sub(host, colon, host.len), proto = headers_get(h, HDR_X_FORWARDED_PROTO);
    bool drop = new_port;
    if (!str_eq(scheme, proto)) {
        drop = drop || (str_eq(proto, STR("https")) && str_eq(port, STR(":443")));
        drop = drop || (str_eq(proto, STR("http")) && str_eq(port, STR(":80")));
    }
    return drop ? str_sub(host, 0, colon) : host;
}

static struct str redirect_path(const struct redirect *d, const struct headers *h, struct arena *a)
{
    struct str path = headers_get(h, HDR_PATH), query;
    size_t at = str_find_char(path, '?');
    query = at == SIZE_MAX ? STR_NONE : str_sub(path, at, path.len);
    if (d->path.len) {
        /* Envoy: a query in path_redirect wins over the request's and is never stripped. */
        if (str_find_char(d->path, '?') != SIZE_MAX || d->strip_query || !query.len) return d->path;
        return str_cat(a, d->path, query);
    }
    return d->strip_query && at != SIZE_MAX ? str_sub(path, 0, at) : path;
}

struct str route_redirect_location(const struct route *r, struct headers *h,
                                   const struct stream_info *info, bool set_original_path)
{
    static const struct redirect same = {
        0}; /* Envoy: direct responses of 201 and 3xx point to where the request went */
    const struct redirect *d = r->redirect ? r->redirect : &same;
    struct str scheme = headers_get(h, HDR_SCHEME);
    struct arena *a = h->arena;
    rewrite_path(r, h, info, set_original_path);
    if (d->scheme.len)
        scheme = d->scheme;
    else if (d->https)
        scheme = STR("https");
    struct str host = d->host.len ? d->host : redirect_host(h, scheme, d->port != 0),
               path = redirect_path(d, h, a);
    if (d->port) {
        return str_fmt(a, "%.*s://%.*s:%u%.*s", STR_ARG(scheme), STR_ARG(host), d->port,
                       STR_ARG(path));
    }
    return str_fmt(a, "%.*s://%.*s%.*s", STR_ARG(scheme), STR_ARG(host), STR_ARG(path));
}

struct str route_direct_body(const struct route *r, struct stream_info *info, struct arena *a,
                             struct str *content_type)
{
    *content_type = STR_NONE;
    if (!r->direct_format) return r->direct_body;
    *content_type = format_content_type(r->direct_format);
    info->local_reply_body = r->direct_body; /* %LOCAL_REPLY_BODY% */
    return format_dup(r->direct_format, info, a);
}

/* The criteria of one level by name over those of another. */
static const struct metadata *metadata_over(const struct metadata *outer,
                                            const struct metadata *inner, struct arena *a)
{
    struct metadata *m = NULL;
    const struct metadata *levels[] = {outer, inner};
    for (size_t i = 0; i < 2; i++) {
        const struct value *lb = value_field(&levels[i]->root, STR("envoy.lb"));
        for (size_t k = 0; lb && k < lb->u.fields.count; k++) {
            metadata_set(&m, a, STR("envoy.lb"), lb->u.fields.fields[k].name,
                         &lb->u.fields.fields[k].value);
        }
    }
    return m;
}

const struct metadata *route_metadata_match(const struct route *r,
                                            const struct route_choice *choice)
{
    const struct metadata *inner =
        choice && choice->weighted ? choice->weighted->metadata_match : NULL;
    return inner ? inner
                 : r->metadata_match; /* translation merged the route's into the cluster's */
}

const struct metadata *route_metadata_merge(const struct metadata *outer,
                                            const struct metadata *inner, struct arena *a)
{
    if (!outer || !inner) return outer ? outer : inner;
    return metadata_over(outer, inner, a);
}

static const struct filter_override *override_in(const struct filter_override *o,
                                                 struct str filter_name)
{
    for (; o; o = o->next) {
        if (str_eq(o->filter_name, filter_name)) return o;
    }
    return NULL;
}

size_t route_overrides(const struct route *r, const struct route_choice *choice,
                       struct str filter_name, const struct filter_override *out[4])
{
    const struct virtual_host *v = r ? r->vhost : NULL;
    const struct filter_override *levels[4] = {
        v ? v->config->overrides : NULL, v ? v->overrides : NULL, r ? r->overrides : NULL,
        choice && choice->weighted ? choice->weighted->overrides : NULL};
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) {
        const struct filter_override *o = override_in(levels[i], filter_name);
        if (o) out[n++] = o;
    }
    return n;
}

const struct filter_override *route_override(const struct route *r,
                                             const struct route_choice *choice,
                                             struct str filter_name)
{
    const struct filter_override *all[4];
    size_t n = route_overrides(r, choice, filter_name, all);
    return n ? all[n - 1] : NULL;
}

bool route_upgrade(const struct route *r, struct str type, bool *enabled,
                   const struct upgrade_conf **conf)
{
    for (size_t i = 0; i < r->upgrade_count; i++) {
        if (!str_case_eq(r->upgrades[i].type, type)) continue;
        *enabled = r->upgrades[i].enabled;
        *conf = &r->upgrades[i];
        return true;
    }
    return false;
}
