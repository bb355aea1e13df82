/* A worker's listeners: what main's orders change in them. References and sockets that are no
 * longer needed go back to main by mail. */
#include <stdio.h>
#include <string.h>

#include "base/must.h"
#include "proxy/net/listener_internal.h"

/* --- giving back to main
 * --------------------------------------------------------------------------- */

static void main_unref_obj(void *arg)
{
    struct obj *o = arg;
    obj_unref(&o);
}

static void give_back(struct worker *w, struct obj *o)
{
    if (o) runtime_to_main(w->rt, main_unref_obj, o);
}

static void main_unref_bound(void *arg)
{
    struct bound *b = arg;
    bound_unref(&b);
}

/* --- wrappers
 * ---------------------------------------------------------------------------------------- */

/* conf's reference is taken. */
static struct worker_base *worker_base_new(struct worker *w, struct listener_base *conf)
{
    struct worker_base *b = mem_alloc(sizeof(*b));
    b->conf = conf;
    b->worker = w;
    b->users = 1;
    b->stats =
        stat_group_get(w->rt->stats, conf->stat_prefix, listener_stat_defs, LISTENER_STAT_COUNT);
    struct str own = str_fmt(w->scratch, "%.*sworker_%u.", STR_ARG(conf->stat_prefix), w->index);
    b->worker_stats =
        stat_group_get(w->rt->stats, own, listener_worker_stat_defs, LISTENER_WORKER_STAT_COUNT);
    return b;
}

void worker_base_drop(struct worker_base **bp)
{
    struct worker_base *b = *bp;
    *bp = NULL;
    if (!b || --b->users > 0) return;
    stat_group_unref(&b->stats);
    stat_group_unref(&b->worker_stats);
    give_back(b->worker, &b->conf->obj);
    mem_free(b);
}

static struct worker_chain *worker_chain_new(struct worker *w, struct filter_chain_conf *conf)
{
    struct worker_chain *c = mem_alloc(sizeof(*c));
    c->conf = conf;
    c->worker = w;
    c->users = 1;
    list_init(&c->conns);
    list_init(&c->link);
    return c;
}

void worker_chain_drop(struct worker_chain **cp)
{
    struct worker_chain *c = *cp;
    *cp = NULL;
    if (!c || --c->users > 0) return;
    loop_timer_stop(&c->timer);
    list_remove(&c->link);
    give_back(c->worker, &c->conf->obj);
    mem_free(c);
}

static void chain_drain_over(struct loop_timer *t)
{
    struct worker_chain *c = CONTAINER_OF(t, struct worker_chain, timer);
    c->users++; /* its connections' ends must not free it under our feet */
    network_chain_close_all(c);
    worker_chain_drop(&c);
}

static void chain_drain(struct worker_chain *c, uint64_t drain_us, bool immediate)
{
    if (c->draining) return;
    c->draining = true;
    c->immediate = immediate;
    c->drain_from_us = loop_now_us(c->worker->loop);
    c->drain_us = drain_us;
    c->users++;
    network_chain_drain(c);
    worker_chain_drop(&c);
}

/* The listener does not offer the chain any more: its connections end within the drain time. Takes
 * the listener's use. */
static void chain_retire(struct worker_chain *c, uint64_t drain_us, bool immediate)
{
    if (c->users > 1) {
        list_push_back(&net_worker(c->worker)->draining, &c->link);
        loop_timer_start(c->worker->loop, &c->timer, drain_us, chain_drain_over);
        chain_drain(c, drain_us, immediate);
    }
    worker_chain_drop(&c);
}

/* --- sockets
 * ------------------------------------------------------------------------------------------ */

static struct accept_socket *socket_watch(struct worker_listener *l, struct bound *b)
{
    struct accept_socket *s = mem_alloc(sizeof(*s));
    s->listener = l;
    s->bound = b;
    loop_io_init(&s->io, l->worker->loop, bound_fd(b, l->worker->index),
                 l->base->conf->udp ? udp_ready : accept_ready);
    if (net_worker(l->worker)->accepting && !l->stopped) loop_io_want(&s->io, LOOP_READ);
    return s;
}

