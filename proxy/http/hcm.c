/* A connection under the connection manager's care: codec, streams, idle time, drain, close. */
#include "proxy/http/hcm.h"
#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/http/h1.h"
#include "proxy/http/h2.h"
#include "proxy/http/stream_internal.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"

/* --- arenas of streams, recycled per worker
 * --------------------------------------------------------------------------- */

enum { HCM_PREFACE = 24 };
enum { ARENAS_KEPT = 64, ARENA_KEEP_BYTES = 64 * 1024, STREAM_ARENA_BLOCK = 8192 };
struct http_worker {
    struct arena *free[ARENAS_KEPT];
    size_t count;
};

static struct http_worker *http_worker(struct worker *w)
{
    if (!w->slot[WORKER_HTTP]) w->slot[WORKER_HTTP] = mem_alloc(sizeof(struct http_worker));
    return w->slot[WORKER_HTTP];
}

struct arena *stream_arena_take(struct worker *w)
{
    struct http_worker *hw = http_worker(w);
    if (hw->count) return hw->free[--hw->count];
    return arena_new("stream", STREAM_ARENA_BLOCK);
}

void stream_arena_give(struct worker *w, struct arena *a)
{
    struct http_worker *hw = http_worker(w);
    if (hw->count == ARENAS_KEPT || arena_size(a) > ARENA_KEEP_BYTES) {
        arena_free(&a);
        return;
    }
    arena_reset(a);
    hw->free[hw->count++] = a;
}

static void http_worker_stop(struct worker *w)
{
    struct http_worker *hw = w->slot[WORKER_HTTP];
    if (!hw) return;
    while (hw->count)
        arena_free(&hw->free[--hw->count]);
    mem_free(hw);
    w->slot[WORKER_HTTP] = NULL;
}

const struct worker_hooks http_worker_hooks = {.stop = http_worker_stop};

/* --- the end of streams
 * ----------------------------------------------------------------------------------------------------
 */

static void hcm_sweep_all(struct hcm *m)
{
    while (!list_empty(&m->ended)) {
        struct http_stream *s = CONTAINER_OF(list_first(&m->ended), struct http_stream, link);
        stream_free(s);
    }
}

static void hcm_sweep(struct loop_later *later)
{
    hcm_sweep_all(CONTAINER_OF(later, struct hcm, sweep));
}

/* The client did not leave by itself. */
static void hcm_on_delayed(struct loop_timer *t)
{
    struct hcm *m = CONTAINER_OF(t, struct hcm, delay);
    stat_hcm_add(m, HCM_STAT_CX_DELAYED_CLOSE_TIMEOUT);
    hcm_close(m);
}

/* The response that says "Connection: close" is queued. Envoy: unless the client asked for the end,
 * it may close first, so that no reset overtakes the response; what it still sends is thrown away.
 */
static void hcm_close_gently(struct hcm *m)
{
    if (m->closing || m->closed || m->winding) return;
    if (!m->conf->delayed_close_us) {
        hcm_close(m);
        return;
    }
    m->winding = true;
    loop_timer_start(m->worker->loop, &m->delay, m->conf->delayed_close_us, hcm_on_delayed);
}

static void hcm_on_idle(struct loop_timer *t);

static void hcm_idle_start(struct hcm *m)
{
    if (m->conf->idle_timeout_us && !m->closing && !m->closed)
        loop_timer_start(m->worker->loop, &m->idle, m->conf->idle_timeout_us, hcm_on_idle);
}

/* Envoy: a client that opens streams only to reset them is cut off (rapid reset). */
static void hcm_count_premature(struct hcm *m, const struct http_stream *s)
{
    enum { STREAMS = 500, LIFETIME_S = 1 };
    if (m->closed || m->closing) return;
    m->over++;
    if (!s->reset_by_peer || s->info.response_code) return;
    uint64_t young = runtime_u64(
        m->worker, STR("overload.premature_reset_min_stream_lifetime_seconds"), LIFETIME_S);
    if ((s->info.end_us - s->info.start_us) / 1000000 > young) return;
    m->premature++;
    uint64_t most =
        runtime_u64(m->worker, STR("overload.premature_reset_total_stream_count"), STREAMS);
    if (m->premature * 2 < (m->over < most ? most : m->over)) return;
    stat_hcm_add(m, HCM_STAT_RQ_TOO_MANY_PREMATURE_RESETS);
    m->closing = true;
    conn_close(m->conn, CONN_CLOSE_RESET);
}

void hcm_stream_ended(struct hcm *m, struct http_stream *s)
{
    list_remove(&s->link);
    list_push_back(&m->ended, &s->link);
    m->open--;
    hcm_count_premature(m, s);
    loop_later(m->worker->loop, &m->sweep, hcm_sweep);
    if (m->open) return;
    if (!m->close_next)
        hcm_idle_start(m);
    else if (m->close_asked && s->end_in)
        hcm_close(m);
    else if (s->info.protocol == HTTP_PROTOCOL_10 && s->info.resp &&
             !headers_has(s->info.resp, HDR_CONTENT_LENGTH))
        hcm_close(m);
    else
        hcm_close_gently(m);
}

