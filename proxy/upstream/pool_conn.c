/* One connection of a pool: its states, the exchanges on it, and its end. */
#include "base/must.h"
#include "proxy/api/transport_socket.h"
#include "proxy/http/h1.h"
#include "proxy/upstream/pool_codec.h"
#include "proxy/upstream/pool_internal.h"

/* Its exchange is over: counts, and frees its place on the connection. */
void pc_detach(struct upstream_attempt *a)
{
    struct attempt_priv *v = attempt_priv(a);
    struct pool_conn *pc = v->pc;
    struct pool *p = pc->pool;
    upstream_wire(a);
    list_remove(&v->link);
    pc->streams--;
    p->active--;
    v->pc = NULL;
    v->pool = NULL;
    v->live = false;
    a->stream = NULL;
    breaker_give(p->uc->conf, p->priority, BREAKER_RQ);
    atomic_fetch_sub_explicit(&p->host->cells.rq_active, 1, memory_order_relaxed);
    stat_dec(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_ACTIVE);
}

/* --- connections
 * -----------------------------------------------------------------------------------------------------------------------
 */
static void pc_state(struct pool_conn *pc, enum pool_conn_state to)
{
    struct pool *p = pc->pool;
    uint32_t *const counts[] = {&p->connecting_count, &p->ready_count, &p->busy_count, NULL};
    struct list *const lists[] = {&p->connecting, &p->ready, &p->busy, NULL};
    if (list_linked(&pc->link)) (*counts[pc->state])--;
    list_remove(&pc->link);
    pc->state = to;
    if (!lists[to]) return;
    list_push_front(lists[to], &pc->link); /* Envoy: the connection used last is used first */
    (*counts[to])++;
}

static void pc_bury(struct loop_later *later)
{
    struct pool_conn *pc = CONTAINER_OF(later, struct pool_conn, bury);
    if (pc->codec) pc->codec->ops->free(pc->codec);
    mem_free(pc);
}

static void pc_idle_fire(struct loop_timer *t)
{
    struct pool_conn *pc = CONTAINER_OF(t, struct pool_conn, idle);
    stat_inc(pool_stats(pc->pool), CLUSTER_STAT_UPSTREAM_CX_IDLE_TIMEOUT);
    conn_close(pc->conn, CONN_CLOSE_NOW);
}

/* After each change: where does the connection belong now? */
void pc_settle(struct pool_conn *pc)
{
    struct pool *p = pc->pool;
    if (pc->state == POOL_CONN_CLOSED || pc->state == POOL_CONN_CONNECTING) return;
    bool spent = pc->draining || p->draining || pc->broken;
    if (pc->streams == 0) {
        if (spent || !pc->codec->ops->keep_alive(pc->codec)) {
            conn_close(pc->conn,
                       pc->codec->ops->kind == CODEC_H2 ? CONN_CLOSE_FLUSH : CONN_CLOSE_NOW);
            return;
        }
        uint64_t idle = p->uc->conf->http->idle_timeout_us;
        if (idle > 0) loop_timer_start(p->uc->worker->loop, &pc->idle, idle, pc_idle_fire);
    } else {
        loop_timer_stop(&pc->idle);
    }
    bool room = !spent && pc->streams < pc->codec->ops->stream_limit(pc->codec);
    enum pool_conn_state to = room ? POOL_CONN_READY : POOL_CONN_BUSY;
    if (pc->state != to) pc_state(pc, to);
    if (room && p->pending_count > 0) pool_check(p);
}

static void pc_drain(struct pool_conn *pc)
{
    if (pc->draining || pc->state == POOL_CONN_CLOSED) return;
    pc->draining = true;
    pc_settle(pc);
}

static void pc_lifetime_fire(struct loop_timer *t)
{
    struct pool_conn *pc = CONTAINER_OF(t, struct pool_conn, lifetime);
    stat_inc(pool_stats(pc->pool), CLUSTER_STAT_UPSTREAM_CX_MAX_DURATION_REACHED);
    pc_drain(pc);
}

/* An HTTP/1 exchange broke off: its connection cannot go on. */
void pc_cut(struct pool_conn *pc)
{
    pc->draining = true;
    if (pc->state != POOL_CONN_CLOSED) pc->cut = 1;
}

/* --- what the codec says about an exchange
 * -----------------------------------------------------------------------------------------------
 */
