/* envoy.filters.udp_listener.udp_proxy: its configuration, from the message to struct udp_conf.
 * Main thread. */
#include "base/arena.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/udp_socket_config.pb-c.h"
#include "envoy/extensions/filters/udp/udp_proxy/v3/route.pb-c.h"
#include "envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy.pb-c.h"
#include "filters/common/stats.h"
#include "filters/udp/udp_proxy.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/match_tree.h"
#include "proxy/config/access_log.h"
#include "proxy/config/socket.h"

typedef Envoy__Extensions__Filters__Udp__UdpProxy__V3__UdpProxyConfig
    UdpProxy; /* the generated name is too long to read */

enum { IDLE_DEFAULT_US = 60 * 1000 * 1000 };

const struct stat_def udp_stat_defs[UDP_STAT_COUNT] = {
    [UDP_SESS_NO_ROUTE] = {"downstream_sess_no_route", STAT_COUNTER, 0},
    [UDP_SESS_RX_BYTES] = {"downstream_sess_rx_bytes", STAT_COUNTER, 0},
    [UDP_SESS_RX_DATAGRAMS] = {"downstream_sess_rx_datagrams", STAT_COUNTER, 0},
    [UDP_SESS_RX_ERRORS] = {"downstream_sess_rx_errors", STAT_COUNTER, 0},
    [UDP_SESS_TOTAL] = {"downstream_sess_total", STAT_COUNTER, 0},
    [UDP_SESS_TX_BYTES] = {"downstream_sess_tx_bytes", STAT_COUNTER, 0},
    [UDP_SESS_TX_DATAGRAMS] = {"downstream_sess_tx_datagrams", STAT_COUNTER, 0},
    [UDP_SESS_TX_ERRORS] = {"downstream_sess_tx_errors", STAT_COUNTER, 0},
    [UDP_IDLE_TIMEOUT] = {"idle_timeout", STAT_COUNTER, 0},
    [UDP_FILTER_CONFIG_MISSING] = {"session_filter_config_missing", STAT_COUNTER, 0},
    [UDP_SESS_ACTIVE] = {"downstream_sess_active", STAT_GAUGE, 0},
};
const struct stat_def udp_cluster_stat_defs[UDP_CLUSTER_STAT_COUNT] = {
    [UDP_CLUSTER_RX_DATAGRAMS] = {"sess_rx_datagrams", STAT_COUNTER, 0},
    [UDP_CLUSTER_RX_DROPPED] = {"sess_rx_datagrams_dropped", STAT_COUNTER, 0},
    [UDP_CLUSTER_RX_ERRORS] = {"sess_rx_errors", STAT_COUNTER, 0},
    [UDP_CLUSTER_TUNNEL_OVERFLOW] = {"sess_tunnel_buffer_overflow", STAT_COUNTER, 0},
    [UDP_CLUSTER_TUNNEL_FAILURE] = {"sess_tunnel_failure", STAT_COUNTER, 0},
    [UDP_CLUSTER_TUNNEL_SUCCESS] = {"sess_tunnel_success", STAT_COUNTER, 0},
    [UDP_CLUSTER_TX_DATAGRAMS] = {"sess_tx_datagrams", STAT_COUNTER, 0},
    [UDP_CLUSTER_TX_ERRORS] = {"sess_tx_errors", STAT_COUNTER, 0},
};

/* --- routes
 * ------------------------------------------------------------------------------------- */

static const struct udp_target *target_new(struct arena *a, const char *name, struct udp_conf *c)
{
    struct udp_target *t = ARENA_NEW(a, struct udp_target);
    t->cluster = str_dup(a, str_of(name));
    t->hash = hash_str(t->cluster);
    t->next = c->targets;
    c->targets = t;
    return t;
}

static const void *conf_action(const struct conf_at *at, struct str name,
                               const struct Google__Protobuf__Any *any, void *arg)
{
    const Envoy__Extensions__Filters__Udp__UdpProxy__V3__Route *r = (const void *)conf_match_action(
        at, name, any, &envoy__extensions__filters__udp__udp_proxy__v3__route__descriptor);
    return r ? target_new(conf_arena(at), r->cluster, arg) : NULL;
}

static bool conf_route(const struct conf_at *at, const UdpProxy *m, struct udp_conf *c)
{
    if (m->route_specifier_case ==
        ENVOY__EXTENSIONS__FILTERS__UDP__UDP_PROXY__V3__UDP_PROXY_CONFIG__ROUTE_SPECIFIER_CLUSTER) {
        c->target = target_new(conf_arena(at), m->cluster, c);
        return true;
    }
    struct conf_at place = conf_field(at, "matcher");
    struct match_tree_use use = {.place = MATCH_IN_UDP, .action = conf_action, .arg = c};
    c->tree = conf_match_tree(&place, m->matcher, &use);
    return c->tree != NULL;
}

/* --- the rest
 * ----------------------------------------------------------------------------------- */

static void conf_hash(const UdpProxy *m, struct udp_conf *c)
{
    if (m->n_hash_policies == 0) return;
    const Envoy__Extensions__Filters__Udp__UdpProxy__V3__UdpProxyConfig__HashPolicy *h =
        m->hash_policies[0];
    bool key =
        h->policy_specifier_case ==
        ENVOY__EXTENSIONS__FILTERS__UDP__UDP_PROXY__V3__UDP_PROXY_CONFIG__HASH_POLICY__POLICY_SPECIFIER_KEY;
    c->hash = key ? UDP_HASH_KEY : UDP_HASH_SOURCE_IP;
    if (key) c->hash_key = hash_xxh64(str_of(h->key), 0);
}

static bool conf_logs(const struct conf_at *at, const UdpProxy *m, struct udp_conf *c)
{
    bool ok = true, proxy_ok = true;
    c->access_log = translate_access_logs(at, "access_log", m->n_access_log, m->access_log, &ok);
    c->proxy_log = translate_access_logs(at, "proxy_access_log", m->n_proxy_access_log,
                                         m->proxy_access_log, &proxy_ok);
    if (!m->access_log_options) return ok && proxy_ok;
    struct conf_at options = conf_field(at, "access_log_options");
    struct conf_at field = conf_field(&options, "access_log_flush_interval");
    return conf_duration(&field, m->access_log_options->access_log_flush_interval, 0,
                         &c->log_interval_us) &&
           ok && proxy_ok;
}

const void *udp_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                            const struct network_filter_place *place)
{
    (void)place;
    const UdpProxy *m = (const void *)msg;
    struct udp_conf *c = ARENA_NEW(conf_arena(at), struct udp_conf);
    struct conf_at field = conf_field(at, "idle_timeout");
    bool ok = conf_route(at, m, c);
    ok &= conf_duration(&field, m->idle_timeout, IDLE_DEFAULT_US, &c->idle_us);
    ok &= conf_logs(at, m, c);
    conf_hash(m, c);
    c->original_source = m->use_original_src_ip;
    c->per_packet = m->use_per_packet_load_balancing;
    c->datagram_most = translate_udp_most(m->upstream_socket_config, true);
    c->totals = ARENA_NEW(conf_arena(at), struct udp_totals);
    c->stats = conf_stat_group(at, str_fmt(conf_arena(at), "udp.%s.", m->stat_prefix),
                               udp_stat_defs, UDP_STAT_COUNT);
    return ok ? c : NULL;
}
