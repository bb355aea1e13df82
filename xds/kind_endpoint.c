/* Endpoints (EDS): told to every cluster that waits for or uses them. */
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "proxy/config/cluster.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/xds_internal.h"

static bool kind_endpoint_accept(struct resource *r, const ProtobufCMessage *msg,
                                 struct conf_cx *cx)
{
    struct load_assignment *la = translate_load_assignment(
        cx, (const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *)msg);
    if (!la) return false;
    obj_unref(&r->object);
    r->object = obj_ref(&la->obj);
    cluster_manager_endpoints(r->x->env.clusters, r->name, la);
    return true;
}

static void kind_endpoint_remove(struct resource *r)
{
    obj_unref(&r->object);
}

static bool kind_endpoint_ready(struct resource *r)
{
    (void)r; /* endpoints wait for nothing */
    return true;
}

static void kind_endpoint_missing(struct resource *r)
{
    cluster_manager_endpoints_missing(r->x->env.clusters, r->name);
}

const struct kind_ops kind_endpoint = {
    .type_url = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
    .label = "ClusterLoadAssignment",
    .desc = &envoy__config__endpoint__v3__cluster_load_assignment__descriptor,
    .stays = true,
    .arena = 512,
    .accept = kind_endpoint_accept,
    .remove = kind_endpoint_remove,
    .ready = kind_endpoint_ready,
    .missing = kind_endpoint_missing,
};
