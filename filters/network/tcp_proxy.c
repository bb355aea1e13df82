/* envoy.filters.network.tcp_proxy: a client's connection and an upstream one, bytes and half-closes
 * both ways, back-pressure both ways. The upstream side is in tcp_proxy_upstream.c, the
 * configuration in tcp_proxy_conf.c. */
#include "filters/network/tcp_proxy.h"

#include "base/arena.h"
#include "base/must.h"
#include "base/proxy_header.h"
#include "base/rand.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/api/format.h"
#include "proxy/api/metadata.h"
#include "proxy/runtime/runtime.h"

static struct tcp_proxy *proxy_of(struct network_filter *f)
{
    return CONTAINER_OF(f, struct tcp_proxy, base);
}

/* --- access log
 * ------------------------------------------------------------------------------------------------------------------
 */

static void proxy_log(struct tcp_proxy *p, enum access_log_type type)
{
    const struct tcp_conf *c = p->conf;
    if (!c->access_log || access_log_empty(c->access_log)) return;
    struct stream_info *i = &p->info;
    struct worker *w = p->base.worker;
    if (!i->request_id.len) { /* %STREAM_ID% */
        char uuid[37];
        rng_uuid(&w->rng, uuid);
        i->request_id = str_dup(network_filter_arena(&p->base), str_of(uuid));
    }
    i->arena = w->scratch;
    i->end_us = loop_now_us(w->loop);
    i->flags |= i->conn->flags;
    if (i->conn->code_details.len) i->code_details = i->conn->code_details;
    i->dynamic = i->conn->metadata;
    i->state = i->conn->state;
    i->remote = i->conn->remote;
    i->bytes_received =
        conn_bytes_read(p->base.conn); /* Envoy: also what no upstream was there for */
    i->wire_received = i->up.wire_sent = i->bytes_received;
    i->wire_sent = i->up.wire_received = i->bytes_sent;
    if (p->link) i->up.tls = tcp_link_tls(p->link);
    access_log_run(w, c->access_log, i, type);
    i->up.tls = NULL;
}

static void log_fire(struct loop_timer *t)
{
    struct tcp_proxy *p = CONTAINER_OF(t, struct tcp_proxy, log_timer);
    proxy_log(p, ACCESS_LOG_TYPE_TCP_PERIODIC);
    loop_timer_start(p->base.worker->loop, t, p->conf->log_interval_us, log_fire);
}

/* --- timers
 * ----------------------------------------------------------------------------------------------------------------------
 */

static uint64_t bytes_moved(const struct tcp_proxy *p)
{
    return conn_bytes_written(p->base.conn) + (p->link ? tcp_link_written(p->link) : 0);
}

static void idle_look(struct loop_timer *t);

/* Activity only notes the time; the timer looks four times in an idle period, because a slow reader
 * of a full queue is not idle. */
static void idle_wait(struct tcp_proxy *p, uint64_t left)
{
    enum { LOOKS = 4, LOOK_LEAST_US = 1000 };
    uint64_t step = p->idle_us / LOOKS > LOOK_LEAST_US ? p->idle_us / LOOKS : LOOK_LEAST_US;
    loop_timer_start(p->base.worker->loop, &p->idle, left < step ? left : step, idle_look);
}

static void idle_look(struct loop_timer *t)
{
    struct tcp_proxy *p = CONTAINER_OF(t, struct tcp_proxy, idle);
    uint64_t now = loop_now_us(p->base.worker->loop), moved = bytes_moved(p);
    /* What the last activity itself wrote is no activity of its own. */
    if (!p->fresh && moved != p->moved) p->active_us = now;
    p->fresh = false;
    p->moved = moved;
    if (now - p->active_us < p->idle_us) {
        idle_wait(p, p->idle_us - (now - p->active_us));
        return;
    }
    stat_inc(p->conf->stats, TCP_IDLE_TIMEOUT);
    conn_close(p->base.conn, CONN_CLOSE_NOW);
}

void tcp_proxy_active(struct tcp_proxy *p)
{
    if (!p->idle_us || p->ended) return;
    p->active_us = loop_now_us(p->base.worker->loop);
    p->fresh = true;
    if (!loop_timer_running(&p->idle)) idle_wait(p, p->idle_us);
}

