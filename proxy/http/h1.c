/* The HTTP/1 codec's life: reads one message after the other, settles an exchange when both sides
 * are complete, ends with the connection. */
#include "proxy/http/h1.h"
#include "base/must.h"
#include "proxy/http/h1_internal.h"

const struct stat_def h1_stat_defs[H1_STAT_COUNT] = {
    [H1_STAT_DROPPED_UNDERSCORES] = {"dropped_headers_with_underscores", STAT_COUNTER, 0},
    [H1_STAT_METADATA_UNSUPPORTED] = {"metadata_not_supported_error", STAT_COUNTER, 0},
    [H1_STAT_REJECTED_UNDERSCORES] = {"requests_rejected_with_underscores_in_headers", STAT_COUNTER,
                                      0},
    [H1_STAT_RESPONSE_FLOOD] = {"response_flood", STAT_COUNTER, 0},
};

enum { H1_LEADING_LINES_MOST = 16, H1_INTERIM_MOST = 16 };

static void h1_pause_clear(struct h1 *h)
{
    if (h->pauses && conn_is_open(h->base.conn)) conn_pause_read(h->base.conn, false);
    h->pauses = 0;
}

/* Forgets the exchange; the stream is dead. */
static void h1_close_stream(struct h1 *h, enum h1_read next)
{
    h->open = false;
    h->read = (uint8_t)next;
    h->write = H1_WRITE_IDLE;
    buf_release(&h->body);
    h1_head_reset(h);
    h1_pause_clear(h);
}

void h1_settle(struct h1 *h)
{
    if (!h->open || h->read != H1_READ_DONE || h->write != H1_WRITE_DONE) return;
    const struct codec_stream_events *events = h->stream.events;
    void *owner = h->stream.owner;
    h1_close_stream(h, h->server && h->last ? H1_READ_DEAD : H1_READ_IDLE);
    if (events) events->on_complete(&h->stream, owner);
    if (h->server && h->read == H1_READ_IDLE && !h->in_bytes && conn_is_open(h->base.conn) &&
        conn_input(h->base.conn)->len) {
        conn_read_again(h->base.conn); /* a pipelined request waits */
    }
}

/* --- reading
 * --------------------------------------------------------------------------------------------------------------
 */

static void h1_begin(struct h1 *h)
{
    h1_head_reset(h);
    h->open = true;
    h->read = H1_READ_HEAD;
    h->write = H1_WRITE_IDLE;
    h->http10 = h->is_head = h->is_connect = h->is_upgrade = h->peer_close = false;
    h->interims = 0;
    h->counts = (struct codec_counts){0};
    h->stream = (struct codec_stream){.codec = &h->base, .id = h->stream.id + 1};
}

/* Empty lines in front of a request (RFC 9112 2.2). */
static void h1_skip_lines(struct buf *in)
{
    for (unsigned n = 0; n < H1_LEADING_LINES_MOST; n++) {
        struct str front = buf_peek(in, 2);
        if (front.len < 2 || front.ptr[0] != '\r' || front.ptr[1] != '\n') return;
        buf_drain(in, 2);
    }
}

static enum h1_step h1_idle(struct h1 *h, struct buf *in)
{
    if (!h->server) {
        if (!in->len) return H1_MORE;
        (void)h1_refuse(h, 0, "http1.codec_error"); /* bytes that nobody asked for */
        return H1_FAILED;
    }
    h1_skip_lines(in);
    if (!in->len || (in->len == 1 && buf_front(in).ptr[0] == '\r')) return H1_MORE;
    h1_begin(h);
    h->base.events->on_new_stream(&h->base, h->base.owner, &h->stream);
    return H1_NEXT;
}

static enum h1_step h1_head(struct h1 *h, struct buf *in)
{
    if (!in->len) return H1_MORE;
    /* An answer before the question: no byte of the request has left yet, so these bytes lay on the
     * idle connection. */
    if (!h->server &&
        (h->write == H1_WRITE_IDLE || conn_bytes_written(h->base.conn) == h->sent_mark)) {
        (void)h1_refuse(h, 0, "http1.codec_error");
        return H1_FAILED;
    }
    enum h1_step step = h1_read_head(h, in);
    if (step != H1_NEXT) return step;
    struct headers *head = h->head;
    const struct codec_stream_events *events = h->stream.events;
    if (h->interim) {
        if (++h->interims > H1_INTERIM_MOST)
            return h1_refuse(h, 0, "http1.codec_error") ? H1_NEXT : H1_FAILED;
        h1_head_reset(h);
        events->on_1xx(&h->stream, h->stream.owner, head);
        return H1_NEXT;
    }
    bool end = h->read == H1_READ_DONE;
    if (events) events->on_headers(&h->stream, h->stream.owner, head, end);
    return H1_NEXT;
}

