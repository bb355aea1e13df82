/* The life of one request, from top to bottom: first byte, headers, route and filters, body,
 * response (stream_encode.c), end, log, free. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "proxy/api/upstream.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/headers.h"
#include "proxy/http/h1.h"
#include "proxy/http/stream_internal.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

enum { STREAM_BUFFER_DEFAULT = 1024 * 1024 };

static void stat_hcm(struct http_stream *s, enum hcm_stat which)
{
    stat_inc(s->m->conf->stats, which);
}

/* --- time
 * -------------------------------------------------------------------------------------------------------------------
 */

static void stream_timeout_reply(struct http_stream *s, uint32_t status, const char *body,
                                 const char *details, enum response_flag flag)
{
    enum { GRPC_DEADLINE_EXCEEDED = 4 };
    struct local_reply r = {
        .status = status, .body = str_of(body), .details = str_of(details), .grpc_status = -1};
    if (str_eq(r.details, STR("max_duration_timeout"))) r.grpc_status = GRPC_DEADLINE_EXCEEDED;
    if (flag != RF_COUNT) r.flags = (uint64_t)1 << flag;
    stream_reply(s, NULL, &r);
}

static void stream_on_idle(struct loop_timer *t)
{
    struct http_stream *s = CONTAINER_OF(t, struct http_stream, idle);
    stat_hcm(s, HCM_STAT_RQ_IDLE_TIMEOUT);
    stream_timeout_reply(s, s->end_in ? 504 : 408, "stream timeout", "stream_idle_timeout", RF_SI);
}

static void stream_on_request_timeout(struct loop_timer *t)
{
    struct http_stream *s = CONTAINER_OF(t, struct http_stream, request_timer);
    stat_hcm(s, HCM_STAT_RQ_TIMEOUT);
    stream_timeout_reply(s, 408, "request timeout", "request_overall_timeout", RF_COUNT);
}

static void stream_on_header_timeout(struct loop_timer *t)
{
    struct http_stream *s = CONTAINER_OF(t, struct http_stream, header_timer);
    stat_hcm(s, HCM_STAT_RQ_HEADER_TIMEOUT);
    stream_timeout_reply(s, 408, "request header timeout", "request_header_timeout", RF_COUNT);
}

static void stream_on_max_duration(struct loop_timer *t)
{
    struct http_stream *s = CONTAINER_OF(t, struct http_stream, max_timer);
    stat_hcm(s, HCM_STAT_RQ_MAX_DURATION_REACHED);
    stream_timeout_reply(s, s->end_in ? 504 : 408, "downstream duration timeout",
                         "max_duration_timeout", RF_COUNT);
}

static void stream_on_log_timer(struct loop_timer *t)
{
    struct http_stream *s = CONTAINER_OF(t, struct http_stream, log_timer);
    access_log_run(s->m->worker, s->m->conf->access_log, &s->info,
                   ACCESS_LOG_TYPE_DOWNSTREAM_PERIODIC);
    loop_timer_start(s->m->worker->loop, t, s->m->conf->access_log_interval_us,
                     stream_on_log_timer);
}

void stream_touch(struct http_stream *s)
{
    if (s->idle_us && !s->over)
        loop_timer_start(s->m->worker->loop, &s->idle, s->idle_us, stream_on_idle);
}

static void stream_timers_stop(struct http_stream *s)
{
    loop_timer_stop(&s->idle);
    loop_timer_stop(&s->request_timer);
    loop_timer_stop(&s->header_timer);
    loop_timer_stop(&s->max_timer);
    loop_timer_stop(&s->log_timer);
}

/* --- the codec's events
 * --------------------------------------------------------------------------------------------------
 */

static void stream_on_headers(struct codec_stream *cs, void *owner, struct headers *h, bool end);
static void stream_on_data(struct codec_stream *cs, void *owner, struct buf *data, bool end);
static void stream_on_trailers(struct codec_stream *cs, void *owner, struct headers *t);

static void stream_on_metadata(struct codec_stream *cs, void *owner, struct buf *block)
{
    struct http_stream *s = owner;
    (void)cs;
    if (s->over || s->decode_cut) return;
    stream_touch(s);
    buf_move(&s->metadata, block);
    chain_metadata(s);
}

