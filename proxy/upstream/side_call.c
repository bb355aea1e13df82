/* Side calls (proxy/api/side_call.h) on the client of this folder: one attempt each, no retries.
 * Whatever ends a call only notes it; on_end is told at the end of the turn, so that no caller of
 * ours is called back inside its own call, and nothing is freed under a codec's feet. */
#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/api/header_change.h"
#include "proxy/api/headers.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster.h"
#include "proxy/upstream/side_internal.h"

enum { UNSENT_MOST = 64 * 1024 }; /* waiting for a connection before the sender is told to wait */

/* Envoy: its client for such calls counts as a router of that name. */
enum { CLIENT_NO_CLUSTER, CLIENT_TOTAL = 11, CLIENT_STATS };
static const struct stat_def client_defs[CLIENT_STATS] = {
    [CLIENT_NO_CLUSTER] = {"no_cluster", STAT_COUNTER, 0},
    {"no_route", STAT_COUNTER, 0},
    {"passthrough_internal_redirect_bad_location", STAT_COUNTER, 0},
    {"passthrough_internal_redirect_no_route", STAT_COUNTER, 0},
    {"passthrough_internal_redirect_predicate", STAT_COUNTER, 0},
    {"passthrough_internal_redirect_too_many_redirects", STAT_COUNTER, 0},
    {"passthrough_internal_redirect_unsafe_scheme", STAT_COUNTER, 0},
    {"rq_direct_response", STAT_COUNTER, 0},
    {"rq_overload_local_reply", STAT_COUNTER, 0},
    {"rq_redirect", STAT_COUNTER, 0},
    {"rq_reset_after_downstream_response_started", STAT_COUNTER, 0},
    [CLIENT_TOTAL] = {"rq_total", STAT_COUNTER, 0},
};

static void client_count(struct worker *w, size_t which)
{
    stat_inc(upstream_named_stats(w, STR("http.async-client."), 0, client_defs, CLIENT_STATS),
             which);
}

uint32_t side_failure_status(enum side_failure f)
{
    switch (f) {
    case SIDE_OK: return 0;
    case SIDE_TIMEOUT: return 504;
    case SIDE_NO_CLUSTER:
    case SIDE_NO_HOST:
    case SIDE_OVERFLOW:
    case SIDE_CONNECT_FAILED:
    case SIDE_CONNECT_TIMEOUT:
    case SIDE_RESET:
    case SIDE_TOO_LARGE:
    case SIDE_BAD_MESSAGE: return 503;
    }
    return 503;
}

/* --- the end
 * ---------------------------------------------------------------------------------------------------
 */
static void side_fire(struct loop_later *later);

static void side_later(struct side_call *c)
{
    loop_later(c->worker->loop, &c->later, side_fire);
}

static void side_charge(struct side_call *c, uint32_t status)
{
    if (!c->a.uc) return;
    code_stat_count(upstream_code_stats(c->a.uc, UPSTREAM_CODES_ALL), status);
    code_stat_count(upstream_code_stats(c->a.uc, UPSTREAM_CODES_INTERNAL), status);
}

static void side_charge_time(struct side_call *c)
{
    uint64_t ms = (loop_now_us(c->worker->loop) - c->start_us) / 1000;
    stat_record(upstream_code_stats(c->a.uc, UPSTREAM_CODES_ALL), CODE_STAT_TIME, ms);
    stat_record(upstream_code_stats(c->a.uc, UPSTREAM_CODES_INTERNAL), CODE_STAT_TIME, ms);
}

void side_ended(struct side_call *c, enum side_failure why, struct str details)
{
    if (c->ended || c->over) return;
    c->ended = true;
    c->end.failure = why;
    c->end.details = details.len ? str_dup(c->arena, details) : STR_NONE;
    loop_timer_stop(&c->timer);
    if (why != SIDE_OK && c->end.status == 0) side_charge(c, side_failure_status(why));
    if (why != SIDE_OK && c->live) {
        c->live = false;
        upstream_cancel(&c->a);
    }
    side_later(c);
}

/* Nothing of it is told any more. */
static void side_over(struct side_call *c)
{
    c->over = true;
    list_remove(&c->link.link);
    loop_timer_stop(&c->timer);
    if (c->live) upstream_cancel(&c->a);
    c->live = false;
    side_later(c);
}