static void duration_fire(struct loop_timer *t)
{
    struct tcp_proxy *p = CONTAINER_OF(t, struct tcp_proxy, duration);
    stream_info_flag(&p->info, RF_DT);
    stat_inc(p->conf->stats, TCP_MAX_DURATION);
    conn_close(p->base.conn, CONN_CLOSE_NOW);
}

static struct str state_text(struct tcp_proxy *p, struct str name)
{
    const struct filter_state_entry *e =
        filter_state_find(network_filter_info(&p->base)->state, name);
    return e && e->text ? e->text(e->object, p->base.worker->scratch) : STR_NONE;
}

/* What filters before this one say about this connection alone. */
static void overrides_take(struct tcp_proxy *p)
{
    uint64_t idle_ms;
    p->idle_us = p->conf->idle_us;
    if (str_to_u64(state_text(p, STR("envoy.tcp_proxy.per_connection_idle_timeout_ms")), &idle_ms))
        p->idle_us = idle_ms * 1000;
    p->tunnels = p->conf->tunnel &&
                 !str_eq(state_text(p, STR("envoy.tcp_proxy.disable_tunneling")), STR("true"));
}

static void tlvs_configured(struct tcp_proxy *p, struct sb *out)
{
    const struct tcp_conf *c = p->conf;
    struct arena *scratch = p->base.worker->scratch;
    p->info.arena = scratch;
    for (size_t i = 0; i < c->tlv_count; i++) {
        const struct tcp_tlv *t = &c->tlvs[i];
        struct str value = t->format ? format_dup(t->format, &p->info, scratch) : t->value;
        (void)proxy_tlv_add(out, t->type, value); /* one that is too long is left out */
    }
}

static bool tlv_configured(const struct tcp_conf *c, uint8_t type)
{
    for (size_t i = 0; i < c->tlv_count; i++) {
        if (c->tlvs[i].type == type) return true;
    }
    return false;
}

/* The client's own, which the listener filter checked; without those whose type is configured. */
static void tlvs_received(const struct tcp_conf *c, struct str all, struct sb *out)
{
    struct str value;
    uint8_t type;
    while (proxy_tlv_next(&all, &type, &value))
        if (!tlv_configured(c, type)) (void)proxy_tlv_add(out, type, value); /* it was one */
}

/* Envoy: what becomes of the TLVs of a PROXY header that came in, is the policy's to say. */
static void tlvs_add(struct tcp_proxy *p)
{
    const struct tcp_conf *c = p->conf;
    struct conn_info *info = network_filter_info(&p->base);
    bool own = info->proxy_tlvs.len || !addr_eq(&info->remote, &info->direct_remote);
    if (c->tlv_count == 0 || (own && c->tlv_merge == TCP_TLV_ADD_IF_ABSENT)) return;
    struct sb all = {0};
    if (c->tlv_merge == TCP_TLV_APPEND) sb_add(&all, info->proxy_tlvs);
    tlvs_configured(p, &all);
    if (c->tlv_merge == TCP_TLV_OVERWRITE) tlvs_received(c, info->proxy_tlvs, &all);
    info->proxy_tlvs = str_dup(network_filter_arena(&p->base), sb_str(&all));
    sb_release(&all);
}

static void timers_start(struct tcp_proxy *p)
{
    const struct tcp_conf *c = p->conf;
    struct worker *w = p->base.worker;
    tcp_proxy_active(p);
    if (c->log_interval_us && c->access_log)
        loop_timer_start(w->loop, &p->log_timer, c->log_interval_us, log_fire);
    if (!c->duration_us) return;
    uint64_t more = (uint64_t)((double)c->duration_us * c->duration_jitter *
                               (double)rng_below(&w->rng, 1000) / 1000);
    loop_timer_start(w->loop, &p->duration, c->duration_us + more, duration_fire);
}

/* --- the end of both directions
 * ----------------------------------------------------------------------------------------------------
 */

/* Both peers have said all: what is queued is still written, then both connections close. */
static void proxy_finish(struct tcp_proxy *p, bool upstream_last)
{
    if (p->link) p->link->ended_by_peer = upstream_last;
    conn_close(p->base.conn, CONN_CLOSE_FLUSH); /* on_close drops the link */
}

