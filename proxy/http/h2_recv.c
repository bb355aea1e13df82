/* The reading side: what nghttp2 found in the bytes, told to the streams' owners. */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/http/h2_internal.h"

static struct h2_stream *h2_find(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

/* --- heads
 * ----------------------------------------------------------------------------------------------------------------
 */

static bool h2_is_trailers(const struct h2_stream *s)
{
    return s->final_head;
}

static int h2_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_find(session, frame->hd.stream_id);
    if (frame->hd.type != NGHTTP2_HEADERS || h->dead || h->fail.len) return 0;
    if (!s && h->server && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        s = h2_stream_new(h, frame->hd.stream_id);
        h->opened++;
        (void)nghttp2_session_set_stream_user_data(session, s->id,
                                                   s); /* the stream was just opened: it is there */
        h->base.events->on_new_stream(&h->base, h->base.owner, &s->base);
    }
    if (!s || !s->base.arena) return 0;
    s->head = headers_new(s->base.arena);
    if (!h2_is_trailers(s))
        s->head_bytes = s->head_count =
            0; /* trailers count with their head against the same limits */
    return 0;
}

static int h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                        size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                        void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_find(session, frame->hd.stream_id);
    (void)flags;
    if (!s || !s->head || !s->base.events) return 0;
    struct str n = {(const char *)name, name_len}, v = {(const char *)value, value_len};
    if (!s->refused) {
        (void)h2_head_add(h, s, n, v); /* s->refused tells at the end of the head */
        return 0;
    }
    /* A block that goes on and on (a table entry named again and again) is no mistake. */
    s->head_bytes += name_len + value_len + H2_HEADER_OVERHEAD;
    if (s->head_bytes <= h->options->max_header_bytes * H2_BOMB) return 0;
    h2_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "http2.header_flood");
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* A field that RFC 9113 forbids: nghttp2 would leave it out; we refuse the message. */
static int h2_on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
                                const uint8_t *name, size_t name_len, const uint8_t *value,
                                size_t value_len, uint8_t flags, void *user)
{
    struct h2_stream *s = h2_find(session, frame->hd.stream_id);
    (void)name, (void)name_len, (void)value, (void)value_len, (void)flags, (void)user;
    if (s && !s->refused) s->refused = "http2.invalid.header.field";
    return 0;
}

static void h2_got_trailers(struct h2 *h, struct h2_stream *s)
{
    h2_stat(h, H2_STAT_TRAILERS);
    s->held_trailers = s->head;
    s->end_shown = true; /* the trailers are the end */
    s->peer_end = true;
    h2_show_data(h, s);
}

static void h2_got_head(struct h2 *h, struct h2_stream *s, bool end)
{
    s->counts.header_received += h->block_bytes;
    s->counts.wire_received += h->block_bytes;
    h->block_bytes = 0;
    bool trailers = h2_is_trailers(s);
    if (!s->head || !s->base.events) return;
    if (!h2_head_finish(h, s, trailers)) {
        h2_refuse_stream(h, s);
        return;
    }
    if (trailers) {
        h2_got_trailers(h, s);
        return;
    }
    uint32_t status = h->server ? 0 : headers_status(s->head);
    if (!h->server && status >= 100 && status < 200 && !(s->extended && status == 101)) {
        if (++s->interim > H2_INTERIM_MOST) {
            s->refused = "http2.too_many_interim_responses";
            h2_refuse_stream(h, s);
            return;
        }
        if (s->base.events->on_1xx) s->base.events->on_1xx(&s->base, s->base.owner, s->head);
        return;
    }
    s->final_head = true;
    s->peer_end = s->end_shown = end;
    s->base.events->on_headers(&s->base, s->base.owner, s->head, end);
}

/* --- bodies
 * ---------------------------------------------------------------------------------------------------------------
 */

static void h2_show_body(struct h2_stream *s)
{
    bool end = s->peer_end && !s->end_shown;
    if (!s->in.len && !end) return;
    struct buf data = {0};
    buf_move(&data, &s->in);
    s->end_shown |= end;
    s->base.events->on_data(&s->base, s->base.owner, &data, end);
    buf_release(&data);
}

void h2_show_data(struct h2 *h, struct h2_stream *s)
{
    if (s->pauses || !s->base.events) return;
    size_t n = s->unconsumed;
    s->unconsumed = 0;
    if (n)
        (void)nghttp2_session_consume(
            h->session, s->id, n); /* the stream may be gone: then the connection's part counts */
    bool listed = list_linked(&s->link);
    h2_show_body(s);
    if (h->dead && listed) return; /* the connection ended inside, and the stream with it */
    struct headers *t = s->held_trailers;
    if (!t || !s->base.events) return;
    s->held_trailers = NULL;
    s->base.events->on_trailers(&s->base, s->base.owner, t);
}

static int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
                      size_t len, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_find(session, id);
    (void)flags;
    if (!s || !s->base.events) {
        (void)nghttp2_session_consume(session, id,
                                      len); /* nobody is there to read: the window goes back */
        return 0;
    }
    h->inbound_empty = 0;
    s->unconsumed += len;
    buf_append(&s->in, bytes, len);
    return 0;
}

/* --- frames
 * ----------------------------------------------------------------------------------------------------------------
 */

/* Frames that cost us and say nothing: bounded in proportion to what the peer asks for (Envoy's
 * limits). */
