/* Life of clusters on main: set -> (warming ->) active -> updated -> removed. One entry a name
 * keeps what survives updates. */
#include "proxy/upstream/cluster_manager.h"

#include "base/arena.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "base/must.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/dns.h"
#include "proxy/upstream/membership.h"
#include "proxy/upstream/upstream_internal.h"

enum manager_stat {
    MANAGER_ADDED,
    MANAGER_MODIFIED,
    MANAGER_REMOVED,
    MANAGER_UPDATED,
    MANAGER_MERGED,
    MANAGER_MERGE_CANCELLED,
    MANAGER_OUT_OF_WINDOW,
    MANAGER_ACTIVE,
    MANAGER_WARMING,
    MANAGER_STATS
};
static const struct stat_def manager_defs[MANAGER_STATS] = {
    [MANAGER_ADDED] = {"cluster_added", STAT_COUNTER, 0},
    [MANAGER_MODIFIED] = {"cluster_modified", STAT_COUNTER, 0},
    [MANAGER_REMOVED] = {"cluster_removed", STAT_COUNTER, 0},
    [MANAGER_UPDATED] = {"cluster_updated", STAT_COUNTER, 0},
    [MANAGER_MERGED] = {"cluster_updated_via_merge", STAT_COUNTER, 0},
    [MANAGER_MERGE_CANCELLED] = {"update_merge_cancelled", STAT_COUNTER, 0},
    [MANAGER_OUT_OF_WINDOW] = {"update_out_of_merge_window", STAT_COUNTER, 0},
    [MANAGER_ACTIVE] = {"active_clusters", STAT_GAUGE, 0},
    [MANAGER_WARMING] = {"warming_clusters", STAT_GAUGE, 0},
};

struct cluster_entry {
    struct str name;                  /* behind the struct */
    struct cluster *active, *warming; /* a reference on each */
    struct host_set *hosts;           /* of the active one, as published */
    struct load_assignment *la;       /* EDS: last told */
    struct cluster_shared *shared;    /* a reference */
    struct list in_service;           /* struct service.entries */
    struct cluster_manager *cm;
    struct loop_timer stale; /* endpoint_stale_after */
};
/* The EDS clusters that ask for one resource name. */
struct service {
    struct str name; /* behind the struct */
    struct list entries;
};

struct cluster_manager {
    struct runtime *rt;
    struct map entries;  /* struct cluster_entry * */
    struct map services; /* struct service * */
    struct stat_group *stats;
    struct dns *dns; /* made when the first cluster needs it */
    void (*on_active)(void *arg, struct str name);
    void *on_active_arg;
    void (*on_ready)(void *arg);
    void *on_ready_arg;
    size_t warming, static_waiting;
    bool limited; /* runtime overrides limits */
};

/* --- what survives updates
 * ----------------------------------------------------------------------------------------------------
 */
static struct cluster_shared *shared_new(struct runtime *rt, const struct cluster *c)
{
    struct cluster_shared *s = mem_alloc(sizeof(*s));
    s->refs = 1;
    struct sb prefix = {0};
    sb_fmt(&prefix, "cluster.%.*s.", STR_ARG(c->stat_name));
    s->stats = stat_group_get(rt->stats, sb_str(&prefix), cluster_stat_defs, CLUSTER_STAT_COUNT);
    sb_release(&prefix);
    return s;
}

static void shared_unref(struct cluster_shared **sp)
{
    struct cluster_shared *s = *sp;
    *sp = NULL;
    if (!s || --s->refs > 0) return;
    stat_group_unref(&s->stats);
    mem_free(s);
}

static void assignment_drop(struct load_assignment **lp)
{
    struct obj *o = *lp ? &(*lp)->obj : NULL;
    *lp = NULL;
    if (o) obj_unref(&o);
}

static void cluster_on_free(struct obj *o)
{
    struct cluster *c = CONTAINER_OF(o, struct cluster, obj);
    assignment_drop(&c->endpoints);
    shared_unref(&c->shared);
}

static void cluster_drop(struct cluster **cp)
{
    struct obj *o = *cp ? &(*cp)->obj : NULL;
    *cp = NULL;
    if (o) obj_unref(&o);
}

static void hosts_drop(struct host_set **hp)
{
    struct obj *o = *hp ? &(*hp)->obj : NULL;
    *hp = NULL;
    if (o) obj_unref(&o);
}

/* --- EDS: which entries follow a service
 * ---------------------------------------------------------------------------------------- */
static struct str service_name(const struct cluster *c)
{
    return c->eds_service.len > 0 ? c->eds_service : c->obj.name;
}

