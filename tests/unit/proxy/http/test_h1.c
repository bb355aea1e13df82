/* The HTTP/1 codec over a connection that is only two buffers: tables of messages, each whole and
 * byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "base/arena.h"
#include "base/buf.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/api/matcher.h"
#include "proxy/http/h1.h"
#include "proxy/net/conn.h"

/* --- a connection that only remembers
 * -------------------------------------------------------------------------------- */

struct conn {
    struct buf in, out;
    uint64_t written; /* what conn_write was given */
    bool closed, ended;
    int paused;
};

void conn_write(struct conn *c, struct buf *data, bool end)
{
    c->written += buf_len(data);
    buf_move(&c->out, data);
    c->ended |= end;
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
    c->paused += pause ? 1 : -1;
}
void conn_read_again(struct conn *c)
{
    (void)c;
}
struct buf *conn_input(struct conn *c)
{
    return &c->in;
}

/* --- what the codec told
 * ------------------------------------------------------------------------------------------------
 */

struct seen {
    struct conn conn;
    struct arena *arena;
    struct codec *codec;
    struct codec_stream *stream;
    struct sb text;
    bool answer; /* 200 to each request at its end */
};

static void seen_headers(struct seen *e, const struct headers *h)
{
    uint32_t it = 0;
    const struct header *x;
    while ((x = headers_next(h, &it)))
        sb_fmt(&e->text, "%.*s=%.*s|", STR_ARG(x->name), STR_ARG(x->value));
}

static void seen_answer(struct seen *e, struct codec_stream *s)
{
    struct headers *h = headers_new(e->arena);
    if (!e->answer) return;
    headers_set_status(h, 200);
    s->codec->ops->send_headers(s, h, true);
}

static void on_headers(struct codec_stream *s, void *owner, struct headers *h, bool end)
{
    struct seen *e = owner;
    seen_headers(e, h);
    if (!end) return;
    sb_add(&e->text, STR("END "));
    seen_answer(e, s);
}
static void on_1xx(struct codec_stream *s, void *owner, struct headers *h)
{
    (void)s;
    sb_add(&((struct seen *)owner)->text, STR("1xx:"));
    seen_headers(owner, h);
}
static void on_data(struct codec_stream *s, void *owner, struct buf *data, bool end)
{
    struct seen *e = owner;
    struct str bytes = buf_dup(data, e->arena);
    buf_release(data);
    sb_add(&e->text, bytes);
    if (!end) return;
    sb_add(&e->text, STR("END "));
    seen_answer(e, s);
}
static void on_trailers(struct codec_stream *s, void *owner, struct headers *t)
{
    sb_add(&((struct seen *)owner)->text, STR("T:"));
    seen_headers(owner, t);
    seen_answer(owner, s);
}
static void on_reset(struct codec_stream *s, void *owner, enum stream_reset why, struct str details)
{
    (void)s;
    sb_fmt(&((struct seen *)owner)->text, "RESET%d:%.*s ", (int)why, STR_ARG(details));
}
static void on_complete(struct codec_stream *s, void *owner)
{
    (void)s;
    sb_add(&((struct seen *)owner)->text, STR("DONE "));
}
static const struct codec_stream_events stream_events = {.on_headers = on_headers,
                                                         .on_1xx = on_1xx,
                                                         .on_data = on_data,
                                                         .on_trailers = on_trailers,
                                                         .on_reset = on_reset,
                                                         .on_complete = on_complete};

static void on_new_stream(struct codec *c, void *owner, struct codec_stream *s)
{
    struct seen *e = owner;
    (void)c;
    s->events = &stream_events;
    s->owner = e;
    s->arena = e->arena;
    e->stream = s;
}
static void on_error(struct codec *c, void *owner, struct str details)
{
    (void)c;
    sb_fmt(&((struct seen *)owner)->text, "ERROR:%.*s ", STR_ARG(details));
}
static void on_bad_request(struct codec *c, void *owner, struct codec_stream *s, uint32_t status,
                           struct str details)
{
    (void)c;
    (void)s;
    sb_fmt(&((struct seen *)owner)->text, "BAD%u:%.*s ", status, STR_ARG(details));
}
static const struct codec_events codec_events = {
    .on_new_stream = on_new_stream, .on_error = on_error, .on_bad_request = on_bad_request};

