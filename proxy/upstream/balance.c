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
    mem_free(uc->peeked);
    uc->peeked = NULL;
    uc->peeked_count = uc->peeked_cap = 0;
    uc->cursors = NULL;
    uc->deadlines = NULL;
}

static void *cursor_new(const struct lb_policy_type *lb, const void *conf, struct worker *w)
{
    void *cursor = mem_alloc(lb->cursor_size ? lb->cursor_size : 1);
    if (lb->cursor_init) lb->cursor_init(cursor, conf, w);
    return cursor;
}

static void *cursor_of(struct upstream_cluster *uc, const struct lb_source *s)
{
    if (!uc->cursors) uc->cursors = mem_array(uc->hosts->source_count, sizeof(void *));
    void **cursor = &uc->cursors[s->ordinal];
    if (!*cursor) *cursor = cursor_new(uc->conf->lb, uc->conf->lb_conf, uc->worker);
    return *cursor;
}

/* --- policies inside policies
 * ----------------------------------------------------------------------------------------- */
void *lb_child_cursor_new(const struct lb_child *c, struct worker *w)
{
    return cursor_new(c->type, c->conf, w);
}

void lb_child_cursor_free(const struct lb_child *c, void **cursor)
{
    cursor_free(c->type, *cursor);
    *cursor = NULL;
}

const void *lb_child_table(const struct lb_child *c, struct arena *a, const struct lb_hosts *hosts)
{
    bool wanted = c->type->table_create && hosts->count > 0;
    return wanted ? c->type->table_create(a, c->conf, hosts) : NULL;
}

/* Walks inwards until `found` says yes of a policy. */
static bool lb_any(const struct lb_policy_type *t, const void *conf,
                   bool (*found)(const struct lb_policy_type *t))
{
    enum { DEPTH_MOST = 16 }; /* translation allows fewer */
    for (int depth = 0; depth < DEPTH_MOST; depth++) {
        if (found(t)) return true;
        if (!t->child) return false;
        const struct lb_child *c = t->child(conf);
        t = c->type;
        conf = c->conf;
    }
    return false;
}

static bool hashes(const struct lb_policy_type *t)
{
    return t->needs_hash;
}

static bool chooses(const struct lb_policy_type *t)
{
    return t->choose != NULL;
}

bool lb_needs_hash(const struct lb_policy_type *t, const void *conf)
{
    return lb_any(t, conf, hashes);
}

bool lb_may_wait(const struct lb_policy_type *t, const void *conf)
{
    return lb_any(t, conf, chooses);
}

enum lb_answer lb_choose(const struct lb_policy_type *t, void *cursor, const void *conf,
                         const void *table, const struct lb_hosts *hosts, const struct lb_ask *ask,
                         struct lb_later *later, struct host **out)
{
    *out = NULL;
    if (t->choose) return t->choose(cursor, conf, table, hosts, ask, later, out);
    *out = t->pick(cursor, conf, table, hosts, ask);
    return *out ? LB_HOST : LB_NONE;
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
    if (uc->conf->locality_weighted && !lb_needs_hash(uc->conf->lb, uc->conf->lb_conf) &&
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

static const struct lb_source *source_of(struct upstream_cluster *uc, const struct lb_ask *ask)
{
    if (uc->conf->lb->whole_cluster) return &uc->hosts->priorities[0].all;
    bool hashed = ask->has_hash && lb_needs_hash(uc->conf->lb, uc->conf->lb_conf);
    const struct lb_source *s = source_choose(uc, hashed ? ask->hash : rng_next(&uc->worker->rng));
    return s && s->hosts.count > 0 ? s : NULL;
}

static enum lb_answer answer_of(struct host *h)
{
    return h ? LB_HOST : LB_NONE;
}

enum lb_answer balance_choose(struct upstream_cluster *uc, const struct lb_ask *ask,
                              struct lb_later *later, struct host **out)
{
    *out = NULL;
    if (uc->conf->discovery == CLUSTER_ORIGINAL_DST)
        return answer_of(*out = original_dst_pick(uc, ask));
    if (!uc->hosts) return LB_NONE;
    if (ask->override_host.len > 0) {
        *out = override_find(uc, ask);
        if (*out || ask->override_strict) return answer_of(*out);
    }
    if (uc->peeked_count && !ask->avoid) {
        *out = uc->peeked[0];
        memmove(uc->peeked, uc->peeked + 1, --uc->peeked_count * sizeof(struct host *));
        return LB_HOST;
    }
    struct lb_ask now = *ask;
    enum lb_answer answer = LB_NONE;
    for (uint32_t tries = 0; tries <= ask->tries_left; tries++) {
        now.attempt = tries; /* hashing policies look elsewhere the second time */
        const struct lb_source *s = source_of(uc, ask);
        if (!s) return LB_NONE;
        answer = lb_choose(uc->conf->lb, cursor_of(uc, s), uc->conf->lb_conf, s->table, &s->hosts,
                           &now, later, out);
        if (answer != LB_HOST || !ask->avoid || !ask->avoid(ask, *out)) return answer;
    }
    return answer;
}

struct host *balance_peek(struct upstream_cluster *uc, const struct lb_ask *ask)
{
    enum { FIRST = 16 };
    const struct lb_policy_type *lb = uc->conf->lb;
    if (!lb->foresees || !uc->hosts || uc->peeked_count >= uc->hosts->healthy_count) return NULL;
    const struct lb_source *s = source_of(uc, ask);
    struct host *h =
        s ? lb->pick(cursor_of(uc, s), uc->conf->lb_conf, s->table, &s->hosts, ask) : NULL;
    if (!h) return NULL;
    if (uc->peeked_count == uc->peeked_cap) {
        uint32_t cap = uc->peeked_cap ? uc->peeked_cap * 2 : FIRST;
        struct host **v = mem_array(cap, sizeof *v);
        if (uc->peeked_count) memcpy(v, uc->peeked, uc->peeked_count * sizeof *v);
        mem_free(uc->peeked);
        uc->peeked = v;
        uc->peeked_cap = cap;
    }
    return uc->peeked[uc->peeked_count++] = h;
}

static enum upstream_drop upstream_drop_decide(struct upstream_cluster *uc)
{
    for (uint32_t i = 0; uc->hosts && i < uc->hosts->drop_count; i++) {
        const struct drop_overload *d = &uc->hosts->drops[i];
        if (d->numerator == 0 || d->denominator == 0) continue;
        if (d->numerator >= d->denominator) return UPSTREAM_DROP_ALL;
        if (rng_below(&uc->worker->rng, d->denominator) < d->numerator) return UPSTREAM_DROP_SOME;
    }
    return UPSTREAM_DROP_NO;
}

enum upstream_drop upstream_drop(struct upstream_cluster *uc)
{
    enum upstream_drop drop = upstream_drop_decide(uc);
    if (drop != UPSTREAM_DROP_NO) /* for load reports */
        atomic_fetch_add_explicit(&uc->conf->shared->drop_overload, 1, memory_order_relaxed);
    return drop;
}