static void side_free(struct side_call *c)
{
    struct arena *a = c->arena;
    buf_release(&c->out);
    buf_release(&c->in);
    buf_release(&c->message);
    arena_free(&a);
}

/* What the peer sent and nobody has taken yet. */
static void side_deliver(struct side_call *c)
{
    if (side_is_grpc(c)) {
        side_grpc_deliver(c);
        return;
    }
    if (c->shape != SIDE_HTTP_STREAM || c->pauses || (!c->in.len && !c->in_end)) return;
    struct buf data = {0};
    bool end = c->in_end;
    c->in_end = false;
    buf_move(&data, &c->in);
    if (c->events->on_data) c->events->on_data(c, c->arg, &data, end);
    buf_release(&data);
}

static bool side_holds(const struct side_call *c)
{
    return c->pauses && c->end.failure == SIDE_OK &&
           (c->shape == SIDE_HTTP_STREAM || c->shape == SIDE_GRPC_STREAM) &&
           (c->in.len > 0 || c->in_end);
}

static void side_tell_watermark(struct side_call *c)
{
    if (c->over || c->ended || c->above == c->told_above) return;
    c->told_above = c->above;
    if (c->events->on_watermark) c->events->on_watermark(c, c->arg, c->above);
}

static void side_tell_end(struct side_call *c)
{
    if (side_is_grpc(c)) side_grpc_end(c);
    if (c->shape == SIDE_HTTP_ONE) c->end.body = &c->in;
    side_over(c);
    c->events->on_end(c, c->arg, &c->end);
}

static void side_fire(struct loop_later *later)
{
    struct side_call *c = CONTAINER_OF(later, struct side_call, later);
    if (c->over) {
        side_free(c);
        return;
    }
    side_tell_watermark(c);
    if (!c->over && (!c->ended || c->end.failure == SIDE_OK)) side_deliver(c);
    if (!c->over && c->ended && !side_holds(c)) side_tell_end(c);
}

/* --- what the client says
 * --------------------------------------------------------------------------------------- */
static struct side_call *side_of(struct upstream_attempt *a)
{
    return CONTAINER_OF(a, struct side_call, a);
}

static void side_flush(struct side_call *c)
{
    bool end = c->out_end && !c->request_trailers;
    if (c->live && (c->out.len || end)) upstream_send_data(&c->a, &c->out, end);
    if (c->live && c->request_trailers) upstream_send_trailers(&c->a, c->request_trailers);
    buf_drain(&c->out, buf_len(&c->out));
}

static void side_on_ready(struct upstream_attempt *a)
{
    struct side_call *c = side_of(a);
    bool only = c->out_end && c->out.len == 0 && !c->request_trailers;
    if (!headers_has(c->request, HDR_SCHEME))
        headers_add_id(c->request, HDR_SCHEME,
                       upstream_conf(a->uc)->socket ? STR("https") : STR("http"));
    c->ready = true;
    for (uint32_t i = 0; i < c->pauses; i++)
        upstream_pause(a, true);
    upstream_send_headers(a, c->request, only);
    if (!only && (c->out.len > 0 || c->out_end)) side_flush(c);
    c->above = false;
    if (c->told_above) side_later(c);
}

static void side_on_failure(struct upstream_attempt *a, enum upstream_failure why,
                            struct str detail)
{
    struct side_call *c = side_of(a);
    c->live = false;
    switch (why) {
    case UPSTREAM_NO_HOST: side_ended(c, SIDE_NO_HOST, STR("no healthy upstream")); return;
    case UPSTREAM_OVERFLOW: side_ended(c, SIDE_OVERFLOW, STR("overflow")); return;
    case UPSTREAM_CONNECT_TIMEOUT: side_ended(c, SIDE_CONNECT_TIMEOUT, detail); return;
    case UPSTREAM_CONNECT_FAILED:
    case UPSTREAM_LOCAL_FAILURE: side_ended(c, SIDE_CONNECT_FAILED, detail); return;
    }
}

