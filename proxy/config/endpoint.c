/* ClusterLoadAssignment: inside static and DNS clusters, and as an EDS resource. */
#include "base/arena.h"
#include "base/map.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint_components.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/equal.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/cluster_internal.h"

enum { OVERPROVISIONING = 140 };

struct endpoint_cx {
    enum cluster_discovery discovery;
    struct load_assignment *la;
};

static bool takes_names(enum cluster_discovery d)
{
    return d == CLUSTER_STRICT_DNS || d == CLUSTER_LOGICAL_DNS;
}

static bool socket_endpoint(const struct conf_at *at, const struct endpoint_cx *cx,
                            const Envoy__Config__Core__V3__SocketAddress *m, struct addr *addr,
                            struct endpoint *e)
{
    struct str host = str_of(m->address);
    if (m->port_specifier_case ==
        ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_NAMED_PORT)
        return conf_fail(at, "named ports need a resolver, and none is registered");
    if (m->resolver_name && *m->resolver_name) {
        if (cx->discovery == CLUSTER_LOGICAL_DNS)
            return conf_fail(at, "LOGICAL_DNS clusters must NOT have a custom resolver name set");
        if (!str_eq(str_of(m->resolver_name), STR("envoy.ip")))
            return conf_fail(at, "Unknown address resolver: %s", m->resolver_name);
    }
    uint16_t port = (uint16_t)m->port_value;
    bool ip = addr_parse_ip(host, port, addr);
    if (takes_names(cx->discovery) && e) {
        e->dns = str_dup(conf_arena(at), host);
        e->port = port;
        if (ip)
            addr->len = 0; /* resolved like any name, so that the host keeps it as its hostname */
        return true;
    }
    if (ip) return true;
    return conf_fail(
        at,
        "malformed IP address: %.*s. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'",
        STR_ARG(host));
}

static bool endpoint_address(const struct conf_at *at, const struct endpoint_cx *cx,
                             const Envoy__Config__Core__V3__Address *m, struct addr *addr,
                             struct endpoint *e)
{
    struct conf_at here;
    switch (m->address_case) {
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS:
        here = conf_field(at, "socket_address");
        return socket_endpoint(&here, cx, m->socket_address, addr, e);
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE:
        here = conf_field(at, "pipe");
        if (takes_names(cx->discovery))
            return conf_fail(&here, "a DNS cluster needs socket addresses");
        if (!addr_unix(str_of(m->pipe->path), addr))
            return conf_fail(&here, "Path \"%s\" exceeds maximum UNIX domain socket path size",
                             m->pipe->path);
        return true;
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_ENVOY_INTERNAL_ADDRESS:
        here = conf_field(at, "envoy_internal_address");
        return conf_fail(&here, "internal listeners are not supported");
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS__NOT_SET: break;
    }
    return conf_fail(at, "an address is needed");
}

static bool health_check_config(const struct conf_at *at, const struct endpoint_cx *cx,
                                const Envoy__Config__Endpoint__V3__Endpoint__HealthCheckConfig *m,
                                struct endpoint *e)
{
    if (!m) return true;
    if (*m->hostname) e->health_hostname = str_dup(conf_arena(at), str_of(m->hostname));
    e->disable_active_hc = m->disable_active_health_check;
    if (!m->address && m->port_value == 0) return true;
    struct addr *x = ARENA_NEW(conf_arena(at), struct addr);
    *x = e->addr;
    if (m->address) {
        struct conf_at here = conf_field(at, "address");
        if (!endpoint_address(&here, cx, m->address, x, NULL)) return false;
    }
    if (m->port_value > 0 && addr_is_ip(x)) addr_set_port(x, (uint16_t)m->port_value);
    e->health_addr = x;
    return true;
}

static bool canary_of(const struct metadata *m)
{
    static const struct str path[] = {{"canary", 6}};
    const struct value *v = m ? metadata_find(m, STR("envoy.lb"), path, 1) : NULL;
    return v && v->kind == VALUE_BOOL && v->u.boolean;
}

static bool endpoint_translate(const struct conf_at *at, const struct endpoint_cx *cx,
                               const Envoy__Config__Endpoint__V3__LbEndpoint *m, struct endpoint *e)
{
    struct conf_at here = conf_field(at, "endpoint");
    if (m->host_identifier_case ==
        ENVOY__CONFIG__ENDPOINT__V3__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT_NAME)
        return conf_fail(at, "endpoint_name is not supported");
    const Envoy__Config__Endpoint__V3__Endpoint *x =
        m->host_identifier_case ==
                ENVOY__CONFIG__ENDPOINT__V3__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT
            ? m->endpoint
            : NULL;
    if (!x || !x->address) return conf_fail(&here, "an address is needed");
    struct conf_at address = conf_field(&here, "address");
    bool ok = endpoint_address(&address, cx, x->address, &e->addr, e);
    if (*x->hostname) e->hostname = str_dup(conf_arena(at), str_of(x->hostname));
    e->weight = m->load_balancing_weight ? m->load_balancing_weight->value : 1;
    e->status = (int)m->health_status;
    if (m->metadata) {
        struct conf_at where = conf_field(at, "metadata");
        e->metadata = conf_metadata(&where, m->metadata);
        e->metadata_hash = proto_hash(&m->metadata->base);
        e->canary = canary_of(e->metadata);
    }
    struct conf_at health = conf_field(&here, "health_check_config");
    return health_check_config(&health, cx, x->health_check_config, e) && ok;
}

