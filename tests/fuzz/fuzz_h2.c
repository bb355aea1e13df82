/* Bytes through the HTTP/2 codec: first byte: bit 0 client or server, bit 1 a server is given the
 * client's preface first, so that the rest is frames, a client gives up each answer when its body
 * comes; bit 2 a server answers at once or with the request's end, a client ends the connection
 * with its last stream; bits 3-7 the size of the pieces. Whatever comes, the codec stays within
 * what it was given, each stream ends once, and all ends cleanly. */
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/loop.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/http/h2.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_STREAMS = 8 };

/* A connection that is two buffers; it stands for proxy/net's. */
struct conn {
    struct worker *worker;
    struct buf in, out;
    uint64_t written;
    bool closed;
};
void conn_write(struct conn *c, struct buf *bytes, bool end)
{
    (void)end;
    c->written += buf_len(bytes);
    buf_move(&c->out, bytes);
}
void conn_close(struct conn *c, enum conn_close how)
{
    (void)how;
    c->closed = true;
}
uint64_t conn_bytes_written(const struct conn *c)
{
    return c->written;
}
bool conn_is_open(const struct conn *c)
{
    return !c->closed;
}
size_t conn_write_queued(const struct conn *c)
{
    return buf_len(&c->out);
}
bool conn_above_watermark(const struct conn *c)
{
    (void)c;
    return false;
}
struct worker *conn_worker(const struct conn *c)
{
    return c->worker;
}
void conn_pause_read(struct conn *c, bool pause)
{
    (void)c;
    (void)pause;
}
void conn_read_again(struct conn *c)
{
    (void)c;
}
struct buf *conn_input(struct conn *c)
{
    return &c->in;
}

struct fuzz {
    struct conn conn;
    struct arena *arena;
    struct codec *codec;
    bool server, early;
    bool gives_up, ends_with_last; /* clients */
    size_t begun, ended;
};

/* Another stream has ended: the owner may end the connection, also inside the codec. */
static void fuzz_ended(struct fuzz *f)
{
    f->ended++;
    if (!f->ends_with_last || f->ended < f->begun || f->conn.closed) return;
    f->conn.closed = true;
    f->codec->ops->on_conn_closed(f->codec, RESET_CONN_TERMINATION, STR_NONE);
}

static void fuzz_answer(struct fuzz *f, struct codec_stream *s)
{
    struct headers *h = headers_new(f->arena), *t = headers_new(f->arena);
    struct buf body = {0};
    if (!f->server) return;
    headers_set_status(h, 200);
    s->codec->ops->send_headers(s, h, false);
    buf_append(&body, "hello", 5);
    s->codec->ops->send_data(s, &body, false);
    headers_add(t, STR("x"), STR("y"));
    s->codec->ops->send_trailers(s, t);
}
static void fuzz_headers(struct codec_stream *s, void *owner, struct headers *h, bool end)
{
    struct fuzz *f = owner;
    uint32_t it = 0;
    const struct header *x;
    while ((x = headers_next(h, &it)))
        must(str_find_char(x->value, '\n') == SIZE_MAX &&
             str_find_char(x->value, '\r') == SIZE_MAX);
    if (end || f->early) fuzz_answer(f, s);
}
static void fuzz_1xx(struct codec_stream *s, void *owner, struct headers *h)
{
    (void)s;
    (void)owner;
    (void)h;
}
static void fuzz_data(struct codec_stream *s, void *owner, struct buf *bytes, bool end)
{
    struct fuzz *f = owner;
    buf_release(bytes);
    if (f->gives_up) {
        f->codec->ops->reset(s, RESET_LOCAL);
        fuzz_ended(f);
    } else if (end && !f->early) {
        fuzz_answer(f, s);
    }
}
static void fuzz_trailers(struct codec_stream *s, void *owner, struct headers *t)
{
    struct fuzz *f = owner;
    (void)t;
    if (!f->early) fuzz_answer(f, s);
}
static void fuzz_reset(struct codec_stream *s, void *owner, enum stream_reset why,
                       struct str details)
{
    (void)s;
    (void)why;
    (void)details;
    fuzz_ended(owner);
}
static void fuzz_watermark(struct codec_stream *s, void *owner, bool above)
{
    (void)s;
    (void)owner;
    (void)above;
}
static void fuzz_complete(struct codec_stream *s, void *owner)
{
    (void)s;
    fuzz_ended(owner);
}
static const struct codec_stream_events stream_events = {.on_headers = fuzz_headers,
                                                         .on_1xx = fuzz_1xx,
                                                         .on_data = fuzz_data,
                                                         .on_trailers = fuzz_trailers,
                                                         .on_reset = fuzz_reset,
                                                         .on_watermark = fuzz_watermark,
                                                         .on_complete = fuzz_complete};
