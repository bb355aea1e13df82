/* The TCP proxy's upstream side: which cluster, attempts with back-off, the connection, and the end
 * of what is still queued when the client has gone. */
#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "filters/network/tcp_proxy.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/api/metadata.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster.h" /* the cluster's names and metadata for the logs */

/* --- the flush of a connection whose client has gone
 * --------------------------------------------------------------------------- */

void tcp_link_free(struct tcp_link *l)
{
    loop_timer_stop(&l->idle);
    conn_relay_stop(&l->relay);
    tcp_tunnel_free(&l->tunnel);
    stat_group_unref(&l->stats);
    mem_free(l);
}

static void link_idle(struct loop_timer *t)
{
    struct tcp_link *l = CONTAINER_OF(t, struct tcp_link, idle);
    stat_inc(l->stats, TCP_IDLE_TIMEOUT);
    conn_close(l->conn, CONN_CLOSE_NOW);
}

static void link_flush_alone(struct tcp_link *l)
{
    struct tcp_proxy *p = l->proxy;
    l->proxy = NULL;
    l->idle_us = p->idle_us;
    l->stats = p->conf->stats ? stat_group_ref(p->conf->stats) : NULL;
    if (conn_write_queued(l->conn) == 0) {
        conn_close(l->conn, CONN_CLOSE_FLUSH);
        return;
    }
    stat_inc(l->stats, TCP_UPSTREAM_FLUSH_TOTAL);
    l->flushing = true;
    stat_inc(l->stats, TCP_UPSTREAM_FLUSH_ACTIVE);
    if (l->idle_us) loop_timer_start(l->worker->loop, &l->idle, l->idle_us, link_idle);
}

/* --- events of the connection
 * --------------------------------------------------------------------------------------------------
 */

static void link_on_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    struct tcp_link *l = owner;
    if (l->proxy) {
        tcp_proxy_upstream_read(l->proxy, in, end);
        return;
    }
    /* Nobody is there to read it: as the kernel does for a closed socket. */
    if (in->len) conn_close(c, CONN_CLOSE_NOW);
}

static void link_on_watermark(struct conn *c, void *owner, bool above)
{
    (void)c;
    struct tcp_link *l = owner;
    struct tcp_proxy *p = l->proxy;
    if (!p) {
        if (l->idle_us) loop_timer_start(l->worker->loop, &l->idle, l->idle_us, link_idle);
        return;
    }
    if (p->ended) return;
    stat_inc(p->conf->stats, above ? TCP_FLOW_PAUSED : TCP_FLOW_RESUMED);
    conn_pause_read(p->base.conn, above);
    if (!above) tcp_proxy_active(p);
}

static void link_on_flushed(struct conn *c, void *owner)
{
    struct tcp_link *l = owner;
    if (l->proxy) return;
    conn_close(c, CONN_CLOSE_FLUSH);
}

static void link_on_close(struct conn *c, void *owner, enum conn_end why)
{
    (void)c;
    struct tcp_link *l = owner;
    struct tcp_proxy *p = l->proxy;
    if (l->flushing) stat_dec(l->stats, TCP_UPSTREAM_FLUSH_ACTIVE);
    upstream_tcp_end(&l->tcp, why == CONN_END_LOCAL && !l->ended_by_peer);
    if (p) p->link = NULL;
    tcp_link_free(l);
    if (p) tcp_proxy_upstream_closed(p, why == CONN_END_RESET);
}

static const struct conn_events link_events = {
    .on_read = link_on_read,
    .on_watermark = link_on_watermark,
    .on_flushed = link_on_flushed,
    .on_close = link_on_close,
};

/* --- facts for the log
 * ---------------------------------------------------------------------------------------------------------
 */

void tcp_link_host_facts(struct tcp_proxy *p, struct host *h)
{
    struct upstream_info *up = &p->info.up;
    if (!h) return;
    host_unref(&p->host);
    p->host = host_ref(h);
    up->host = *host_address(h);
    up->host_name = host_name(h);
    up->host_metadata = host_metadata(h);
    if (p->conf->access_log)
        up->hosts_attempted = upstream_listed(network_filter_arena(&p->base), up->hosts_attempted,
                                              host_address_text(h));
}

static void link_cluster_facts(struct tcp_proxy *p, struct upstream_cluster *uc)
{
    upstream_unpin(p->base.worker, &p->uc);
    upstream_pin(uc);
    p->uc = uc;
    const struct cluster *c = upstream_conf(uc);
    p->info.up.cluster = c->obj.name;
    p->info.up.cluster_stat = c->stat_name;
    p->info.up.cluster_metadata = c->metadata;
}

void tcp_link_conn_facts(struct tcp_proxy *p, const struct conn_info *i)
{
    struct upstream_info *up = &p->info.up;
    if (!i) return;
    up->local = i->local;
    up->remote = i->remote;
    up->conn_id = i->id;
}

static void link_moved(struct conn_relay *r, struct conn *from, size_t n)
{
    struct tcp_link *l = CONTAINER_OF(r, struct tcp_link, relay);
    if (l->proxy) tcp_proxy_moved(l->proxy, from == l->conn, n);
}