/* The peer's side is complete: one answer is whole, a stream goes on until ours is, too. */
static void side_peer_done(struct side_call *c)
{
    c->peer_done = true;
    side_charge_time(c);
    if (c->shape != SIDE_HTTP_STREAM) side_ended(c, SIDE_OK, STR_NONE);
}

static void side_on_headers(struct upstream_attempt *a, struct headers *h, bool end)
{
    struct side_call *c = side_of(a);
    if (c->ended || c->over) return;
    c->end.headers = h;
    c->end.status = headers_status(h);
    upstream_report(a, c->end.status);
    side_charge(c, c->end.status);
    c->only_headers = end;
    if (side_is_grpc(c) && !side_grpc_headers(c)) return;
    if (c->events->on_headers) c->events->on_headers(c, c->arg, h, end);
    if (end && !c->over) side_peer_done(c);
}

static void side_on_data(struct upstream_attempt *a, struct buf *data, bool end)
{
    struct side_call *c = side_of(a);
    if (c->ended || c->over) {
        buf_drain(data, buf_len(data));
        return;
    }
    if (c->shape == SIDE_HTTP_ONE && c->in.len + data->len > c->answer_most) {
        buf_drain(data, buf_len(data));
        side_ended(c, SIDE_TOO_LARGE, STR("response too large"));
        return;
    }
    buf_move(&c->in, data);
    if (c->shape == SIDE_HTTP_STREAM) c->in_end = end;
    side_deliver(c);
    if (end && !c->over && !c->ended) side_peer_done(c); /* a broken message ended it */
}

static void side_on_trailers(struct upstream_attempt *a, struct headers *t)
{
    struct side_call *c = side_of(a);
    if (c->ended || c->over) return;
    c->end.trailers = t;
    if (c->shape == SIDE_HTTP_STREAM) {
        c->in_end = true;
        side_deliver(c);
    }
    if (!c->over) side_peer_done(c);
}

static void side_on_reset(struct upstream_attempt *a, enum stream_reset why, struct str details)
{
    struct side_call *c = side_of(a);
    (void)why;
    c->live = false;
    side_ended(c, SIDE_RESET, details);
}

static void side_on_complete(struct upstream_attempt *a)
{
    struct side_call *c = side_of(a);
    c->live = false;
    side_ended(c, SIDE_OK, STR_NONE);
}

static void side_on_watermark(struct upstream_attempt *a, bool above)
{
    struct side_call *c = side_of(a);
    c->above = above;
    if (!c->over) side_later(c);
}

static const struct upstream_events side_upstream_events = {
    .on_ready = side_on_ready,
    .on_failure = side_on_failure,
    .on_headers = side_on_headers,
    .on_data = side_on_data,
    .on_trailers = side_on_trailers,
    .on_reset = side_on_reset,
    .on_complete = side_on_complete,
    .on_watermark = side_on_watermark,
};

/* --- starting
 * --------------------------------------------------------------------------------------------------
 */
static void side_timeout(struct loop_timer *t)
{
    struct side_call *c = CONTAINER_OF(t, struct side_call, timer);
    if (c->a.uc) stat_inc(upstream_stats(c->a.uc), CLUSTER_STAT_UPSTREAM_RQ_TIMEOUT);
    if (c->a.host) upstream_report_timeout(&c->a);
    side_ended(c, SIDE_TIMEOUT, STR("upstream request timeout"));
}

static void side_timer_start(struct side_call *c)
{
    if (c->timeout_us && !c->ended)
        loop_timer_start(c->worker->loop, &c->timer, c->timeout_us, side_timeout);
}

static void side_link_cancel(struct side_link *l)
{
    side_over(CONTAINER_OF(l, struct side_call, link));
}

static void side_default(struct headers *h, enum header_id id, struct str value)
{
    if (!headers_has(h, id) && value.len) headers_add_id(h, id, value);
}

/* Envoy: metadata of the configuration, then what its router and its client add. */
static void side_headers(struct side_call *c, const struct side_ask *q)
{
    const struct side_target *t = c->target;
    struct headers *h = c->request;
    side_default(h, HDR_METHOD, STR("GET"));
    side_default(h, HDR_PATH, t->path.len ? t->path : STR("/"));
    side_default(h, HDR_AUTHORITY, t->authority.len ? t->authority : t->cluster);
    header_change_apply(t->metadata, h, q->info);
    if (t->bare) return;
    if (!t->plain) {
        headers_set_id(h, HDR_X_ENVOY_INTERNAL, STR("true"));
        if (t->local_ip.len) headers_append(h, STR("x-forwarded-for"), t->local_ip, STR(","));
    }
    if (c->timeout_us)
        headers_set_id(h, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
                       str_fmt(c->arena, "%llu", (unsigned long long)(c->timeout_us / 1000)));
}

