/* The HTTP/2 codec's life: session, streams, ends. Frames are nghttp2's; what they mean is in
 * h2_recv.c, what we say in h2_send.c. */
#include "proxy/http/h2.h"

#include "base/arena.h"
#include "base/must.h"
#include "proxy/http/h2_internal.h"

const struct stat_def h2_stat_defs[H2_STAT_COUNT] = {
    [H2_STAT_COOKIES_TOO_LARGE] = {"cookies_total_bytes_too_large", STAT_COUNTER, 0},
    [H2_STAT_DROPPED_UNDERSCORES] = {"dropped_headers_with_underscores", STAT_COUNTER, 0},
    [H2_STAT_GOAWAY_SENT] = {"goaway_sent", STAT_COUNTER, 0},
    [H2_STAT_LIST_TOO_LARGE] = {"header_list_size_too_large", STAT_COUNTER, 0},
    [H2_STAT_HEADER_OVERFLOW] = {"header_overflow", STAT_COUNTER, 0},
    [H2_STAT_HEADERS_NO_STREAM] = {"headers_cb_no_stream", STAT_COUNTER, 0},
    [H2_STAT_EMPTY_FLOOD] = {"inbound_empty_frames_flood", STAT_COUNTER, 0},
    [H2_STAT_PRIORITY_FLOOD] = {"inbound_priority_frames_flood", STAT_COUNTER, 0},
    [H2_STAT_WINDOW_FLOOD] = {"inbound_window_update_frames_flood", STAT_COUNTER, 0},
    [H2_STAT_KEEPALIVE_TIMEOUT] = {"keepalive_timeout", STAT_COUNTER, 0},
    [H2_STAT_METADATA_EMPTY] = {"metadata_empty_frames", STAT_COUNTER, 0},
    [H2_STAT_NGHTTP2_DOWNSTREAM] = {"nghttp2_downstream_connections", STAT_COUNTER, 0},
    [H2_STAT_NGHTTP2_UPSTREAM] = {"nghttp2_upstream_connections", STAT_COUNTER, 0},
    [H2_STAT_OGHTTP2_DOWNSTREAM] = {"oghttp2_downstream_connections", STAT_COUNTER, 0},
    [H2_STAT_OGHTTP2_UPSTREAM] = {"oghttp2_upstream_connections", STAT_COUNTER, 0},
    [H2_STAT_CONTROL_FLOOD] = {"outbound_control_flood", STAT_COUNTER, 0},
    [H2_STAT_OUTBOUND_FLOOD] = {"outbound_flood", STAT_COUNTER, 0},
    [H2_STAT_REJECTED_UNDERSCORES] = {"requests_rejected_with_underscores_in_headers", STAT_COUNTER,
                                      0},
    [H2_STAT_MESSAGING_ERROR] = {"rx_messaging_error", STAT_COUNTER, 0},
    [H2_STAT_RX_RESET] = {"rx_reset", STAT_COUNTER, 0},
    [H2_STAT_REFUSED] = {"stream_refused_errors", STAT_COUNTER, 0},
    [H2_STAT_TRAILERS] = {"trailers", STAT_COUNTER, 0},
    [H2_STAT_FLUSH_TIMEOUT] = {"tx_flush_timeout", STAT_COUNTER, 0},
    [H2_STAT_TX_RESET] = {"tx_reset", STAT_COUNTER, 0},
    [H2_STAT_DEFERRED_CLOSE] = {"deferred_stream_close", STAT_GAUGE, 0},
    [H2_STAT_CONTROL_ACTIVE] = {"outbound_control_frames_active", STAT_GAUGE, 0},
    [H2_STAT_OUTBOUND_ACTIVE] = {"outbound_frames_active", STAT_GAUGE, 0},
    [H2_STAT_PENDING_BYTES] = {"pending_send_bytes", STAT_GAUGE, 0},
    [H2_STAT_STREAMS_ACTIVE] = {"streams_active", STAT_GAUGE, 0},
    [H2_STAT_COOKIE_COUNT] = {"cookie_count", STAT_HISTOGRAM, 0},
    [H2_STAT_COOKIE_SIZE] = {"cookie_size", STAT_HISTOGRAM, 0},
    [H2_STAT_HEADER_COUNT] = {"header_count", STAT_HISTOGRAM, 0},
    [H2_STAT_HEADER_LIST_SIZE] = {"header_list_size", STAT_HISTOGRAM, 0},
};

