/* The rules of the filter chain, through the whole connection manager: two test-only filters and a
 * terminal one that answers, on a connection that is two buffers. What each filter is told, in
 * order, is one line of text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/headers.h"
#include "proxy/api/upstream.h"
#include "proxy/http/hcm.h"
#include "proxy/http/stream.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

/* --- a connection that only remembers
 * -------------------------------------------------------------------------------- */

struct conn {
    struct buf in, out;
    uint64_t written; /* what conn_write was given */
    struct conn_info info;
    bool closed;
    int paused;
    struct hcm *hcm;
};
void conn_write(struct conn *c, struct buf *data, bool end)
{
    (void)end;
    c->written += buf_len(data);
    buf_move(&c->out, data);
}
void conn_close(struct conn *c, enum conn_close how)
{
    (void)how;
    if (c->closed) return;
    c->closed = true;
    hcm_on_close(c->hcm);
}
uint64_t conn_bytes_written(const struct conn *c)
{
    return c->written;
}
/* The TLS connections that are linked in, too, would bring the true connections with them. */
struct net_worker *net_worker(struct worker *w);
struct arena *conn_arena(struct conn *c);
struct net_worker *net_worker(struct worker *w)
{
    (void)w;
    return NULL;
}
struct arena *conn_arena(struct conn *c)
{
    (void)c;
    return NULL;
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
void conn_handshake_go(struct conn *c); /* of conn_internal.h, which has the real struct conn */
void conn_handshake_go(struct conn *c)
{
    (void)c;
}
struct buf *conn_input(struct conn *c)
{
    return &c->in;
}
struct conn_info *conn_info_of(struct conn *c)
{
    return &c->info;
}
bool conn_above_watermark(const struct conn *c)
{
    (void)c;
    return false;
}
void conn_set_byte_stats(struct conn *c, const struct conn_byte_stats *s)
{
    (void)c;
    (void)s;
}
void conn_set_delayed_close(struct conn *c, uint64_t us)
{
    (void)c;
    (void)us;
}
struct str conn_alpn(const struct conn *c)
{
    (void)c;
    return STR_NONE;
}
size_t conn_write_queued(const struct conn *c)
{
    return c->out.len;
}
struct worker *conn_worker(const struct conn *c)
{
    return c->hcm->worker;
}

/* No cluster stands behind these streams; without these two the linker would bring the real
 * connections. */
struct upstream_cluster *upstream_find(struct worker *w, struct str name, uint64_t hash)
{
    (void)w;
    (void)name;
    (void)hash;
    return NULL;
}
void upstream_name_facts(const struct upstream_cluster *uc, struct stream_info *info)
{
    (void)uc;
    (void)info;
}

/* --- test-only filters
 * ------------------------------------------------------------------------------------------------
 */

/* What a filter does at each event, and what it asks for inside the callback. */
struct plan {
    const char *name;
    enum http_flow decode_headers, decode_data, decode_trailers, encode_headers, encode_data;
    bool reply_in_decode, resume_in_decode, reset_in_decode, reply_in_encode, trailers_in_decode;
};
static struct sb seen;
static struct http_filter *live[3]; /* by position, for what tests do from outside */

struct probe {
    struct http_filter base;
    unsigned destroyed;
};

static const struct plan *plan_of(const struct http_filter *f)
{
    return f->conf;
}
static void tell(const struct http_filter *f, const char *what, bool end)
{
    sb_fmt(&seen, "%s.%s%s ", plan_of(f)->name, what, end ? "!" : "");
}
static const struct local_reply denied = {
    .status = 403, .body = {"no", 2}, .details = {"denied", 6}, .grpc_status = -1};

static enum http_init probe_init(struct http_filter *f)
{
    live[f->position] = f;
    return HTTP_FILTER_JOIN;
}
static enum http_flow probe_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)h;
    tell(f, "dh", end);
    const struct plan *p = plan_of(f);
    if (p->reply_in_decode) http_filter_reply(f, &denied);
    if (p->resume_in_decode) http_filter_resume(f, HTTP_DECODE);
    if (p->reset_in_decode) http_filter_reset(f);
    return p->decode_headers;
}
static enum http_flow probe_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    sb_fmt(&seen, "%s.dd%zu%s ", plan_of(f)->name, data->len, end ? "!" : "");
    if (end && plan_of(f)->trailers_in_decode)
        headers_add(http_filter_add_trailers(f, HTTP_DECODE), STR("t"), STR("1"));
    if (end && plan_of(f)->decode_data == HTTP_BUFFER) return HTTP_CONTINUE;
    if (plan_of(f)->decode_data == HTTP_TAKEN) buf_release(data);
    return plan_of(f)->decode_data;
}
static enum http_flow probe_decode_trailers(struct http_filter *f, struct headers *t)
{
    (void)t;
    tell(f, "dt", false);
    return plan_of(f)->decode_trailers;
}
static enum http_flow probe_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)h;
    tell(f, "eh", end);
    if (plan_of(f)->reply_in_encode) http_filter_reply(f, &denied);
    return plan_of(f)->encode_headers;
}
static enum http_flow probe_encode_data(struct http_filter *f, struct buf *data, bool end)
{
    sb_fmt(&seen, "%s.ed%zu%s ", plan_of(f)->name, data->len, end ? "!" : "");
    if (end && plan_of(f)->encode_data == HTTP_BUFFER && http_filter_buffered(f, HTTP_ENCODE))
        return HTTP_CONTINUE;
    return plan_of(f)->encode_data;
}
static void probe_on_local_reply(struct http_filter *f, uint32_t status)
{
    sb_fmt(&seen, "%s.lr%u ", plan_of(f)->name, status);
}
static void probe_log(struct http_filter *f)
{
    tell(f, "log", false);
}
static void probe_destroy(struct http_filter *f)
{
    tell(f, "gone", false);
    assert_int_equal(++CONTAINER_OF(f, struct probe, base)->destroyed, 1);
    live[f->position] = NULL;
}
static const struct http_filter_type probe_type = {
    .ext = {.name = "test.probe"},
    .instance_size = sizeof(struct probe),
    .init = probe_init,
    .decode_headers = probe_decode_headers,
    .decode_data = probe_decode_data,
    .decode_trailers = probe_decode_trailers,
    .encode_headers = probe_encode_headers,
    .encode_data = probe_encode_data,
    .on_local_reply = probe_on_local_reply,
    .log = probe_log,
    .destroy = probe_destroy,
};

