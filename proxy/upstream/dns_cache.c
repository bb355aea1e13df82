/* Names that are resolved when somebody asks for them.
 *
 * Main holds every name, its timers and its address, and tells all workers what became of it;
 * publications of hosts travel ahead of that word (runtime_each_worker), so that who is told
 * "resolved" finds the host. A worker knows names in a seat of its own and asks main for others.
 * References: configuration, and every message on its way. */
#include "proxy/upstream/dns_cache.h"

#include <stdatomic.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/loop.h"
#include "base/map.h"
#include "base/must.h"
#include "base/rand.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/cluster_manager.h"
#include "proxy/upstream/dns_internal.h"

enum dns_cache_stat {
    DNSC_LOAD,     /* from a store that outlives the process: never */
    DNSC_FILTERED, /* likewise */
    DNSC_ATTEMPT,
    DNSC_FAILURE,
    DNSC_SUCCESS,
    DNSC_TIMEOUT,
    DNSC_PENDING_OVERFLOW,
    DNSC_ADDED,
    DNSC_CHANGED,
    DNSC_OVERFLOW,
    DNSC_REMOVED,
    DNSC_HOSTS,
    DNSC_STATS
};
static const struct stat_def dns_cache_defs[DNSC_STATS] = {
    [DNSC_LOAD] = {"cache_load", STAT_COUNTER, 0},
    [DNSC_FILTERED] = {"dns_address_filter_out", STAT_COUNTER, 0},
    [DNSC_ATTEMPT] = {"dns_query_attempt", STAT_COUNTER, 0},
    [DNSC_FAILURE] = {"dns_query_failure", STAT_COUNTER, 0},
    [DNSC_SUCCESS] = {"dns_query_success", STAT_COUNTER, 0},
    [DNSC_TIMEOUT] = {"dns_query_timeout", STAT_COUNTER, 0},
    [DNSC_PENDING_OVERFLOW] = {"dns_rq_pending_overflow", STAT_COUNTER, 0},
    [DNSC_ADDED] = {"host_added", STAT_COUNTER, 0},
    [DNSC_CHANGED] = {"host_address_changed", STAT_COUNTER, 0},
    [DNSC_OVERFLOW] = {"host_overflow", STAT_COUNTER, 0},
    [DNSC_REMOVED] = {"host_removed", STAT_COUNTER, 0},
    [DNSC_HOSTS] = {"num_hosts", STAT_GAUGE, 0},
};

/* When a name was last asked for: written by workers, read by main, relaxed. */
struct dns_touch {
    _Atomic uint32_t refs;
    _Atomic uint64_t used_us;
};
/* What a worker knows of a name. The key is behind the struct. */
struct dns_known {
    struct dns_touch *touch; /* NULL: not answered yet */
    struct list waits;
    struct addr addr; /* len 0: not ok */
    struct str why;   /* not ok: heap */
    struct str key;
};
struct dns_seat {
    struct map names; /* struct dns_known */
};
/* Main's side of a name. The key is behind the struct. */
struct dns_name {
    struct dns_cache *cache;
    struct dns_touch *touch;
    struct dns_query *query;
    struct loop_timer refresh, timeout;
    struct addr addr; /* len 0: none yet */
    uint64_t backoff_us;
    uint16_t port;
    bool asking, answered;
    char why[80]; /* of the last failure */
    struct str key, host;
};
struct dns_cache {
    _Atomic uint32_t refs, pending;
    struct dns_cache_conf conf;
    struct arena *arena; /* of the texts of conf */
    struct runtime *rt;
    struct dns *dns;
    struct stat_group *stats;
    struct rng rng;
    struct map names;  /* main */
    struct list feeds; /* main */
    struct loop_later ready;
    struct dns_seat seats[]; /* by worker */
};
struct dns_feed {
    struct list link;
    struct cluster *cluster;
};

static void touch_drop(struct dns_touch **t)
{
    if (*t && atomic_fetch_sub_explicit(&(*t)->refs, 1, memory_order_acq_rel) == 1) mem_free(*t);
    *t = NULL;
}

