/* envoy.filters.http.fault: delays requests and answers them with errors, for a fraction of those
 * that fit, or as their headers ask. */
#include <stdatomic.h>

#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "envoy/extensions/filters/common/fault/v3/fault.pb-c.h"
#include "envoy/extensions/filters/http/fault/v3/fault.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "filters/common/stats.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/runtime/values.h"

enum fault_stat {
    FAULT_DELAYS,
    FAULT_ABORTS,
    FAULT_OVERFLOW,
    FAULT_RATE_LIMITED,
    FAULT_ACTIVE,
    FAULT_STATS
};
static const struct stat_def fault_defs[FAULT_STATS] = {
    [FAULT_DELAYS] = {"delays_injected", STAT_COUNTER, 0},
    [FAULT_ABORTS] = {"aborts_injected", STAT_COUNTER, 0},
    [FAULT_OVERFLOW] = {"faults_overflow", STAT_COUNTER, 0},
    [FAULT_RATE_LIMITED] = {"response_rl_injected", STAT_COUNTER, 0},
    [FAULT_ACTIVE] = {"active_faults", STAT_GAUGE, 0},
};

enum fault_by { FAULT_NONE, FAULT_FIXED, FAULT_GRPC, FAULT_BY_HEADER };
struct fault_chance {
    uint32_t numerator, denominator;
    struct str key;
};
struct fault_conf {
    enum fault_by delay, abort;
    struct fault_chance delay_chance, abort_chance;
    uint64_t delay_ms, most_active;
    uint32_t abort_code;
    struct str delay_key, status_key, grpc_key, most_key;
    struct str upstream_cluster;
    const struct header_matcher *headers;
    size_t header_count;
    const struct str *nodes;
    size_t node_count;
};
/* Of the filter: statistics, and the faults under way in all workers. */
struct fault_filter_conf {
    struct fault_conf base;
    struct stat_group *stats;
    _Atomic uint64_t
        *active; /* written by all workers, relaxed: max_active_faults is a rough limit */
};
struct fault {
    struct http_filter base;
    struct filter_timer timer;
    bool active;
};

/* --- configuration
 * -------------------------------------------------------------------------------------------------------------
 */

static struct str key_or(struct arena *a, const char *key, struct str fallback)
{
    return key[0] ? str_dup(a, str_of(key)) : fallback;
}

static struct fault_chance chance_of(struct arena *a, const Envoy__Type__V3__FractionalPercent *p,
                                     const char *key, struct str fallback)
{
    struct fault_chance c = {.denominator = 100, .key = key_or(a, key, fallback)};
    if (!p) return c;
    c.numerator = p->numerator;
    c.denominator = conf_percent_denominator(p);
    return c;
}

static bool fault_delay_conf(const struct conf_at *at,
                             const Envoy__Extensions__Filters__Http__Fault__V3__HTTPFault *m,
                             struct fault_conf *c)
{
    const Envoy__Extensions__Filters__Common__Fault__V3__FaultDelay *d = m->delay;
    if (!d) return true;
    c->delay_chance = chance_of(conf_arena(at), d->percentage, m->delay_percent_runtime,
                                STR("fault.http.delay.fixed_delay_percent"));
    if (d->fault_delay_secifier_case ==
        ENVOY__EXTENSIONS__FILTERS__COMMON__FAULT__V3__FAULT_DELAY__FAULT_DELAY_SECIFIER_HEADER_DELAY) {
        c->delay = FAULT_BY_HEADER;
        return true;
    }
    struct conf_at delay = conf_field(at, "delay"), here = conf_field(&delay, "fixed_delay");
    uint64_t us = 0;
    c->delay = FAULT_FIXED;
    if (!conf_duration(&here, d->fixed_delay, 0, &us)) return false;
    c->delay_ms = us / 1000;
    return true;
}

static void fault_abort_conf(struct arena *a,
                             const Envoy__Extensions__Filters__Http__Fault__V3__HTTPFault *m,
                             struct fault_conf *c)
{
    const Envoy__Extensions__Filters__Http__Fault__V3__FaultAbort *x = m->abort;
    if (!x) return;
    c->abort_chance = chance_of(a, x->percentage, m->abort_percent_runtime,
                                STR("fault.http.abort.abort_percent"));
    switch ((int)x->error_type_case) {
    case ENVOY__EXTENSIONS__FILTERS__HTTP__FAULT__V3__FAULT_ABORT__ERROR_TYPE_HTTP_STATUS:
        c->abort = FAULT_FIXED;
        c->abort_code = x->http_status;
        return;
    case ENVOY__EXTENSIONS__FILTERS__HTTP__FAULT__V3__FAULT_ABORT__ERROR_TYPE_GRPC_STATUS:
        c->abort = FAULT_GRPC;
        c->abort_code = x->grpc_status;
        return;
    default: c->abort = FAULT_BY_HEADER; return;
    }
}

