/* Virtual hosts by themselves (VHDS, delta only). They belong to the route table whose name stands
 * before the last slash of theirs: what was accepted of them is laid beside the table's own hosts,
 * and the whole is published as one. A request whose host no table knows may ask for it
 * (on_demand.c). */
#include <stdlib.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "proxy/config/route.h"
#include "xds/source.h"
#include "xds/xds_internal.h"

typedef Envoy__Config__Route__V3__VirtualHost VirtualHost;
typedef Envoy__Config__Route__V3__RouteConfiguration RouteConfiguration;

/* The subscription of one route table; hangs on its resource. */
struct vhds {
    struct resource *route;
    struct source *source;
    struct stat_group *stats;
    struct list link;   /* xds.vhds */
    struct map hosts;   /* name -> struct resource *: accepted virtual hosts */
    struct map ids;     /* name or alias -> struct resource * */
    struct map domains; /* lower case -> whose it is: a virtual host, or the table itself */
    struct loop_timer fetch;
    struct str merged; /* the table with its hosts, packed for dumps; heap; empty: to be made */
    bool done, dirty;
};
/* What a virtual host is known by; hangs on its resource. */
struct vhost_names {
    struct vhds *in;
    struct str *ids, *domains; /* heap */
    size_t id_count, domain_count;
};

/* --- names
 * ---------------------------------------------------------------------------------------------
 */

/* The subscription that a virtual host's name belongs to; NULL: nobody's. */
static struct vhds *vhds_of_name(const struct xds *x, struct str name)
{
    struct str table, host;
    if (!str_cut_last(name, '/', &table, &host)) return NULL;
    const struct resource *route = resource_find(x, XDS_ROUTE, table);
    return route ? route->vhds : NULL;
}

static void names_free(struct str *v, size_t count)
{
    for (size_t i = 0; i < count; i++)
        resource_keep(&v[i], STR_NONE);
    mem_free(v);
}

static void ids_drop(struct resource *r, struct vhost_names *n)
{
    for (size_t i = 0; i < n->id_count; i++)
        if (map_get(&n->in->ids, n->ids[i]) == r) (void)map_remove(&n->in->ids, n->ids[i]);
    names_free(n->ids, n->id_count);
    n->ids = NULL;
    n->id_count = 0;
}

static void domains_drop(struct resource *r, struct vhost_names *n)
{
    for (size_t i = 0; i < n->domain_count; i++)
        if (map_get(&n->in->domains, n->domains[i]) == r)
            (void)map_remove(&n->in->domains, n->domains[i]);
    names_free(n->domains, n->domain_count);
    n->domains = NULL;
    n->domain_count = 0;
}

/* Leaves the table. */
static void vhost_leave(struct resource *r)
{
    struct vhost_names *n = r->vhost;
    r->vhost = NULL;
    if (!n) return;
    n->in->dirty = true;
    (void)map_remove(&n->in->hosts, r->name);
    ids_drop(r, n);
    domains_drop(r, n);
    mem_free(n);
}

static void lower(struct str *s)
{
    char *p = (char *)(uintptr_t)s->ptr; /* our own copy */
    for (size_t i = 0; i < s->len; i++)
        if (p[i] >= 'A' && p[i] <= 'Z') p[i] = (char)(p[i] + ('a' - 'A'));
}

static struct str *domains_of(const VirtualHost *m)
{
    struct str *v = mem_array(m->n_domains, sizeof *v);
    for (size_t i = 0; i < m->n_domains; i++) {
        resource_keep(&v[i], str_of(m->domains[i]));
        lower(&v[i]);
    }
    return v;
}

void vhds_note_ids(struct resource *r, const struct mux_resource *m)
{
    struct vhost_names *n = r->vhost;
    if (!n) return;
    ids_drop(r, n);
    n->ids = mem_array(m->alias_count + 1, sizeof *n->ids);
    resource_keep(&n->ids[n->id_count++], r->name);
    for (size_t i = 0; i < m->alias_count; i++)
        resource_keep(&n->ids[n->id_count++], str_of(m->aliases[i]));
    for (size_t i = 0; i < n->id_count; i++)
        (void)map_put(&n->in->ids, n->ids[i], r);
}

