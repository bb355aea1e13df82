/* Admin's HTTP server: the proxy's own connections and HTTP/1 codec, run on the main loop by a
 * worker struct that has no thread. */
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/must.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/headers.h"
#include "proxy/api/stream_info.h"
#include "proxy/http/h1.h"
#include "proxy/http/hcm_stats.h"
#include "proxy/net/conn_internal.h" /* conn_accept and the listener's names: admin is a listener, too */
#include "proxy/net/listener_internal.h"
#include "proxy/net/socket.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "server/admin_internal.h"
#include "server/server.h"

enum {
    ADMIN_BODY_MOST = 64 * 1024, /* bytes of a form */
    ADMIN_CONNS_MOST = 1024,
    ADMIN_BIG = 4 * 1024 * 1024, /* bytes of an answer, or of a request's memory, after which memory
                                    is given back to the system at once */
    ADMIN_PIECE = 256 * 1024,    /* bytes of an answer that are queued at once */
    ADMIN_IDLE_S = 3600,
    ADMIN_PAUSE_US = 100 * 1000 /* no descriptors left: look again after this */
};

struct admin_http {
    struct server *server;
    struct worker worker; /* conn.c and h1.c take loop, scratch and statistics from it */
    struct loop_io io;
    struct loop_timer pause;
    struct list conns;
    size_t conn_count;
    struct codec_options options;
    struct conn_limits limits;
    struct conn_byte_stats byte_stats;
    struct stat_group *hcm, *listener, *listener_hcm, *codec;
    const struct access_log_list *log;
};

/* A connection with at most one request under way. */
struct admin_conn {
    struct list link;
    struct admin_http *http;
    struct conn *conn;
    struct codec *codec;
    struct loop_timer idle;
    struct loop_later later;     /* frees it: the codec may be at work when the connection ends */
    struct codec_stream *stream; /* NULL between requests */
    struct arena *arena;         /* of the request */
    struct admin_request *request;
    struct headers *req, *resp; /* for the access log; NULL until there */
    struct str target;
    struct sb body;
    size_t taken;          /* bytes of request->out that are queued */
    uint64_t sent;         /* bytes of all pieces */
    struct mail turn;      /* to ourselves: the next piece, at the next turn */
    bool turn_comes, gone; /* gone: freed with that mail */
    uint64_t begun_us;
    bool answering, head, too_large;
};

/* --- answering
 * --------------------------------------------------------------------------------------------------------
 */

static void admin_conn_push(struct admin_conn *c);

/* By mail, because work queued with loop_later runs within this turn: between two pieces the loop
 * looks at its sockets. */
static void admin_conn_on_turn(struct mail *m)
{
    struct admin_conn *c = CONTAINER_OF(m, struct admin_conn, turn);
    c->turn_comes = false;
    if (c->gone) {
        mem_free(c);
        return;
    }
    if (!c->answering || !c->request->more || conn_above_watermark(c->conn)) return;
    sb_clear(&c->request->out);
    c->taken = 0;
    if (!c->request->more(c->request)) c->request->more = NULL;
    admin_conn_push(c);
}

static void admin_conn_next_turn(struct admin_conn *c)
{
    if (c->turn_comes) return;
    c->turn_comes = true;
    c->turn.deliver = admin_conn_on_turn;
    loop_post(c->http->server->loop, &c->turn);
}

/* Queues what there is while the connection takes it. */
static void admin_conn_push(struct admin_conn *c)
{
    while (c->stream && c->answering && !conn_above_watermark(c->conn)) {
        const struct sb *out = &c->request->out;
        struct str piece = str_sub(sb_str(out), c->taken, ADMIN_PIECE);
        struct buf data = {0};
        if (!piece.len && c->request->more) {
            admin_conn_next_turn(c);
            return;
        }
        c->taken += piece.len;
        c->sent += piece.len;
        bool end = c->taken == out->len && !c->request->more;
        buf_append_str(&data, piece);
        if (end) c->answering = false;
        c->codec->ops->send_data(
            c->stream, &data, end); /* the end may complete the exchange: c->stream is gone then */
        if (end) return;
    }
}

