/* envoy.filters.http.health_check: answers health checks itself, by the state of this process and
 * of clusters, or lets some through to the service and keeps its answer for a while. */
#include <stdatomic.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/filters/http/health_check/v3/health_check.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/upstream.h"
#include "proxy/runtime/runtime.h"

/* The last answer of the service, for all workers: written and read relaxed, whichever was last
 * counts. period: 1 + in which period of cache_time it came; 0: none. */
struct health_cache {
    _Atomic uint64_t period;
    _Atomic uint32_t status;
    _Atomic bool degraded;
};
struct health_cluster {
    struct str name;
    uint64_t hash;
    double percent;
};
struct health_conf {
    bool pass_through;
    uint64_t cache_us; /* 0: nothing is kept */
    struct health_cache *cache;
    const struct health_cluster *clusters;
    size_t cluster_count;
    const struct header_matcher *headers;
    size_t header_count;
};
struct health_filter {
    struct http_filter base;
    bool checks;  /* this request is a health check */
    bool answers; /* and the answer is ours */
};

/* --- configuration
 * ---------------------------------------------------------------------------------- */

static const void *health_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                      struct str stat_prefix)
{
    (void)stat_prefix;
    const Envoy__Extensions__Filters__Http__HealthCheck__V3__HealthCheck *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct health_conf *c = ARENA_NEW(a, struct health_conf);
    struct conf_at cache = conf_field(at, "cache_time");
    bool ok;
    c->pass_through = m->pass_through_mode && m->pass_through_mode->value;
    c->cache = ARENA_NEW(a, struct health_cache);
    c->headers = conf_header_matchers(at, "headers", m->n_headers, m->headers, &ok);
    c->header_count = m->n_headers;
    ok &= conf_duration(&cache, m->cache_time, 0, &c->cache_us);
    if (c->cache_us && !c->pass_through)
        ok = conf_fail(&cache, "cache_time_ms must not be set when path_through_mode is disabled");
    struct health_cluster *v =
        ARENA_ARRAY(a, struct health_cluster, m->n_cluster_min_healthy_percentages);
    for (size_t i = 0; i < m->n_cluster_min_healthy_percentages; i++) {
        const Envoy__Type__V3__Percent *p = m->cluster_min_healthy_percentages[i]->value;
        v[i].name = str_dup(a, str_of(m->cluster_min_healthy_percentages[i]->key));
        v[i].hash = hash_str(v[i].name);
        v[i].percent = p ? p->value : 0;
    }
    c->clusters = v;
    c->cluster_count = m->n_cluster_min_healthy_percentages;
    return ok ? c : NULL;
}

/* --- the answer
 * ------------------------------------------------------------------------------------- */

static struct health_filter *health_of(struct http_filter *f)
{
    return CONTAINER_OF(f, struct health_filter, base);
}

static bool server_failed(const struct http_filter *f)
{
    return atomic_load_explicit(&f->worker->rt->health_failed, memory_order_relaxed);
}

/* Envoy: what is kept ends for all at once, every cache_time. */
static uint64_t cache_period(const struct http_filter *f, const struct health_conf *c)
{
    return 1 + (loop_now_us(f->worker->loop) - f->worker->rt->start_us) / c->cache_us;
}

static bool cache_holds(const struct http_filter *f, const struct health_conf *c)
{
    return c->cache_us &&
           atomic_load_explicit(&c->cache->period, memory_order_relaxed) == cache_period(f, c);
}

/* NULL: they are healthy enough. */
static const char *clusters_fail(const struct http_filter *f, const struct health_conf *c)
{
    for (size_t i = 0; i < c->cluster_count; i++) {
        const struct health_cluster *x = &c->clusters[i];
        struct upstream_health h;
        if (!upstream_health(f->worker, x->name, x->hash, &h))
            return "health_check_failed_no_cluster_found";
        if (h.total == 0) {
            if (x->percent <= 0) continue;
            return "health_check_failed_cluster_empty";
        }
        if (100.0 * (h.healthy + h.degraded) < h.total * x->percent)
            return "health_check_failed_cluster_unhealthy";
    }
    return NULL;
}

