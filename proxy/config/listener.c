/* Translation of Listener to the three objects of proxy/net/listener.h. */
#include "proxy/config/listener.h"

#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/socket_option.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/type/v3/range.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/equal.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/match_tree.h"
#include "proxy/config/access_log.h"
#include "proxy/config/extension_slot.h"
#include "proxy/config/listener_parts.h"
#include "proxy/config/socket.h"
#include "proxy/runtime/runtime.h"
#include "proxy/net/filter_chain_match.h"

enum { FILTERS_TIMEOUT_US = 15 * 1000 * 1000, BUFFER_LIMIT_DEFAULT = 1024 * 1024 };

/* --- fields that we do not serve
 * -------------------------------------------------------------------------- */

static bool refuse_if(const struct conf_at *at, bool set, const char *field, const char *why)
{
    if (!set) return true;
    struct conf_at place = conf_field(at, field);
    return conf_fail(&place, "%s", why);
}

static bool check_unsupported(const struct conf_at *at,
                              const Envoy__Config__Listener__V3__Listener *m)
{
    bool internal = m->listener_specifier_case ==
                    ENVOY__CONFIG__LISTENER__V3__LISTENER__LISTENER_SPECIFIER_INTERNAL_LISTENER;
    bool ok = refuse_if(at, internal, "internal_listener", "internal listeners are not supported");
    ok &= refuse_if(at, m->api_listener != NULL, "api_listener",
                    "missing the API listener extension");
    ok &= refuse_if(at, m->fcds_config != NULL, "fcds_config",
                    "filter chain discovery is not supported");
    ok &= refuse_if(at, m->enable_mptcp, "enable_mptcp", "MPTCP is not supported");
    return ok;
}

/* --- addresses
 * -----------------------------------------------------------------------------------------------
 */

static bool base_is_udp(const Envoy__Config__Core__V3__Address *m)
{
    return m->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS &&
           m->socket_address->protocol == ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PROTOCOL__UDP;
}

static bool base_address(const struct conf_at *at, const Envoy__Config__Core__V3__Address *m,
                         const struct socket_options *common, struct listener_address *out)
{
    if (!translate_address(at, m, &out->addr, &out->pipe_mode)) return false;
    out->options = *common;
    if (m->address_case == ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS)
        out->options.v6_only_off = m->socket_address->ipv4_compat;
    return true;
}

static bool base_addresses(const struct conf_at *at, const Envoy__Config__Listener__V3__Listener *m,
                           const struct socket_options *common, struct listener_base *b)
{
    struct conf_at field = conf_field(at, "address");
    if (!m->address)
        return conf_fail(&field, "error adding listener named '%s': address is necessary", m->name);
    b->address_count = 1 + m->n_additional_addresses;
    b->addresses = ARENA_ARRAY(b->obj.arena, struct listener_address, b->address_count);
    bool ok = base_address(&field, m->address, common, &b->addresses[0]);
    for (size_t i = 0; i < m->n_additional_addresses; i++) {
        const Envoy__Config__Listener__V3__AdditionalAddress *more = m->additional_addresses[i];
        struct conf_at place = conf_index(at, "additional_addresses", i);
        field = conf_field(&place, "address");
        if (!more->address) {
            ok = conf_fail(&field, "an address is required");
            continue;
        }
        struct listener_address *out = &b->addresses[i + 1];
        ok &= base_address(&field, more->address, common, out);
        if (base_is_udp(more->address) != common->datagram) {
            ok = conf_fail(&field,
                           "listener %s: has different socket type. The listener only support same "
                           "socket type for all the addresses.",
                           m->name);
        }
        if (more->tcp_keepalive) translate_keepalive(more->tcp_keepalive, &out->options);
        if (!more->socket_options) continue;
        field = conf_field(&place, "socket_options");
        ok &=
            translate_socket_options(&field, "socket_options", more->socket_options->socket_options,
                                     more->socket_options->n_socket_options, &out->options);
    }
    return ok;
}

