/* The whole of xds/: its life, the phases of start-up, and the views for admin. */
#include "xds/xds.h"

#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "proto/proto.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/cache.h"
#include "xds/grpc_stream.h"
#include "xds/load_report.h"
#include "xds/source.h"
#include "xds/xds_internal.h"

struct loop *xds_loop(const struct xds *x)
{
    return x->env.rt->main;
}

uint64_t xds_fetch_timeout(const Envoy__Config__Core__V3__ConfigSource *cs)
{
    enum { DEFAULT_US = 15000000 };
    if (!cs || !cs->initial_fetch_timeout) return DEFAULT_US;
    return (uint64_t)cs->initial_fetch_timeout->seconds * 1000000 +
           (uint64_t)cs->initial_fetch_timeout->nanos / 1000;
}

struct top *xds_top(struct xds *x, enum xds_kind kind)
{
    return kind == XDS_CLUSTER ? &x->cds : kind == XDS_LISTENER ? &x->lds : NULL;
}

struct xds *xds_new(const struct xds_env *env)
{
    struct arena *a = arena_new("xds", 0);
    struct xds *x = ARENA_NEW(a, struct xds);
    x->arena = a;
    x->env = *env;
    list_init(&x->sources);
    list_init(&x->waiting);
    list_init(&x->vhds);
    list_init(&x->scope_sets);
    list_init(&x->retired);
    x->cds.x = x->lds.x = x;
    demands_serve(x);
    x->control_plane = stat_group_get(env->rt->stats, STR("control_plane."),
                                      control_plane_stat_defs, CONTROL_PLANE_COUNT);
    return x;
}

static void xds_on_active(void *arg, struct str name)
{
    struct xds *x = arg;
    struct resource *r = resource_find(x, XDS_CLUSTER, name);
    if (r) (void)kind_cluster.ready(r); /* notes that it warms no longer */
    demand_cluster_active(x, name);
    store_wake(x);
}

static void xds_on_static_ready(void *arg)
{
    struct xds *x = arg;
    if (x->phase != XDS_STATIC) return;
    x->phase = XDS_RUNTIME_LAYERS;
    layers_start(x);
    store_wake(x);
}

static void xds_top_timed_out(struct loop_timer *t)
{
    struct top *top = CONTAINER_OF(t, struct top, fetch);
    log_warn(LOG_C_CONFIG, "the first %s response did not come in time; starting without it",
             top == &top->x->cds ? "CDS" : "LDS");
    sub_count(top->stats, SUB_INIT_FETCH_TIMEOUT);
    top->done = true;
    xds_advance(top->x);
}

static void xds_top_begin(struct xds *x, struct top *top, enum xds_kind kind)
{
    if (!top->source || top->watched) return;
    top->watched = true;
    if (top->source->is_remote) stat_inc(top->stats, SUB_UPDATE_ATTEMPT);
    if (top->fetch_us) loop_timer_start(xds_loop(x), &top->fetch, top->fetch_us, xds_top_timed_out);
    source_watch(top->source, kind, STR_NONE);
}

void xds_top_updated(struct xds *x, enum xds_kind kind)
{
    struct top *top = xds_top(x, kind);
    loop_timer_stop(&top->fetch);
    top->done = true;
    store_wake(x);
}

static bool xds_listeners_wait(const struct xds *x)
{
    LIST_FOREACH (&x->waiting, it)
        if (CONTAINER_OF(it, struct resource, waiting)->kind == XDS_LISTENER) return true;
    return false;
}

/* The RTDS layers that were asked for and neither came nor timed out. */
static size_t xds_layers_waiting(const struct xds *x)
{
    size_t it = 0, waiting = 0;
    struct str key;
    void *value;
    while (map_next(&x->store[XDS_RUNTIME], &it, &key, &value))
        waiting += !((struct resource *)value)->done;
    return waiting;
}

