/* Cluster: discovery, names, limits, sockets; the rest is in cluster_*.c. */
#include "proxy/config/cluster.h"

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "proto/proto.h"
#include "proxy/api/upstream.h"
#include "envoy/config/cluster/v3/circuit_breaker.pb-c.h"
#include "envoy/config/cluster/v3/filter.pb-c.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/config_source.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/decode.h"
#include "proto/equal.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/transport_socket.h"
#include "proxy/config/cluster_internal.h"
#include "proxy/config/socket.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

enum {
    BREAKER_USUAL = 1024,
    RETRIES_USUAL = 3,
    BUDGET_PERCENT = 20,
    BUFFER_LIMIT = 1024 * 1024,
    CONNECT_TIMEOUT_MS = 5000
};

/* --- limits
 * ----------------------------------------------------------------------------------------------------------------------------
 */
#define LIMITS_USUAL                                                                             \
    {                                                                                            \
        BREAKER_USUAL, BREAKER_USUAL, BREAKER_USUAL, RETRIES_USUAL, UINT32_MAX, false, false, 0, \
            0, UINT32_MAX                                                                        \
    }
static const struct breaker_limits limits_usual[BREAKER_PRIORITIES] = {LIMITS_USUAL, LIMITS_USUAL};

static uint32_t value_or(const Google__Protobuf__UInt32Value *v, uint32_t fallback)
{
    return v ? v->value : fallback;
}

static void limits_fill(const Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds *m,
                        struct breaker_limits *l)
{
    l->max_connections = value_or(m->max_connections, BREAKER_USUAL);
    l->max_pending = value_or(m->max_pending_requests, BREAKER_USUAL);
    l->max_requests = value_or(m->max_requests, BREAKER_USUAL);
    l->max_retries = value_or(m->max_retries, RETRIES_USUAL);
    l->max_pools = value_or(m->max_connection_pools, UINT32_MAX);
    l->track_remaining = m->track_remaining;
    if (!m->retry_budget) return;
    l->has_budget = true;
    l->budget_percent =
        m->retry_budget->budget_percent ? m->retry_budget->budget_percent->value : BUDGET_PERCENT;
    l->budget_min = value_or(m->retry_budget->min_retry_concurrency, RETRIES_USUAL);
}

/* Envoy: the first thresholds of a priority count. */
static bool translate_limits(const struct conf_at *at,
                             const Envoy__Config__Cluster__V3__CircuitBreakers *m,
                             struct cluster *c)
{
    c->limits = limits_usual;
    if (!m || m->n_thresholds + m->n_per_host_thresholds == 0) return true;
    struct breaker_limits *l =
        ARENA_ARRAY(conf_arena(at), struct breaker_limits, BREAKER_PRIORITIES);
    memcpy(l, limits_usual, sizeof(limits_usual));
    bool seen[BREAKER_PRIORITIES] = {false};
    for (size_t i = 0; i < m->n_thresholds; i++) {
        size_t p = m->thresholds[i]->priority == ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH
                       ? UPSTREAM_HIGH
                       : UPSTREAM_DEFAULT;
        if (!seen[p]) limits_fill(m->thresholds[i], &l[p]);
        seen[p] = true;
    }
    bool seen_host[BREAKER_PRIORITIES] = {false};
    for (size_t i = 0; i < m->n_per_host_thresholds; i++) {
        const Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds *t =
            m->per_host_thresholds[i];
        struct conf_at here = conf_index(at, "per_host_thresholds", i);
        if (t->max_pending_requests || t->max_requests || t->max_retries ||
            t->max_connection_pools || t->retry_budget || t->track_remaining)
            return conf_fail(
                &here,
                "Unsupported field in per_host_thresholds: only max_connections is supported");
        size_t p = t->priority == ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH
                       ? UPSTREAM_HIGH
                       : UPSTREAM_DEFAULT;
        if (!seen_host[p]) l[p].host_max_connections = value_or(t->max_connections, UINT32_MAX);
        seen_host[p] = true;
    }
    c->limits = l;
    return true;
}

/* --- sockets
 * ------------------------------------------------------------------------------------------------------------------------------
 */
static bool transport_of(const struct conf_at *at,
                         const Envoy__Config__Core__V3__TransportSocket *m,
                         const struct transport_socket **out)
{
    const Google__Protobuf__Any *any =
        m->config_type_case == ENVOY__CONFIG__CORE__V3__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG
            ? m->typed_config
            : NULL;
    const ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(at, EXTENSION_TRANSPORT_SOCKET_UPSTREAM, str_of(m->name), any, &msg);
    if (!e) return false;
    struct conf_at here = conf_field(at, "typed_config");
    *out = ((const struct transport_socket_type *)e)->conf_create(&here, msg, false);
    return *out != NULL;
}

