/* envoy.filters.network.local_ratelimit: connections above a rate are closed at once. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/filters/network/local_ratelimit/v3/local_rate_limit.pb-c.h"
#include "envoy/type/v3/token_bucket.pb-c.h"
#include "filters/common/feature.h"
#include "filters/common/shared_bucket.h"
#include "filters/common/stats.h"
#include "filters/common/token_bucket.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"

enum { FILL_LEAST_US = 50 * 1000 };
static const struct stat_def ratelimit_defs[] = {{"rate_limited", STAT_COUNTER, 0}};

struct ratelimit_conf {
    struct feature enabled;
    struct token_bucket *bucket; /* shared by the workers; the one thing here that changes */
    struct stat_group *stats;
};

/* Envoy: filters with one key share a bucket, whichever listeners they are of. */
static struct token_bucket *ratelimit_bucket(
    const struct conf_at *at,
    const Envoy__Extensions__Filters__Network__LocalRatelimit__V3__LocalRateLimit *m,
    uint64_t interval_us)
{
    const Envoy__Type__V3__TokenBucket *b = m->token_bucket;
    struct arena *a = conf_arena(at);
    struct shared_bucket_ask q = {.key = str_of(m->share_key),
                                  .max = b->max_tokens,
                                  .fill = b->tokens_per_fill ? b->tokens_per_fill->value : 1,
                                  .interval_us = interval_us};
    if (q.key.len && at->cx->rt) return shared_bucket_get(at->cx->rt, a, &q);
    struct token_bucket *own = ARENA_NEW(a, struct token_bucket);
    token_bucket_init(own, q.max, q.fill, q.interval_us);
    return own;
}

static const void *ratelimit_conf_create(const struct conf_at *at,
                                         const struct ProtobufCMessage *msg,
                                         const struct network_filter_place *place)
{
    (void)place;
    const Envoy__Extensions__Filters__Network__LocalRatelimit__V3__LocalRateLimit *m =
        (const void *)msg;
    struct arena *a = conf_arena(at);
    struct ratelimit_conf *c = ARENA_NEW(a, struct ratelimit_conf);
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
    if (ok) c->bucket = ratelimit_bucket(at, m, interval_us);
    c->stats = conf_stat_group(at, str_fmt(a, "local_rate_limit.%s.", m->stat_prefix),
                               ratelimit_defs, ARRAY_LEN(ratelimit_defs));
    return ok ? c : NULL;
}

static enum net_flow ratelimit_on_new(struct network_filter *f)
{
    const struct ratelimit_conf *c = f->conf;
    bool on =
        c->enabled.key.len ? runtime_bool(f->worker, c->enabled.key, c->enabled.on) : c->enabled.on;
    if (!on || token_bucket_take(c->bucket, loop_now_us(f->worker->loop))) return NET_CONTINUE;
    stat_inc(c->stats, 0);
    network_filter_info(f)->flags |= (uint64_t)1 << RF_URX; /* Envoy: this flag */
    conn_close(f->conn, CONN_CLOSE_NOW);
    return NET_HOLD;
}

const struct network_filter_type network_local_ratelimit = {
    .ext =
        {.name = "envoy.filters.network.local_ratelimit",
         .config =
             &envoy__extensions__filters__network__local_ratelimit__v3__local_rate_limit__descriptor},
    .instance_size = sizeof(struct network_filter),
    .conf_create = ratelimit_conf_create,
    .on_new = ratelimit_on_new,
};