static bool base_options(const struct conf_at *at, const Envoy__Config__Listener__V3__Listener *m,
                         struct socket_options *out)
{
    *out = (struct socket_options){
        .datagram = m->address && base_is_udp(m->address),
        .freebind = m->freebind && m->freebind->value,
        .transparent = m->transparent && m->transparent->value,
        .fast_open = m->tcp_fast_open_queue_length
                         ? (int)(m->tcp_fast_open_queue_length->value & INT32_MAX)
                         : 0,
    };
    if (m->tcp_keepalive) translate_keepalive(m->tcp_keepalive, out);
    return translate_socket_options(at, "socket_options", m->socket_options, m->n_socket_options,
                                    out);
}

/* --- listener filters
 * ------------------------------------------------------------------------------------------ */

enum { PREDICATE_DEPTH = 16 };

static bool predicate(const struct conf_at *at,
                      const Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate *m,
                      int depth, struct listener_predicate *out);

static bool predicate_set(
    const struct conf_at *at,
    const Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate__MatchSet *m, int depth,
    struct listener_predicate *out)
{
    struct listener_predicate *v =
        ARENA_ARRAY(conf_arena(at), struct listener_predicate, m->n_rules);
    bool ok = true;
    for (size_t i = 0; i < m->n_rules; i++) {
        struct conf_at place = conf_index(at, "rules", i);
        ok &= predicate(&place, m->rules[i], depth, &v[i]);
    }
    out->v = v;
    out->count = m->n_rules;
    return ok;
}

static bool predicate_not(const struct conf_at *at,
                          const Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate *m,
                          int depth, struct listener_predicate *out)
{
    struct listener_predicate *v = ARENA_NEW(conf_arena(at), struct listener_predicate);
    out->kind = PREDICATE_NOT;
    out->v = v;
    out->count = 1;
    return predicate(at, m, depth, v);
}

/* Recursion: predicates are a tree; its depth is limited. */
static bool predicate(const struct conf_at *at,
                      const Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate *m,
                      int depth, struct listener_predicate *out)
{
    if (depth <= 0) return conf_fail(at, "nested too deeply");
    struct conf_at place;
    switch (m->rule_case) {
    case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_OR_MATCH:
        out->kind = PREDICATE_OR;
        place = conf_field(at, "or_match");
        return predicate_set(&place, m->or_match, depth - 1, out);
    case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_AND_MATCH:
        out->kind = PREDICATE_AND;
        place = conf_field(at, "and_match");
        return predicate_set(&place, m->and_match, depth - 1, out);
    case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_NOT_MATCH:
        place = conf_field(at, "not_match");
        return predicate_not(&place, m->not_match, depth - 1, out);
    case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_ANY_MATCH:
        out->kind = PREDICATE_ANY;
        return true;
    case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE_DESTINATION_PORT_RANGE:
        out->kind = PREDICATE_PORT_RANGE;
        out->from = m->destination_port_range->start;
        out->to = m->destination_port_range->end;
        return true;
    case ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER_CHAIN_MATCH_PREDICATE__RULE__NOT_SET:
    default: return conf_fail(at, "a rule is required");
    }
}

static bool base_filter_disabled(const struct conf_at *at,
                                 const Envoy__Config__Listener__V3__ListenerFilter *m,
                                 struct listener_filter_conf *out)
{
    if (!m->filter_disabled) return true;
    struct listener_predicate *p = ARENA_NEW(conf_arena(at), struct listener_predicate);
    struct conf_at place = conf_field(at, "filter_disabled");
    out->disabled = p;
    return predicate(&place, m->filter_disabled, PREDICATE_DEPTH, p);
}

