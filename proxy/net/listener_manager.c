/* Main's listeners: sockets by address, what changed in an update, the drain of what was replaced.
 * What the workers are told is in listener_orders.c. */
#include "proxy/net/listener_manager.h"

#include <string.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "proxy/net/listener_manager_internal.h"

static const struct stat_def manager_stat_defs[MANAGER_STAT_COUNT] = {
    [MANAGER_ADDED] = {"listener_added", STAT_COUNTER, 0},
    [MANAGER_CREATE_FAILURE] = {"listener_create_failure", STAT_COUNTER, 0},
    [MANAGER_CREATE_SUCCESS] = {"listener_create_success", STAT_COUNTER, 0},
    [MANAGER_IN_PLACE] = {"listener_in_place_updated", STAT_COUNTER, 0},
    [MANAGER_MODIFIED] = {"listener_modified", STAT_COUNTER, 0},
    [MANAGER_REMOVED] = {"listener_removed", STAT_COUNTER, 0},
    [MANAGER_STOPPED] = {"listener_stopped", STAT_COUNTER, 0},
    [MANAGER_CHAINS_DRAINING] = {"total_filter_chains_draining", STAT_GAUGE, 0},
    [MANAGER_ACTIVE] = {"total_listeners_active", STAT_GAUGE, 0},
    [MANAGER_DRAINING] = {"total_listeners_draining", STAT_GAUGE, 0},
    [MANAGER_WARMING] = {"total_listeners_warming", STAT_GAUGE, 0},
    [MANAGER_PINNED] = {"workers_pinned", STAT_GAUGE, 0},
    [MANAGER_STARTED] = {"workers_started", STAT_GAUGE, 0},
};
enum { DRAIN_DEFAULT_US = 600 * 1000 * 1000 };

/* --- workers' hooks
 * ------------------------------------------------------------------------------------ */

static void net_start(struct worker *w)
{
    (void)net_worker(w);
}

static void net_stop(struct worker *w)
{
    struct net_worker *n = w->slot[WORKER_NET];
    worker_listeners_end(w);
    /* Connections and filter chains free themselves in work for the end of the turn. */
    while (n && (!list_empty(&n->conns) || atomic_load_explicit(&n->open, memory_order_relaxed))) {
        worker_conns_end(w); /* a failed request may have begun another one */
        loop_turn(w->loop, false);
    }
    loop_turn(w->loop, false);
    if (n) tls_worker_release(n);
    if (n) relay_worker_release(n);
    if (n) map_release(&n->listeners);
    if (n) mem_free(n->datagrams);
    mem_free(n);
    w->slot[WORKER_NET] = NULL;
}

static const struct worker_hooks net_hooks = {.start = net_start, .stop = net_stop};

struct listener_manager *listener_manager_new(struct runtime *rt)
{
    struct listener_manager *m = mem_alloc(sizeof(*m));
    m->rt = rt;
    m->drain_us = DRAIN_DEFAULT_US;
    list_init(&m->order);
    list_init(&m->drains);
    m->stats =
        stat_group_get(rt->stats, STR("listener_manager."), manager_stat_defs, MANAGER_STAT_COUNT);
    runtime_add_hooks(rt, &net_hooks);
    return m;
}

static void managed_free(struct managed *l)
{
    for (size_t i = 0; i < l->bound_count; i++)
        bound_unref(&l->bound[i]);
    mem_free(l->bound);
    struct obj *o = &l->conf->obj;
    obj_unref(&o);
    stat_group_unref(&l->stats);
    list_remove(&l->link);
    mem_free(l);
}

static void draining_free(struct draining *d)
{
    loop_timer_stop(&d->timer);
    list_remove(&d->link);
    stat_group_unref(&d->stats);
    mem_free(d);
}

void listener_manager_free(struct listener_manager **mp)
{
    struct listener_manager *m = *mp;
    *mp = NULL;
    if (!m) return;
    LIST_FOREACH_SAFE (&m->order, it, next) {
        managed_free(CONTAINER_OF(it, struct managed, link));
    }
    LIST_FOREACH_SAFE (&m->drains, it, next) {
        draining_free(CONTAINER_OF(it, struct draining, link));
    }
    loop_timer_stop(&m->drain.timer);
    map_release(&m->by_name);
    stat_group_unref(&m->stats);
    mem_free(m);
}

