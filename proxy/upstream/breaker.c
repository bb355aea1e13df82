/* Circuit breakers: process-wide counts with relaxed atomics (Envoy: "eventually consistent"), and
 * the gauges that show which is open. */
#include "base/str.h"
#include "proxy/runtime/values.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/upstream_internal.h"

static _Atomic uint32_t *count_of(struct breaker_counts *c, enum breaker b)
{
    switch (b) {
    case BREAKER_CX: return &c->connections;
    case BREAKER_PENDING: return &c->pending;
    case BREAKER_RQ: return &c->requests;
    case BREAKER_RETRY: return &c->retries;
    case BREAKER_POOL: return &c->pools;
    case BREAKER_KINDS: break;
    }
    return &c->connections;
}

static uint32_t limit_of(const struct breaker_limits *l, enum breaker b)
{
    switch (b) {
    case BREAKER_CX: return l->max_connections;
    case BREAKER_PENDING: return l->max_pending;
    case BREAKER_RQ: return l->max_requests;
    case BREAKER_RETRY: return l->max_retries;
    case BREAKER_POOL: return l->max_pools;
    case BREAKER_KINDS: break;
    }
    return 0;
}

static size_t gauge_open(size_t p, enum breaker b)
{
    return (size_t)CLUSTER_STAT_CB_DEFAULT_CX_OPEN + p * BREAKER_KINDS + b;
}

static size_t gauge_remaining(size_t p, enum breaker b)
{
    return (size_t)CLUSTER_STAT_CB_DEFAULT_REMAINING_CX + p * BREAKER_KINDS + b;
}

static uint32_t count_get(_Atomic uint32_t *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

/* The limit that holds now. */
static uint32_t most_of(const struct cluster *c, enum upstream_priority p, enum breaker b)
{
    return count_get(&c->shared->most[p][b]);
}

/* Envoy: with a retry budget, retries may be a share of the active and pending requests, at least
 * min_retry_concurrency. */
static uint32_t retry_limit(const struct cluster *c, enum upstream_priority p)
{
    const struct breaker_limits *l = &c->limits[p];
    if (!l->has_budget) return most_of(c, p, BREAKER_RETRY);
    struct breaker_counts *n = &c->shared->counts[p];
    double share =
        l->budget_percent / 100.0 * ((double)count_get(&n->requests) + count_get(&n->pending));
    return share > l->budget_min ? (uint32_t)share : l->budget_min;
}

bool breaker_room(const struct cluster *c, enum upstream_priority p, enum breaker b)
{
    uint32_t limit = b == BREAKER_RETRY ? retry_limit(c, p) : most_of(c, p, b);
    return count_get(count_of(&c->shared->counts[p], b)) < limit;
}

void breaker_take(const struct cluster *c, enum upstream_priority p, enum breaker b)
{
    uint32_t most = most_of(c, p, b);
    uint32_t now =
        atomic_fetch_add_explicit(count_of(&c->shared->counts[p], b), 1, memory_order_relaxed) + 1;
    if (now == most) stat_inc(c->shared->stats, gauge_open(p, b));
    if (c->limits[p].track_remaining && now <= most)
        stat_dec(c->shared->stats, gauge_remaining(p, b));
}

void breaker_give(const struct cluster *c, enum upstream_priority p, enum breaker b)
{
    uint32_t most = most_of(c, p, b);
    uint32_t was =
        atomic_fetch_sub_explicit(count_of(&c->shared->counts[p], b), 1, memory_order_relaxed);
    if (was == most) stat_dec(c->shared->stats, gauge_open(p, b));
    if (c->limits[p].track_remaining && was <= most)
        stat_inc(c->shared->stats, gauge_remaining(p, b));
}

/* --- which limits hold (main) --- */

/* Envoy: the integer of runtime, else what the cluster says. */
static uint32_t most_wanted(struct str cluster, size_t p, enum breaker b, uint32_t configured)
{
    static const char *const keys[BREAKER_KINDS] = {
        [BREAKER_CX] = "max_connections",        [BREAKER_PENDING] = "max_pending_requests",
        [BREAKER_RQ] = "max_requests",           [BREAKER_RETRY] = "max_retries",
        [BREAKER_POOL] = "max_connection_pools",
    };
    struct sb key = {0};
    sb_fmt(&key, "circuit_breakers.%.*s.%s.%s", STR_ARG(cluster), p ? "high" : "default", keys[b]);
    uint64_t most = runtime_u64(NULL, sb_str(&key), configured);
    sb_release(&key);
    return most > UINT32_MAX ? UINT32_MAX : (uint32_t)most;
}

static int remaining(bool tracked, uint32_t most, uint32_t count)
{
    return tracked && count < most ? (int)(most - count) : 0;
}

static void gauge_move(struct stat_group *g, size_t index, int by)
{
    if (by > 0) stat_add(g, index, (uint64_t)by);
    if (by < 0) stat_sub(g, index, (uint64_t)-by);
}

static void most_set(struct cluster_shared *s, size_t p, enum breaker b, bool tracked,
                     uint32_t most)
{
    uint32_t count = count_get(count_of(&s->counts[p], b)), old = count_get(&s->most[p][b]);
    int was_open = s->limited && count >= old && count > 0;
    int is_open = count >= most && count > 0;
    int was_left = remaining(s->limited && s->tracked[p], old, count);
    atomic_store_explicit(&s->most[p][b], most, memory_order_relaxed);
    gauge_move(s->stats, gauge_open(p, b), is_open - was_open);
    gauge_move(s->stats, gauge_remaining(p, b), remaining(tracked, most, count) - was_left);
}

void breaker_limits_set(struct cluster_shared *s, struct str cluster,
                        const struct breaker_limits *limits)
{
    for (size_t p = 0; p < BREAKER_PRIORITIES; p++) {
        bool tracked = limits[p].track_remaining;
        for (enum breaker b = BREAKER_CX; b < BREAKER_KINDS; b++)
            most_set(s, p, b, tracked, most_wanted(cluster, p, b, limit_of(&limits[p], b)));
        s->tracked[p] = tracked;
    }
    s->limited = true;
}

bool upstream_retry_take(struct upstream_cluster *uc, enum upstream_priority p)
{
    if (!breaker_room(uc->conf, p, BREAKER_RETRY)) {
        stat_inc(uc->conf->shared->stats, CLUSTER_STAT_UPSTREAM_RQ_RETRY_OVERFLOW);
        return false;
    }
    breaker_take(uc->conf, p, BREAKER_RETRY);
    return true;
}

void upstream_retry_give(struct upstream_cluster *uc, enum upstream_priority p)
{
    breaker_give(uc->conf, p, BREAKER_RETRY);
}