/* --- attempts
 * ------------------------------------------------------------------------------------------------------------------
 */

static void link_on_ready(struct upstream_tcp *t)
{
    struct tcp_link *l = t->owner;
    struct tcp_proxy *p = l->proxy;
    l->conn = t->conn;
    l->up = true;
    conn_set_owner(l->conn, &link_events, l);
    tcp_link_host_facts(p, t->host);
    p->info.up.cx_begin_us = t->start_us;
    p->info.up.cx_end_us = p->info.up.pool_ready_us = t->ready_us;
    if (p->conf->access_log) tcp_link_conn_facts(p, conn_info_of(l->conn));
    tcp_proxy_connected(p);
    if (p->ended || p->link != l || !l->conn || !network_filter_alone(&p->base)) return;
    if (p->conf->check_drain) return; /* looks at each exchange */
    l->relay.moved = link_moved;
    conn_relay_start(&l->relay, p->base.conn, l->conn);
}

static void retry_fire(struct loop_timer *t)
{
    tcp_connect(CONTAINER_OF(t, struct tcp_proxy, retry));
}

/* Envoy: exponential from base_interval, bounded, with full jitter. */
static void attempt_again(struct tcp_proxy *p)
{
    const struct tcp_conf *c = p->conf;
    if (p->attempts < c->max_attempts && c->backoff_us) {
        uint64_t most = c->backoff_us;
        for (uint32_t i = 1; i < p->attempts && most < c->backoff_most_us; i++)
            most *= 2;
        if (most > c->backoff_most_us) most = c->backoff_most_us;
        loop_timer_start(p->base.worker->loop, &p->retry, rng_below(&p->base.worker->rng, most),
                         retry_fire);
        return;
    }
    tcp_connect(p);
}

void tcp_link_failed(struct tcp_link *l, enum upstream_failure why, struct str detail)
{
    struct tcp_proxy *p = l->proxy;
    if (why == UPSTREAM_NO_HOST || why == UPSTREAM_OVERFLOW)
        p->info.up.attempts--; /* Envoy: nothing was tried */
    if (detail.len && p->conf->access_log)
        p->info.up.transport_failure = str_dup(network_filter_arena(&p->base), detail);
    p->link = NULL;
    tcp_link_free(l);
    switch (why) {
    case UPSTREAM_NO_HOST:
        stream_info_flag(&p->info, RF_UH);
        tcp_proxy_give_up(p);
        return;
    case UPSTREAM_OVERFLOW:
        stream_info_flag(&p->info, RF_UO);
        tcp_proxy_give_up(p);
        return;
    case UPSTREAM_CONNECT_FAILED:
    case UPSTREAM_CONNECT_TIMEOUT: stream_info_flag(&p->info, RF_UF); break;
    case UPSTREAM_LOCAL_FAILURE: break;
    }
    attempt_again(p);
}

static void link_on_failure(struct upstream_tcp *t, enum upstream_failure why, struct str detail)
{
    struct tcp_link *l = t->owner;
    if (why != UPSTREAM_OVERFLOW) tcp_link_host_facts(l->proxy, t->host);
    tcp_link_failed(l, why, detail);
}

static const struct upstream_tcp_events link_tcp_events = {.on_ready = link_on_ready,
                                                           .on_failure = link_on_failure};

/* Envoy: filter state "envoy.tcp_proxy.cluster" (sni_cluster sets it) goes before a single cluster,
 * not before weighted ones. */
static bool target_from_state(struct tcp_proxy *p, struct tcp_target *out)
{
    const struct filter_state *s = network_filter_info(&p->base)->state;
    const struct filter_state_entry *e = filter_state_find(s, STR("envoy.tcp_proxy.cluster"));
    if (!e || !e->text) return false;
    struct str name = e->text(e->object, p->base.worker->scratch);
    *out = (struct tcp_target){
        .cluster = name, .hash = hash_str(name), .metadata_match = p->conf->metadata_match};
    return true;
}

static bool target_choose(struct tcp_proxy *p, struct tcp_target *out)
{
    const struct tcp_conf *c = p->conf;
    if (!c->weighted) {
        if (target_from_state(p, out)) return true;
        if (c->target_count == 0) return false;
        *out = c->targets[0];
        return true;
    }
    uint64_t draw = rng_below(&p->base.worker->rng, c->total_weight);
    size_t i = 0;
    while (i + 1 < c->target_count && draw >= c->targets[i].weight)
        draw -= c->targets[i++].weight;
    *out = c->targets[i];
    return true;
}

static void hash_fill(struct tcp_proxy *p, struct lb_ask *ask)
{
    const struct conn_info *i = ask->downstream;
    char ip[ADDR_TEXT_MAX];
    switch (p->conf->hash) {
    case TCP_HASH_NONE: return;
    case TCP_HASH_SOURCE_IP:
        if (!addr_is_ip(&i->remote)) return;
        ask->hash = hash_xxh64(str_make(ip, addr_format_ip(&i->remote, ip)), 0);
        ask->has_hash = true;
        return;
    case TCP_HASH_FILTER_STATE: {
        const struct filter_state_entry *e = filter_state_find(i->state, p->conf->hash_key);
        if (!e || !e->text) return;
        ask->hash = hash_xxh64(e->text(e->object, p->base.worker->scratch), 0);
        ask->has_hash = true;
        return;
    }
    }
}

