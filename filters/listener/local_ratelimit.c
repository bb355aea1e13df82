/* envoy.filters.listener.local_ratelimit: accepted sockets above a rate are closed before anything
 * is read. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/filters/listener/local_ratelimit/v3/local_ratelimit.pb-c.h"
#include "envoy/type/v3/token_bucket.pb-c.h"
#include "filters/common/feature.h"
#include "filters/common/stats.h"
#include "filters/common/token_bucket.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/network_filter.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"

enum { FILL_LEAST_US = 50 * 1000 };
static const struct stat_def ratelimit_defs[] = {{"rate_limited", STAT_COUNTER, 0}};

struct listener_ratelimit_conf {
    struct feature enabled;
    struct token_bucket *bucket; /* shared by the workers; the one thing here that changes */
    struct stat_group *stats;
};

static const void *listener_ratelimit_create(const struct conf_at *at,
                                             const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Listener__LocalRatelimit__V3__LocalRateLimit *m =
        (const void *)msg;
    struct arena *a = conf_arena(at);
    struct listener_ratelimit_conf *c = ARENA_NEW(a, struct listener_ratelimit_conf);
    struct conf_at outer = conf_field(at, "token_bucket"),
                   field = conf_field(&outer, "fill_interval");
    const Envoy__Type__V3__TokenBucket *b = m->token_bucket;
    uint64_t interval_us = 0;
    bool ok = b ? conf_duration(&field, b->fill_interval, 0, &interval_us)
                : conf_fail(&outer, "value is required");
    if (!ok) return NULL;
    if (interval_us < FILL_LEAST_US)
        ok = conf_fail(&field, "local rate limit token bucket fill timer must be >= 50ms");
    c->enabled = feature_create(a, m->runtime_enabled);
    c->bucket = ARENA_NEW(a, struct token_bucket);
    if (ok)
        token_bucket_init(c->bucket, b->max_tokens,
                          b->tokens_per_fill ? b->tokens_per_fill->value : 1, interval_us);
    c->stats = conf_stat_group(at, str_fmt(a, "listener_local_ratelimit.%s.", m->stat_prefix),
                               ratelimit_defs, ARRAY_LEN(ratelimit_defs));
    return ok ? c : NULL;
}

static enum accept_flow listener_ratelimit_accept(void *self, const void *conf, struct accepting *a)
{
    (void)self;
    const struct listener_ratelimit_conf *c = conf;
    bool on =
        c->enabled.key.len ? runtime_bool(a->worker, c->enabled.key, c->enabled.on) : c->enabled.on;
    if (!on || token_bucket_take(c->bucket, loop_now_us(a->worker->loop))) return ACCEPT_CONTINUE;
    stat_inc(c->stats, 0);
    return ACCEPT_DROP;
}

const struct listener_filter_type listener_local_ratelimit = {
    .ext =
        {.name = "envoy.filters.listener.local_ratelimit",
         .config =
             &envoy__extensions__filters__listener__local_ratelimit__v3__local_rate_limit__descriptor},
    .conf_create = listener_ratelimit_create,
    .on_accept = listener_ratelimit_accept,
};