static void fuzz_new_stream(struct codec *c, void *owner, struct codec_stream *s)
{
    struct fuzz *f = owner;
    (void)c;
    s->events = &stream_events;
    s->owner = owner;
    s->arena = f->arena;
    f->begun++;
}
static void fuzz_goaway(struct codec *c, void *owner)
{
    (void)c;
    (void)owner;
}
static void fuzz_error(struct codec *c, void *owner, struct str details)
{
    (void)c;
    (void)owner;
    (void)details;
}
static const struct codec_events codec_events = {
    .on_new_stream = fuzz_new_stream, .on_goaway = fuzz_goaway, .on_error = fuzz_error};

/* A client's requests: some whole, some whose body stays open. */
static void fuzz_ask(struct fuzz *f, struct codec *c)
{
    for (int i = 0; i < FUZZ_STREAMS; i++) {
        struct headers *h = headers_new(f->arena);
        headers_set(h, STR(":method"), i % 2 ? STR("POST") : STR("GET"));
        headers_set(h, STR(":scheme"), STR("http"));
        headers_set(h, STR(":path"), STR("/"));
        headers_set(h, STR(":authority"), STR("a"));
        struct codec_stream *s = c->ops->request(c, f->arena, &stream_events, f);
        if (!s) return;
        f->begun++;
        c->ops->send_headers(s, h, i % 2 == 0);
    }
}

static void fuzz_feed(struct fuzz *f, struct codec *c, const uint8_t *data, size_t size,
                      size_t step)
{
    for (size_t i = 0; i < size && !f->conn.closed; i += step) {
        size_t n = size - i < step ? size - i : step;
        buf_append(&f->conn.in, data + i, n);
        if (!c->ops->on_bytes(c, &f->conn.in, false)) return;
        loop_turn(f->conn.worker->loop, false);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    if (size == 0) return 0;
    struct codec_options options = {.max_header_bytes = 8192, .max_headers = 50};
    options.h2_allow_connect = true;
    struct runtime rt = {.concurrency = 1};
    struct worker w = {.rt = &rt, .loop = loop_new()};
    struct fuzz f = {.arena = arena_new("fuzz", 0), .server = !(data[0] & 1)};
    f.conn.worker = &w;
    f.early = f.server && data[0] & 4;
    f.gives_up = !f.server && data[0] & 2;
    f.ends_with_last = !f.server && data[0] & 4;
    struct codec *c = f.server ? h2_server_new(&f.conn, &options, &codec_events, &f)
                               : h2_client_new(&f.conn, &options, &codec_events, &f);
    f.codec = c;
    size_t step = data[0] >> 3 ? (size_t)(data[0] >> 3) * 5 : size;
    if (!f.server) fuzz_ask(&f, c);
    if (f.server && data[0] & 2)
        fuzz_feed(&f, c, (const uint8_t *)preface, sizeof preface - 1, sizeof preface);
    fuzz_feed(&f, c, data + 1, size - 1, step);
    if (!f.conn.closed) (void)c->ops->on_bytes(c, &f.conn.in, true);
    loop_turn(w.loop, false);
    bool ended_before = f.conn.closed;
    f.conn.closed = true;
    if (!ended_before) c->ops->on_conn_closed(c, RESET_CONN_TERMINATION, STR_NONE);
    must(f.ended <= f.begun);
    c->ops->free(c);
    buf_release(&f.conn.in);
    buf_release(&f.conn.out);
    arena_free(&f.arena);
    loop_free(&w.loop);
    return 0;
}