/* The bytes are no message. Tells whoever waits; nothing more is read. Always false. */
static bool h1_fail(struct h1 *h)
{
    struct str details = h->fail_details;
    uint32_t status = h->fail_status;
    h->read = H1_READ_DEAD;
    if (h->server) {
        h->last = true;
        if (h->open && h->base.events->on_bad_request)
            h->base.events->on_bad_request(&h->base, h->base.owner, &h->stream, status, details);
        return false;
    }
    h->peer_close = true;
    if (h->open) {
        const struct codec_stream_events *events = h->stream.events;
        void *owner = h->stream.owner;
        h1_close_stream(h, H1_READ_DEAD);
        events->on_reset(&h->stream, owner, RESET_PROTOCOL_ERROR, STR_NONE);
    }
    h->base.events->on_error(&h->base, h->base.owner, details);
    return false;
}

static enum h1_step h1_step(struct h1 *h, struct buf *in)
{
    switch ((enum h1_read)h->read) {
    case H1_READ_IDLE: return h1_idle(h, in);
    case H1_READ_HEAD: return h1_head(h, in);
    case H1_READ_LENGTH:
    case H1_READ_CHUNKED:
    case H1_READ_CLOSE:
    case H1_READ_TUNNEL:
        if (h->pauses) return H1_MORE;
        return h1_read_body(h, in);
    case H1_READ_DONE:
        if (h->server || !in->len) return H1_MORE; /* pipelined: waits in the input */
        h->peer_close =
            true; /* a response longer than it said: finish this exchange, then no more */
        buf_drain(in, in->len);
        return H1_MORE;
    case H1_READ_DEAD: buf_drain(in, in->len); return H1_MORE;
    }
    return H1_MORE;
}

/* The peer's end: completes what lasts until then. The rest is told by on_conn_closed. */
static void h1_at_end(struct h1 *h)
{
    h->peer_close = true;
    if (!h->open || h->pauses) return;
    bool cut = h->read == H1_READ_LENGTH || h->read == H1_READ_CHUNKED ||
               (h->read == H1_READ_HEAD && h->scanned);
    if (cut && !h->server) {
        const struct codec_stream_events *events = h->stream.events;
        void *owner = h->stream.owner;
        h1_close_stream(h, H1_READ_DEAD);
        events->on_reset(&h->stream, owner, RESET_PROTOCOL_ERROR, STR_NONE);
        return;
    }
    if (h->read != H1_READ_CLOSE && h->read != H1_READ_TUNNEL) return;
    struct buf none = {0};
    h->read = H1_READ_DONE;
    h->stream.events->on_data(&h->stream, h->stream.owner, &none, true);
    h1_settle(h);
}

static bool h1_on_bytes(struct codec *c, struct buf *in, bool end)
{
    struct h1 *h = h1_of(c);
    bool nested = h->in_bytes;
    if (nested) return true; /* the outer loop goes on */
    h->in_bytes = true;
    enum h1_step step = H1_NEXT;
    while (step == H1_NEXT && conn_is_open(c->conn)) {
        step = h1_step(h, in);
        if (step == H1_NEXT) h1_settle(h);
    }
    bool fine = step != H1_FAILED || h1_fail(h);
    if (fine && end && (in->len == 0 || h->read == H1_READ_HEAD)) h1_at_end(h);
    h->in_bytes = false;
    return fine;
}

/* --- the other operations
 * ---------------------------------------------------------------------------------------------- */

static void h1_on_conn_watermark(struct codec *c, bool above)
{
    struct h1 *h = h1_of(c);
    if (h->open && h->stream.events && h->stream.events->on_watermark)
        h->stream.events->on_watermark(&h->stream, h->stream.owner, above);
}