static bool fault_conf_fill(const struct conf_at *at, const struct ProtobufCMessage *msg,
                            struct fault_conf *c)
{
    const Envoy__Extensions__Filters__Http__Fault__V3__HTTPFault *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    bool headers_ok, ok = fault_delay_conf(at, m, c);
    fault_abort_conf(a, m, c);
    c->delay_key = key_or(a, m->delay_duration_runtime, STR("fault.http.delay.fixed_duration_ms"));
    c->status_key = key_or(a, m->abort_http_status_runtime, STR("fault.http.abort.http_status"));
    c->grpc_key = key_or(a, m->abort_grpc_status_runtime, STR("fault.http.abort.grpc_status"));
    c->most_key = key_or(a, m->max_active_faults_runtime, STR("fault.http.max_active_faults"));
    c->most_active = m->max_active_faults ? m->max_active_faults->value : UINT64_MAX;
    c->upstream_cluster = str_dup(a, str_of(m->upstream_cluster));
    c->headers = conf_header_matchers(at, "headers", m->n_headers, m->headers, &headers_ok);
    c->header_count = c->headers ? m->n_headers : 0;
    struct str *nodes = ARENA_ARRAY(a, struct str, m->n_downstream_nodes);
    for (size_t i = 0; i < m->n_downstream_nodes; i++)
        nodes[i] = str_dup(a, str_of(m->downstream_nodes[i]));
    c->nodes = nodes;
    c->node_count = m->n_downstream_nodes;
    return ok && headers_ok;
}

static const void *fault_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                     struct str stat_prefix)
{
    struct arena *a = conf_arena(at);
    struct fault_filter_conf *c = ARENA_NEW(a, struct fault_filter_conf);
    c->active = ARENA_NEW(a, _Atomic uint64_t);
    c->stats = conf_stat_group(at, str_cat(a, stat_prefix, STR("fault.")), fault_defs, FAULT_STATS);
    return fault_conf_fill(at, msg, &c->base) ? c : NULL;
}

static const void *fault_route_conf_create(const struct conf_at *at,
                                           const struct ProtobufCMessage *msg)
{
    struct fault_conf *c = ARENA_NEW(conf_arena(at), struct fault_conf);
    return fault_conf_fill(at, msg, c) ? c : NULL;
}

/* --- a request
 * ------------------------------------------------------------------------------------------------------------------
 */

static const struct fault_filter_conf *filter_conf(const struct fault *me)
{
    return me->base.conf;
}

static const struct fault_conf *fault_conf_of(const struct fault *me)
{
    return me->base.route_conf ? me->base.route_conf : &filter_conf(me)->base;
}

static bool fault_applies(struct fault *me, const struct headers *h)
{
    const struct fault_conf *c = fault_conf_of(me);
    if (c->upstream_cluster.len && !str_eq(c->upstream_cluster, http_filter_cluster(&me->base)))
        return false;
    if (c->node_count) {
        struct str node = headers_get(h, HDR_X_ENVOY_DOWNSTREAM_SERVICE_NODE);
        bool listed = false;
        for (size_t i = 0; i < c->node_count && !listed; i++)
            listed = node.ptr && str_eq(node, c->nodes[i]);
        if (!listed) return false;
    }
    return header_match_all(c->headers, c->header_count, h, http_filter_arena(&me->base));
}

/* A header may lower the numerator of the configured chance, never raise it. */
static bool chance_hits(struct fault *me, const struct fault_chance *chance,
                        const struct headers *h, struct str percent_header)
{
    uint32_t numerator = chance->numerator;
    uint64_t asked;
    if (percent_header.len && str_to_u64(headers_find(h, percent_header), &asked) &&
        asked < numerator)
        numerator = (uint32_t)asked;
    struct worker *w = me->base.worker;
    return runtime_fraction(w, chance->key, numerator, chance->denominator, rng_next(&w->rng));
}

/* Too many at once: none more. */
static bool fault_room(struct fault *me)
{
    const struct fault_filter_conf *c = filter_conf(me);
    uint64_t most =
        runtime_u64(me->base.worker, fault_conf_of(me)->most_key, fault_conf_of(me)->most_active);
    if (atomic_load_explicit(c->active, memory_order_relaxed) < most) return true;
    stat_inc(c->stats, FAULT_OVERFLOW);
    return false;
}

static void fault_begin(struct fault *me)
{
    if (me->active) return;
    me->active = true;
    (void)atomic_fetch_add_explicit(filter_conf(me)->active, 1, memory_order_relaxed);
    stat_inc(filter_conf(me)->stats, FAULT_ACTIVE);
}

