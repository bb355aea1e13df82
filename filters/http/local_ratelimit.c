/* envoy.filters.http.local_ratelimit: answers requests above a rate; the tokens are shared by the
 * workers. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.pb-c.h"
#include "envoy/type/v3/http_status.pb-c.h"
#include "envoy/type/v3/token_bucket.pb-c.h"
#include "filters/common/stats.h"
#include "filters/common/token_bucket.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/runtime/values.h"

enum { FILL_LEAST_US = 50 * 1000, GRPC_RESOURCE_EXHAUSTED = 8 };
enum limit_stat { LIMIT_ENABLED, LIMIT_ENFORCED, LIMIT_LIMITED, LIMIT_OK, LIMIT_STATS };
static const struct stat_def limit_defs[LIMIT_STATS] = {
    [LIMIT_ENABLED] = {"enabled", STAT_COUNTER, 0},
    [LIMIT_ENFORCED] = {"enforced", STAT_COUNTER, 0},
    [LIMIT_LIMITED] = {"rate_limited", STAT_COUNTER, 0},
    [LIMIT_OK] = {"ok", STAT_COUNTER, 0},
};
struct limit_conf {
    struct token_bucket
        *bucket; /* shared by the workers; the one thing here that changes. NULL: no limit */
    uint32_t status;
    bool resource_exhausted;
    struct conf_fraction enabled, enforced;
    const struct header_change *not_enforced, *response;
    struct stat_group *stats;
};

/* Envoy: without a fraction the filter is off. */
static struct conf_fraction fraction_or_never(
    const struct conf_at *at, const struct Envoy__Config__Core__V3__RuntimeFractionalPercent *m)
{
    return m ? conf_runtime_fraction(at, m) : (struct conf_fraction){.denominator = 100};
}

static bool limit_bucket(const struct conf_at *at, const Envoy__Type__V3__TokenBucket *b,
                         struct limit_conf *c)
{
    struct conf_at outer = conf_field(at, "token_bucket"),
                   field = conf_field(&outer, "fill_interval");
    uint64_t interval_us = 0;
    if (!b) return true;
    if (!conf_duration(&field, b->fill_interval, 0, &interval_us)) return false;
    if (interval_us < FILL_LEAST_US)
        return conf_fail(&field, "local rate limit token bucket fill timer must be >= 50ms");
    c->bucket = ARENA_NEW(conf_arena(at), struct token_bucket);
    token_bucket_init(c->bucket, b->max_tokens, b->tokens_per_fill ? b->tokens_per_fill->value : 1,
                      interval_us);
    return true;
}

static const void *limit_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                bool per_route)
{
    const Envoy__Extensions__Filters__Http__LocalRatelimit__V3__LocalRateLimit *m =
        (const void *)msg;
    struct limit_conf *c = ARENA_NEW(conf_arena(at), struct limit_conf);
    bool request_ok, response_ok, ok = limit_bucket(at, m->token_bucket, c);
    if (per_route && !m->token_bucket)
        ok = conf_fail(at, "local rate limit token bucket must be set for per filter configs");
    c->status = m->status && m->status->code >= 400 ? (uint32_t)m->status->code
                                                    : 429; /* Envoy: no success by mistake */
    c->resource_exhausted = m->rate_limited_as_resource_exhausted;
    c->enabled = fraction_or_never(at, m->filter_enabled);
    c->enforced = fraction_or_never(at, m->filter_enforced);
    c->not_enforced =
        conf_header_change(at, "request_headers_to_add_when_not_enforced",
                           m->n_request_headers_to_add_when_not_enforced,
                           m->request_headers_to_add_when_not_enforced, "", 0, NULL, &request_ok);
    c->response = conf_header_change(at, "response_headers_to_add", m->n_response_headers_to_add,
                                     m->response_headers_to_add, "", 0, NULL, &response_ok);
    struct str prefix = str_fmt(conf_arena(at), "%s.http_local_rate_limit.", m->stat_prefix);
    c->stats = conf_stat_group(at, prefix, limit_defs, LIMIT_STATS);
    return ok && request_ok && response_ok ? c : NULL;
}

static const void *limit_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                     struct str stat_prefix)
{
    (void)stat_prefix;
    return limit_create(at, msg, false);
}

static const void *limit_route_conf_create(const struct conf_at *at,
                                           const struct ProtobufCMessage *msg)
{
    return limit_create(at, msg, true);
}

static bool fraction_hits(struct http_filter *f, const struct conf_fraction *x)
{
    return runtime_fraction(f->worker, x->runtime_key, x->numerator, x->denominator,
                            rng_next(&f->worker->rng));
}

static void limit_edit(void *arg, struct headers *h)
{
    struct http_filter *f = arg;
    const struct limit_conf *c = f->route_conf ? f->route_conf : f->conf;
    header_change_apply(c->response, h, http_filter_info(f));
}

static enum http_flow limit_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    (void)http_filter_route(f); /* route_conf is that of the route from here on */
    const struct limit_conf *c = f->route_conf ? f->route_conf : f->conf;
    if (!fraction_hits(f, &c->enabled)) return HTTP_CONTINUE;
    stat_inc(c->stats, LIMIT_ENABLED);
    if (!c->bucket || token_bucket_take(c->bucket, loop_now_us(f->worker->loop))) {
        stat_inc(c->stats, LIMIT_OK);
        return HTTP_CONTINUE;
    }
    stat_inc(c->stats, LIMIT_LIMITED);
    if (!fraction_hits(f, &c->enforced)) {
        header_change_apply(c->not_enforced, h, http_filter_info(f));
        return HTTP_CONTINUE;
    }
    stat_inc(c->stats, LIMIT_ENFORCED);
    struct local_reply reply = {.status = c->status,
                                .body = STR("local_rate_limited"),
                                .details = STR("local_rate_limited"),
                                .grpc_status = c->resource_exhausted ? GRPC_RESOURCE_EXHAUSTED : -1,
                                .flags = (uint64_t)1 << RF_RL,
                                .edit = limit_edit,
                                .edit_arg = f};
    http_filter_reply(f, &reply);
    return HTTP_HOLD_ALL;
}

const struct http_filter_type http_local_ratelimit = {
    .ext =
        {.name = "envoy.filters.http.local_ratelimit",
         .config =
             &envoy__extensions__filters__http__local_ratelimit__v3__local_rate_limit__descriptor},
    .route_config =
        &envoy__extensions__filters__http__local_ratelimit__v3__local_rate_limit__descriptor,
    .instance_size = sizeof(struct http_filter),
    .conf_create = limit_conf_create,
    .route_conf_create = limit_route_conf_create,
    .decode_headers = limit_decode_headers,
};