static void admin_conn_count(struct admin_conn *c, uint32_t status)
{
    struct admin_http *h = c->http;
    unsigned class = status / 100;
    if (class < 1 || class > 5) return;
    stat_inc(h->hcm, HCM_STAT_RQ_1XX + class - 1);
    stat_inc(h->hcm, HCM_STAT_RQ_COMPLETED);
    stat_inc(h->listener_hcm, HCM_LISTENER_STAT_1XX + class - 1);
    stat_inc(h->listener_hcm, HCM_LISTENER_STAT_COMPLETED);
}

static void admin_conn_respond(struct admin_conn *c)
{
    struct admin_request *r = c->request;
    struct headers *h = headers_new(c->arena);
    uint32_t status = r->status ? r->status : 200;
    headers_set_status(h, status);
    headers_add(h, STR("content-type"), str_of(r->content_type ? r->content_type : ADMIN_TEXT));
    headers_add(h, STR("cache-control"), STR("no-cache, max-age=0"));
    for (int i = 0; i <= r->nosniff_twice; i++)
        headers_add(h, STR("x-content-type-options"), STR("nosniff"));
    headers_add(h, STR("date"), str_dup(c->arena, worker_date(&c->http->worker)));
    headers_add(h, STR("server"), STR("envoy"));
    c->resp = h;
    admin_conn_count(c, status);
    if (c->head) {
        sb_clear(&r->out);
        r->more = NULL;
    }
    c->answering = true;
    c->codec->ops->send_headers(c->stream, h,
                                false); /* Envoy: chunked even when empty or asked for with HEAD */
    admin_conn_push(c);
}

static void admin_conn_answer(struct admin_conn *c)
{
    struct admin_request *r = c->request;
    if (c->too_large) {
        admin_error(r, 413, "the body is too large");
    } else {
        admin_answer(r, c->target, sb_str(&c->body));
    }
    admin_conn_respond(c);
}

/* --- one exchange
 * ---------------------------------------------------------------------------------------------------------
 */

/* A line of the access log, while the request is still there. */
static void admin_conn_log(struct admin_conn *c)
{
    struct admin_http *h = c->http;
    struct stream_info info = {.arena = c->arena,
                               .worker = &h->worker,
                               .conn = conn_info_of(c->conn),
                               .start_us = c->begun_us,
                               .end_us = loop_now_us(h->server->loop),
                               .protocol = HTTP_PROTOCOL_11,
                               .req = c->req,
                               .resp = c->resp,
                               .bytes_received = c->body.len,
                               .bytes_sent = c->sent,
                               .traceable = false};
    if (!h->log) return;
    info.start_wall_us = loop_wall_us(h->server->loop) - (info.end_us - info.start_us);
    info.last_rx_us = info.start_us;
    info.first_tx_us = info.last_tx_us = info.end_us;
    info.remote = info.conn->remote;
    info.response_code = c->resp ? headers_status(c->resp) : 0;
    info.code_details = STR("admin_filter_response");
    info.original_path = c->target;
    access_log_run(NULL, h->log, &info,
                   ACCESS_LOG_TYPE_DOWNSTREAM_END); /* NULL: main's own buffer */
}

static void admin_conn_done(struct admin_conn *c)
{
    struct admin_http *h = c->http;
    if (!c->stream) return;
    admin_conn_log(c);
    c->req = c->resp = NULL;
    c->stream = NULL;
    c->answering = false;
    stat_dec(h->hcm, HCM_STAT_RQ_ACTIVE);
    stat_record(h->hcm, HCM_STAT_RQ_TIME, (loop_now_us(h->server->loop) - c->begun_us) / 1000);
    bool big = c->sent > ADMIN_BIG || arena_size(c->arena) > ADMIN_BIG;
    sb_release(&c->request->out);
    sb_release(&c->body);
    c->request = NULL;
    arena_free(&c->arena);
    if (big) (void)malloc_trim(0); /* a dump of ten thousand clusters must not stay in memory */
}

