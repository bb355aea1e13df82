/* test.side_calls: an HTTP filter that makes one side call as the request's x-test-* headers say,
 * and answers with what came of it. Requests without x-test-call pass.
 *
 *   x-test-call     http, http-stream, grpc, grpc-stream
 *   x-test-cluster, x-test-path, x-test-timeout-ms, x-test-most
 *   x-test-message  of grpc
 *   x-test-at       start, headers, data, message: where x-test-do is done
 *   x-test-do       cancel (the call, then answer), reply (answer with the call under way), reset
 *   x-test-pause    the answer is not read before the request's body has ended
 *
 * The request's body is what a stream sends: HTTP as it comes, gRPC one message a line. */
#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/side_call.h"

enum { KEEP_MOST = 200 };

struct probe {
    struct http_filter base;
    struct side_target target;
    struct side_call *call;
    struct str at, action;
    struct buf line, kept;
    uint64_t bytes;
    uint32_t messages, above, below;
    bool grpc, stream, paused, answered, sent_all;
};

static struct probe *probe_of(struct http_filter *f)
{
    return CONTAINER_OF(f, struct probe, base);
}

static void probe_answer(struct probe *p, struct str text)
{
    struct local_reply r = {
        .status = 200, .body = text, .details = STR("test_side_calls"), .grpc_status = -1};
    if (p->answered) return;
    p->answered = true;
    http_filter_reply(&p->base, &r);
}

/* True: this was the place, and the call is no longer ours. */
static bool probe_act(struct probe *p, const char *where)
{
    if (!str_eq(p->at, str_of(where))) return false;
    if (str_eq(p->action, STR("cancel"))) {
        side_call_cancel(&p->call);
        probe_answer(p, STR("cancelled"));
    } else if (str_eq(p->action, STR("reply"))) {
        probe_answer(p, STR("replied"));
    } else {
        http_filter_reset(&p->base);
    }
    return true;
}

static void probe_keep(struct probe *p, struct str bytes)
{
    p->bytes += bytes.len;
    if (p->kept.len < KEEP_MOST) buf_append_str(&p->kept, str_sub(bytes, 0, KEEP_MOST));
}

/* --- events of the call
 * ------------------------------------------------------------------------------------------ */
static void probe_on_headers(struct side_call *c, void *arg, const struct headers *h, bool end)
{
    (void)c, (void)h, (void)end;
    (void)probe_act(arg, "headers");
}

static void probe_on_data(struct side_call *c, void *arg, struct buf *data, bool end)
{
    struct probe *p = arg;
    (void)c, (void)end;
    if (probe_act(p, "data")) return;
    while (data->len) {
        struct str front = buf_front(data);
        probe_keep(p, front);
        buf_drain(data, front.len);
    }
}

static void probe_on_message(struct side_call *c, void *arg, struct str message)
{
    struct probe *p = arg;
    (void)c;
    p->messages++;
    if (!probe_act(p, "message")) probe_keep(p, message);
}

static void probe_on_watermark(struct side_call *c, void *arg, bool above)
{
    struct probe *p = arg;
    (void)c;
    if (above)
        p->above++;
    else
        p->below++;
    http_filter_pause_request(&p->base, above);
}

static void probe_on_end(struct side_call *c, void *arg, const struct side_end *e)
{
    struct probe *p = arg;
    struct arena *a = http_filter_arena(&p->base);
    bug_if(c != p->call);
    p->call = NULL;
    if (e->body) probe_keep(p, buf_dup(e->body, a));
    probe_keep(p, e->message);
    struct str extra = e->trailers ? headers_find(e->trailers, STR("x-extra")) : STR_NONE;
    probe_answer(p, str_fmt(a,
                            "failure=%d status=%u grpc=%u grpc-message=%.*s bytes=%llu messages=%u "
                            "above=%s balanced=%d trailer=%.*s details=%.*s\n%.*s",
                            (int)e->failure, e->status, e->grpc_status, STR_ARG(e->grpc_message),
                            (unsigned long long)p->bytes, p->messages, p->above ? "yes" : "no",
                            p->above == p->below, STR_ARG(extra), STR_ARG(e->details),
                            STR_ARG(buf_dup(&p->kept, a))));
}

