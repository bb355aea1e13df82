/* HttpConnectionManager: message to struct hcm_conf. */
#include "proxy/config/hcm.h"
#include <ifaddrs.h>
#include <net/if.h>
#include "base/arena.h"
#include "envoy/config/core/v3/config_source.pb-c.h"
#include "envoy/config/core/v3/protocol.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/config/access_log.h"
#include "proxy/config/hcm_internal.h"
#include "proxy/config/route.h"
#include "proxy/http/h1.h"
#include "proxy/http/h2.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

/* --- statistics
 * -------------------------------------------------------------------------------------------------------------
 */

static void hcm_stats_unref(void *group)
{
    struct stat_group *g = group;
    stat_group_unref(&g);
}

/* A group that lives as long as the configuration. NULL without a store (validation). */
static struct stat_group *hcm_group(const struct conf_at *at, struct str prefix,
                                    const struct stat_def *defs, size_t count)
{
    const struct runtime *rt = at->cx->rt;
    if (!rt || !rt->stats || at->cx->validate_only) return NULL;
    struct stat_group *g = stat_group_get(rt->stats, prefix, defs, count);
    arena_on_free(conf_arena(at), hcm_stats_unref, g);
    return g;
}

static void hcm_stat_groups(const struct conf_at *at, const Hcm *m,
                            const struct network_filter_place *place, struct hcm_conf *c)
{
    struct arena *a = conf_arena(at);
    struct str listener =
        str_fmt(a, "%.*shttp.%s.", STR_ARG(place->listener_stat_prefix), m->stat_prefix);
    c->stats = hcm_group(at, c->stat_prefix, hcm_stat_defs, HCM_STAT_COUNT);
    c->listener_stats = hcm_group(at, listener, hcm_listener_stat_defs, HCM_LISTENER_STAT_COUNT);
    c->tracing_stats = hcm_group(at, str_cat(a, c->stat_prefix, STR("tracing.")),
                                 hcm_tracing_stat_defs, HCM_TRACING_STAT_COUNT);
    c->h1_stats = hcm_group(at, STR("http1."), h1_stat_defs, H1_STAT_COUNT);
    c->h2_stats = hcm_group(at, STR("http2."), h2_stat_defs, H2_STAT_COUNT);
    c->codec_options.stats = c->h1_stats;
    c->h2_options.stats = c->h2_stats;
    struct conn_byte_stats *bytes = ARENA_NEW(a, struct conn_byte_stats);
    *bytes = (struct conn_byte_stats){.group = c->stats,
                                      .rx_total = HCM_STAT_CX_RX_BYTES_TOTAL,
                                      .rx_buffered = HCM_STAT_CX_RX_BYTES_BUFFERED,
                                      .tx_total = HCM_STAT_CX_TX_BYTES_TOTAL,
                                      .tx_buffered = HCM_STAT_CX_TX_BYTES_BUFFERED};
    c->byte_stats = bytes;
}

/* --- routes
 * -------------------------------------------------------------------------------------------------------------------
 */

/* Envoy: has no effect in a table that stands here, but must name a source that could serve it.
 * (That ADS is a delta stream is not known here.) */
static bool hcm_inline_vhds(const struct conf_at *at,
                            const Envoy__Config__Route__V3__RouteConfiguration *m)
{
    struct conf_at vhds = conf_field(at, "vhds");
    const Envoy__Config__Core__V3__ConfigSource *s = m && m->vhds ? m->vhds->config_source : NULL;
    if (!s || s->config_source_specifier_case ==
                  ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS)
        return true;
    if (s->config_source_specifier_case ==
            ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE &&
        s->api_config_source->api_type ==
            ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__DELTA_GRPC)
        return true;
    return conf_fail(&vhds, "only 'DELTA_GRPC' or 'ADS' is supported as a config source");
}

static bool hcm_routes(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    struct conf_at rds = conf_field(at, "rds"), inside = conf_field(at, "route_config");
    switch (m->route_specifier_case) {
    case HCM_PB(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_RDS):
        if (!m->rds->config_source) {
            struct conf_at source = conf_field(&rds, "config_source");
            return conf_fail(&source, "value is required");
        }
        if (!m->rds->route_config_name || !m->rds->route_config_name[0]) {
            struct conf_at name = conf_field(&rds, "route_config_name");
            return conf_fail(&name, "a name is required");
        }
        c->rds_name = str_dup(conf_arena(at), str_of(m->rds->route_config_name));
        c->rds_hash = hash_str(c->rds_name);
        conf_need(at, NEED_ROUTES, c->rds_name, m->rds->config_source)->stat_prefix =
            str_fmt(conf_arena(at), "%.*srds.%.*s.", STR_ARG(c->stat_prefix), STR_ARG(c->rds_name));
        return true;
    case HCM_PB(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_ROUTE_CONFIG):
        if (!hcm_inline_vhds(&inside, m->route_config)) return false;
        c->routes = translate_inline_route_config(&inside, m->route_config);
        return c->routes != NULL;
    case HCM_PB(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_SCOPED_ROUTES):
        return hcm_scoped_routes(at, m, c);
    case HCM_PB(HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER__NOT_SET): break;
    }
    return conf_fail(at, "route_specifier: one of rds, route_config, scoped_routes is required");
}