uint64_t listener_manager_drain_us(const struct listener_manager *m)
{
    return m->drain_us;
}

void listener_manager_set_drain(struct listener_manager *m, uint64_t drain_us,
                                enum listener_drain_strategy how)
{
    m->drain_us = drain_us;
    m->immediate = how == LISTENER_DRAIN_IMMEDIATE;
}

/* --- gauges of what drains
 * ------------------------------------------------------------------------------- */

static void drain_over(struct loop_timer *t)
{
    struct draining *d = CONTAINER_OF(t, struct draining, timer);
    stat_sub(d->manager->stats, d->gauge, d->count);
    draining_free(d);
}

static void drain_begin(struct listener_manager *m, enum manager_stat gauge, uint64_t count,
                        struct stat_group *stats)
{
    if (count == 0 || !m->started) return;
    struct draining *d = mem_alloc(sizeof(*d));
    d->manager = m;
    d->gauge = gauge;
    d->count = count;
    d->stats = stats ? stat_group_ref(stats) : NULL;
    list_push_back(&m->drains, &d->link);
    stat_add(m->stats, gauge, count);
    loop_timer_start(m->rt->main, &d->timer, m->drain_us, drain_over);
}

/* --- sockets of an update
 * -------------------------------------------------------------------------------------- */

static struct managed *find(const struct listener_manager *m, struct str name)
{
    return map_get(&m->by_name, name);
}

/* Envoy: two listeners may not share an address (port 0 is none). */
static bool check_addresses(const struct listener_manager *m, const struct listener_conf *conf,
                            struct errors *e)
{
    if (!conf->base->bind_to_port) return true;
    LIST_FOREACH (&m->order, it) {
        const struct managed *other = CONTAINER_OF(it, struct managed, link);
        if (str_eq(other->conf->obj.name, conf->obj.name) || !other->conf->base->bind_to_port)
            continue;
        for (size_t i = 0; i < conf->base->address_count; i++) {
            const struct addr *a = &conf->base->addresses[i].addr;
            if (addr_is_ip(a) && addr_port(a) == 0) continue;
            for (size_t k = 0; k < other->conf->base->address_count; k++) {
                if (!addr_eq(a, &other->conf->base->addresses[k].addr) ||
                    !other->conf->base->udp != !conf->base->udp)
                    continue;
                char text[ADDR_TEXT_MAX];
                (void)addr_format(a, text);
                return errors_add(
                    e, STR_NONE,
                    "error adding listener: '%.*s' has duplicate address '%s' as existing listener",
                    STR_ARG(conf->obj.name), text);
            }
        }
    }
    return true;
}

/* A socket that the listener has for the same configured address. */
static struct bound *bound_kept(const struct managed *old, const struct listener_conf *conf,
                                size_t i)
{
    const struct listener_base *base = conf->base;
    if (!old || old->conf->base->reuse_port != base->reuse_port ||
        !old->conf->base->udp != !base->udp || old->conf->base->bind_to_port != base->bind_to_port)
        return NULL;
    for (size_t k = 0; k < old->bound_count; k++) {
        if (!old->bound[k] ||
            !addr_eq(&old->conf->base->addresses[k].addr, &base->addresses[i].addr))
            continue;
        /* With port 0 several addresses look alike: only the one at the same place is meant. */
        if (addr_port(&base->addresses[i].addr) == 0 && k != i) continue;
        old->bound[k]->holders++;
        return old->bound[k];
    }
    return NULL;
}

static void unref_all(struct bound **v, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bound_unref(&v[i]);
    mem_free(v);
}

static struct bound **bind_all(struct listener_manager *m, const struct managed *old,
                               const struct listener_conf *conf, struct errors *e)
{
    size_t count = conf->base->address_count;
    struct bound **v = mem_array(count, sizeof(struct bound *));
    for (size_t i = 0; i < count && conf->base->bind_to_port; i++) {
        int err = 0;
        v[i] = bound_kept(old, conf, i);
        if (!v[i]) v[i] = bound_new(m->rt, conf->base, &conf->base->addresses[i], &err);
        if (v[i]) continue;
        char text[ADDR_TEXT_MAX];
        (void)addr_format(&conf->base->addresses[i].addr, text);
        (void)errors_add(e, STR_NONE, "cannot bind '%s': %s", text, strerrordesc_np(-err));
        unref_all(v, count);
        return NULL;
    }
    return v;
}