/* --- what the upstream side tells
 * ----------------------------------------------------------------------------------------------------
 */

void tcp_proxy_connected(struct tcp_proxy *p)
{
    struct tcp_link *l = p->link;
    if (p->conf->log_connected) proxy_log(p, ACCESS_LOG_TYPE_TCP_UPSTREAM_CONNECTED);
    if (p->early.len || p->down_ended) {
        p->info.up.first_tx_us = loop_now_us(p->base.worker->loop);
        tcp_link_write(l, &p->early, p->down_ended);
    }
    if (conn_above_watermark(p->base.conn)) tcp_link_pause(l, true);
    if (p->paused) {
        p->paused = false;
        conn_pause_read(p->base.conn, false);
    }
    tcp_proxy_active(p);
}

void tcp_proxy_moved(struct tcp_proxy *p, bool from_upstream, size_t n)
{
    struct stream_info *i = &p->info;
    uint64_t now = loop_now_us(p->base.worker->loop);
    tcp_proxy_active(p);
    if (from_upstream) {
        i->bytes_sent += n;
        if (!i->up.first_rx_us) i->up.first_rx_us = i->first_tx_us = now;
        i->up.last_rx_us = i->last_tx_us = now;
    } else {
        if (!i->up.first_tx_us) i->up.first_tx_us = now;
        i->last_rx_us = i->up.last_tx_us = now;
    }
}

/* Envoy: what was read is still written. */
static void drain_look(struct tcp_proxy *p)
{
    if (!p->conf->check_drain || p->ended || !network_filter_draining(&p->base)) return;
    stat_inc(p->conf->stats, TCP_CX_DRAIN_CLOSE);
    conn_close(p->base.conn, CONN_CLOSE_FLUSH);
}

void tcp_proxy_upstream_read(struct tcp_proxy *p, struct buf *in, bool end)
{
    if (in->len) tcp_proxy_moved(p, true, in->len);
    bool ends = end && !p->up_ended;
    if (in->len || ends) conn_write(p->base.conn, in, end);
    if (ends) p->up_ended = true;
    if (ends && p->down_ended && p->link)
        proxy_finish(p, true);
    else
        drain_look(p);
}

/* Envoy: a reset is passed on. */
void tcp_proxy_upstream_closed(struct tcp_proxy *p, bool reset)
{
    if (p->ended) return;
    if (reset) stream_info_flag(&p->info, RF_UR);
    conn_close(p->base.conn, reset ? CONN_CLOSE_RESET : CONN_CLOSE_FLUSH);
}

void tcp_proxy_give_up(struct tcp_proxy *p)
{
    if (!p->ended) conn_close(p->base.conn, CONN_CLOSE_NOW);
}

/* --- the filter
 * ----------------------------------------------------------------------------------------------------------------------
 */

static const void *tcp_proxy_conf(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                  const struct network_filter_place *place)
{
    (void)place;
    return tcp_conf_create(at, msg);
}

/* Envoy counts and logs connections that a filter before this one ends, too. */
static void tcp_proxy_on_attach(struct network_filter *f)
{
    struct tcp_proxy *p = proxy_of(f);
    const struct conn_info *info = network_filter_info(f);
    p->conf = f->conf;
    p->info = (struct stream_info){.worker = f->worker,
                                   .conn = network_filter_info(f),
                                   .start_us = info->start_us,
                                   .start_wall_us = info->start_wall_us,
                                   .random = rng_next(&f->worker->rng)};
    conn_set_half_close(f->conn, true);
    stat_inc(p->conf->stats, TCP_CX_TOTAL);
    if (p->conf->stats) conn_set_byte_stats(f->conn, &p->conf->bytes);
}

static enum net_flow tcp_proxy_on_new(struct network_filter *f)
{
    struct tcp_proxy *p = proxy_of(f);
    const struct tcp_conf *c = p->conf;
    overrides_take(p);
    tlvs_add(p);
    timers_start(p);
    if (c->log_start) proxy_log(p, ACCESS_LOG_TYPE_TCP_CONNECTION_START);
    if (!c->early_data) {
        p->paused = true;
        conn_pause_read(f->conn, true);
    }
    if (c->connect_mode == TCP_CONNECT_NOW) tcp_connect(p);
    return NET_CONTINUE;
}