void xds_advance(struct xds *x)
{
    if (x->phase == XDS_RUNTIME_LAYERS && !xds_layers_waiting(x)) {
        x->phase = XDS_CLUSTERS;
        xds_top_begin(x, &x->cds, XDS_CLUSTER);
    }
    if (x->phase == XDS_CLUSTERS && (!x->cds.source || x->cds.done) && !x->warming_clusters) {
        x->phase = XDS_LISTENERS;
        x->env.on_clusters(x->env.arg);
        xds_top_begin(x, &x->lds, XDS_LISTENER);
    }
    if (x->phase == XDS_LISTENERS && (!x->lds.source || x->lds.done) && !xds_listeners_wait(x)) {
        x->phase = XDS_READY;
        x->env.on_ready(x->env.arg);
    }
}

void xds_start(struct xds *x)
{
    x->phase = XDS_STATIC;
    if (x->env.cache_directory) x->cache = cache_new(x, x->env.cache_directory);
    cluster_manager_on_active(x->env.clusters, xds_on_active, x);
    load_report_start(x->load_report);
    LIST_FOREACH (&x->sources, it)
        source_start(CONTAINER_OF(it, struct source, link));
    cluster_manager_on_static_ready(x->env.clusters, xds_on_static_ready, x);
}

void xds_stop(struct xds *x)
{
    load_report_free(&x->load_report);
    cache_flush(x->cache);
    x->phase = XDS_STOPPED;
    demands_free(x);
    retired_free(x);
    cache_free(&x->cache);
    loop_timer_stop(&x->cds.fetch);
    loop_timer_stop(&x->lds.fetch);
    sources_stop(x);
    while (x->rest_calls)
        loop_turn(xds_loop(x), true); /* what is cancelled comes back from its worker soon */
    loop_later_cancel(&x->wake);
    grpc_client_free(&x->grpc);
}

void xds_free(struct xds **xds)
{
    struct xds *x = *xds;
    *xds = NULL;
    if (!x) return;
    if (x->phase != XDS_STOPPED) xds_stop(x);
    on_demand_serve(x->env.rt, NULL, NULL);
    secret_demands_free(x);
    layers_free(x);
    store_free(x);
    loop_later_cancel(&x->wake); /* freeing resources may have asked for it */
    sources_free(x);
    resource_keep(&x->cds.version, STR_NONE);
    resource_keep(&x->lds.version, STR_NONE);
    stat_group_unref(&x->cds.stats);
    stat_group_unref(&x->lds.stats);
    stat_group_unref(&x->control_plane);
    struct arena *a = x->arena;
    arena_free(&a);
}

/* --- views
 * -------------------------------------------------------------------------------------------------
 */

void xds_each(struct xds *x, enum xds_kind kind, void (*fn)(void *arg, const struct xds_view *v),
              void *arg)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&x->store[kind], &it, &key, &value)) {
        const struct resource *r = value;
        if (!r->present && !r->error.len && !r->is_static) continue;
        struct xds_view v = {.kind = kind,
                             .name = kind == XDS_SCOPE_SET ? scope_set_label(r) : r->name,
                             .version = r->version,
                             .is_static = r->is_static,
                             .type_url = r->type_url,
                             .bytes = vhds_bytes(value),
                             .updated_wall_us = r->updated_wall_us,
                             .warming = r->warming || r->pending,
                             .places = extension_places(r),
                             .source = r->source,
                             .error = r->error.len ? r->error : cache_stale_text(r),
                             .error_version = r->error_version,
                             .failed_bytes = r->failed_bytes,
                             .error_wall_us = r->error_wall_us};
        fn(arg, &v);
    }
}

const struct ProtobufCMessage *xds_node(const struct xds *x)
{
    return &x->node->base;
}

struct str xds_version(const struct xds *x, enum xds_kind kind)
{
    return kind == XDS_CLUSTER ? x->cds.version : kind == XDS_LISTENER ? x->lds.version : STR_NONE;
}

void xds_each_unready(struct xds *x, void (*fn)(void *arg, struct str name), void *arg)
{
    if (x->cds.watched && !x->cds.done) fn(arg, STR("CDS"));
    if (x->lds.watched && !x->lds.done) fn(arg, STR("LDS"));
    LIST_FOREACH (&x->waiting, it)
        fn(arg, CONTAINER_OF(it, struct resource, waiting)->name);
}