static void stream_on_headers(struct codec_stream *s, void *owner, struct headers *h, bool end)
{
    (void)s;
    struct upstream_attempt *a = owner;
    attempt_priv(a)->begun = true;
    attempt_priv(a)->ended = end;
    a->events->on_headers(a, h, end);
}
static void stream_on_1xx(struct codec_stream *s, void *owner, struct headers *h)
{
    (void)s;
    struct upstream_attempt *a = owner;
    if (a->events->on_1xx) a->events->on_1xx(a, h);
}
static void stream_on_data(struct codec_stream *s, void *owner, struct buf *data, bool end)
{
    (void)s;
    struct upstream_attempt *a = owner;
    attempt_priv(a)->ended = end;
    a->events->on_data(a, data, end);
}
static void stream_on_trailers(struct codec_stream *s, void *owner, struct headers *t)
{
    (void)s;
    struct upstream_attempt *a = owner;
    attempt_priv(a)->ended = true;
    a->events->on_trailers(a, t);
}
static void stream_on_metadata(struct codec_stream *s, void *owner, struct buf *block)
{
    (void)s;
    struct upstream_attempt *a = owner;
    if (a->events->on_metadata) a->events->on_metadata(a, block);
}
static void stream_on_watermark(struct codec_stream *s, void *owner, bool above)
{
    (void)s;
    struct upstream_attempt *a = owner;
    struct pool *p = attempt_priv(a)->pool;
    stat_inc(pool_stats(p), above ? CLUSTER_STAT_UPSTREAM_FLOW_CONTROL_BACKED_UP_TOTAL
                                  : CLUSTER_STAT_UPSTREAM_FLOW_CONTROL_DRAINED_TOTAL);
    if (a->events->on_watermark) a->events->on_watermark(a, above);
}
static void stream_on_reset(struct codec_stream *s, void *owner, enum stream_reset why,
                            struct str details)
{
    (void)s;
    struct upstream_attempt *a = owner;
    struct upstream_cluster *uc = a->uc;
    struct pool_conn *pc = attempt_priv(a)->pc;
    if (why == RESET_REMOTE || why == RESET_REMOTE_REFUSED)
        stat_inc(pool_stats(pc->pool), CLUSTER_STAT_UPSTREAM_RQ_RX_RESET);
    if (why == RESET_PROTOCOL_ERROR && pc->codec->ops->kind == CODEC_H2)
        stat_inc(pool_stats(pc->pool), CLUSTER_STAT_UPSTREAM_RQ_TX_RESET);
    pc_detach(a);
    if (pc->codec->ops->kind == CODEC_H1) pc_cut(pc);
    pc_settle(pc);
    a->events->on_reset(a, why, details);
    upstream_unpin(uc->worker, &uc);
}
static void stream_on_complete(struct codec_stream *s, void *owner)
{
    (void)s;
    struct upstream_attempt *a = owner;
    struct upstream_cluster *uc = a->uc;
    struct pool_conn *pc = attempt_priv(a)->pc;
    pc_detach(a);
    pc_settle(pc);
    a->events->on_complete(a);
    upstream_unpin(uc->worker, &uc);
}
static const struct codec_stream_events stream_events = {
    .on_headers = stream_on_headers,
    .on_1xx = stream_on_1xx,
    .on_data = stream_on_data,
    .on_trailers = stream_on_trailers,
    .on_metadata = stream_on_metadata,
    .on_reset = stream_on_reset,
    .on_watermark = stream_on_watermark,
    .on_complete = stream_on_complete,
};

static void codec_on_goaway(struct codec *c, void *owner)
{
    (void)c;
    struct pool_conn *pc = owner;
    if (c->ops->kind == CODEC_H2)
        stat_inc(pool_stats(pc->pool), CLUSTER_STAT_UPSTREAM_CX_CLOSE_NOTIFY);
    pc_drain(pc);
}
static void codec_on_error(struct codec *c, void *owner, struct str details)
{
    (void)c;
    (void)details;
    struct pool_conn *pc = owner;
    stat_inc(pool_stats(pc->pool), CLUSTER_STAT_UPSTREAM_CX_PROTOCOL_ERROR);
    pc->broken = true;
    pc->draining = true;
}
static const struct codec_events codec_events = {.on_goaway = codec_on_goaway,
                                                 .on_error = codec_on_error};

