/* envoy.filters.network.tcp_proxy: its configuration, from the message to struct tcp_conf. Main
 * thread. */
#include "base/arena.h"
#include "base/map.h"
#include "base/proxy_header.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/backoff.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/proxy_protocol.pb-c.h"
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "envoy/extensions/request_id/uuid/v3/uuid.pb-c.h"
#include "envoy/type/v3/hash_policy.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "filters/common/stats.h"
#include "filters/network/tcp_proxy.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/access_log.h"
#include "proxy/http/route_internal.h" /* merging metadata criteria */

typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy
    TcpProxy; /* the generated name is too long to read */

enum { HOUR_S = 3600, EARLY_DATA_DEFAULT = 0, BACKOFF_MOST_FACTOR = 10 };

const struct stat_def tcp_stat_defs[TCP_STAT_COUNT] = {
    [TCP_CX_DRAIN_CLOSE] = {"downstream_cx_drain_close", STAT_COUNTER, 0},
    [TCP_CX_NO_ROUTE] = {"downstream_cx_no_route", STAT_COUNTER, 0},
    [TCP_CX_OVERLOAD_CLOSE] = {"downstream_cx_overload_close", STAT_COUNTER, 0},
    [TCP_CX_RX_BYTES_BUFFERED] = {"downstream_cx_rx_bytes_buffered", STAT_GAUGE, 0},
    [TCP_CX_RX_BYTES_TOTAL] = {"downstream_cx_rx_bytes_total", STAT_COUNTER, 0},
    [TCP_CX_TOTAL] = {"downstream_cx_total", STAT_COUNTER, 0},
    [TCP_CX_TX_BYTES_BUFFERED] = {"downstream_cx_tx_bytes_buffered", STAT_GAUGE, 0},
    [TCP_CX_TX_BYTES_TOTAL] = {"downstream_cx_tx_bytes_total", STAT_COUNTER, 0},
    [TCP_FLOW_PAUSED] = {"downstream_flow_control_paused_reading_total", STAT_COUNTER, 0},
    [TCP_FLOW_RESUMED] = {"downstream_flow_control_resumed_reading_total", STAT_COUNTER, 0},
    [TCP_EARLY_DATA] = {"early_data_received_count_total", STAT_COUNTER, 0},
    [TCP_IDLE_TIMEOUT] = {"idle_timeout", STAT_COUNTER, 0},
    [TCP_MAX_DURATION] = {"max_downstream_connection_duration", STAT_COUNTER, 0},
    [TCP_ROUTE_DELAYED] = {"route_delayed_total", STAT_COUNTER, 0},
    [TCP_UPSTREAM_FLUSH_ACTIVE] = {"upstream_flush_active", STAT_GAUGE, 0},
    [TCP_UPSTREAM_FLUSH_TOTAL] = {"upstream_flush_total", STAT_COUNTER, 0},
};

/* --- clusters
 * ------------------------------------------------------------------------------------------------------------------
 */

static void target_fill(struct arena *a, const char *name, struct tcp_target *out)
{
    out->cluster = str_dup(a, str_of(name));
    out->hash = hash_str(out->cluster);
}

static bool conf_weighted(
    const struct conf_at *at,
    const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__WeightedCluster *m,
    struct tcp_conf *c)
{
    struct arena *a = conf_arena(at);
    struct tcp_target *v = ARENA_ARRAY(a, struct tcp_target, m->n_clusters);
    bool ok = true;
    for (size_t i = 0; i < m->n_clusters; i++) {
        struct conf_at place = conf_index(at, "clusters", i),
                       field = conf_field(&place, "metadata_match");
        target_fill(a, m->clusters[i]->name, &v[i]);
        v[i].weight = m->clusters[i]->weight;
        v[i].metadata_match = route_metadata_merge(
            c->metadata_match, conf_metadata(&field, m->clusters[i]->metadata_match), a);
        c->total_weight += v[i].weight;
    }
    if (c->total_weight == 0) ok = conf_fail(at, "the sum of the weights must be greater than 0");
    c->weighted = true;
    c->targets = v;
    c->target_count = m->n_clusters;
    return ok;
}