static void socket_unwatch(struct accept_socket *s, bool accept_waiting)
{
    if (s->io.fire != udp_ready && accept_waiting && net_worker(s->listener->worker)->accepting)
        accept_rest(s);
    loop_timer_stop(&s->timer);
    loop_io_want(&s->io, 0);
    runtime_to_main(s->listener->worker->rt, main_unref_bound, s->bound);
    mem_free(s);
}

/* Keeps the watchers of sockets that stay. */
static void sockets_replace(struct worker_listener *l, struct listener_order *o)
{
    struct accept_socket **now = mem_array(o->bound_count, sizeof(struct accept_socket *));
    for (size_t i = 0; i < o->bound_count; i++) {
        for (size_t k = 0; k < l->socket_count && !now[i]; k++) {
            if (!l->sockets[k] || l->sockets[k]->bound != o->bound[i]) continue;
            now[i] = l->sockets[k];
            l->sockets[k] = NULL;
            runtime_to_main(l->worker->rt, main_unref_bound, o->bound[i]); /* held already */
        }
        if (!now[i]) now[i] = socket_watch(l, o->bound[i]);
    }
    for (size_t k = 0; k < l->socket_count; k++) {
        if (l->sockets[k]) socket_unwatch(l->sockets[k], true);
    }
    mem_free(l->sockets);
    l->sockets = now;
    l->socket_count = o->bound_count;
    mem_free(o->bound);
    o->bound = NULL;
}

/* --- listeners
 * ---------------------------------------------------------------------------------------- */

static struct worker_listener *worker_listener_new(struct worker *w, struct str name)
{
    struct worker_listener *l = mem_alloc(sizeof(*l));
    char *copy = mem_alloc(name.len + 1);
    if (name.len) memcpy(copy, name.ptr, name.len);
    l->name = str_make(copy, name.len);
    l->worker = w;
    list_init(&l->accepting);
    (void)map_put(&net_worker(w)->listeners, l->name, l);
    return l;
}

/* The old wrapper when the object is the same (main shares what an update left as it was); then the
 * extra reference goes back. */
static struct worker_chain *chain_for(struct worker_listener *l, struct filter_chain_conf *conf)
{
    for (size_t i = 0; i < l->chain_count; i++) {
        struct worker_chain *c = l->chains[i];
        if (!c || c->conf != conf) continue;
        l->chains[i] = NULL;
        give_back(l->worker, &conf->obj);
        return c;
    }
    return worker_chain_new(l->worker, conf);
}

static void chains_replace(struct worker_listener *l, struct listener_conf *conf,
                           const struct listener_order *o)
{
    size_t count = conf->chain_count + (conf->default_chain ? 1 : 0);
    struct worker_chain **now = mem_array(count, sizeof(struct worker_chain *));
    for (size_t i = 0; i < conf->chain_count; i++)
        now[i] = chain_for(l, conf->chains[i]);
    if (conf->default_chain) now[count - 1] = chain_for(l, conf->default_chain);
    struct worker_chain **old = l->chains;
    size_t old_count = l->chain_count;
    l->chains = now;
    l->chain_count = count;
    for (size_t i = 0; i < old_count; i++) {
        if (old[i]) chain_retire(old[i], o->drain_us, o->immediate);
    }
    mem_free(old);
}

static void base_replace(struct worker_listener *l, struct listener_base *conf)
{
    if (l->base && l->base->conf == conf) {
        give_back(l->worker, &conf->obj);
        return;
    }
    struct worker_base *old = l->base;
    l->base = worker_base_new(l->worker, conf);
    udp_replace(l);
    worker_base_drop(&old);
}

/* The worker never ran: main delivers its mail at the end, only so that nothing leaks. */
static void order_release(struct listener_order *o)
{
    struct listener_conf *l = o->conf;
    struct obj *x;
    for (size_t i = 0; i < l->chain_count; i++) {
        x = &l->chains[i]->obj;
        obj_unref(&x);
    }
    x = l->default_chain ? &l->default_chain->obj : NULL;
    obj_unref(&x);
    x = &l->base->obj;
    obj_unref(&x);
    x = &l->obj;
    obj_unref(&x);
    for (size_t i = 0; i < o->bound_count; i++)
        bound_unref(&o->bound[i]);
    mem_free(o->bound);
}

