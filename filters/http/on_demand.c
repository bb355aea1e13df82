/* envoy.filters.http.on_demand: a request without a route, or whose cluster nobody has, waits until
 * the control plane was asked for its virtual host, scope or cluster. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/filters/http/on_demand/v3/on_demand.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/on_demand.h"
#include "proxy/api/route.h"
#include "proxy/api/upstream.h"

enum { CLUSTER_TIMEOUT_US = 5000000 }; /* Envoy's default */

typedef Envoy__Extensions__Filters__Http__OnDemand__V3__OnDemandCds OnDemandCds;

struct on_demand_conf {
    const void *clusters; /* where unknown clusters are asked for; NULL: nowhere */
    uint64_t timeout_us;
};
struct on_demand_filter {
    struct http_filter base;
    struct on_demand question;
};

static const void *on_demand_conf_of(const struct conf_at *at, const OnDemandCds *m)
{
    struct on_demand_conf *c = ARENA_NEW(conf_arena(at), struct on_demand_conf);
    struct conf_at odcds = conf_field(at, "odcds"), timeout = conf_field(&odcds, "timeout"),
                   source = conf_field(&odcds, "source");
    if (!m) return c;
    if (!m->source) {
        conf_fail(&source, "value is required");
        return NULL;
    }
    c->clusters = m->source;
    return conf_duration(&timeout, m->timeout, CLUSTER_TIMEOUT_US, &c->timeout_us) ? c : NULL;
}

static const void *on_demand_conf_create(const struct conf_at *at,
                                         const struct ProtobufCMessage *msg, struct str stat_prefix)
{
    (void)stat_prefix;
    const Envoy__Extensions__Filters__Http__OnDemand__V3__OnDemand *m = (const void *)msg;
    return on_demand_conf_of(at, m->odcds);
}

static const void *on_demand_route_conf_create(const struct conf_at *at,
                                               const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__OnDemand__V3__PerRouteConfig *m = (const void *)msg;
    return on_demand_conf_of(at, m->odcds);
}

static struct on_demand_filter *on_demand_of(struct on_demand *d)
{
    return CONTAINER_OF(d, struct on_demand_filter, question);
}

/* There is a route now: the request begins anew, so that every filter sees it. */
static void on_demand_route_answered(struct on_demand *d, bool found)
{
    struct http_filter *f = &on_demand_of(d)->base;
    if (found)
        http_filter_restart(f);
    else
        http_filter_resume(f, HTTP_DECODE);
}

static void on_demand_cluster_answered(struct on_demand *d, bool found)
{
    (void)found; /* without one the router answers 503 */
    http_filter_resume(&on_demand_of(d)->base, HTTP_DECODE);
}

static bool on_demand_ask_cluster(struct on_demand_filter *me, struct str cluster)
{
    const struct on_demand_conf *c = me->base.route_conf ? me->base.route_conf : me->base.conf;
    if (!c->clusters || !cluster.len || upstream_find(me->base.worker, cluster, hash_str(cluster)))
        return false;
    struct on_demand_question q = {.kind = ON_DEMAND_CLUSTER,
                                   .name = cluster,
                                   .source = c->clusters,
                                   .timeout_us = c->timeout_us};
    return on_demand_ask(me->base.worker, &me->question, &q, on_demand_cluster_answered);
}

static enum http_flow on_demand_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)h;
    (void)end;
    struct on_demand_filter *me = CONTAINER_OF(f, struct on_demand_filter, base);
    const struct route *r = http_filter_route(f);
    bool waits;
    if (!r)
        waits = http_filter_ask_route(f, &me->question, on_demand_route_answered);
    else
        waits = r->action == ROUTE_FORWARD && on_demand_ask_cluster(me, http_filter_cluster(f));
    return waits ? HTTP_HOLD_ALL : HTTP_CONTINUE;
}

static void on_demand_destroy(struct http_filter *f)
{
    on_demand_cancel(&CONTAINER_OF(f, struct on_demand_filter, base)->question);
}

const struct http_filter_type http_on_demand = {
    .ext = {.name = "envoy.filters.http.on_demand",
            .config = &envoy__extensions__filters__http__on_demand__v3__on_demand__descriptor},
    .route_config = &envoy__extensions__filters__http__on_demand__v3__per_route_config__descriptor,
    .instance_size = sizeof(struct on_demand_filter),
    .conf_create = on_demand_conf_create,
    .route_conf_create = on_demand_route_conf_create,
    .decode_headers = on_demand_decode_headers,
    .destroy = on_demand_destroy,
};
