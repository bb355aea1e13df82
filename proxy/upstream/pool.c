/* Pools: per worker, cluster, host, priority and protocol. Waiting attempts queue in order; a
 * connection that becomes free takes the first. HTTP/1 and HTTP/2 differ only in how many exchanges
 * a connection carries at once (the codec says).
 *
 * A pool exists while it has connections or waiting attempts. Connections and pools that ended are
 * freed at the end of the loop's turn, so that no callback on the stack sees freed memory. */
#include "base/must.h"
#include "proxy/upstream/pool_codec.h"
#include "proxy/upstream/pool_internal.h"

static void pool_check_fire(struct loop_later *later);

void pool_check(struct pool *p)
{
    loop_later(p->uc->worker->loop, &p->check, pool_check_fire);
}

/* --- attempts
 * --------------------------------------------------------------------------------------------------------------------------
 */
/* Out of the queue, if it is there. */
void pool_unqueue(struct pool *p, struct upstream_attempt *a)
{
    struct attempt_priv *v = attempt_priv(a);
    if (!v->pending) return;
    list_remove(&v->link);
    v->pending = false;
    p->pending_count--;
    breaker_give(p->uc->conf, p->priority, BREAKER_PENDING);
    stat_dec(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_PENDING_ACTIVE);
}

void pool_fail(struct upstream_attempt *a, enum upstream_failure why, struct str detail)
{
    attempt_priv(a)->pool = NULL;
    upstream_fail(a, why, detail);
}

/* Envoy: a failed connect fails everything that waits at this host, so that the router can decide
 * anew. */
void pool_purge(struct pool *p, enum upstream_failure why, struct str detail)
{
    struct list gone;
    list_init(&gone);
    for (struct list *it; (it = list_first(&p->pending));) {
        struct upstream_attempt *a = CONTAINER_OF(CONTAINER_OF(it, struct attempt_priv, link),
                                                  struct upstream_attempt, priv);
        pool_unqueue(p, a);
        list_push_back(&gone, &attempt_priv(a)->link);
    }
    for (struct list *it; (it = list_first(&gone));) {
        struct upstream_attempt *a = CONTAINER_OF(CONTAINER_OF(it, struct attempt_priv, link),
                                                  struct upstream_attempt, priv);
        list_remove(it);
        stat_inc(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_PENDING_FAILURE_EJECT);
        pool_fail(a, why, detail);
    }
}

/* --- the pool
 * ----------------------------------------------------------------------------------------------------------------------------
 */
/* Exchanges that its connections, those on their way too, could still take. */
static uint64_t pool_capacity(const struct pool *p)
{
    enum { H2_EACH = 100 }; /* before the peer has told */
    if (p->key.protocol == UPSTREAM_PROTO_H1) return p->connecting_count + p->ready_count;
    uint64_t room =
        (uint64_t)p->connecting_count * (p->key.protocol == UPSTREAM_PROTO_H2 ? H2_EACH : 1);
    for (struct list *it = p->ready.next; it != &p->ready; it = it->next) {
        const struct pool_conn *pc = CONTAINER_OF(it, struct pool_conn, link);
        size_t limit = pc->codec->ops->stream_limit(pc->codec);
        room += limit > pc->streams ? limit - pc->streams : 0;
    }
    return room;
}

/* Envoy's rule: is what is asked for, times the ratio, more than there is room for? `coming`: one
 * more will be asked. */
static bool pool_is_short(const struct pool *p, double ratio, bool coming)
{
    double asked = (double)p->pending_count + p->active + (coming ? 1 : 0);
    return asked * ratio > (double)pool_capacity(p) + p->active;
}

/* A new connection, if the limits allow one. False: they do not. */
static bool pool_try_new(struct pool *p)
{
    uint32_t host_most = p->uc->conf->limits[p->priority].host_max_connections;
    bool room = breaker_room(p->uc->conf, p->priority, BREAKER_CX) &&
                atomic_load_explicit(&p->host->cells.cx_active, memory_order_relaxed) < host_most;
    if (!room) stat_inc(pool_stats(p), CLUSTER_STAT_UPSTREAM_CX_OVERFLOW);
    /* Envoy: a host without any connection gets one, or what waits could never be served. */
    if (room || p->connecting_count + p->ready_count + p->busy_count == 0) pc_new(p);
    return room;
}

enum { POOL_AT_ONCE = 3 }; /* Envoy: at most three new connections a time */

/* For what waits and, after a new attempt (`fresh`), ahead of what may come
 * (per_upstream_preconnect_ratio). A host that fails is not tried again ahead of need. */