/* --- what an update leaves as it was
 * ------------------------------------------------------------------------------ */

static struct filter_chain_conf *chain_kept(const struct listener_conf *old, uint64_t hash)
{
    for (size_t i = 0; i < old->chain_count; i++) {
        if (old->chains[i]->obj.hash == hash) return old->chains[i];
    }
    return old->default_chain && old->default_chain->obj.hash == hash ? old->default_chain : NULL;
}

static void chain_share(struct filter_chain_conf **now, const struct listener_conf *old)
{
    struct filter_chain_conf *kept = chain_kept(old, (*now)->obj.hash);
    if (!kept) return;
    (void)obj_ref(&kept->obj);
    struct obj *made = &(*now)->obj;
    *now = kept;
    obj_unref(&made);
}

static bool has_chain(const struct listener_conf *l, const struct filter_chain_conf *c)
{
    for (size_t i = 0; i < l->chain_count; i++) {
        if (l->chains[i] == c) return true;
    }
    return l->default_chain == c;
}

/* Only filter chains differ: the base and equal chains stay the old objects. Gives back how many
 * chains went. */
static uint64_t share_with(struct listener_conf *now, const struct listener_conf *old)
{
    struct obj *made = &now->base->obj;
    (void)obj_ref(&old->base->obj);
    now->base = old->base;
    obj_unref(&made);
    for (size_t i = 0; i < now->chain_count; i++)
        chain_share(&now->chains[i], old);
    if (now->default_chain) chain_share(&now->default_chain, old);
    uint64_t gone = 0;
    for (size_t i = 0; i < old->chain_count; i++)
        gone += !has_chain(now, old->chains[i]);
    if (old->default_chain) gone += !has_chain(now, old->default_chain);
    return gone;
}

/* --- what xds and server ask
 * ---------------------------------------------------------------------------------------- */

static bool refuse(struct listener_manager *m, struct listener_conf *conf)
{
    stat_inc(m->stats, MANAGER_CREATE_FAILURE);
    struct obj *o = &conf->obj;
    obj_unref(&o);
    return false;
}

static void managed_add(struct listener_manager *m, struct listener_conf *conf,
                        struct bound **bound)
{
    struct managed *l = mem_alloc(sizeof(*l));
    l->conf = conf;
    l->bound = bound;
    l->bound_count = conf->base->address_count;
    l->stats = stat_group_get(m->rt->stats, conf->base->stat_prefix, listener_stat_defs,
                              LISTENER_STAT_COUNT);
    list_push_back(&m->order, &l->link);
    (void)map_put(&m->by_name, conf->obj.name, l);
    stat_inc(m->stats, MANAGER_ADDED);
    stat_inc(m->stats, MANAGER_ACTIVE);
    order_set(m, l);
}

static void managed_update(struct listener_manager *m, struct managed *l,
                           struct listener_conf *conf, struct bound **bound)
{
    struct listener_conf *old = l->conf;
    if (old->base->obj.hash == conf->base->obj.hash) {
        drain_begin(m, MANAGER_CHAINS_DRAINING, share_with(conf, old), NULL);
        stat_inc(m->stats, MANAGER_IN_PLACE);
    } else {
        drain_begin(m, MANAGER_DRAINING, 1, l->stats);
        struct stat_group *stats = l->stats;
        l->stats = stat_group_get(m->rt->stats, conf->base->stat_prefix, listener_stat_defs,
                                  LISTENER_STAT_COUNT);
        stat_group_unref(&stats);
    }
    struct bound **old_bound = l->bound;
    size_t old_count = l->bound_count;
    l->conf = conf;
    l->bound = bound;
    l->bound_count = conf->base->address_count;
    (void)map_put(&m->by_name, conf->obj.name, l); /* the key lives in the object */
    stat_inc(m->stats, MANAGER_MODIFIED);
    order_set(m, l);
    unref_all(old_bound, old_count);
    struct obj *o = &old->obj;
    obj_unref(&o);
}