/* --- the end of the connection
 * --------------------------------------------------------------------------------------------- */

void hcm_close(struct hcm *m)
{
    if (m->closing || m->closed) return;
    m->closing = true;
    loop_timer_stop(&m->delay);
    loop_timer_stop(&m->idle);
    conn_set_delayed_close(m->conn, m->conf->delayed_close_us);
    conn_close(m->conn, CONN_CLOSE_FLUSH);
}

/* The drain time is over: the connection ends with its last stream. */
static void hcm_on_drained(struct loop_timer *t)
{
    struct hcm *m = CONTAINER_OF(t, struct hcm, drain_wait);
    m->close_next = true;
    if (m->codec && m->codec->ops->kind == CODEC_H2) m->codec->ops->drain(m->codec);
    if (!m->open) hcm_close_gently(m);
}

/* Says that the end is near: HTTP/1 with the next response, HTTP/2 at once. `timed`: and closes
 * after drain_timeout. */
static void hcm_drain_start(struct hcm *m, bool timed)
{
    if (m->draining || m->closing) return;
    m->draining = true;
    if (m->codec) m->codec->ops->drain(m->codec);
    if (timed)
        loop_timer_start(m->worker->loop, &m->drain_wait, m->conf->drain_timeout_us,
                         hcm_on_drained);
}

/* Envoy: an idle connection is told of its end, too; what comes within drain_timeout is served. */
static void hcm_on_idle(struct loop_timer *t)
{
    struct hcm *m = CONTAINER_OF(t, struct hcm, idle);
    stat_hcm_add(m, HCM_STAT_CX_IDLE_TIMEOUT);
    if (m->codec)
        hcm_drain_start(m, true);
    else
        hcm_close(m);
}

static bool hcm_speaks_h1(const struct hcm *m)
{
    return !m->codec || m->codec->ops->kind == CODEC_H1;
}

static void hcm_on_max_age(struct loop_timer *t)
{
    struct hcm *m = CONTAINER_OF(t, struct hcm, max_age);
    stat_hcm_add(m, HCM_STAT_CX_MAX_DURATION_REACHED);
    if (!m->codec)
        hcm_close(m);
    else
        hcm_drain_start(m, !(hcm_speaks_h1(m) && m->conf->h1_safe_max_connection));
}

/* An idle HTTP/1 connection stays: a request may be on its way. Its response says the end, or net
 * ends it with the drain time. */
void hcm_on_drain(struct hcm *m)
{
    hcm_drain_start(m, !hcm_speaks_h1(m));
}

static void hcm_count_end(struct hcm *m)
{
    bool local = m->closing;
    stat_hcm_add(m, HCM_STAT_CX_DESTROY);
    stat_hcm_add(m, local ? HCM_STAT_CX_DESTROY_LOCAL : HCM_STAT_CX_DESTROY_REMOTE);
    if (m->open) {
        stat_hcm_add(m, HCM_STAT_CX_DESTROY_ACTIVE_RQ);
        stat_hcm_add(m, local ? HCM_STAT_CX_DESTROY_LOCAL_ACTIVE_RQ
                              : HCM_STAT_CX_DESTROY_REMOTE_ACTIVE_RQ);
    }
    stat_dec(m->conf->stats, HCM_STAT_CX_ACTIVE);
    if (m->info->tls) stat_dec(m->conf->stats, HCM_STAT_CX_SSL_ACTIVE);
    if (m->codec)
        stat_dec(m->conf->stats, m->codec->ops->kind == CODEC_H1 ? HCM_STAT_CX_HTTP1_ACTIVE
                                                                 : HCM_STAT_CX_HTTP2_ACTIVE);
    stat_record(m->conf->stats, HCM_STAT_CX_LENGTH_MS,
                (loop_now_us(m->worker->loop) - m->start_us) / 1000);
}

void hcm_on_close(struct hcm *m)
{
    if (m->closed) return;
    hcm_count_end(m);
    m->closed = true;
    m->info->local_close = m->closing;
    loop_timer_stop(&m->idle);
    loop_timer_stop(&m->max_age);
    loop_timer_stop(&m->drain_wait);
    loop_timer_stop(&m->delay);
    if (m->codec) m->codec->ops->on_conn_closed(m->codec, RESET_CONN_TERMINATION, STR_NONE);
}

void hcm_release(struct hcm *m)
{
    hcm_on_close(m);
    loop_later_cancel(&m->sweep);
    hcm_sweep_all(m);
    if (m->codec) m->codec->ops->free(m->codec);
    m->codec = NULL;
}

/* --- the codec
 * ----------------------------------------------------------------------------------------------------------------
 */

static void hcm_on_new_stream(struct codec *c, void *owner, struct codec_stream *cs)
{
    (void)c;
    stream_begin(owner, cs);
}