static const struct codec_options options = {.max_header_bytes = 4096,
                                             .max_headers = 10,
                                             .allow_absolute_url = true,
                                             .enable_trailers = true};

/* Feeds text in pieces of `step` bytes and gives back what was told (valid until the next call). */
static void feed(struct seen *e, struct str text, size_t step)
{
    for (size_t i = 0; i < text.len && !e->conn.closed; i += step) {
        buf_append_str(&e->conn.in, str_sub(text, i, step));
        if (!e->codec->ops->on_bytes(e->codec, &e->conn.in, false)) return;
    }
}

static void seen_init(struct seen *e, bool server, const struct codec_options *o)
{
    *e = (struct seen){.arena = arena_new("test", 0), .answer = server};
    e->codec = server ? h1_server_new(&e->conn, o, &codec_events, e)
                      : h1_client_new(&e->conn, o, &codec_events, e);
}

static void seen_release(struct seen *e)
{
    e->codec->ops->free(e->codec);
    buf_release(&e->conn.in);
    buf_release(&e->conn.out);
    sb_release(&e->text);
    arena_free(&e->arena);
}

struct row {
    const char *in, *want;
};

static void ask(struct seen *e)
{
    struct headers *h = headers_new(e->arena);
    headers_set(h, STR(":method"), STR("GET"));
    headers_set(h, STR(":path"), STR("/"));
    headers_set(h, STR(":authority"), STR("a"));
    struct codec_stream *s = e->codec->ops->request(e->codec, e->arena, &stream_events, e);
    e->codec->ops->send_headers(s, h, true);
}

static void check_rows_of(const struct codec_options *o, const struct row *rows, size_t n,
                          bool server)
{
    static const size_t steps[] = {100000, 1, 7};
    unsigned wrong = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < ARRAY_LEN(steps); k++) {
            struct seen e;
            seen_init(&e, server, o);
            if (!server) ask(&e);
            feed(&e, str_of(rows[i].in), steps[k]);
            sb_char(&e.text, 0);
            if (strcmp(e.text.ptr, rows[i].want) != 0) {
                print_error("row %zu step %zu:\n in   %s\n got  %s\n want %s\n", i, steps[k],
                            rows[i].in, e.text.ptr, rows[i].want);
                wrong++;
            }
            seen_release(&e);
        }
    }
    assert_int_equal(wrong, 0);
}

static void check_rows(const struct row *rows, size_t n, bool server)
{
    check_rows_of(&options, rows, n, server);
}

#define GET "GET /x HTTP/1.1\r\nHost: a\r\n"
#define HEAD_OF_GET ":method=GET|:path=/x|:authority=a|"
#define POST "POST /x HTTP/1.1\r\nHost: a\r\n"
#define HEAD_OF_POST ":method=POST|:path=/x|:authority=a|"

static void test_requests(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {GET "\r\n", HEAD_OF_GET "END DONE "},
        {"\r\n\r\n" GET "\r\n", HEAD_OF_GET "END DONE "},
        {GET "A: b\r\nC:\r\nD: \t e f \t\r\n\r\n", HEAD_OF_GET "a=b|c=|d=e f|END DONE "},
        {GET "\r\n" GET "\r\n", HEAD_OF_GET "END DONE " HEAD_OF_GET "END DONE "},
        {POST "Content-Length: 3\r\n\r\nabc", HEAD_OF_POST "content-length=3|abcEND DONE "},
        {POST "Content-Length: 0\r\n\r\n", HEAD_OF_POST "content-length=0|END DONE "},
        {POST "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
         HEAD_OF_POST "transfer-encoding=chunked|abcdeEND DONE "},
        {POST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nTr: x\r\nU: v\r\n\r\n",
         HEAD_OF_POST "transfer-encoding=chunked|aT:tr=x|u=v|DONE "},
        {"GET http://b/y?z HTTP/1.1\r\nHost: b\r\n\r\n",
         ":method=GET|:path=/y?z|:authority=b|:scheme=http|END DONE "},
        {"GET http://b HTTP/1.1\r\n\r\n",
         ":method=GET|:path=/|:authority=b|:scheme=http|END DONE "},
        {"GET http://b:80/ HTTP/1.1\r\nHost: b\r\n\r\n",
         ":method=GET|:path=/|:authority=b:80|:scheme=http|END DONE "},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ":method=OPTIONS|:path=*|:authority=a|END DONE "},
        {GET "Connection: x, close\r\nX: 1\r\n\r\n", HEAD_OF_GET "connection=x, close|END DONE "},
        {GET "Upgrade: h2c\r\nConnection: upgrade, http2-settings\r\nHTTP2-Settings: x\r\n\r\n",
         HEAD_OF_GET "connection=upgrade, http2-settings|END DONE "},
        {GET "Upgrade: websocket\r\nConnection: upgrade\r\n\r\nraw",
         HEAD_OF_GET "upgrade=websocket|connection=upgrade|raw"},
        {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nraw", ":method=CONNECT|:authority=a:80|raw"},
    };
    check_rows(rows, ARRAY_LEN(rows), true);
}