static const struct side_events probe_events = {
    .on_headers = probe_on_headers,
    .on_data = probe_on_data,
    .on_message = probe_on_message,
    .on_watermark = probe_on_watermark,
    .on_end = probe_on_end,
};

/* --- the request
 * -------------------------------------------------------------------------------------------------
 */
static uint64_t header_number(const struct headers *h, struct str name)
{
    uint64_t n = 0;
    (void)str_to_u64(headers_find(h, name), &n);
    return n;
}

static void probe_start(struct probe *p, const struct headers *h, struct str kind, bool end)
{
    struct arena *a = http_filter_arena(&p->base);
    struct side_ask q = {.worker = p->base.worker,
                         .owner = http_filter_calls(&p->base),
                         .target = &p->target,
                         .events = &probe_events,
                         .arg = p,
                         .info = http_filter_info(&p->base)};
    struct str path = headers_find(h, STR("x-test-path"));
    struct headers *head = headers_new(a);
    p->grpc = str_starts(kind, STR("grpc"));
    p->stream = str_ends(kind, STR("-stream"));
    if (p->grpc && p->stream) {
        p->call = side_grpc_stream(&q, path, NULL);
    } else if (p->grpc) {
        p->call = side_grpc(&q, path, NULL, headers_find(h, STR("x-test-message")));
    } else {
        headers_add_id(head, HDR_METHOD, p->stream && !end ? STR("POST") : STR("GET"));
        headers_add_id(head, HDR_PATH, path);
        p->call = p->stream ? side_http_stream(&q, head, end) : side_http(&q, head, NULL);
    }
    if (p->grpc && p->stream && end) side_call_finish(p->call);
}

static enum http_flow probe_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct probe *p = probe_of(f);
    struct str kind = headers_find(h, STR("x-test-call"));
    if (!kind.len) return HTTP_CONTINUE;
    p->target.cluster = headers_find(h, STR("x-test-cluster"));
    p->target.cluster_hash = hash_str(p->target.cluster);
    p->target.timeout_us = header_number(h, STR("x-test-timeout-ms")) * 1000;
    p->target.answer_most = header_number(h, STR("x-test-most"));
    p->at = headers_find(h, STR("x-test-at"));
    p->action = headers_find(h, STR("x-test-do"));
    p->paused = headers_find(h, STR("x-test-pause")).len > 0;
    p->sent_all = end;
    probe_start(p, h, kind, end);
    if (p->paused && !end) side_call_pause(p->call, true);
    (void)probe_act(p, "start");
    return end || !(p->stream || p->paused) ? HTTP_HOLD_ALL : HTTP_HOLD;
}

static void probe_send_lines(struct probe *p, struct buf *data)
{
    buf_move(&p->line, data);
    while (p->call) {
        struct str all = buf_peek(&p->line, p->line.len);
        size_t at = str_find_char(str_sub(all, 0, p->line.len), '\n');
        if (at == SIZE_MAX) return;
        side_call_send_message(p->call, str_sub(all, 0, at), false);
        buf_drain(&p->line, at + 1);
    }
}

static enum http_flow probe_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct probe *p = probe_of(f);
    if (p->call && p->stream) {
        if (p->grpc)
            probe_send_lines(p, data);
        else
            side_call_send(p->call, data, end);
        if (end && p->grpc) side_call_finish(p->call);
    }
    buf_drain(data, buf_len(data));
    if (end && p->call && p->paused) side_call_pause(p->call, false);
    return HTTP_TAKEN;
}

static void probe_destroy(struct http_filter *f)
{
    struct probe *p = probe_of(f);
    buf_release(&p->line);
    buf_release(&p->kept);
}

const struct http_filter_type test_side_calls = {
    .ext = {.name = "test.side_calls"},
    .instance_size = sizeof(struct probe),
    .decode_headers = probe_decode_headers,
    .decode_data = probe_decode_data,
    .destroy = probe_destroy,
};
