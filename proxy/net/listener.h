/* Translated listeners: what proxy/config/listener.c makes and the listener manager runs. Immutable
 * once made; main makes and frees them, workers borrow. Three objects by lifetime: a filter chain
 * is kept while one of its connections lives, the base while a connection of any of its chains
 * does, the listener (which chains there are) only while it is current. An update that leaves a
 * chain or the base as they were shares the old object, so that a long-lived connection keeps alive
 * only what it uses. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "proxy/net/conn.h"
#include "proxy/net/socket.h"
#include "proxy/runtime/obj.h"

struct access_log_list;
struct network_filter_type;
struct listener_filter_type;
struct udp_filter_type;
struct listener_balance;
struct transport_socket;
struct match_tree;
struct net_match; /* criteria of one filter chain: filter_chain_match.h */
struct metadata;
struct need;
struct extension_slot;

struct network_filter_conf {
    const struct network_filter_type *type;
    const void *conf;
    struct str name;
    const struct extension_slot *slot; /* discovered: type and conf are there; else NULL */
};
/* A filter chain. obj.hash: of its FilterChain message. */
struct filter_chain_conf {
    struct obj obj; /* obj.name: the chain's name, may be empty */
    const struct net_match *match;
    const struct transport_socket *transport; /* NULL: raw */
    uint64_t transport_timeout_us;            /* handshake; 0: none */
    const struct network_filter_conf *filters;
    size_t filter_count;
    bool has_slots; /* one of the filters is discovered */
    const struct metadata *metadata;
};
/* When a listener filter is skipped (ListenerFilter.filter_disabled). */
enum listener_predicate_kind {
    PREDICATE_OR,
    PREDICATE_AND,
    PREDICATE_NOT,
    PREDICATE_ANY,
    PREDICATE_PORT_RANGE
};
struct listener_predicate {
    enum listener_predicate_kind kind;
    const struct listener_predicate *v; /* OR, AND: count; NOT: one */
    size_t count;
    int32_t from, to; /* port range [from, to) */
};
struct listener_filter_conf {
    const struct listener_filter_type *type;
    const void *conf;
    const struct listener_predicate *disabled; /* NULL: never */
    const struct extension_slot *slot;         /* discovered: type and conf are there; else NULL */
};
struct listener_address {
    struct addr addr; /* as configured: port 0 stays */
    uint32_t pipe_mode;
    struct socket_options options;
};
/* What a UDP listener does. */
struct udp_listener_conf {
    const struct udp_filter_type *type;
    const void *conf;
    size_t datagram_most; /* bytes; longer ones are dropped */
};
/* All of a listener but its filter chains. obj.name: the listener's; obj.hash: of the message
 * without its chains. */
struct listener_base {
    struct obj obj;
    struct listener_address *addresses; /* the first is the primary */
    size_t address_count;
    struct str stat_prefix; /* "listener.127.0.0.1_80." */
    struct listener_filter_conf *filters;
    size_t filter_count;
    bool has_slots;                      /* one of the filters is discovered */
    const struct udp_listener_conf *udp; /* NULL: TCP */
    uint64_t filters_timeout_us;         /* 0: none */
    bool continue_on_timeout;
    bool bind_to_port, reuse_port, use_original_dst, drain_modify_only, ignore_global_limit,
        bypass_overload;
    int backlog;
    uint32_t accept_most; /* per event; 0: all */
    struct conn_limits limits;
    const struct access_log_list *access_log;
    int traffic_direction;
    const struct metadata *metadata;
    struct str limit_key; /* runtime: envoy.resource_limits.listener.<name>.connection_limit */
    struct listener_balance *balance; /* exact_balance; NULL: the kernel spreads connections */
    _Atomic uint32_t
        open; /* connections of all workers, relaxed; the one thing here that changes */
};
/* How many connections each worker has (listener_balance.c). Main; unref: any thread. */
struct listener_balance *listener_balance_new(unsigned workers);
void listener_balance_unref(void *balance);
/* A listener as configured. obj.name: the listener's name; obj.hash: of the whole message. */
struct listener_conf {
    struct obj obj;
    struct listener_base *base;        /* a reference */
    struct filter_chain_conf **chains; /* references */
    size_t chain_count;
    struct filter_chain_conf *default_chain; /* a reference; may be NULL */
    const struct match_tree *matcher; /* chooses instead of the chains' own criteria; its actions
                                         are struct filter_chain_action. NULL: none */
    struct need *needs;               /* of the whole listener */
};
/* Main. Empty objects with their arenas; the caller fills them. listener_conf's on_free drops the
 * references. */
struct listener_conf *listener_conf_new(struct arena *a);
struct listener_base *listener_base_new(void);
struct filter_chain_conf *filter_chain_conf_new(void);