static void test_bad_requests(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"GET /x HTTP/1.1\nHost: a\n\n", "BAD400:http1.invalid_characters "},
        {GET "A: b\rC: d\r\n\r\n", "BAD400:http1.codec_error "},
        {GET "A : b\r\n\r\n", "BAD400:http1.codec_error "},
        {GET ": b\r\n\r\n", "BAD400:http1.codec_error "},
        {GET "A: b\r\n c\r\n\r\n", "BAD400:http1.codec_error "},
        {"GET /x HTTP/1.1\r\n Host: a\r\n\r\n", "BAD400:http1.codec_error "},
        {GET "Host: a\r\n\r\n", "BAD400:http1.codec_error "},
        {GET "A: b\x7f\r\n\r\n", "BAD400:http1.invalid_characters "},
        {"GET /x HTTP/1.0\r\nHost: a\r\n\r\n", "BAD426:low_version "},
        {"GET /x HTTP/1.2\r\nHost: a\r\n\r\n", "BAD426:low_version "},
        {"GET foo HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {"GET * HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.invalid_url "},
        {"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.invalid_scheme "},
        {"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.invalid_url "},
        {"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http.invalid_authority "},
        {"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", "BAD400:http.invalid_authority "},
        {"CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.invalid_url "},
        {"GET /x HTTP/1.1\r\nHost:\r\n a\r\n\r\n", "BAD400:http1.codec_error "},
        {POST "Content-Length:\r\n 0\r\n\r\n", "BAD400:http1.codec_error "},
        {GET "A:\r\n\t\r\n\r\n", "BAD400:http1.codec_error "},
        {"GET /x  HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {"GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {POST "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
         HEAD_OF_POST "transfer-encoding=chunked|BAD400:http1.codec_error "},
        {"FOO /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "BAD400:http1.codec_error "},
        {POST "Content-Length: +3\r\n\r\nabc", "BAD400:http1.codec_error "},
        {POST "Content-Length: 3, 3\r\n\r\nabc", "BAD400:http1.codec_error "},
        {POST "Content-Length: 99999999999999999999\r\n\r\nabc", "BAD400:http1.codec_error "},
        {POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
         "BAD400:http1.content_length_and_chunked_not_allowed "},
        {POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
         "BAD400:http1.content_length_and_chunked_not_allowed "},
        {POST "Transfer-Encoding: gzip, chunked\r\n\r\n",
         "BAD501:http1.invalid_transfer_encoding "},
        {POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
         "BAD501:http1.invalid_transfer_encoding "},
        {POST "Transfer-Encoding: identity\r\n\r\n", "BAD501:http1.invalid_transfer_encoding "},
        {POST "Transfer-Encoding: xchunked\r\n\r\n", "BAD501:http1.invalid_transfer_encoding "},
        {GET "Connection: x-forwarded-for\r\n\r\n", "BAD400:http1.connection_header_rejected "},
        {GET "Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 3\r\n\r\n",
         "BAD400:http1.body_disallowed "},
        {GET "A: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\n\r\n",
         "BAD431:http1.too_many_headers "},
        {POST "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n",
         HEAD_OF_POST "transfer-encoding=chunked|BAD400:http1.codec_error "},
        {POST "Transfer-Encoding: chunked\r\n\r\n3\rabc",
         HEAD_OF_POST "transfer-encoding=chunked|BAD400:http1.codec_error "},
        {POST "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\nabc",
         HEAD_OF_POST "transfer-encoding=chunked|BAD400:http1.codec_error "},
        {"\x16\x03\x01\x02", "BAD400:http1.codec_error "},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "BAD400:http1.codec_error "},
    };
    check_rows(rows, ARRAY_LEN(rows), true);
}

