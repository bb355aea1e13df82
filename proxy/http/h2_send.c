/* The writing side: heads, bodies that wait for the peer's window, trailers, and the hand-over of
 * frames to the connection. */
#include "base/must.h"
#include "proxy/http/h2_internal.h"

/* --- bodies
 * ------------------------------------------------------------------------------------------------------------
 */

void h2_drop_out(struct h2 *h, struct h2_stream *s)
{
    h->queued -= s->out.len;
    buf_release(&s->out);
}

/* Producers that were told to stop hear of the room. */
static void h2_tell_low(struct h2 *h)
{
    for (struct list *it = h->streams.next; h->above && it != &h->streams; it = it->next) {
        struct h2_stream *s = CONTAINER_OF(it, struct h2_stream, link);
        if (!s->above || s->out.len > (h->queued > H2_OUT_ALL ? 0 : H2_OUT_LOW)) continue;
        s->above = false;
        h->above--;
        const struct codec_stream_events *e = s->base.events;
        if (!e || !e->on_watermark) continue;
        e->on_watermark(&s->base, s->base.owner, false);
        if (h->dead) return;
        it = &h->streams; /* what it caused may have changed the list */
    }
}

static void h2_on_stuck(struct loop_timer *t)
{
    struct h2_stream *s = CONTAINER_OF(t, struct h2_stream, stuck);
    struct h2 *h = h2_of(s->base.codec);
    h2_stat(h, H2_STAT_FLUSH_TIMEOUT);
    h2_stat(h, H2_STAT_TX_RESET);
    s->refused = "http2.flush_timeout";
    s->over_limit = true;
    h2_drop_out(h, s);
    h2_say_reset(h, s->id, NGHTTP2_NO_ERROR); /* its close tells the owner */
    h2_flush_soon(h);
}

/* Our side is complete: the rest may not wait for the peer's window for ever. */
static void h2_watch_stuck(struct h2 *h, struct h2_stream *s)
{
    uint64_t most = h->options->h2_flush_timeout_us;
    if (most && s->out.len)
        loop_timer_start(conn_worker(h->base.conn)->loop, &s->stuck, most, h2_on_stuck);
}

/* nghttp2 asks how much may go into the next DATA frame; the bytes themselves are moved by
 * h2_on_send_data. */
static ssize_t h2_read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t most,
                            uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_stream *s = source->ptr;
    (void)id;
    (void)to;
    (void)user;
    size_t n = s->out.len < most ? s->out.len : most;
    if (n == 0 && !s->our_end) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (!s->our_end || n != s->out.len) return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (!s->has_trailers) return (ssize_t)n;
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    s->has_trailers = false;
    int rv = nghttp2_submit_trailer(session, s->id, s->trailers, s->trailer_count);
    return rv == 0 ? (ssize_t)n : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static int h2_on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                           size_t length, nghttp2_data_source *source, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = source->ptr;
    buf_append(&h->wire, head, H2_FRAME_HEAD);
    buf_move_n(&h->wire, &s->out, length);
    h->queued -= length;
    h->data_sent++;
    if (s->our_end) h2_watch_stuck(h, s); /* it moves */
    (void)session;
    (void)frame;
    return 0;
}

static ssize_t h2_on_send(nghttp2_session *session, const uint8_t *bytes, size_t length, int flags,
                          void *user)
{
    struct h2 *h = user;
    (void)session;
    (void)flags;
    if (conn_above_watermark(h->base.conn)) return NGHTTP2_ERR_WOULDBLOCK;
    buf_append(&h->wire, bytes, length);
    return (ssize_t)length;
}

void h2_set_send_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_send_callback(cb, h2_on_send);
    nghttp2_session_callbacks_set_send_data_callback(cb, h2_on_send_data);
}

void h2_flush(struct h2 *h)
{
    enum { AT_ONCE = 256 * 1024 };
    if (h->receiving || h->flushing || h->dead || !conn_is_open(h->base.conn)) return;
    h->flushing = true;
    int rv = nghttp2_session_send(h->session);
    h->said += h->wire.len;
    if (h->wire.len) conn_write(h->base.conn, &h->wire, false);
    h->flushing = false;
    if (rv != 0) h2_fail(h, NGHTTP2_INTERNAL_ERROR, "http2.send_failed");
    if (!h->dead) h2_tell_low(h); /* not inside nghttp2's own loop */
}

