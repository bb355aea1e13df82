/* One try after the other: connection, request out, response in, failure. */
#include "base/arena.h"
#include "base/must.h"
#include "base/proxy_header.h"
#include "filters/http/router.h"
#include "proxy/api/tls_info.h"
#include "proxy/api/matcher.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/cluster.h" /* the cluster's names and metadata for the logs */

enum {
    UNSENT_MOST = 256 * 1024
}; /* bytes that wait for a connection before the client is slowed down */

static struct router_attempt *attempt_of(struct upstream_attempt *a)
{
    return CONTAINER_OF(a, struct router_attempt, a);
}

static bool attempt_is_old(const struct router_attempt *ra)
{
    return ra->r->cur != ra || ra->r->finished;
}

/* --- the request's way out
 * --------------------------------------------------------------------------------------------------------------
 */
void router_attempt_send(struct router *r)
{
    struct router_attempt *ra = r->cur;
    if (!ra || !ra->ready || !ra->live) {
        bool much = !r->keep_body && r->body.len > UNSENT_MOST;
        if (much && !r->waiting_paused) {
            r->waiting_paused = true;
            http_filter_pause_request(&r->f, true);
        }
        return;
    }
    bool end = r->request_done && !r->trailers;
    struct buf out = {0};
    if (r->keep_body)
        buf_share(&out, &r->body);
    else
        buf_move(&out, &r->body);
    if (out.len > 0 || end) upstream_send_data(&ra->a, &out, end);
    if (r->request_done) r->info->up.last_tx_us = loop_now_us(r->f.worker->loop);
    buf_release(&out);
    if (r->trailers && ra->live) upstream_send_trailers(&ra->a, r->trailers);
}

static void upstream_facts(struct router *r, struct router_attempt *ra)
{
    struct upstream_info *up = &r->info->up;
    const struct conn_info *ci = ra->a.conn_info;
    up->conn_id = ci ? ci->id : 0;
    if (ci) {
        up->local = ci->local;
        up->remote = ci->remote;
        tls_info_unref(&r->tls);
        up->tls = r->tls = tls_info_ref(ci->tls);
    }
    up->protocol = ra->a.protocol == UPSTREAM_PROTO_H2 ? HTTP_PROTOCOL_2 : HTTP_PROTOCOL_11;
    up->cx_begin_us = ra->a.connect_begin_us;
    up->cx_end_us = ra->a.connect_end_us;
    up->pool_ready_us = ra->a.ready_us;
    up->first_tx_us = loop_now_us(r->f.worker->loop);
}

static void host_facts(struct router *r, struct host *h)
{
    struct upstream_info *up = &r->info->up;
    if (r->host == h) return;
    host_unref(&r->host);
    r->host = host_ref(h);
    up->host = *host_address(h);
    up->host_name = host_name(h);
    up->host_metadata = host_metadata(h);
}

/* Envoy: a host counts as attempted once there is a connection to it. */
static void attempted_facts(struct router *r, struct host *h)
{
    struct upstream_info *up = &r->info->up;
    struct arena *a = r->info->arena;
    struct str address = host_address_text(h), name = host_name(h);
    up->hosts_attempted = upstream_listed(a, up->hosts_attempted, address);
    up->host_names_attempted =
        upstream_listed(a, up->host_names_attempted, name.len ? name : address);
    up->conn_ids_attempted =
        upstream_listed(a, up->conn_ids_attempted, str_from_u64(a, up->conn_id));
}

/* auto_host_rewrite: the host's own name. */
static void rewrite_host(struct router *r)
{
    const struct route *t = r->route;
    if (t->host_rewrite != HOST_REWRITE_AUTO && !t->auto_host_rewrite) return;
    struct str name = host_name(r->host);
    if (name.len == 0) return;
    route_rewrite_host(r->req, str_dup(r->info->arena, name), t->append_x_forwarded_host,
                       !r->conf->suppress_headers);
}

