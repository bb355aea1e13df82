/* Making the policies from envoy.config.rbac.v3.RBAC. Main thread. */
#include <stdlib.h>

#include "base/arena.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/rbac/v3/rbac.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/rbac/matchers/upstream_ip_port/v3/upstream_ip_port_matcher.pb-c.h"
#include "envoy/type/matcher/v3/address.pb-c.h"
#include "envoy/type/matcher/v3/filter_state.pb-c.h"
#include "envoy/type/matcher/v3/path.pb-c.h"
#include "envoy/type/v3/range.pb-c.h"
#include "filters/common/rbac_internal.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "xds/core/v3/cidr.pb-c.h"

/* --- what permissions and principals share
 * ------------------------------------------------------------------------------------- */

/* Envoy: a prefix longer than the address is the whole address. */
static bool node_cidr(const struct conf_at *at, const Envoy__Config__Core__V3__CidrRange *m,
                      struct cidr *out)
{
    return conf_cidr(at, str_of(m->address_prefix), m->prefix_len ? m->prefix_len->value : 0, out);
}

static bool node_header(const struct conf_at *at, const Envoy__Config__Route__V3__HeaderMatcher *m,
                        bool http, struct rbac_node *out)
{
    if (!http)
        return conf_fail(at, "Found header(%s) rule, not supported by RBAC network filter",
                         m->name);
    out->kind = RBAC_HEADER;
    return conf_header_matcher(at, m, &out->header);
}

static bool node_path(const struct conf_at *at, const Envoy__Type__Matcher__V3__PathMatcher *m,
                      struct rbac_node *out)
{
    struct conf_at field = conf_field(at, "path");
    if (m->rule_case != ENVOY__TYPE__MATCHER__V3__PATH_MATCHER__RULE_PATH)
        return conf_fail(&field, "value is required");
    out->kind = RBAC_PATH;
    return conf_string_matcher(&field, m->path, &out->string);
}

static bool node_sourced(const struct conf_at *at,
                         const Envoy__Config__Rbac__V3__SourcedMetadata *m, struct rbac_node *out)
{
    struct conf_at field = conf_field(at, "metadata_matcher");
    out->kind = m->metadata_source == ENVOY__CONFIG__RBAC__V3__METADATA_SOURCE__ROUTE
                    ? RBAC_ROUTE_METADATA
                    : RBAC_METADATA;
    if (!m->metadata_matcher) return conf_fail(&field, "value is required");
    return conf_metadata_matcher(&field, m->metadata_matcher, &out->metadata);
}

/* --- permissions
 * ---------------------------------------------------------------------------------------------------------------
 */

static bool permission(const struct conf_at *at, const Envoy__Config__Rbac__V3__Permission *m,
                       bool http, struct rbac_node *out);

static bool permission_list(const struct conf_at *at, const char *field, size_t n,
                            Envoy__Config__Rbac__V3__Permission *const *v, bool http,
                            const struct rbac_node **out)
{
    struct rbac_node *nodes = ARENA_ARRAY(conf_arena(at), struct rbac_node, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at place = conf_index(at, field, i);
        ok &= permission(&place, v[i], http, &nodes[i]);
    }
    *out = nodes;
    return ok;
}

static bool permission_set(const struct conf_at *at, const char *field,
                           const Envoy__Config__Rbac__V3__Permission__Set *m, bool http,
                           enum rbac_kind kind, struct rbac_node *out)
{
    struct conf_at place = conf_field(at, field);
    out->kind = kind;
    out->count = m->n_rules;
    return permission_list(&place, "rules", m->n_rules, m->rules, http, &out->v);
}

static bool permission_not(const struct conf_at *at, const Envoy__Config__Rbac__V3__Permission *m,
                           bool http, struct rbac_node *out)
{
    struct conf_at place = conf_field(at, "not_rule");
    struct rbac_node *inner = ARENA_NEW(conf_arena(at), struct rbac_node);
    out->kind = RBAC_NOT;
    out->v = inner;
    out->count = 1;
    return permission(&place, m, http, inner);
}

static bool permission_ports(int64_t from, int64_t to, struct rbac_node *out)
{
    out->kind = RBAC_DESTINATION_PORTS;
    out->from = from;
    out->to = to;
    return true;
}

/* Envoy: both ends within 1..65535 (the end one more), the start before the end. */
static bool permission_range(const struct conf_at *at, const Envoy__Type__V3__Int32Range *m,
                             struct rbac_node *out)
{
    struct conf_at place = conf_field(at, "destination_port_range");
    if (m->start < 0 || m->start > 65535) {
        return conf_fail(&place, "range start %d is out of bounds", m->start);
    }
    if (m->end < 0 || m->end > 65536)
        return conf_fail(&place, "range end %d is out of bounds", m->end);
    if (m->start >= m->end)
        return conf_fail(&place, "range start %d cannot be greater or equal than range end %d",
                         m->start, m->end);
    return permission_ports(m->start, m->end, out);
}

