/* A control plane on a gRPC stream: connecting to the endpoints of a bootstrap cluster, jittered
 * back-off, and the pump between the stream and the subscription machine. */
#include <malloc.h>

#include "base/arena.h"
#include "base/log.h"
#include "proto/proto.h"
#include "xds/cache.h"
#include "xds/control_plane.h"
#include "xds/grpc_stream.h"
#include "xds/source.h"

/* A control plane that sends without end and does not read its answers is not read either. */
enum { ANSWERS_MOST = 256 };
enum { TRIM_FROM = 1 << 20, TRIM_AFTER_US = 1000000 };

/* rate_limit_settings: a bucket of requests. rate 0: no limit. */
struct request_limit {
    double tokens, most, rate; /* rate: a second */
    uint64_t at_us;
};

struct source_grpc {
    struct source source;
    struct arena *arena; /* of the configuration */
    struct control_plane plane;
    const char *method, *name; /* name: "StreamAggregatedResources", for the log */
    struct mux *mux;
    struct grpc_stream *stream;
    bool open, sending;
    bool holding; /* the next message is not asked for yet */
    unsigned failures;
    struct loop_timer retry;
    struct loop_timer trim;
    struct request_limit limit;
    struct loop_timer held; /* for a NACK that is held back, or a token */
    struct loop_later pump;
};

static struct source_grpc *source_grpc_of(struct source *s)
{
    return CONTAINER_OF(s, struct source_grpc, source);
}

static void source_grpc_read(struct source_grpc *g)
{
    if (!g->stream || !g->holding || mux_answers(g->mux) >= ANSWERS_MOST) return;
    g->holding = false;
    grpc_stream_read(g->stream);
}

static void source_grpc_held(struct loop_timer *t);

/* Takes a token; 0, or the time until there is one. */
static uint64_t request_limit_us(struct request_limit *l, uint64_t now)
{
    enum { SECOND_US = 1000000, LEAST_US = 1000, MOST_S = 3600 };
    if (l->rate <= 0) return 0;
    l->tokens += (double)(now - l->at_us) / SECOND_US * l->rate;
    l->at_us = now;
    if (l->tokens > l->most) l->tokens = l->most;
    if (l->tokens >= 1) {
        l->tokens -= 1;
        return 0;
    }
    double wait_s = (1 - l->tokens) / l->rate;
    if (wait_s > MOST_S) wait_s = MOST_S;
    return (uint64_t)(wait_s * SECOND_US) + LEAST_US;
}

/* Envoy: counted each time that a request has to wait. */
static bool source_grpc_may_send(struct source_grpc *g, uint64_t now)
{
    if (!mux_ready(g->mux, now)) return true;
    uint64_t wait_us = request_limit_us(&g->limit, now);
    if (!wait_us) return true;
    stat_inc(g->source.x->control_plane, CONTROL_PLANE_RATE_LIMITED);
    loop_timer_start(xds_loop(g->source.x), &g->held, wait_us, source_grpc_held);
    return false;
}

/* Sends one request if the stream can take one; the next follows when it was taken. */
static void source_grpc_pump(struct loop_later *later)
{
    struct source_grpc *g = CONTAINER_OF(later, struct source_grpc, pump);
    if (!g->open || g->sending) return;
    struct arena *a = arena_new("xds request", 0);
    struct str bytes;
    uint64_t now = loop_now_us(xds_loop(g->source.x)), due = mux_due_us(g->mux);
    bool may = source_grpc_may_send(g, now);
    if (may && mux_next(g->mux, now, a, &bytes)) {
        g->sending = true;
        grpc_stream_send(g->stream, bytes);
    } else if (may && due > now) {
        loop_timer_start(xds_loop(g->source.x), &g->held, due - now, source_grpc_held);
    }
    arena_free(&a);
    source_grpc_read(g);
    if (g->source.is_ads)
        stat_set(g->source.x->control_plane, CONTROL_PLANE_PENDING, mux_pending(g->mux));
}

static void source_grpc_held(struct loop_timer *t)
{
    source_grpc_pump(&CONTAINER_OF(t, struct source_grpc, held)->pump);
}

static void source_grpc_wanted(void *arg)
{
    struct source_grpc *g = arg;
    loop_later(xds_loop(g->source.x), &g->pump, source_grpc_pump);
}

static struct str source_grpc_update(void *arg, const struct mux_update *u, struct arena *a)
{
    struct source_grpc *g = arg;
    if (u->control_plane.len)
        stat_set_text(g->source.x->control_plane, CONTROL_PLANE_ID, u->control_plane);
    return store_update(g->source.x, &g->source, u, a);
}
static const struct mux_events mux_events = {.on_update = source_grpc_update,
                                             .on_wanted = source_grpc_wanted};