static void service_leave(struct cluster_manager *cm, struct cluster_entry *e, struct str name)
{
    if (!list_linked(&e->in_service)) return;
    list_remove(&e->in_service);
    struct service *s = map_get(&cm->services, name);
    if (!s || !list_empty(&s->entries)) return;
    map_remove(&cm->services, s->name);
    mem_free(s);
}

static void service_join(struct cluster_manager *cm, struct cluster_entry *e, struct str name)
{
    struct service *s = map_get(&cm->services, name);
    if (!s) {
        s = mem_alloc(sizeof(*s) + name.len + 1);
        memcpy(s + 1, name.ptr, name.len);
        s->name = str_make((char *)(s + 1), name.len);
        list_init(&s->entries);
        map_put(&cm->services, s->name, s);
    }
    list_push_back(&s->entries, &e->in_service);
}

/* --- state
 * --------------------------------------------------------------------------------------------------------------------
 */
static void manager_gauges(struct cluster_manager *cm)
{
    stat_set(cm->stats, MANAGER_ACTIVE, cm->entries.count - cm->warming);
    stat_set(cm->stats, MANAGER_WARMING, cm->warming);
}

static void ready_check(struct cluster_manager *cm)
{
    if (cm->static_waiting > 0 || !cm->on_ready) return;
    void (*fn)(void *) = cm->on_ready;
    cm->on_ready = NULL;
    fn(cm->on_ready_arg);
}

static bool waits_first(const struct cluster_entry *e)
{
    return e->warming && !e->active;
}

/* Replaces the warming version (takes the reference; NULL: none) and keeps the counts right. */
static void warming_set(struct cluster_manager *cm, struct cluster_entry *e, struct cluster *c)
{
    if (waits_first(e)) {
        cm->warming--;
        if (!e->warming->added_via_api) cm->static_waiting--;
    }
    e->warming = c;
    if (waits_first(e)) {
        cm->warming++;
        if (!c->added_via_api) cm->static_waiting++;
    }
}

static void membership_stats(struct cluster_entry *e, bool changed)
{
    struct stat_group *g = e->shared->stats;
    const struct host_set *s = e->hosts;
    if (changed) stat_inc(g, CLUSTER_STAT_MEMBERSHIP_CHANGE);
    stat_set(g, CLUSTER_STAT_MEMBERSHIP_TOTAL, s->host_count);
    stat_set(g, CLUSTER_STAT_MEMBERSHIP_HEALTHY, s->healthy_count);
    stat_set(g, CLUSTER_STAT_MEMBERSHIP_DEGRADED, s->degraded_count);
    stat_set(g, CLUSTER_STAT_MEMBERSHIP_EXCLUDED, s->excluded_count);
    bool dynamic = e->active && (e->active->discovery == CLUSTER_EDS ||
                                 e->active->discovery == CLUSTER_STRICT_DNS);
    if (dynamic)
        stat_set(g, CLUSTER_STAT_MAX_HOST_WEIGHT,
                 s->max_weight); /* Envoy: static clusters leave it at 0 */
}

static void count_matches(struct cluster_entry *e, const struct cluster *c,
                          const struct locality_endpoints *l)
{
    for (size_t i = 0; i < l->count; i++) {
        const struct transport_match *m =
            upstream_socket_match(c, l->v[i].metadata, l->v[i].locality_metadata);
        if (m)
            stat_inc(m->total, 0);
        else
            stat_inc(e->shared->stats, CLUSTER_STAT_DEFAULT_TOTAL_MATCH_COUNT);
    }
}

/* Builds hosts for version c; publishes them when c serves already and they differ. False: nothing
 * differed. */
static bool hosts_apply(struct cluster_manager *cm, struct cluster_entry *e,
                        const struct cluster *c, const struct load_assignment *la, bool force)
{
    bool changed = false, updated = false;
    /* Envoy chooses the transport socket when it makes a host, and it makes one for each endpoint
     * of each update. */
    for (size_t i = 0; i < la->count; i++)
        count_matches(e, c, &la->v[i]);
    struct host_set *now = membership_build(c, la, e->hosts, &changed, &updated);
    if (!updated && !force) {
        hosts_drop(&now);
        return false;
    }
    hosts_drop(&e->hosts);
    e->hosts = now;
    membership_stats(e, changed);
    if (!force) stat_inc(cm->stats, MANAGER_UPDATED);
    runtime_publish(cm->rt, TABLE_HOSTS, e->name, &now->obj);
    return true;
}

static const struct load_assignment no_endpoints = {.overprovisioning = 140};

