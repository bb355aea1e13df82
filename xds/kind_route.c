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

static void route_publish(struct resource *r)
{
    loop_timer_stop(&r->hold);
    list_remove(&r->waiting);
    obj_unref(&r->object);
    r->object = r->pending;
    r->pending = NULL;
    runtime_publish(r->x->env.rt, TABLE_ROUTES, r->name, r->object);
}

static bool kind_route_accept(struct resource *r, const ProtobufCMessage *msg, struct conf_cx *cx)
{
    struct route_config *c =
        translate_route_config(cx, (const Envoy__Config__Route__V3__RouteConfiguration *)msg);
    if (!c) return false;
    obj_unref(&r->pending);
    r->pending = &c->obj;
    if (route_clusters_ready(r)) {
        route_publish(r);
        return true;
    }
    if (!loop_timer_running(&r->hold))
        loop_timer_start(xds_loop(r->x), &r->hold, ROUTE_HOLD_US, route_hold_over);
    store_wait(r);
    return true;
}

static void kind_route_remove(struct resource *r)
{
    loop_timer_stop(&r->hold);
    list_remove(&r->waiting);
    obj_unref(&r->pending);
    obj_unref(&r->object);
    runtime_publish(r->x->env.rt, TABLE_ROUTES, r->name, NULL);
}

static bool kind_route_ready(struct resource *r)
{
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
    .accept = kind_route_accept,
    .remove = kind_route_remove,
    .ready = kind_route_ready,
    .missing = kind_route_missing,
};
