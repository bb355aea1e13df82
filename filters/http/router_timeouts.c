/* The router's timeouts. Envoy: the route's timeout begins when the request is complete; a try's
 * when it has a connection, too. */
#include "base/arena.h"
#include "filters/http/router.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

bool router_header_ms(const struct headers *h, enum header_id id, uint64_t *us)
{
    uint64_t ms;
    if (!headers_has(h, id) || !str_to_u64(headers_get(h, id), &ms)) return false;
    const uint64_t most = 100ull * 365 * 24 * 3600 * 1000; /* a hundred years: no clock overflows */
    *us = (ms < most ? ms : most) * 1000;
    return true;
}

static uint64_t route_timeout(const struct router *r)
{
    const struct route *t = r->route;
    if (t->has_max_stream_duration || t->has_grpc_timeout_max)
        return 0; /* the connection manager's business then */
    if (!r->is_grpc || !t->has_max_grpc_timeout) return t->timeout_us;
    uint64_t us = 0;
    (void)headers_grpc_timeout(r->req, &us);
    if (t->has_legacy_grpc_offset && t->legacy_grpc_offset_us < us) us -= t->legacy_grpc_offset_us;
    if (t->max_grpc_timeout_us > 0 && (us == 0 || us > t->max_grpc_timeout_us))
        us = t->max_grpc_timeout_us;
    return us;
}

void router_timeouts_find(struct router *r)
{
    struct router_timeouts *t = &r->timeouts;
    struct headers *h = r->req;
    uint64_t us;
    t->global = route_timeout(r);
    if (r->route->retry) {
        t->per_try = r->route->retry->per_try_timeout_us;
        t->per_try_idle = r->route->retry->per_try_idle_timeout_us;
    }
    if (r->conf->respect_expected && router_header_ms(h, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, &us)) {
        t->global = us;
    } else if (headers_has(h, HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_MS)) {
        if (router_header_ms(h, HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_MS, &us)) t->global = us;
        headers_remove_id(h, HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_MS);
    }
    if (router_header_ms(h, HDR_X_ENVOY_UPSTREAM_REQUEST_PER_TRY_TIMEOUT_MS, &us)) t->per_try = us;
    headers_remove_id(h, HDR_X_ENVOY_UPSTREAM_REQUEST_PER_TRY_TIMEOUT_MS);
    if (t->global > 0 && t->per_try >= t->global) t->per_try = 0;
    r->timeout_status =
        headers_has(h, HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_ALT_RESPONSE) ? 204 : 504;
    headers_remove_id(h, HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_ALT_RESPONSE);
}

void router_timeouts_headers(struct router *r)
{
    const struct router_timeouts *t = &r->timeouts;
    uint64_t expected = t->per_try ? t->per_try : t->global;
    if (expected == 0) return;
    if (t->global > 0) {
        uint64_t elapsed = r->request_done && r->attempts > 1
                               ? loop_now_us(r->f.worker->loop) - r->request_done_us
                               : 0;
        uint64_t left =
            elapsed >= t->global ? 1000 : t->global - elapsed; /* 0 would mean no timeout */
        if (left < expected) expected = left;
    }
    uint64_t ms = expected / 1000;
    struct arena *a = r->info->arena;
    bool keep = r->conf->respect_expected && r->attempts <= 1 &&
                headers_has(r->req, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS);
    if (!r->conf->suppress_headers && !keep)
        headers_set_id(r->req, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, str_from_u64(a, ms));
    if (r->is_grpc && r->route->has_max_grpc_timeout && !r->route->has_max_stream_duration)
        headers_set_id(r->req, HDR_GRPC_TIMEOUT, str_fmt(a, "%llum", (unsigned long long)ms));
}

static void global_fire(struct http_filter *f, struct filter_timer *t)
{
    (void)t;
    router_attempt_timeout((struct router *)(void *)f, "response_timeout", false);
}

static void per_try_fire(struct http_filter *f, struct filter_timer *t)
{
    (void)t;
    router_attempt_timeout((struct router *)(void *)f, "upstream_per_try_timeout", true);
}

static void per_try_idle_fire(struct http_filter *f, struct filter_timer *t)
{
    (void)t;
    router_attempt_timeout((struct router *)(void *)f, "upstream_per_try_idle_timeout", true);
}

void router_timeouts_request_done(struct router *r)
{
    if (r->timeouts.global > 0 && !r->finished)
        filter_timer_start(&r->f, &r->global_timer, r->timeouts.global, global_fire);
}

void router_timeouts_try(struct router *r)
{
    if (r->timeouts.per_try > 0 && !r->response_started)
        filter_timer_start(&r->f, &r->per_try_timer, r->timeouts.per_try, per_try_fire);
    router_timeouts_activity(r);
}

void router_timeouts_activity(struct router *r)
{
    if (r->timeouts.per_try_idle == 0 || !r->request_done || r->finished) return;
    filter_timer_start(&r->f, &r->per_try_idle_timer, r->timeouts.per_try_idle, per_try_idle_fire);
}

void router_timeouts_try_over(struct router *r)
{
    filter_timer_stop(&r->per_try_timer);
    filter_timer_stop(&r->per_try_idle_timer);
}

void router_timeouts_stop(struct router *r)
{
    router_timeouts_try_over(r);
    filter_timer_stop(&r->global_timer);
    filter_timer_stop(&r->retry_timer);
}