static void feed_stop(struct cluster_manager *cm, struct cluster *c)
{
    if (!c || !c->feed) return;
    if (c->discovery == CLUSTER_CUSTOM)
        c->custom->stop(c, cm->rt);
    else
        dns_cluster_stop(c);
    c->feed = NULL;
}

/* The warming version becomes the active one with these endpoints. */
static void activate(struct cluster_manager *cm, struct cluster_entry *e,
                     const struct load_assignment *la)
{
    struct cluster *c = e->warming;
    must(c != NULL);
    warming_set(cm, e, NULL);
    feed_stop(cm, e->active);
    breaker_limits_set(c->shared, e->name, c->limits);
    cluster_drop(&e->active);
    e->active = c;
    hosts_apply(cm, e, c, la, true);
    runtime_publish(cm->rt, TABLE_CLUSTERS, e->name, &c->obj);
    manager_gauges(cm);
    if (cm->on_active) cm->on_active(cm->on_active_arg, e->name);
    ready_check(cm);
}

/* Is there a key that overrides a limit? */
static bool runtime_limits(const struct runtime *rt)
{
    struct obj *o = runtime_published(rt, TABLE_RUNTIME, STR(""));
    if (!o) return false;
    const struct runtime_values *v = CONTAINER_OF(o, struct runtime_values, obj);
    struct str key;
    void *value;
    for (size_t it = 0; map_next(&v->by_key, &it, &key, &value);)
        if (str_starts(key, STR("circuit_breakers."))) return true;
    return false;
}

void cluster_manager_runtime_changed(struct cluster_manager *cm)
{
    bool limits = runtime_limits(cm->rt);
    struct str name;
    void *value;
    for (size_t it = 0; (limits || cm->limited) && map_next(&cm->entries, &it, &name, &value);) {
        const struct cluster *c = ((struct cluster_entry *)value)->active;
        if (c) breaker_limits_set(c->shared, name, c->limits);
    }
    cm->limited = limits;
}

/* Starts what a warming version needs; may activate it at once. */
static void warm(struct cluster_manager *cm, struct cluster_entry *e)
{
    struct cluster *c = e->warming;
    switch (c->discovery) {
    case CLUSTER_STATIC:
        activate(cm, e, c->endpoints ? c->endpoints : &no_endpoints);
        assignment_drop(&c->endpoints);
        return;
    case CLUSTER_EDS:
        service_join(cm, e, service_name(c));
        stat_inc(e->shared->stats, CLUSTER_STAT_UPDATE_ATTEMPT); /* the subscription begins */
        if (e->la) activate(cm, e, e->la);
        return;
    case CLUSTER_STRICT_DNS:
    case CLUSTER_LOGICAL_DNS:
        if (!cm->dns) cm->dns = dns_new(cm->rt);
        dns_cluster_start(cm->dns, c);
        return;
    case CLUSTER_CUSTOM:
        if (!c->custom->start(c, cm->rt)) cluster_set_failed(c);
        return;
    case CLUSTER_ORIGINAL_DST: activate(cm, e, &no_endpoints); return;
    }
}

static bool same_service(const struct cluster *a, const struct cluster *b)
{
    return a && b && a->discovery == CLUSTER_EDS && b->discovery == CLUSTER_EDS &&
           str_eq(service_name(a), service_name(b));
}

static struct cluster_entry *entry_new(struct cluster_manager *cm, const struct cluster *c)
{
    struct cluster_entry *e = mem_alloc(sizeof(*e) + c->obj.name.len + 1);
    memcpy(e + 1, c->obj.name.ptr, c->obj.name.len);
    e->name = str_make((char *)(e + 1), c->obj.name.len);
    e->shared = shared_new(cm->rt, c);
    e->cm = cm;
    map_put(&cm->entries, e->name, e);
    return e;
}

/* Forgets endpoints that belong to another service name. */
static void leave_old_service(struct cluster_manager *cm, struct cluster_entry *e,
                              const struct cluster *now)
{
    const struct cluster *was = e->warming ? e->warming : e->active;
    if (!was || was->discovery != CLUSTER_EDS) return;
    service_leave(cm, e, service_name(was));
    if (same_service(was, now)) return;
    assignment_drop(&e->la);
    loop_timer_stop(&e->stale);
}