/* Puts an attempt on a connection that has room. */
void pc_attach(struct pool *p, struct pool_conn *pc, struct upstream_attempt *a)
{
    struct stat_group *g = pool_stats(p);
    struct attempt_priv *v = attempt_priv(a);
    pool_unqueue(p, a);
    if (!breaker_room(p->uc->conf, p->priority, BREAKER_RQ)) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_ACTIVE_OVERFLOW);
        pool_fail(a, UPSTREAM_OVERFLOW, STR_NONE);
        return;
    }
    struct codec_stream *s = pc->codec->ops->request(pc->codec, a->arena, &stream_events, a);
    if (!s) {
        pc_drain(pc);
        pool_fail(a, UPSTREAM_LOCAL_FAILURE, STR_NONE);
        return;
    }
    breaker_take(p->uc->conf, p->priority, BREAKER_RQ);
    atomic_fetch_add_explicit(&p->host->cells.rq_active, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->host->cells.rq_total, 1, memory_order_relaxed);
    stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_TOTAL);
    stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_ACTIVE);
    list_push_back(&pc->attempts, &v->link);
    p->active++;
    v->pc = pc;
    v->live = true;
    pc->streams++;
    a->reused = pc->served++ > 0;
    a->stream = s;
    a->conn = pc->conn;
    a->conn_info = conn_info_of(pc->conn);
    a->protocol = pc->codec->ops->kind == CODEC_H2 ? UPSTREAM_PROTO_H2 : UPSTREAM_PROTO_H1;
    a->connect_begin_us = pc->begin_us;
    a->ready_us = pool_now_us(p);
    uint32_t most = p->uc->conf->http->max_requests_per_connection;
    if (most > 0 && pc->served >= most) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_MAX_REQUESTS);
        pc->draining = true;
    }
    pc_settle(pc);
    a->events->on_ready(a);
}

static void pc_count_version(struct pool_conn *pc, bool h2)
{
    stat_inc(pool_stats(pc->pool),
             h2 ? CLUSTER_STAT_UPSTREAM_CX_HTTP2_TOTAL : CLUSTER_STAT_UPSTREAM_CX_HTTP1_TOTAL);
}

/* --- what the connection says
 * --------------------------------------------------------------------------------------------------------------
 */
static void pc_on_connected(struct conn *c, void *owner)
{
    struct pool_conn *pc = owner;
    struct pool *p = pc->pool;
    stat_record(pool_stats(p), CLUSTER_STAT_UPSTREAM_CX_CONNECT_MS,
                (pool_now_us(p) - pc->begin_us) / 1000);
    pc->codec =
        pool_codec_new(p->uc, (enum http_protocol_kind)p->key.protocol, c, &codec_events, pc);
    if (p->key.protocol == UPSTREAM_PROTO_UNKNOWN)
        pc_count_version(pc, pc->codec->ops->kind == CODEC_H2);
    uint64_t life = p->uc->conf->http->max_connection_us;
    if (life > 0) loop_timer_start(p->uc->worker->loop, &pc->lifetime, life, pc_lifetime_fire);
    pc_state(pc, POOL_CONN_READY);
    struct list *first = list_first(&p->pending);
    if (first)
        pc_attach(p, pc,
                  CONTAINER_OF(CONTAINER_OF(first, struct attempt_priv, link),
                               struct upstream_attempt, priv));
    else
        pc_settle(pc);
    pool_check(p);
}

/* The peer has closed its side; may what is under way still go on? Only when its answer is complete
 * (a tunnel's other way). */
static bool pc_half_open(const struct pool_conn *pc)
{
    if (pc->streams == 0 || pc->codec->ops->kind != CODEC_H1) return false;
    return CONTAINER_OF(pc->attempts.next, struct attempt_priv, link)->ended;
}

static void pc_on_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    struct pool_conn *pc = owner;
    bool h1 = pc->codec->ops->kind == CODEC_H1;
    pc->peer_ended |= end;
    if (h1 && pc->streams == 0) { /* nothing was asked: early bytes or the peer's goodbye */
        if (buf_len(in) > 0)
            stat_inc(pool_stats(pc->pool), CLUSTER_STAT_UPSTREAM_CX_PROTOCOL_ERROR);
        buf_drain(in, buf_len(in));
        conn_close(c, CONN_CLOSE_NOW);
        return;
    }
    if (!pc->codec->ops->on_bytes(pc->codec, in, end)) {
        if (conn_is_open(c)) conn_close(c, h1 ? CONN_CLOSE_NOW : CONN_CLOSE_FLUSH);
        return;
    }
    if (end && conn_is_open(c) && buf_len(in) == 0 && !pc_half_open(pc))
        conn_close(c, CONN_CLOSE_NOW);
}