/* --- the table with its hosts
 * ---------------------------------------------------------------------------
 */

static int host_order(const void *x, const void *y)
{
    return str_cmp((*(struct resource *const *)x)->name, (*(struct resource *const *)y)->name);
}

/* The accepted hosts, by name. */
static struct resource **vhds_hosts(const struct vhds *v, struct arena *a)
{
    struct resource **all = ARENA_ARRAY(a, struct resource *, v->hosts.count);
    size_t it = 0, n = 0;
    struct str key;
    void *value;
    while (map_next(&v->hosts, &it, &key, &value))
        all[n++] = value;
    if (n > 1) qsort(all, n, sizeof all[0], host_order);
    return all;
}

const struct Envoy__Config__Route__V3__RouteConfiguration *vhds_merge(
    const struct resource *route, const struct Envoy__Config__Route__V3__RouteConfiguration *m,
    struct arena *a)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    const struct vhds *v = route->vhds;
    if (!v || !v->hosts.count) return m;
    struct errors unused = {.arena = a};
    struct resource **hosts = vhds_hosts(v, a);
    RouteConfiguration *all = arena_copy(a, m, sizeof *m);
    all->virtual_hosts = ARENA_ARRAY(a, VirtualHost *, m->n_virtual_hosts + v->hosts.count);
    if (m->n_virtual_hosts)
        memcpy(all->virtual_hosts, m->virtual_hosts, m->n_virtual_hosts * sizeof(VirtualHost *));
    for (size_t i = 0; i < v->hosts.count; i++) {
        VirtualHost *one =
            (VirtualHost *)proto_unpack(a, &envoy__config__route__v3__virtual_host__descriptor,
                                        hosts[i]->bytes, &lenient, NULL, &unused);
        if (one) all->virtual_hosts[all->n_virtual_hosts++] = one; /* it was read before */
    }
    return all;
}

static const RouteConfiguration *vhds_table(const struct vhds *v, struct arena *a)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors unused = {.arena = a};
    const RouteConfiguration *m =
        (const void *)proto_unpack(a, &envoy__config__route__v3__route_configuration__descriptor,
                                   v->route->bytes, &lenient, NULL, &unused);
    return m ? vhds_merge(v->route, m, a) : NULL;
}

struct str vhds_bytes(struct resource *route)
{
    struct vhds *v = route->kind == XDS_ROUTE ? route->vhds : NULL;
    if (!v || !v->hosts.count) return route->bytes;
    if (v->merged.len) return v->merged;
    struct arena *a = arena_new("decode", 0);
    const RouteConfiguration *m = vhds_table(v, a);
    if (m) resource_keep(&v->merged, proto_pack(a, &m->base));
    arena_free(&a);
    return v->merged;
}

static void vhds_rebuild(struct vhds *v)
{
    struct xds *x = v->route->x;
    struct errors errors = {.arena = arena_new("decode", 0)};
    struct conf_cx cx = {.arena = arena_new("routes", 0),
                         .errors = &errors,
                         .registry = x->env.registry,
                         .rt = x->env.rt,
                         .added_via_api = true,
                         .opts = &x->env.dynamic_opts};
    v->dirty = false;
    resource_keep(&v->merged, STR_NONE);
    const RouteConfiguration *m = vhds_table(v, errors.arena);
    struct route_config *c = m ? translate_route_config(&cx, m) : NULL;
    if (c) {
        route_take(v->route, c);
    } else {
        struct str why = errors_text(&errors, errors.arena, STR_NONE);
        log_error(
            LOG_C_ROUTER,
            "RouteConfiguration \"%.*s\" cannot take its virtual hosts, the old ones serve on: %.*s",
            STR_ARG(v->route->name), STR_ARG(why));
        arena_free(&cx.arena);
    }
    arena_free(&errors.arena);
}