bool h2_preface(struct str bytes, bool *more)
{
    const struct str preface = {NGHTTP2_CLIENT_MAGIC, NGHTTP2_CLIENT_MAGIC_LEN};
    size_t n = bytes.len < preface.len ? bytes.len : preface.len;
    bool same = memcmp(bytes.ptr ? bytes.ptr : "", preface.ptr, n) == 0;
    *more = same && n < preface.len;
    return same && n == preface.len;
}

/* --- streams
 * -------------------------------------------------------------------------------------------------------------
 */

struct h2_stream *h2_stream_new(struct h2 *h, int32_t id)
{
    struct h2_stream *s = mem_alloc(sizeof *s);
    s->base.codec = &h->base;
    s->base.id = (uint64_t)id;
    s->id = id;
    list_push_back(&h->streams, &s->link);
    h->open++;
    h2_stat(h, H2_STAT_STREAMS_ACTIVE);
    return s;
}

void h2_stream_free(struct h2 *h, struct h2_stream *s)
{
    if (s->unconsumed)
        (void)nghttp2_session_consume_connection(
            h->session, s->unconsumed); /* the window is the connection's, too */
    list_remove(&s->link);
    loop_timer_stop(&s->stuck);
    if (s->above) h->above--;
    buf_release(&s->in);
    buf_release(&s->metadata_in);
    buf_release(&s->metadata_out);
    h2_drop_out(h, s);
    mem_free(s->trailers);
    h->open--;
    if (h->options->stats) stat_dec(h->options->stats, H2_STAT_STREAMS_ACTIVE);
    mem_free(s);
}

/* Frames keep their place in the turn: one flush for all that was said in it. */
static void h2_on_flush(struct loop_later *later)
{
    h2_flush(CONTAINER_OF(later, struct h2, flush));
}

void h2_flush_soon(struct h2 *h)
{
    if (!h->dead && conn_is_open(h->base.conn))
        loop_later(conn_worker(h->base.conn)->loop, &h->flush, h2_on_flush);
}

/* --- ends
 * ------------------------------------------------------------------------------------------------------------------
 */

void h2_fail(struct h2 *h, uint32_t code, const char *details)
{
    if (h->fail.len) return;
    h->fail = str_of(details);
    (void)nghttp2_session_terminate_session(
        h->session, code); /* queues GOAWAY; without memory we abort anyway */
    h2_stat(h, H2_STAT_GOAWAY_SENT);
}

static void h2_tell_failure(struct h2 *h)
{
    if (h->failed_told) return;
    h->failed_told = true;
    h->base.events->on_error(&h->base, h->base.owner, h->fail);
}

void h2_say_reset(struct h2 *h, int32_t id, uint32_t code)
{
    h2_control_begin(h);
    (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id,
                                    code); /* out of memory aborts */
}

void h2_refuse_stream(struct h2 *h, struct h2_stream *s)
{
    if (!s->over_limit) h2_stat(h, H2_STAT_MESSAGING_ERROR);
    if (!s->over_limit && !h->options->override_stream_error) {
        h2_fail(h, NGHTTP2_PROTOCOL_ERROR, s->refused);
        return;
    }
    h2_stat(h, H2_STAT_TX_RESET);
    h2_count_reset(h);
    /* Its close tells the owner. */
    h2_say_reset(h, s->id, s->over_limit ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_PROTOCOL_ERROR);
    h2_flush_soon(h);
}