/* --- ops
 * ------------------------------------------------------------------------------------------------------------------
 */

static void h2_submit_head(struct h2 *h, struct h2_stream *s, const nghttp2_nv *v, size_t n,
                           bool end)
{
    nghttp2_data_provider body = {.source.ptr = s, .read_callback = h2_read_body};
    const nghttp2_data_provider *more = end ? NULL : &body;
    if (h->server) {
        int rv = nghttp2_submit_response(h->session, s->id, v, n, more);
        if (rv != 0) h2_say_reset(h, s->id, NGHTTP2_INTERNAL_ERROR);
        return;
    }
    int32_t id = nghttp2_submit_request(h->session, NULL, v, n, more, s);
    if (id > 0) {
        s->id = id;
        s->base.id = (uint64_t)id;
        return;
    }
    h->drained = true; /* out of stream ids, or of session: the pool opens another connection */
    s->refused = "http2.no_stream";
    h2_flush_soon(h);
}

void h2_send_headers(struct codec_stream *cs, struct headers *head, bool end)
{
    struct h2_stream *s = h2_stream_of(cs);
    struct h2 *h = h2_of(cs->codec);
    size_t n;
    if (!h->server) {
        s->is_head = str_eq(headers_get(head, HDR_METHOD), STR("HEAD"));
        s->connect = str_eq(headers_get(head, HDR_METHOD), STR("CONNECT"));
        s->extended = headers_has(head, HDR_UPGRADE) &&
                      headers_has_token(head, HDR_CONNECTION, STR("upgrade"));
        if (s->extended) end = false;
        if (s->extended) s->protocol = headers_get(head, HDR_UPGRADE);
    }
    nghttp2_nv *v = h2_head_wire(s, head, h->server, false, &n);
    s->our_end = end;
    s->submitted = true;
    h2_submit_head(h, s, v, n, end);
    mem_free(v);
    h2_flush_soon(h);
}

void h2_send_1xx(struct codec_stream *cs, struct headers *head)
{
    struct h2_stream *s = h2_stream_of(cs);
    struct h2 *h = h2_of(cs->codec);
    size_t n;
    nghttp2_nv *v = h2_head_wire(s, head, h->server, false, &n);
    (void)nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, s->id, NULL, v, n,
                                 NULL); /* an interim answer may be lost */
    mem_free(v);
    h2_flush_soon(h);
}

static void h2_resume(struct h2 *h, struct h2_stream *s)
{
    if (s->deferred) {
        s->deferred = false;
        (void)nghttp2_session_resume_data(
            h->session, s->id); /* fails only when the stream is gone; then its end comes */
    }
    h2_flush_soon(h);
}

void h2_send_data(struct codec_stream *cs, struct buf *data, bool end)
{
    struct h2_stream *s = h2_stream_of(cs);
    struct h2 *h = h2_of(cs->codec);
    if (s->our_end) {
        buf_release(data); /* HEAD and the like: nothing may follow */
        return;
    }
    h->queued += data->len;
    buf_move(&s->out, data);
    s->our_end = end;
    h2_resume(h, s);
    if (end) h2_watch_stuck(h, s);
    if (!s->above && s->out.len > (h->queued > H2_OUT_ALL ? 0 : H2_OUT_HIGH)) {
        s->above = true;
        h->above++;
        const struct codec_stream_events *e = s->base.events;
        if (e && e->on_watermark) e->on_watermark(cs, cs->owner, true);
    }
}

void h2_send_trailers(struct codec_stream *cs, struct headers *t)
{
    struct h2_stream *s = h2_stream_of(cs);
    struct h2 *h = h2_of(cs->codec);
    if (s->our_end) return;
    nghttp2_nv *v = h2_head_wire(s, t, h->server, true, &s->trailer_count);
    /* They outlive this call: the fields' bytes live in the stream's arena. */
    s->trailers = v;
    s->has_trailers = s->trailer_count > 0;
    s->our_end = true;
    h2_resume(h, s);
    h2_watch_stuck(h, s);
}
