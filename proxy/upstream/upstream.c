/* The worker's face of the clusters (proxy/api/upstream.h): finding one by name, starting and
 * steering attempts. */
#include "proxy/api/stream_info.h"
#include "proxy/upstream/upstream_internal.h"

#include "base/arena.h"
#include "base/must.h"
#include "proxy/http/h1.h"
#include "proxy/net/conn.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/pool_codec.h"

/* WORKER_UPSTREAM: the clusters that this worker has used. */
struct upstream_worker {
    struct map by_name; /* struct upstream_cluster *, the current versions */
    struct list all;    /* also replaced ones that still have users */
    struct map named;   /* struct named_stats * */
};
struct named_stats {
    struct stat_group *groups[4];
};
struct upstream_node {
    struct list link;
    struct upstream_cluster uc;
};

/* --- life of a worker's cluster
 * ---------------------------------------------------------------------------------------------------------
 */
static void uc_hosts_set(struct upstream_cluster *uc, struct pin *hosts)
{
    balance_reset(uc);
    if (hosts) pin_hold(hosts);
    if (uc->hosts_pin) pin_drop(uc->worker, &uc->hosts_pin);
    uc->hosts_pin = hosts;
    uc->hosts = hosts ? CONTAINER_OF(hosts->obj, struct host_set, obj) : NULL;
}

static struct upstream_cluster *uc_new(struct worker *w, struct pin *pin, struct pin *hosts)
{
    struct upstream_worker *uw = w->slot[WORKER_UPSTREAM];
    struct upstream_node *n = mem_alloc(sizeof(*n));
    struct upstream_cluster *uc = &n->uc;
    uc->worker = w;
    uc->pin = pin_hold(pin);
    uc->conf = CONTAINER_OF(pin->obj, struct cluster, obj);
    uc->name = uc->conf->obj.name;
    list_init(&uc->pools);
    list_init(&uc->udps);
    uc->bytes = (struct conn_byte_stats){
        uc->conf->shared->stats, CLUSTER_STAT_UPSTREAM_CX_RX_BYTES_TOTAL,
        CLUSTER_STAT_UPSTREAM_CX_RX_BYTES_BUFFERED, CLUSTER_STAT_UPSTREAM_CX_TX_BYTES_TOTAL,
        CLUSTER_STAT_UPSTREAM_CX_TX_BYTES_BUFFERED};
    uc_hosts_set(uc, hosts);
    list_push_back(&uw->all, &n->link);
    map_put(&uw->by_name, uc->name, uc);
    return uc;
}

static void uc_free(struct upstream_cluster *uc)
{
    struct upstream_node *n = CONTAINER_OF(uc, struct upstream_node, uc);
    uc_hosts_set(uc, NULL);
    original_dst_release(uc);
    pin_drop(uc->worker, &uc->pin);
    map_release(&uc->pool_by_key);
    for (size_t i = 0; i < ARRAY_LEN(uc->codec_stats); i++)
        stat_group_unref(&uc->codec_stats[i]);
    for (size_t i = 0; i < ARRAY_LEN(uc->code_stats); i++)
        stat_group_unref(&uc->code_stats[i]);
    list_remove(&n->link);
    mem_free(n);
}

/* No longer the one found by name: ends its pools; lives on for its users. */
static void uc_detach(struct upstream_worker *uw, struct upstream_cluster *uc)
{
    map_remove(&uw->by_name, uc->name);
    uc->detached = true;
    uc->users++;
    pools_drain_all(uc);
    udps_end_all(uc);
    if (--uc->users == 0) uc_free(uc);
}

void upstream_pin(struct upstream_cluster *uc)
{
    uc->users++;
}

void upstream_unpin(struct worker *w, struct upstream_cluster **ucp)
{
    (void)w;
    struct upstream_cluster *uc = *ucp;
    *ucp = NULL;
    if (!uc) return;
    must(uc->users > 0);
    if (--uc->users == 0 && uc->detached) uc_free(uc);
}

struct upstream_cluster *upstream_find(struct worker *w, struct str name, uint64_t hash)
{
    struct upstream_worker *uw = w->slot[WORKER_UPSTREAM];
    struct upstream_cluster *uc = map_get_hashed(&uw->by_name, name, hash);
    if (uc) return uc;
    struct pin *pin = worker_find(w, TABLE_CLUSTERS, name, hash);
    return pin ? uc_new(w, pin, worker_find(w, TABLE_HOSTS, name, hash)) : NULL;
}

