/* envoy.filters.http.router: the last filter of every chain. Answers by itself (no route,
 * redirects, direct responses, missing clusters) or sends the request to the route's cluster, with
 * timeouts (router_timeouts.c) and retries (router_retry.c). */
#include "filters/http/router.h"

#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "envoy/extensions/filters/http/router/v3/router.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/tls_info.h"
#include "proxy/config/access_log.h"
#include "proxy/net/socket.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/cluster.h" /* the cluster's names and metadata for the logs */

static const struct stat_def router_stat_defs[ROUTER_STATS] = {
    [ROUTER_NO_CLUSTER] = {"no_cluster", STAT_COUNTER, 0},
    [ROUTER_NO_ROUTE] = {"no_route", STAT_COUNTER, 0},
    [ROUTER_REDIRECT_BAD_LOCATION] = {"passthrough_internal_redirect_bad_location", STAT_COUNTER,
                                      0},
    [ROUTER_REDIRECT_NO_ROUTE] = {"passthrough_internal_redirect_no_route", STAT_COUNTER, 0},
    [ROUTER_REDIRECT_PREDICATE] = {"passthrough_internal_redirect_predicate", STAT_COUNTER, 0},
    [ROUTER_REDIRECT_TOO_MANY] = {"passthrough_internal_redirect_too_many_redirects", STAT_COUNTER,
                                  0},
    [ROUTER_REDIRECT_UNSAFE] = {"passthrough_internal_redirect_unsafe_scheme", STAT_COUNTER, 0},
    [ROUTER_DIRECT_RESPONSE] = {"rq_direct_response", STAT_COUNTER, 0},
    [ROUTER_OVERLOAD_REPLY] = {"rq_overload_local_reply", STAT_COUNTER, 0},
    [ROUTER_REDIRECT] = {"rq_redirect", STAT_COUNTER, 0},
    [ROUTER_RESET_AFTER_RESPONSE] = {"rq_reset_after_downstream_response_started", STAT_COUNTER, 0},
    [ROUTER_TOTAL] = {"rq_total", STAT_COUNTER, 0},
};

/* strict_check_headers; the bit in router_conf.strict is the index. */
static const struct {
    const char *name;
    enum header_id id;
    bool number;
} strict_names[] = {
    {"x-envoy-upstream-rq-timeout-ms", HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_MS, true},
    {"x-envoy-upstream-rq-per-try-timeout-ms", HDR_X_ENVOY_UPSTREAM_REQUEST_PER_TRY_TIMEOUT_MS,
     true},
    {"x-envoy-max-retries", HDR_X_ENVOY_MAX_RETRIES, true},
    {"x-envoy-retry-on", HDR_X_ENVOY_RETRY_ON, false},
    {"x-envoy-retry-grpc-on", HDR_X_ENVOY_RETRY_GRPC_ON, false},
};

/* --- configuration
 * ------------------------------------------------------------------------------------------------------------------------
 */
static void stats_drop(void *ptr)
{
    struct stat_group *g = ptr;
    stat_group_unref(&g);
}

static const void *router_conf_create(const struct conf_at *at, const ProtobufCMessage *msg,
                                      struct str stat_prefix)
{
    const Envoy__Extensions__Filters__Http__Router__V3__Router *m = (const void *)msg;
    struct router_conf *c = ARENA_NEW(conf_arena(at), struct router_conf);
    c->dynamic_stats = !m || !m->dynamic_stats || m->dynamic_stats->value;
    c->stats = stat_group_get(at->cx->rt->stats, stat_prefix, router_stat_defs, ROUTER_STATS);
    arena_on_free(conf_arena(at), stats_drop, c->stats);
    c->local_ip = socket_machine_ip(conf_arena(at));
    if (!m) return c;
    c->suppress_headers = m->suppress_envoy_headers;
    c->respect_expected = m->respect_expected_rq_timeout;
    c->suppress_grpc_codes = m->suppress_grpc_request_failure_code_stats;
    for (size_t i = 0; i < m->n_strict_check_headers; i++) {
        for (size_t k = 0; k < ARRAY_LEN(strict_names); k++) {
            if (str_eq(str_of(m->strict_check_headers[i]), str_of(strict_names[k].name)))
                c->strict |= 1u << k;
        }
    }
    if (m->n_upstream_http_filters > 0) {
        struct conf_at here = conf_field(at, "upstream_http_filters");
        conf_fail(&here, "upstream HTTP filters are not supported");
        return NULL;
    }
    bool ok = true;
    if (m->n_upstream_log > 0)
        c->upstream_log = translate_access_logs(at, "upstream_log", m->n_upstream_log,
                                                (void *)m->upstream_log, &ok);
    return ok ? c : NULL;
}