/* A stream dies by our own decision: the owner hears no more of it. */
static void h2_reset(struct codec_stream *cs, enum stream_reset why)
{
    struct h2_stream *s = h2_stream_of(cs);
    struct h2 *h = h2_of(cs->codec);
    uint32_t code = why == RESET_LOCAL_REFUSED    ? NGHTTP2_REFUSED_STREAM
                    : why == RESET_PROTOCOL_ERROR ? NGHTTP2_PROTOCOL_ERROR
                    : why == RESET_CONNECT_ERROR  ? NGHTTP2_CONNECT_ERROR
                    : h->server                   ? NGHTTP2_INTERNAL_ERROR
                                                  : NGHTTP2_CANCEL;
    s->base.events = NULL;
    s->base.arena = NULL;
    s->head = NULL;
    buf_release(&s->in);
    h2_drop_out(h, s);
    if (s->id > 0 && (h->server || s->submitted)) {
        h2_stat(h, H2_STAT_TX_RESET);
        h2_say_reset(h, s->id, code); /* its close frees the stream */
        h2_flush_soon(h);
    } else {
        h2_stream_free(h, s);
    }
}

/* The answer is complete but the request is not: the rest of it is of no use (RFC 9113 8.1). */
static void h2_detach(struct codec_stream *cs)
{
    struct h2_stream *s = h2_stream_of(cs);
    struct h2 *h = h2_of(cs->codec);
    s->base.events = NULL;
    s->base.arena = NULL;
    buf_release(&s->in);
    s->detached = true; /* h2_on_sent resets it when the answer is out */
    h2_flush_soon(h);
}

static void h2_pause(struct codec_stream *cs, bool pause)
{
    struct h2_stream *s = h2_stream_of(cs);
    if (pause) {
        s->pauses++;
        return;
    }
    if (!s->pauses || --s->pauses) return;
    struct h2 *h = h2_of(cs->codec);
    if (h->receiving)
        h->show_wanted = true; /* not inside nghttp2's own loop */
    else
        h2_show_data(h, s);
    h2_flush_soon(h);
}

/* --- bytes
 * --------------------------------------------------------------------------------------------------------------------
 */

/* Streams that were resumed while bytes were read. */
static void h2_show_waiting(struct h2 *h)
{
    h->show_wanted = false;
    for (struct list *it = h->streams.next; it != &h->streams && !h->dead; it = it->next) {
        struct h2_stream *s = CONTAINER_OF(it, struct h2_stream, link);
        bool waits = s->in.len || s->held_trailers || (s->peer_end && !s->end_shown);
        if (!waits || s->pauses || !s->base.events) continue;
        h2_show_data(h, s);
        it = &h->streams; /* what it caused may have changed the list */
    }
}

static bool h2_on_bytes(struct codec *c, struct buf *in, bool end)
{
    struct h2 *h = h2_of(c);
    struct buf bytes = {0};
    if (h->receiving) return true;
    h->receiving = true;
    h->last_rx_us = loop_now_us(conn_worker(c->conn)->loop);
    buf_move(&bytes, in); /* ours: what the frames cause may end the connection, and its input */
    while (bytes.len && !h->fail.len && !h->dead) {
        struct str front = buf_front(&bytes);
        if (h->server) front.len = h2_check_bytes(h, front);
        if (!front.len) break;
        ssize_t n = nghttp2_session_mem_recv(h->session, (const uint8_t *)front.ptr, front.len);
        if (n < 0) {
            if (h->fail.len) break;
            h->fail = n == NGHTTP2_ERR_FLOODED ? STR("http2.outbound_control_flood")
                                               : STR("http2.protocol_error");
            if (n == NGHTTP2_ERR_FLOODED) h2_stat(h, H2_STAT_CONTROL_FLOOD);
            break;
        }
        buf_drain(&bytes, (size_t)n);
    }
    buf_release(&bytes);
    h->receiving = false;
    if (h->show_wanted) h2_show_waiting(h);
    h2_check_queue(h);
    h2_flush(h);
    /* nghttp2 itself ended the session: a GOAWAY went out. */
    if (!h->fail.len && !nghttp2_session_want_read(h->session) &&
        !nghttp2_session_want_write(h->session))
        h->fail = STR("http2.session_ended");
    (void)end;
    if (h->dead) return false;
    if (!h->fail.len) return true;
    h2_tell_failure(h);
    return false;
}

static void h2_on_conn_watermark(struct codec *c, bool above)
{
    struct h2 *h = h2_of(c);
    /* Frames wait in nghttp2 while the connection is full; each stream's own queue then tells its
     * producer. */
    if (!above) h2_flush_soon(h);
}