bool listener_manager_set(struct listener_manager *m, struct listener_conf *conf, struct errors *e)
{
    struct managed *l = find(m, conf->obj.name);
    if (l && l->conf->obj.hash == conf->obj.hash) {
        struct obj *o = &conf->obj;
        obj_unref(&o);
        return true;
    }
    if (!check_addresses(m, conf, e)) return refuse(m, conf);
    struct bound **bound = bind_all(m, l, conf, e);
    if (!bound) return refuse(m, conf);
    if (l)
        managed_update(m, l, conf, bound);
    else
        managed_add(m, conf, bound);
    return true;
}

bool listener_manager_remove(struct listener_manager *m, struct str name)
{
    struct managed *l = find(m, name);
    if (!l) return false;
    order_remove(m, name);
    drain_begin(m, MANAGER_DRAINING, 1, l->stats);
    stat_inc(m->stats, MANAGER_REMOVED);
    stat_dec(m->stats, MANAGER_ACTIVE);
    (void)map_remove(&m->by_name, name);
    managed_free(l);
    return true;
}

void listener_manager_start_workers(struct listener_manager *m)
{
    if (m->started) return;
    m->started = true;
    stat_set(m->stats, MANAGER_STARTED, 1);
    order_start(m);
}

void listener_manager_set_warming(struct listener_manager *m, size_t count)
{
    stat_set(m->stats, MANAGER_WARMING, count);
}

void listener_manager_count_failure(struct listener_manager *m)
{
    stat_inc(m->stats, MANAGER_CREATE_FAILURE);
}

void listener_manager_stop_listening(struct listener_manager *m, enum listener_stop which)
{
    bool inbound_only = which == LISTENER_STOP_INBOUND;
    order_stop(m, inbound_only);
    enum { TRAFFIC_INBOUND = 1 };
    LIST_FOREACH (&m->order, it) {
        struct managed *l = CONTAINER_OF(it, struct managed, link);
        if (inbound_only && l->conf->base->traffic_direction != TRAFFIC_INBOUND) continue;
        for (size_t i = 0; i < l->bound_count; i++)
            bound_unref(&l->bound[i]);
        stat_inc(m->stats, MANAGER_STOPPED);
    }
}

uint64_t listener_manager_connections(const struct listener_manager *m)
{
    uint64_t open = 0;
    for (unsigned i = 0; i < m->rt->concurrency; i++) {
        const struct net_worker *n = m->rt->workers[i]->slot[WORKER_NET];
        if (n) open += atomic_load_explicit(&n->open, memory_order_relaxed);
    }
    return open;
}

enum { DRAIN_LOOK_US = 50 * 1000 };

static void process_drain_look(struct loop_timer *t)
{
    struct listener_manager *m = CONTAINER_OF(t, struct listener_manager, drain.timer);
    bool over =
        loop_now_us(m->rt->main) >= m->drain.until_us || listener_manager_connections(m) == 0;
    if (!over) {
        loop_timer_start(m->rt->main, t, DRAIN_LOOK_US, process_drain_look);
        return;
    }
    m->drain.running = false;
    if (m->drain.done) m->drain.done(m->drain.arg);
}

void listener_manager_drain(struct listener_manager *m, enum listener_stop which,
                            void (*done)(void *arg), void *arg)
{
    order_drain(m, which == LISTENER_STOP_INBOUND);
    if (m->drain.running) return;
    m->drain = (struct process_drain){.until_us = loop_now_us(m->rt->main) + m->drain_us,
                                      .done = done,
                                      .arg = arg,
                                      .running = true};
    loop_timer_start(m->rt->main, &m->drain.timer, DRAIN_LOOK_US, process_drain_look);
}

void listener_manager_each(const struct listener_manager *m,
                           void (*fn)(void *arg, const struct listener_view *v), void *arg)
{
    LIST_FOREACH (&m->order, it) {
        const struct managed *l = CONTAINER_OF(it, struct managed, link);
        for (size_t i = 0; i < l->conf->base->address_count; i++) {
            bool bound = i < l->bound_count && l->bound[i];
            struct listener_view v = {
                .name = l->conf->obj.name,
                .addr = bound ? &l->bound[i]->addr : &l->conf->base->addresses[i].addr,
                .conf = l->conf,
                .address_index = i,
            };
            fn(arg, &v);
        }
    }
}