static void connect_answered(struct on_demand *d, bool found)
{
    struct tcp_proxy *p = CONTAINER_OF(d, struct tcp_proxy, question);
    uint64_t waited_us = loop_now_us(p->base.worker->loop) - p->asked_us;
    enum tcp_on_demand_stat what = TCP_ON_DEMAND_SUCCESS;
    if (!found)
        what = waited_us >= p->conf->on_demand_us ? TCP_ON_DEMAND_TIMEOUT : TCP_ON_DEMAND_MISSING;
    stat_inc(p->conf->on_demand_stats, what);
    tcp_connect(p);
}

/* Asks once for a cluster that nobody has. True: the connection waits. */
static bool connect_asks(struct tcp_proxy *p, const struct tcp_target *t)
{
    struct worker *w = p->base.worker;
    if (!p->conf->on_demand || p->asked_us) return false;
    struct on_demand_question q = {.kind = ON_DEMAND_CLUSTER,
                                   .name = t->cluster,
                                   .source = p->conf->on_demand,
                                   .timeout_us = p->conf->on_demand_us};
    p->asked = *t;
    p->asked.cluster = str_dup(network_filter_arena(&p->base), t->cluster);
    p->asked_us = loop_now_us(w->loop);
    stat_inc(p->conf->on_demand_stats, TCP_ON_DEMAND_ATTEMPT);
    return on_demand_ask(w, &p->question, &q, connect_answered);
}

void tcp_connect(struct tcp_proxy *p)
{
    struct worker *w = p->base.worker;
    struct tcp_target target = p->asked;
    if (p->question.call) return; /* still waiting for the cluster */
    bool routed = p->asked_us || target_choose(p, &target);
    struct upstream_cluster *uc = routed ? upstream_find(w, target.cluster, target.hash) : NULL;
    if (!uc && routed && connect_asks(p, &target)) return;
    if (!uc) {
        stat_inc(p->conf->stats, TCP_CX_NO_ROUTE);
        stream_info_flag(&p->info, RF_NC); /* Envoy: also for an empty name */
        tcp_proxy_give_up(p);
        return;
    }
    link_cluster_facts(p, uc);
    if (p->attempts >= p->conf->max_attempts) {
        stream_info_flag(&p->info, RF_URX);
        stat_inc(upstream_stats(uc), CLUSTER_STAT_UPSTREAM_CX_CONNECT_ATTEMPTS_EXCEEDED);
        tcp_proxy_give_up(p);
        return;
    }
    p->info.up.attempts = ++p->attempts;
    struct tcp_link *l = mem_alloc(sizeof(*l));
    l->proxy = p;
    l->worker = w;
    l->tcp.events = &link_tcp_events;
    l->tcp.owner = l;
    p->link = l;
    struct lb_ask ask = {.worker = w,
                         .stream = &p->info,
                         .downstream = p->info.conn,
                         .metadata_match = target.metadata_match,
                         .attempt = p->attempts};
    hash_fill(p, &ask);
    if (p->tunnels)
        tcp_tunnel_start(l, uc, &ask); /* l may be gone after either */
    else
        upstream_tcp_start(w, uc, &l->tcp, &ask);
}

void tcp_link_drop(struct tcp_proxy *p, enum tcp_drop how)
{
    struct tcp_link *l = p->link;
    loop_timer_stop(&p->retry);
    on_demand_cancel(&p->question);
    if (!l) return;
    p->link = NULL;
    if (l->tunnel) {
        tcp_tunnel_drop(l, p->down_ended && p->up_ended);
        return;
    }
    if (!l->conn) {
        upstream_tcp_cancel(&l->tcp);
        tcp_link_free(l);
        return;
    }
    if (how == TCP_DROP_FLUSH) {
        link_flush_alone(l);
        return;
    }
    l->proxy = NULL;
    conn_close(l->conn, how == TCP_DROP_RESET ? CONN_CLOSE_RESET : CONN_CLOSE_NOW);
}

void tcp_link_write(struct tcp_link *l, struct buf *data, bool end)
{
    if (l->tunnel)
        tcp_tunnel_write(l->tunnel, data, end);
    else
        conn_write(l->conn, data, end);
}

void tcp_link_pause(struct tcp_link *l, bool pause)
{
    if (l->tunnel)
        tcp_tunnel_pause(l->tunnel, pause);
    else
        conn_pause_read(l->conn, pause);
}

uint64_t tcp_link_written(const struct tcp_link *l)
{
    return l->conn ? conn_bytes_written(l->conn) : 0;
}

const struct tls_info *tcp_link_tls(const struct tcp_link *l)
{
    if (l->tunnel) return tcp_tunnel_tls(l->tunnel);
    return l->conn ? conn_info_of(l->conn)->tls : NULL;
}