static void h2_count_frame(struct h2 *h, const nghttp2_frame *frame)
{
    const struct codec_options *o = h->options;
    uint64_t empty_most = o->h2_max_inbound_empty_data ? o->h2_max_inbound_empty_data : 1;
    uint64_t priority_most = o->h2_max_inbound_priority ? o->h2_max_inbound_priority : 100;
    uint64_t window_most = o->h2_max_inbound_window_update ? o->h2_max_inbound_window_update : 10;
    if (frame->hd.type == NGHTTP2_DATA && frame->hd.length == 0 &&
        !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && ++h->inbound_empty > empty_most) {
        h2_stat(h, H2_STAT_EMPTY_FLOOD);
        h2_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "http2.inbound_empty_frames_flood");
    } else if (frame->hd.type == NGHTTP2_PRIORITY &&
               ++h->inbound_priority > priority_most * (1 + h->opened)) {
        h2_stat(h, H2_STAT_PRIORITY_FLOOD);
        h2_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "http2.inbound_priority_frames_flood");
    } else if (frame->hd.type == NGHTTP2_WINDOW_UPDATE &&
               ++h->inbound_window > 5 + 2 * (1 + h->opened + window_most * h->data_sent)) {
        h2_stat(h, H2_STAT_WINDOW_FLOOD);
        h2_fail(h, NGHTTP2_ENHANCE_YOUR_CALM, "http2.inbound_window_update_frames_flood");
    }
}

static int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = frame->hd.stream_id ? h2_find(session, frame->hd.stream_id) : NULL;
    bool end = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
    h2_count_frame(h, frame);
    if (h->fail.len) return 0;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        if (!h->server) h->block_bytes = frame->hd.length + H2_FRAME_HEAD;
        if (s) h2_got_head(h, s, end);
        return 0;
    case NGHTTP2_DATA:
        if (!s) return 0;
        s->peer_end |= end;
        s->counts.wire_received += frame->hd.length + H2_FRAME_HEAD;
        h2_show_data(h, s); /* later, if it is paused */
        return 0;
    case NGHTTP2_RST_STREAM:
        h2_stat(h, H2_STAT_RX_RESET);
        if (!h->resets_bounded) h2_count_reset(h);
        return 0;
    case NGHTTP2_GOAWAY:
        h->goaway_received = true;
        if (h->base.events->on_goaway) h->base.events->on_goaway(&h->base, h->base.owner);
        return 0;
    case NGHTTP2_SETTINGS:
        if (!(frame->hd.flags & NGHTTP2_FLAG_ACK)) h2_control_begin(h);
        return 0;
    case NGHTTP2_PING:
        if (frame->hd.flags & NGHTTP2_FLAG_ACK)
            loop_timer_stop(&h->ping_wait);
        else
            h2_control_begin(h);
        return 0;
    default: return 0;
    }
}

static int h2_on_invalid_frame(nghttp2_session *session, const nghttp2_frame *frame, int error,
                               void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = frame->hd.stream_id ? h2_find(session, frame->hd.stream_id) : NULL;
    h2_stat(h, H2_STAT_MESSAGING_ERROR);
    if (s && !s->refused)
        s->refused = error == NGHTTP2_ERR_HTTP_HEADER ? "http2.invalid.header.field"
                                                      : "http2.violation.of.messaging.rule";
    h2_count_reset(h);
    h2_control_begin(h); /* nghttp2 resets the stream */
    bool malformed = error == NGHTTP2_ERR_HTTP_HEADER || error == NGHTTP2_ERR_HTTP_MESSAGING;
    if (s && malformed && !h->options->override_stream_error)
        h2_fail(h, NGHTTP2_PROTOCOL_ERROR, s->refused);
    return 0;
}

static enum stream_reset h2_reset_of(uint32_t code)
{
    switch (code) {
    case NGHTTP2_REFUSED_STREAM: return RESET_REMOTE_REFUSED;
    case NGHTTP2_CONNECT_ERROR: return RESET_CONNECT_ERROR;
    default: return RESET_REMOTE;
    }
}

static int h2_on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_find(session, id);
    if (!s) return 0;
    bool whole =
        code == NGHTTP2_NO_ERROR && s->peer_end && s->our_end && s->submitted && !s->refused;
    const struct codec_stream_events *e = s->base.events;
    list_remove(&s->link); /* what its owner does now may end the whole connection */
    if (whole && e) {
        s->pauses = 0; /* all is here, within the window: the owner keeps it */
        h2_show_data(h, s);
    }
    e = s->base.events; /* the owner may have let go meanwhile */
    if (e && whole) {
        e->on_complete(&s->base, s->base.owner);
    } else if (e && s->refused) {
        s->base.events = NULL;
        e->on_reset(&s->base, s->base.owner, s->over_limit ? RESET_REMOTE : RESET_PROTOCOL_ERROR,
                    str_of(s->refused));
    } else if (e) {
        s->base.events = NULL;
        enum stream_reset why = h2_reset_of(code);
        e->on_reset(&s->base, s->base.owner, why,
                    why == RESET_REMOTE_REFUSED ? STR("http2.remote_refuse")
                                                : STR("http2.remote_reset"));
    }
    h2_stream_free(h, s);
    return 0;
}

void h2_set_callbacks(nghttp2_session_callbacks *cb)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, h2_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, h2_on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(cb, h2_on_invalid_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, h2_on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, h2_on_frame);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(cb, h2_on_invalid_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, h2_on_stream_close);
}
