/* RouteConfiguration and its virtual hosts. */
#include "proxy/config/route.h"

#include "base/arena.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/decode.h"
#include "proto/equal.h"
#include "proxy/api/match_tree.h"
#include "proxy/config/route_internal.h"

enum { DIRECT_BODY_MOST = 4096 }; /* Envoy's default */

bool route_uses_cluster(struct route_build *b, const struct conf_at *at, struct str name)
{
    const struct conf_cx *cx = at->cx;
    if (b->validate_clusters && cx->cluster_known &&
        !cx->cluster_known(cx->cluster_known_arg, name)) {
        return conf_fail_cluster(at, "unknown cluster", name);
    }
    if (!map_get(&b->clusters, name))
        (void)map_put(&b->clusters, name, (void *)(uintptr_t)name.ptr);
    return true;
}

/* typed_per_filter_config maps have an entry type for each message; all look the same. */
#define TRANSLATE_OVERRIDES(at, m, list, ok)                                                 \
    for (size_t i_ = 0; i_ < (m)->n_typed_per_filter_config; i_++) {                         \
        struct conf_at here_ = conf_key((at), "typed_per_filter_config",                     \
                                        str_of((m)->typed_per_filter_config[i_]->key));      \
        (ok) = translate_filter_override(&here_, (m)->typed_per_filter_config[i_]->key,      \
                                         (m)->typed_per_filter_config[i_]->value, (list)) && \
               (ok);                                                                         \
    }

/* request_headers_to_add/remove and response_headers_to_add/remove, the same four fields in three
 * messages. */
#define TRANSLATE_HEADER_CHANGES(at, m, request, response, ok)                                  \
    do {                                                                                        \
        bool request_ok_, response_ok_;                                                         \
        (request) = conf_header_change(                                                         \
            (at), "request_headers_to_add", (m)->n_request_headers_to_add,                      \
            (m)->request_headers_to_add, "request_headers_to_remove",                           \
            (m)->n_request_headers_to_remove, (m)->request_headers_to_remove, &request_ok_);    \
        (response) = conf_header_change(                                                        \
            (at), "response_headers_to_add", (m)->n_response_headers_to_add,                    \
            (m)->response_headers_to_add, "response_headers_to_remove",                         \
            (m)->n_response_headers_to_remove, (m)->response_headers_to_remove, &response_ok_); \
        (ok) = request_ok_ && response_ok_ && (ok);                                             \
    } while (0)

