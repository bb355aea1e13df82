/* Clusters (CDS): the cluster manager warms them; endpoints come by EDS. */
#include "proxy/config/cluster.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/xds_internal.h"

static void cluster_note_warming(struct resource *r)
{
    bool warming = cluster_manager_warming(r->x->env.clusters, r->name);
    if (warming == r->warming) return;
    r->warming = warming;
    if (warming)
        r->x->warming_clusters++;
    else
        r->x->warming_clusters--;
}

/* Endpoints that are known already serve a cluster that is new or changed, too: no wait for a
 * control plane that sees no reason to send them again. */
static void cluster_known_endpoints(const struct resource *r)
{
    for (const struct need_link *l = r->needs; l; l = l->next) {
        struct resource *e = l->resource;
        if (e->kind != XDS_ENDPOINT) continue;
        if (e->object)
            cluster_manager_endpoints(r->x->env.clusters, e->name,
                                      (struct load_assignment *)obj_ref(e->object));
        else if (e->done)
            cluster_manager_endpoints_missing(r->x->env.clusters, e->name);
    }
}

static bool kind_cluster_accept(struct resource *r, const ProtobufCMessage *msg, struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx);
    struct cluster *c = translate_cluster(cx, (const Envoy__Config__Cluster__V3__Cluster *)msg);
    if (!c) return false;
    if (cx->validate_only) {
        struct obj *o = &c->obj;
        obj_unref(&o);
        return true;
    }
    if (!store_link_needs(r, cx->needs, &r->needs, &root)) return false;
    c->obj.version = STR_NONE;
    (void)cluster_manager_set(r->x->env.clusters,
                              c); /* unchanged, added or updated: all are fine here */
    cluster_note_warming(r);
    cluster_known_endpoints(r);
    cluster_note_warming(r);
    demand_cluster_active(r->x, r->name);
    return true;
}

static void kind_cluster_remove(struct resource *r)
{
    (void)cluster_manager_remove(r->x->env.clusters, r->name); /* unknown: nothing to do */
    cluster_note_warming(r);
    store_drop_needs(&r->needs);
    store_wake(r->x);
}

static bool kind_cluster_ready(struct resource *r)
{
    cluster_note_warming(r);
    return true;
}

static void kind_cluster_missing(struct resource *r)
{
    demand_answer(r->x, ON_DEMAND_CLUSTER, r->name, false);
    demand_unwatch(r);
}

const struct kind_ops kind_cluster = {
    .type_url = "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    .label = "Cluster",
    .desc = &envoy__config__cluster__v3__cluster__descriptor,
    .full = true,
    .arena = 640,
    .accept = kind_cluster_accept,
    .remove = kind_cluster_remove,
    .ready = kind_cluster_ready,
    .missing = kind_cluster_missing,
};