/* The terminal filter: answers 200 "hello" at the end of the request. */
static void answer(struct http_filter *f)
{
    struct headers *h = headers_new(http_filter_arena(f));
    struct buf data = {0};
    headers_set_status(h, 200);
    headers_add(h, STR("content-length"), STR("5"));
    http_filter_respond_headers(f, h, false);
    buf_append(&data, "hello", 5);
    http_filter_respond_data(f, &data, true);
}
static enum http_flow end_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)h;
    tell(f, "dh", end);
    if (end) answer(f);
    return HTTP_HOLD;
}
static enum http_flow end_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    sb_fmt(&seen, "%s.dd%zu%s ", plan_of(f)->name, data->len, end ? "!" : "");
    buf_release(data);
    if (end) answer(f);
    return HTTP_TAKEN;
}
static enum http_flow end_decode_trailers(struct http_filter *f, struct headers *t)
{
    (void)t;
    tell(f, "dt", false);
    answer(f);
    return HTTP_HOLD;
}
static const struct http_filter_type end_type = {
    .ext = {.name = "test.end"},
    .terminal = true,
    .init = probe_init,
    .decode_headers = end_decode_headers,
    .decode_data = end_decode_data,
    .decode_trailers = end_decode_trailers,
};

/* --- one request
 * ---------------------------------------------------------------------------------------------------------
 */

