/* Bodies: by length, in chunks, until the end of the connection, and raw bytes of a tunnel. Data
 * moves on without being copied. */
#include "proxy/http/h1_internal.h"

enum { H1_CHUNK_OVERHEAD_MOST = 32 * 1024 };

static void h1_give(struct h1 *h, struct buf *data, bool end)
{
    const struct codec_stream_events *events = h->stream.events;
    if (h->open && events) events->on_data(&h->stream, h->stream.owner, data, end);
    buf_release(data);
}

static enum h1_step h1_read_length(struct h1 *h, struct buf *in)
{
    struct buf data = {0};
    uint64_t n = in->len < h->remaining ? in->len : h->remaining;
    if (n == 0) return H1_MORE;
    buf_move_n(&data, in, (size_t)n);
    h->remaining -= n;
    h->counts.wire_received += n;
    if (h->remaining == 0) h->read = H1_READ_DONE;
    h1_give(h, &data, h->remaining == 0);
    return H1_NEXT;
}

static enum h1_step h1_read_raw(struct h1 *h, struct buf *in)
{
    struct buf data = {0};
    if (in->len == 0) return H1_MORE;
    h->counts.wire_received += in->len;
    buf_move(&data, in);
    h1_give(h, &data, false);
    return H1_NEXT;
}

/* Headers that have no place in trailers: framing and routing. */
static void h1_clean_trailers(struct headers *t)
{
    static const enum header_id banned[] = {
        HDR_CONTENT_LENGTH, HDR_TRANSFER_ENCODING, HDR_HOST,
        HDR_CONNECTION,     HDR_TRAILER,           HDR_TE,
        HDR_UPGRADE,        HDR_KEEP_ALIVE,        HDR_PROXY_CONNECTION,
        HDR_AUTHORIZATION,  HDR_SET_COOKIE};
    for (size_t i = 0; i < sizeof banned / sizeof *banned; i++)
        headers_remove_id(t, banned[i]);
}

/* The last chunk and the trailers are in. */
static void h1_chunked_done(struct h1 *h)
{
    struct buf data = {0};
    buf_move(&data, &h->body);
    h->read = H1_READ_DONE;
    bool trailers = h->trailers && h->options->enable_trailers;
    if (trailers) h1_clean_trailers(h->trailers);
    if (!trailers || h->trailers->live == 0) {
        h1_give(h, &data, true);
        return;
    }
    if (data.len) h1_give(h, &data, false);
    if (h->open && h->stream.events)
        h->stream.events->on_trailers(&h->stream, h->stream.owner, h->trailers);
}

/* Feeds one slice to the parser. */
static enum h1_step h1_read_chunked(struct h1 *h, struct buf *in)
{
    struct str slice = buf_front(in);
    if (slice.len == 0) return H1_MORE;
    h->in = in;
    h->slice = slice.ptr;
    h->slice_used = 0;
    h->span_end = NULL;
    size_t before = h->body.len;
    llhttp_resume(&h->parser);
    enum llhttp_errno e = llhttp_execute(&h->parser, slice.ptr, slice.len);
    size_t used = e == HPE_OK ? slice.len : (size_t)(llhttp_get_error_pos(&h->parser) - slice.ptr);
    size_t data = h->body.len - before;
    h->in = NULL;
    if (e != HPE_OK && e != HPE_PAUSED) {
        if (!h->fail_details.len) (void)h1_refuse(h, 400, "http1.codec_error");
        return H1_FAILED;
    }
    /* llhttp takes a bare LF for the last line. */
    bool kept = h->slice_used <
                slice.len; /* a slice that was data to its end was moved out and may be gone */
    char last = kept && used ? slice.ptr[used - 1] : '\0';
    char before_last = kept && used > 1 ? slice.ptr[used - 2] : h->last_byte;
    if (h->message_done && (!used || before_last != '\r' || last != '\n')) {
        (void)h1_refuse(h, 400, "http1.codec_error");
        return H1_FAILED;
    }
    if (used) h->last_byte = last;
    buf_drain(in, used - h->slice_used);
    h->counts.wire_received += used;
    h->overhead += used - data;
    if (h->overhead > H1_CHUNK_OVERHEAD_MOST + h->options->max_header_bytes) {
        (void)h1_refuse(h, 400, "http1.codec_error");
        return H1_FAILED;
    }
    if (h->message_done) {
        h1_chunked_done(h);
        return H1_NEXT;
    }
    if (!h->body.len) return H1_NEXT;
    struct buf ready = {0};
    buf_move(&ready, &h->body);
    h1_give(h, &ready, false);
    return H1_NEXT;
}

enum h1_step h1_read_body(struct h1 *h, struct buf *in)
{
    if (h->read == H1_READ_LENGTH) return h1_read_length(h, in);
    if (h->read == H1_READ_CHUNKED) return h1_read_chunked(h, in);
    return h1_read_raw(h, in);
}
