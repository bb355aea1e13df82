/* Circuit breakers: process-wide counts with relaxed atomics (Envoy: "eventually consistent"), and
 * the gauges that show which is open. */
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

/* Envoy: with a retry budget, retries may be a share of the active and pending requests, at least
 * min_retry_concurrency. */
static uint32_t retry_limit(const struct cluster *c, enum upstream_priority p)
{
    const struct breaker_limits *l = &c->limits[p];
    if (!l->has_budget) return l->max_retries;
    struct breaker_counts *n = &c->shared->counts[p];
    double share =
        l->budget_percent / 100.0 * ((double)count_get(&n->requests) + count_get(&n->pending));
    return share > l->budget_min ? (uint32_t)share : l->budget_min;
}

bool breaker_room(const struct cluster *c, enum upstream_priority p, enum breaker b)
{
    uint32_t limit = b == BREAKER_RETRY ? retry_limit(c, p) : limit_of(&c->limits[p], b);
    return count_get(count_of(&c->shared->counts[p], b)) < limit;
}

void breaker_take(const struct cluster *c, enum upstream_priority p, enum breaker b)
{
    const struct breaker_limits *l = &c->limits[p];
    uint32_t now =
        atomic_fetch_add_explicit(count_of(&c->shared->counts[p], b), 1, memory_order_relaxed) + 1;
    if (now == limit_of(l, b)) stat_inc(c->shared->stats, gauge_open(p, b));
    if (l->track_remaining && now <= limit_of(l, b))
        stat_dec(c->shared->stats, gauge_remaining(p, b));
}

void breaker_give(const struct cluster *c, enum upstream_priority p, enum breaker b)
{
    const struct breaker_limits *l = &c->limits[p];
    uint32_t was =
        atomic_fetch_sub_explicit(count_of(&c->shared->counts[p], b), 1, memory_order_relaxed);
    if (was == limit_of(l, b)) stat_dec(c->shared->stats, gauge_open(p, b));
    if (l->track_remaining && was <= limit_of(l, b))
        stat_inc(c->shared->stats, gauge_remaining(p, b));
}

static int remaining(const struct breaker_limits *l, enum breaker b, uint32_t count)
{
    if (!l || !l->track_remaining || count >= limit_of(l, b)) return 0;
    return (int)(limit_of(l, b) - count);
}

static void gauge_move(struct stat_group *g, size_t index, int by)
{
    if (by > 0) stat_add(g, index, (uint64_t)by);
    if (by < 0) stat_sub(g, index, (uint64_t)-by);
}

void breaker_limits_changed(struct cluster_shared *s, const struct breaker_limits *old,
                            const struct breaker_limits *now)
{
    for (size_t p = 0; p < BREAKER_PRIORITIES; p++) {
        for (enum breaker b = BREAKER_CX; b < BREAKER_KINDS; b++) {
            uint32_t count = count_get(count_of(&s->counts[p], b));
            int was_open = old && count >= limit_of(&old[p], b) && count > 0;
            int is_open = count >= limit_of(&now[p], b) && count > 0;
            gauge_move(s->stats, gauge_open(p, b), is_open - was_open);
            gauge_move(s->stats, gauge_remaining(p, b),
                       remaining(&now[p], b, count) - remaining(old ? &old[p] : NULL, b, count));
        }
    }
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