/* --- answers of our own
 * ---------------------------------------------------------------------------------------------------------------------
 */
static void reply_edit(void *arg, struct headers *h)
{
    struct router *r = arg;
    if (!r->route || r->route->action != ROUTE_FORWARD)
        return; /* the route's header changes were made for every local reply */
    if (r->attempts > 0 && r->route->vhost && r->route->vhost->include_attempt_count_in_response)
        headers_set_id(h, HDR_X_ENVOY_ATTEMPT_COUNT, str_from_u64(r->info->arena, r->attempts));
}

static void reply_edit_overloaded(void *arg, struct headers *h)
{
    const struct router *r = arg;
    if (!r->conf->suppress_headers) headers_set_id(h, HDR_X_ENVOY_OVERLOADED, STR("true"));
    reply_edit(arg, h);
}

void router_reply(struct router *r, uint32_t status, struct str body, struct str details,
                  uint64_t flags, bool overloaded)
{
    r->finished = true;
    router_timeouts_stop(r);
    router_retry_release(r);
    struct local_reply reply = {.status = status,
                                .body = body,
                                .details = details,
                                .grpc_status = -1,
                                .flags = flags,
                                .edit = overloaded ? reply_edit_overloaded : reply_edit,
                                .edit_arg = r};
    http_filter_reply(&r->f, &reply);
}

struct direct_answer {
    struct router *r;
    struct str location, content_type;
};

static void direct_edit(void *arg, struct headers *h)
{
    const struct direct_answer *d = arg;
    if (d->location.len > 0) headers_set_id(h, HDR_LOCATION, d->location);
    route_finalize_response(d->r->route, NULL, h, d->r->info);
    if (d->content_type.len > 0) headers_set_id(h, HDR_CONTENT_TYPE, d->content_type);
}

static void direct_reply(struct router *r, uint32_t status, struct str body,
                         struct direct_answer *d)
{
    r->finished = true;
    d->r = r;
    stat_inc(r->conf->stats, ROUTER_DIRECT_RESPONSE);
    struct local_reply reply = {.status = status,
                                .body = body,
                                .details = STR("direct_response"),
                                .grpc_status = -1,
                                .edit = direct_edit,
                                .edit_arg = d};
    http_filter_reply(&r->f, &reply);
}

/* Routes that need no upstream. False: it is a forwarding one. */
static bool answer_directly(struct router *r)
{
    struct arena *a = r->info->arena;
    struct direct_answer *d = ARENA_NEW(a, struct direct_answer);
    switch (r->route->action) {
    case ROUTE_FORWARD: return false;
    case ROUTE_REDIRECT:
        d->location =
            route_redirect_location(r->route, r->req, r->info, !r->conf->suppress_headers);
        direct_reply(r, r->route->redirect->code, STR_NONE, d);
        return true;
    case ROUTE_DIRECT_RESPONSE: {
        struct str body = route_direct_body(r->route, r->info, a, &d->content_type);
        if (r->route->direct_status == 201 || r->route->direct_status / 100 == 3) {
            d->location =
                route_redirect_location(r->route, r->req, r->info, !r->conf->suppress_headers);
        }
        direct_reply(r, r->route->direct_status, body, d);
        return true;
    }
    case ROUTE_NON_FORWARDING:
    case ROUTE_FILTER_ACTION: break;
    }
    stat_inc(r->conf->stats, ROUTER_NO_ROUTE);
    router_reply(r, 404, STR_NONE, STR("route_not_found"), (uint64_t)1 << RF_NR, false);
    return true;
}