struct bench {
    struct conn conn;
    struct hcm hcm;
    struct hcm_conf conf;
    struct worker worker;
    struct http_filter_conf filters[3];
    struct plan end;
};

static void bench_init(struct bench *b, const struct plan *one, const struct plan *two)
{
    *b = (struct bench){.end = {.name = "E"}};
    b->worker.loop = loop_new();
    rng_init(&b->worker.rng, 1);
    b->filters[0] = (struct http_filter_conf){.name = STR("a"), .type = &probe_type, .conf = one};
    b->filters[1] = (struct http_filter_conf){.name = STR("b"), .type = &probe_type, .conf = two};
    b->filters[2] = (struct http_filter_conf){.name = STR("e"), .type = &end_type, .conf = &b->end};
    b->conf.chain = (struct http_filter_chain){b->filters, 3};
    b->conf.codec_options = (struct codec_options){.max_header_bytes = 4096,
                                                   .max_headers = 100,
                                                   .allow_absolute_url = true,
                                                   .enable_trailers = true};
    b->conf.buffer_limit = 10;
    b->conf.server_name = STR("envoy");
    b->conf.codec = HCM_CODEC_H1;
    b->conn.hcm = &b->hcm;
    hcm_init(&b->hcm, &b->conf, &b->conn, &b->worker);
    sb_clear(&seen);
}

static void bench_feed(struct bench *b, const char *text)
{
    buf_append_str(&b->conn.in, str_of(text));
    hcm_on_read(&b->hcm, &b->conn.in, false);
}

/* Ends the turn, so that what is over is logged and freed. */
static void bench_turn(struct bench *b)
{
    loop_turn(b->worker.loop, false);
}

static void bench_release(struct bench *b)
{
    hcm_on_close(&b->hcm);
    hcm_release(&b->hcm);
    buf_release(&b->conn.in);
    buf_release(&b->conn.out);
    http_worker_hooks.stop(&b->worker);
    loop_free(&b->worker.loop);
}

static void expect_seen(const char *want)
{
    sb_char(&seen, 0);
    assert_string_equal(seen.ptr, want);
    seen.len--;
}

static void expect_status(struct bench *b, const char *line)
{
    struct arena *a = arena_new("test", 0);
    struct str out = buf_dup(&b->conn.out, a);
    if (!str_starts(out, str_of(line))) print_error("got %.*s\n", STR_ARG(out));
    assert_true(str_starts(out, str_of(line)));
    arena_free(&a);
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(n) "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " #n "\r\n\r\n"

static void test_passes_in_order(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A"}, &(struct plan){.name = "B"});
    bench_feed(&b, GET);
    bench_turn(&b);
    expect_seen("A.dh! B.dh! E.dh! B.eh A.eh B.ed5! A.ed5! A.log B.log A.gone B.gone ");
    expect_status(&b, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ndate: ");
    bench_release(&b);
}

static void test_hold_all_keeps_data(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A", .decode_headers = HTTP_HOLD_ALL},
               &(struct plan){.name = "B"});
    bench_feed(&b, POST(4) "ab");
    bench_feed(&b, "cd");
    expect_seen("A.dh ");
    http_filter_resume(live[0], HTTP_DECODE);
    bench_turn(&b);
    expect_seen("A.dh B.dh E.dh B.dd4! E.dd4! B.eh A.eh B.ed5! A.ed5! A.log B.log A.gone B.gone ");
    bench_release(&b);
}

static void test_hold_all_stops_the_peer(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A", .decode_headers = HTTP_HOLD_ALL},
               &(struct plan){.name = "B"});
    bench_feed(&b, POST(22) "0123456789a");
    assert_int_equal(b.conn.paused, 1);
    bench_feed(&b, "0123456789a");
    assert_int_equal(b.conn.in.len, 11);
    http_filter_resume(live[0], HTTP_DECODE);
    assert_int_equal(b.conn.paused, 0);
    bench_feed(&b, "");
    bench_turn(&b);
    expect_status(&b, "HTTP/1.1 200");
    bench_release(&b);
}