static void wire_facts(struct router *r)
{
    struct upstream_info *up = &r->info->up;
    const struct upstream_attempt *a = &r->cur->a;
    upstream_wire(&r->cur->a);
    up->header_sent = a->header_sent;
    up->wire_sent = a->wire_sent;
    up->header_received = a->header_received;
    up->wire_received = a->wire_received;
}

/* connect_config: the tunnel goes on as a raw connection; NULL: it does not. CONNECT-UDP (an
 * extended CONNECT) is not meant. */
static const struct upgrade_conf *connect_ends_here(const struct router *r)
{
    for (size_t i = 0; i < r->route->upgrade_count; i++) {
        const struct upgrade_conf *u = &r->route->upgrades[i];
        if (!u->terminate_connect) continue;
        struct str method = headers_get(r->req, HDR_METHOD);
        bool connect = str_eq(method, STR("CONNECT")) && !headers_has(r->req, HDR_PROTOCOL);
        return connect || (u->allow_post && str_eq(method, STR("POST"))) ? u : NULL;
    }
    return NULL;
}

/* The client's addresses go before the tunnel's bytes. */
static void connect_proxy_header(const struct router *r, struct upstream_attempt *a)
{
    const struct upgrade_conf *u = connect_ends_here(r);
    const struct conn_info *c = r->info->conn;
    struct sb header = {0};
    struct buf data = {0};
    if (!u || !u->proxy_header) return;
    if (u->proxy_header == 1)
        proxy_header_v1(&header, &c->remote, &c->local);
    else
        (void)proxy_header_v2(&header, &c->remote, &c->local, STR_NONE); /* nothing to fit */
    buf_append(&data, sb_str(&header).ptr, header.len);
    sb_release(&header);
    upstream_send_data(a, &data, false);
}

static void on_ready(struct upstream_attempt *a)
{
    struct router_attempt *ra = attempt_of(a);
    struct router *r = ra->r;
    ra->ready = true;
    host_facts(r, a->host);
    upstream_facts(r, ra);
    attempted_facts(r, a->host);
    rewrite_host(r);
    if (r->info->scheme_match_upstream)
        headers_set_id(r->req, HDR_SCHEME, r->info->up.tls ? STR("https") : STR("http"));
    router_named_count(r, ROUTER_NAMED_TOTAL);
    if (r->waiting_paused) {
        r->waiting_paused = false;
        http_filter_pause_request(&r->f, false);
    }
    /* Envoy: an empty body that came after the head stays one, however late the connection is. */
    bool only = r->head_only;
    for (uint32_t i = 0; i < r->downstream_above; i++)
        upstream_pause(a, true);
    connect_proxy_header(r, a);
    upstream_send_headers(a, r->req, only);
    if (only) r->info->up.last_tx_us = loop_now_us(r->f.worker->loop);
    if (r->metadata.len) upstream_send_metadata(a, &r->metadata);
    if (!only && (r->body.len > 0 || r->request_done)) router_attempt_send(r);
    if (r->request_done && ra->live) router_timeouts_try(r);
}

/* --- failures
 * --------------------------------------------------------------------------------------------------------------------------------
 */
static const char *reset_text(enum stream_reset why)
{
    switch (why) {
    case RESET_NONE:
    case RESET_LOCAL: return "local reset";
    case RESET_LOCAL_REFUSED: return "local refused stream reset";
    case RESET_REMOTE: return "remote reset";
    case RESET_REMOTE_REFUSED: return "remote refused stream reset";
    case RESET_CONNECT_FAILURE: return "remote connection failure";
    case RESET_CONNECT_TIMEOUT: return "connection timeout";
    case RESET_CONN_TERMINATION: return "connection termination";
    case RESET_OVERFLOW: return "overflow";
    case RESET_PROTOCOL_ERROR: return "protocol error";
    case RESET_CONNECT_ERROR: return "remote error with CONNECT request";
    }
    return "local reset";
}