static struct dns_touch *touch_ref(struct dns_touch *t)
{
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

static struct dns_cache *cache_ref(struct dns_cache *c)
{
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

/* --- news: from main to the workers
 * ----------------------------------------------------------------------------- */
enum dns_event { DNS_EVENT_OK, DNS_EVENT_FAILED, DNS_EVENT_OVERFLOW, DNS_EVENT_REMOVED };
struct dns_news {
    struct dns_cache *cache;
    enum dns_event what;
    struct dns_touch *touch;
    struct addr addr; /* DNS_EVENT_OK */
    char why[80];
    struct str key;
};

static struct dns_known *known_new(struct dns_seat *s, struct str key)
{
    struct dns_known *k = mem_alloc(sizeof(*k) + key.len + 1);
    memcpy(k + 1, key.ptr, key.len);
    k->key = str_make((char *)(k + 1), key.len);
    list_init(&k->waits);
    (void)map_put(&s->names, k->key, k);
    return k;
}

static void known_why(struct dns_known *k, const char *text)
{
    struct str s = str_of(text);
    mem_free(k->why.len ? (void *)(uintptr_t)k->why.ptr : NULL);
    k->why = STR_NONE;
    if (!s.len) return;
    char *copy = mem_alloc(s.len);
    memcpy(copy, s.ptr, s.len);
    k->why = str_make(copy, s.len);
}

static void known_free(struct dns_seat *s, struct dns_known *k)
{
    (void)map_remove(&s->names, k->key);
    touch_drop(&k->touch);
    known_why(k, NULL);
    mem_free(k);
}

static void known_answer(struct dns_known *k, enum dns_answer a)
{
    for (struct list *it; (it = list_first(&k->waits));) {
        struct dns_wait *w = CONTAINER_OF(it, struct dns_wait, link);
        dns_cache_forget(w);
        w->why = k->why;
        w->address = &k->addr;
        w->done(w, a);
    }
}

static void news_arrived(struct worker *w, void *arg)
{
    const struct dns_news *n = arg;
    struct dns_seat *s = &n->cache->seats[w->index];
    struct dns_known *k = map_get(&s->names, n->key);
    bool answered = n->what == DNS_EVENT_OK || n->what == DNS_EVENT_FAILED;
    if (!k && !answered) return;
    if (!k) k = known_new(s, n->key);
    if (answered) {
        touch_drop(&k->touch);
        k->touch = touch_ref(n->touch);
        k->addr = n->addr;
        known_why(k, n->why);
        known_answer(k, k->addr.len ? DNS_RESOLVED : DNS_FAILED);
        return;
    }
    known_answer(k, n->what == DNS_EVENT_OVERFLOW ? DNS_TOO_MANY : DNS_FAILED);
    if (list_empty(&k->waits)) known_free(s, k);
}

static void news_told(void *arg)
{
    struct dns_news *n = arg;
    touch_drop(&n->touch);
    dns_cache_unref(&n->cache);
    mem_free(n);
}

static struct dns_news *news_new(struct dns_cache *c, struct str key, enum dns_event what)
{
    struct dns_news *n = mem_alloc(sizeof(*n) + key.len + 1);
    memcpy(n + 1, key.ptr, key.len);
    n->cache = cache_ref(c);
    n->what = what;
    n->key = str_make((char *)(n + 1), key.len);
    return n;
}

static void news_tell(struct dns_news *n)
{
    runtime_each_worker(n->cache->rt, news_arrived, n, news_told);
}

/* --- clusters
 * ---------------------------------------------------------------------------------------------------
 */
static struct load_assignment *cache_assignment(const struct dns_cache *c)
{
    enum { OVERPROVISIONING = 140 };
    struct load_assignment *la = obj_new(sizeof(*la), "names");
    struct arena *a = la->obj.arena;
    la->overprovisioning = OVERPROVISIONING;
    la->count = 1;
    la->v = ARENA_NEW(a, struct locality_endpoints);
    la->v[0].v = ARENA_ARRAY(a, struct endpoint, c->names.count);
    struct str key;
    void *value;
    for (size_t it = 0; map_next(&c->names, &it, &key, &value);) {
        const struct dns_name *n = value;
        if (!n->addr.len) continue;
        la->v[0].v[la->v[0].count++] =
            (struct endpoint){.addr = n->addr, .hostname = str_dup(a, n->key), .weight = 1};
    }
    return la;
}

static void cache_tell_clusters(struct dns_cache *c)
{
    LIST_FOREACH_SAFE (&c->feeds, it, next)
        cluster_set_hosts(CONTAINER_OF(it, struct dns_feed, link)->cluster, cache_assignment(c));
}

void dns_cache_feed(struct dns_cache *c, struct cluster *to)
{
    struct dns_feed *f = mem_alloc(sizeof(*f));
    f->cluster = to;
    to->feed = f;
    list_push_back(&c->feeds, &f->link);
    cluster_set_hosts(to, cache_assignment(c));
}

void dns_cache_unfeed(struct cluster *c)
{
    struct dns_feed *f = c->feed;
    c->feed = NULL;
    if (!f) return;
    list_remove(&f->link);
    mem_free(f);
}

/* --- names: main
 * ------------------------------------------------------------------------------------------------
 */
static void name_resolve(struct dns_name *n);

static void name_free(struct dns_name *n)
{
    dns_cancel(&n->query);
    loop_timer_stop(&n->refresh);
    loop_timer_stop(&n->timeout);
    touch_drop(&n->touch);
    mem_free(n);
}

static void name_remove(struct dns_name *n)
{
    struct dns_cache *c = n->cache;
    bool had = n->addr.len > 0;
    (void)map_remove(&c->names, n->key);
    stat_inc(c->stats, DNSC_REMOVED);
    stat_dec(c->stats, DNSC_HOSTS);
    if (had) cache_tell_clusters(c);
    news_tell(news_new(c, n->key, DNS_EVENT_REMOVED));
    name_free(n);
}

/* Envoy: a name that nobody asked for since host_ttl goes; others are asked anew. */
static void name_refresh(struct loop_timer *t)
{
    struct dns_name *n = CONTAINER_OF(t, struct dns_name, refresh);
    uint64_t used = atomic_load_explicit(&n->touch->used_us, memory_order_relaxed);
    uint64_t now = loop_now_us(n->cache->rt->main);
    if (now > used && now - used > n->cache->conf.host_ttl_us)
        name_remove(n);
    else
        name_resolve(n);
}

static uint64_t name_delay(struct dns_name *n, bool ok, uint32_t ttl_s)
{
    const struct dns_cache_conf *conf = &n->cache->conf;
    if (ok) {
        n->backoff_us = conf->dns.failure_base_us;
        uint64_t us = ttl_s ? (uint64_t)ttl_s * 1000000 : conf->dns.refresh_us;
        return us > conf->min_refresh_us ? us : conf->min_refresh_us;
    }
    if (conf->dns.failure_base_us == conf->dns.failure_max_us) return conf->dns.failure_base_us;
    uint64_t us = rng_below(&n->cache->rng, n->backoff_us) + 1;
    n->backoff_us =
        n->backoff_us * 2 < conf->dns.failure_max_us ? n->backoff_us * 2 : conf->dns.failure_max_us;
    return us;
}

static void name_tell(const struct dns_name *n)
{
    bool ok = n->addr.len > 0;
    struct dns_news *news = news_new(n->cache, n->key, ok ? DNS_EVENT_OK : DNS_EVENT_FAILED);
    news->touch = touch_ref(n->touch);
    news->addr = n->addr;
    if (!ok) (void)snprintf(news->why, sizeof(news->why), "%s", n->why);
    news_tell(news);
}

/* ok: there was an answer, though perhaps without an address. */
static void name_answered(struct dns_name *n, const struct addr *to, bool ok, uint32_t ttl_s)
{
    struct dns_cache *c = n->cache;
    bool first = !n->answered, changed = false;
    n->answered = true;
    loop_timer_stop(&n->timeout);
    loop_timer_start(c->rt->main, &n->refresh, name_delay(n, ok, ttl_s), name_refresh);
    if (to) {
        struct addr with = *to;
        addr_set_port(&with, n->port);
        changed = n->addr.len == 0 || !addr_eq(&with, &n->addr);
        n->addr = with;
    }
    if (changed) {
        stat_inc(c->stats, DNSC_CHANGED);
        cache_tell_clusters(c);
    }
    if (first || changed) name_tell(n);
}

static void name_done(void *arg, const struct dns_result *r)
{
    struct dns_name *n = arg;
    n->query = NULL;
    n->asking = false;
    stat_inc(n->cache->stats, r->ok ? DNSC_SUCCESS : DNSC_FAILURE);
    (void)snprintf(n->why, sizeof(n->why), "%.*s", STR_ARG(r->why));
    name_answered(n, r->ok && r->count ? &r->v[0] : NULL, r->ok, r->ttl_s);
}

static void name_timeout(struct loop_timer *t)
{
    struct dns_name *n = CONTAINER_OF(t, struct dns_name, timeout);
    dns_cancel(&n->query);
    stat_inc(n->cache->stats, DNSC_TIMEOUT);
    stat_inc(n->cache->stats, DNSC_FAILURE);
    (void)snprintf(n->why, sizeof(n->why), "resolve_timeout");
    name_answered(n, NULL, false, 0);
}

static void name_resolve(struct dns_name *n)
{
    struct dns_cache *c = n->cache;
    struct addr literal;
    stat_inc(c->stats, DNSC_ATTEMPT);
    if (addr_parse_ip(n->host, n->port, &literal)) {
        stat_inc(c->stats, DNSC_SUCCESS);
        name_answered(n, &literal, true, 0);
        return;
    }
    if (c->conf.query_timeout_us)
        loop_timer_start(c->rt->main, &n->timeout, c->conf.query_timeout_us, name_timeout);
    if (!c->dns) c->dns = dns_new(c->rt);
    n->asking = true;
    struct dns_query *q = dns_resolve(c->dns, &c->conf.dns, n->host, name_done, n);
    if (n->asking) n->query = q; /* else it is done already */
}

/* "host:port", "[::1]:port" */
static bool key_cut(struct str key, struct str *host, uint16_t *port)
{
    struct str number;
    if (!str_cut_last(key, ':', host, &number) || !str_to_u16(number, port)) return false;
    if (host->len > 2 && host->ptr[0] == '[') *host = str_sub(*host, 1, host->len - 2);
    return host->len > 0;
}

static void name_new(struct dns_cache *c, struct str key)
{
    struct dns_name *n = mem_alloc(sizeof(*n) + key.len + 1);
    memcpy(n + 1, key.ptr, key.len);
    n->key = str_make((char *)(n + 1), key.len);
    n->cache = c;
    n->backoff_us = c->conf.dns.failure_base_us;
    n->touch = mem_alloc(sizeof(*n->touch));
    n->touch->refs = 1;
    n->touch->used_us = loop_now_us(c->rt->main);
    (void)map_put(&c->names, n->key, n);
    stat_inc(c->stats, DNSC_ADDED);
    stat_inc(c->stats, DNSC_HOSTS);
    if (key_cut(n->key, &n->host, &n->port))
        name_resolve(n);
    else
        name_answered(n, NULL, false, 0);
}

static void name_ask(struct dns_cache *c, struct str key)
{
    struct dns_name *n = map_get(&c->names, key);
    if (!n && c->names.count >= c->conf.max_hosts) {
        stat_inc(c->stats, DNSC_OVERFLOW);
        news_tell(news_new(c, key, DNS_EVENT_OVERFLOW));
    } else if (!n) {
        name_new(c, key);
    } else if (n->answered) { /* the asker forgot, or its question crossed the answer */
        name_tell(n);
    }
}

/* --- questions: from a worker to main
 * --------------------------------------------------------------------------- */
struct dns_question {
    struct dns_cache *cache;
    struct str key;
};

static void question_arrived(void *arg)
{
    struct dns_question *q = arg;
    name_ask(q->cache, q->key);
    dns_cache_unref(&q->cache);
    mem_free(q);
}

static void question_post(struct dns_cache *c, struct str key)
{
    struct dns_question *q = mem_alloc(sizeof(*q) + key.len + 1);
    memcpy(q + 1, key.ptr, key.len);
    *q = (struct dns_question){cache_ref(c), str_make((char *)(q + 1), key.len)};
    runtime_to_main(c->rt, question_arrived, q);
}

struct str dns_cache_key(struct arena *a, struct str host, uint16_t default_port)
{
    struct str name, port;
    uint16_t number;
    bool bare_v6 = host.len && host.ptr[0] != '[' && str_find_char(host, ':') != SIZE_MAX &&
                   str_find_char(host, ':') != str_rfind_char(host, ':');
    bool has_port = !bare_v6 && str_cut_last(host, ':', &name, &port) && str_to_u16(port, &number);
    if (has_port) return str_dup(a, host);
    return str_fmt(a, bare_v6 ? "[%.*s]:%u" : "%.*s:%u", STR_ARG(host), (unsigned)default_port);
}

enum dns_answer dns_cache_ask(struct worker *w, struct dns_cache *c, struct str host,
                              uint16_t default_port, struct dns_wait *wait)
{
    struct dns_seat *s = &c->seats[w->index];
    struct str key = dns_cache_key(w->scratch, host, default_port);
    struct dns_known *k = map_get(&s->names, key);
    if (k && k->touch) {
        atomic_store_explicit(&k->touch->used_us, loop_now_us(w->loop), memory_order_relaxed);
        wait->why = k->why;
        wait->address = &k->addr;
        return k->addr.len ? DNS_RESOLVED : DNS_FAILED;
    }
    if (atomic_load_explicit(&c->pending, memory_order_relaxed) >= c->conf.max_pending) {
        stat_inc(c->stats, DNSC_PENDING_OVERFLOW);
        return DNS_PENDING;
    }
    if (!k) {
        k = known_new(s, key);
        question_post(c, key);
    }
    atomic_fetch_add_explicit(&c->pending, 1, memory_order_relaxed);
    wait->cache = c;
    list_push_back(&k->waits, &wait->link);
    return DNS_LATER;
}

void dns_cache_forget(struct dns_wait *w)
{
    if (!list_linked(&w->link)) return;
    list_remove(&w->link);
    atomic_fetch_sub_explicit(&w->cache->pending, 1, memory_order_relaxed);
}

/* --- life: main
 * -------------------------------------------------------------------------------------------------
 */
struct dns_cache *dns_cache_get(struct runtime *rt, const struct dns_cache_conf *conf)
{
    struct dns_cache *c = map_get(&rt->dns_caches, conf->name);
    if (c) return c->conf.meaning == conf->meaning ? cache_ref(c) : NULL;
    struct arena *a = arena_new("dns cache", 0);
    c = mem_alloc(sizeof(*c) + rt->concurrency * sizeof(c->seats[0]));
    c->refs = 1;
    c->arena = a;
    c->rt = rt;
    c->conf = *conf;
    c->conf.name = str_dup(a, conf->name);
    c->conf.dns.resolvers =
        arena_copy(a, conf->dns.resolvers, conf->dns.resolver_count * sizeof(*conf->dns.resolvers));
    list_init(&c->feeds);
    rng_init(&c->rng, 0);
    struct str prefix = str_fmt(a, "dns_cache.%.*s.", STR_ARG(c->conf.name));
    c->stats = stat_group_get(rt->stats, prefix, dns_cache_defs, DNSC_STATS);
    (void)map_put(&rt->dns_caches, c->conf.name, c);
    return c;
}

static void seat_release(struct dns_seat *s)
{
    struct str key;
    void *value;
    for (size_t it = 0; map_next(&s->names, &it, &key, &value);)
        known_free(s, value);
    map_release(&s->names);
}

void dns_cache_preresolve(struct dns_cache *c, struct str key)
{
    if (!map_get(&c->names, key)) name_ask(c, key);
}

void dns_cache_unref(struct dns_cache **cp)
{
    struct dns_cache *c = *cp;
    *cp = NULL;
    if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) > 1) return;
    must(list_empty(&c->feeds));
    (void)map_remove(&c->rt->dns_caches, c->conf.name);
    if (c->rt->dns_caches.count == 0) map_release(&c->rt->dns_caches);
    struct str key;
    void *value;
    for (size_t it = 0; map_next(&c->names, &it, &key, &value);) {
        stat_dec(c->stats, DNSC_HOSTS);
        name_free(value);
    }
    map_release(&c->names);
    for (unsigned i = 0; i < c->rt->concurrency; i++)
        seat_release(&c->seats[i]);
    if (c->dns) dns_free(&c->dns);
    stat_group_unref(&c->stats);
    arena_free(&c->arena);
    mem_free(c);
}