static bool base_filter(const struct conf_at *at,
                        const Envoy__Config__Listener__V3__ListenerFilter *m,
                        struct listener_filter_conf *out)
{
    if (m->config_type_case ==
        ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER__CONFIG_TYPE_CONFIG_DISCOVERY) {
        struct extension_place slot = {.kind = EXTENSION_LISTENER_FILTER, .name = str_of(m->name)};
        out->slot = translate_extension_slot(at, m->config_discovery, &slot);
        return base_filter_disabled(at, m, out) && out->slot;
    }
    const Google__Protobuf__Any *any =
        m->config_type_case ==
                ENVOY__CONFIG__LISTENER__V3__LISTENER_FILTER__CONFIG_TYPE_TYPED_CONFIG
            ? m->typed_config
            : NULL;
    const ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(at, EXTENSION_LISTENER_FILTER, str_of(m->name), any, &msg);
    if (!e) return false;
    out->type = (const struct listener_filter_type *)e;
    bool ok = true;
    if (out->type->conf_create) {
        struct conf_at config = conf_field(at, "typed_config");
        out->conf = out->type->conf_create(&config, msg);
        ok = out->conf != NULL;
    }
    return base_filter_disabled(at, m, out) && ok;
}

/* A filter that a field of the listener brings, behind all others. */
static bool base_filter_implied(const struct conf_at *at, const char *field, struct str name,
                                struct listener_base *b)
{
    struct conf_at place = conf_field(at, field);
    const struct listener_filter_type *type = (const struct listener_filter_type *)registry_find(
        at->cx->registry, EXTENSION_LISTENER_FILTER, STR_NONE, name);
    if (!type) return conf_fail(&place, "the filter %.*s is not there", STR_ARG(name));
    b->filters[b->filter_count++] =
        (struct listener_filter_conf){.type = type, .conf = type->conf_create(&place, NULL)};
    return true;
}

/* Envoy: what the first chain says holds for the whole listener. */
static bool base_uses_proxy_proto(const Envoy__Config__Listener__V3__Listener *m)
{
    if (!m->n_filter_chains) return false;
    const Google__Protobuf__BoolValue *v = m->filter_chains[0]->use_proxy_proto;
    return v && v->value;
}

static bool base_filters(const struct conf_at *at, const Envoy__Config__Listener__V3__Listener *m,
                         struct listener_base *b)
{
    enum { IMPLIED_MOST = 2 };
    b->filters = ARENA_ARRAY(b->obj.arena, struct listener_filter_conf,
                             m->n_listener_filters + IMPLIED_MOST);
    b->filter_count = m->n_listener_filters;
    bool ok = true;
    for (size_t i = 0; i < m->n_listener_filters; i++) {
        struct conf_at place = conf_index(at, "listener_filters", i);
        ok &= base_filter(&place, m->listener_filters[i], &b->filters[i]);
        if (b->filters[i].slot) b->has_slots = true;
    }
    if (b->use_original_dst) {
        struct str name = STR("envoy.filters.listener.original_dst");
        ok &= base_filter_implied(at, "use_original_dst", name, b);
    }
    if (base_uses_proxy_proto(m)) {
        struct str name = STR("envoy.filters.listener.proxy_protocol");
        ok &= base_filter_implied(at, "filter_chains[0].use_proxy_proto", name, b);
    }
    struct conf_at place = conf_field(at, "listener_filters_timeout");
    return conf_duration(&place, m->listener_filters_timeout, FILTERS_TIMEOUT_US,
                         &b->filters_timeout_us) &&
           ok;
}

/* --- the base
 * ------------------------------------------------------------------------------------------------------
 */

static uint64_t base_hash(const Envoy__Config__Listener__V3__Listener *m)
{
    Envoy__Config__Listener__V3__Listener without = *m;
    without.n_filter_chains = 0;
    without.filter_chains = NULL;
    without.default_filter_chain = NULL;
    without.filter_chain_matcher = NULL;
    return proto_hash(&without.base) + base_uses_proxy_proto(m);
}

