/* The policy engine of role-based access control, shared by the network and the HTTP filter:
 * envoy.config.rbac.v3.RBAC as a tree of conditions. Made on main, immutable; asked in workers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "proxy/api/conf.h"

struct arena;
struct conn_info;
struct headers;
struct metadata;
struct stream_info;
struct Envoy__Config__Rbac__V3__RBAC;

struct rbac_rules;
/* What is known of who asks for what. */
struct rbac_ask {
    const struct conn_info *conn;
    const struct stream_info *info; /* NULL at the network level */
    const struct headers *headers;  /* NULL: none, conditions on headers do not match */
    const struct metadata *dynamic; /* NULL: none */
    const struct metadata *route;   /* NULL: none */
    struct arena *scratch;
};
enum rbac_action { RBAC_ALLOW, RBAC_DENY, RBAC_LOG };

/* NULL: told. http: conditions on headers are allowed (Envoy's network filter refuses them). */
const struct rbac_rules *rbac_create(const struct conf_at *at,
                                     const struct Envoy__Config__Rbac__V3__RBAC *m, bool http);
enum rbac_action rbac_action_of(const struct rbac_rules *r);
/* May it pass? *policy: the name of the first policy (in the order of names) that fits; ptr NULL
 * when none does. LOG always lets pass; *policy tells whether it is to be logged. policy may be
 * NULL. */
bool rbac_allows(const struct rbac_rules *r, const struct rbac_ask *ask, struct str *policy);
