/* An attempt over a raw connection of its own: a CONNECT that ends here (connect_config). What is
 * above sees the usual events; the connection's bytes are the bodies, and "200" is made up once it
 * is there. Envoy: TcpUpstream of the router. */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/net/conn.h"
#include "proxy/upstream/upstream_internal.h"

struct raw_attempt {
    struct codec codec;
    struct codec_stream stream; /* what the attempt sends through */
    struct upstream_tcp tcp;
    struct upstream_attempt *a; /* NULL: given up or over */
    struct conn *conn;          /* NULL: not yet, or closed */
    struct worker *worker;
    struct loop_later answer, over;
    bool answered, end_in, end_out;
    struct codec_counts counts;
};

static struct raw_attempt *raw_of(struct codec_stream *s)
{
    return CONTAINER_OF(s, struct raw_attempt, stream);
}

static void raw_free(struct loop_later *l)
{
    mem_free(CONTAINER_OF(l, struct raw_attempt, over));
}

/* Freed at the end of the turn: it is in the middle of its own events. */
static void raw_over(struct raw_attempt *raw)
{
    loop_later_cancel(&raw->answer);
    loop_later(raw->worker->loop, &raw->over, raw_free);
}

/* No event after this. The attempt, or NULL if it was let go before. */
static struct upstream_attempt *raw_let_go(struct raw_attempt *raw)
{
    struct upstream_attempt *a = raw->a;
    raw->a = NULL;
    if (!a) return NULL;
    a->stream = NULL;
    attempt_priv(a)->raw = NULL;
    return a;
}

/* --- down
 * ---------------------------------------------------------------------------------------------- */

static void raw_tell(struct raw_attempt *raw)
{
    if (raw->answered || !raw->a) return;
    raw->answered = true;
    struct headers *h = headers_new(raw->a->arena);
    headers_add_id(h, HDR_STATUS, STR("200"));
    raw->a->events->on_headers(raw->a, h, false);
}

static void raw_on_answer(struct loop_later *l)
{
    raw_tell(CONTAINER_OF(l, struct raw_attempt, answer));
}

static void raw_send_headers(struct codec_stream *s, struct headers *h, bool end)
{
    struct raw_attempt *raw = raw_of(s);
    (void)h; /* they were for us */
    loop_later(raw->worker->loop, &raw->answer, raw_on_answer);
    if (!end || !raw->conn) return;
    struct buf none = {0};
    raw->end_out = true;
    conn_write(raw->conn, &none, true);
}

/* Both directions are complete. */
static void raw_complete(struct raw_attempt *raw)
{
    struct upstream_attempt *a = raw->end_in && raw->end_out ? raw_let_go(raw) : NULL;
    if (!a) return;
    struct upstream_cluster *uc = a->uc;
    a->events->on_complete(a);
    upstream_unpin(uc->worker, &uc);
    if (raw->conn) conn_close(raw->conn, CONN_CLOSE_FLUSH);
}

static void raw_send_data(struct codec_stream *s, struct buf *data, bool end)
{
    struct raw_attempt *raw = raw_of(s);
    if (!raw->conn) {
        buf_drain(data, buf_len(data));
        return;
    }
    raw->counts.wire_sent += buf_len(data);
    raw->end_out |= end;
    conn_write(raw->conn, data, end);
    raw_complete(raw);
}

static void raw_send_trailers(struct codec_stream *s, struct headers *t)
{
    struct buf none = {0};
    (void)t;
    raw_send_data(s, &none, true);
}

/* Bytes have no place for it. Envoy: the same. */
static void raw_send_metadata(struct codec_stream *s, struct buf *block)
{
    (void)s;
    buf_release(block);
}

static void raw_pause(struct codec_stream *s, bool pause)
{
    if (raw_of(s)->conn) conn_pause_read(raw_of(s)->conn, pause);
}