static bool conf_targets(const struct conf_at *at, const TcpProxy *m, struct tcp_conf *c)
{
    struct conf_at field = conf_field(at, "metadata_match");
    c->metadata_match = conf_metadata(&field, m->metadata_match);
    switch (m->cluster_specifier_case) {
    case ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS:
        field = conf_field(at, "weighted_clusters");
        return conf_weighted(&field, m->weighted_clusters, c);
    case ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER: {
        struct tcp_target *one = ARENA_NEW(conf_arena(at), struct tcp_target);
        target_fill(conf_arena(at), m->cluster, one);
        one->weight = c->total_weight = 1;
        one->metadata_match = c->metadata_match;
        c->targets = one;
        /* Envoy: an empty name has no route, unless filter state names a cluster. */
        c->target_count = one->cluster.len ? 1 : 0;
        return true;
    }
    case ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__TCP_PROXY__CLUSTER_SPECIFIER__NOT_SET:
    default: return conf_fail(at, "a cluster specifier is required");
    }
}

/* --- times
 * ---------------------------------------------------------------------------------------------------------------------
 */

static bool conf_times(const struct conf_at *at, const TcpProxy *m, struct tcp_conf *c)
{
    struct conf_at field = conf_field(at, "idle_timeout");
    bool ok = conf_duration(&field, m->idle_timeout, (uint64_t)HOUR_S * 1000000, &c->idle_us);
    field = conf_field(at, "max_downstream_connection_duration");
    ok &= conf_duration(&field, m->max_downstream_connection_duration, 0, &c->duration_us);
    if (m->max_downstream_connection_duration_jitter_percentage) {
        c->duration_jitter = m->max_downstream_connection_duration_jitter_percentage->value / 100;
    }
    c->max_attempts = m->max_connect_attempts ? m->max_connect_attempts->value : 1;
    if (!m->backoff_options) return ok;
    struct conf_at inner = conf_field(at, "backoff_options");
    field = conf_field(&inner, "base_interval");
    ok &= conf_duration(&field, m->backoff_options->base_interval, 0, &c->backoff_us);
    field = conf_field(&inner, "max_interval");
    ok &= conf_duration(&field, m->backoff_options->max_interval,
                        c->backoff_us * BACKOFF_MOST_FACTOR, &c->backoff_most_us);
    if (c->backoff_most_us < c->backoff_us)
        ok = conf_fail(&field, "max_interval must be greater than or equal to the base_interval");
    return ok;
}

/* --- access logs
 * ---------------------------------------------------------------------------------------------------------------
 */

static bool conf_logs(const struct conf_at *at, const TcpProxy *m, struct tcp_conf *c)
{
    bool ok = true;
    c->access_log = translate_access_logs(at, "access_log", m->n_access_log, m->access_log, &ok);
    struct conf_at options = conf_field(at, "access_log_options");
    struct conf_at field =
        conf_field(m->access_log_options ? &options : at, "access_log_flush_interval");
    if (!m->access_log_options) {
        c->log_connected = m->flush_access_log_on_connected;
        return conf_duration(&field, m->access_log_flush_interval, 0, &c->log_interval_us) && ok;
    }
    if (m->flush_access_log_on_connected) {
        ok = conf_fail(
            &options,
            "Only one of flush_access_log_on_connected or access_log_options can be specified.");
    }
    if (m->access_log_flush_interval) {
        ok = conf_fail(
            &options,
            "Only one of access_log_flush_interval or access_log_options can be specified.");
    }
    c->log_start = m->access_log_options->flush_access_log_on_start;
    c->log_connected = m->access_log_options->flush_access_log_on_connected;
    return conf_duration(&field, m->access_log_options->access_log_flush_interval, 0,
                         &c->log_interval_us) &&
           ok;
}

/* --- the rest
 * ------------------------------------------------------------------------------------------------------------------
 */

static bool conf_hash(const struct conf_at *at, const TcpProxy *m, struct tcp_conf *c)
{
    if (m->n_hash_policy == 0) return true;
    const Envoy__Type__V3__HashPolicy *h = m->hash_policy[0];
    struct conf_at place = conf_index(at, "hash_policy", 0);
    switch (h->policy_specifier_case) {
    case ENVOY__TYPE__V3__HASH_POLICY__POLICY_SPECIFIER_SOURCE_IP:
        c->hash = TCP_HASH_SOURCE_IP;
        return true;
    case ENVOY__TYPE__V3__HASH_POLICY__POLICY_SPECIFIER_FILTER_STATE:
        c->hash = TCP_HASH_FILTER_STATE;
        c->hash_key = str_dup(conf_arena(at), str_of(h->filter_state->key));
        return true;
    case ENVOY__TYPE__V3__HASH_POLICY__POLICY_SPECIFIER__NOT_SET:
    default: return conf_fail(&place, "a hash policy is required");
    }
}