/* --- following a table
 * --------------------------------------------------------------------------------
 */

static void vhds_timed_out(struct loop_timer *t)
{
    struct vhds *v = CONTAINER_OF(t, struct vhds, fetch);
    sub_count(v->stats, SUB_INIT_FETCH_TIMEOUT);
    v->done = true;
    store_wake(v->route->x);
}

bool vhds_ready(const struct resource *route)
{
    return !route->vhds || route->vhds->done;
}

/* Drops every virtual host of the table and every name that was asked for. */
static void vhds_drop_names(struct vhds *v)
{
    struct xds *x = v->route->x;
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&x->store[XDS_VIRTUAL_HOST], &it, &key, &value)) {
        struct resource *r = value;
        if (vhds_of_name(x, r->name) != v) continue;
        demand_answer(x, ON_DEMAND_VIRTUAL_HOST, r->name, false);
        demand_unwatch(r);
        vhost_leave(r);
        r->present = false;
        resource_keep(&r->error, STR_NONE);
        resource_forget(r);
    }
}

/* The table's own entries in `domains`, with their keys. */
static void vhds_drop_domains(struct vhds *v)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&v->domains, &it, &key, &value)) {
        struct str own = key;
        if (value != v->route) continue;
        (void)map_remove(&v->domains, key);
        resource_keep(&own, STR_NONE);
    }
}

void vhds_free(struct resource *route)
{
    struct vhds *v = route->vhds;
    route->vhds = NULL;
    if (!v) return;
    vhds_drop_domains(v);
    list_remove(&v->link);
    loop_timer_stop(&v->fetch);
    stat_group_unref(&v->stats);
    map_release(&v->hosts);
    map_release(&v->ids);
    map_release(&v->domains);
    resource_keep(&v->merged, STR_NONE);
    mem_free(v);
}

void vhost_free(struct resource *r)
{
    struct vhost_names *n = r->vhost;
    r->vhost = NULL;
    if (!n) return;
    names_free(n->ids, n->id_count);
    names_free(n->domains, n->domain_count);
    mem_free(n);
}

void vhds_end(struct resource *route)
{
    if (!route->vhds) return;
    vhds_drop_names(route->vhds);
    source_unwatch(route->vhds->source, XDS_VIRTUAL_HOST, STR_NONE);
    vhds_free(route);
}

struct source *vhds_source(struct resource *route,
                           const struct Envoy__Config__Route__V3__RouteConfiguration *m,
                           struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx), at = conf_field(&root, "vhds"),
                   source_at = conf_field(&at, "config_source");
    struct source *s = source_get(route->x, XDS_VIRTUAL_HOST, m->vhds->config_source, &source_at);
    if (!s || s->delta) return s;
    conf_fail(
        &at,
        "vhds: only 'DELTA_GRPC' or 'ADS' (which uses Delta xDS) is supported as a config source.");
    return NULL;
}

/* "http.web.rds.<name>." of the table's subscription becomes "http.web.rds.vhds.<name>.". */
static struct stat_group *vhds_stats(const struct resource *route)
{
    if (!route->stats) return NULL;
    struct str prefix = stat_group_prefix(route->stats);
    if (prefix.len < route->name.len + 1) return NULL;
    struct arena *a = arena_new("scratch", 0);
    prefix =
        str_fmt(a, "%.*svhds.%.*s.", STR_ARG(str_sub(prefix, 0, prefix.len - route->name.len - 1)),
                STR_ARG(route->name));
    struct stat_group *g =
        stat_group_get(route->x->env.rt->stats, prefix, vhds_stat_defs, ROUTE_STAT_COUNT);
    arena_free(&a);
    return g;
}