static void stream_on_reset(struct codec_stream *cs, void *owner, enum stream_reset why,
                            struct str details)
{
    struct http_stream *s = owner;
    stream_note_counts(s, cs);
    s->codec = NULL;
    s->reset_by_peer = true;
    if (why == RESET_PROTOCOL_ERROR)
        stream_info_flag(&s->info, RF_DPE);
    else if (why == RESET_REMOTE)
        stream_info_flag(&s->info, RF_DR);
    else if (!s->info.conn->local_close)
        stream_info_flag(&s->info, RF_DC);
    if (!s->response_done) {
        s->info.code_details = details.len ? details : STR("downstream_remote_disconnect");
        stat_hcm(s, HCM_STAT_RQ_RX_RESET);
    }
    stream_over(s);
}

static void stream_on_complete(struct codec_stream *cs, void *owner)
{
    struct http_stream *s = owner;
    stream_note_counts(s, cs);
    s->codec = NULL;
    s->codec_done = true;
    stream_over(s);
}

static void stream_tell_above(struct http_stream *s, bool was)
{
    bool now = s->above || s->response_stops;
    if (now != was) chain_watermark(s, HTTP_DECODE, now);
}

static void stream_on_watermark(struct codec_stream *cs, void *owner, bool above)
{
    struct http_stream *s = owner;
    (void)cs;
    if (s->over || s->above == above) return;
    bool was = s->above || s->response_stops;
    s->above = above;
    if (!above) stream_touch(s);
    stream_tell_above(s, was);
}

static const struct codec_stream_events stream_events = {
    .on_headers = stream_on_headers,
    .on_data = stream_on_data,
    .on_trailers = stream_on_trailers,
    .on_metadata = stream_on_metadata,
    .on_reset = stream_on_reset,
    .on_watermark = stream_on_watermark,
    .on_complete = stream_on_complete,
};

/* --- 1. the first byte
 * ---------------------------------------------------------------------------------------------------
 */

static void stream_count_begin(struct hcm *m, bool h1)
{
    stat_hcm_add(m, HCM_STAT_RQ_TOTAL);
    stat_hcm_add(m, HCM_STAT_RQ_ACTIVE);
    stat_hcm_add(m, h1 ? HCM_STAT_RQ_HTTP1_TOTAL : HCM_STAT_RQ_HTTP2_TOTAL);
}

void stream_begin(struct hcm *m, struct codec_stream *cs)
{
    struct worker *w = m->worker;
    const struct hcm_conf *conf = m->conf;
    struct arena *a = stream_arena_take(w);
    struct http_stream *s = ARENA_NEW(a, struct http_stream);
    bool h1 = m->codec->ops->kind == CODEC_H1;
    s->m = m;
    s->codec = cs;
    s->arena = a;
    cs->events = &stream_events;
    cs->owner = s;
    cs->arena = a;
    s->info.arena = a;
    s->info.worker = w;
    s->info.conn = m->info;
    s->info.start_us = loop_now_us(w->loop);
    s->info.start_wall_us = loop_wall_us(w->loop);
    s->info.protocol = h1 ? HTTP_PROTOCOL_11 : HTTP_PROTOCOL_2;
    s->info.remote = m->info->remote;
    s->info.random = rng_next(&w->rng);
    s->info.stream_id = s->info.random;
    s->info.traceable = true;
    s->info.scheme_match_upstream = conf->scheme_match_upstream;
    s->buffer_limit = conf->buffer_limit ? conf->buffer_limit : STREAM_BUFFER_DEFAULT;
    s->above = conn_above_watermark(m->conn);
    s->idle_us = conf->stream_idle_timeout_us;
    list_push_back(&m->streams, &s->link);
    m->open++;
    m->requests++;
    loop_timer_stop(&m->idle);
    stream_count_begin(m, h1);
    if (conf->request_headers_timeout_us) {
        loop_timer_start(w->loop, &s->header_timer, conf->request_headers_timeout_us,
                         stream_on_header_timeout);
    }
    if (conf->request_timeout_us)
        loop_timer_start(w->loop, &s->request_timer, conf->request_timeout_us,
                         stream_on_request_timeout);
    stream_touch(s);
}