/* --- checks before the first try
 * -------------------------------------------------------------------------------------------------------------
 */
static bool strict_value_bad(size_t k, struct str value)
{
    uint64_t n;
    uint32_t on = 0;
    if (strict_names[k].number) return !str_to_u64(value, &n);
    return strict_names[k].id == HDR_X_ENVOY_RETRY_ON ? !retry_on_parse(value, &on)
                                                      : !retry_grpc_on_parse(value, &on);
}

static bool strict_check(struct router *r)
{
    for (size_t k = 0; k < ARRAY_LEN(strict_names); k++) {
        if (!(r->conf->strict >> k & 1) || !headers_has(r->req, strict_names[k].id)) continue;
        struct str value = headers_get(r->req, strict_names[k].id);
        if (!strict_value_bad(k, value)) continue;
        struct str body = str_fmt(r->info->arena, "invalid header '%s' with value '%.*s'",
                                  strict_names[k].name, STR_ARG(value));
        struct str details = str_fmt(r->info->arena, "request_headers_failed_strict_check{%s}",
                                     strict_names[k].name);
        router_reply(r, 400, body, details, (uint64_t)1 << RF_IH, false);
        return false;
    }
    return true;
}

/* Envoy: what the cluster says goes before what the route does. */
static void choose_policies(struct router *r, const struct upstream_http *http)
{
    const struct route *t = r->route;
    r->retry_policy = http->retry ? http->retry : t->retry;
    r->hashes = http->hash_count ? http->hashes : t->hash;
    r->hash_count = http->hash_count ? http->hash_count : t->hash_count;
    r->mirrors = http->mirror_count ? http->mirrors : t->mirrors;
    r->mirror_count = http->mirror_count ? http->mirror_count : t->mirror_count;
}

static bool find_cluster(struct router *r)
{
    r->choice = http_filter_choice(&r->f);
    r->uc = r->choice->cluster.len ? upstream_find(r->f.worker, r->choice->cluster, r->choice->hash)
                                   : NULL;
    if (!r->uc) {
        stat_inc(r->conf->stats, ROUTER_NO_CLUSTER);
        router_reply(r, r->route->cluster_not_found_code, STR_NONE, STR("cluster_not_found"),
                     (uint64_t)1 << RF_NC, false);
        return false;
    }
    upstream_pin(r->uc);
    const struct cluster *c = upstream_conf(r->uc);
    r->info->up.cluster = c->obj.name;
    r->info->up.cluster_stat = c->stat_name;
    r->info->up.cluster_metadata = c->metadata;
    choose_policies(r, c->http);
    return true;
}

static bool maintenance(struct router *r)
{
    struct str key =
        str_fmt(r->info->arena, "upstream.maintenance_mode.%.*s", STR_ARG(r->info->up.cluster));
    if (!runtime_fraction(r->f.worker, key, 0, 100, rng_next(&r->f.worker->rng))) return false;
    stat_inc(upstream_stats(r->uc), CLUSTER_STAT_UPSTREAM_RQ_MAINTENANCE_MODE);
    router_charge(r, 503, NULL);
    router_reply(r, 503, STR("maintenance mode"), STR("maintenance_mode"), (uint64_t)1 << RF_UO,
                 true);
    return true;
}

static void reply_edit_dropped(void *arg, struct headers *h)
{
    struct router *r = arg;
    bool all = stream_info_has_flag(r->info, RF_UDO);
    if (!r->conf->suppress_headers)
        headers_set(h,
                    all ? STR("x-envoy-unconditional-drop-overload") : STR("x-envoy-drop-overload"),
                    STR("true"));
    reply_edit(arg, h);
}