static enum response_flag reset_flag(enum stream_reset why)
{
    switch (why) {
    case RESET_CONNECT_FAILURE:
    case RESET_CONNECT_TIMEOUT: return RF_UF;
    case RESET_CONN_TERMINATION: return RF_UC;
    case RESET_OVERFLOW: return RF_UO;
    case RESET_REMOTE:
    case RESET_REMOTE_REFUSED:
    case RESET_CONNECT_ERROR: return RF_UR;
    case RESET_PROTOCOL_ERROR: return RF_UPE;
    case RESET_NONE:
    case RESET_LOCAL:
    case RESET_LOCAL_REFUSED: return RF_LR;
    }
    return RF_LR;
}

/* "upstream_reset_before_response_started{connection_termination|text}", no spaces. */
static struct str reset_details(struct router *r, const char *when, enum stream_reset why,
                                struct str transport)
{
    struct str s = str_fmt(r->info->arena, "%s{%s%s%.*s}", when, reset_text(why),
                           transport.len ? "|" : "", STR_ARG(transport));
    char *p = str_z(r->info->arena, s);
    for (size_t i = 0; i < s.len; i++) {
        if (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r')) p[i] = '_';
    }
    return str_make(p, s.len);
}

/* The try is over and nobody retries: an answer, or the end of the one that has begun. */
static void give_up(struct router *r, enum stream_reset why, struct str transport)
{
    struct arena *a = r->info->arena;
    uint64_t flag = (uint64_t)1 << reset_flag(why);
    if (r->response_started) {
        stat_inc(r->conf->stats, ROUTER_RESET_AFTER_RESPONSE);
        r->finished = true;
        router_timeouts_stop(r);
        http_filter_respond_reset(
            &r->f, reset_details(r, "upstream_reset_after_response_started", why, transport), flag);
        return;
    }
    uint32_t status = why == RESET_PROTOCOL_ERROR ? 502 : 503;
    router_charge(r, status, NULL);
    /* Envoy 1.40: the transport's failure is told in the details only. */
    struct str body =
        str_fmt(a, "upstream connect error or disconnect/reset before headers. %sreset reason: %s",
                r->attempts > 1 ? "retried and the latest " : "", reset_text(why));
    struct str details = reset_details(r, "upstream_reset_before_response_started", why, transport);
    router_reply(r, status, body, details, flag, why == RESET_OVERFLOW);
}

static void note_retry_result(struct router *r, enum retry_result result)
{
    if (result == RETRY_RESULT_EXCEEDED) stream_info_flag(r->info, RF_URX);
    if (result == RETRY_RESULT_OVERFLOW) stream_info_flag(r->info, RF_UO);
}

/* The current try ended by reset; it is gone already. `detail`: transport failure text or empty. */
static void try_failed(struct router *r, enum stream_reset why, struct str detail,
                       bool request_started)
{
    struct str text = str_dup(r->info->arena, detail);
    r->info->up.transport_failure = text;
    wire_facts(r);
    router_timeouts_try_over(r);
    if (r->cur->paused_request) http_filter_pause_request(&r->f, false);
    r->cur->paused_request = false;
    if (r->response_started) {
        give_up(r, why, text);
        return;
    }
    if (r->cur->a.host && why != RESET_OVERFLOW) upstream_report(&r->cur->a, 503);
    bool able = r->keep_body || (r->body.len == 0 && !request_started) ||
                (r->request_done && r->body.len == 0 && !r->info->bytes_received);
    enum retry_verdict v = able ? router_retry_by_reset(r, why, request_started) : RETRY_NO;
    enum retry_result result = router_retry_take(r, v, NULL);
    note_retry_result(r, result);
    if (result != RETRY_RESULT_YES) give_up(r, why, text);
}

static void no_host(struct router *r)
{
    router_charge(r, 503, NULL);
    router_reply(r, 503, STR("no healthy upstream"), STR("no_healthy_upstream"),
                 (uint64_t)1 << RF_UH, false);
}

static void on_failure(struct upstream_attempt *a, enum upstream_failure why, struct str detail)
{
    struct router_attempt *ra = attempt_of(a);
    struct router *r = ra->r;
    ra->live = false;
    if (attempt_is_old(ra)) return;
    if (a->host) host_facts(r, a->host);
    switch (why) {
    case UPSTREAM_NO_HOST:
        router_retry_release(r);
        no_host(r);
        return;
    case UPSTREAM_OVERFLOW: try_failed(r, RESET_OVERFLOW, detail, false); return;
    case UPSTREAM_CONNECT_FAILED: try_failed(r, RESET_CONNECT_FAILURE, detail, false); return;
    case UPSTREAM_CONNECT_TIMEOUT: try_failed(r, RESET_CONNECT_TIMEOUT, detail, false); return;
    case UPSTREAM_LOCAL_FAILURE: try_failed(r, RESET_LOCAL, detail, false); return;
    }
}

static void on_reset(struct upstream_attempt *a, enum stream_reset why, struct str details)
{
    struct router_attempt *ra = attempt_of(a);
    ra->live = false;
    if (attempt_is_old(ra)) return;
    /* Only a connection's end has a transport text; the codec's own words are for its statistics.
     */
    try_failed(ra->r, why,
               why == RESET_CONN_TERMINATION || why == RESET_PROTOCOL_ERROR ? details : STR_NONE,
               true);
}

void router_attempt_timeout(struct router *r, const char *details, bool per_try)
{
    struct router_attempt *ra = r->cur;
    struct stat_group *g = upstream_stats(r->uc);
    bool idle = str_eq(str_of(details), STR("upstream_per_try_idle_timeout"));
    if (r->finished) return;
    if (!per_try) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_TIMEOUT);
        router_named_count(r, ROUTER_NAMED_TIMEOUT);
    } else {
        stat_inc(g, idle ? CLUSTER_STAT_UPSTREAM_RQ_PER_TRY_IDLE_TIMEOUT
                         : CLUSTER_STAT_UPSTREAM_RQ_PER_TRY_TIMEOUT);
    }
    if (ra && ra->a.host && r->host == ra->a.host) {
        upstream_report_timeout(&ra->a);
        if (!r->response_started) upstream_report(&ra->a, 504);
    }
    if (ra) wire_facts(r);
    router_attempt_cancel(r);
    if (per_try && !r->response_started && r->keep_body) {
        r->timeout_retry = true;
        enum retry_result result =
            router_retry_take(r, router_retry_by_reset(r, RESET_LOCAL, true), NULL);
        note_retry_result(r, result);
        if (result == RETRY_RESULT_YES) return;
    }
    uint64_t flag = (uint64_t)1 << RF_UT;
    if (r->response_started) {
        stat_inc(r->conf->stats, ROUTER_RESET_AFTER_RESPONSE);
        r->finished = true;
        router_timeouts_stop(r);
        http_filter_respond_reset(&r->f, str_of(details), flag);
        return;
    }
    router_charge(r, r->timeout_status, NULL);
    router_reply(r, r->timeout_status,
                 r->timeout_status == 504 ? STR("upstream request timeout") : STR_NONE,
                 str_of(details), flag, false);
}

