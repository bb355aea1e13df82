/* The policy engine of role-based access control, shared by the network and the HTTP filter:
 * envoy.config.rbac.v3.RBAC as a tree of conditions. Made on main, immutable; asked in workers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "proxy/api/conf.h"
#include "proxy/stats/stats.h"

struct arena;
struct conn_info;
struct headers;
struct metadata;
struct stream_info;
struct worker;
struct Envoy__Config__Rbac__V3__RBAC;
struct Xds__Type__Matcher__V3__Matcher;

struct rbac_rules;
/* What is known of who asks for what. */
struct rbac_ask {
    const struct conn_info *conn;
    const struct stream_info *info; /* NULL at the network level */
    const struct headers *headers;  /* NULL: none, conditions on headers do not match */
    const struct metadata *dynamic; /* NULL: none */
    const struct metadata *route;   /* NULL: none */
    struct arena *scratch;
    struct worker *worker; /* runtime values for matcher trees */
};
struct rbac_verdict {
    bool allowed;
    struct str policy;   /* the first policy (in the order of names) that fits; ptr NULL: none */
    bool has_hint, hint; /* envoy.common access_log_hint is to be set, and to what */
};

/* NULL: told. http: conditions on headers are allowed (Envoy's network filter refuses them). */
const struct rbac_rules *rbac_create(const struct conf_at *at,
                                     const struct Envoy__Config__Rbac__V3__RBAC *m, bool http);
/* The same by a matcher tree whose actions are envoy.config.rbac.v3.Action. NULL: told. Without a
 * match nobody passes. */
const struct rbac_rules *rbac_create_matcher(const struct conf_at *at,
                                             const struct Xds__Type__Matcher__V3__Matcher *m,
                                             bool http);
struct rbac_verdict rbac_ask(const struct rbac_rules *r, const struct rbac_ask *ask);
/* "rbac_access_denied_matched_policy[name]", spaces made "_". */
struct str rbac_denied_details(struct arena *a, struct str policy);

/* What either filter counts, under a prefix of its own: enforced rules, and shadow rules. */
enum rbac_stat { RBAC_STAT_ALLOWED, RBAC_STAT_DENIED, RBAC_STAT_COUNT };
extern const struct stat_def rbac_enforced_stats[RBAC_STAT_COUNT];
extern const struct stat_def rbac_shadow_stats[RBAC_STAT_COUNT];