static void h2_on_conn_closed(struct codec *c, enum stream_reset why, struct str details)
{
    struct h2 *h = h2_of(c);
    h->dead = true;
    loop_timer_stop(&h->ping);
    loop_timer_stop(&h->ping_wait);
    loop_later_cancel(&h->flush);
    while (!list_empty(&h->streams)) {
        struct h2_stream *s = CONTAINER_OF(list_first(&h->streams), struct h2_stream, link);
        const struct codec_stream_events *e = s->base.events;
        s->base.events = NULL;
        if (s->id > 0)
            (void)nghttp2_session_set_stream_user_data(h->session, s->id,
                                                       NULL); /* unknown ids are fine */
        if (e && s->refused)
            e->on_reset(&s->base, s->base.owner, RESET_PROTOCOL_ERROR, str_of(s->refused));
        else if (e)
            e->on_reset(&s->base, s->base.owner, why, details);
        h2_stream_free(h, s);
    }
}

static void h2_free(struct codec *c)
{
    struct h2 *h = h2_of(c);
    if (!h->dead) h2_on_conn_closed(c, RESET_CONN_TERMINATION, STR_NONE);
    nghttp2_session_del(h->session);
    h2_metadata_release(h);
    buf_release(&h->wire);
    mem_free(h->control_at);
    mem_free(h);
}

/* --- client
 * ----------------------------------------------------------------------------------------------------------------
 */

static size_t h2_stream_limit(const struct codec *c)
{
    const struct h2 *h = (const struct h2 *)(const void *)c;
    uint32_t theirs =
        nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    uint32_t ours = h->options->h2_max_concurrent_streams ? h->options->h2_max_concurrent_streams
                                                          : H2_STREAMS_MOST;
    return theirs < ours ? theirs : ours;
}

static struct codec_stream *h2_request(struct codec *c, struct arena *a,
                                       const struct codec_stream_events *events, void *owner)
{
    struct h2 *h = h2_of(c);
    if (h->goaway_received || h->drained || h->fail.len || h->open >= h2_stream_limit(c))
        return NULL;
    struct h2_stream *s = h2_stream_new(h, 0);
    uint64_t idle = h->options->h2_keepalive_idle_us;
    s->base.arena = a;
    s->base.events = events;
    s->base.owner = owner;
    if (idle && loop_now_us(conn_worker(c->conn)->loop) - h->last_rx_us > idle) h2_ping(h);
    return &s->base;
}

static size_t h2_open_streams(const struct codec *c)
{
    return ((const struct h2 *)(const void *)c)->open;
}

static bool h2_keep_alive(const struct codec *c)
{
    const struct h2 *h = (const struct h2 *)(const void *)c;
    return !h->goaway_received && !h->drained && !h->fail.len;
}

/* First call: a notice, so that requests on their way are still served. Second: no stream after the
 * last one seen. */
static void h2_drain(struct codec *c)
{
    struct h2 *h = h2_of(c);
    if (!h->server || h->drained) {
        h->drained = true;
        return;
    }
    if (!h->drain_noticed) {
        h->drain_noticed = true;
        (void)nghttp2_submit_shutdown_notice(h->session); /* fails only for clients */
    } else {
        h2_stat(h, H2_STAT_GOAWAY_SENT);
        h->drained = true;
        int32_t last = nghttp2_session_get_last_proc_stream_id(h->session);
        (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE, last, NGHTTP2_NO_ERROR, NULL,
                                    0); /* out of memory aborts */
    }
    h2_flush_soon(h);
}

/* --- keep-alive pings
 * ----------------------------------------------------------------------------------------------------------
 */

static void h2_ping_lost(struct loop_timer *t)
{
    struct h2 *h = CONTAINER_OF(t, struct h2, ping_wait);
    h2_stat(h, H2_STAT_KEEPALIVE_TIMEOUT);
    h2_fail(h, NGHTTP2_NO_ERROR, "http2.keepalive_timeout");
    h2_flush(h);
    h2_tell_failure(h);
}