enum cluster_set_result cluster_manager_set(struct cluster_manager *cm, struct cluster *c)
{
    struct cluster_entry *e = map_get(&cm->entries, c->obj.name);
    c->obj.on_free = cluster_on_free;
    const struct cluster *was = !e ? NULL : e->warming ? e->warming : e->active;
    if (was && was->obj.hash == c->obj.hash && was->added_via_api == c->added_via_api) {
        cluster_drop(&c);
        return CLUSTER_UNCHANGED;
    }
    bool added = e == NULL;
    if (added) e = entry_new(cm, c);
    stat_inc(cm->stats, added ? MANAGER_ADDED : MANAGER_MODIFIED);
    c->shared = e->shared;
    c->shared->refs++;
    c->manager = cm;
    leave_old_service(cm, e, c);
    struct cluster *before = e->warming;
    feed_stop(cm, before);
    warming_set(cm, e, c);
    cluster_drop(&before);
    manager_gauges(cm);
    log_debug(LOG_C_UPSTREAM, "%s cluster %.*s", added ? "add" : "update", STR_ARG(e->name));
    warm(cm, e);
    return added ? CLUSTER_ADDED : CLUSTER_UPDATED;
}

static void entry_free(struct cluster_manager *cm, struct cluster_entry *e)
{
    const struct cluster *c = e->warming ? e->warming : e->active;
    if (c && c->discovery == CLUSTER_EDS) service_leave(cm, e, service_name(c));
    loop_timer_stop(&e->stale);
    feed_stop(cm, e->active);
    feed_stop(cm, e->warming);
    struct cluster *before = e->warming;
    warming_set(cm, e, NULL);
    cluster_drop(&before);
    cluster_drop(&e->active);
    hosts_drop(&e->hosts);
    assignment_drop(&e->la);
    shared_unref(&e->shared);
    mem_free(e);
}

bool cluster_manager_remove(struct cluster_manager *cm, struct str name)
{
    struct cluster_entry *e = map_get(&cm->entries, name);
    if (!e) return false;
    map_remove(&cm->entries, name);
    if (e->active) {
        runtime_publish(cm->rt, TABLE_CLUSTERS, e->name, NULL);
        runtime_publish(cm->rt, TABLE_HOSTS, e->name, NULL);
    }
    log_debug(LOG_C_UPSTREAM, "remove cluster %.*s", STR_ARG(e->name));
    entry_free(cm, e);
    stat_inc(cm->stats, MANAGER_REMOVED);
    manager_gauges(cm);
    ready_check(cm);
    return true;
}

/* --- endpoints
 * ------------------------------------------------------------------------------------------------------------------
 */
/* A new assignment for this entry: activates what warms, else updates what serves. */
static bool entry_endpoints(struct cluster_manager *cm, struct cluster_entry *e,
                            const struct load_assignment *la)
{
    if (e->warming) {
        activate(cm, e, la);
        return true;
    }
    return hosts_apply(cm, e, e->active, la, false);
}

/* Envoy: endpoints that were not told again in time are given up. */
static void entry_stale(struct loop_timer *t)
{
    struct cluster_entry *e = CONTAINER_OF(t, struct cluster_entry, stale);
    stat_inc(e->shared->stats, CLUSTER_STAT_ASSIGNMENT_STALE);
    log_warn(LOG_C_UPSTREAM, "the endpoints of cluster %.*s are stale", STR_ARG(e->name));
    assignment_drop(&e->la);
    if (e->active) (void)hosts_apply(e->cm, e, e->active, &no_endpoints, false);
}

void cluster_manager_endpoints(struct cluster_manager *cm, struct str service,
                               struct load_assignment *la)
{
    struct service *s = map_get(&cm->services, service);
    if (s) {
        LIST_FOREACH_SAFE (&s->entries, it, next) {
            struct cluster_entry *e = CONTAINER_OF(it, struct cluster_entry, in_service);
            assignment_drop(&e->la);
            obj_ref(&la->obj);
            e->la = la;
            struct stat_group *g = e->shared->stats;
            stat_inc(g, CLUSTER_STAT_UPDATE_ATTEMPT);
            stat_inc(g, CLUSTER_STAT_UPDATE_SUCCESS);
            stat_set(g, CLUSTER_STAT_VERSION, hash_xxh64(la->obj.version, 0));
            loop_timer_stop(&e->stale);
            if (la->stale_after_us > 0)
                loop_timer_start(cm->rt->main, &e->stale, la->stale_after_us, entry_stale);
            if (!entry_endpoints(cm, e, la)) stat_inc(g, CLUSTER_STAT_UPDATE_NO_REBUILD);
        }
    }
    assignment_drop(&la);
}

