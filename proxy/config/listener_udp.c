/* Translation of what is special in UDP listeners: no filter chains, filters that take datagrams.
 */
#include "base/arena.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/udp_socket_config.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"
#include "envoy/config/listener/v3/udp_listener_config.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/udp.h"
#include "proxy/config/listener_parts.h"
#include "proxy/config/socket.h"
#include "proxy/runtime/runtime.h"

enum { DATAGRAM_DEFAULT = 1500, DATAGRAM_MOST = 65535 };

/* Envoy reads with GRO into buffers that take any datagram, whatever the limit says. */
size_t translate_udp_most(const Envoy__Config__Core__V3__UdpSocketConfig *m, bool prefers_gro)
{
    if (m && m->prefer_gro) prefers_gro = m->prefer_gro->value;
    if (prefers_gro) return DATAGRAM_MOST;
    return m && m->max_rx_datagram_size ? (size_t)m->max_rx_datagram_size->value : DATAGRAM_DEFAULT;
}

/* Envoy: every filter is checked, the first one gets all datagrams (udp_proxy passes none on). */
static bool udp_filter(const struct conf_at *at,
                       const Envoy__Config__Listener__V3__ListenerFilter *m,
                       const struct network_filter_place *place, struct udp_listener_conf *out)
{
    if (m->config_type_case ==
        ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER__CONFIG_TYPE_CONFIG_DISCOVERY) {
        struct conf_at field = conf_field(at, "config_discovery");
        return conf_fail(&field, "extension config discovery is not supported for UDP filters");
    }
    const Google__Protobuf__Any *any =
        m->config_type_case ==
                ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG
            ? m->typed_config
            : NULL;
    const ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(at, EXTENSION_UDP_LISTENER_FILTER, str_of(m->name), any, &msg);
    if (!e) return false;
    const struct udp_filter_type *type = (const struct udp_filter_type *)e;
    struct conf_at config = conf_field(at, "typed_config");
    const void *conf = type->conf_create(&config, msg, place);
    if (!out->type) {
        out->type = type;
        out->conf = conf;
    }
    return conf != NULL;
}

static bool udp_allowed(const struct conf_at *at, const Envoy__Config__Listener__V3__Listener *m,
                        const struct listener_base *b, struct str label)
{
    const struct runtime *rt = at->cx->rt;
    bool ok = true;
    if (m->n_filter_chains || m->default_filter_chain) {
        ok = conf_fail(at,
                       "error adding listener '%.*s': %zu filter chain(s) specified for "
                       "connection-less UDP listener.",
                       STR_ARG(label), m->n_filter_chains);
    }
    if (!b->bind_to_port) {
        ok = conf_fail(at, "listener %.*s: bind_to_port: false is not supported for UDP listeners",
                       STR_ARG(b->obj.name));
    }
    if (!b->reuse_port && rt && rt->concurrency > 1) {
        ok = conf_fail(at,
                       "Listening on UDP when concurrency is > 1 without the SO_REUSEPORT socket "
                       "option results in unstable packet proxying. Configure the reuse_port "
                       "listener option or set concurrency = 1.");
    }
    return ok;
}

bool translate_udp_listener(const struct conf_at *at,
                            const Envoy__Config__Listener__V3__Listener *m, struct listener_base *b,
                            struct str label)
{
    struct udp_listener_conf *c = ARENA_NEW(conf_arena(at), struct udp_listener_conf);
    struct network_filter_place place = {.listener_stat_prefix = b->stat_prefix,
                                         .listener_name = b->obj.name,
                                         .traffic_direction = b->traffic_direction,
                                         .listener_msg = m};
    bool ok = udp_allowed(at, m, b, label);
    for (size_t i = 0; i < m->n_listener_filters; i++) {
        struct conf_at field = conf_index(at, "listener_filters", i);
        ok &= udp_filter(&field, m->listener_filters[i], &place, c);
    }
    c->datagram_most = translate_udp_most(
        m->udp_listener_config ? m->udp_listener_config->downstream_socket_config : NULL, false);
    b->udp = c;
    return ok;
}