/* Envoy: drop_overloads of the endpoints. */
static bool dropped(struct router *r)
{
    enum upstream_drop drop = upstream_drop(r->uc);
    if (drop == UPSTREAM_DROP_NO) return false;
    bool all = drop == UPSTREAM_DROP_ALL;
    r->finished = true;
    router_charge(r, 503, NULL);
    struct local_reply reply = {
        .status = 503,
        .grpc_status = -1,
        .edit = reply_edit_dropped,
        .edit_arg = r,
        .body = all ? STR("unconditional drop overload") : STR("drop overload"),
        .details = all ? STR("unconditional_drop_overload") : STR("drop_overload"),
        .flags = (uint64_t)1 << (all ? RF_UDO : RF_DO)};
    http_filter_reply(&r->f, &reply);
    return true;
}

static void prepare(struct router *r)
{
    struct headers *h = r->req;
    r->priority = r->route->high_priority ? UPSTREAM_HIGH : UPSTREAM_DEFAULT;
    r->is_grpc = headers_is_grpc(h);
    r->alt_stat = str_dup(r->info->arena, headers_get(h, HDR_X_ENVOY_UPSTREAM_ALT_STAT_NAME));
    headers_remove_id(h, HDR_X_ENVOY_UPSTREAM_ALT_STAT_NAME);
    router_timeouts_find(r);
    router_timeouts_headers(r);
    router_retry_init(r);
    r->keep_body = r->retry.on != 0;
    r->has_hash = r->hash_count > 0 && route_hash(r->hashes, r->hash_count, h, r->info,
                                                  r->info->arena, &r->hash, &r->set_cookie);
    route_finalize_request(r->route, r->choice, h, r->info, !r->conf->suppress_headers);
}

static void request_done(struct router *r)
{
    r->request_done = true;
    r->request_done_us = loop_now_us(r->f.worker->loop);
}

static enum http_flow router_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct router *r = (struct router *)(void *)f;
    r->conf = f->conf;
    r->info = http_filter_info(f);
    r->req = h;
    stat_inc(r->conf->stats, ROUTER_TOTAL);
    r->route = http_filter_route(f);
    if (!r->route) {
        stat_inc(r->conf->stats, ROUTER_NO_ROUTE);
        router_reply(r, 404, STR_NONE, STR("route_not_found"), (uint64_t)1 << RF_NR, false);
        return HTTP_HOLD;
    }
    if (answer_directly(r) || !find_cluster(r)) return HTTP_HOLD;
    if (r->route->vhost && r->route->vhost->virtual_cluster_count > 0) {
        r->vcluster = route_virtual_cluster(r->route->vhost, h, r->info->arena);
        r->info->virtual_cluster =
            r->vcluster; /* Envoy: the rest has a statistic of its own but no name */
        if (r->vcluster.len == 0) r->vcluster = STR("other");
    }
    if (!strict_check(r) || maintenance(r) || dropped(r)) return HTTP_HOLD;
    prepare(r);
    r->head_only = end;
    if (end) request_done(r);
    if (end) router_mirror(r);
    router_attempt_start(r);
    if (end) router_timeouts_request_done(r);
    return HTTP_HOLD;
}

/* Envoy: a request that outgrows the buffer is not retried (nor mirrored) any more. */
static void abandon_retries(struct router *r)
{
    stat_inc(upstream_stats(r->uc), CLUSTER_STAT_RETRY_OR_SHADOW_ABANDONED);
    r->mirrors_off = true;
    buf_release(&r->mirror_body);
    r->keep_body = false;
    r->retry.on = 0;
    if (r->cur && r->cur->ready) buf_release(&r->body);
}

static void mirror_keep(struct router *r, const struct buf *data)
{
    if (r->mirror_body.len + data->len > http_filter_buffer_limit(&r->f))
        abandon_retries(r);
    else
        buf_share(&r->mirror_body, data);
}