const struct cluster *upstream_conf(const struct upstream_cluster *uc)
{
    return uc->conf;
}

bool upstream_health(struct worker *w, struct str name, uint64_t hash, struct upstream_health *out)
{
    const struct upstream_cluster *uc = upstream_find(w, name, hash);
    *out = (struct upstream_health){0};
    if (!uc) return false;
    if (uc->hosts)
        *out = (struct upstream_health){.total = uc->hosts->host_count,
                                        .healthy = uc->hosts->healthy_count,
                                        .degraded = uc->hosts->degraded_count};
    return true;
}

void upstream_name_facts(const struct upstream_cluster *uc, struct stream_info *info)
{
    const struct cluster *c = upstream_conf(uc);
    info->up.cluster = c->obj.name;
    info->up.cluster_stat = c->stat_name;
    info->up.cluster_metadata = c->metadata;
}

struct stat_group *upstream_stats(const struct upstream_cluster *uc)
{
    return uc->conf->shared->stats;
}

struct stat_group *upstream_code_stats(struct upstream_cluster *uc, enum upstream_code_scope which)
{
    static const char *const scopes[] = {"", "internal.", "external.", "canary.", "retry."};
    if (uc->code_stats[which]) return uc->code_stats[which];
    struct sb name = {0};
    sb_fmt(&name, "cluster.%.*s.%s", STR_ARG(uc->conf->stat_name), scopes[which]);
    uc->code_stats[which] =
        stat_group_get(uc->worker->rt->stats, sb_str(&name), code_stat_defs, CODE_STAT_COUNT);
    sb_release(&name);
    return uc->code_stats[which];
}

struct stat_group *upstream_named_stats(struct worker *w, struct str prefix, unsigned which,
                                        const struct stat_def *defs, size_t count)
{
    struct upstream_worker *uw = w->slot[WORKER_UPSTREAM];
    struct named_stats *n = map_get(&uw->named, prefix);
    enum { NAMES_MOST = 65536 }; /* some names come from requests */
    must(which < ARRAY_LEN(n->groups));
    if (!n && uw->named.count >= NAMES_MOST) return NULL;
    if (!n) {
        n = mem_alloc(sizeof(*n) + prefix.len + 1);
        memcpy(n + 1, prefix.ptr, prefix.len);
        map_put(&uw->named, str_make((char *)(n + 1), prefix.len), n);
    }
    if (!n->groups[which]) n->groups[which] = stat_group_get(w->rt->stats, prefix, defs, count);
    return n->groups[which];
}

static void named_free(struct upstream_worker *uw)
{
    size_t it = 0;
    void *value;
    while (map_next(&uw->named, &it, NULL, &value)) {
        struct named_stats *n = value;
        for (size_t i = 0; i < ARRAY_LEN(n->groups); i++)
            stat_group_unref(&n->groups[i]);
        mem_free(n);
    }
    map_release(&uw->named);
}

/* --- worker hooks
 * ---------------------------------------------------------------------------------------------------------------------------
 */
static void upstream_worker_start(struct worker *w)
{
    struct upstream_worker *uw = mem_alloc(sizeof(*uw));
    list_init(&uw->all);
    w->slot[WORKER_UPSTREAM] = uw;
}

static void upstream_worker_stop(struct worker *w)
{
    struct upstream_worker *uw = w->slot[WORKER_UPSTREAM];
    if (!uw) return;
    LIST_FOREACH_SAFE (&uw->all, it, next)
        pools_close_all(&CONTAINER_OF(it, struct upstream_node, link)->uc);
    loop_turn(w->loop, false); /* what the pools put off to the end of a turn */
    LIST_FOREACH_SAFE (&uw->all, it, next)
        uc_free(&CONTAINER_OF(it, struct upstream_node, link)->uc);
    map_release(&uw->by_name);
    named_free(uw);
    mem_free(uw);
    w->slot[WORKER_UPSTREAM] = NULL;
}

static void upstream_worker_changed(struct worker *w, enum table t, struct str name,
                                    struct pin *old, struct pin *now)
{
    (void)old;
    struct upstream_worker *uw = w->slot[WORKER_UPSTREAM];
    if (t != TABLE_CLUSTERS && t != TABLE_HOSTS) return;
    struct upstream_cluster *uc = map_get(&uw->by_name, name);
    if (!uc) return;
    if (t == TABLE_CLUSTERS) {
        if (!now || now->obj != uc->pin->obj) uc_detach(uw, uc);
        return;
    }
    if (!now) return; /* the cluster goes, too, or has gone */
    uc_hosts_set(uc, now);
    pools_follow_hosts(uc);
    udps_follow_hosts(uc);
}

