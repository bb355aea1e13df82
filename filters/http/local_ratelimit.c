/* envoy.filters.http.local_ratelimit: answers requests above a rate; the tokens are shared by the
 * workers. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "envoy/extensions/common/ratelimit/v3/ratelimit.pb-c.h"
#include "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.pb-c.h"
#include "envoy/type/v3/http_status.pb-c.h"
#include "envoy/type/v3/token_bucket.pb-c.h"
#include "filters/common/rate_descriptors.h"
#include "filters/common/stats.h"
#include "filters/common/token_bucket.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"
#include <stdlib.h>

enum { FILL_LEAST_US = 50 * 1000, GRPC_RESOURCE_EXHAUSTED = 8 };
enum limit_stat { LIMIT_ENABLED, LIMIT_ENFORCED, LIMIT_LIMITED, LIMIT_OK, LIMIT_STATS };
static const struct stat_def limit_defs[LIMIT_STATS] = {
    [LIMIT_ENABLED] = {"enabled", STAT_COUNTER, 0},
    [LIMIT_ENFORCED] = {"enforced", STAT_COUNTER, 0},
    [LIMIT_LIMITED] = {"rate_limited", STAT_COUNTER, 0},
    [LIMIT_OK] = {"ok", STAT_COUNTER, 0},
};
/* A limit of its own for requests with this descriptor. */
struct limit_descriptor {
    struct rate_descriptor descriptor;
    struct token_bucket *bucket;
};
struct limit_conf {
    struct token_bucket
        *bucket; /* shared by the workers; the one thing here that changes. NULL: no limit */
    const struct limit_descriptor *descriptors; /* slowest first */
    size_t descriptor_count;
    const struct rate_actions *rates;
    size_t rate_count;
    bool default_always; /* the bucket above counts beside those of descriptors */
    bool tell;           /* x-ratelimit-* */
    uint32_t status;
    bool resource_exhausted;
    struct conf_fraction enabled, enforced;
    const struct header_change *not_enforced, *response;
    struct stat_group *stats;
};

struct limit_filter {
    struct http_filter base;
    const struct token_bucket *used; /* what x-ratelimit-* tell of; NULL: nothing */
};

/* Envoy: without a fraction the filter is off. */
static struct conf_fraction fraction_or_never(
    const struct conf_at *at, const struct Envoy__Config__Core__V3__RuntimeFractionalPercent *m)
{
    return m ? conf_runtime_fraction(at, m) : (struct conf_fraction){.denominator = 100};
}

static struct token_bucket *limit_bucket(const struct conf_at *at,
                                         const Envoy__Type__V3__TokenBucket *b)
{
    struct conf_at outer = conf_field(at, "token_bucket"),
                   field = conf_field(&outer, "fill_interval");
    uint64_t interval_us = 0;
    if (!conf_duration(&field, b->fill_interval, 0, &interval_us)) return NULL;
    if (interval_us < FILL_LEAST_US) {
        conf_fail(&field, "local rate limit token bucket fill timer must be >= 50ms");
        return NULL;
    }
    struct token_bucket *out = ARENA_NEW(conf_arena(at), struct token_bucket);
    token_bucket_init(out, b->max_tokens, b->tokens_per_fill ? b->tokens_per_fill->value : 1,
                      interval_us);
    return out;
}

/* --- descriptors
 * ------------------------------------------------------------------------------------ */

static bool limit_descriptor(
    const struct conf_at *at,
    const Envoy__Extensions__Common__Ratelimit__V3__LocalRateLimitDescriptor *m,
    struct limit_descriptor *out)
{
    struct arena *a = conf_arena(at);
    struct rate_entry *v = ARENA_ARRAY(a, struct rate_entry, m->n_entries);
    bool ok = true;
    for (size_t i = 0; i < m->n_entries; i++) {
        struct conf_at entry = conf_index(at, "entries", i), place = conf_field(&entry, "value");
        v[i] = (struct rate_entry){str_dup(a, str_of(m->entries[i]->key)),
                                   str_dup(a, str_of(m->entries[i]->value))};
        /* Envoy: an empty value is any, with a bucket for each. */
        if (!v[i].value.len) ok = conf_fail(&place, "descriptors for any value are not supported");
    }
    out->descriptor = (struct rate_descriptor){v, m->n_entries};
    out->bucket = limit_bucket(at, m->token_bucket);
    return ok && out->bucket;
}

static int slowest_first(const void *x, const void *y)
{
    double a = ((const struct limit_descriptor *)x)->bucket->ns_per_token,
           b = ((const struct limit_descriptor *)y)->bucket->ns_per_token;
    return (a < b) - (a > b);
}

