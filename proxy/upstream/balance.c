/* Choosing a host: priority by load, panic, locality, then the cluster's policy inside the list
 * that is left. */
#include "base/must.h"
#include "base/rand.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/upstream_internal.h"

static void cursor_free(const struct lb_policy_type *lb, void *cursor)
{
    if (cursor && lb->cursor_release) lb->cursor_release(cursor);
    mem_free(cursor);
}

void balance_reset(struct upstream_cluster *uc)
{
    for (uint32_t i = 0; uc->cursors && uc->hosts && i < uc->hosts->source_count; i++)
        cursor_free(uc->conf->lb, uc->cursors[i]);
    mem_free(uc->cursors);
    mem_free(uc->deadlines);
    uc->cursors = NULL;
    uc->deadlines = NULL;
}

static void *cursor_of(struct upstream_cluster *uc, const struct lb_source *s)
{
    const struct lb_policy_type *lb = uc->conf->lb;
    if (!uc->cursors) uc->cursors = mem_array(uc->hosts->source_count, sizeof(void *));
    void **cursor = &uc->cursors[s->ordinal];
    if (*cursor) return *cursor;
    *cursor = mem_alloc(lb->cursor_size ? lb->cursor_size : 1);
    if (lb->cursor_init) lb->cursor_init(*cursor, uc->conf->lb_conf, uc->worker);
    return *cursor;
}

/* Envoy: one draw out of 100 walks the healthy loads of all priorities, then the degraded ones. */
static const struct priority_set *priority_choose(const struct host_set *set, uint64_t random,
                                                  bool *degraded)
{
    uint64_t draw = random % 100 + 1, sum = 0;
    for (uint32_t i = 0; i < set->priority_count; i++) {
        sum += set->priorities[i].healthy_load;
        *degraded = false;
        if (draw <= sum) return &set->priorities[i];
    }
    for (uint32_t i = 0; i < set->priority_count; i++) {
        sum += set->priorities[i].degraded_load;
        *degraded = true;
        if (draw <= sum) return &set->priorities[i];
    }
    *degraded = false;
    return &set->priorities[0];
}

/* Earliest deadline first over the effective weights. */
static const struct lb_source *locality_choose(struct upstream_cluster *uc,
                                               const struct priority_set *p, bool degraded)
{
    if (!uc->deadlines) uc->deadlines = mem_array(uc->hosts->source_count, sizeof(double));
    const struct lb_source *best = NULL;
    double best_weight = 0;
    for (uint32_t i = 0; i < p->locality_count; i++) {
        const struct locality_set *l = &p->localities[i];
        const struct lb_source *s = degraded ? &l->degraded : &l->healthy;
        double weight = degraded ? l->degraded_weight : l->healthy_weight;
        if (weight <= 0) continue;
        double *deadline = &uc->deadlines[s->ordinal];
        if (*deadline <= 0)
            *deadline = 1 / weight * (double)(rng_below(&uc->worker->rng, 1000) + 1) / 1000;
        if (best && uc->deadlines[best->ordinal] <= *deadline) continue;
        best = s;
        best_weight = weight;
    }
    if (best) uc->deadlines[best->ordinal] += 1 / best_weight;
    return best;
}

static const struct lb_source *source_choose(struct upstream_cluster *uc, uint64_t random)
{
    bool degraded;
    const struct priority_set *p = priority_choose(uc->hosts, random, &degraded);
    if (p->panic) {
        stat_inc(uc->conf->shared->stats, CLUSTER_STAT_LB_HEALTHY_PANIC);
        return uc->conf->fail_on_panic ? NULL : &p->all;
    }
    if (uc->conf->locality_weighted && !uc->conf->lb->needs_hash &&
        (degraded ? p->by_locality_degraded : p->by_locality_healthy)) {
        const struct lb_source *s = locality_choose(uc, p, degraded);
        if (s) return s;
    }
    return degraded ? &p->degraded : &p->healthy;
}

/* Stateful sessions: the host that the request asks for, if its health status allows it. */
static struct host *override_find(struct upstream_cluster *uc, const struct lb_ask *ask)
{
    enum { STATUS_UNKNOWN = 0, STATUS_HEALTHY = 1, STATUS_UNHEALTHY = 2, STATUS_DEGRADED = 5 };
    for (uint32_t i = 0; i < uc->hosts->host_count; i++) {
        struct host *h = uc->hosts->hosts[i];
        if (!str_eq(h->text, ask->override_host)) continue;
        uint32_t eds = atomic_load_explicit(&h->eds_status, memory_order_relaxed);
        uint32_t status = eds != STATUS_UNKNOWN ? eds
                          : host_is_healthy(h)  ? STATUS_UNKNOWN
                          : host_is_degraded(h) ? STATUS_DEGRADED
                                                : STATUS_UNHEALTHY;
        uint32_t allowed =
            uc->conf->override_host_status
                ? uc->conf->override_host_status
                : 1u << STATUS_UNKNOWN | 1u << STATUS_HEALTHY | 1u << STATUS_DEGRADED;
        return allowed >> status & 1 ? h : NULL;
    }
    return NULL;
}

struct host *balance_pick(struct upstream_cluster *uc, const struct lb_ask *ask)
{
    if (uc->conf->discovery == CLUSTER_ORIGINAL_DST) return original_dst_pick(uc, ask);
    if (!uc->hosts) return NULL;
    if (ask->override_host.len > 0) {
        struct host *h = override_find(uc, ask);
        if (h || ask->override_strict) return h;
    }
    struct host *h = NULL;
    struct lb_ask now = *ask;
    for (uint32_t tries = 0; tries <= ask->tries_left; tries++) {
        now.attempt = tries; /* hashing policies look elsewhere the second time */
        uint64_t random =
            ask->has_hash && uc->conf->lb->needs_hash ? ask->hash : rng_next(&uc->worker->rng);
        const struct lb_source *s = source_choose(uc, random);
        if (!s || s->hosts.count == 0) return NULL;
        h = uc->conf->lb->pick(cursor_of(uc, s), uc->conf->lb_conf, s->table, &s->hosts, &now);
        if (!h || !ask->avoid || !ask->avoid(ask, h)) return h;
    }
    return h;
}

enum upstream_drop upstream_drop(struct upstream_cluster *uc)
{
    for (uint32_t i = 0; uc->hosts && i < uc->hosts->drop_count; i++) {
        const struct drop_overload *d = &uc->hosts->drops[i];
        if (d->numerator == 0 || d->denominator == 0) continue;
        if (d->numerator >= d->denominator) return UPSTREAM_DROP_ALL;
        if (rng_below(&uc->worker->rng, d->denominator) < d->numerator) return UPSTREAM_DROP_SOME;
    }
    return UPSTREAM_DROP_NO;
}