/* ON_DOWNSTREAM_TLS_HANDSHAKE is what IMMEDIATE does here, too: a filter's connection is up when
 * its handshake is done. */
static bool conf_connect_mode(const struct conf_at *at, const TcpProxy *m, struct tcp_conf *c)
{
    c->early_data = m->max_early_data_bytes != NULL;
    c->early_most = m->max_early_data_bytes ? m->max_early_data_bytes->value : EARLY_DATA_DEFAULT;
    if (m->upstream_connect_mode ==
        ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__UPSTREAM_CONNECT_MODE__ON_DOWNSTREAM_DATA) {
        c->connect_mode = TCP_CONNECT_ON_DATA;
    }
    bool now = m->upstream_connect_mode ==
               ENVOY__EXTENSIONS__FILTERS__NETWORK__TCP_PROXY__V3__UPSTREAM_CONNECT_MODE__IMMEDIATE;
    if (now || c->early_data) return true;
    struct conf_at field = conf_field(at, "max_early_data_bytes");
    return conf_fail(
        &field, "max_early_data_bytes must be set when upstream_connect_mode is not IMMEDIATE");
}

static bool conf_request_id(
    const struct conf_at *at,
    const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__TunnelingConfig *m,
    struct tcp_tunnel_conf *t)
{
    struct arena *a = conf_arena(at);
    if (!m->request_id_extension || !m->request_id_extension->typed_config) return true;
    struct conf_at extension = conf_field(at, "request_id_extension"),
                   place = conf_field(&extension, "typed_config");
    const Google__Protobuf__Any *any = m->request_id_extension->typed_config;
    const ProtobufCMessageDescriptor *uuid =
        &envoy__extensions__request_id__uuid__v3__uuid_request_id_config__descriptor;
    struct str name = proto_any_name(a, any);
    if (!str_eq(name, str_of(uuid->name)))
        return conf_fail(&place, "request id extension \"%.*s\" is not supported", STR_ARG(name));
    struct proto_path root = proto_path_root(conf_path(&place));
    t->request_id = true;
    t->id_header = m->request_id_header && m->request_id_header[0]
                       ? str_dup_lower(a, str_of(m->request_id_header))
                       : STR("x-request-id");
    t->id_key = m->request_id_metadata_key && m->request_id_metadata_key[0]
                    ? str_dup(a, str_of(m->request_id_metadata_key))
                    : STR("tunnel_request_id");
    return proto_any_unpack(a, any, uuid, at->cx->opts, &root, at->cx->errors) != NULL;
}

static bool conf_tunnel(
    const struct conf_at *at,
    const Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__TunnelingConfig *m,
    struct tcp_conf *c)
{
    if (!m) return true;
    struct arena *a = conf_arena(at);
    struct tcp_tunnel_conf *t = ARENA_NEW(a, struct tcp_tunnel_conf);
    struct conf_at host = conf_field(at, "hostname"), path = conf_field(at, "post_path");
    struct str why = STR_NONE;
    bool ok = true;
    t->hostname = format_parse(a, str_dup(a, str_of(m->hostname)), true, &why);
    if (!t->hostname) ok = conf_fail(&host, "%.*s", STR_ARG(why));
    bool headers_ok;
    unsigned extra;
    ok &= conf_formatters(at, m->n_formatters, m->formatters, &extra);
    t->headers = conf_header_additions(at, "headers_to_add", m->n_headers_to_add, m->headers_to_add,
                                       extra, &headers_ok);
    t->post = m->use_post;
    t->path = str_dup(a, str_of(m->post_path));
    if (t->path.len && !t->post)
        ok = conf_fail(&path, "Can't set a post path when POST method isn't used");
    if (t->path.len == 0) t->path = STR("/");
    t->keep_headers = m->propagate_response_headers;
    t->keep_trailers = m->propagate_response_trailers;
    ok &= conf_request_id(at, m, t);
    c->tunnel = t;
    return ok && headers_ok;
}

static const struct stat_def tcp_on_demand_stat_defs[TCP_ON_DEMAND_STAT_COUNT] = {
    [TCP_ON_DEMAND_ATTEMPT] = {"on_demand_cluster_attempt", STAT_COUNTER, 0},
    [TCP_ON_DEMAND_MISSING] = {"on_demand_cluster_missing", STAT_COUNTER, 0},
    [TCP_ON_DEMAND_SUCCESS] = {"on_demand_cluster_success", STAT_COUNTER, 0},
    [TCP_ON_DEMAND_TIMEOUT] = {"on_demand_cluster_timeout", STAT_COUNTER, 0},
};

