/* The tree of conditions, for rbac.c (asking) and rbac_conf.c (making). */
#pragma once
#include "base/addr.h"
#include "filters/common/rbac.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/matcher.h"

enum rbac_kind {
    RBAC_AND,
    RBAC_OR,
    RBAC_NOT,
    RBAC_ANY,
    RBAC_HEADER,
    RBAC_PATH,
    RBAC_METADATA,
    RBAC_ROUTE_METADATA,
    RBAC_DESTINATION_IP,
    RBAC_DESTINATION_PORTS,
    RBAC_SERVER_NAME,
    RBAC_UPSTREAM, /* permissions */
    RBAC_AUTHENTICATED,
    RBAC_CONNECTION_IP,
    RBAC_DIRECT_IP,
    RBAC_REMOTE_IP,
    RBAC_STATE,
    RBAC_STATE_ADDRESS /* principals */
};
struct rbac_node {
    enum rbac_kind kind;
    const struct rbac_node *v; /* AND, OR: count; NOT: one */
    size_t count;
    struct header_matcher header;
    struct string_matcher string; /* path, server name, principal name, filter state */
    bool has_string;              /* AUTHENTICATED: a name is asked for */
    struct metadata_matcher metadata;
    struct cidr range;
    const struct cidr *ranges; /* STATE_ADDRESS: count */
    bool invert;               /* of ranges */
    int64_t from, to;          /* ports [from, to) */
    bool has_range, has_ports; /* UPSTREAM */
    struct str key;            /* filter state */
};
struct rbac_policy {
    struct str name;
    const struct rbac_node *permissions, *principals; /* one of each must fit */
    size_t permission_count, principal_count;
};
enum rbac_action { RBAC_ALLOW, RBAC_DENY, RBAC_LOG };
/* What a matcher tree leads to. */
struct rbac_match {
    struct str name;
    enum rbac_action action;
};
struct rbac_rules {
    const struct match_tree *tree; /* instead of what follows */
    bool tree_logs;                /* it has a LOG action */
    enum rbac_action action;
    const struct rbac_policy *policies; /* in the order of their names */
    size_t count;
};