static void base_scalars(struct listener_base *b, const Envoy__Config__Listener__V3__Listener *m,
                         const struct runtime *rt)
{
    bool bind_v1 = !(m->deprecated_v1 && m->deprecated_v1->bind_to_port &&
                     !m->deprecated_v1->bind_to_port->value);
    b->bind_to_port = m->bind_to_port ? m->bind_to_port->value : bind_v1;
    b->reuse_port = m->enable_reuse_port ? m->enable_reuse_port->value : true;
    b->use_original_dst = m->use_original_dst && m->use_original_dst->value;
    b->continue_on_timeout = m->continue_on_listener_filters_timeout;
    b->drain_modify_only =
        m->drain_type == ENVOY__CONFIG__LISTENER__V3__LISTENER__DRAIN_TYPE__MODIFY_ONLY;
    b->ignore_global_limit = m->ignore_global_conn_limit;
    b->bypass_overload = m->bypass_overload_manager;
    b->backlog = m->tcp_backlog_size ? (int)(m->tcp_backlog_size->value & INT32_MAX) : 0;
    if (m->max_connections_to_accept_per_socket_event)
        b->accept_most = m->max_connections_to_accept_per_socket_event->value;
    b->limits.buffer_limit = m->per_connection_buffer_limit_bytes
                                 ? m->per_connection_buffer_limit_bytes->value
                                 : BUFFER_LIMIT_DEFAULT;
    b->traffic_direction = (int)m->traffic_direction;
    if (m->connection_balance_config && rt && rt->concurrency > 1) {
        b->balance = listener_balance_new(rt->concurrency);
        arena_on_free(b->obj.arena, listener_balance_unref, b->balance);
    }
}

static struct str base_stat_prefix(const struct listener_base *b,
                                   const Envoy__Config__Listener__V3__Listener *m)
{
    if (m->stat_prefix && m->stat_prefix[0])
        return str_fmt(b->obj.arena, "listener.%s.", m->stat_prefix);
    char text[ADDR_TEXT_MAX];
    size_t len = addr_format(&b->addresses[0].addr, text);
    return str_fmt(b->obj.arena, "listener.%.*s.", (int)len, text);
}

static bool base_fill(const struct conf_at *at, const Envoy__Config__Listener__V3__Listener *m,
                      struct str name, struct listener_base *b)
{
    struct socket_options common;
    bool ok = base_options(at, m, &common);
    b->obj.name = str_dup(b->obj.arena, name);
    b->obj.hash = base_hash(m);
    b->limit_key = str_fmt(b->obj.arena, "envoy.resource_limits.listener.%.*s.connection_limit",
                           STR_ARG(name));
    base_scalars(b, m, at->cx->rt);
    if (!base_addresses(at, m, &common, b)) return false;
    b->stat_prefix = base_stat_prefix(b, m);
    char text[ADDR_TEXT_MAX];
    struct str label = str_make(text, addr_format(&b->addresses[0].addr, text));
    ok &= common.datagram ? translate_udp_listener(at, m, b, label) : base_filters(at, m, b);
    bool logs_ok;
    b->access_log =
        translate_access_logs(at, "access_log", m->n_access_log, m->access_log, &logs_ok);
    struct conf_at field = conf_field(at, "metadata");
    b->metadata = conf_metadata(&field, m->metadata);
    return ok && logs_ok;
}

static struct listener_base *base_new(const struct conf_at *at,
                                      const Envoy__Config__Listener__V3__Listener *m,
                                      struct str name)
{
    struct listener_base *b = listener_base_new();
    struct conf_cx inner = *at->cx;
    inner.arena = b->obj.arena;
    inner.needs = NULL;
    struct conf_at inside = *at;
    inside.cx = &inner;
    if (base_fill(&inside, m, name, b)) {
        translate_pass_needs(at, &inner);
        return b;
    }
    struct obj *o = &b->obj;
    obj_unref(&o);
    return NULL;
}

/* --- the listener
 * ----------------------------------------------------------------------------------------------------
 */

static bool listener_chains(const struct conf_at *at,
                            const Envoy__Config__Listener__V3__Listener *m, struct listener_conf *l)
{
    struct network_filter_place place = {
        .listener_stat_prefix = l->base->stat_prefix,
        .listener_name = l->base->obj.name,
        .traffic_direction = l->base->traffic_direction,
        .listener_msg = m,
    };
    bool ok = true;
    at->cx->scope = l->base->stat_prefix;
    l->chains = ARENA_ARRAY(conf_arena(at), struct filter_chain_conf *, m->n_filter_chains);
    l->chain_count = m->n_filter_chains;
    for (size_t i = 0; i < m->n_filter_chains; i++) {
        struct conf_at field = conf_index(at, "filter_chains", i);
        l->chains[i] = translate_filter_chain(&field, m->filter_chains[i], &place);
        ok &= l->chains[i] != NULL;
    }
    if (!m->default_filter_chain) return ok;
    struct conf_at field = conf_field(at, "default_filter_chain");
    l->default_chain = translate_filter_chain(&field, m->default_filter_chain, &place);
    return ok && l->default_chain;
}