void worker_listener_set(struct worker *w, struct listener_order *o)
{
    if (worker_self() != w) {
        order_release(o);
        return;
    }
    struct worker_listener *l = map_get(&net_worker(w)->listeners, o->conf->obj.name);
    if (!l) l = worker_listener_new(w, o->conf->obj.name);
    struct listener_conf *old = l->conf;
    l->conf = o->conf;
    o->conf = NULL;
    base_replace(l, l->conf->base);
    chains_replace(l, l->conf, o);
    sockets_replace(l, o);
    if (old) give_back(w, &old->obj);
}

static void worker_listener_free(struct worker_listener *l, uint64_t drain_us, bool immediate)
{
    udp_end(l);
    for (size_t i = 0; i < l->socket_count; i++)
        socket_unwatch(l->sockets[i], !l->stopped);
    mem_free(l->sockets);
    accept_steps_end(l);
    for (size_t i = 0; i < l->chain_count; i++)
        chain_retire(l->chains[i], drain_us, immediate);
    mem_free(l->chains);
    worker_base_drop(&l->base);
    give_back(l->worker, &l->conf->obj);
    (void)map_remove(&net_worker(l->worker)->listeners, l->name);
    mem_free((void *)(uintptr_t)l->name.ptr);
    mem_free(l);
}

void worker_listener_remove(struct worker *w, struct str name, uint64_t drain_us, bool immediate)
{
    if (worker_self() != w) return;
    struct worker_listener *l = map_get(&net_worker(w)->listeners, name);
    if (l) worker_listener_free(l, drain_us, immediate);
}

void worker_listeners_start(struct worker *w)
{
    if (worker_self() != w) return;
    struct net_worker *n = net_worker(w);
    n->accepting = true;
    size_t it = 0;
    struct str name;
    void *value;
    while (map_next(&n->listeners, &it, &name, &value)) {
        struct worker_listener *l = value;
        for (size_t i = 0; i < l->socket_count; i++)
            loop_io_want(&l->sockets[i]->io, LOOP_READ);
    }
}

static bool listener_meant(const struct worker_listener *l, bool inbound_only)
{
    enum { TRAFFIC_INBOUND = 1 }; /* envoy.config.core.v3.TrafficDirection */
    return !inbound_only || l->base->conf->traffic_direction == TRAFFIC_INBOUND;
}

void worker_listeners_stop(struct worker *w, bool inbound_only)
{
    if (worker_self() != w) return;
    size_t it = 0;
    struct str name;
    void *value;
    while (map_next(&net_worker(w)->listeners, &it, &name, &value)) {
        struct worker_listener *l = value;
        if (l->stopped || !listener_meant(l, inbound_only)) continue;
        for (size_t i = 0; i < l->socket_count; i++)
            socket_unwatch(l->sockets[i], true);
        l->stopped = true;
        l->socket_count = 0;
    }
}

void worker_listeners_drain(struct worker *w, bool inbound_only, uint64_t drain_us, bool immediate)
{
    if (worker_self() != w) return;
    size_t it = 0;
    struct str name;
    void *value;
    while (map_next(&net_worker(w)->listeners, &it, &name, &value)) {
        struct worker_listener *l = value;
        if (l->base->conf->drain_modify_only || !listener_meant(l, inbound_only)) continue;
        for (size_t i = 0; i < l->chain_count; i++)
            chain_drain(l->chains[i], drain_us, immediate);
    }
}

void worker_conns_end(struct worker *w)
{
    LIST_FOREACH_SAFE (&net_worker(w)->conns, it, next) {
        conn_end_with(CONTAINER_OF(it, struct conn, link),
                      CONN_END_LOCAL); /* also those that linger */
    }
}

void worker_listeners_end(struct worker *w)
{
    struct net_worker *n = w->slot[WORKER_NET];
    if (!n) return;
    n->accepting = false;
    struct str name;
    void *value;
    for (size_t it = 0; map_next(&n->listeners, &it, &name, &value); it = 0)
        worker_listener_free(value, 1, true);
    worker_conns_end(w);
}