#define FROB "FROB /x HTTP/1.1\r\nHost: a\r\n"
#define HEAD_OF_FROB ":method=FROB|:path=/x|:authority=a|"
#define M64 "MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM"
#define M512 M64 M64 M64 M64 M64 M64 M64 M64

static void test_custom_methods(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {FROB "\r\n" GET "\r\n", HEAD_OF_FROB "END DONE " HEAD_OF_GET "END DONE "},
        {FROB "Content-Length: 3\r\n\r\nabc" FROB "\r\n",
         HEAD_OF_FROB "content-length=3|abcEND DONE " HEAD_OF_FROB "END DONE "},
        {FROB "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" FROB "\r\n",
         HEAD_OF_FROB "transfer-encoding=chunked|aEND DONE " HEAD_OF_FROB "END DONE "},
        {"get /x HTTP/1.1\r\nHost: a\r\n\r\n", ":method=get|:path=/x|:authority=a|END DONE "},
        {"G /x HTTP/1.1\r\nHost: a\r\n\r\n", ":method=G|:path=/x|:authority=a|END DONE "},
        {"HEADX /x HTTP/1.1\r\nHost: a\r\n\r\n", ":method=HEADX|:path=/x|:authority=a|END DONE "},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", ":method=OPTIONS|:path=*|:authority=a|END DONE "},
        {"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\nraw", ":method=CONNECT|:authority=a:80|raw"},
        {FROB "Upgrade: websocket\r\nConnection: upgrade\r\n\r\nraw",
         HEAD_OF_FROB "upgrade=websocket|connection=upgrade|raw"},
        {M512 M512 " /x HTTP/1.1\r\nHost: a\r\n\r\n",
         ":method=" M512 M512 "|:path=/x|:authority=a|END DONE "},
        {M512 M512 "M /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {"connect a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {"FROB * HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.invalid_url "},
        {"FROB  /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {"FROB\t/x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {" /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {"FR\r\nOB /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {"FROB: /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {"FROB /x HTTP/1.0\r\nHost: a\r\n\r\n", "BAD426:low_version "},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "BAD400:http1.codec_error "},
        {"PRI /x HTTP/1.1\r\nHost: a\r\n\r\n", "BAD400:http1.codec_error "},
        {FROB "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
         "BAD400:http1.content_length_and_chunked_not_allowed "},
    };
    struct codec_options custom = options;
    custom.allow_custom_methods = true;
    check_rows_of(&custom, rows, ARRAY_LEN(rows), true);
}

static void test_ignored_upgrades(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {GET "Upgrade: foo\r\nConnection: upgrade\r\n\r\n",
         HEAD_OF_GET "connection=upgrade|END DONE "},
        {GET "Upgrade: foo , websocket\r\nConnection: upgrade\r\n\r\nraw",
         HEAD_OF_GET "upgrade=websocket|connection=upgrade|raw"},
        {GET "Upgrade: Foo\r\nConnection: upgrade\r\n\r\nraw",
         HEAD_OF_GET "upgrade=Foo|connection=upgrade|raw"},
    };
    static const struct string_matcher foo = {.kind = STRING_MATCH_EXACT, .text = {"foo", 3}};
    struct codec_options ignoring = options;
    ignoring.ignore_upgrades = &foo;
    ignoring.ignore_upgrade_count = 1;
    check_rows_of(&ignoring, rows, ARRAY_LEN(rows), true);
}

static void test_responses(void **state)
{
    (void)state;
    static const struct row rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
         ":status=200|content-length=3|abcEND DONE "},
        {"HTTP/1.1 204 No\r\n\r\n", ":status=204|END DONE "},
        {"HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n", ":status=304|content-length=9|END DONE "},
        {"HTTP/1.1 100 C\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
         "1xx::status=100|a=b|:status=200|content-length=0|END DONE "},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
         ":status=200|transfer-encoding=chunked|aEND DONE "},
        {"HTTP/1.1 200 OK\r\n\r\nabc", ":status=200|abc"},
        {"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
         "RESET9: ERROR:http1.codec_error "},
        {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
         "RESET9: ERROR:http1.codec_error "},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
         "RESET9: ERROR:http1.content_length_and_chunked_not_allowed "},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
         "RESET9: ERROR:http1.invalid_transfer_encoding "},
        {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "RESET9: ERROR:http1.codec_error "},
        {"FOO\r\n\r\n", "RESET9: ERROR:http1.codec_error "},
        {"HTTP/1.1 99 OK\r\n\r\n", "RESET9: ERROR:http1.codec_error "},
    };
    check_rows(rows, ARRAY_LEN(rows), false);
}