static void free_stat(void *p)
{
    struct stat_group *g = p;
    stat_group_unref(&g);
}

static struct stat_group *match_stat(const struct conf_at *at, struct str name)
{
    struct arena *a = conf_arena(at);
    if (!at->cx->rt || !at->cx->rt->stats || at->cx->validate_only) return NULL;
    struct str full =
        str_fmt(a, "%.*s%.*s.total_match_count", STR_ARG(at->cx->scope), STR_ARG(name));
    struct stat_group *g = stat_single_get(at->cx->rt->stats, full, STAT_COUNTER, 0);
    arena_on_free(a, free_stat, g);
    return g;
}

static bool transport_matches(const struct conf_at *at,
                              const Envoy__Config__Cluster__V3__Cluster *m, struct cluster *c)
{
    size_t n = m->n_transport_socket_matches;
    struct transport_match *v = ARENA_ARRAY(conf_arena(at), struct transport_match, n);
    struct map names = {0};
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        const Envoy__Config__Cluster__V3__Cluster__TransportSocketMatch *x =
            m->transport_socket_matches[i];
        struct conf_at here = conf_index(at, "transport_socket_matches", i);
        struct conf_at socket = conf_field(&here, "transport_socket");
        v[i].name = str_dup(conf_arena(at), str_of(x->name));
        v[i].match = x->match ? conf_struct(conf_arena(at), x->match) : NULL;
        v[i].total = match_stat(at, v[i].name);
        if (map_put(&names, v[i].name, &v[i]))
            ok = conf_fail(&here, "the name \"%s\" is used twice", x->name);
        if (!x->transport_socket)
            ok = conf_fail(&socket, "a transport socket is needed");
        else
            ok = transport_of(&socket, x->transport_socket, &v[i].socket) && ok;
    }
    map_release(&names);
    c->socket_matches = v;
    c->socket_match_count = n;
    return ok;
}

static bool bind_config(const struct conf_at *at, const Envoy__Config__Core__V3__BindConfig *m,
                        struct cluster *c, struct socket_options *opts)
{
    if (!m) return true;
    struct conf_at source = conf_field(at, "source_address");
    if (m->n_extra_source_addresses || m->n_additional_source_addresses) {
        struct conf_at here =
            conf_field(at, m->n_extra_source_addresses ? "extra_source_addresses"
                                                       : "additional_source_addresses");
        return conf_fail(&here, "more than one source address is not supported");
    }
    if (m->source_address) {
        struct addr *a = ARENA_NEW(conf_arena(at), struct addr);
        if (!translate_socket_address(&source, m->source_address, a)) return false;
        c->bind = a;
    }
    opts->freebind = m->freebind && m->freebind->value;
    return translate_socket_options(at, "socket_options", m->socket_options, m->n_socket_options,
                                    opts);
}

/* Filters on upstream connections do not run yet: only those are taken that would do nothing anyway
 * (Istio puts one into every cluster); all others are refused by their type. */
static bool upstream_filters(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m)
{
    bool ok = true;
    for (size_t i = 0; i < m->n_filters; i++) {
        struct conf_at here = conf_index(at, "filters", i);
        struct conf_at config = conf_field(&here, "typed_config");
        const ProtobufCMessage *msg;
        const struct extension *e =
            conf_extension(&here, EXTENSION_UPSTREAM_NETWORK_FILTER, str_of(m->filters[i]->name),
                           m->filters[i]->typed_config, &msg);
        const struct network_filter_type *type = (const struct network_filter_type *)e;
        ok = e && (!type->conf_create || type->conf_create(&config, msg, NULL)) && ok;
    }
    return ok;
}

bool translate_cluster_sockets(const struct conf_at *at,
                               const Envoy__Config__Cluster__V3__Cluster *m, struct cluster *c)
{
    struct conf_at ts = conf_field(at, "transport_socket"),
                   bind = conf_field(at, "upstream_bind_config");
    bool ok = true;
    if (m->transport_socket) ok = transport_of(&ts, m->transport_socket, &c->socket);
    ok = transport_matches(at, m, c) && ok;
    bool keep = m->upstream_connection_options && m->upstream_connection_options->tcp_keepalive;
    if (!m->upstream_bind_config && !keep) return ok;
    struct socket_options *opts = ARENA_NEW(conf_arena(at), struct socket_options);
    if (keep) translate_keepalive(m->upstream_connection_options->tcp_keepalive, opts);
    c->socket_options = opts;
    return bind_config(&bind, m->upstream_bind_config, c, opts) && ok;
}

/* --- discovery
 * ------------------------------------------------------------------------------------------------------------------------------
 */