static void buffer_limit(const Google__Protobuf__UInt32Value *old,
                         const Google__Protobuf__UInt64Value *now, bool *has, uint32_t *limit)
{
    if (!old && !now) return;
    uint64_t n = now ? now->value : old->value;
    *has = true;
    *limit = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static bool route_action_of(struct route_build *b, const struct conf_at *at,
                            const Envoy__Config__Route__V3__Route *m, struct route *r)
{
    switch ((int)m->action_case) {
    case ENVOY__CONFIG__ROUTE__V3__ROUTE__ACTION_ROUTE: {
        struct conf_at here = conf_field(at, "route");
        return translate_route_action(b, &here, m->route, r);
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE__ACTION_REDIRECT: {
        struct conf_at here = conf_field(at, "redirect");
        return translate_redirect(&here, m->redirect, r);
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE__ACTION_DIRECT_RESPONSE: {
        struct conf_at here = conf_field(at, "direct_response");
        return translate_direct_response(b, &here, m->direct_response, r);
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE__ACTION_NON_FORWARDING_ACTION: {
        struct conf_at here = conf_field(at, "non_forwarding_action");
        return conf_fail(&here, "is not supported");
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE__ACTION_FILTER_ACTION: {
        struct conf_at here = conf_field(at, "filter_action");
        return conf_fail(&here, "is not supported");
    }
    default: return conf_fail(at, "an action is needed");
    }
}

static bool translate_route(struct route_build *b, const struct conf_at *at,
                            const Envoy__Config__Route__V3__Route *m, const struct virtual_host *v,
                            struct route_entry *e)
{
    struct conf_at match = conf_field(at, "match"), metadata = conf_field(at, "metadata");
    struct route *r = &e->route;
    r->vhost = v;
    r->name = str_dup(b->a, str_of(m->name));
    r->stat_prefix = str_dup(b->a, str_of(m->stat_prefix));
    bool ok = translate_route_match(&match, m->match, e);
    ok = route_action_of(b, at, m, r) && ok;
    if (r->action == ROUTE_FORWARD) {
        if (!r->retry) r->retry = v->retry;
        if (!r->mirrors) {
            r->mirrors = v->mirrors;
            r->mirror_count = v->mirror_count;
        }
    }
    r->metadata = conf_metadata(&metadata, m->metadata);
    if (m->decorator) {
        r->has_decorator = true;
        r->decorator = str_dup(b->a, str_of(m->decorator->operation));
        r->decorator_propagate = !m->decorator->propagate || m->decorator->propagate->value;
    }
    TRANSLATE_HEADER_CHANGES(at, m, r->request_headers, r->response_headers, ok);
    TRANSLATE_OVERRIDES(at, m, &r->overrides, ok);
    r->has_buffer_limit = v->has_buffer_limit;
    r->per_request_buffer_limit = v->per_request_buffer_limit;
    buffer_limit(m->per_request_buffer_limit_bytes, m->request_body_buffer_limit,
                 &r->has_buffer_limit, &r->per_request_buffer_limit);
    return ok;
}

static bool translate_virtual_clusters(const struct conf_at *at,
                                       const Envoy__Config__Route__V3__VirtualHost *m,
                                       struct virtual_host *v)
{
    if (!m->n_virtual_clusters) return true;
    struct virtual_cluster *out =
        ARENA_ARRAY(conf_arena(at), struct virtual_cluster, m->n_virtual_clusters);
    bool all = true, ok;
    for (size_t i = 0; i < m->n_virtual_clusters; i++) {
        const Envoy__Config__Route__V3__VirtualCluster *c = m->virtual_clusters[i];
        struct conf_at here = conf_index(at, "virtual_clusters", i);
        if (!c->n_headers) all = conf_fail(&here, "virtual clusters must define 'headers'");
        out[i].name = str_dup(conf_arena(at), str_of(c->name));
        out[i].headers = conf_header_matchers(&here, "headers", c->n_headers, c->headers, &ok);
        out[i].header_count = c->n_headers;
        all = all && ok;
    }
    v->virtual_clusters = out;
    v->virtual_cluster_count = m->n_virtual_clusters;
    return all;
}

static void add_https_route(struct arena *a, struct virtual_host *v)
{
    struct route_entry *e = ARENA_NEW(a, struct route_entry);
    struct redirect *d = ARENA_NEW(a, struct redirect);
    *d = (struct redirect){.https = true, .code = 301};
    e->route = (struct route){
        .action = ROUTE_REDIRECT, .redirect = d, .vhost = v, .path_kind = PATH_PREFIX};
    v->https_route = &e->route;
}

static bool vhost_routes(struct route_build *b, const struct conf_at *at,
                         const Envoy__Config__Route__V3__VirtualHost *m, struct virtual_host *v)
{
    struct route_entry *entries = ARENA_ARRAY(b->a, struct route_entry, m->n_routes);
    const struct route **routes = ARENA_ARRAY(b->a, const struct route *, m->n_routes);
    bool ok = true;
    for (size_t i = 0; i < m->n_routes; i++) {
        struct conf_at here = conf_index(at, "routes", i);
        ok = translate_route(b, &here, m->routes[i], v, &entries[i]) && ok;
        entries[i].route.ordinal = (uint32_t)i;
        routes[i] = &entries[i].route;
    }
    v->routes = routes;
    v->route_count = m->n_routes;
    v->index = ok ? route_index_new(b->a, v) : NULL;
    return ok;
}

/* --- matcher trees
 * ---------------------------------------------------------------------------------- */

struct vhost_build {
    struct route_build *b;
    const struct virtual_host *v;
};

static bool tree_route(const struct vhost_build *x, const struct conf_at *at,
                       const Envoy__Config__Route__V3__Route *m, const struct route **out)
{
    struct route_entry *e = ARENA_NEW(x->b->a, struct route_entry);
    *out = &e->route;
    return translate_route(x->b, at, m, x->v, e);
}

/* An action is a Route or a RouteList. */
static const void *tree_action(const struct conf_at *at, struct str name,
                               const struct Google__Protobuf__Any *any, void *arg)
{
    const struct vhost_build *x = arg;
    struct route_choices *c = ARENA_NEW(x->b->a, struct route_choices);
    bool list = str_eq(proto_any_name(x->b->a, any),
                       str_of(envoy__config__route__v3__route_list__descriptor.name));
    const struct ProtobufCMessage *msg =
        conf_match_action(at, name, any,
                          list ? &envoy__config__route__v3__route_list__descriptor
                               : &envoy__config__route__v3__route__descriptor);
    if (!msg) return NULL;
    const Envoy__Config__Route__V3__RouteList *m = (const void *)msg;
    c->count = list ? m->n_routes : 1;
    c->v = ARENA_ARRAY(x->b->a, const struct route *, c->count);
    if (!list) return tree_route(x, at, (const void *)msg, &c->v[0]) ? c : NULL;
    bool ok = true;
    for (size_t i = 0; i < m->n_routes; i++) {
        struct conf_at place = conf_index(at, "routes", i);
        ok &= tree_route(x, &place, m->routes[i], &c->v[i]);
    }
    return ok ? c : NULL;
}

static bool vhost_tree(struct route_build *b, const struct conf_at *at,
                       const Envoy__Config__Route__V3__VirtualHost *m, struct virtual_host *v)
{
    struct conf_at place = conf_field(at, "matcher");
    struct vhost_build x = {.b = b, .v = v};
    struct match_tree_use use = {.place = MATCH_IN_ROUTES, .action = tree_action, .arg = &x};
    if (m->n_routes) return conf_fail(&place, "cannot set both matcher and routes on virtual host");
    v->match_tree = conf_match_tree(&place, m->matcher, &use);
    return v->match_tree != NULL;
}

static bool translate_vhost(struct route_build *b, const struct conf_at *at,
                            const Envoy__Config__Route__V3__VirtualHost *m, struct virtual_host *v)
{
    struct conf_at retry = conf_field(at, "retry_policy"), metadata = conf_field(at, "metadata");
    bool ok = true, mirrors_ok;
    v->config = b->config;
    v->name = str_dup(b->a, str_of(m->name));
    v->include_request_attempt_count = m->include_request_attempt_count;
    v->include_attempt_count_in_response = m->include_attempt_count_in_response;
    v->include_is_timeout_retry = m->include_is_timeout_retry_header;
    v->metadata = conf_metadata(&metadata, m->metadata);
    if (m->require_tls == ENVOY__CONFIG__ROUTE__V3__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__ALL)
        v->require_tls = REQUIRE_TLS_ALL;
    if (m->require_tls ==
        ENVOY__CONFIG__ROUTE__V3__VIRTUAL_HOST__TLS_REQUIREMENT_TYPE__EXTERNAL_ONLY) {
        v->require_tls = REQUIRE_TLS_EXTERNAL_ONLY;
    }
    if (v->require_tls != REQUIRE_TLS_NONE) add_https_route(b->a, v);
    if (m->retry_policy) {
        v->retry = translate_retry_policy(&retry, m->retry_policy);
        ok = v->retry && ok;
    }
    v->mirrors = b->mirrors;
    v->mirror_count = b->mirror_count;
    if (m->n_request_mirror_policies) {
        v->mirrors =
            translate_mirrors(b, at, "request_mirror_policies", m->n_request_mirror_policies,
                              m->request_mirror_policies, &mirrors_ok);
        v->mirror_count = m->n_request_mirror_policies;
        ok = mirrors_ok && ok;
    }
    buffer_limit(m->per_request_buffer_limit_bytes, m->request_body_buffer_limit,
                 &v->has_buffer_limit, &v->per_request_buffer_limit);
    TRANSLATE_HEADER_CHANGES(at, m, v->request_headers, v->response_headers, ok);
    TRANSLATE_OVERRIDES(at, m, &v->overrides, ok);
    ok = translate_virtual_clusters(at, m, v) && ok;
    return (m->matcher ? vhost_tree(b, at, m, v) : vhost_routes(b, at, m, v)) && ok;
}

static bool vhost_domains(struct route_build *b, const struct conf_at *at,
                          const Envoy__Config__Route__V3__VirtualHost *m,
                          const struct virtual_host *v, struct route_table *t)
{
    struct str name = b->config->obj.name;
    bool ok = true;
    for (size_t i = 0; i < m->n_domains; i++) {
        struct conf_at here = conf_index(at, "domains", i);
        if (!m->domains[i][0]) {
            ok = conf_fail(&here, "must not be empty");
            continue;
        }
        switch (route_table_add(b->a, t, str_of(m->domains[i]), v)) {
        case ROUTE_DOMAIN_OK: break;
        case ROUTE_DOMAIN_ANY_TWICE:
            ok = conf_fail(&here, "Only a single wildcard domain is permitted in route %.*s",
                           STR_ARG(name));
            break;
        case ROUTE_DOMAIN_TWICE:
            ok = conf_fail(
                &here,
                "Only unique values for domains are permitted. Duplicate entry of domain %s in route %.*s",
                m->domains[i], STR_ARG(name));
            break;
        }
    }
    return ok;
}

static bool config_vhosts(struct route_build *b, const struct conf_at *at,
                          const Envoy__Config__Route__V3__RouteConfiguration *m)
{
    struct virtual_host *v = ARENA_ARRAY(b->a, struct virtual_host, m->n_virtual_hosts);
    const struct virtual_host **list =
        ARENA_ARRAY(b->a, const struct virtual_host *, m->n_virtual_hosts);
    struct route_table *t = route_table_new(b->a);
    bool ok = true;
    for (size_t i = 0; i < m->n_virtual_hosts; i++) {
        struct conf_at here = conf_index(at, "virtual_hosts", i);
        list[i] = &v[i]; /* Envoy: two virtual hosts may have one name */
        ok = translate_vhost(b, &here, m->virtual_hosts[i], &v[i]) && ok;
        ok = vhost_domains(b, &here, m->virtual_hosts[i], &v[i], t) && ok;
    }
    route_table_finish(b->a, t);
    t->vhosts = list;
    t->vhost_count = m->n_virtual_hosts;
    b->config->table = t;
    return ok;
}

static void config_clusters(struct route_build *b)
{
    struct str *v = ARENA_ARRAY(b->a, struct str, b->clusters.count);
    size_t it = 0, n = 0;
    struct str key;
    void *value;
    while (map_next(&b->clusters, &it, &key, &value))
        v[n++] = key;
    b->config->clusters = v;
    b->config->cluster_count = n;
}

static bool config_fill(struct route_build *b, const struct conf_at *at,
                        const Envoy__Config__Route__V3__RouteConfiguration *m,
                        bool validate_default)
{
    struct route_config *c = b->config;
    struct conf_at metadata = conf_field(at, "metadata");
    bool ok = true, mirrors_ok;
    c->obj.name = str_dup(b->a, str_of(m->name));
    c->most_specific_header_mutations_wins = m->most_specific_header_mutations_wins;
    c->ignore_port_in_host_matching = m->ignore_port_in_host_matching;
    c->ignore_path_parameters = m->ignore_path_parameters_in_path_matching;
    c->vhost_header = str_dup_lower(b->a, str_of(m->vhost_header));
    c->validate_clusters = m->validate_clusters ? m->validate_clusters->value : validate_default;
    b->validate_clusters = c->validate_clusters;
    b->body_most = m->max_direct_response_body_size_bytes
                       ? m->max_direct_response_body_size_bytes->value
                       : DIRECT_BODY_MOST;
    c->metadata = conf_metadata(&metadata, m->metadata);
    struct str *internal = ARENA_ARRAY(b->a, struct str, m->n_internal_only_headers);
    for (size_t i = 0; i < m->n_internal_only_headers; i++)
        internal[i] = str_dup_lower(b->a, str_of(m->internal_only_headers[i]));
    c->internal_only_headers = internal;
    c->internal_only_count = m->n_internal_only_headers;
    c->on_demand = m->vhds != NULL;
    TRANSLATE_HEADER_CHANGES(at, m, c->request_headers, c->response_headers, ok);
    TRANSLATE_OVERRIDES(at, m, &c->overrides, ok);
    b->mirrors = translate_mirrors(b, at, "request_mirror_policies", m->n_request_mirror_policies,
                                   m->request_mirror_policies, &mirrors_ok);
    b->mirror_count = b->mirrors ? m->n_request_mirror_policies : 0;
    ok = config_vhosts(b, at, m) && ok && mirrors_ok;
    config_clusters(b);
    map_release(&b->clusters);
    return ok;
}

bool check_virtual_host(struct conf_cx *cx, const Envoy__Config__Route__V3__VirtualHost *m,
                        struct str table)
{
    struct conf_at at = conf_root(cx);
    struct route_build b = {.a = cx->arena, .body_most = DIRECT_BODY_MOST};
    struct virtual_host *v = ARENA_NEW(b.a, struct virtual_host);
    b.config = ARENA_NEW(b.a, struct route_config);
    b.config->obj.name = table;
    bool ok = translate_vhost(&b, &at, m, v);
    ok = vhost_domains(&b, &at, m, v, route_table_new(b.a)) && ok;
    map_release(&b.clusters);
    return ok;
}

struct route_config *translate_route_config(struct conf_cx *cx,
                                            const Envoy__Config__Route__V3__RouteConfiguration *m)
{
    struct conf_at at = conf_root(cx);
    return translate_route_config_at(cx, &at, m);
}

struct route_config *translate_route_config_at(
    struct conf_cx *cx, const struct conf_at *at,
    const Envoy__Config__Route__V3__RouteConfiguration *m)
{
    struct route_build b = {.a = cx->arena};
    b.config = obj_new_in(cx->arena, sizeof *b.config);
    if (!config_fill(&b, at, m, false)) return NULL;
    b.config->obj.hash = proto_hash(&m->base);
    return b.config;
}

const struct route_config *translate_inline_route_config(
    const struct conf_at *at, const Envoy__Config__Route__V3__RouteConfiguration *m)
{
    struct route_build b = {.a = conf_arena(at)};
    b.config = ARENA_NEW(b.a, struct route_config);
    return config_fill(&b, at, m, true) ? b.config : NULL;
}
