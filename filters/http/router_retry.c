/* When a try failed: does the policy (the route's and the request's x-envoy-retry-* headers) want
 * another, may it, and when. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "filters/http/router.h"
#include "proxy/api/matcher.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"
#include "proxy/stats/stats.h"

enum { BACKOFF_BASE_MS = 25, BACKOFF_FACTOR = 10 };

static void codes_parse(struct router *r, struct str list)
{
    struct str token;
    r->retry.codes = ARENA_ARRAY(r->info->arena, uint32_t, list.len / 2 + 1);
    while (str_next(&list, ',', &token)) {
        uint32_t code;
        if (str_to_u32(str_trim(token), &code)) r->retry.codes[r->retry.code_count++] = code;
    }
}

static void names_parse(struct router *r, struct str list)
{
    struct str token;
    r->retry.header_names = ARENA_ARRAY(r->info->arena, struct str, list.len / 2 + 1);
    while (str_next(&list, ',', &token)) {
        token = str_trim(token);
        if (token.len > 0)
            r->retry.header_names[r->retry.header_name_count++] =
                str_dup_lower(r->info->arena, token);
    }
}

static void headers_consume(struct headers *h)
{
    static const enum header_id ids[] = {
        HDR_X_ENVOY_RETRY_ON,
        HDR_X_ENVOY_RETRY_GRPC_ON,
        HDR_X_ENVOY_MAX_RETRIES,
        HDR_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT,
        HDR_X_ENVOY_RETRIABLE_HEADER_NAMES,
        HDR_X_ENVOY_RETRIABLE_STATUS_CODES,
    };
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        headers_remove_id(h, ids[i]);
}

static void backoff_init(struct router *r, const struct retry_policy *p)
{
    uint64_t base = p && p->backoff_base_us ? p->backoff_base_us : 0;
    if (base == 0)
        base =
            runtime_u64(r->f.worker, STR("upstream.base_retry_backoff_ms"), BACKOFF_BASE_MS) * 1000;
    if (base < 1000) base = 1000;
    r->retry.backoff_next = base;
    r->retry.backoff_max = p && p->backoff_max_us ? p->backoff_max_us : base * BACKOFF_FACTOR;
}

void router_retry_init(struct router *r)
{
    const struct retry_policy *p = r->retry_policy;
    struct router_retry *t = &r->retry;
    struct headers *h = r->req;
    t->policy = p;
    t->on = p ? p->on : 0;
    t->left = p ? p->num_retries : 1;
    uint32_t more = 0;
    (void)retry_on_parse(headers_get(h, HDR_X_ENVOY_RETRY_ON), &more);
    t->on |= more;
    more = 0;
    (void)retry_grpc_on_parse(headers_get(h, HDR_X_ENVOY_RETRY_GRPC_ON), &more);
    t->on |= more;
    uint64_t most;
    if (t->on && str_to_u64(headers_get(h, HDR_X_ENVOY_MAX_RETRIES), &most)) t->left = most;
    if (t->on && headers_has(h, HDR_X_ENVOY_RETRIABLE_STATUS_CODES))
        codes_parse(r, headers_get(h, HDR_X_ENVOY_RETRIABLE_STATUS_CODES));
    if (t->on && headers_has(h, HDR_X_ENVOY_RETRIABLE_HEADER_NAMES))
        names_parse(r, headers_get(h, HDR_X_ENVOY_RETRIABLE_HEADER_NAMES));
    headers_consume(h);
    if (p && p->retriable_request_header_count > 0 &&
        !header_match_any(p->retriable_request_headers, p->retriable_request_header_count, h,
                          r->info->arena))
        t->on = 0;
    backoff_init(r, p);
}

/* --- conditions
 * --------------------------------------------------------------------------------------------------------------------------
 */
static bool status_listed(const struct router_retry *t, uint32_t status)
{
    for (size_t i = 0; t->policy && i < t->policy->status_code_count; i++) {
        if (t->policy->status_codes[i] == status) return true;
    }
    for (size_t i = 0; i < t->code_count; i++) {
        if (t->codes[i] == status) return true;
    }
    return false;
}