static void pc_on_watermark(struct conn *c, void *owner, bool above)
{
    (void)c;
    struct pool_conn *pc = owner;
    if (pc->codec) pc->codec->ops->on_conn_watermark(pc->codec, above);
}

/* Envoy: a response that breaks off in its body is a protocol error. */
static bool pc_cut_response(const struct pool_conn *pc)
{
    if (!pc->codec || pc->codec->ops->kind != CODEC_H1 || pc->streams == 0) return false;
    const struct attempt_priv *v = CONTAINER_OF(pc->attempts.next, struct attempt_priv, link);
    return v->begun && !v->ended;
}

static void pc_on_close(struct conn *c, void *owner, enum conn_end why)
{
    struct pool_conn *pc = owner;
    struct pool *p = pc->pool;
    bool connected = pc->codec != NULL;
    bool local = (why == CONN_END_LOCAL && !pc->peer_ended) || why == CONN_END_CONNECT_TIMEOUT;
    struct upstream_conn_end end = {p->priority, pc->begin_us, connected, local,
                                    pc->streams + pc->cut};
    if (pc->broken && pc->codec->ops->kind == CODEC_H2)
        end.active = 0; /* Envoy: the streams are reset first */
    loop_timer_stop(&pc->idle);
    loop_timer_stop(&pc->lifetime);
    pc_state(pc, POOL_CONN_CLOSED);
    upstream_connect_end(p->uc, p->host, &end);
    if (why == CONN_END_CONNECT_TIMEOUT)
        stat_inc(pool_stats(p), CLUSTER_STAT_UPSTREAM_CX_CONNECT_TIMEOUT);
    if (pc->served > 0) stat_record(pool_stats(p), CLUSTER_STAT_UPSTREAM_RQ_PER_CX, pc->served);
    if (why == CONN_END_RESET && pc_cut_response(pc)) pc->broken = true;
    if (connected)
        pc->codec->ops->on_conn_closed(
            pc->codec, pc->broken ? RESET_PROTOCOL_ERROR : RESET_CONN_TERMINATION, conn_failure(c));
    else if (why != CONN_END_LOCAL || p->pending_count > 0)
        pool_purge(p, upstream_connect_failure(why), conn_failure(c));
    pool_check(p);
    loop_later(p->uc->worker->loop, &pc->bury, pc_bury);
}
static const struct conn_events pc_events = {
    .on_connected = pc_on_connected,
    .on_read = pc_on_read,
    .on_watermark = pc_on_watermark,
    .on_close = pc_on_close,
};

void pc_new(struct pool *p)
{
    struct pool_conn *pc = mem_alloc(sizeof(*pc));
    list_init(&pc->attempts);
    pc->pool = p;
    pc->begin_us = pool_now_us(p);
    pc_state(pc, POOL_CONN_CONNECTING);
    if (p->key.protocol != UPSTREAM_PROTO_UNKNOWN) {
        pc_count_version(pc, p->key.protocol == UPSTREAM_PROTO_H2);
        pool_codec_prepare(p->uc, (enum http_protocol_kind)p->key.protocol);
    }
    struct transport_ask ask = {.host = p->host};
    struct str server_name = p->kind.server_name;
    if (p->kind.per_downstream) ask.proxied = &p->kind.proxied;
    pool_codec_ask(p->uc, (enum http_protocol_kind)p->key.protocol, &ask);
    struct addr ip;
    /* An address is no server name (RFC 6066 3), but may be a subject alternative name. */
    if (p->uc->conf->http->auto_sni && server_name.len && !addr_parse_ip(server_name, 0, &ip))
        ask.sni = server_name;
    if (p->uc->conf->http->auto_san_validation && server_name.len) {
        ask.verify_sans = &server_name;
        ask.verify_san_count = 1;
    }
    if (p->kind.source.from.len) ask.source = &p->kind.source;
    upstream_names_ask(&p->kind.names, p->uc->worker->scratch, &ask);
    pc->conn = upstream_connect(p->uc, p->host, p->priority, &ask, &pc_events, pc);
}