/* Envoy: an unknown name is found out when a connection comes. */
static const void *chain_action(const struct conf_at *at, struct str name,
                                const struct Google__Protobuf__Any *any, void *arg)
{
    const struct listener_conf *l = arg;
    const Google__Protobuf__StringValue *m =
        (const void *)conf_match_action(at, name, any, &google__protobuf__string_value__descriptor);
    if (!m) return NULL;
    struct filter_chain_action *out = ARENA_NEW(conf_arena(at), struct filter_chain_action);
    out->index = SIZE_MAX;
    for (size_t i = 0; i < l->chain_count; i++) {
        if (str_eq(l->chains[i]->obj.name, str_of(m->value))) out->index = i;
    }
    return out;
}

/* Envoy: with a tree chains need names, each its own; their own criteria count no more. */
static bool listener_matcher(const struct conf_at *at,
                             const Envoy__Config__Listener__V3__Listener *m,
                             struct listener_conf *l, struct str label)
{
    for (size_t i = 0; i < l->chain_count; i++) {
        struct conf_at chain = conf_index(at, "filter_chains", i),
                       place = conf_field(&chain, "name");
        struct str name = l->chains[i]->obj.name;
        if (!name.len)
            return conf_fail(&place,
                             "error adding listener '%.*s': \"name\" field is required when using "
                             "a listener matcher",
                             STR_ARG(label));
        for (size_t k = 0; k < i; k++) {
            if (str_eq(l->chains[k]->obj.name, name))
                return conf_fail(&place,
                                 "error adding listener '%.*s': \"name\" field is duplicated with "
                                 "value '%.*s'",
                                 STR_ARG(label), STR_ARG(name));
        }
    }
    struct conf_at place = conf_field(at, "filter_chain_matcher");
    struct match_tree_use use = {.place = MATCH_IN_CHAINS, .action = chain_action, .arg = l};
    l->matcher = conf_match_tree(&place, m->filter_chain_matcher, &use);
    return l->matcher != NULL;
}

static bool listener_fill(const struct conf_at *at, const Envoy__Config__Listener__V3__Listener *m,
                          struct listener_conf *l)
{
    bool ok = check_unsupported(at, m);
    l->base = base_new(at, m, l->obj.name);
    if (!l->base) return false;
    char text[ADDR_TEXT_MAX];
    struct str label = str_make(text, addr_format(&l->base->addresses[0].addr, text));
    if (l->base->udp) return ok;
    if (m->n_filter_chains == 0 && !m->default_filter_chain && ok) {
        return conf_fail(at, "error adding listener '%.*s': no filter chains specified",
                         STR_ARG(label));
    }
    if (!listener_chains(at, m, l) || !ok) return false;
    return m->filter_chain_matcher ? listener_matcher(at, m, l, label)
                                   : check_filter_chains(at, l, label);
}

/* Envoy gives a listener without a name a random one. */
static struct str listener_name(struct arena *a, const Envoy__Config__Listener__V3__Listener *m)
{
    if (m->name && m->name[0]) return str_dup(a, str_of(m->name));
    struct rng rng;
    char uuid[37];
    rng_init(&rng, 0);
    rng_uuid(&rng, uuid);
    return str_dup(a, str_of(uuid));
}

struct listener_conf *translate_listener(struct conf_cx *cx,
                                         const Envoy__Config__Listener__V3__Listener *m)
{
    struct conf_at at = conf_root(cx);
    struct listener_conf *l = listener_conf_new(cx->arena);
    l->obj.name = listener_name(cx->arena, m);
    l->obj.hash = proto_hash(&m->base);
    if (listener_fill(&at, m, l)) {
        l->needs = cx->needs;
        return l;
    }
    l->obj.on_free(&l->obj); /* the arena stays the caller's: only the references go */
    return NULL;
}