static void vhds_begin(struct resource *route, struct source *s,
                       const Envoy__Config__Core__V3__ConfigSource *cs)
{
    struct vhds *v = mem_alloc(sizeof *v);
    uint64_t wait_us = xds_fetch_timeout(cs);
    v->route = route;
    v->source = s;
    v->stats = vhds_stats(route);
    stat_inc(v->stats, SUB_UPDATE_ATTEMPT);
    route->vhds = v;
    list_push_back(&route->x->vhds, &v->link);
    if (wait_us) loop_timer_start(xds_loop(route->x), &v->fetch, wait_us, vhds_timed_out);
    source_watch(s, XDS_VIRTUAL_HOST, STR_NONE);
}

/* Whose each domain is, from the beginning. */
static void vhds_note_domains(struct vhds *v, const RouteConfiguration *m)
{
    struct arena *a = arena_new("scratch", 0);
    vhds_drop_domains(v);
    for (size_t i = 0; i < m->n_virtual_hosts; i++) {
        for (size_t k = 0; k < m->virtual_hosts[i]->n_domains; k++) {
            struct str name = str_dup_lower(a, str_of(m->virtual_hosts[i]->domains[k])), copy = {0};
            if (map_get(&v->domains, name)) continue;
            resource_keep(&copy, name);
            (void)map_put(&v->domains, copy, v->route);
        }
    }
    arena_free(&a);
}

void vhds_follow(struct resource *route,
                 const struct Envoy__Config__Route__V3__RouteConfiguration *m, struct source *s)
{
    if (route->vhds && route->vhds->source != s) vhds_end(route);
    if (!s) return;
    if (!route->vhds) vhds_begin(route, s, m->vhds->config_source);
    resource_keep(&route->vhds->merged, STR_NONE);
    vhds_note_domains(route->vhds, m);
}

/* --- a response
 * ---------------------------------------------------------------------------------------
 */

static bool vhds_wants(const struct xds *x, struct str name)
{
    return vhds_of_name(x, name) != NULL;
}

/* The control plane says that there is none of this name. */
static void vhost_absent(struct xds *x, struct str name)
{
    struct resource *r = resource_find(x, XDS_VIRTUAL_HOST, name);
    demand_answer(x, ON_DEMAND_VIRTUAL_HOST, name, false);
    if (!r || r->present) return;
    demand_unwatch(r);
    resource_forget(r);
}

void vhds_absent(struct xds *x, const struct mux_resource *m)
{
    vhost_absent(x, m->name);
    for (size_t i = 0; i < m->alias_count; i++)
        vhost_absent(x, str_of(m->aliases[i]));
}

/* Whoever waits for a host that the published table has now. */
void vhds_published(struct resource *route)
{
    if (route->vhds) demand_answer_known(route->x, ON_DEMAND_VIRTUAL_HOST, &route->vhds->ids);
}

void vhds_settle(struct xds *x, struct source *s, const struct mux_update *u, bool refused,
                 uint64_t took_us)
{
    LIST_FOREACH_SAFE (&x->vhds, it, next) {
        struct vhds *v = CONTAINER_OF(it, struct vhds, link);
        if (v->source != s) continue;
        loop_timer_stop(&v->fetch);
        v->done = true;
        if (refused) {
            sub_count(v->stats, SUB_UPDATE_REJECTED);
        } else {
            sub_updated(v->stats, u->version, loop_wall_us(xds_loop(x)), took_us);
        }
        if (!v->dirty) {
            if (!v->route->pending) vhds_published(v->route); /* new aliases of what is known */
            continue;
        }
        stat_inc(v->stats, SUB_CONFIG_RELOAD);
        if (v->route->stats) stat_inc(v->route->stats, SUB_CONFIG_RELOAD);
        resource_keep(&v->route->version, u->version);
        v->route->updated_wall_us = loop_wall_us(xds_loop(x));
        vhds_rebuild(v);
    }
    store_wake(x);
}

/* --- a request asks
 * -----------------------------------------------------------------------------------
 */