static void pool_grow(struct pool *p, bool fresh)
{
    bool ahead = fresh && !p->draining && host_is_healthy(p->host);
    double ratio = ahead ? p->uc->conf->preconnect_ratio : 1;
    if (!p->pending_count && ratio <= 1) return;
    for (int i = 0; i < POOL_AT_ONCE && pool_is_short(p, ratio, false); i++)
        if (!pool_try_new(p)) return;
}

static void pool_free(struct pool *p)
{
    struct upstream_cluster *uc = p->uc;
    loop_later_cancel(&p->check);
    breaker_give(uc->conf, p->priority, BREAKER_POOL);
    list_remove(&p->link);
    struct str key = str_make((const char *)&p->key, sizeof(p->key));
    if (map_get(&uc->pool_by_key, key) == p) map_remove(&uc->pool_by_key, key);
    host_unref(&p->host);
    mem_free(p);
    upstream_unpin(uc->worker, &uc);
}

static void pool_check_fire(struct loop_later *later)
{
    struct pool *p = CONTAINER_OF(later, struct pool, check);
    while (p->pending_count > 0 && p->ready_count > 0) {
        struct pool_conn *pc = CONTAINER_OF(list_first(&p->ready), struct pool_conn, link);
        struct attempt_priv *v = CONTAINER_OF(list_first(&p->pending), struct attempt_priv, link);
        pc_attach(p, pc, CONTAINER_OF(v, struct upstream_attempt, priv));
    }
    pool_grow(p, p->fresh);
    p->fresh = false;
    if (p->pending_count + p->connecting_count + p->ready_count + p->busy_count == 0) pool_free(p);
}

static struct pool *pool_of(struct upstream_cluster *uc, struct host *h,
                            enum upstream_priority priority, const struct pool_kind *kind,
                            enum http_protocol_kind protocol)
{
    struct pool_key key = {h, (uint32_t)priority, (uint32_t)protocol, pool_kind_hash(kind)};
    struct pool *p = map_get(&uc->pool_by_key, str_make((const char *)&key, sizeof(key)));
    if (p && pool_kind_same(&p->kind, kind)) return p;
    if (p) return NULL; /* two kinds with one hash: never the connection of another */
    if (!breaker_room(uc->conf, priority, BREAKER_POOL)) {
        stat_inc(uc->conf->shared->stats, CLUSTER_STAT_UPSTREAM_CX_POOL_OVERFLOW);
        return NULL;
    }
    p = mem_alloc(sizeof(*p) + pool_kind_size(kind));
    pool_kind_copy(&p->kind, kind, (char *)(p + 1));
    p->key = key;
    p->uc = uc;
    p->host = host_ref(h);
    p->priority = priority;
    list_init(&p->connecting);
    list_init(&p->ready);
    list_init(&p->busy);
    list_init(&p->pending);
    breaker_take(uc->conf, priority, BREAKER_POOL);
    upstream_pin(uc);
    list_push_back(&uc->pools, &p->link);
    map_put(&uc->pool_by_key, str_make((const char *)&p->key, sizeof(p->key)), p);
    return p;
}

/* Envoy's predictive_preconnect_ratio: hosts that will be chosen next get a connection before. */
static void pools_predict(struct upstream_cluster *uc, enum upstream_priority priority,
                          const struct lb_ask *ask, enum http_protocol_kind protocol)
{
    double ratio = uc->conf->predictive_preconnect_ratio;
    for (int i = 0; i < POOL_AT_ONCE; i++) {
        double asked = 1, room = 0;
        for (struct list *it = uc->pools.next; it != &uc->pools; it = it->next) {
            const struct pool *p = CONTAINER_OF(it, struct pool, link);
            asked += (double)p->pending_count + p->active;
            room += (double)pool_capacity(p) + p->active;
        }
        struct host *h = asked * ratio > room ? balance_peek(uc, ask) : NULL;
        if (!h) return;
        struct pool_kind kind;
        pool_kind_of(uc, ask, h, &kind);
        struct pool *p = pool_of(uc, h, priority, &kind, protocol);
        if (!p) return;
        pool_check(p); /* it may stay empty */
        if (!pool_is_short(p, host_is_healthy(h) ? ratio : 1, host_is_healthy(h))) return;
        if (!pool_try_new(p)) return;
    }
}