static void side_connect(struct side_call *c)
{
    const struct side_target *t = c->target;
    uint64_t hash = t->cluster_hash ? t->cluster_hash : hash_str(t->cluster);
    struct upstream_cluster *uc = upstream_find(c->worker, t->cluster, hash);
    client_count(c->worker, CLIENT_TOTAL);
    if (!uc) {
        client_count(c->worker, CLIENT_NO_CLUSTER);
        side_ended(c, SIDE_NO_CLUSTER, STR("Cluster not available"));
        return;
    }
    struct lb_ask ask = {.worker = c->worker, .headers = c->request};
    c->a = (struct upstream_attempt){.events = &side_upstream_events, .arena = c->arena};
    c->live = true;
    upstream_start(c->worker, uc, &c->a, &ask);
}

struct side_call *side_start(const struct side_ask *q, enum side_shape shape,
                             const struct headers *h, struct buf *body, bool end)
{
    struct arena *a = arena_new("side call", 0);
    struct side_call *c = ARENA_NEW(a, struct side_call);
    c->arena = a;
    c->worker = q->worker;
    c->target = q->target;
    c->events = q->events;
    c->arg = q->arg;
    c->shape = shape;
    c->timeout_us = q->timeout_us ? q->timeout_us : q->target->timeout_us;
    c->start_us = loop_now_us(q->worker->loop);
    c->answer_most = q->target->answer_most ? q->target->answer_most
                     : side_is_grpc(c)      ? SIDE_MESSAGE_MOST
                                            : SIDE_BODY_MOST;
    c->link.cancel = side_link_cancel;
    if (!q->owner->calls.next) list_init(&q->owner->calls);
    list_push_back(&q->owner->calls, &c->link.link);
    c->request = h ? headers_dup(a, h) : headers_new(a);
    side_headers(c, q);
    if (body) buf_move(&c->out, body);
    c->out_end = end;
    if (end) side_timer_start(c);
    side_connect(c);
    return c;
}

struct side_call *side_http(const struct side_ask *q, const struct headers *h, struct buf *body)
{
    return side_start(q, SIDE_HTTP_ONE, h, body, true);
}

struct side_call *side_http_stream(const struct side_ask *q, const struct headers *h, bool end)
{
    return side_start(q, SIDE_HTTP_STREAM, h, NULL, end);
}

/* --- streams
 * ---------------------------------------------------------------------------------------------------
 */
static bool side_may_send(const struct side_call *c)
{
    return !c->over && !c->ended && !c->out_end;
}

void side_call_send(struct side_call *c, struct buf *data, bool end)
{
    if (!side_may_send(c)) {
        buf_drain(data, buf_len(data));
        return;
    }
    buf_move(&c->out, data);
    c->out_end = end;
    if (end) side_timer_start(c);
    if (c->ready) {
        side_flush(c);
    } else if (c->out.len > UNSENT_MOST && !c->above) {
        c->above = true;
        side_later(c);
    }
}

void side_call_send_trailers(struct side_call *c, const struct headers *t)
{
    if (!side_may_send(c)) return;
    c->request_trailers = headers_dup(c->arena, t);
    struct buf none = {0};
    side_call_send(c, &none, true);
}

void side_call_finish(struct side_call *c)
{
    struct buf none = {0};
    side_call_send(c, &none, true);
}

void side_call_pause(struct side_call *c, bool pause)
{
    if (c->over || (!pause && c->pauses == 0)) return;
    c->pauses += pause ? 1 : UINT32_MAX;
    if (c->ready && c->live) upstream_pause(&c->a, pause);
    if (c->pauses == 0) side_later(c);
}

void side_call_cancel(struct side_call **cp)
{
    struct side_call *c = *cp;
    *cp = NULL;
    if (c && !c->over) side_over(c);
}
