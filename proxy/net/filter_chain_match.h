/* Which filter chain gets a connection: Envoy's fixed order of criteria, most specific value first,
 * no stepping back. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/str.h"

struct listener_conf;
struct match_ask;

enum net_source_type { NET_SOURCE_ANY, NET_SOURCE_LOCAL, NET_SOURCE_EXTERNAL };
/* Criteria of one chain; an empty list matches all. */
struct net_match {
    uint16_t destination_port; /* 0: any */
    const struct cidr *destination, *direct_source, *source;
    size_t destination_count, direct_source_count, source_count;
    const struct str *server_names; /* exact, or ".example.com" for "*.example.com"; lower case */
    size_t server_name_count;
    struct str transport_protocol; /* empty: any */
    const struct str *alpn;
    size_t alpn_count;
    enum net_source_type source_type;
    const uint16_t *source_ports;
    size_t source_port_count;
};
/* What is known of a connection when its chain is chosen. */
struct net_facts {
    const struct addr *local, *remote, *direct_remote;
    struct str sni; /* lower case; empty: none */
    struct str transport_protocol;
    const struct str *alpn;
    size_t alpn_count;
};
/* Index in l->chains; l->chain_count: the default chain; SIZE_MAX: none. */
size_t filter_chain_find(const struct listener_conf *l, const struct net_facts *f);
/* What a listener's matcher tree leads to: an index in l->chains, SIZE_MAX: a chain that there is
 * not. */
struct filter_chain_action {
    size_t index;
};
/* The same by the listener's matcher tree. */
size_t filter_chain_find_by_tree(const struct listener_conf *l, const struct match_ask *ask);
/* How two chains collide. */
enum net_overlap {
    NET_OVERLAP_NONE,
    NET_OVERLAP_SAME /* equal rules */,
    NET_OVERLAP_PART /* some connection fits both equally */
};
enum net_overlap net_match_overlap(const struct net_match *a, const struct net_match *b);