void stream_bad_request(struct http_stream *s, uint32_t status, struct str details)
{
    if (s->over) return;
    s->m->protocol_error = true;
    stat_hcm(s, HCM_STAT_CX_PROTOCOL_ERROR);
    stat_hcm(s, HCM_STAT_RQ_RX_RESET);
    loop_timer_stop(&s->header_timer);
    s->m->close_next = true;
    struct local_reply r = {.status = status ? status : 400,
                            .details = details,
                            .grpc_status = -1,
                            .flags = (uint64_t)1 << RF_DPE};
    r.body = http_status_text(r.status);
    if (s->response_started) s->info.flags |= r.flags;
    stream_reply(s, NULL, &r);
}

/* --- 2. headers
 * -------------------------------------------------------------------------------------------------------------
 */

static void stream_end_in(struct http_stream *s)
{
    s->end_in = true;
    s->info.last_rx_us = loop_now_us(s->m->worker->loop);
    loop_timer_stop(&s->request_timer);
}

/* The route may know better than the connection manager how long a stream may live and idle. */
static void stream_route_times(struct http_stream *s)
{
    const struct route *r = stream_route(s);
    if (r && r->has_idle_timeout) {
        s->idle_us = r->idle_timeout_us;
        if (!s->idle_us) loop_timer_stop(&s->idle);
        stream_touch(s);
    }
    uint64_t most = stream_longest_life(s, r);
    uint64_t age = loop_now_us(s->m->worker->loop) - s->info.start_us;
    if (most)
        loop_timer_start(s->m->worker->loop, &s->max_timer, most > age ? most - age : 0,
                         stream_on_max_duration);
    stream_route_limit(s, r);
}

static void stream_refuse(struct http_stream *s, const struct edge_refusal *why)
{
    struct local_reply r = {
        .status = why->status, .details = str_of(why->details), .grpc_status = -1};
    struct str location = why->location;
    if (location.len) {
        r.edit = stream_edit_location;
        r.edit_arg = &location;
    }
    stream_reply(s, NULL, &r);
}

/* Which chain serves an upgrade? NULL: none, it is refused. */
static const struct http_filter_chain *stream_upgrade_chain(struct http_stream *s, struct str type)
{
    const struct hcm_conf *conf = s->m->conf;
    const struct hcm_upgrade *found = NULL;
    const struct upgrade_conf *of_route = NULL;
    bool enabled = false;
    for (size_t i = 0; i < conf->upgrade_count && !found; i++) {
        if (str_case_eq(conf->upgrades[i].type, type)) found = &conf->upgrades[i];
    }
    if (found) enabled = found->enabled;
    const struct route *r = stream_route(s);
    bool said = r && route_upgrade(r, type, &enabled, &of_route);
    if (!enabled || (!found && !said)) return NULL;
    return found && found->has_chain ? &found->chain : &conf->chain;
}

/* Makes the filters. False: an upgrade that nobody allows; answered. */
static bool stream_make_chain(struct http_stream *s, struct headers *h)
{
    const struct http_filter_chain *chain = &s->m->conf->chain;
    bool connect = str_eq(headers_get(h, HDR_METHOD), STR("CONNECT"));
    bool upgrade =
        headers_has(h, HDR_UPGRADE) && headers_has_token(h, HDR_CONNECTION, STR("upgrade"));
    if (connect || upgrade) {
        struct str type = connect ? STR("CONNECT") : headers_get(h, HDR_UPGRADE);
        s->upgrade_wanted = true;
        /* Envoy: a CONNECT that no route takes is a 404 of the router, not a refused upgrade. */
        chain = connect && !stream_route(s) ? chain : stream_upgrade_chain(s, type);
    }
    if (!chain) {
        stat_hcm(s, HCM_STAT_RQ_WS_ON_NON_WS_ROUTE);
        chain_make(s, &s->m->conf->chain);
        stream_refuse(s, &(struct edge_refusal){.status = 403, .details = "upgrade_failed"});
        return false;
    }
    chain_make(s, chain);
    return true;
}

static void stream_log_begin(struct http_stream *s)
{
    const struct hcm_conf *conf = s->m->conf;
    if (conf->access_log_on_new)
        access_log_run(s->m->worker, conf->access_log, &s->info, ACCESS_LOG_TYPE_DOWNSTREAM_START);
    if (conf->access_log_interval_us && conf->access_log) {
        loop_timer_start(s->m->worker->loop, &s->log_timer, conf->access_log_interval_us,
                         stream_on_log_timer);
    }
}