/* What goes out: framing is chosen by us, names are lower case, a declared length is kept. */
static void test_response_writing(void **state)
{
    (void)state;
    struct seen e;
    seen_init(&e, true, &options);
    e.answer = false;
    feed(&e, STR(GET "\r\n"), 100000);
    struct headers *h = headers_new(e.arena);
    headers_set_status(h, 200);
    headers_add(h, STR("a"), STR("b"));
    headers_add(h, STR("transfer-encoding"), STR("gzip"));
    e.codec->ops->send_headers(e.stream, h, false);
    struct buf data = {0};
    buf_append(&data, "hello world, hello", 18);
    e.codec->ops->send_data(e.stream, &data, false);
    buf_append(&data, "!", 1);
    e.codec->ops->send_data(e.stream, &data, true);
    struct str out = buf_dup(&e.conn.out, e.arena);
    assert_true(str_eq(
        out,
        STR("HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n12\r\nhello world, hello\r\n1\r\n!\r\n0\r\n\r\n")));
    assert_true(e.codec->ops->keep_alive(e.codec));
    seen_release(&e);
}

static void test_length_is_kept(void **state)
{
    (void)state;
    struct seen e;
    seen_init(&e, true, &options);
    e.answer = false;
    feed(&e, STR(GET "\r\n"), 100000);
    struct headers *h = headers_new(e.arena);
    headers_set_status(h, 200);
    headers_add(h, STR("content-length"), STR("3"));
    e.codec->ops->send_headers(e.stream, h, false);
    struct buf data = {0};
    buf_append(&data, "abcdef", 6);
    e.codec->ops->send_data(e.stream, &data, true);
    struct str out = buf_dup(&e.conn.out, e.arena);
    assert_true(str_ends(out, STR("\r\n\r\nabc")));
    assert_false(e.codec->ops->keep_alive(e.codec)); /* a response that lied is the last one */
    seen_release(&e);
}

/* Bytes that come while nothing is asked make a pooled connection useless. */
static void test_idle_bytes(void **state)
{
    (void)state;
    struct seen e;
    seen_init(&e, false, &options);
    feed(&e, STR("HTTP/1.1 200 OK\r\n\r\n"), 100000);
    assert_true(str_starts(sb_str(&e.text), STR("ERROR")));
    assert_false(e.codec->ops->keep_alive(e.codec));
    seen_release(&e);
}

/* They were there before the request could leave, though it was made already: still not its answer.
 */
static void test_bytes_before_the_request_left(void **state)
{
    (void)state;
    struct seen e;
    seen_init(&e, false, &options);
    ask(&e);
    e.conn.written = 0; /* all of it is still queued */
    feed(&e, STR("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), 100000);
    sb_char(&e.text, 0);
    assert_string_equal(e.text.ptr, "RESET9: ERROR:http1.codec_error ");
    seen_release(&e);
}

static void test_pause_holds_the_body(void **state)
{
    (void)state;
    struct seen e;
    seen_init(&e, true, &options);
    feed(&e, STR(POST "Content-Length: 6\r\n\r\nabc"), 100000);
    e.codec->ops->pause(e.stream, true);
    feed(&e, STR("def"), 100000);
    assert_int_equal(e.conn.paused, 1);
    assert_int_equal(e.conn.in.len, 3);
    e.codec->ops->pause(e.stream, false);
    e.codec->ops->on_bytes(e.codec, &e.conn.in, false);
    assert_int_equal(e.conn.in.len, 0);
    assert_int_equal(e.conn.paused, 0);
    assert_true(str_ends(sb_str(&e.text), STR("abcdefEND DONE ")));
    seen_release(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_custom_methods),
        cmocka_unit_test(test_ignored_upgrades),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_response_writing),
        cmocka_unit_test(test_length_is_kept),
        cmocka_unit_test(test_idle_bytes),
        cmocka_unit_test(test_bytes_before_the_request_left),
        cmocka_unit_test(test_pause_holds_the_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