/* --- upgrades
 * ------------------------------------------------------------------------------------------------------------------
 */

static bool hcm_upgrades(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    struct hcm_upgrade *v = ARENA_ARRAY(conf_arena(at), struct hcm_upgrade, m->n_upgrade_configs);
    bool ok = true;
    for (size_t i = 0; i < m->n_upgrade_configs; i++) {
        const Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager__UpgradeConfig
            *u = m->upgrade_configs[i];
        struct conf_at place = conf_index(at, "upgrade_configs", i);
        v[i].type = str_dup(conf_arena(at), str_of(u->upgrade_type));
        v[i].enabled = !u->enabled || u->enabled->value;
        for (size_t k = 0; k < i; k++) {
            if (!str_case_eq(v[k].type, v[i].type)) continue;
            ok = conf_fail(&place, "Error: multiple upgrade configs with the same name: '%.*s'",
                           STR_ARG(v[i].type));
        }
        if (!u->n_filters) continue;
        v[i].has_chain = true;
        ok &= hcm_filters(&place, "filters", u->n_filters, u->filters, c->stat_prefix, &v[i].chain);
    }
    c->upgrades = v;
    c->upgrade_count = m->n_upgrade_configs;
    return ok;
}

/* --- the rest
 * -------------------------------------------------------------------------------------------------------------------
 */

/* The machine's first address that is not loopback, as text. Empty when there is none. */
static struct str hcm_local_address(struct arena *a)
{
    struct ifaddrs *all = NULL;
    struct str found = STR_NONE;
    if (getifaddrs(&all) != 0) return found;
    for (const struct ifaddrs *i = all; i && !found.len; i = i->ifa_next) {
        struct addr x = {0};
        char text[ADDR_TEXT_MAX];
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK))
            continue;
        memcpy(&x.sa, i->ifa_addr, sizeof(struct sockaddr_in));
        x.len = sizeof(struct sockaddr_in);
        found = str_dup(a, str_make(text, addr_format_ip(&x, text)));
    }
    freeifaddrs(all);
    return found;
}

static bool hcm_access_log(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    bool ok = true;
    c->access_log = translate_access_logs(at, "access_log", m->n_access_log, m->access_log, &ok);
    c->access_log_on_new = m->flush_access_log_on_new_request;
    if (!m->access_log_options) return ok;
    c->access_log_on_new |= m->access_log_options->flush_access_log_on_new_request;
    c->access_log_on_tunnel = m->access_log_options->flush_log_on_tunnel_successfully_established;
    return ok;
}

static void hcm_buffer_limit(const struct network_filter_place *place, struct hcm_conf *c)
{
    const Envoy__Config__Listener__V3__Listener *l = place->listener_msg;
    if (l && l->per_connection_buffer_limit_bytes)
        c->buffer_limit = l->per_connection_buffer_limit_bytes->value;
}

/* What differs from HTTP/1's. */
static void hcm_h2_options(const Hcm *m, struct hcm_conf *c)
{
    const Envoy__Config__Core__V3__Http2ProtocolOptions *h2 = m->http2_protocol_options;
    struct codec_options *o = &c->h2_options;
    *o = c->codec_options;
    o->override_stream_error =
        m->stream_error_on_invalid_http_message && m->stream_error_on_invalid_http_message->value;
    if (h2 && h2->override_stream_error_on_invalid_http_message)
        o->override_stream_error = h2->override_stream_error_on_invalid_http_message->value;
    else if (h2 && h2->stream_error_on_invalid_http_messaging)
        o->override_stream_error = true;
    o->h2_flush_timeout_us = c->stream_flush_timeout_us;
}

const struct hcm_conf *translate_hcm(const struct conf_at *at, const Hcm *m,
                                     const struct network_filter_place *place)
{
    struct hcm_conf *c = ARENA_NEW(conf_arena(at), struct hcm_conf);
    c->stat_prefix = str_fmt(conf_arena(at), "http.%s.", m->stat_prefix);
    c->local_address = hcm_local_address(conf_arena(at));
    bool ok = hcm_codec_options(at, m, c);
    ok &= hcm_times(at, m, c);
    ok &= hcm_request_options(at, m, c);
    ok &= hcm_routes(at, m, c);
    ok &= hcm_access_log(at, m, c);
    ok &= hcm_local_reply(at, m, c);
    ok &= hcm_filters(at, "http_filters", m->n_http_filters, m->http_filters, c->stat_prefix,
                      &c->chain);
    ok &= hcm_upgrades(at, m, c);
    if (!ok) return NULL;
    hcm_buffer_limit(place, c);
    hcm_h2_options(m, c);
    hcm_stat_groups(at, m, place, c);
    return c;
}