static const struct codec_counts *raw_counts(const struct codec_stream *s)
{
    return &raw_of((struct codec_stream *)(uintptr_t)s)->counts;
}

static const struct codec_ops raw_ops = {
    .send_headers = raw_send_headers,
    .send_data = raw_send_data,
    .send_trailers = raw_send_trailers,
    .send_metadata = raw_send_metadata,
    .pause = raw_pause,
    .counts = raw_counts,
};

/* --- events of the connection
 * --------------------------------------------------------------------------- */

static void raw_on_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    struct raw_attempt *raw = owner;
    raw_tell(raw);
    if (!raw->a) {
        buf_drain(in, buf_len(in));
        return;
    }
    raw->counts.wire_received += buf_len(in);
    raw->end_in |= end;
    raw->a->events->on_data(raw->a, in, end);
    if (conn_is_open(c)) raw_complete(raw);
}

static void raw_on_watermark(struct conn *c, void *owner, bool above)
{
    (void)c;
    struct raw_attempt *raw = owner;
    if (raw->a) raw->a->events->on_watermark(raw->a, above);
}

static void raw_on_close(struct conn *c, void *owner, enum conn_end why)
{
    struct raw_attempt *raw = owner;
    struct upstream_attempt *a = raw_let_go(raw);
    upstream_tcp_end(&raw->tcp, why == CONN_END_LOCAL);
    raw->conn = NULL;
    raw_over(raw);
    if (!a) return;
    struct upstream_cluster *uc = a->uc;
    a->events->on_reset(a, RESET_CONN_TERMINATION, conn_failure(c));
    upstream_unpin(uc->worker, &uc);
}

static const struct conn_events raw_conn_events = {
    .on_read = raw_on_read,
    .on_watermark = raw_on_watermark,
    .on_close = raw_on_close,
};

/* --- the way there
 * -------------------------------------------------------------------------------------- */

static void raw_on_ready(struct upstream_tcp *t)
{
    struct raw_attempt *raw = t->owner;
    struct upstream_attempt *a = raw->a;
    raw->conn = t->conn;
    conn_set_owner(t->conn, &raw_conn_events, raw);
    a->host = t->host;
    a->conn = t->conn;
    a->conn_info = conn_info_of(t->conn);
    a->connect_begin_us = t->start_us;
    a->connect_end_us = a->ready_us = t->ready_us;
    a->stream = &raw->stream;
    a->events->on_ready(a);
}

static void raw_on_failure(struct upstream_tcp *t, enum upstream_failure why, struct str detail)
{
    struct raw_attempt *raw = t->owner;
    struct upstream_attempt *a = raw_let_go(raw);
    raw_over(raw);
    a->host = t->host;
    upstream_fail(a, why, detail);
}

void upstream_start_raw(struct worker *w, struct upstream_cluster *uc, struct upstream_attempt *a,
                        const struct lb_ask *ask)
{
    static const struct upstream_tcp_events events = {.on_ready = raw_on_ready,
                                                      .on_failure = raw_on_failure};
    struct raw_attempt *raw = mem_alloc(sizeof *raw);
    raw->codec.ops = &raw_ops;
    raw->stream.codec = &raw->codec;
    raw->a = a;
    raw->worker = w;
    raw->tcp.events = &events;
    raw->tcp.owner = raw;
    raw->tcp.priority = a->priority;
    a->uc = uc;
    upstream_pin(uc);
    a->start_us = loop_now_us(w->loop);
    attempt_priv(a)->raw = raw;
    upstream_tcp_start(w, uc, &raw->tcp, ask);
}

void raw_cancel(struct upstream_attempt *a)
{
    struct raw_attempt *raw = attempt_priv(a)->raw;
    (void)raw_let_go(raw);
    if (raw->conn) {
        conn_close(raw->conn, raw->end_out ? CONN_CLOSE_FLUSH : CONN_CLOSE_NOW);
        return;
    }
    upstream_tcp_cancel(&raw->tcp);
    raw_over(raw);
}