static void stream_expect_continue(struct http_stream *s, struct headers *h)
{
    if (s->m->conf->proxy_100_continue) return;
    if (!headers_has(h, HDR_EXPECT) ||
        !str_case_eq(headers_get(h, HDR_EXPECT), STR("100-continue")))
        return;
    headers_remove_id(h, HDR_EXPECT);
    struct headers *answer = headers_new(s->arena);
    headers_set_status(answer, 100);
    if (s->codec) s->codec->codec->ops->send_1xx(s->codec, answer);
}

static void stream_on_headers(struct codec_stream *cs, void *owner, struct headers *h, bool end)
{
    struct http_stream *s = owner;
    struct hcm *m = s->m;
    if (s->over) return;
    loop_timer_stop(&s->header_timer);
    s->info.req = h;
    s->header_end[HTTP_DECODE] = end;
    s->headers_in = true;
    if (end) stream_end_in(s);
    stream_touch(s);
    s->info.original_path = headers_get(h, HDR_PATH);
    s->is_head = str_eq(headers_get(h, HDR_METHOD), STR("HEAD"));
    s->is_grpc = headers_is_grpc(h);
    if (m->codec->ops->kind == CODEC_H1) {
        if (h1_request_is_http10(cs)) s->info.protocol = HTTP_PROTOCOL_10;
    }
    s->info.header_received = cs->codec->ops->counts(cs)->header_received;
    hcm_note_request(m, h, s->info.protocol == HTTP_PROTOCOL_10);
    stream_pin_routes(s);
    stream_expect_continue(s, h);
    struct edge_refusal no = edge_check_request(s, h);
    if (!no.status) no = edge_mutate_request(s, h);
    if (no.status) {
        stream_refuse(s, &no);
        return;
    }
    stream_route_times(s);
    stream_log_begin(s);
    if (!stream_make_chain(s, h)) return;
    chain_headers(s, HTTP_DECODE, 0, h, end);
}

/* The body that waits at a filter. */
struct waiting_body {
    struct buf data;
    struct headers *trailers;
    bool end;
};

static struct waiting_body stream_take_body(struct http_stream *s, struct filter_slot *by)
{
    struct filter_side *side = &by->side[HTTP_DECODE];
    struct waiting_body w = {.trailers = side->trailers, .end = side->end_wait && !side->trailers};
    buf_move(&w.data, &side->held);
    side->end_wait = false;
    side->trailers = NULL;
    if (side->paused_peer) stream_pressure(s, HTTP_DECODE, false);
    side->paused_peer = false;
    return w;
}

void stream_restart(struct http_stream *s, struct filter_slot *by)
{
    if (s->over || s->decode_cut || bug_if(s->depth || s->encoding)) return;
    s->info.route_config = NULL;
    stream_forget_route(s);
    pin_drop(s->m->worker, &s->route_pin);
    stream_pin_routes(s);
    if (!stream_route(s) && !s->info.vhost) { /* an answer, but not for this host: nothing is new */
        chain_resume(s, by, HTTP_DECODE);
        return;
    }
    struct waiting_body w = stream_take_body(s, by);
    chain_destroy(s);
    s->slot_count = 0;
    stream_route_times(s);
    struct headers *h = s->info.req;
    if (!stream_make_chain(s, h)) {
        buf_release(&w.data);
        return;
    }
    chain_headers(s, HTTP_DECODE, 0, h, s->header_end[HTTP_DECODE]);
    if ((w.data.len || w.end) && !s->over && !s->decode_cut)
        chain_data(s, HTTP_DECODE, 0, &w.data, w.end);
    buf_release(&w.data);
    if (w.trailers && !s->over && !s->decode_cut) chain_trailers(s, HTTP_DECODE, 0, w.trailers);
}

/* --- 3. body and trailers
 * -------------------------------------------------------------------------------------------------
 */

static void stream_on_data(struct codec_stream *cs, void *owner, struct buf *data, bool end)
{
    struct http_stream *s = owner;
    (void)cs;
    s->info.bytes_received += data->len;
    if (end) stream_end_in(s);
    if (s->over || s->decode_cut) {
        buf_release(data);
        return;
    }
    stream_touch(s);
    chain_data(s, HTTP_DECODE, 0, data, end);
}