struct health_answer {
    struct http_filter *f;
    bool degraded;
};

static void health_edit(void *arg, struct headers *h)
{
    const struct health_answer *x = arg;
    if (x->degraded) headers_set(h, STR("x-envoy-degraded"), STR(""));
    headers_set_id(h, HDR_X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER,
                   x->f->worker->rt->service_cluster);
}

static void health_answer(struct http_filter *f)
{
    const struct health_conf *c = f->conf;
    struct health_answer *x = ARENA_NEW(http_filter_arena(f), struct health_answer);
    x->f = f;
    struct local_reply r = {.status = 200,
                            .details = STR("health_check_ok"),
                            .grpc_status = -1,
                            .edit = health_edit,
                            .edit_arg = x};
    if (server_failed(f)) {
        r.status = 503;
        r.details = STR("health_check_failed");
    } else if (c->cache_us) {
        r.status = atomic_load_explicit(&c->cache->status, memory_order_relaxed);
        x->degraded = atomic_load_explicit(&c->cache->degraded, memory_order_relaxed);
        r.details = STR("health_check_cached");
    } else {
        const char *why = clusters_fail(f, c);
        if (why) {
            r.status = 503;
            r.details = str_of(why);
        } else if (c->cluster_count) {
            r.details = STR("health_check_ok_cluster_healthy");
        }
    }
    if (r.status < 200 || r.status > 299) r.flags = (uint64_t)1 << RF_LH;
    http_filter_reply(f, &r);
}

/* --- requests
 * --------------------------------------------------------------------------------------- */

static enum http_flow health_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct health_conf *c = f->conf;
    struct health_filter *x = health_of(f);
    if (!header_match_all(c->headers, c->header_count, h, http_filter_arena(f)))
        return HTTP_CONTINUE;
    x->checks = true;
    http_filter_info(f)->health_check = true;
    x->answers = !c->pass_through || server_failed(f) || cache_holds(f, c);
    if (!x->answers) return HTTP_CONTINUE;
    if (end) health_answer(f);
    return HTTP_HOLD;
}

static enum http_flow health_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    if (!health_of(f)->answers) return HTTP_CONTINUE;
    buf_release(data);
    if (end) health_answer(f);
    return HTTP_TAKEN;
}

static enum http_flow health_decode_trailers(struct http_filter *f, struct headers *t)
{
    (void)t;
    if (!health_of(f)->answers) return HTTP_CONTINUE;
    health_answer(f);
    return HTTP_HOLD;
}

/* Other answers tell the checker, too, that this process is to be left. */
static enum http_flow health_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    const struct health_conf *c = f->conf;
    if (health_of(f)->checks) {
        if (c->cache_us && !health_of(f)->answers) {
            atomic_store_explicit(&c->cache->status, headers_status(h), memory_order_relaxed);
            atomic_store_explicit(&c->cache->degraded,
                                  headers_find(h, STR("x-envoy-degraded")).ptr != NULL,
                                  memory_order_relaxed);
            atomic_store_explicit(&c->cache->period, cache_period(f, c), memory_order_relaxed);
        }
        headers_set_id(h, HDR_X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER,
                       f->worker->rt->service_cluster);
    }
    if (server_failed(f)) {
        headers_set(h, STR("x-envoy-immediate-health-check-fail"), STR("true"));
    }
    return HTTP_CONTINUE;
}

const struct http_filter_type http_health_check = {
    .ext = {.name = "envoy.filters.http.health_check",
            .config =
                &envoy__extensions__filters__http__health_check__v3__health_check__descriptor},
    .instance_size = sizeof(struct health_filter),
    .conf_create = health_conf_create,
    .decode_headers = health_decode_headers,
    .decode_data = health_decode_data,
    .decode_trailers = health_decode_trailers,
    .encode_headers = health_encode_headers,
};