static bool header_listed(struct router *r, const struct headers *resp)
{
    const struct router_retry *t = &r->retry;
    const struct retry_policy *p = t->policy;
    if (p && p->retriable_header_count > 0 &&
        header_match_any(p->retriable_headers, p->retriable_header_count, resp, r->info->arena))
        return true;
    for (size_t i = 0; i < t->header_name_count; i++) {
        if (headers_find(resp, t->header_names[i]).ptr) return true;
    }
    return false;
}

static bool grpc_wants(uint32_t on, const struct headers *resp)
{
    enum {
        GRPC_CANCELLED = 1,
        GRPC_DEADLINE = 4,
        GRPC_EXHAUSTED = 8,
        GRPC_INTERNAL = 13,
        GRPC_UNAVAILABLE = 14
    };
    uint32_t status;
    if (!str_to_u32(headers_get(resp, HDR_GRPC_STATUS), &status)) return false;
    switch (status) {
    case GRPC_CANCELLED: return on & RETRY_GRPC_CANCELLED;
    case GRPC_DEADLINE: return on & RETRY_GRPC_DEADLINE_EXCEEDED;
    case GRPC_EXHAUSTED: return on & RETRY_GRPC_RESOURCE_EXHAUSTED;
    case GRPC_INTERNAL: return on & RETRY_GRPC_INTERNAL;
    case GRPC_UNAVAILABLE: return on & RETRY_GRPC_UNAVAILABLE;
    default: return false;
    }
}

enum retry_verdict router_retry_by_headers(struct router *r, const struct headers *resp)
{
    uint32_t on = r->retry.on, status = headers_status(resp);
    if (!on) return RETRY_NO;
    /* Envoy: a rate limited answer is final unless the policy asks for it. */
    if (headers_has(resp, HDR_X_ENVOY_RATELIMITED))
        return on & RETRY_ENVOY_RATELIMITED ? RETRY_LATER : RETRY_NO;
    if ((on & RETRY_5XX) && status >= 500 && status < 600) return RETRY_LATER;
    if ((on & RETRY_GATEWAY_ERROR) && status >= 502 && status <= 504) return RETRY_LATER;
    if ((on & RETRY_RETRIABLE_4XX) && status == 409) return RETRY_LATER;
    if ((on & RETRY_RETRIABLE_STATUS_CODES) && status_listed(&r->retry, status)) return RETRY_LATER;
    if ((on & RETRY_RETRIABLE_HEADERS) && header_listed(r, resp)) return RETRY_LATER;
    return grpc_wants(on, resp) ? RETRY_LATER : RETRY_NO;
}

enum retry_verdict router_retry_by_reset(struct router *r, enum stream_reset why,
                                         bool request_started)
{
    uint32_t on = r->retry.on;
    if (!on || why == RESET_OVERFLOW) return RETRY_NO;
    bool connect = why == RESET_CONNECT_FAILURE || why == RESET_CONNECT_TIMEOUT;
    if (on & RETRY_RESET) return RETRY_LATER;
    if ((on & RETRY_RESET_BEFORE_REQUEST) && !request_started) return RETRY_LATER;
    if (on & (RETRY_5XX | RETRY_GATEWAY_ERROR)) return RETRY_LATER;
    if ((on & RETRY_CONNECT_FAILURE) && connect) return RETRY_LATER;
    if ((on & RETRY_REFUSED_STREAM) && why == RESET_REMOTE_REFUSED) return RETRY_LATER;
    return RETRY_NO;
}

/* --- doing it
 * ----------------------------------------------------------------------------------------------------------------------------
 */
void router_retry_release(struct router *r)
{
    if (!r->retry.armed) return;
    r->retry.armed = false;
    upstream_retry_give(r->uc, r->priority);
}

/* Envoy: full jitter, the window doubles up to its maximum. */
static uint64_t backoff_us(struct router *r)
{
    struct router_retry *t = &r->retry;
    uint64_t ms = t->backoff_next / 1000;
    uint64_t delay = rng_below(&r->f.worker->rng, ms ? ms : 1) * 1000;
    t->backoff_next = t->backoff_next * 2 < t->backoff_max ? t->backoff_next * 2 : t->backoff_max;
    return delay;
}