/* The one matcher of its own that Envoy has. */
static bool permission_upstream(const struct conf_at *at,
                                const Envoy__Config__Core__V3__TypedExtensionConfig *m,
                                struct rbac_node *out)
{
    typedef Envoy__Extensions__Rbac__Matchers__UpstreamIpPort__V3__UpstreamIpPortMatcher Matcher;
    struct conf_at config = conf_field(at, "typed_config"), ip = conf_field(&config, "upstream_ip");
    const Matcher *x = (const void *)conf_match_action(
        &config, str_of(m->name), m->typed_config,
        &envoy__extensions__rbac__matchers__upstream_ip_port__v3__upstream_ip_port_matcher__descriptor);
    if (!x) return false;
    out->kind = RBAC_UPSTREAM;
    out->has_range = x->upstream_ip != NULL;
    out->has_ports = x->upstream_port_range != NULL;
    if (!out->has_range && !out->has_ports)
        return conf_fail(&config, "upstream_ip or upstream_port_range is needed");
    if (out->has_ports) {
        out->from = x->upstream_port_range->start;
        out->to = x->upstream_port_range->end;
    }
    return !out->has_range || node_cidr(&ip, x->upstream_ip, &out->range);
}

#define P(name) ENVOY__CONFIG__RBAC__V3__PERMISSION__RULE_##name
static bool permission(const struct conf_at *at, const Envoy__Config__Rbac__V3__Permission *m,
                       bool http, struct rbac_node *out)
{
    struct conf_at place;
    switch (m->rule_case) {
    case P(AND_RULES): return permission_set(at, "and_rules", m->and_rules, http, RBAC_AND, out);
    case P(OR_RULES): return permission_set(at, "or_rules", m->or_rules, http, RBAC_OR, out);
    case P(NOT_RULE): return permission_not(at, m->not_rule, http, out);
    case P(ANY): out->kind = RBAC_ANY; return true;
    case P(HEADER):
        place = conf_field(at, "header");
        return node_header(&place, m->header, http, out);
    case P(URL_PATH):
        place = conf_field(at, "url_path");
        return node_path(&place, m->url_path, out);
    case P(DESTINATION_IP):
        place = conf_field(at, "destination_ip");
        out->kind = RBAC_DESTINATION_IP;
        return node_cidr(&place, m->destination_ip, &out->range);
    case P(DESTINATION_PORT):
        return permission_ports(m->destination_port, (int64_t)m->destination_port + 1, out);
    case P(DESTINATION_PORT_RANGE): return permission_range(at, m->destination_port_range, out);
    case P(METADATA):
        place = conf_field(at, "metadata");
        out->kind = RBAC_METADATA;
        return conf_metadata_matcher(&place, m->metadata, &out->metadata);
    case P(REQUESTED_SERVER_NAME):
        place = conf_field(at, "requested_server_name");
        out->kind = RBAC_SERVER_NAME;
        return conf_string_matcher(&place, m->requested_server_name, &out->string);
    case P(SOURCED_METADATA):
        place = conf_field(at, "sourced_metadata");
        return node_sourced(&place, m->sourced_metadata, out);
    case P(MATCHER):
        place = conf_field(at, "matcher");
        return permission_upstream(&place, m->matcher, out);
    case P(URI_TEMPLATE):
        place = conf_field(at, "uri_template");
        return conf_fail(&place, "URI templates are not supported here");
    case P(_NOT_SET):
    default: return conf_fail(at, "a rule is required");
    }
}
#undef P

/* --- principals
 * ----------------------------------------------------------------------------------------------------------------
 */

static bool principal(const struct conf_at *at, const Envoy__Config__Rbac__V3__Principal *m,
                      bool http, struct rbac_node *out);

static bool principal_list(const struct conf_at *at, const char *field, size_t n,
                           Envoy__Config__Rbac__V3__Principal *const *v, bool http,
                           const struct rbac_node **out)
{
    struct rbac_node *nodes = ARENA_ARRAY(conf_arena(at), struct rbac_node, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at place = conf_index(at, field, i);
        ok &= principal(&place, v[i], http, &nodes[i]);
    }
    *out = nodes;
    return ok;
}