void vhds_asked(struct xds *x, struct on_demand_call *call)
{
    const struct on_demand_question *q = on_demand_question(call);
    struct resource *route = resource_find(x, XDS_ROUTE, q->name);
    struct vhds *v = route ? route->vhds : NULL;
    if (!v) {
        on_demand_answer(call, false);
        return;
    }
    struct arena *a = arena_new("scratch", 0);
    struct str id = str_fmt(a, "%.*s/%.*s", STR_ARG(q->name), STR_ARG(q->key));
    if (map_get(&v->ids, id) && !route->pending) {
        on_demand_answer(call, true);
    } else {
        struct resource *r = resource_get(x, XDS_VIRTUAL_HOST, id);
        bool known = r->watchers || map_get(&v->ids, id);
        if (!known && !demand_full(x)) {
            demand_watch(r, v->source);
            known = true;
        }
        if (known) {
            demand_wait(x, id, call);
        } else {
            resource_forget(r);
            on_demand_answer(call, false);
        }
    }
    arena_free(&a);
}

/* --- the kind
 * ------------------------------------------------------------------------------------------
 */

static bool vhost_domains_free(const struct resource *r, const struct vhds *v, const VirtualHost *m,
                               struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx);
    bool ok = true;
    for (size_t i = 0; i < m->n_domains; i++) {
        struct conf_at at = conf_index(&root, "domains", i);
        const void *owner =
            map_get(&v->domains, str_dup_lower(cx->errors->arena, str_of(m->domains[i])));
        if (!owner || owner == r) continue;
        ok = conf_fail(
            &at,
            "Only unique values for domains are permitted. Duplicate entry of domain %s in route %.*s",
            m->domains[i], STR_ARG(v->route->name));
    }
    return ok;
}

static bool kind_virtual_host_accept(struct resource *r, const ProtobufCMessage *msg,
                                     struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx);
    const VirtualHost *m = (const VirtualHost *)msg;
    struct vhds *v = vhds_of_name(r->x, r->name);
    if (!v) return conf_fail(&root, "no route table takes it");
    if (!check_virtual_host(cx, m, v->route->name)) return false;
    if (!vhost_domains_free(r, v, m, cx)) return false;
    if (!r->vhost) {
        r->vhost = mem_alloc(sizeof *r->vhost);
        r->vhost->in = v;
    }
    domains_drop(r, r->vhost);
    r->vhost->domains = domains_of(m);
    r->vhost->domain_count = m->n_domains;
    for (size_t i = 0; i < m->n_domains; i++)
        (void)map_put(&v->domains, r->vhost->domains[i], r);
    (void)map_put(&v->hosts, r->name, r);
    v->dirty = true;
    arena_free(&cx->arena);
    return true;
}

static void kind_virtual_host_remove(struct resource *r)
{
    vhost_leave(r);
}

static bool kind_virtual_host_ready(struct resource *r)
{
    (void)r; /* waits for nothing */
    return true;
}

static void kind_virtual_host_missing(struct resource *r)
{
    demand_answer(r->x, ON_DEMAND_VIRTUAL_HOST, r->name, false);
    demand_unwatch(r);
}

/* Nothing better will come soon: requests that wait for it get no route. */
static void kind_virtual_host_refused(struct resource *r, const struct mux_resource *m)
{
    demand_answer(r->x, ON_DEMAND_VIRTUAL_HOST, r->name, false);
    for (size_t i = 0; i < m->alias_count; i++)
        demand_answer(r->x, ON_DEMAND_VIRTUAL_HOST, str_of(m->aliases[i]), false);
}

const struct kind_ops kind_virtual_host = {
    .type_url = "type.googleapis.com/envoy.config.route.v3.VirtualHost",
    .label = "VirtualHost",
    .desc = &envoy__config__route__v3__virtual_host__descriptor,
    .accept = kind_virtual_host_accept,
    .remove = kind_virtual_host_remove,
    .ready = kind_virtual_host_ready,
    .missing = kind_virtual_host_missing,
    .refused = kind_virtual_host_refused,
    .wants = vhds_wants,
};