static bool custom_type(const struct conf_at *at,
                        const Envoy__Config__Cluster__V3__Cluster__CustomClusterType *m,
                        struct cluster *c)
{
    static const struct {
        const char *name;
        enum cluster_discovery discovery;
    } builtin[] = {
        {"envoy.cluster.static", CLUSTER_STATIC},
        {"envoy.cluster.strict_dns", CLUSTER_STRICT_DNS},
        {"envoy.cluster.logical_dns", CLUSTER_LOGICAL_DNS},
        {"envoy.cluster.eds", CLUSTER_EDS},
        {"envoy.cluster.dns", CLUSTER_STRICT_DNS},
    };
    for (size_t i = 0; i < sizeof(builtin) / sizeof(*builtin); i++) {
        if (str_eq(str_of(m->name), str_of(builtin[i].name))) {
            c->discovery = builtin[i].discovery;
            return true;
        }
    }
    struct conf_at here = conf_field(at, "cluster_type");
    const ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(&here, EXTENSION_CLUSTER_TYPE, str_of(m->name), m->typed_config, &msg);
    if (!e) return false;
    c->discovery = CLUSTER_CUSTOM;
    c->custom = (const struct cluster_type *)e;
    c->custom_conf = msg;
    return true;
}

static bool discovery_type(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                           struct cluster *c)
{
    if (m->cluster_discovery_type_case ==
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE)
        return custom_type(at, m->cluster_type, c);
    struct conf_at here = conf_field(at, "type");
    int type = m->cluster_discovery_type_case ==
                       ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE
                   ? (int)m->type
                   : 0;
    static const enum cluster_discovery map[] = {
        CLUSTER_STATIC, CLUSTER_STRICT_DNS, CLUSTER_LOGICAL_DNS, CLUSTER_EDS, CLUSTER_ORIGINAL_DST};
    if (type < 0 || type >= (int)(sizeof(map) / sizeof(*map)))
        return conf_fail(&here, "unknown type %d", type);
    c->discovery = map[type];
    if (c->discovery == CLUSTER_ORIGINAL_DST &&
        m->lb_policy != ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__CLUSTER_PROVIDED)
        return conf_fail(
            at,
            "cluster: LB policy %s is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'",
            proto_enum_name(&envoy__config__cluster__v3__cluster__lb_policy__descriptor,
                            (int)m->lb_policy));
    if (c->discovery == CLUSTER_ORIGINAL_DST && m->load_assignment)
        return conf_fail(at, "ORIGINAL_DST clusters must have no load assignment configured");
    return true;
}

static bool eds_config(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                       struct cluster *c)
{
    struct conf_at here = conf_field(at, "eds_cluster_config");
    const Envoy__Config__Cluster__V3__Cluster__EdsClusterConfig *e = m->eds_cluster_config;
    if (c->discovery != CLUSTER_EDS) {
        if (e) return conf_fail(at, "eds_cluster_config set in a non-EDS cluster");
        return true;
    }
    if (!e || !e->eds_config)
        return conf_fail(at, "cannot create an EDS cluster without an EDS config");
    if (e->service_name && *e->service_name)
        c->eds_service = str_dup(conf_arena(at), str_of(e->service_name));
    struct conf_at source = conf_field(&here, "eds_config");
    (void)conf_need(&source, NEED_ENDPOINTS, c->eds_service.len ? c->eds_service : c->obj.name,
                    e->eds_config);
    return true;
}

/* The endpoints of a cluster are an object of their own: a static cluster needs them no longer once
 * it has its hosts. */
static struct load_assignment *endpoints_make(
    const struct conf_at *at, const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *m,
    const struct cluster *c)
{
    enum { ARENA_FIRST = 512, OVERPROVISIONING = 140 };
    struct conf_cx cx = *at->cx;
    cx.arena = arena_new("endpoints", ARENA_FIRST);
    struct load_assignment *la = obj_new_in(cx.arena, sizeof(*la));
    struct conf_at root = conf_root(&cx), here = conf_field(&root, "load_assignment");
    la->overprovisioning = OVERPROVISIONING;
    if (!m || translate_endpoints(&here, m, c->discovery, la)) return la;
    struct obj *o = &la->obj;
    obj_unref(&o);
    return NULL;
}

static bool endpoints(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                      struct cluster *c)
{
    bool needed = c->discovery == CLUSTER_STATIC || c->discovery == CLUSTER_STRICT_DNS ||
                  c->discovery == CLUSTER_LOGICAL_DNS;
    if (!needed) return true;
    c->endpoints = endpoints_make(at, m->load_assignment, c);
    if (!c->endpoints) return false;
    if (c->discovery != CLUSTER_LOGICAL_DNS ||
        (c->endpoints->count == 1 && c->endpoints->v[0].count == 1))
        return true;
    struct conf_at here = conf_field(at, "load_assignment");
    return conf_fail(
        &here,
        "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint");
}

