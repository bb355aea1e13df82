/* Route tables (RDS). A table that names a cluster which is still warming is held back until that
 * cluster is active, for a bounded time; names that nobody has are never waited for. So a burst of
 * CDS, EDS, RDS shows no 503 in between. */
#include "envoy/config/route/v3/route.pb-c.h"
#include "proxy/config/route.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/xds_internal.h"

enum { ROUTE_HOLD_US = 15000000 };

static bool route_clusters_ready(const struct resource *r)
{
    const struct route_config *c = (const struct route_config *)r->pending;
    for (size_t i = 0; i < c->cluster_count; i++)
        if (cluster_manager_warming(r->x->env.clusters, c->clusters[i]) &&
            !cluster_manager_active(r->x->env.clusters, c->clusters[i]))
            return false;
    return true;
}

static void route_hold_over(struct loop_timer *t)
{
    store_wake(CONTAINER_OF(t, struct resource, hold)->x);
}

static bool route_ready(const struct resource *r)
{
    return vhds_ready(r) && route_clusters_ready(r);
}

static void route_publish(struct resource *r)
{
    loop_timer_stop(&r->hold);
    list_remove(&r->waiting);
    obj_unref(&r->object);
    r->object = r->pending;
    r->pending = NULL;
    runtime_publish(r->x->env.rt, TABLE_ROUTES, r->name, r->object);
    vhds_published(r);
}

void route_take(struct resource *r, struct route_config *c)
{
    obj_unref(&r->pending);
    r->pending = &c->obj;
    if (route_ready(r)) {
        route_publish(r);
        return;
    }
    if (!loop_timer_running(&r->hold))
        loop_timer_start(xds_loop(r->x), &r->hold, ROUTE_HOLD_US, route_hold_over);
    store_wait(r);
}

static bool kind_route_accept(struct resource *r, const ProtobufCMessage *msg, struct conf_cx *cx)
{
    const Envoy__Config__Route__V3__RouteConfiguration *m =
        (const Envoy__Config__Route__V3__RouteConfiguration *)msg;
    struct source *hosts = NULL;
    if (m->vhds && !(hosts = vhds_source(r, m, cx))) return false;
    struct route_config *c =
        translate_route_config(cx, hosts ? vhds_merge(r, m, cx->errors->arena) : m);
    if (!c) return false;
    vhds_follow(r, m, hosts);
    route_take(r, c);
    return true;
}

static void route_drop(struct resource *r)
{
    vhds_end(r);
    loop_timer_stop(&r->hold);
    list_remove(&r->waiting);
    obj_unref(&r->pending);
    obj_unref(&r->object);
}

static void kind_route_remove(struct resource *r)
{
    route_drop(r);
    runtime_publish(r->x->env.rt, TABLE_ROUTES, r->name, NULL);
}

static void kind_route_left(struct resource *r)
{
    route_drop(r);
    retire(r->x, TABLE_ROUTES, XDS_ROUTE, r->name);
}

static bool kind_route_ready(struct resource *r)
{
    if (!vhds_ready(r)) return false;
    if (loop_timer_running(&r->hold) && !route_clusters_ready(r)) return false;
    route_publish(r);
    store_wake(r->x); /* listeners may have waited for it */
    return true;
}

static void kind_route_missing(struct resource *r)
{
    (void)r; /* whoever waits goes on without: requests get 404 until it comes */
}

const struct kind_ops kind_route = {
    .type_url = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
    .label = "RouteConfiguration",
    .desc = &envoy__config__route__v3__route_configuration__descriptor,
    .stats = route_stat_defs,
    .stat_count = ROUTE_STAT_COUNT,
    .stays = true,
    .accept = kind_route_accept,
    .remove = kind_route_remove,
    .left = kind_route_left,
    .ready = kind_route_ready,
    .missing = kind_route_missing,
};