void cluster_manager_endpoints_missing(struct cluster_manager *cm, struct str service)
{
    struct service *s = map_get(&cm->services, service);
    if (!s) return;
    LIST_FOREACH_SAFE (&s->entries, it, next) {
        struct cluster_entry *e = CONTAINER_OF(it, struct cluster_entry, in_service);
        if (e->warming) activate(cm, e, e->la ? e->la : &no_endpoints);
    }
}

void cluster_manager_eds_stat(struct cluster_manager *cm, struct str service,
                              enum cluster_eds_event what)
{
    static const enum cluster_stat which[] = {
        [CLUSTER_EDS_ATTEMPT] = CLUSTER_STAT_UPDATE_ATTEMPT,
        [CLUSTER_EDS_FAILURE] = CLUSTER_STAT_UPDATE_FAILURE,
        [CLUSTER_EDS_REJECTED] = CLUSTER_STAT_UPDATE_REJECTED,
        [CLUSTER_EDS_TIMEOUT] = CLUSTER_STAT_INIT_FETCH_TIMEOUT,
    };
    struct service *s = map_get(&cm->services, service);
    if (!s) return;
    LIST_FOREACH (&s->entries, it)
        stat_inc(CONTAINER_OF(it, struct cluster_entry, in_service)->shared->stats, which[what]);
}

void cluster_set_hosts(struct cluster *c, struct load_assignment *la)
{
    struct cluster_manager *cm = c->manager;
    struct cluster_entry *e = map_get(&cm->entries, c->obj.name);
    if (e && (e->warming == c || (e->active == c && !e->warming))) {
        entry_endpoints(cm, e, la);
    } else if (e && e->active == c) {
        hosts_apply(cm, e, c, la, false);
    }
    assignment_drop(&la);
}

void cluster_set_failed(struct cluster *c)
{
    struct cluster_manager *cm = c->manager;
    struct cluster_entry *e = map_get(&cm->entries, c->obj.name);
    if (e && e->warming == c) activate(cm, e, &no_endpoints);
}

/* --- the rest
 * -------------------------------------------------------------------------------------------------------------------
 */
struct cluster_manager *cluster_manager_new(struct runtime *rt)
{
    struct cluster_manager *cm = mem_alloc(sizeof(*cm));
    cm->rt = rt;
    rt->clusters = cm;
    cm->stats = stat_group_get(rt->stats, STR("cluster_manager."), manager_defs, MANAGER_STATS);
    runtime_add_hooks(rt, &upstream_worker_hooks);
    return cm;
}

void cluster_manager_free(struct cluster_manager **cmp)
{
    struct cluster_manager *cm = *cmp;
    *cmp = NULL;
    if (!cm) return;
    cm->rt->clusters = NULL;
    size_t it = 0;
    void *value;
    while (map_next(&cm->entries, &it, NULL, &value)) {
        struct cluster_entry *e = value;
        map_remove(&cm->entries, e->name);
        entry_free(cm, e);
    }
    map_release(&cm->entries);
    map_release(&cm->services);
    dns_free(&cm->dns);
    stat_group_unref(&cm->stats);
    mem_free(cm);
}

void cluster_manager_on_active(struct cluster_manager *cm, void (*fn)(void *arg, struct str name),
                               void *arg)
{
    cm->on_active = fn;
    cm->on_active_arg = arg;
}

void cluster_manager_on_static_ready(struct cluster_manager *cm, void (*fn)(void *arg), void *arg)
{
    cm->on_ready = fn;
    cm->on_ready_arg = arg;
    ready_check(cm);
}

void cluster_manager_each(struct cluster_manager *cm,
                          void (*fn)(void *arg, const struct cluster_view *v), void *arg)
{
    size_t it = 0;
    void *value;
    while (map_next(&cm->entries, &it, NULL, &value)) {
        const struct cluster_entry *e = value;
        struct cluster_view v = {e->name, e->active, e->warming, e->hosts};
        fn(arg, &v);
    }
}

const struct cluster *cluster_manager_find(struct cluster_manager *cm, struct str name)
{
    const struct cluster_entry *e = map_get(&cm->entries, name);
    return !e ? NULL : e->active ? e->active : e->warming;
}

const struct cluster *cluster_manager_active(struct cluster_manager *cm, struct str name)
{
    const struct cluster_entry *e = map_get(&cm->entries, name);
    return e ? e->active : NULL;
}

bool cluster_manager_warming(struct cluster_manager *cm, struct str name)
{
    const struct cluster_entry *e = map_get(&cm->entries, name);
    return e && e->warming;
}

const struct host_set *cluster_manager_hosts(struct cluster_manager *cm, struct str name)
{
    const struct cluster_entry *e = map_get(&cm->entries, name);
    return e ? e->hosts : NULL;
}