static void stream_on_trailers(struct codec_stream *cs, void *owner, struct headers *t)
{
    struct http_stream *s = owner;
    (void)cs;
    stream_end_in(s);
    if (s->over || s->decode_cut) return;
    stream_touch(s);
    chain_trailers(s, HTTP_DECODE, 0, t);
}

void stream_too_large(struct http_stream *s)
{
    stat_hcm(s, HCM_STAT_RQ_TOO_LARGE);
    struct local_reply r = {.status = 413,
                            .body = STR("Payload Too Large"),
                            .details = STR("request_payload_too_large"),
                            .grpc_status = -1};
    stream_reply(s, NULL, &r);
}

void stream_response_too_large(struct http_stream *s)
{
    stat_hcm(s, HCM_STAT_RS_TOO_LARGE);
    struct local_reply r = {.status = 500,
                            .body = STR("Internal Server Error"),
                            .details = STR("response_payload_too_large"),
                            .grpc_status = -1};
    stream_reply(s, NULL, &r);
}

void stream_pause_request(struct http_stream *s, bool pause)
{
    if (pause)
        s->pauses++;
    else if (s->pauses)
        s->pauses--;
    else
        return;
    stat_hcm(s, pause ? HCM_STAT_FLOW_CONTROL_PAUSED_READING_TOTAL
                      : HCM_STAT_FLOW_CONTROL_RESUMED_READING_TOTAL);
    if (s->codec) s->codec->codec->ops->pause(s->codec, pause);
}

void stream_pressure(struct http_stream *s, enum http_dir dir, bool stop)
{
    if (dir == HTTP_DECODE) {
        stream_pause_request(s, stop);
        return;
    }
    bool was = s->above || s->response_stops;
    if (stop)
        s->response_stops++;
    else if (s->response_stops)
        s->response_stops--;
    stream_tell_above(s, was);
}

/* --- 4. the end
 * ----------------------------------------------------------------------------------------------------------------
 */

void stream_reset(struct http_stream *s, enum stream_reset why)
{
    if (s->over) return;
    stat_hcm(s, HCM_STAT_RQ_TX_RESET);
    struct codec_stream *cs = s->codec;
    s->codec = NULL;
    if (s->m->codec->ops->kind == CODEC_H1)
        s->m->closing = true; /* the codec closes the connection */
    if (cs) cs->codec->ops->reset(cs, why);
    stream_over(s);
}

void stream_over(struct http_stream *s)
{
    if (s->over) return;
    s->over = true;
    s->decode_cut = true;
    s->info.end_us = loop_now_us(s->m->worker->loop);
    stream_timers_stop(s);
    side_owner_release(&s->calls);
    hcm_stream_ended(s->m, s);
}

static void stream_count_end(struct http_stream *s)
{
    struct stat_group *g = s->m->conf->stats;
    stat_dec(g, HCM_STAT_RQ_ACTIVE);
    stat_record(g, HCM_STAT_RQ_TIME, (s->info.end_us - s->info.start_us) / 1000);
    if (s->tunnel) stat_dec(g, HCM_STAT_CX_UPGRADES_ACTIVE);
}

/* Envoy: the log names the route's cluster though a filter answered before the router saw the
 * request. */
static void stream_log_end(struct http_stream *s)
{
    struct worker *w = s->m->worker;
    if (!s->m->conf->access_log) return;
    if (!s->info.up.cluster.len && s->route_known && s->choice.cluster.len) {
        const struct upstream_cluster *uc = upstream_find(w, s->choice.cluster, s->choice.hash);
        if (uc) upstream_name_facts(uc, &s->info);
    }
    access_log_run(w, s->m->conf->access_log, &s->info, ACCESS_LOG_TYPE_DOWNSTREAM_END);
}

void stream_free(struct http_stream *s)
{
    struct worker *w = s->m->worker;
    stream_count_end(s);
    if (s->chain_made) chain_log(s);
    stream_log_end(s);
    if (s->chain_made) chain_destroy(s);
    if (s->route_pin) pin_drop(w, &s->route_pin);
    buf_release(&s->metadata);
    list_remove(&s->link);
    stream_arena_give(w, s->arena);
}