/* --- the response
 * ------------------------------------------------------------------------------------------------------------------------------
 */
static void on_1xx(struct upstream_attempt *a, struct headers *h)
{
    struct router_attempt *ra = attempt_of(a);
    if (!attempt_is_old(ra)) http_filter_respond_1xx(&ra->r->f, h);
}

static void response_headers(struct router *r, struct headers *h)
{
    struct arena *a = r->info->arena;
    uint64_t now = loop_now_us(r->f.worker->loop);
    if (!r->conf->suppress_headers && r->request_done) {
        uint64_t ms = (now - r->request_done_us) / 1000;
        headers_set_id(h, HDR_X_ENVOY_UPSTREAM_SERVICE_TIME, str_from_u64(a, ms));
    }
    if (r->host && host_canary(r->host))
        headers_set_id(h, HDR_X_ENVOY_UPSTREAM_CANARY, STR("true"));
    if (r->route->vhost && r->route->vhost->include_attempt_count_in_response)
        headers_set_id(h, HDR_X_ENVOY_ATTEMPT_COUNT, str_from_u64(a, r->attempts));
    if (r->set_cookie.len > 0) headers_add_id(h, HDR_SET_COOKIE, r->set_cookie);
    r->info->response_code =
        headers_status(h); /* formats of the route's header changes read both */
    r->info->resp = h;
    route_finalize_response(r->route, r->choice, h, r->info);
}