static enum http_flow router_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct router *r = (struct router *)(void *)f;
    if (!r->uc || r->finished) {
        buf_drain(data, buf_len(data));
        return HTTP_TAKEN;
    }
    if (end) request_done(r);
    if (r->keep_body && r->body.len + data->len > http_filter_buffer_limit(f)) abandon_retries(r);
    if (r->mirror_count > 0 && !r->mirrors_off) mirror_keep(r, data);
    if (end) router_mirror(r);
    struct router_attempt *ra = r->cur;
    bool send = ra && ra->ready && ra->live;
    if (send && r->keep_body) buf_share(&r->body, data);
    if (send) {
        upstream_send_data(&ra->a, data, end);
        if (end) r->info->up.last_tx_us = loop_now_us(f->worker->loop);
    } else {
        buf_move(&r->body, data);
        router_attempt_send(r);
    }
    if (end && !r->finished) {
        router_timeouts_request_done(r);
        if (send && ra->live) router_timeouts_try(r);
    }
    return HTTP_TAKEN;
}

static enum http_flow router_decode_trailers(struct http_filter *f, struct headers *t)
{
    struct router *r = (struct router *)(void *)f;
    if (!r->uc || r->finished) return HTTP_HOLD_ALL;
    request_done(r);
    r->trailers = t;
    router_mirror(r);
    struct router_attempt *ra = r->cur;
    bool send = ra && ra->ready && ra->live;
    if (send) upstream_send_trailers(&ra->a, t);
    if (!r->finished) {
        router_timeouts_request_done(r);
        if (send && ra->live) router_timeouts_try(r);
    }
    return HTTP_HOLD_ALL;
}

static void router_decode_metadata(struct http_filter *f, struct buf *block)
{
    struct router *r = (struct router *)(void *)f;
    struct router_attempt *ra = r->cur;
    if (!r->uc || r->finished)
        buf_release(block);
    else if (ra && ra->ready && ra->live)
        upstream_send_metadata(&ra->a, block);
    else
        buf_move(&r->metadata, block);
}

static void router_on_watermark(struct http_filter *f, enum http_dir dir, bool above)
{
    struct router *r = (struct router *)(void *)f;
    if (dir != HTTP_DECODE) return;
    if (!above && r->downstream_above == 0) return;
    r->downstream_above += above ? 1u : (uint32_t)-1;
    if (r->cur && r->cur->live && r->cur->ready) upstream_pause(&r->cur->a, above);
}

static void router_destroy(struct http_filter *f)
{
    struct router *r = (struct router *)(void *)f;
    if (!r->conf) return;
    r->finished = true;
    router_attempt_cancel(r);
    router_timeouts_stop(r);
    if (r->uc) router_retry_release(r);
    buf_release(&r->body);
    buf_release(&r->mirror_body);
    buf_release(&r->metadata);
    for (size_t i = 0; i < r->tried_count; i++) {
        struct host *h = (struct host *)(uintptr_t)r->tried[i];
        host_unref(&h);
    }
    host_unref(&r->host);
    tls_info_unref(&r->tls);
    upstream_unpin(f->worker, &r->uc);
}

static void router_log(struct http_filter *f)
{
    struct router *r = (struct router *)(void *)f;
    if (r->conf && r->conf->upstream_log && r->attempts > 0)
        access_log_run(f->worker, r->conf->upstream_log, r->info, ACCESS_LOG_TYPE_UPSTREAM_END);
}

const struct http_filter_type router_filter = {
    .ext = {.name = "envoy.filters.http.router",
            .config = &envoy__extensions__filters__http__router__v3__router__descriptor},
    .instance_size = sizeof(struct router),
    .terminal = true,
    .conf_create = router_conf_create,
    .decode_headers = router_decode_headers,
    .decode_data = router_decode_data,
    .decode_trailers = router_decode_trailers,
    .decode_metadata = router_decode_metadata,
    .on_watermark = router_on_watermark,
    .log = router_log,
    .destroy = router_destroy,
};