/* Envoy: without a source nothing is asked for. */
static bool conf_on_demand(const struct conf_at *at, const TcpProxy *m, struct tcp_conf *c)
{
    enum { ON_DEMAND_US = 60 * 1000 * 1000 };
    if (!m->on_demand || !m->on_demand->odcds_config) return true;
    struct conf_at here = conf_field(at, "on_demand"), timeout = conf_field(&here, "timeout");
    c->on_demand = m->on_demand->odcds_config;
    struct str prefix = str_fmt(conf_arena(at), "tcp.%s.", m->stat_prefix);
    c->on_demand_stats =
        conf_stat_group(at, prefix, tcp_on_demand_stat_defs, TCP_ON_DEMAND_STAT_COUNT);
    return conf_duration(&timeout, m->on_demand->timeout, ON_DEMAND_US, &c->on_demand_us);
}

static bool conf_tlv(const struct conf_at *at, const Envoy__Config__Core__V3__TlvEntry *e,
                     struct tcp_tlv *out)
{
    struct conf_at format = conf_field(at, "format_string");
    struct str value = str_make((const char *)e->value.data, e->value.len);
    *out = (struct tcp_tlv){.type = (uint8_t)e->type, .value = str_dup(conf_arena(at), value)};
    if (!value.len == !e->format_string) {
        return conf_fail(at, "Invalid TLV configuration: %s",
                         value.len ? "only one of 'value' or 'format_string' must be set."
                                   : "one of 'value' or 'format_string' must be set.");
    }
    if (value.len > PROXY_TLV_MOST) return conf_fail(at, "the value is too long");
    return !e->format_string || (out->format = conf_format(&format, e->format_string));
}

/* Envoy: those with formats come last. */
static bool conf_tlvs(const struct conf_at *at, const TcpProxy *m, struct tcp_conf *c)
{
    size_t n = m->n_proxy_protocol_tlvs;
    struct tcp_tlv *v = ARENA_ARRAY(conf_arena(at), struct tcp_tlv, n);
    bool ok = true;
    for (int formats = 0; formats <= 1; formats++) {
        for (size_t i = 0; i < n; i++) {
            const Envoy__Config__Core__V3__TlvEntry *e = m->proxy_protocol_tlvs[i];
            struct conf_at place = conf_index(at, "proxy_protocol_tlvs", i);
            if ((e->format_string != NULL) == (formats != 0))
                ok &= conf_tlv(&place, e, &v[c->tlv_count++]);
        }
    }
    c->tlvs = v;
    c->tlv_merge = (enum tcp_tlv_merge)m->proxy_protocol_tlv_merge_policy;
    return ok;
}

static void conf_stats(const struct conf_at *at, const TcpProxy *m, struct tcp_conf *c)
{
    struct str prefix = str_fmt(conf_arena(at), "tcp.%s.", m->stat_prefix);
    c->stats = conf_stat_group(at, prefix, tcp_stat_defs, TCP_STAT_COUNT);
    c->bytes = (struct conn_byte_stats){.group = c->stats,
                                        .rx_total = TCP_CX_RX_BYTES_TOTAL,
                                        .rx_buffered = TCP_CX_RX_BYTES_BUFFERED,
                                        .tx_total = TCP_CX_TX_BYTES_TOTAL,
                                        .tx_buffered = TCP_CX_TX_BYTES_BUFFERED};
}

const struct tcp_conf *tcp_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const TcpProxy *m = (const void *)msg;
    struct tcp_conf *c = ARENA_NEW(conf_arena(at), struct tcp_conf);
    bool ok = conf_targets(at, m, c);
    ok &= conf_times(at, m, c);
    ok &= conf_logs(at, m, c);
    ok &= conf_hash(at, m, c);
    ok &= conf_tlvs(at, m, c);
    c->check_drain = m->check_drain_close && m->check_drain_close->value;
    ok &= conf_connect_mode(at, m, c);
    struct conf_at tunnel = conf_field(at, "tunneling_config");
    ok &= conf_tunnel(&tunnel, m->tunneling_config, c);
    ok &= conf_on_demand(at, m, c);
    conf_stats(at, m, c);
    return ok ? c : NULL;
}