static void simple_fields(const Envoy__Config__Cluster__V3__Cluster *m, struct cluster *c)
{
    c->buffer_limit = value_or(m->per_connection_buffer_limit_bytes, BUFFER_LIMIT);
    c->wait_for_warm = !m->wait_for_warm_on_init || m->wait_for_warm_on_init->value;
    c->close_on_health_failure = m->close_connections_on_host_health_failure;
    c->drain_on_host_removal = m->ignore_health_on_host_removal;
    c->pool_per_downstream = m->connection_pool_per_downstream_connection;
    c->preconnect_ratio = c->predictive_preconnect_ratio = 1;
    const Envoy__Config__Cluster__V3__Cluster__PreconnectPolicy *p = m->preconnect_policy;
    if (p && p->per_upstream_preconnect_ratio)
        c->preconnect_ratio = p->per_upstream_preconnect_ratio->value;
    if (p && p->predictive_preconnect_ratio)
        c->predictive_preconnect_ratio = p->predictive_preconnect_ratio->value;
    c->track_timeout_budgets = m->track_timeout_budgets ||
                               (m->track_cluster_stats && m->track_cluster_stats->timeout_budgets);
    c->track_sizes = m->track_cluster_stats && m->track_cluster_stats->request_response_sizes;
    c->per_endpoint_stats = m->track_cluster_stats && m->track_cluster_stats->per_endpoint_stats;
}

static void cluster_on_free(struct obj *o)
{
    struct cluster *c = CONTAINER_OF(o, struct cluster, obj);
    struct obj *la = c->endpoints ? &c->endpoints->obj : NULL;
    c->endpoints = NULL;
    if (la) obj_unref(&la);
}

static const struct str *names_of(struct arena *a, size_t n, char *const *from)
{
    struct str *v = ARENA_ARRAY(a, struct str, n);
    for (size_t i = 0; i < n; i++)
        v[i] = str_dup(a, str_of(from[i]));
    return v;
}

/* A cluster type of an extension sees the whole cluster. */
static bool custom_conf(const struct conf_at *at, struct cluster *c)
{
    if (c->discovery != CLUSTER_CUSTOM || !c->custom->conf_create) return true;
    struct conf_at type = conf_field(at, "cluster_type");
    struct conf_at here = conf_field(&type, "typed_config");
    c->custom_conf = c->custom->conf_create(&here, c->custom_conf, c);
    if (c->lb && c->lb == c->custom->lb) c->lb_conf = c->custom_conf;
    return c->custom_conf != NULL;
}

struct cluster *translate_cluster(struct conf_cx *cx, const Envoy__Config__Cluster__V3__Cluster *m)
{
    struct cluster *c = obj_new_in(cx->arena, sizeof(*c));
    struct conf_at at = conf_root(cx);
    struct conf_at timeout = conf_field(&at, "connect_timeout"),
                   breakers = conf_field(&at, "circuit_breakers");
    struct conf_at metadata = conf_field(&at, "metadata");
    c->obj.name = str_dup(cx->arena, str_of(m->name));
    c->obj.hash = proto_hash(&m->base);
    c->obj.on_free = cluster_on_free;
    c->name_hash = hash_str(c->obj.name);
    c->load_metric_count = m->n_lrs_report_endpoint_metrics;
    c->load_metrics =
        names_of(cx->arena, m->n_lrs_report_endpoint_metrics, m->lrs_report_endpoint_metrics);
    c->stat_name = m->alt_stat_name && *m->alt_stat_name
                       ? str_dup(cx->arena, str_of(m->alt_stat_name))
                       : c->obj.name;
    cx->scope = str_fmt(cx->arena, "cluster.%.*s.", STR_ARG(c->stat_name));
    c->added_via_api = cx->added_via_api;
    simple_fields(m, c);
    bool ok = discovery_type(&at, m, c);
    ok = conf_duration(&timeout, m->connect_timeout, (uint64_t)CONNECT_TIMEOUT_MS * 1000,
                       &c->connect_timeout_us) &&
         ok;
    if (ok && (c->discovery == CLUSTER_STRICT_DNS || c->discovery == CLUSTER_LOGICAL_DNS))
        ok = translate_cluster_dns(&at, m, c);
    ok = eds_config(&at, m, c) && endpoints(&at, m, c) && ok;
    ok = translate_limits(&breakers, m->circuit_breakers, c) && ok;
    ok = translate_cluster_sockets(&at, m, c) && ok;
    ok = upstream_filters(&at, m) && ok;
    ok = translate_cluster_http(&at, m, c) && ok;
    ok = translate_cluster_lb(&at, m, c) && ok;
    if (m->metadata) c->metadata = conf_metadata(&metadata, m->metadata);
    ok = custom_conf(&at, c) && ok;
    if (ok) return c;
    cluster_on_free(&c->obj);
    return NULL;
}