static bool principal_set(const struct conf_at *at, const char *field,
                          const Envoy__Config__Rbac__V3__Principal__Set *m, bool http,
                          enum rbac_kind kind, struct rbac_node *out)
{
    struct conf_at place = conf_field(at, field);
    out->kind = kind;
    out->count = m->n_ids;
    return principal_list(&place, "ids", m->n_ids, m->ids, http, &out->v);
}

static bool principal_not(const struct conf_at *at, const Envoy__Config__Rbac__V3__Principal *m,
                          bool http, struct rbac_node *out)
{
    struct conf_at place = conf_field(at, "not_id");
    struct rbac_node *inner = ARENA_NEW(conf_arena(at), struct rbac_node);
    out->kind = RBAC_NOT;
    out->v = inner;
    out->count = 1;
    return principal(&place, m, http, inner);
}

static bool principal_authenticated(const struct conf_at *at,
                                    const Envoy__Config__Rbac__V3__Principal__Authenticated *m,
                                    struct rbac_node *out)
{
    struct conf_at outer = conf_field(at, "authenticated"),
                   place = conf_field(&outer, "principal_name");
    out->kind = RBAC_AUTHENTICATED;
    out->has_string = m->principal_name != NULL;
    return !m->principal_name || conf_string_matcher(&place, m->principal_name, &out->string);
}

static bool principal_ip(const struct conf_at *at, const char *field,
                         const Envoy__Config__Core__V3__CidrRange *m, enum rbac_kind kind,
                         struct rbac_node *out)
{
    struct conf_at place = conf_field(at, field);
    out->kind = kind;
    return node_cidr(&place, m, &out->range);
}

static bool principal_addresses(const struct conf_at *at,
                                const Envoy__Type__Matcher__V3__AddressMatcher *m,
                                struct rbac_node *out)
{
    struct cidr *v = ARENA_ARRAY(conf_arena(at), struct cidr, m->n_ranges);
    bool ok = true;
    out->kind = RBAC_STATE_ADDRESS;
    for (size_t i = 0; i < m->n_ranges; i++) {
        struct conf_at place = conf_index(at, "ranges", i);
        ok &= conf_cidr(&place, str_of(m->ranges[i]->address_prefix),
                        m->ranges[i]->prefix_len ? m->ranges[i]->prefix_len->value : 0, &v[i]);
    }
    out->ranges = v;
    out->count = m->n_ranges;
    out->invert = m->invert_match;
    return ok;
}

static bool principal_state(const struct conf_at *at,
                            const Envoy__Type__Matcher__V3__FilterStateMatcher *m,
                            struct rbac_node *out)
{
    struct conf_at outer = conf_field(at, "filter_state"), place;
    out->key = str_dup(conf_arena(at), str_of(m->key));
    switch (m->matcher_case) {
    case ENVOY__TYPE__MATCHER__V3__FILTER_STATE_MATCHER__MATCHER_STRING_MATCH:
        place = conf_field(&outer, "string_match");
        out->kind = RBAC_STATE;
        return conf_string_matcher(&place, m->string_match, &out->string);
    case ENVOY__TYPE__MATCHER__V3__FILTER_STATE_MATCHER__MATCHER_ADDRESS_MATCH:
        place = conf_field(&outer, "address_match");
        return principal_addresses(&place, m->address_match, out);
    case ENVOY__TYPE__MATCHER__V3__FILTER_STATE_MATCHER__MATCHER__NOT_SET:
    default: return conf_fail(&outer, "a matcher is required");
    }
}

#define I(name) ENVOY__CONFIG__RBAC__V3__PRINCIPAL__IDENTIFIER_##name
static bool principal(const struct conf_at *at, const Envoy__Config__Rbac__V3__Principal *m,
                      bool http, struct rbac_node *out)
{
    struct conf_at place;
    switch (m->identifier_case) {
    case I(AND_IDS): return principal_set(at, "and_ids", m->and_ids, http, RBAC_AND, out);
    case I(OR_IDS): return principal_set(at, "or_ids", m->or_ids, http, RBAC_OR, out);
    case I(NOT_ID): return principal_not(at, m->not_id, http, out);
    case I(ANY): out->kind = RBAC_ANY; return true;
    case I(AUTHENTICATED): return principal_authenticated(at, m->authenticated, out);
    case I(SOURCE_IP): return principal_ip(at, "source_ip", m->source_ip, RBAC_CONNECTION_IP, out);
    case I(DIRECT_REMOTE_IP):
        return principal_ip(at, "direct_remote_ip", m->direct_remote_ip, RBAC_DIRECT_IP, out);
    case I(REMOTE_IP): return principal_ip(at, "remote_ip", m->remote_ip, RBAC_REMOTE_IP, out);
    case I(HEADER):
        place = conf_field(at, "header");
        return node_header(&place, m->header, http, out);
    case I(URL_PATH):
        place = conf_field(at, "url_path");
        return node_path(&place, m->url_path, out);
    case I(METADATA):
        place = conf_field(at, "metadata");
        out->kind = RBAC_METADATA;
        return conf_metadata_matcher(&place, m->metadata, &out->metadata);
    case I(FILTER_STATE): return principal_state(at, m->filter_state, out);
    case I(SOURCED_METADATA):
        place = conf_field(at, "sourced_metadata");
        return node_sourced(&place, m->sourced_metadata, out);
    case I(CUSTOM):
        place = conf_field(at, "custom");
        return conf_fail(&place, "extension principals are not supported");
    case I(_NOT_SET):
    default: return conf_fail(at, "an identifier is required");
    }
}
#undef I