/* Bytes of the client before there is an upstream: kept up to the limit. */
static void proxy_keep_early(struct tcp_proxy *p, struct buf *data, bool end)
{
    const struct tcp_conf *c = p->conf;
    if (!c->early_data)
        return; /* stays in the connection's buffer, is shown again after the connect */
    bool any = data->len > 0;
    if (any && !p->early_counted) {
        p->early_counted = true;
        stat_inc(c->stats, TCP_EARLY_DATA);
    }
    buf_move(&p->early, data);
    if (end) p->down_ended = true;
    if (p->early.len > c->early_most && !p->paused) {
        p->paused = true;
        conn_pause_read(p->base.conn, true);
    }
    bool waits = c->connect_mode == TCP_CONNECT_ON_DATA && p->attempts == 0;
    if (waits && any)
        tcp_connect(p);
    else if (waits && end)
        conn_close(p->base.conn, CONN_CLOSE_FLUSH);
}

static enum net_flow tcp_proxy_on_read(struct network_filter *f, struct buf *data, bool end)
{
    struct tcp_proxy *p = proxy_of(f);
    if (!p->link || !p->link->up) {
        if (data->len) tcp_proxy_active(p);
        proxy_keep_early(p, data, end);
        if (p->conf->early_data) drain_look(p);
        return NET_HOLD;
    }
    if (data->len) tcp_proxy_moved(p, false, data->len);
    bool ends = end && !p->down_ended;
    if (ends) p->down_ended = true;
    if (data->len || ends) tcp_link_write(p->link, data, end);
    if (ends && p->up_ended)
        proxy_finish(p, false);
    else
        drain_look(p);
    return NET_HOLD;
}

static void tcp_proxy_on_watermark(struct network_filter *f, bool above)
{
    struct tcp_proxy *p = proxy_of(f);
    if (!p->link || !p->link->up) return;
    stat_inc(upstream_stats(p->uc), above
                                        ? CLUSTER_STAT_UPSTREAM_FLOW_CONTROL_PAUSED_READING_TOTAL
                                        : CLUSTER_STAT_UPSTREAM_FLOW_CONTROL_RESUMED_READING_TOTAL);
    tcp_link_pause(p->link, above);
    if (!above) tcp_proxy_active(p);
}

/* Envoy: a client's reset is passed on; what a client that closed had sent is still delivered. */
static enum tcp_drop drop_how(const struct tcp_proxy *p)
{
    if (p->down_ended && p->up_ended) return TCP_DROP_FLUSH;
    if (p->info.conn->remote_reset) return TCP_DROP_RESET;
    return p->info.conn->local_close ? TCP_DROP_NOW : TCP_DROP_FLUSH;
}

static void tcp_proxy_on_close(struct network_filter *f)
{
    struct tcp_proxy *p = proxy_of(f);
    if (p->ended) return;
    p->ended = true;
    loop_timer_stop(&p->idle);
    loop_timer_stop(&p->duration);
    loop_timer_stop(&p->log_timer);
    proxy_log(p, ACCESS_LOG_TYPE_TCP_CONNECTION_END);
    tcp_link_drop(p, drop_how(p));
    buf_release(&p->early);
}

static void tcp_proxy_destroy(struct network_filter *f)
{
    struct tcp_proxy *p = proxy_of(f);
    buf_release(&p->early);
    host_unref(&p->host);
    upstream_unpin(f->worker, &p->uc);
}

const struct network_filter_type tcp_proxy_filter = {
    .ext = {.name = "envoy.filters.network.tcp_proxy",
            .config = &envoy__extensions__filters__network__tcp_proxy__v3__tcp_proxy__descriptor},
    .instance_size = sizeof(struct tcp_proxy),
    .terminal = true,
    .conf_create = tcp_proxy_conf,
    .on_attach = tcp_proxy_on_attach,
    .on_new = tcp_proxy_on_new,
    .on_read = tcp_proxy_on_read,
    .on_watermark = tcp_proxy_on_watermark,
    .on_close = tcp_proxy_on_close,
    .destroy = tcp_proxy_destroy,
};