static void hcm_on_error(struct codec *c, void *owner, struct str details)
{
    struct hcm *m = owner;
    (void)c;
    (void)details;
    stat_hcm_add(m, HCM_STAT_CX_PROTOCOL_ERROR);
    m->protocol_error = true;
    hcm_close(m);
}

static void hcm_on_bad_request(struct codec *c, void *owner, struct codec_stream *cs,
                               uint32_t status, struct str details)
{
    (void)c;
    (void)owner;
    stream_bad_request(cs->owner, status, details);
}

static const struct codec_events hcm_codec_events = {.on_new_stream = hcm_on_new_stream,
                                                     .on_error = hcm_on_error,
                                                     .on_bad_request = hcm_on_bad_request};

/* Which HTTP does the peer speak? ALPN says it, else the first bytes. False: too few bytes to tell.
 */
static bool hcm_is_h2(const struct hcm *m, struct buf *in, bool *h2)
{
    struct str alpn = conn_alpn(m->conn);
    bool more = false;
    *h2 = m->conf->codec == HCM_CODEC_H2;
    if (m->conf->codec != HCM_CODEC_AUTO) return true;
    if (alpn.len) {
        *h2 = str_eq(alpn, STR("h2"));
        if (*h2 || str_eq(alpn, STR("http/1.1"))) return true;
    }
    *h2 = h2_preface(buf_peek(in, HCM_PREFACE), &more);
    return !more;
}

static void hcm_start_codec(struct hcm *m, struct buf *in)
{
    bool h2;
    if (!hcm_is_h2(m, in, &h2)) return;
    m->codec = h2 ? h2_server_new(m->conn, &m->conf->h2_options, &hcm_codec_events, m)
                  : h1_server_new(m->conn, &m->conf->codec_options, &hcm_codec_events, m);
    stat_hcm_add(m, h2 ? HCM_STAT_CX_HTTP2_TOTAL : HCM_STAT_CX_HTTP1_TOTAL);
    stat_hcm_add(m, h2 ? HCM_STAT_CX_HTTP2_ACTIVE : HCM_STAT_CX_HTTP1_ACTIVE);
    if (m->draining) m->codec->ops->drain(m->codec);
}

/* The last request of the connection, where their number is limited? */
static bool hcm_is_last(struct hcm *m)
{
    uint32_t most = m->conf->max_requests_per_connection;
    if (!most || m->requests < most || m->close_next) return false;
    stat_hcm_add(m, HCM_STAT_CX_MAX_REQUESTS_REACHED);
    return true;
}

void hcm_note_request(struct hcm *m, const struct headers *h, bool http10)
{
    if (m->codec->ops->kind != CODEC_H1) {
        if (!m->draining && hcm_is_last(m)) hcm_on_drain(m);
        return;
    }
    bool close = headers_has_token(h, HDR_CONNECTION, STR("close"));
    if (http10 && !headers_has_token(h, HDR_CONNECTION, STR("keep-alive"))) close = true;
    if (headers_has_token(h, HDR_PROXY_CONNECTION, STR("close"))) close = true;
    if (hcm_is_last(m)) close = true;
    m->close_asked |= close;
    m->close_next |= close;
}

/* --- events of the connection
 * ------------------------------------------------------------------------------------------------
 */

void hcm_init(struct hcm *m, const struct hcm_conf *conf, struct conn *c, struct worker *w)
{
    *m = (struct hcm){.conf = conf,
                      .conn = c,
                      .worker = w,
                      .info = conn_info_of(c),
                      .start_us = loop_now_us(w->loop)};
    list_init(&m->streams);
    list_init(&m->ended);
    stat_hcm_add(m, HCM_STAT_CX_TOTAL);
    stat_hcm_add(m, HCM_STAT_CX_ACTIVE);
    if (m->info->tls) {
        stat_hcm_add(m, HCM_STAT_CX_SSL_TOTAL);
        stat_hcm_add(m, HCM_STAT_CX_SSL_ACTIVE);
    }
    if (conf->byte_stats) conn_set_byte_stats(c, conf->byte_stats);
    if (conf->max_connection_us)
        loop_timer_start(w->loop, &m->max_age, conf->max_connection_us, hcm_on_max_age);
    hcm_idle_start(m);
}

void hcm_on_read(struct hcm *m, struct buf *in, bool end)
{
    if (m->closing || m->closed || m->winding) {
        buf_drain(in, in->len);
        if (end && m->winding) conn_close(m->conn, CONN_CLOSE_FLUSH);
        return;
    }
    if (!m->codec && in->len) hcm_start_codec(m, in);
    if (m->codec) (void)m->codec->ops->on_bytes(m->codec, in, end);
    if (!end || m->closing || m->closed) return;
    if (m->winding) {
        conn_close(m->conn, CONN_CLOSE_FLUSH);
        return;
    }
    /* Envoy: no half-close; a client that ends its side is gone. */
    m->remote_closed = true;
    conn_close(m->conn, CONN_CLOSE_NOW);
}

void hcm_on_watermark(struct hcm *m, bool above)
{
    if (m->codec) m->codec->ops->on_conn_watermark(m->codec, above);
}