static bool locality_translate(const struct conf_at *at, const struct endpoint_cx *cx,
                               const Envoy__Config__Endpoint__V3__LocalityLbEndpoints *m,
                               struct locality_endpoints *l)
{
    struct arena *a = conf_arena(at);
    if (m->locality) {
        l->region = str_dup(a, str_of(m->locality->region));
        l->zone = str_dup(a, str_of(m->locality->zone));
        l->sub_zone = str_dup(a, str_of(m->locality->sub_zone));
    }
    l->priority = m->priority;
    l->has_weight = m->load_balancing_weight != NULL;
    l->weight = l->has_weight ? m->load_balancing_weight->value : 0;
    if (m->lb_config_case ==
        ENVOY__CONFIG__ENDPOINT__V3__LOCALITY_LB_ENDPOINTS__LB_CONFIG_LEDS_CLUSTER_LOCALITY_CONFIG)
        return conf_fail(at, "LEDS is not supported");
    size_t n = m->n_lb_endpoints;
    Envoy__Config__Endpoint__V3__LbEndpoint *const *v = m->lb_endpoints;
    if (m->lb_config_case ==
        ENVOY__CONFIG__ENDPOINT__V3__LOCALITY_LB_ENDPOINTS__LB_CONFIG_LOAD_BALANCER_ENDPOINTS) {
        n = m->load_balancer_endpoints->n_lb_endpoints;
        v = m->load_balancer_endpoints->lb_endpoints;
    }
    l->v = ARENA_ARRAY(a, struct endpoint, n);
    l->count = n;
    bool ok = true;
    struct conf_at where = conf_field(at, "metadata");
    const struct metadata *metadata = m->metadata ? conf_metadata(&where, m->metadata) : NULL;
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, "lb_endpoints", i);
        ok = endpoint_translate(&here, cx, v[i], &l->v[i]) && ok;
        l->v[i].locality_metadata = metadata;
        if (metadata) l->v[i].metadata_hash ^= proto_hash(&m->metadata->base) * 31;
    }
    return ok;
}

static bool policy_translate(const struct conf_at *at,
                             const Envoy__Config__Endpoint__V3__ClusterLoadAssignment__Policy *m,
                             struct load_assignment *out)
{
    if (!m) return true;
    if (m->overprovisioning_factor) out->overprovisioning = m->overprovisioning_factor->value;
    out->weighted_priority_health = m->weighted_priority_health;
    if (m->n_drop_overloads > 1) {
        struct conf_at here = conf_field(at, "drop_overloads");
        return conf_fail(
            &here, "Cluster drop_overloads config has %zu categories. Envoy only support one.",
            m->n_drop_overloads);
    }
    out->drops = ARENA_ARRAY(conf_arena(at), struct drop_overload, m->n_drop_overloads);
    out->drop_count = m->n_drop_overloads;
    for (size_t i = 0; i < m->n_drop_overloads; i++) {
        const Envoy__Config__Endpoint__V3__ClusterLoadAssignment__Policy__DropOverload *d =
            m->drop_overloads[i];
        out->drops[i].category = str_dup(conf_arena(at), str_of(d->category));
        out->drops[i].denominator =
            d->drop_percentage ? conf_percent_denominator(d->drop_percentage) : 100;
        out->drops[i].numerator = d->drop_percentage ? d->drop_percentage->numerator : 0;
    }
    struct conf_at stale = conf_field(at, "endpoint_stale_after");
    return conf_duration(&stale, m->endpoint_stale_after, 0, &out->stale_after_us);
}

/* Envoy: the weights of a priority's localities, and of a locality's endpoints, must not add up to
 * more than 2^32 - 1. */
static bool weights_check(const struct conf_at *at, const struct load_assignment *la)
{
    uint64_t sums[129] = {0};
    for (size_t i = 0; i < la->count; i++) {
        const struct locality_endpoints *l = &la->v[i];
        struct conf_at here = conf_index(at, "endpoints", i);
        if (l->priority >= 129) return conf_fail(&here, "priority must be at most 128");
        sums[l->priority] += l->weight;
        if (sums[l->priority] > UINT32_MAX)
            return conf_fail(
                &here,
                "The sum of weights of all localities at the same priority exceeds max size %u",
                UINT32_MAX);
        uint64_t sum = 0;
        for (size_t k = 0; k < l->count; k++)
            sum += l->v[k].weight;
        if (sum > UINT32_MAX)
            return conf_fail(
                &here, "The sum of weights of all endpoints in the locality exceeds max size %u",
                UINT32_MAX);
    }
    return true;
}

bool translate_endpoints(const struct conf_at *at,
                         const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *m,
                         enum cluster_discovery discovery, struct load_assignment *out)
{
    struct endpoint_cx cx = {discovery, out};
    out->overprovisioning = OVERPROVISIONING;
    out->v = ARENA_ARRAY(conf_arena(at), struct locality_endpoints, m->n_endpoints);
    out->count = m->n_endpoints;
    bool ok = true;
    for (size_t i = 0; i < m->n_endpoints; i++) {
        struct conf_at here = conf_index(at, "endpoints", i);
        ok = locality_translate(&here, &cx, m->endpoints[i], &out->v[i]) && ok;
    }
    struct conf_at policy = conf_field(at, "policy");
    ok = policy_translate(&policy, m->policy, out) && ok;
    return ok && weights_check(at, out);
}

struct load_assignment *translate_load_assignment(
    struct conf_cx *cx, const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *m)
{
    struct load_assignment *la = obj_new_in(cx->arena, sizeof(*la));
    struct conf_at at = conf_root(cx);
    la->obj.name = str_dup(cx->arena, str_of(m->cluster_name));
    la->obj.hash = proto_hash(&m->base);
    return translate_endpoints(&at, m, CLUSTER_EDS, la) ? la : NULL;
}
