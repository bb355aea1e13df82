/* Parts of the translation of listeners, shared by listener.c and listener_chain.c. */
#pragma once
#include "proxy/api/network_filter.h"
#include "proxy/config/listener.h"

struct Envoy__Config__Listener__V3__FilterChain;

/* A UDP listener's own parts: b->udp; everything else of the base but the filters is there. label:
 * "127.0.0.1:80". */
bool translate_udp_listener(const struct conf_at *at,
                            const struct Envoy__Config__Listener__V3__Listener *m,
                            struct listener_base *b, struct str label);
/* A chain in an arena of its own; its needs are added to at's context. NULL: told. */
struct filter_chain_conf *translate_filter_chain(
    const struct conf_at *at, const struct Envoy__Config__Listener__V3__FilterChain *m,
    const struct network_filter_place *place);
/* What a chain or base needs, told to the context around it, which outlives them: an equal one of
 * an older version may take its place. */
void translate_pass_needs(const struct conf_at *outer, const struct conf_cx *inner);
/* Checks that no connection fits two chains equally. label: "127.0.0.1:80". */
bool check_filter_chains(const struct conf_at *at, const struct listener_conf *l, struct str label);