static void source_grpc_on_open(void *arg)
{
    struct source_grpc *g = arg;
    g->open = true;
    g->sending = false;
    stat_set(g->source.x->control_plane, CONTROL_PLANE_CONNECTED, 1);
    mux_connected(g->mux);
}

static void source_grpc_on_sent(void *arg)
{
    struct source_grpc *g = arg;
    g->sending = false;
    source_grpc_wanted(g);
}

static void source_grpc_connect(struct source_grpc *g);
static void source_grpc_retry(struct loop_timer *t)
{
    source_grpc_connect(CONTAINER_OF(t, struct source_grpc, retry));
}

static void source_grpc_back_off(struct source_grpc *g)
{
    loop_timer_start(xds_loop(g->source.x), &g->retry, control_plane_back_off_us(&g->failures),
                     source_grpc_retry);
}

static void source_grpc_down(struct source_grpc *g, int status, struct str text)
{
    log_warn(LOG_C_CONFIG, "%s gRPC config stream to %s closed: %d, %.*s", g->name,
             control_plane_name(&g->plane), status, STR_ARG(text));
    grpc_stream_close(&g->stream);
    g->holding = false;
    if (g->open) mux_disconnected(g->mux);
    g->open = false;
    stat_set(g->source.x->control_plane, CONTROL_PLANE_CONNECTED, 0);
    store_source_failed(g->source.x, &g->source);
    source_grpc_back_off(g);
}

static void source_grpc_on_closed(void *arg, int status, struct str text)
{
    source_grpc_down(arg, status, text);
}

static void source_grpc_trim(struct loop_timer *t)
{
    (void)t;
    (void)malloc_trim(0);
}

static void source_grpc_on_message(void *arg, struct str bytes)
{
    enum { STATUS_INTERNAL = 13 };
    struct source_grpc *g = arg;
    struct arena *a = arena_new("decode", 0);
    struct str why;
    cache_source_answered(g->source.x->cache, &g->source);
    g->failures = 0; /* the control plane answers: the next failure begins anew */
    g->holding = true;
    /* What a big message took, here and in gRPC's thread, goes back to the system once things are
     * calm. */
    if (bytes.len >= TRIM_FROM)
        loop_timer_start(xds_loop(g->source.x), &g->trim, TRIM_AFTER_US, source_grpc_trim);
    if (mux_message(g->mux, loop_now_us(xds_loop(g->source.x)), bytes, a, &why))
        source_grpc_read(g);
    else
        source_grpc_down(g, STATUS_INTERNAL, why);
    arena_free(&a);
}
static const struct grpc_stream_events stream_events = {.on_open = source_grpc_on_open,
                                                        .on_sent = source_grpc_on_sent,
                                                        .on_message = source_grpc_on_message,
                                                        .on_closed = source_grpc_on_closed};

static void source_grpc_connect(struct source_grpc *g)
{
    struct xds *x = g->source.x;
    struct arena *a = arena_new("xds target", 0);
    struct str why;
    g->stream = control_plane_open(x, &g->plane, g->method, &stream_events, g, a, &why);
    if (!g->stream) {
        log_warn(LOG_C_CONFIG, "cannot connect to the xDS cluster '%s' now: %.*s", g->plane.cluster,
                 STR_ARG(why));
        store_source_failed(x, &g->source);
        source_grpc_back_off(g);
    }
    arena_free(&a);
}

static void source_grpc_start(struct source *s)
{
    source_grpc_connect(source_grpc_of(s));
}

static void source_grpc_watch(struct source *s, enum xds_kind kind, struct str name)
{
    mux_watch(source_grpc_of(s)->mux, kind_of(kind)->type_url, name);
}

static void source_grpc_unwatch(struct source *s, enum xds_kind kind, struct str name)
{
    mux_unwatch(source_grpc_of(s)->mux, kind_of(kind)->type_url, name);
}

static void source_grpc_have(struct source *s, enum xds_kind kind, struct str name,
                             struct str version)
{
    mux_have(source_grpc_of(s)->mux, kind_of(kind)->type_url, name, version);
}

static void source_grpc_stop(struct source *s)
{
    struct source_grpc *g = source_grpc_of(s);
    loop_timer_stop(&g->retry);
    loop_timer_stop(&g->trim);
    loop_timer_stop(&g->held);
    loop_later_cancel(&g->pump);
    grpc_stream_close(&g->stream);
    g->open = false;
}