/* The whole response is in: what logs and statistics say of it. */
static void response_end(struct router *r)
{
    router_timeouts_stop(r);
    r->finished = true;
    r->info->up.last_rx_us = loop_now_us(r->f.worker->loop);
    wire_facts(r);
    router_charge_time(r);
}

/* The response is passed on. Envoy: a request that is still coming then is not waited for. */
static void response_passed(struct router *r, bool end)
{
    if (end && !r->request_done) router_attempt_cancel(r);
}

static bool response_retry(struct router *r, struct router_attempt *ra, struct headers *h, bool end)
{
    uint32_t status = headers_status(h);
    bool able = r->keep_body;
    enum retry_result result =
        router_retry_take(r, able ? router_retry_by_headers(r, h) : RETRY_NO, h);
    note_retry_result(r, result);
    if (result != RETRY_RESULT_YES) return false;
    router_charge_retry(r, status);
    upstream_report(&ra->a, 500); /* Envoy: a retried answer is an error of the host */
    router_timeouts_try_over(r);
    /* A complete exchange leaves its connection fit for use; anything else breaks it off. */
    if (!end || !r->request_done) router_attempt_cancel(r);
    return true;
}

static void on_headers(struct upstream_attempt *a, struct headers *h, bool end)
{
    struct router_attempt *ra = attempt_of(a);
    struct router *r = ra->r;
    if (attempt_is_old(ra)) return;
    uint32_t status = headers_status(h);
    r->info->up.first_rx_us = loop_now_us(r->f.worker->loop);
    ra->headers_in = true;
    filter_timer_stop(&r->per_try_timer);
    router_timeouts_activity(r);
    router_load_metrics(r, a, h); /* Envoy: of an answer that is tried again, too */
    if (response_retry(r, ra, h, end)) return;
    upstream_report(a, status);
    router_charge(r, status, h);
    r->info->response_code = status;
    r->response_started = true;
    r->keep_body = false;
    buf_release(&r->body);
    response_headers(r, h);
    r->info->code_details = STR("via_upstream");
    if (end) response_end(r);
    http_filter_respond_headers(&r->f, h, end);
    response_passed(r, end);
}

static void on_data(struct upstream_attempt *a, struct buf *data, bool end)
{
    struct router_attempt *ra = attempt_of(a);
    struct router *r = ra->r;
    if (attempt_is_old(ra)) {
        buf_drain(data, buf_len(data));
        return;
    }
    router_timeouts_activity(r);
    if (r->info->up.first_body_us == 0) r->info->up.first_body_us = loop_now_us(r->f.worker->loop);
    if (end) response_end(r);
    http_filter_respond_data(&r->f, data, end);
    response_passed(r, end);
}

static void on_trailers(struct upstream_attempt *a, struct headers *t)
{
    struct router_attempt *ra = attempt_of(a);
    struct router *r = ra->r;
    if (attempt_is_old(ra)) return;
    router_load_metrics(r, a, t);
    response_end(r);
    http_filter_respond_trailers(&r->f, t);
    response_passed(r, true);
}