const struct worker_hooks upstream_worker_hooks = {
    .start = upstream_worker_start,
    .stop = upstream_worker_stop,
    .changed = upstream_worker_changed,
};

/* --- attempts
 * ----------------------------------------------------------------------------------------------------------------------------------
 */
void upstream_fail(struct upstream_attempt *a, enum upstream_failure why, struct str detail)
{
    struct upstream_cluster *uc = a->uc;
    a->events->on_failure(a, why, detail);
    upstream_unpin(uc->worker, &uc);
}

static void attempt_chosen(void *arg, const struct lb_ask *ask, struct host *h)
{
    struct upstream_attempt *a = arg;
    attempt_priv(a)->choice = NULL;
    a->host = h;
    if (!h) {
        stat_inc(upstream_stats(a->uc), CLUSTER_STAT_UPSTREAM_CX_NONE_HEALTHY);
        upstream_fail(a, UPSTREAM_NO_HOST, STR_NONE);
        return;
    }
    pool_start(a->uc, a, ask, pool_protocol(a->uc, ask));
}

void upstream_start(struct worker *w, struct upstream_cluster *uc, struct upstream_attempt *a,
                    const struct lb_ask *ask)
{
    a->uc = uc;
    upstream_pin(uc);
    a->start_us = loop_now_us(w->loop);
    const struct choice how = {.done = attempt_chosen, .arg = a};
    enum lb_answer answer = choice_start(uc, ask, &how, &a->host, &attempt_priv(a)->choice);
    if (answer != LB_LATER) attempt_chosen(a, ask, a->host);
}

void upstream_send_headers(struct upstream_attempt *a, struct headers *h, bool end)
{
    if (a->stream) a->stream->codec->ops->send_headers(a->stream, h, end);
}

void upstream_send_data(struct upstream_attempt *a, struct buf *data, bool end)
{
    if (a->stream)
        a->stream->codec->ops->send_data(a->stream, data, end);
    else
        buf_drain(data, buf_len(data));
}

void upstream_send_trailers(struct upstream_attempt *a, struct headers *t)
{
    if (a->stream) a->stream->codec->ops->send_trailers(a->stream, t);
}

struct str upstream_listed(struct arena *a, struct str list, struct str one)
{
    enum { LIST_MOST = 16384 };
    if (list.len > LIST_MOST) return list;
    return list.len ? str_fmt(a, "%.*s,%.*s", STR_ARG(list), STR_ARG(one)) : str_dup(a, one);
}

void upstream_send_metadata(struct upstream_attempt *a, struct buf *block)
{
    if (a->stream) a->stream->codec->ops->send_metadata(a->stream, block);
    buf_release(block);
}

void upstream_pause(struct upstream_attempt *a, bool pause)
{
    if (!a->stream) return;
    stat_inc(upstream_stats(a->uc), pause
                                        ? CLUSTER_STAT_UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL
                                        : CLUSTER_STAT_UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
    a->stream->codec->ops->pause(a->stream, pause);
}

void upstream_wire(struct upstream_attempt *a)
{
    if (!a->stream) return;
    const struct codec_counts *n = a->stream->codec->ops->counts(a->stream);
    a->header_sent = n->header_sent;
    a->wire_sent = n->wire_sent;
    a->header_received = n->header_received;
    a->wire_received = n->wire_received;
}

void upstream_cancel(struct upstream_attempt *a)
{
    if (!attempt_priv(a)->pool && !attempt_priv(a)->choice && !attempt_priv(a)->raw) return;
    struct upstream_cluster *uc = a->uc;
    if (attempt_priv(a)->raw)
        raw_cancel(a);
    else if (attempt_priv(a)->choice)
        choice_cancel(&attempt_priv(a)->choice);
    else
        pool_cancel(a);
    upstream_unpin(uc->worker, &uc);
}

void upstream_report(struct upstream_attempt *a, uint32_t status)
{
    if (!a->host) return;
    struct host_cells *c = &a->host->cells;
    atomic_fetch_add_explicit(status >= 500 ? &c->rq_error : &c->rq_success, 1,
                              memory_order_relaxed);
}

void upstream_report_timeout(struct upstream_attempt *a)
{
    if (a->host) atomic_fetch_add_explicit(&a->host->cells.rq_timeout, 1, memory_order_relaxed);
}
