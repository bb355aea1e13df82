/* METADATA: frames that Envoy added to HTTP/2 (type 0x4d), header blocks beside the message. A
 * block is decoded by itself and written anew as plain literals, so that no state and no byte of
 * one side's coding reaches the other. */
#include "base/must.h"
#include "proxy/http/h2_internal.h"

enum {
    H2_END_METADATA = 4,
    H2_METADATA_MOST = 1024 * 1024,       /* bytes of a stream's blocks, unless configured */
    H2_METADATA_QUEUED = 4 * 1024 * 1024, /* bytes that may wait for a peer that does not read */
    H2_METADATA_FRAME = 16384
};

/* One frame on its way out. */
struct h2_metadata {
    struct list link; /* h2.metadata */
    size_t len;
    uint8_t bytes[];
};

static size_t metadata_most(const struct h2 *h)
{
    return h->options->h2_max_metadata ? h->options->h2_max_metadata : H2_METADATA_MOST;
}

/* --- in
 * ------------------------------------------------------------------------------------------------------------------
 */

/* RFC 7541 5.1, 5.2: a text without Huffman code. */
static void put_text(struct buf *out, const uint8_t *text, size_t len)
{
    enum { MOST = 127, MORE = 128 };
    uint8_t head[12];
    size_t n = 0, rest = len;
    if (len < MOST) {
        head[n++] = (uint8_t)len;
    } else {
        head[n++] = MOST;
        for (rest -= MOST; rest >= MORE; rest /= MORE)
            head[n++] = (uint8_t)(rest % MORE + MORE);
        head[n++] = (uint8_t)rest;
    }
    buf_append(out, head, n);
    buf_append(out, text, len);
}

/* Decodes a whole block; what it says may be `most` bytes long. False: it is none, or too long. */
static bool metadata_decode(struct str in, size_t most, struct buf *out)
{
    nghttp2_hd_inflater *inflater;
    must(nghttp2_hd_inflate_new(&inflater) == 0);
    const uint8_t *at = (const uint8_t *)in.ptr, *end = at + in.len;
    size_t told = 0;
    bool fine = true;
    for (int flags = 0; fine && !(flags & NGHTTP2_HD_INFLATE_FINAL);) {
        nghttp2_nv nv;
        flags = 0;
        ssize_t n = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, at, (size_t)(end - at), 1);
        fine = n >= 0;
        if (fine) at += n;
        if (!fine || !(flags & NGHTTP2_HD_INFLATE_EMIT)) continue;
        told += nv.namelen + nv.valuelen;
        fine = told <= most;
        if (!fine) break;
        buf_append(out, "", 1); /* a literal that enters no table */
        put_text(out, nv.name, nv.namelen);
        put_text(out, nv.value, nv.valuelen);
    }
    nghttp2_hd_inflate_del(inflater);
    return fine;
}

/* The stream that a METADATA frame is for; NULL: nobody cares. */
static struct h2_stream *metadata_stream(const struct h2 *h, int32_t id)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h->session, id);
    bool cares = s && s->base.events && s->base.events->on_metadata && !s->peer_end;
    return cares && !h->dead && !h->fail.len ? s : NULL;
}

