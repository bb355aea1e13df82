/* STRICT_DNS and LOGICAL_DNS: each endpoint's name is resolved again and again; the addresses
 * become the cluster's hosts. */
#include "base/arena.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/must.h"
#include "base/rand.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/cluster_manager.h"
#include "proxy/upstream/dns_internal.h"

/* One endpoint's name. */
struct dns_target {
    struct dns_feed *feed;
    const struct endpoint *endpoint;
    struct dns_query *query; /* NULL: none under way */
    bool asking;             /* inside dns_resolve */
    struct addr *v;          /* heap */
    size_t count;
    uint64_t backoff_us; /* of the next failure */
    struct loop_timer timer;
};
struct dns_feed {
    struct dns *dns;
    struct cluster *c;
    struct rng rng;
    bool told; /* hosts were told once */
    size_t count;
    struct dns_target targets[];
};

static void target_resolve(struct dns_target *t);

static void target_fire(struct loop_timer *timer)
{
    target_resolve(CONTAINER_OF(timer, struct dns_target, timer));
}

/* The endpoints as configured, each once for every address of its name (LOGICAL_DNS: the first). */
static struct load_assignment *feed_assignment(const struct dns_feed *f)
{
    struct load_assignment *la = obj_new(sizeof(*la), "dns");
    const struct load_assignment *conf = f->c->endpoints;
    struct arena *a = la->obj.arena;
    la->overprovisioning = conf->overprovisioning;
    la->weighted_priority_health = conf->weighted_priority_health;
    la->drops = conf->drops;
    la->drop_count = conf->drop_count;
    la->count = conf->count;
    la->v = ARENA_ARRAY(a, struct locality_endpoints, conf->count);
    const struct dns_target *t = f->targets;
    for (size_t i = 0; i < conf->count; i++) {
        la->v[i] = conf->v[i];
        size_t n = 0;
        for (size_t k = 0; k < conf->v[i].count; k++)
            n += t[k].count;
        la->v[i].v = ARENA_ARRAY(a, struct endpoint, n);
        la->v[i].count = 0;
        for (size_t k = 0; k < conf->v[i].count; k++, t++) {
            size_t most = f->c->discovery == CLUSTER_LOGICAL_DNS && t->count > 1 ? 1 : t->count;
            for (size_t x = 0; x < most; x++) {
                struct endpoint *e = &la->v[i].v[la->v[i].count++];
                *e = *t->endpoint;
                e->addr = t->v[x];
            }
        }
    }
    return la;
}

static bool same_addresses(const struct dns_target *t, const struct dns_result *r)
{
    if (t->count != r->count) return false;
    for (size_t i = 0; i < r->count; i++) {
        bool found = false;
        for (size_t k = 0; k < t->count && !found; k++) {
            struct addr a = r->v[i];
            addr_set_port(&a, t->endpoint->port);
            found = addr_eq(&t->v[k], &a);
        }
        if (!found) return false;
    }
    return true;
}

static void target_keep(struct dns_target *t, const struct dns_result *r)
{
    mem_free(t->v);
    t->v = mem_array(r->count + 1, sizeof(*t->v));
    t->count = r->count;
    for (size_t i = 0; i < r->count; i++) {
        t->v[i] = r->v[i];
        addr_set_port(&t->v[i], t->endpoint->port);
    }
}

static uint64_t delay_after(struct dns_target *t, const struct dns_result *r)
{
    const struct dns_settings *s = t->feed->c->dns;
    if (r->ok && r->count > 0) {
        t->backoff_us = s->failure_base_us;
        uint64_t delay =
            s->respect_ttl && r->ttl_s > 0 ? (uint64_t)r->ttl_s * 1000000 : s->refresh_us;
        return delay + (s->jitter_us ? rng_below(&t->feed->rng, s->jitter_us) : 0);
    }
    if (s->failure_base_us == s->failure_max_us) return s->failure_base_us;
    uint64_t delay = rng_below(&t->feed->rng, t->backoff_us) + 1;
    t->backoff_us = t->backoff_us * 2 < s->failure_max_us ? t->backoff_us * 2 : s->failure_max_us;
    return delay;
}

static void target_done(void *arg, const struct dns_result *r)
{
    struct dns_target *t = arg;
    struct dns_feed *f = t->feed;
    struct stat_group *g = f->c->shared->stats;
    struct loop *l = dns_runtime(f->dns)->main;
    t->query = NULL;
    t->asking = false;
    loop_timer_start(l, &t->timer, delay_after(t, r), target_fire);
    stat_inc(g, r->ok ? CLUSTER_STAT_UPDATE_SUCCESS : CLUSTER_STAT_UPDATE_FAILURE);
    log_debug(LOG_C_DNS, "%.*s: %s, %zu addresses", STR_ARG(t->endpoint->dns),
              r->ok ? "resolved" : "failed", r->count);
    if (!r->ok) {
        if (!f->told) cluster_set_failed(f->c);
        f->told = true;
        return;
    }
    if (f->told && same_addresses(t, r)) {
        stat_inc(g, CLUSTER_STAT_UPDATE_NO_REBUILD);
        stat_add(g, CLUSTER_STAT_DEFAULT_TOTAL_MATCH_COUNT, r->count);
        return;
    }
    target_keep(t, r);
    f->told = true;
    cluster_set_hosts(f->c, feed_assignment(f));
}

static void target_resolve(struct dns_target *t)
{
    stat_inc(t->feed->c->shared->stats, CLUSTER_STAT_UPDATE_ATTEMPT);
    t->asking = true;
    struct dns_query *q =
        dns_resolve(t->feed->dns, t->feed->c->dns, t->endpoint->dns, target_done, t);
    if (t->asking) t->query = q; /* else it is done already */
}

void dns_cluster_start(struct dns *d, struct cluster *c)
{
    size_t n = 0;
    for (size_t i = 0; i < c->endpoints->count; i++)
        n += c->endpoints->v[i].count;
    struct dns_feed *f = mem_alloc(sizeof(*f) + n * sizeof(f->targets[0]));
    f->dns = d;
    f->c = c;
    f->count = n;
    rng_init(&f->rng, 0);
    c->feed = f;
    n = 0;
    for (size_t i = 0; i < c->endpoints->count; i++) {
        for (size_t k = 0; k < c->endpoints->v[i].count; k++) {
            struct dns_target *t = &f->targets[n++];
            t->feed = f;
            t->endpoint = &c->endpoints->v[i].v[k];
            t->backoff_us = c->dns->failure_base_us;
        }
    }
    if (n == 0) cluster_set_failed(c);
    for (size_t i = 0; i < n; i++)
        target_resolve(&f->targets[i]);
}

void dns_cluster_stop(struct cluster *c)
{
    struct dns_feed *f = c->feed;
    c->feed = NULL;
    if (!f) return;
    for (size_t i = 0; i < f->count; i++) {
        struct dns_target *t = &f->targets[i];
        dns_cancel(&t->query);
        loop_timer_stop(&t->timer);
        mem_free(t->v);
    }
    mem_free(f);
}