static uint64_t fault_delay_ms(struct fault *me, const struct headers *h)
{
    const struct fault_conf *c = fault_conf_of(me);
    uint64_t ms = 0;
    if (c->delay == FAULT_NONE) return 0;
    if (c->delay == FAULT_BY_HEADER) {
        if (!str_to_u64(headers_find(h, STR("x-envoy-fault-delay-request")), &ms)) return 0;
        return chance_hits(me, &c->delay_chance, h, STR("x-envoy-fault-delay-request-percentage"))
                   ? ms
                   : 0;
    }
    if (!chance_hits(me, &c->delay_chance, h, STR_NONE)) return 0;
    return runtime_u64(me->base.worker, c->delay_key, c->delay_ms);
}

/* What the request is to be answered with: *grpc >= 0 or *status; false: nothing. */
static bool fault_abort_code(struct fault *me, const struct headers *h, uint32_t *status, int *grpc)
{
    const struct fault_conf *c = fault_conf_of(me);
    struct worker *w = me->base.worker;
    uint64_t n;
    struct str percent = STR_NONE;
    *grpc = -1;
    *status = 200;
    switch (c->abort) {
    case FAULT_NONE: return false;
    case FAULT_FIXED:
        n = runtime_u64(w, c->status_key, c->abort_code);
        if (n < 200 || n > 599) return false;
        *status = (uint32_t)n;
        break;
    case FAULT_GRPC:
        n = runtime_u64(w, c->grpc_key, c->abort_code);
        if (n > INT32_MAX) return false;
        *grpc = (int)n;
        break;
    case FAULT_BY_HEADER:
        percent = STR("x-envoy-fault-abort-request-percentage");
        if (str_to_u64(headers_find(h, STR("x-envoy-fault-abort-request")), &n) && n >= 200 &&
            n < 600)
            *status = (uint32_t)n;
        else if (str_to_u64(headers_find(h, STR("x-envoy-fault-abort-grpc-request")), &n) &&
                 n <= INT32_MAX)
            *grpc = (int)n;
        else
            return false;
        break;
    }
    return chance_hits(me, &c->abort_chance, h, percent);
}

static bool fault_abort(struct fault *me, const struct headers *h)
{
    uint32_t status;
    int grpc;
    if (!fault_abort_code(me, h, &status, &grpc)) return false;
    fault_begin(me);
    stat_inc(filter_conf(me)->stats, FAULT_ABORTS);
    struct local_reply reply = {.status = status,
                                .body = STR("fault filter abort"),
                                .details = STR("fault_filter_abort"),
                                .grpc_status = grpc,
                                .flags = (uint64_t)1 << RF_FI};
    http_filter_reply(&me->base, &reply);
    return true;
}

static void fault_delay_over(struct http_filter *f, struct filter_timer *t)
{
    (void)t;
    struct fault *me = CONTAINER_OF(f, struct fault, base);
    if (!fault_abort(me, http_filter_info(f)->req)) http_filter_resume(f, HTTP_DECODE);
}

static enum http_flow fault_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    struct fault *me = CONTAINER_OF(f, struct fault, base);
    (void)http_filter_route(f); /* route_conf is that of the route from here on */
    if (!fault_applies(me, h) || !fault_room(me)) return HTTP_CONTINUE;
    uint64_t ms = fault_delay_ms(me, h);
    if (!ms) return fault_abort(me, h) ? HTTP_HOLD_ALL : HTTP_CONTINUE;
    fault_begin(me);
    stat_inc(filter_conf(me)->stats, FAULT_DELAYS);
    stream_info_flag(http_filter_info(f), RF_DI);
    filter_timer_start(f, &me->timer, ms * 1000, fault_delay_over);
    return HTTP_HOLD_ALL;
}

static void fault_destroy(struct http_filter *f)
{
    struct fault *me = CONTAINER_OF(f, struct fault, base);
    filter_timer_stop(&me->timer);
    if (!me->active) return;
    (void)atomic_fetch_sub_explicit(filter_conf(me)->active, 1, memory_order_relaxed);
    stat_dec(filter_conf(me)->stats, FAULT_ACTIVE);
}

const struct http_filter_type http_fault = {
    .ext = {.name = "envoy.filters.http.fault",
            .config = &envoy__extensions__filters__http__fault__v3__httpfault__descriptor},
    .route_config = &envoy__extensions__filters__http__fault__v3__httpfault__descriptor,
    .instance_size = sizeof(struct fault),
    .conf_create = fault_conf_create,
    .route_conf_create = fault_route_conf_create,
    .decode_headers = fault_decode_headers,
    .destroy = fault_destroy,
};
