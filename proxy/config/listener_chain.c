/* Translation of filter chains: what they match, their transport socket, their network filters. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/listener/v3/listener_components.pb-c.h"
#include "proto/equal.h"
#include "proto/proto.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/transport_socket.h"
#include "proxy/config/extension_slot.h"
#include "proxy/config/listener_parts.h"
#include "proxy/config/socket.h"
#include "proxy/net/filter_chain_match.h"

/* --- criteria
 * ------------------------------------------------------------------------------------------ */

static bool chain_cidrs(const struct conf_at *at, const char *field,
                        Envoy__Config__Core__V3__CidrRange *const *v, size_t n,
                        const struct cidr **out, size_t *count)
{
    struct cidr *ranges = ARENA_ARRAY(conf_arena(at), struct cidr, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at place = conf_index(at, field, i);
        if (!translate_cidr(&place, v[i], &ranges[i])) ok = false;
    }
    *out = ranges;
    *count = n;
    return ok;
}

/* "*.example.com" becomes ".example.com"; names are compared in lower case. */
static bool chain_server_names(const struct conf_at *at,
                               const Envoy__Config__Listener__V3__FilterChainMatch *m,
                               struct net_match *out)
{
    struct str *names = ARENA_ARRAY(conf_arena(at), struct str, m->n_server_names);
    bool ok = true;
    for (size_t i = 0; i < m->n_server_names; i++) {
        struct conf_at place = conf_index(at, "server_names", i);
        struct str name = str_of(m->server_names[i]);
        if (str_starts(name, STR("*."))) name = str_sub(name, 1, SIZE_MAX);
        if (str_find_char(name, '*') != SIZE_MAX) {
            ok = conf_fail(&place, "partial wildcards are not supported in \"server_names\"");
            continue;
        }
        names[i] = str_dup_lower(conf_arena(at), name);
    }
    out->server_names = names;
    out->server_name_count = m->n_server_names;
    return ok;
}

static void chain_lists(struct arena *a, const Envoy__Config__Listener__V3__FilterChainMatch *m,
                        struct net_match *out)
{
    struct str *alpn = ARENA_ARRAY(a, struct str, m->n_application_protocols);
    for (size_t i = 0; i < m->n_application_protocols; i++)
        alpn[i] = str_dup(a, str_of(m->application_protocols[i]));
    out->alpn = alpn;
    out->alpn_count = m->n_application_protocols;
    uint16_t *ports = ARENA_ARRAY(a, uint16_t, m->n_source_ports);
    for (size_t i = 0; i < m->n_source_ports; i++)
        ports[i] = (uint16_t)m->source_ports[i];
    out->source_ports = ports;
    out->source_port_count = m->n_source_ports;
}

static const struct net_match *chain_match(const struct conf_at *at,
                                           const Envoy__Config__Listener__V3__FilterChainMatch *m)
{
    struct net_match *out = ARENA_NEW(conf_arena(at), struct net_match);
    bool ok = true;
    if ((m->address_suffix && m->address_suffix[0]) || m->suffix_len) {
        ok = conf_fail(at,
                       "filter chain contains unimplemented fields (address_suffix, suffix_len)");
    }
    if (m->destination_port) out->destination_port = (uint16_t)m->destination_port->value;
    ok &= chain_cidrs(at, "prefix_ranges", m->prefix_ranges, m->n_prefix_ranges, &out->destination,
                      &out->destination_count);
    ok &= chain_cidrs(at, "direct_source_prefix_ranges", m->direct_source_prefix_ranges,
                      m->n_direct_source_prefix_ranges, &out->direct_source,
                      &out->direct_source_count);
    ok &= chain_cidrs(at, "source_prefix_ranges", m->source_prefix_ranges,
                      m->n_source_prefix_ranges, &out->source, &out->source_count);
    ok &= chain_server_names(at, m, out);
    out->transport_protocol = str_dup(conf_arena(at), str_of(m->transport_protocol));
    out->source_type = (enum net_source_type)m->source_type;
    chain_lists(conf_arena(at), m, out);
    return ok ? out : NULL;
}

bool check_filter_chains(const struct conf_at *at, const struct listener_conf *l, struct str label)
{
    for (size_t i = 1; i < l->chain_count; i++) {
        for (size_t k = 0; k < i; k++) {
            enum net_overlap how = net_match_overlap(l->chains[k]->match, l->chains[i]->match);
            if (how == NET_OVERLAP_NONE) continue;
            struct conf_at place = conf_index(at, "filter_chains", i);
            if (how == NET_OVERLAP_PART) {
                return conf_fail(
                    &place,
                    "error adding listener '%.*s': multiple filter chains with overlapping matching rules are defined",
                    STR_ARG(label));
            }
            return conf_fail(
                &place,
                "error adding listener '%.*s': filter chain '%.*s' has the same matching rules defined as '%.*s'",
                STR_ARG(label), STR_ARG(l->chains[i]->obj.name), STR_ARG(l->chains[k]->obj.name));
        }
    }
    return true;
}

/* --- transport socket
 * ------------------------------------------------------------------------------------- */

static bool chain_transport(const struct conf_at *at,
                            const Envoy__Config__Core__V3__TransportSocket *m,
                            const struct transport_socket **out)
{
    const ProtobufCMessage *msg;
    const struct extension *e = conf_extension(at, EXTENSION_TRANSPORT_SOCKET_DOWNSTREAM,
                                               str_of(m->name), m->typed_config, &msg);
    if (!e) return false;
    const struct transport_socket_type *type = (const struct transport_socket_type *)e;
    struct conf_at config = conf_field(at, "typed_config");
    *out = type->conf_create(&config, msg, true);
    return *out != NULL;
}

/* --- filters
 * ------------------------------------------------------------------------------------------------
 */