void h2_ping(struct h2 *h)
{
    struct loop *l = conn_worker(h->base.conn)->loop;
    (void)nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL); /* out of memory aborts */
    h2_flush_soon(h);
    if (!loop_timer_running(&h->ping_wait))
        loop_timer_start(l, &h->ping_wait, h->options->h2_keepalive_timeout_us, h2_ping_lost);
}

static void h2_ping_due(struct loop_timer *t);

/* With some jitter, so that not all connections ping at once. */
static void h2_ping_later(struct h2 *h)
{
    struct worker *w = conn_worker(h->base.conn);
    uint64_t us = h->options->h2_keepalive_interval_us;
    uint64_t more = (uint64_t)((double)us * h->options->h2_keepalive_jitter);
    if (us)
        loop_timer_start(w->loop, &h->ping, us + (more ? rng_next(&w->rng) % more : 0),
                         h2_ping_due);
}

static void h2_ping_due(struct loop_timer *t)
{
    struct h2 *h = CONTAINER_OF(t, struct h2, ping);
    h2_ping(h);
    h2_ping_later(h);
}

/* --- making
 * ----------------------------------------------------------------------------------------------------------------------
 */

/* Every reset of ours passes here; and an answer that is out before its request was whole ends the
 * request, too (RFC 9113 8.1). */
static int h2_on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    if (frame->hd.type == NGHTTP2_RST_STREAM) h2_note_reset(h, frame->hd.stream_id);
    if (h2_is_control(&frame->hd)) h2_control_said(h);
    h2_metadata_done(h, frame);
    bool body = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
    struct h2_stream *s =
        body ? nghttp2_session_get_stream_user_data(session, frame->hd.stream_id) : NULL;
    if (!s) return 0;
    s->counts.wire_sent += frame->hd.length + H2_FRAME_HEAD;
    if (frame->hd.type == NGHTTP2_HEADERS) {
        s->counts.header_sent += frame->hd.length + H2_FRAME_HEAD;
        s->head_said = true;
        if (s->metadata_out.len) h2_metadata_submit(h, s);
    }
    if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) loop_timer_stop(&s->stuck);
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || !s->detached || s->peer_end) return 0;
    h2_say_reset(h, s->id, NGHTTP2_NO_ERROR);
    return 0;
}

static int h2_on_not_send(nghttp2_session *session, const nghttp2_frame *frame, int error,
                          void *user)
{
    struct h2 *h = user;
    (void)error;
    if (h2_is_control(&frame->hd)) h2_control_end(h);
    h2_metadata_done(h, frame);
    if (h->server || frame->hd.type != NGHTTP2_HEADERS ||
        frame->headers.cat != NGHTTP2_HCAT_REQUEST)
        return 0;
    LIST_FOREACH_SAFE (&h->streams, it, next) {
        struct h2_stream *s = CONTAINER_OF(it, struct h2_stream, link);
        if (s->id != frame->hd.stream_id) continue;
        const struct codec_stream_events *e = s->base.events;
        s->base.events = NULL;
        list_remove(&s->link); /* what its owner does now may end the whole connection */
        if (e)
            e->on_reset(&s->base, s->base.owner, RESET_REMOTE_REFUSED,
                        STR("http2.remote_refuse")); /* nothing was sent */
        /* A request that was reset before it left: nghttp2 closes its stream after this. */
        (void)nghttp2_session_set_stream_user_data(session, s->id, NULL);
        h2_stream_free(h, s);
        return 0;
    }
    return 0;
}

static const struct codec_counts *h2_counts(const struct codec_stream *s)
{
    return &((const struct h2_stream *)(const void *)s)->counts;
}

static const struct codec_ops h2_ops = {
    .kind = CODEC_H2,
    .on_bytes = h2_on_bytes,
    .on_conn_watermark = h2_on_conn_watermark,
    .on_conn_closed = h2_on_conn_closed,
    .request = h2_request,
    .open_streams = h2_open_streams,
    .stream_limit = h2_stream_limit,
    .drain = h2_drain,
    .keep_alive = h2_keep_alive,
    .free = h2_free,
    .send_headers = h2_send_headers,
    .send_1xx = h2_send_1xx,
    .send_data = h2_send_data,
    .send_trailers = h2_send_trailers,
    .send_metadata = h2_send_metadata,
    .reset = h2_reset,
    .pause = h2_pause,
    .detach = h2_detach,
    .counts = h2_counts,
};