static void test_hold_and_buffer_until_the_end(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b,
               &(struct plan){.name = "A", .decode_headers = HTTP_HOLD, .decode_data = HTTP_BUFFER},
               &(struct plan){.name = "B"});
    bench_feed(&b, POST(4) "ab");
    bench_feed(&b, "cd");
    bench_turn(&b);
    expect_seen(
        "A.dh A.dd2 A.dd2! B.dh E.dh B.dd4! E.dd4! B.eh A.eh B.ed5! A.ed5! A.log B.log A.gone B.gone ");
    bench_release(&b);
}

static void test_buffer_too_large(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A", .decode_data = HTTP_BUFFER},
               &(struct plan){.name = "B"});
    bench_feed(&b, POST(12) "0123456789a");
    bench_turn(&b);
    expect_status(&b, "HTTP/1.1 413 Payload Too Large\r\n");
    assert_true(b.conn.closed);
    bench_release(&b);
}

static void test_response_buffer_too_large(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b,
               &(struct plan){.name = "A", .encode_headers = HTTP_HOLD, .encode_data = HTTP_BUFFER},
               &(struct plan){.name = "B"});
    b.conf.buffer_limit = 3;
    bench_feed(&b, GET);
    bench_turn(&b);
    expect_status(&b, "HTTP/1.1 500 Internal Server Error\r\n");
    bench_release(&b);
}

static void test_resume_inside_is_deferred(void **state)
{
    (void)state;
    struct bench b;
    bench_init(
        &b, &(struct plan){.name = "A", .decode_headers = HTTP_HOLD_ALL, .resume_in_decode = true},
        &(struct plan){.name = "B"});
    bench_feed(&b, GET);
    bench_turn(&b);
    expect_seen("A.dh! B.dh! E.dh! B.eh A.eh B.ed5! A.ed5! A.log B.log A.gone B.gone ");
    bench_release(&b);
}

static void test_reply_inside_skips_the_rest(void **state)
{
    (void)state;
    struct bench b;
    bench_init(
        &b, &(struct plan){.name = "A", .decode_headers = HTTP_HOLD_ALL, .reply_in_decode = true},
        &(struct plan){.name = "B"});
    bench_feed(&b, GET);
    bench_turn(&b);
    expect_seen("A.dh! A.lr403 B.lr403 B.eh A.eh B.ed2! A.ed2! A.log B.log A.gone B.gone ");
    expect_status(&b,
                  "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\ncontent-type: text/plain\r\n");
    assert_false(b.conn.closed);
    bench_release(&b);
}

static void test_reply_in_encode_goes_out_directly(void **state)
{
    (void)state;
    struct bench b;
    bench_init(
        &b, &(struct plan){.name = "A"},
        &(struct plan){.name = "B", .encode_headers = HTTP_HOLD_ALL, .reply_in_encode = true});
    bench_feed(&b, GET);
    bench_turn(&b);
    expect_status(&b, "HTTP/1.1 403 Forbidden\r\n");
    bench_release(&b);
}

static void test_reset_inside(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A", .reset_in_decode = true},
               &(struct plan){.name = "B"});
    bench_feed(&b, GET);
    bench_turn(&b);
    expect_seen("A.dh! A.log B.log A.gone B.gone ");
    assert_true(b.conn.closed);
    bench_release(&b);
}

static void test_taken_and_injected(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A", .decode_data = HTTP_TAKEN},
               &(struct plan){.name = "B"});
    bench_feed(&b, POST(2) "ab");
    struct buf more = {0};
    buf_append(&more, "xyz", 3);
    http_filter_inject(live[0], HTTP_DECODE, &more, false);
    http_filter_resume(live[0], HTTP_DECODE);
    bench_turn(&b);
    expect_seen(
        "A.dh B.dh E.dh A.dd2! B.dd3 E.dd3 B.dd0! E.dd0! B.eh A.eh B.ed5! A.ed5! A.log B.log A.gone B.gone ");
    bench_release(&b);
}