static bool limit_descriptors(
    const struct conf_at *at,
    const Envoy__Extensions__Filters__Http__LocalRatelimit__V3__LocalRateLimit *m,
    struct limit_conf *c)
{
    struct limit_descriptor *v =
        ARENA_ARRAY(conf_arena(at), struct limit_descriptor, m->n_descriptors);
    bool ok = true, rates_ok;
    for (size_t i = 0; i < m->n_descriptors; i++) {
        struct conf_at place = conf_index(at, "descriptors", i);
        ok &= limit_descriptor(&place, m->descriptors[i], &v[i]);
        for (size_t k = 0; k < i && ok; k++) {
            if (rate_descriptor_same(&v[k].descriptor, &v[i].descriptor))
                ok = conf_fail(&place, "duplicate descriptor in the local rate descriptor");
        }
    }
    if (m->n_descriptors && !m->n_rate_limits) {
        struct conf_at place = conf_field(at, "descriptors");
        ok = conf_fail(&place, "rate_limits are needed: those of routes are not supported");
    }
    if (ok && m->n_descriptors > 1) qsort(v, m->n_descriptors, sizeof *v, slowest_first);
    c->descriptors = v;
    c->descriptor_count = m->n_descriptors;
    c->rates = conf_rate_actions(at, "rate_limits", m->n_rate_limits, m->rate_limits, &rates_ok);
    c->rate_count = m->n_rate_limits;
    return ok && rates_ok;
}

static const void *limit_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                bool per_route)
{
    const Envoy__Extensions__Filters__Http__LocalRatelimit__V3__LocalRateLimit *m =
        (const void *)msg;
    struct limit_conf *c = ARENA_NEW(conf_arena(at), struct limit_conf);
    bool request_ok, response_ok, ok = limit_descriptors(at, m, c);
    if (m->token_bucket) {
        c->bucket = limit_bucket(at, m->token_bucket);
        ok &= c->bucket != NULL;
    }
    c->default_always =
        !m->always_consume_default_token_bucket || m->always_consume_default_token_bucket->value;
    c->tell =
        m->enable_x_ratelimit_headers ==
        ENVOY__EXTENSIONS__COMMON__RATELIMIT__V3__XRATE_LIMIT_HEADERS_RFCVERSION__DRAFT_VERSION_03;
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

/* The descriptors' buckets, the slowest first, then the default one. False: one is empty. *used:
 * the bucket that decided. */
static bool limit_allows(struct http_filter *f, const struct limit_conf *c, const struct headers *h,
                         const struct token_bucket **used)
{
    uint64_t now_us = loop_now_us(f->worker->loop);
    struct arena *a = http_filter_arena(f);
    struct rate_ask ask = {.h = h,
                           .info = http_filter_info(f),
                           .service_cluster = f->worker->rt->service_cluster,
                           .a = a};
    struct rate_descriptor *asked = ARENA_ARRAY(a, struct rate_descriptor, c->rate_count);
    size_t n = 0;
    for (size_t i = 0; c->rates && i < c->rate_count; i++)
        n += rate_descriptor_of(c->rates, i, &ask, &asked[n]);
    for (size_t i = 0; i < c->descriptor_count; i++) {
        bool fits = false;
        for (size_t k = 0; k < n; k++)
            fits |= rate_descriptor_same(&c->descriptors[i].descriptor, &asked[k]);
        if (!fits) continue;
        if (!*used) *used = c->descriptors[i].bucket;
        if (token_bucket_take(c->descriptors[i].bucket, now_us)) continue;
        *used = c->descriptors[i].bucket;
        return false;
    }
    if (!c->bucket || (*used && !c->default_always)) return true;
    if (!*used) *used = c->bucket;
    if (token_bucket_take(c->bucket, now_us)) return true;
    *used = c->bucket;
    return false;
}

static enum http_flow limit_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    (void)http_filter_route(f); /* route_conf is that of the route from here on */
    const struct limit_conf *c = f->route_conf ? f->route_conf : f->conf;
    if (!fraction_hits(f, &c->enabled)) return HTTP_CONTINUE;
    stat_inc(c->stats, LIMIT_ENABLED);
    struct limit_filter *x = CONTAINER_OF(f, struct limit_filter, base);
    if (limit_allows(f, c, h, &x->used)) {
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

static enum http_flow limit_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    const struct limit_conf *c = f->route_conf ? f->route_conf : f->conf;
    const struct token_bucket *b = CONTAINER_OF(f, struct limit_filter, base)->used;
    if (!b || !c->tell) return HTTP_CONTINUE;
    struct arena *a = http_filter_arena(f);
    uint64_t now_us = loop_now_us(f->worker->loop);
    headers_set(h, STR("x-ratelimit-limit"), str_fmt(a, "%.0f", b->max));
    headers_set(h, STR("x-ratelimit-remaining"),
                str_fmt(a, "%llu", (unsigned long long)token_bucket_left(b, now_us)));
    headers_set(h, STR("x-ratelimit-reset"),
                str_fmt(a, "%llu", (unsigned long long)token_bucket_next_in_s(b, now_us)));
    return HTTP_CONTINUE;
}

const struct http_filter_type http_local_ratelimit = {
    .ext =
        {.name = "envoy.filters.http.local_ratelimit",
         .config =
             &envoy__extensions__filters__http__local_ratelimit__v3__local_rate_limit__descriptor},
    .route_config =
        &envoy__extensions__filters__http__local_ratelimit__v3__local_rate_limit__descriptor,
    .instance_size = sizeof(struct limit_filter),
    .conf_create = limit_conf_create,
    .route_conf_create = limit_route_conf_create,
    .decode_headers = limit_decode_headers,
    .encode_headers = limit_encode_headers,
};