static void h2_session_new(struct h2 *h)
{
    enum { SETTINGS_MOST = 32, CONTINUATIONS_MOST = 8 };
    uint64_t burst, rate;
    nghttp2_session_callbacks *cb;
    nghttp2_option *option;
    must(nghttp2_session_callbacks_new(&cb) == 0);
    must(nghttp2_option_new(&option) == 0);
    h2_set_callbacks(cb);
    h2_set_send_callbacks(cb);
    h2_set_metadata_callbacks(cb);
    if (h->options->h2_allow_metadata)
        nghttp2_option_set_user_recv_extension_type(option, H2_METADATA);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(cb, h2_on_not_send);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, h2_on_sent);
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_closed_streams(option, 1);
    nghttp2_option_set_max_settings(option, SETTINGS_MOST);
    nghttp2_option_set_max_outbound_ack(option, h2_control_most(h->options));
    nghttp2_option_set_max_continuations(option, CONTINUATIONS_MOST);
    h->resets_bounded = h2_reset_limit(h->options, &burst, &rate);
    nghttp2_option_set_stream_reset_rate_limit(option, burst, rate);
    int rv = h->server ? nghttp2_session_server_new2(&h->session, cb, h, option)
                       : nghttp2_session_client_new2(&h->session, cb, h, option);
    must(rv == 0);
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(cb);
}

static void h2_say_settings(struct h2 *h)
{
    const struct codec_options *o = h->options;
    enum { OURS = 5 };
    size_t n = 0;
    bool table = o->h2_hpack_table && o->h2_hpack_table != NGHTTP2_DEFAULT_HEADER_TABLE_SIZE;
    nghttp2_settings_entry *v = mem_array(o->h2_setting_count + OURS, sizeof *v);
    int32_t window =
        (int32_t)(o->h2_initial_conn_window ? o->h2_initial_conn_window : H2_CONN_WINDOW);
    if (!h->server) v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    for (size_t i = 0; i < o->h2_setting_count; i++) {
        const struct codec_setting *x = &o->h2_settings[i];
        if (x->id != NGHTTP2_SETTINGS_ENABLE_PUSH || h->server)
            v[n++] = (nghttp2_settings_entry){x->id, x->value};
        table |= x->id == NGHTTP2_SETTINGS_HEADER_TABLE_SIZE; /* Envoy: its own word is the last */
    }
    if (h->server) {
        v[n++] = (nghttp2_settings_entry){
            NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
            o->h2_max_concurrent_streams ? o->h2_max_concurrent_streams : H2_STREAMS_MOST};
        if (o->h2_allow_connect)
            v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
    }
    v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                                      o->h2_initial_stream_window ? o->h2_initial_stream_window
                                                                  : H2_STREAM_WINDOW};
    if (table)
        v[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_HEADER_TABLE_SIZE,
                                          o->h2_hpack_table ? o->h2_hpack_table
                                                            : NGHTTP2_DEFAULT_HEADER_TABLE_SIZE};
    must(nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, v, n) == 0);
    mem_free(v);
    must(nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, window) == 0);
}

static struct codec *h2_new(struct conn *c, bool server, const struct codec_options *options,
                            const struct codec_events *events, void *owner)
{
    struct h2 *h = mem_alloc(sizeof *h);
    h->base = (struct codec){.ops = &h2_ops, .events = events, .owner = owner, .conn = c};
    h->server = server;
    h->options = options;
    list_init(&h->streams);
    list_init(&h->metadata);
    h2_session_new(h);
    h2_say_settings(h);
    h2_stat(h, server ? H2_STAT_NGHTTP2_DOWNSTREAM : H2_STAT_NGHTTP2_UPSTREAM);
    h2_ping_later(h);
    h->last_rx_us = loop_now_us(conn_worker(c)->loop);
    h2_flush_soon(h);
    return &h->base;
}

struct codec *h2_server_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner)
{
    return h2_new(c, true, options, events, owner);
}

struct codec *h2_client_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner)
{
    return h2_new(c, false, options, events, owner);
}