/* --- policies
 * ------------------------------------------------------------------------------------------------------------------
 */

static bool policy(const struct conf_at *at, const Envoy__Config__Rbac__V3__Policy *m, bool http,
                   struct rbac_policy *out)
{
    out->permission_count = m->n_permissions;
    out->principal_count = m->n_principals;
    bool ok = permission_list(at, "permissions", m->n_permissions, m->permissions, http,
                              &out->permissions);
    return principal_list(at, "principals", m->n_principals, m->principals, http,
                          &out->principals) &&
           ok;
}

static int by_name(const void *x, const void *y)
{
    return str_cmp(((const struct rbac_policy *)x)->name, ((const struct rbac_policy *)y)->name);
}

const struct rbac_rules *rbac_create(const struct conf_at *at,
                                     const struct Envoy__Config__Rbac__V3__RBAC *m, bool http)
{
    struct arena *a = conf_arena(at);
    struct rbac_rules *r = ARENA_NEW(a, struct rbac_rules);
    struct rbac_policy *v = ARENA_ARRAY(a, struct rbac_policy, m->n_policies);
    bool ok = true;
    for (size_t i = 0; i < m->n_policies; i++) {
        v[i].name = str_dup(a, str_of(m->policies[i]->key));
        struct conf_at place = conf_key(at, "policies", v[i].name);
        if (!m->policies[i]->value)
            ok = conf_fail(&place, "value is required");
        else
            ok &= policy(&place, m->policies[i]->value, http, &v[i]);
    }
    qsort(v, m->n_policies, sizeof *v, by_name);
    r->policies = v;
    r->count = m->n_policies;
    switch (m->action) {
    case ENVOY__CONFIG__RBAC__V3__RBAC__ACTION__ALLOW: r->action = RBAC_ALLOW; break;
    case ENVOY__CONFIG__RBAC__V3__RBAC__ACTION__DENY: r->action = RBAC_DENY; break;
    case ENVOY__CONFIG__RBAC__V3__RBAC__ACTION__LOG: r->action = RBAC_LOG; break;
    default: ok = conf_fail(at, "an unknown action");
    }
    return ok ? r : NULL;
}

/* --- matcher trees
 * ----------------------------------------------------------------------------------- */

static const void *tree_action(const struct conf_at *at, struct str name,
                               const struct Google__Protobuf__Any *any, void *arg)
{
    struct rbac_rules *r = arg;
    const Envoy__Config__Rbac__V3__Action *m = (const void *)conf_match_action(
        at, name, any, &envoy__config__rbac__v3__action__descriptor);
    if (!m) return NULL;
    struct rbac_match *out = ARENA_NEW(conf_arena(at), struct rbac_match);
    out->name = str_dup(conf_arena(at), str_of(m->name));
    switch (m->action) {
    case ENVOY__CONFIG__RBAC__V3__RBAC__ACTION__ALLOW: out->action = RBAC_ALLOW; return out;
    case ENVOY__CONFIG__RBAC__V3__RBAC__ACTION__DENY: out->action = RBAC_DENY; return out;
    case ENVOY__CONFIG__RBAC__V3__RBAC__ACTION__LOG:
        out->action = RBAC_LOG;
        r->tree_logs = true;
        return out;
    default: conf_fail(at, "an unknown action"); return NULL;
    }
}

const struct rbac_rules *rbac_create_matcher(const struct conf_at *at,
                                             const struct Xds__Type__Matcher__V3__Matcher *m,
                                             bool http)
{
    struct rbac_rules *r = ARENA_NEW(conf_arena(at), struct rbac_rules);
    struct match_tree_use use = {.place = http ? MATCH_IN_HTTP_RBAC : MATCH_IN_NETWORK_RBAC,
                                 .action = tree_action,
                                 .arg = r};
    r->tree = conf_match_tree(at, m, &use);
    return r->tree ? r : NULL;
}