/* rate_limited_retry_back_off: the first of the named headers that says when, if that is not too
 * far. */
static bool reset_header_us(struct router *r, const struct headers *resp, uint64_t *delay)
{
    const struct retry_policy *p = r->retry.policy;
    for (size_t i = 0; p && resp && i < p->reset_header_count; i++) {
        struct str v = headers_find(resp, p->reset_headers[i].name);
        uint64_t n, now = loop_wall_us(r->f.worker->loop) / 1000000;
        if (!v.ptr || !str_to_u64(str_trim(v), &n) || n > UINT64_MAX / 1000000) continue;
        if (!p->reset_headers[i].seconds) {
            if (n < now) continue;
            n -= now;
        }
        if (n * 1000000 > p->reset_max_us) continue;
        *delay = n * 1000000;
        return true;
    }
    return false;
}

static void retry_fire(struct http_filter *f, struct filter_timer *t)
{
    (void)t;
    router_attempt_start((struct router *)(void *)f);
}

static void count(struct router *r, enum cluster_stat which, enum router_named named)
{
    stat_inc(upstream_stats(r->uc), which);
    router_named_count(r, named);
}

enum retry_result router_retry_take(struct router *r, enum retry_verdict v,
                                    const struct headers *resp)
{
    struct router_retry *t = &r->retry;
    struct stat_group *g = upstream_stats(r->uc);
    if (v == RETRY_NO) {
        if (t->armed && resp)
            count(r, CLUSTER_STAT_UPSTREAM_RQ_RETRY_SUCCESS, ROUTER_NAMED_RETRY_SUCCESS);
        router_retry_release(r);
        return RETRY_RESULT_NO;
    }
    router_retry_release(r);
    if (t->left == 0) {
        count(r, CLUSTER_STAT_UPSTREAM_RQ_RETRY_LIMIT_EXCEEDED, ROUTER_NAMED_LIMIT_EXCEEDED);
        return RETRY_RESULT_EXCEEDED;
    }
    t->left--;
    if (!upstream_retry_take(r->uc, r->priority)) {
        router_named_count(r, ROUTER_NAMED_OVERFLOW);
        return RETRY_RESULT_OVERFLOW;
    }
    t->armed = true;
    if (!runtime_fraction(r->f.worker, STR("upstream.use_retry"), 100, 100,
                          rng_next(&r->f.worker->rng))) {
        router_retry_release(r);
        return RETRY_RESULT_NO;
    }
    count(r, CLUSTER_STAT_UPSTREAM_RQ_RETRY, ROUTER_NAMED_RETRY);
    uint64_t delay;
    if (reset_header_us(r, resp, &delay)) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_RETRY_BACKOFF_RATELIMITED);
    } else {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_RETRY_BACKOFF_EXPONENTIAL);
        delay = backoff_us(r);
    }
    filter_timer_start(&r->f, &r->retry_timer, delay, retry_fire);
    return RETRY_RESULT_YES;
}

/* --- host predicates
 * ------------------------------------------------------------------------------------------------------------------------
 */
void router_retry_remember_host(struct router *r)
{
    enum { HOSTS_MOST = 64 };
    if (!r->retry.policy || !r->retry.policy->previous_hosts || r->tried_count == HOSTS_MOST)
        return;
    if (!r->tried) r->tried = ARENA_ARRAY(r->info->arena, const struct host *, HOSTS_MOST);
    r->tried[r->tried_count++] = host_ref(r->host);
}

bool router_retry_avoid(const struct lb_ask *ask, const struct host *h)
{
    const struct router *r = ask->avoid_arg;
    const struct retry_policy *p = r->retry.policy;
    if (p->omit_canary && host_canary(h)) return true;
    for (size_t i = 0; i < r->tried_count; i++) {
        if (r->tried[i] == h) return true;
    }
    return false;
}