static void admin_on_headers(struct codec_stream *s, void *owner, struct headers *h, bool end)
{
    struct admin_conn *c = owner;
    (void)s;
    c->req = h;
    c->request->method = headers_get(h, HDR_METHOD);
    c->target = headers_get(h, HDR_PATH);
    c->head = str_eq(c->request->method, STR("HEAD"));
    if (end) admin_conn_answer(c);
}

static void admin_on_data(struct codec_stream *s, void *owner, struct buf *data, bool end)
{
    struct admin_conn *c = owner;
    (void)s;
    if (!c->too_large) sb_add(&c->body, buf_dup(data, c->arena));
    buf_release(data);
    c->too_large |= c->body.len > ADMIN_BODY_MOST;
    if (end) admin_conn_answer(c);
}

static void admin_on_trailers(struct codec_stream *s, void *owner, struct headers *t)
{
    (void)s, (void)t;
    admin_conn_answer(owner);
}

static void admin_on_reset(struct codec_stream *s, void *owner, enum stream_reset why,
                           struct str details)
{
    struct admin_conn *c = owner;
    (void)s, (void)why, (void)details;
    stat_inc(c->http->hcm, HCM_STAT_RQ_RX_RESET);
    admin_conn_done(c);
}

static void admin_on_watermark(struct codec_stream *s, void *owner, bool above)
{
    (void)s;
    if (!above) admin_conn_push(owner);
}

static void admin_on_complete(struct codec_stream *s, void *owner)
{
    struct admin_conn *c = owner;
    bool keep;
    (void)s;
    admin_conn_done(c);
    keep = c->codec->ops->keep_alive(c->codec);
    if (!keep) conn_close(c->conn, CONN_CLOSE_FLUSH);
}

static const struct codec_stream_events admin_stream_events = {.on_headers = admin_on_headers,
                                                               .on_data = admin_on_data,
                                                               .on_trailers = admin_on_trailers,
                                                               .on_reset = admin_on_reset,
                                                               .on_watermark = admin_on_watermark,
                                                               .on_complete = admin_on_complete};

static void admin_on_new_stream(struct codec *codec, void *owner, struct codec_stream *s)
{
    struct admin_conn *c = owner;
    struct admin_http *h = c->http;
    (void)codec;
    c->arena = arena_new("admin", 0);
    c->request = ARENA_NEW(c->arena, struct admin_request);
    c->request->server = h->server;
    c->request->arena = c->arena;
    c->stream = s;
    c->target = STR_NONE;
    c->taken = 0;
    c->sent = 0;
    c->answering = c->head = c->too_large = false;
    c->begun_us = loop_now_us(h->server->loop);
    s->events = &admin_stream_events;
    s->owner = c;
    s->arena = c->arena;
    loop_timer_start(h->server->loop, &c->idle, (uint64_t)ADMIN_IDLE_S * 1000000, c->idle.fire);
    stat_inc(h->hcm, HCM_STAT_RQ_TOTAL);
    stat_inc(h->hcm, HCM_STAT_RQ_ACTIVE);
    stat_inc(h->hcm, HCM_STAT_RQ_HTTP1_TOTAL);
}

static void admin_on_error(struct codec *codec, void *owner, struct str details)
{
    struct admin_conn *c = owner;
    (void)codec, (void)details;
    stat_inc(c->http->hcm, HCM_STAT_CX_PROTOCOL_ERROR);
    conn_close(c->conn, CONN_CLOSE_FLUSH);
}

static void admin_on_bad_request(struct codec *codec, void *owner, struct codec_stream *s,
                                 uint32_t status, struct str details)
{
    struct admin_conn *c = owner;
    (void)codec, (void)s, (void)details;
    stat_inc(c->http->hcm, HCM_STAT_CX_PROTOCOL_ERROR);
    admin_error(c->request, status, "%.*s", STR_ARG(http_status_text(status)));
    admin_conn_respond(c);
    if (conn_is_open(c->conn)) conn_close(c->conn, CONN_CLOSE_FLUSH);
}