void pool_start(struct upstream_cluster *uc, struct upstream_attempt *a, const struct lb_ask *ask,
                enum http_protocol_kind protocol)
{
    struct pool_kind kind;
    if (uc->conf->predictive_preconnect_ratio > 1) pools_predict(uc, a->priority, ask, protocol);
    pool_kind_of(uc, ask, a->host, &kind);
    struct pool *p = pool_of(uc, a->host, a->priority, &kind, protocol);
    if (!p) {
        a->host = NULL;
        upstream_fail(a, UPSTREAM_OVERFLOW, STR_NONE);
        return;
    }
    struct attempt_priv *v = attempt_priv(a);
    v->pool = p;
    struct list *ready = list_first(&p->ready);
    if (ready) {
        p->fresh = p->uc->conf->preconnect_ratio > 1;
        if (p->fresh) pool_check(p);
        pc_attach(p, CONTAINER_OF(ready, struct pool_conn, link), a);
        return;
    }
    if (!breaker_room(uc->conf, p->priority, BREAKER_PENDING)) {
        stat_inc(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_PENDING_OVERFLOW);
        pool_check(p);
        a->host = NULL; /* Envoy: no connection, no host */
        pool_fail(a, UPSTREAM_OVERFLOW, STR_NONE);
        return;
    }
    breaker_take(uc->conf, p->priority, BREAKER_PENDING);
    stat_inc(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_PENDING_TOTAL);
    stat_inc(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_PENDING_ACTIVE);
    v->pending = true;
    list_push_back(&p->pending, &v->link);
    p->pending_count++;
    pool_grow(p, true);
}

void pool_cancel(struct upstream_attempt *a)
{
    struct attempt_priv *v = attempt_priv(a);
    struct pool *p = v->pool;
    if (!p) return;
    if (v->pending) {
        pool_unqueue(p, a);
        v->pool = NULL;
        stat_inc(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_CANCELLED);
        pool_check(p);
        return;
    }
    struct pool_conn *pc = v->pc;
    struct codec_stream *s = a->stream;
    if (!pc) { /* taken out of the queue, about to be told of its failure */
        list_remove(&v->link);
        v->pool = NULL;
        return;
    }
    pc_detach(a);
    if (pc->codec->ops->kind == CODEC_H2)
        stat_inc(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_TX_RESET);
    else
        pc_cut(pc);
    pc->codec->ops->reset(s, RESET_LOCAL);
    pc_settle(pc);
}

void pool_drain(struct pool *p)
{
    p->draining = true;
    LIST_FOREACH_SAFE (&p->ready, it, next)
        pc_settle(CONTAINER_OF(it, struct pool_conn, link));
    if (p->pending_count == 0) {
        LIST_FOREACH_SAFE (&p->connecting, it, next)
            conn_close(CONTAINER_OF(it, struct pool_conn, link)->conn, CONN_CLOSE_NOW);
    }
    pool_check(p);
}

/* The hosts of a set by pointer; the keys are the bytes of the set's array. */
static void hosts_index(struct map *m, const struct host_set *set)
{
    for (uint32_t i = 0; set && i < set->host_count; i++) {
        map_put(m, str_make((const char *)&set->hosts[i], sizeof(set->hosts[i])), set->hosts[i]);
    }
}

void pools_follow_hosts(struct upstream_cluster *uc)
{
    struct map hosts = {0};
    if (list_empty(&uc->pools)) return;
    hosts_index(&hosts, uc->hosts);
    LIST_FOREACH_SAFE (&uc->pools, it, next) {
        struct pool *p = CONTAINER_OF(it, struct pool, link);
        bool there = map_get(&hosts, str_make((const char *)&p->host, sizeof(p->host))) != NULL;
        if (there)
            p->draining = false;
        else if (!p->draining)
            pool_drain(p);
    }
    map_release(&hosts);
}

void pools_drain_all(struct upstream_cluster *uc)
{
    LIST_FOREACH_SAFE (&uc->pools, it, next)
        pool_drain(CONTAINER_OF(it, struct pool, link));
}

static void list_close(struct list *l)
{
    LIST_FOREACH_SAFE (l, it, next)
        conn_close(CONTAINER_OF(it, struct pool_conn, link)->conn, CONN_CLOSE_NOW);
}

void pools_close_all(struct upstream_cluster *uc)
{
    LIST_FOREACH_SAFE (&uc->pools, it, next) {
        struct pool *p = CONTAINER_OF(it, struct pool, link);
        pool_purge(p, UPSTREAM_LOCAL_FAILURE, STR_NONE);
        list_close(&p->connecting);
        list_close(&p->ready);
        list_close(&p->busy);
    }
}