static void source_grpc_free(struct source *s)
{
    struct source_grpc *g = source_grpc_of(s);
    source_grpc_stop(s);
    mux_free(&g->mux);
    struct arena *a = g->arena;
    arena_free(&a);
}
static const struct source_ops source_grpc_ops = {.start = source_grpc_start,
                                                  .watch = source_grpc_watch,
                                                  .unwatch = source_grpc_unwatch,
                                                  .have = source_grpc_have,
                                                  .stop = source_grpc_stop,
                                                  .free = source_grpc_free};

struct method {
    const char *service, *sotw, *delta;
};
static const struct method methods[XDS_KINDS + 1] = {
    [XDS_LISTENER] = {"envoy.service.listener.v3.ListenerDiscoveryService", "StreamListeners",
                      "DeltaListeners"},
    [XDS_CLUSTER] = {"envoy.service.cluster.v3.ClusterDiscoveryService", "StreamClusters",
                     "DeltaClusters"},
    [XDS_ROUTE] = {"envoy.service.route.v3.RouteDiscoveryService", "StreamRoutes", "DeltaRoutes"},
    [XDS_ENDPOINT] = {"envoy.service.endpoint.v3.EndpointDiscoveryService", "StreamEndpoints",
                      "DeltaEndpoints"},
    [XDS_SECRET] = {"envoy.service.secret.v3.SecretDiscoveryService", "StreamSecrets",
                    "DeltaSecrets"},
    [XDS_RUNTIME] = {"envoy.service.runtime.v3.RuntimeDiscoveryService", "StreamRuntime",
                     "DeltaRuntime"},
    [XDS_EXTENSION] = {"envoy.service.extension.v3.ExtensionConfigDiscoveryService",
                       "StreamExtensionConfigs", "DeltaExtensionConfigs"},
    [XDS_VIRTUAL_HOST] = {"envoy.service.route.v3.VirtualHostDiscoveryService", "",
                          "DeltaVirtualHosts"},
    [XDS_SCOPED_ROUTE] = {"envoy.service.route.v3.ScopedRoutesDiscoveryService",
                          "StreamScopedRoutes", "DeltaScopedRoutes"},
    [XDS_KINDS] = {"envoy.service.discovery.v3.AggregatedDiscoveryService",
                   "StreamAggregatedResources", "DeltaAggregatedResources"},
};

static bool source_variant(const Envoy__Config__Core__V3__ApiConfigSource *api,
                           const struct conf_at *at, enum mux_variant *v)
{
    struct conf_at type_at = conf_field(at, "api_type");
    switch (api->api_type) {
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__GRPC:
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__AGGREGATED_GRPC:
        *v = MUX_SOTW;
        return true;
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__DELTA_GRPC:
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__AGGREGATED_DELTA_GRPC:
        *v = MUX_DELTA;
        return true;
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__REST:
    case ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE:
    default: return conf_fail(&type_at, "an aggregated stream is GRPC or DELTA_GRPC");
    }
}

static void request_limit_read(struct request_limit *l,
                               const Envoy__Config__Core__V3__RateLimitSettings *m, uint64_t now)
{
    enum { MOST = 100, RATE = 10 };
    if (!m) return;
    l->tokens = l->most = m->max_tokens ? m->max_tokens->value : MOST;
    l->rate = m->fill_rate ? m->fill_rate->value : RATE;
    l->at_us = now;
}

struct source *source_grpc_new(struct xds *x, const Envoy__Config__Core__V3__ApiConfigSource *api,
                               enum xds_kind kind, const struct conf_at *at)
{
    enum mux_variant variant = MUX_SOTW;
    if (!source_variant(api, at, &variant)) return NULL;
    struct arena *a = arena_new("xds source", 1024);
    struct source_grpc *g = ARENA_NEW(a, struct source_grpc);
    g->arena = a;
    request_limit_read(&g->limit, api->rate_limit_settings, loop_now_us(xds_loop(x)));
    if (!control_plane_read(&g->plane, a, api, at)) {
        arena_free(&a);
        return NULL;
    }
    const struct method *m = &methods[kind];
    g->source.x = x;
    g->source.ops = &source_grpc_ops;
    g->source.delta = variant == MUX_DELTA;
    g->source.is_remote = true;
    g->name = variant == MUX_SOTW ? m->sotw : m->delta;
    g->method = str_fmt(a, "/%s/%s", m->service, g->name).ptr;
    g->mux = mux_new(variant, x->node, api->set_node_on_first_message_only, &mux_events, g);
    return &g->source;
}