static const struct codec_events admin_codec_events = {.on_new_stream = admin_on_new_stream,
                                                       .on_error = admin_on_error,
                                                       .on_bad_request = admin_on_bad_request};

/* --- connections
 * --------------------------------------------------------------------------------------------------------
 */

static void admin_conn_on_read(struct conn *conn, void *owner, struct buf *in, bool end)
{
    struct admin_conn *c = owner;
    bool fine = c->codec->ops->on_bytes(c->codec, in, end);
    if ((!fine || end) && conn_is_open(conn) && !c->stream) conn_close(conn, CONN_CLOSE_FLUSH);
}

static void admin_conn_on_watermark(struct conn *conn, void *owner, bool above)
{
    struct admin_conn *c = owner;
    (void)conn;
    c->codec->ops->on_conn_watermark(c->codec, above);
}

static void admin_conn_free(struct loop_later *later)
{
    struct admin_conn *c = CONTAINER_OF(later, struct admin_conn, later);
    c->codec->ops->free(c->codec);
    c->gone = true;
    if (!c->turn_comes) mem_free(c);
}

static void admin_conn_on_close(struct conn *conn, void *owner, enum conn_end why)
{
    struct admin_conn *c = owner;
    struct admin_http *h = c->http;
    bool active = c->stream != NULL;
    (void)conn;
    c->codec->ops->on_conn_closed(c->codec, RESET_CONN_TERMINATION, STR_NONE);
    admin_conn_done(c);
    loop_timer_stop(&c->idle);
    stat_inc(h->hcm, HCM_STAT_CX_DESTROY);
    stat_inc(h->hcm,
             why == CONN_END_LOCAL ? HCM_STAT_CX_DESTROY_LOCAL : HCM_STAT_CX_DESTROY_REMOTE);
    if (active) stat_inc(h->hcm, HCM_STAT_CX_DESTROY_ACTIVE_RQ);
    stat_dec(h->hcm, HCM_STAT_CX_ACTIVE);
    stat_dec(h->hcm, HCM_STAT_CX_HTTP1_ACTIVE);
    stat_inc(h->listener, LISTENER_CX_DESTROY);
    stat_dec(h->listener, LISTENER_CX_ACTIVE);
    list_remove(&c->link);
    h->conn_count--;
    loop_later(h->server->loop, &c->later, admin_conn_free);
}

static const struct conn_events admin_conn_events = {.on_read = admin_conn_on_read,
                                                     .on_watermark = admin_conn_on_watermark,
                                                     .on_close = admin_conn_on_close};

static void admin_conn_on_idle(struct loop_timer *t)
{
    struct admin_conn *c = CONTAINER_OF(t, struct admin_conn, idle);
    stat_inc(c->http->hcm, HCM_STAT_CX_IDLE_TIMEOUT);
    conn_close(c->conn, CONN_CLOSE_NOW);
}

static void admin_conn_new(struct admin_http *h, int fd)
{
    struct admin_conn *c = mem_alloc(sizeof *c);
    struct conn_info *info = mem_alloc(sizeof *info);
    (void)socket_peer(fd, &info->direct_remote); /* unknown stays unset */
    (void)socket_local(fd, &info->direct_local);
    info->remote = info->direct_remote;
    info->local = info->direct_local;
    c->http = h;
    c->conn = conn_accept(&h->worker, fd, info, NULL, 0, &h->limits, &admin_conn_events, c);
    c->codec = h1_server_new(c->conn, &h->options, &admin_codec_events, c);
    conn_set_byte_stats(c->conn, &h->byte_stats);
    conn_set_delayed_close(c->conn, 1000000);
    list_push_back(&h->conns, &c->link);
    h->conn_count++;
    loop_timer_start(h->server->loop, &c->idle, (uint64_t)ADMIN_IDLE_S * 1000000,
                     admin_conn_on_idle);
    stat_inc(h->hcm, HCM_STAT_CX_TOTAL);
    stat_inc(h->hcm, HCM_STAT_CX_HTTP1_TOTAL);
    stat_inc(h->hcm, HCM_STAT_CX_ACTIVE);
    stat_inc(h->hcm, HCM_STAT_CX_HTTP1_ACTIVE);
    stat_inc(h->listener, LISTENER_CX_TOTAL);
    stat_inc(h->listener, LISTENER_CX_ACTIVE);
}