static void test_trailers_wait_and_go_on(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A", .decode_trailers = HTTP_HOLD},
               &(struct plan){.name = "B"});
    bench_feed(
        &b,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nT: x\r\n\r\n");
    expect_seen("A.dh B.dh E.dh A.dd1 B.dd1 E.dd1 A.dt ");
    http_filter_resume(live[0], HTTP_DECODE);
    bench_turn(&b);
    expect_seen(
        "A.dh B.dh E.dh A.dd1 B.dd1 E.dd1 A.dt B.dt E.dt B.eh A.eh B.ed5! A.ed5! A.log B.log A.gone B.gone ");
    bench_release(&b);
}

static void test_added_trailers(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A", .trailers_in_decode = true},
               &(struct plan){.name = "B"});
    bench_feed(&b, POST(1) "a");
    bench_turn(&b);
    expect_seen(
        "A.dh B.dh E.dh A.dd1! B.dd1 E.dd1 B.dt E.dt B.eh A.eh B.ed5! A.ed5! A.log B.log A.gone B.gone ");
    bench_release(&b);
}

/* The client leaves at each phase: everything is destroyed once, nothing is called after. */
static void test_client_leaves(void **state)
{
    (void)state;
    static const char *const parts[] = {"POST / HT", "TP/1.1\r\nHost: a\r\n",
                                        "Content-Length: 5\r\n\r\n", "ab", "cd"};
    for (size_t n = 1; n <= ARRAY_LEN(parts); n++) {
        for (int hold = 0; hold < 2; hold++) {
            struct bench b;
            bench_init(
                &b,
                &(struct plan){.name = "A", .decode_headers = hold ? HTTP_HOLD_ALL : HTTP_CONTINUE},
                &(struct plan){.name = "B"});
            for (size_t i = 0; i < n; i++)
                bench_feed(&b, parts[i]);
            hcm_on_read(&b.hcm, &b.conn.in, true);
            bench_turn(&b);
            assert_true(b.conn.closed);
            assert_null(live[0]);
            bench_release(&b);
        }
    }
}

static void test_pipelined_requests(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A"}, &(struct plan){.name = "B"});
    bench_feed(&b, GET GET GET);
    bench_turn(&b);
    assert_int_equal(b.hcm.requests, 3);
    assert_int_equal(b.hcm.open, 0);
    bench_release(&b);
}

static void test_bad_request_is_answered(void **state)
{
    (void)state;
    struct bench b;
    bench_init(&b, &(struct plan){.name = "A"}, &(struct plan){.name = "B"});
    bench_feed(&b, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    bench_turn(&b);
    expect_seen("");
    expect_status(&b,
                  "HTTP/1.1 400 Bad Request\r\ncontent-length: 11\r\ncontent-type: text/plain\r\n");
    assert_true(b.conn.closed);
    bench_release(&b);
}

static int forget_seen(void **state)
{
    (void)state;
    sb_release(&seen);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passes_in_order),
        cmocka_unit_test(test_hold_all_keeps_data),
        cmocka_unit_test(test_hold_all_stops_the_peer),
        cmocka_unit_test(test_hold_and_buffer_until_the_end),
        cmocka_unit_test(test_buffer_too_large),
        cmocka_unit_test(test_response_buffer_too_large),
        cmocka_unit_test(test_resume_inside_is_deferred),
        cmocka_unit_test(test_reply_inside_skips_the_rest),
        cmocka_unit_test(test_reply_in_encode_goes_out_directly),
        cmocka_unit_test(test_reset_inside),
        cmocka_unit_test(test_taken_and_injected),
        cmocka_unit_test(test_trailers_wait_and_go_on),
        cmocka_unit_test(test_added_trailers),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_pipelined_requests),
        cmocka_unit_test(test_bad_request_is_answered),
    };
    return cmocka_run_group_tests(tests, NULL, forget_seen);
}