static bool chain_filter(const struct conf_at *at, const Envoy__Config__Listener__V3__Filter *m,
                         const struct network_filter_place *place, bool last,
                         struct network_filter_conf *out)
{
    if (m->config_type_case == ENVOY__CONFIG__LISTENER__V3__FILTER__CONFIG_TYPE_CONFIG_DISCOVERY) {
        struct extension_place slot = {.kind = EXTENSION_NETWORK_FILTER,
                                       .name = str_of(m->name),
                                       .last = last,
                                       .network = place};
        out->name = str_dup(conf_arena(at), str_of(m->name));
        out->slot = translate_extension_slot(at, m->config_discovery, &slot);
        return out->slot != NULL;
    }
    const Google__Protobuf__Any *any =
        m->config_type_case == ENVOY__CONFIG__LISTENER__V3__FILTER__CONFIG_TYPE_TYPED_CONFIG
            ? m->typed_config
            : NULL;
    const ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(at, EXTENSION_NETWORK_FILTER, str_of(m->name), any, &msg);
    if (!e) return false;
    out->type = (const struct network_filter_type *)e;
    out->name = str_dup(conf_arena(at), str_of(m->name));
    struct conf_at config = conf_field(at, "typed_config");
    if (!out->type->conf_create) return true;
    out->conf = out->type->conf_create(&config, msg, place);
    return out->conf != NULL;
}

/* Envoy: exactly the last filter is terminal. */
static bool chain_check_terminal(const struct conf_at *at, const struct filter_chain_conf *c)
{
    for (size_t i = 0; i < c->filter_count; i++) {
        const struct network_filter_conf *f = &c->filters[i];
        bool last = i + 1 == c->filter_count;
        if (f->slot || f->type->terminal == last) continue; /* a slot: when it is filled */
        struct conf_at place = conf_index(at, "filters", i);
        if (last) {
            return conf_fail(
                &place,
                "Error: non-terminal filter named %.*s of type %s is the last filter in a network filter chain.",
                STR_ARG(f->name), f->type->ext.name);
        }
        return conf_fail(
            &place,
            "Error: terminal filter named %.*s of type %s must be the last filter in a network filter chain.",
            STR_ARG(f->name), f->type->ext.name);
    }
    return true;
}

static bool chain_filters(const struct conf_at *at,
                          const Envoy__Config__Listener__V3__FilterChain *m,
                          const struct network_filter_place *place, struct filter_chain_conf *c)
{
    struct network_filter_conf *filters =
        ARENA_ARRAY(conf_arena(at), struct network_filter_conf, m->n_filters);
    bool ok = true;
    for (size_t i = 0; i < m->n_filters; i++) {
        struct conf_at field = conf_index(at, "filters", i);
        bool last = i + 1 == m->n_filters;
        if (!chain_filter(&field, m->filters[i], place, last, &filters[i])) ok = false;
        if (filters[i].slot) c->has_slots = true;
    }
    c->filters = filters;
    c->filter_count = m->n_filters;
    return ok && chain_check_terminal(at, c);
}

/* --- the chain
 * ------------------------------------------------------------------------------------------------
 */

static bool chain_fill(const struct conf_at *at, const Envoy__Config__Listener__V3__FilterChain *m,
                       struct network_filter_place *place, struct filter_chain_conf *c)
{
    bool ok = true;
    c->obj.name = str_dup(conf_arena(at), str_of(m->name));
    c->obj.hash = proto_hash(&m->base);
    if (m->filter_chain_match) {
        struct conf_at field = conf_field(at, "filter_chain_match");
        c->match = chain_match(&field, m->filter_chain_match);
        ok &= c->match != NULL;
    }
    if (m->transport_socket) {
        struct conf_at field = conf_field(at, "transport_socket");
        ok &= chain_transport(&field, m->transport_socket, &c->transport);
    }
    struct conf_at field = conf_field(at, "transport_socket_connect_timeout");
    ok &= conf_duration(&field, m->transport_socket_connect_timeout, 0, &c->transport_timeout_us);
    field = conf_field(at, "metadata");
    c->metadata = conf_metadata(&field, m->metadata);
    place->has_tls = c->transport && c->transport->secure;
    return chain_filters(at, m, place, c) && ok;
}

void translate_pass_needs(const struct conf_at *outer, const struct conf_cx *inner)
{
    for (const struct need *n = inner->needs; n; n = n->next) {
        const void *source =
            n->config_source ? proto_dup(conf_arena(outer), n->config_source) : NULL;
        struct need *copy = conf_need(outer, n->kind, n->name, source);
        copy->stat_prefix = str_dup(conf_arena(outer), n->stat_prefix);
        copy->path = n->path;
        copy->label = str_dup(conf_arena(outer), n->label);
        copy->routes_stat_prefix = str_dup(conf_arena(outer), n->routes_stat_prefix);
        if (n->routes_source) copy->routes_source = proto_dup(conf_arena(outer), n->routes_source);
        copy->slot = n->slot;
        if (copy->slot) extension_slot_keep(conf_arena(outer), copy->slot);
    }
}

struct filter_chain_conf *translate_filter_chain(const struct conf_at *at,
                                                 const Envoy__Config__Listener__V3__FilterChain *m,
                                                 const struct network_filter_place *place)
{
    struct filter_chain_conf *c = filter_chain_conf_new();
    struct network_filter_place own = *place;
    struct conf_cx inner = *at->cx;
    inner.arena = c->obj.arena;
    inner.needs = NULL;
    struct conf_at inside = *at;
    inside.cx = &inner;
    if (chain_fill(&inside, m, &own, c)) {
        translate_pass_needs(at, &inner);
        return c;
    }
    struct obj *o = &c->obj;
    obj_unref(&o);
    return NULL;
}