/* Envoy: the connection ends. */
static int metadata_refuse(struct h2 *h)
{
    h2_fail(h, NGHTTP2_PROTOCOL_ERROR, "http2.metadata_error");
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int h2_on_metadata_bytes(nghttp2_session *session, const nghttp2_frame_hd *hd,
                                const uint8_t *bytes, size_t len, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = metadata_stream(h, hd->stream_id);
    (void)session;
    if (!s) return 0;
    s->metadata_bytes += len;
    if (s->metadata_bytes > metadata_most(h)) return metadata_refuse(h);
    buf_append(&s->metadata_in, bytes, len);
    return 0;
}

static int h2_on_metadata_frame(nghttp2_session *session, void **payload,
                                const nghttp2_frame_hd *hd, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = metadata_stream(h, hd->stream_id);
    (void)session;
    *payload = NULL;
    if (!s || !(hd->flags & H2_END_METADATA)) return 0;
    struct buf block = {0};
    bool fine =
        metadata_decode(buf_peek(&s->metadata_in, s->metadata_in.len), metadata_most(h), &block);
    buf_release(&s->metadata_in);
    if (!fine) {
        buf_release(&block);
        return metadata_refuse(h);
    }
    if (block.len)
        s->base.events->on_metadata(&s->base, s->base.owner, &block);
    else
        h2_stat(h, H2_STAT_METADATA_EMPTY);
    buf_release(&block);
    return 0;
}

/* --- out
 * ------------------------------------------------------------------------------------------------------------------
 */

static ssize_t h2_pack_metadata(nghttp2_session *session, uint8_t *to, size_t most,
                                const nghttp2_frame *frame, void *user)
{
    const struct h2_metadata *m = frame->ext.payload;
    (void)user;
    if (!nghttp2_session_get_stream_user_data(session, frame->hd.stream_id) || m->len > most)
        return NGHTTP2_ERR_CANCEL; /* its stream has gone */
    memcpy(to, m->bytes, m->len);
    return (ssize_t)m->len;
}

static void metadata_free(struct h2 *h, struct h2_metadata *m)
{
    h->metadata_queued -= m->len;
    list_remove(&m->link);
    mem_free(m);
}

void h2_metadata_done(struct h2 *h, const nghttp2_frame *frame)
{
    if (frame->hd.type == H2_METADATA && frame->ext.payload) metadata_free(h, frame->ext.payload);
}

void h2_metadata_release(struct h2 *h)
{
    while (!list_empty(&h->metadata))
        metadata_free(h, CONTAINER_OF(list_first(&h->metadata), struct h2_metadata, link));
}

/* It takes no METADATA and no flow control holds it back: the stream is given up. */
static void metadata_flood(struct h2 *h, struct h2_stream *s)
{
    buf_release(&s->metadata_out);
    if (s->refused) return;
    s->refused = "http2.metadata_flood";
    s->over_limit = true;
    h2_drop_out(h, s);
    h2_stat(h, H2_STAT_TX_RESET);
    h2_say_reset(h, s->id, NGHTTP2_ENHANCE_YOUR_CALM); /* its close tells the owner */
    h2_flush_soon(h);
}

void h2_metadata_submit(struct h2 *h, struct h2_stream *s)
{
    while (s->metadata_out.len) {
        size_t n =
            s->metadata_out.len < H2_METADATA_FRAME ? s->metadata_out.len : H2_METADATA_FRAME;
        if (h->metadata_queued + n > H2_METADATA_QUEUED) {
            metadata_flood(h, s);
            return;
        }
        struct h2_metadata *m = mem_alloc(sizeof *m + n);
        m->len = n;
        memcpy(m->bytes, buf_peek(&s->metadata_out, n).ptr, n);
        buf_drain(&s->metadata_out, n);
        list_push_back(&h->metadata, &m->link);
        h->metadata_queued += n;
        uint8_t last = s->metadata_out.len ? 0 : H2_END_METADATA;
        if (nghttp2_submit_extension(h->session, H2_METADATA, last, s->id, m) != 0)
            metadata_free(h, m); /* the session is closing */
    }
    h2_flush_soon(h);
}

void h2_send_metadata(struct codec_stream *cs, struct buf *block)
{
    struct h2_stream *s = h2_stream_of(cs);
    struct h2 *h = h2_of(cs->codec);
    if (!h->options->h2_allow_metadata || s->our_end || s->refused) {
        buf_release(block);
        return;
    }
    buf_move(&s->metadata_out, block);
    /* A request's head opens the stream: nghttp2 would let other frames overtake it. */
    if (h->server || s->head_said) h2_metadata_submit(h, s);
}

void h2_set_metadata_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(cb, h2_on_metadata_bytes);
    nghttp2_session_callbacks_set_unpack_extension_callback(cb, h2_on_metadata_frame);
    nghttp2_session_callbacks_set_pack_extension_callback(cb, h2_pack_metadata);
}