/* --- accepting
 * --------------------------------------------------------------------------------------------------------------
 */

static void admin_on_pause(struct loop_timer *t)
{
    loop_io_want(&CONTAINER_OF(t, struct admin_http, pause)->io, LOOP_READ);
}

static void admin_on_accept(struct loop_io *io, int ready)
{
    struct admin_http *h = CONTAINER_OF(io, struct admin_http, io);
    (void)ready;
    for (;;) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EINTR) continue;
        if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED) {
            log_warn(LOG_C_ADMIN, "accept: %s", strerror(errno));
            loop_io_want(io, 0);
            loop_timer_start(h->server->loop, &h->pause, ADMIN_PAUSE_US, admin_on_pause);
        }
        if (fd < 0) return;
        if (h->conn_count >= ADMIN_CONNS_MOST) {
            stat_inc(h->listener, LISTENER_CX_OVERFLOW);
            (void)close(fd);
            continue;
        }
        admin_conn_new(h, fd);
    }
}

static void admin_http_stats(struct admin_http *h)
{
    struct stats *s = h->server->stats;
    h->hcm = stat_group_get(s, STR("http.admin."), hcm_stat_defs, HCM_STAT_COUNT);
    h->listener =
        stat_group_get(s, STR("listener.admin."), listener_stat_defs, LISTENER_STAT_COUNT);
    h->listener_hcm = stat_group_get(s, STR("listener.admin.http.admin."), hcm_listener_stat_defs,
                                     HCM_LISTENER_STAT_COUNT);
    h->codec = stat_group_get(s, STR("http1."), h1_stat_defs, H1_STAT_COUNT);
    h->byte_stats = (struct conn_byte_stats){.group = h->hcm,
                                             .rx_total = HCM_STAT_CX_RX_BYTES_TOTAL,
                                             .rx_buffered = HCM_STAT_CX_RX_BYTES_BUFFERED,
                                             .tx_total = HCM_STAT_CX_TX_BYTES_TOTAL,
                                             .tx_buffered = HCM_STAT_CX_TX_BYTES_BUFFERED};
}

struct admin_http *admin_http_new(struct server *s, int fd, const struct access_log_list *log)
{
    struct admin_http *h = mem_alloc(sizeof *h);
    h->server = s;
    h->log = log;
    h->worker = (struct worker){.rt = s->rt,
                                .loop = s->loop,
                                .index = s->rt->concurrency,
                                .scratch = arena_new("admin scratch", 0)};
    list_init(&h->conns);
    admin_http_stats(h);
    h->options = (struct codec_options){.max_header_bytes = 60 * 1024,
                                        .max_headers = 100,
                                        .allow_absolute_url = true,
                                        .accept_http_10 = true,
                                        .default_host_for_http_10 = STR("admin"),
                                        .stats = h->codec};
    loop_io_init(&h->io, s->loop, fd, admin_on_accept);
    loop_io_want(&h->io, LOOP_READ);
    return h;
}

void admin_http_free(struct admin_http **hp)
{
    struct admin_http *h = *hp;
    if (!h) return;
    loop_timer_stop(&h->pause);
    loop_io_want(&h->io, 0);
    (void)close(h->io.fd);
    LIST_FOREACH_SAFE (&h->conns, link, following) {
        conn_close(CONTAINER_OF(link, struct admin_conn, link)->conn, CONN_CLOSE_NOW);
    }
    for (int i = 0; i < 8; i++)
        loop_turn(h->server->loop, false); /* connections are freed at the end of some turns */
    mem_free(h->worker.slot[WORKER_NET]);
    arena_free(&h->worker.scratch);
    stat_group_unref(&h->hcm);
    stat_group_unref(&h->listener);
    stat_group_unref(&h->listener_hcm);
    stat_group_unref(&h->codec);
    mem_free(h);
    *hp = NULL;
}
