/* Bytes through the HTTP/1 codec: first byte: bit 0 client or server, bit 1 trailers, bits 2-7 the
 * size of the pieces. A server answers each request; a client asks once. Whatever comes, the codec
 * must stay within what it was given and end cleanly. */
#include <stddef.h>
#include <stdint.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/http/h1.h"
#include "proxy/net/conn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A connection that is two buffers; it stands for proxy/net's. */
struct conn {
    struct buf in, out;
    uint64_t written; /* what conn_write was given */
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
    bool server;
};

static void fuzz_answer(struct fuzz *f, struct codec_stream *s)
{
    struct headers *h = headers_new(f->arena);
    struct buf body = {0};
    if (!f->server) return;
    headers_set_status(h, 200);
    s->codec->ops->send_headers(s, h, false);
    buf_append(&body, "hello", 5);
    s->codec->ops->send_data(s, &body, true);
}
static void fuzz_headers(struct codec_stream *s, void *owner, struct headers *h, bool end)
{
    uint32_t it = 0;
    const struct header *x;
    while ((x = headers_next(h, &it)))
        must(str_find_char(x->value, '\n') == SIZE_MAX &&
             str_find_char(x->value, '\r') == SIZE_MAX);
    if (end) fuzz_answer(owner, s);
}
static void fuzz_1xx(struct codec_stream *s, void *owner, struct headers *h)
{
    (void)s;
    (void)owner;
    (void)h;
}
static void fuzz_data(struct codec_stream *s, void *owner, struct buf *bytes, bool end)
{
    buf_release(bytes);
    if (end) fuzz_answer(owner, s);
}
static void fuzz_trailers(struct codec_stream *s, void *owner, struct headers *t)
{
    (void)t;
    fuzz_answer(owner, s);
}
static void fuzz_reset(struct codec_stream *s, void *owner, enum stream_reset why,
                       struct str details)
{
    (void)s;
    (void)owner;
    (void)why;
    (void)details;
}
static void fuzz_complete(struct codec_stream *s, void *owner)
{
    (void)s;
    (void)owner;
}
static const struct codec_stream_events stream_events = {.on_headers = fuzz_headers,
                                                         .on_1xx = fuzz_1xx,
                                                         .on_data = fuzz_data,
                                                         .on_trailers = fuzz_trailers,
                                                         .on_reset = fuzz_reset,
                                                         .on_complete = fuzz_complete};
static void fuzz_new_stream(struct codec *c, void *owner, struct codec_stream *s)
{
    struct fuzz *f = owner;
    (void)c;
    s->events = &stream_events;
    s->owner = owner;
    s->arena = f->arena;
}
static void fuzz_error(struct codec *c, void *owner, struct str details)
{
    (void)c;
    (void)owner;
    (void)details;
}
static void fuzz_bad(struct codec *c, void *owner, struct codec_stream *s, uint32_t status,
                     struct str details)
{
    (void)c;
    (void)owner;
    (void)s;
    must(status >= 400 && details.len);
}
static const struct codec_events codec_events = {
    .on_new_stream = fuzz_new_stream, .on_error = fuzz_error, .on_bad_request = fuzz_bad};

static void fuzz_ask(struct fuzz *f, struct codec *c)
{
    struct headers *h = headers_new(f->arena);
    headers_set(h, STR(":method"), STR("GET"));
    headers_set(h, STR(":path"), STR("/"));
    headers_set(h, STR(":authority"), STR("a"));
    struct codec_stream *s = c->ops->request(c, f->arena, &stream_events, f);
    c->ops->send_headers(s, h, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct codec_options options = {
        .max_header_bytes = 8192, .max_headers = 50, .allow_absolute_url = true};
    options.enable_trailers = data[0] & 2;
    struct fuzz f = {.arena = arena_new("fuzz", 0), .server = !(data[0] & 1)};
    struct codec *c = f.server ? h1_server_new(&f.conn, &options, &codec_events, &f)
                               : h1_client_new(&f.conn, &options, &codec_events, &f);
    size_t step = data[0] >> 2 ? data[0] >> 2 : size;
    if (!f.server) fuzz_ask(&f, c);
    for (size_t i = 1; i < size && !f.conn.closed; i += step) {
        size_t n = size - i < step ? size - i : step;
        buf_append(&f.conn.in, data + i, n);
        if (!c->ops->on_bytes(c, &f.conn.in, false)) break;
    }
    (void)c->ops->on_bytes(c, &f.conn.in, true);
    c->ops->on_conn_closed(c, RESET_CONN_TERMINATION, STR_NONE);
    c->ops->free(c);
    buf_release(&f.conn.in);
    buf_release(&f.conn.out);
    arena_free(&f.arena);
    return 0;
}