static void on_metadata(struct upstream_attempt *a, struct buf *block)
{
    struct router_attempt *ra = attempt_of(a);
    if (!attempt_is_old(ra)) http_filter_respond_metadata(&ra->r->f, block);
}

static void on_complete(struct upstream_attempt *a)
{
    attempt_of(a)->live = false;
}

static void on_watermark(struct upstream_attempt *a, bool above)
{
    struct router_attempt *ra = attempt_of(a);
    if (attempt_is_old(ra) || ra->paused_request == above) return;
    ra->paused_request = above;
    http_filter_pause_request(&ra->r->f, above);
}

static const struct upstream_events router_events = {
    .on_ready = on_ready,
    .on_failure = on_failure,
    .on_1xx = on_1xx,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_metadata = on_metadata,
    .on_reset = on_reset,
    .on_complete = on_complete,
    .on_watermark = on_watermark,
};

/* --- starting and stopping
 * ------------------------------------------------------------------------------------------------------------------------
 */
/* Envoy: a cluster may have changed or gone since the last try; the newest one is asked. */
static bool cluster_again(struct router *r)
{
    struct upstream_cluster *now = upstream_find(r->f.worker, r->choice->cluster, r->choice->hash);
    if (!now) return false;
    if (now == r->uc) return true;
    router_retry_release(r);
    upstream_pin(now);
    upstream_unpin(r->f.worker, &r->uc);
    r->uc = now;
    r->info->up.cluster_metadata = upstream_conf(now)->metadata;
    return true;
}

static void attempt_headers(struct router *r)
{
    const struct virtual_host *v = r->route->vhost;
    if (v && v->include_request_attempt_count)
        headers_set_id(r->req, HDR_X_ENVOY_ATTEMPT_COUNT,
                       str_from_u64(r->info->arena, r->attempts));
    if (r->attempts == 1) return;
    if (v && v->include_is_timeout_retry)
        headers_set_id(r->req, HDR_X_ENVOY_IS_TIMEOUT_RETRY,
                       r->timeout_retry ? STR("true") : STR("false"));
    router_timeouts_headers(r);
}

void router_attempt_start(struct router *r)
{
    struct router_attempt *ra = ARENA_NEW(r->info->arena, struct router_attempt);
    r->attempts++;
    r->info->up.attempts = r->attempts;
    if (r->attempts > 1 && !cluster_again(r)) {
        no_host(r);
        return;
    }
    attempt_headers(r);
    if (r->host) router_retry_remember_host(r);
    ra->r = r;
    ra->older = r->cur;
    ra->live = true;
    ra->a.events = &router_events;
    ra->a.owner = r;
    ra->a.arena = r->info->arena;
    ra->a.priority = r->priority;
    r->cur = ra;
    r->timeout_retry = false;
    const struct retry_policy *p = r->retry.policy;
    struct lb_ask ask = {
        .worker = r->f.worker,
        .has_hash = r->has_hash,
        .hash = r->hash,
        .stream = r->info,
        .downstream = r->info->conn,
        .headers = r->req,
        .metadata_match = route_metadata_match(r->route, r->choice),
        .attempt = r->attempts,
    };
    if (p && r->attempts > 1 && (p->previous_hosts || p->omit_canary)) {
        ask.avoid = router_retry_avoid;
        ask.avoid_arg = r;
        ask.tries_left = p->host_selection_attempts ? p->host_selection_attempts : 1;
    }
    if (connect_ends_here(r))
        upstream_start_raw(r->f.worker, r->uc, &ra->a, &ask);
    else
        upstream_start(r->f.worker, r->uc, &ra->a, &ask);
}

void router_attempt_cancel(struct router *r)
{
    for (struct router_attempt *ra = r->cur; ra; ra = ra->older) {
        if (ra->paused_request) http_filter_pause_request(&r->f, false);
        ra->paused_request = false;
        if (!ra->live) continue;
        ra->live = false;
        upstream_cancel(&ra->a);
    }
    router_timeouts_try_over(r);
}