static void h1_on_conn_closed(struct codec *c, enum stream_reset why, struct str details)
{
    struct h1 *h = h1_of(c);
    if (!h->open) {
        h->read = H1_READ_DEAD;
        return;
    }
    const struct codec_stream_events *events = h->stream.events;
    void *owner = h->stream.owner;
    h1_close_stream(h, H1_READ_DEAD);
    if (events) events->on_reset(&h->stream, owner, why, details);
}

static struct codec_stream *h1_request(struct codec *c, struct arena *a,
                                       const struct codec_stream_events *events, void *owner)
{
    struct h1 *h = h1_of(c);
    if (h->server || h->open || h->read != H1_READ_IDLE || h->peer_close) return NULL;
    h1_begin(h);
    h->stream.events = events;
    h->stream.owner = owner;
    h->stream.arena = a;
    return &h->stream;
}

static size_t h1_open_streams(const struct codec *c)
{
    return ((const struct h1 *)(const void *)c)->open ? 1 : 0;
}

static size_t h1_stream_limit(const struct codec *c)
{
    (void)c;
    return 1;
}

static void h1_drain(struct codec *c)
{
    h1_of(c)->drain = true;
}

static bool h1_keep_alive(const struct codec *c)
{
    const struct h1 *h = (const struct h1 *)(const void *)c;
    if (h->open || h->read != H1_READ_IDLE || h->peer_close || h->last) return false;
    return h->server || conn_input(c->conn)->len == 0;
}

static void h1_free(struct codec *c)
{
    struct h1 *h = h1_of(c);
    buf_release(&h->body);
    mem_free(h);
}

/* The exchange cannot go on; HTTP/1 has no way to say so but the end of the connection. */
static void h1_reset(struct codec_stream *s, enum stream_reset why)
{
    struct h1 *h = h1_of(s->codec);
    (void)why;
    if (!h->open) return;
    h1_close_stream(h, H1_READ_DEAD);
    h->last = h->peer_close = true;
    conn_close(h->base.conn, h->server ? CONN_CLOSE_FLUSH : CONN_CLOSE_NOW);
}

static void h1_pause(struct codec_stream *s, bool pause)
{
    struct h1 *h = h1_of(s->codec);
    if (!h->open) return;
    if (pause) {
        if (h->pauses++ == 0) conn_pause_read(h->base.conn, true);
        return;
    }
    if (!h->pauses || --h->pauses) return;
    if (!conn_is_open(h->base.conn)) return;
    conn_pause_read(h->base.conn, false);
    conn_read_again(h->base.conn);
}

/* The response is out and nobody wants the rest of the request: what still comes is thrown away
 * until the connection closes. */
static void h1_detach(struct codec_stream *s)
{
    struct h1 *h = h1_of(s->codec);
    if (!h->open) return;
    h1_close_stream(h, H1_READ_DEAD);
    h->last = true;
}

static const struct codec_counts *h1_counts(const struct codec_stream *s)
{
    return &h1_of(s->codec)->counts;
}

static const struct codec_ops h1_ops = {
    .kind = CODEC_H1,
    .on_bytes = h1_on_bytes,
    .on_conn_watermark = h1_on_conn_watermark,
    .on_conn_closed = h1_on_conn_closed,
    .request = h1_request,
    .open_streams = h1_open_streams,
    .stream_limit = h1_stream_limit,
    .drain = h1_drain,
    .keep_alive = h1_keep_alive,
    .free = h1_free,
    .send_headers = h1_send_headers,
    .send_1xx = h1_send_1xx,
    .send_data = h1_send_data,
    .send_trailers = h1_send_trailers,
    .send_metadata = h1_send_metadata,
    .reset = h1_reset,
    .pause = h1_pause,
    .detach = h1_detach,
    .counts = h1_counts,
};

static struct codec *h1_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner, bool server)
{
    struct h1 *h = mem_alloc(sizeof *h);
    h->base = (struct codec){.ops = &h1_ops, .events = events, .owner = owner, .conn = c};
    h->options = options;
    h->server = server;
    h->stream.codec = &h->base;
    return &h->base;
}

struct codec *h1_server_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner)
{
    return h1_new(c, options, events, owner, true);
}

struct codec *h1_client_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner)
{
    return h1_new(c, options, events, owner, false);
}

bool h1_request_is_http10(const struct codec_stream *s)
{
    return h1_of(s->codec)->http10;
}
