/* Asking the policies. Worker thread. */
#include "base/arena.h"
#include "filters/common/dynamic_forward_proxy.h"
#include "filters/common/rbac_internal.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"

const struct stat_def rbac_enforced_stats[RBAC_STAT_COUNT] = {
    [RBAC_STAT_ALLOWED] = {"allowed", STAT_COUNTER, 0},
    [RBAC_STAT_DENIED] = {"denied", STAT_COUNTER, 0},
};
const struct stat_def rbac_shadow_stats[RBAC_STAT_COUNT] = {
    [RBAC_STAT_ALLOWED] = {"shadow_allowed", STAT_COUNTER, 0},
    [RBAC_STAT_DENIED] = {"shadow_denied", STAT_COUNTER, 0},
};

static bool node_fits(const struct rbac_node *n, const struct rbac_ask *ask);

static bool any_fits(const struct rbac_node *v, size_t count, const struct rbac_ask *ask)
{
    for (size_t i = 0; i < count; i++) {
        if (node_fits(&v[i], ask)) return true;
    }
    return false;
}

static bool all_fit(const struct rbac_node *v, size_t count, const struct rbac_ask *ask)
{
    for (size_t i = 0; i < count; i++) {
        if (!node_fits(&v[i], ask)) return false;
    }
    return true;
}

/* The path without query and fragment. */
static bool path_fits(const struct rbac_node *n, const struct rbac_ask *ask)
{
    if (!ask->headers) return false;
    struct str path = headers_get(ask->headers, HDR_PATH);
    if (!path.ptr) return false;
    size_t end = 0;
    while (end < path.len && path.ptr[end] != '?' && path.ptr[end] != '#')
        end++;
    return string_match(&n->string, str_sub(path, 0, end));
}

static bool names_fit(const struct string_matcher *m, const struct tls_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        if (string_match(m, names->v[i])) return true;
    }
    return false;
}

/* Envoy: the URI names, then the DNS names, then the subject. */
static bool authenticated_fits(const struct rbac_node *n, const struct rbac_ask *ask)
{
    const struct tls_info *t = ask->conn->tls;
    if (!t) return false;
    if (!n->has_string) return t->peer.present;
    return names_fit(&n->string, &t->peer.uri_san) || names_fit(&n->string, &t->peer.dns_san) ||
           string_match(&n->string, t->peer.subject);
}

static bool state_fits(const struct rbac_node *n, const struct rbac_ask *ask)
{
    const struct filter_state_entry *e =
        ask->info ? filter_state_find(ask->info->state, n->key) : NULL;
    if (!e) e = filter_state_find(ask->conn->state, n->key);
    if (!e || !e->text) return false;
    struct str text = e->text(e->object, ask->scratch);
    if (n->kind == RBAC_STATE) return string_match(&n->string, text);
    struct addr address;
    if (!addr_parse(text, &address) && !addr_parse_ip(text, 0, &address)) return false;
    for (size_t i = 0; i < n->count; i++) {
        if (cidr_contains(&n->ranges[i], &address)) return !n->invert;
    }
    return n->invert;
}

static bool ports_fit(const struct rbac_node *n, const struct addr *local)
{
    return addr_is_ip(local) && addr_port(local) >= n->from && addr_port(local) < n->to;
}

static bool ip_fits(const struct rbac_node *n, const struct addr *x)
{
    return addr_is_ip(x) && cidr_contains(&n->range, x);
}

/* Envoy: without an address nothing fits. One that is there was resolved by a filter before this.
 */
static bool upstream_fits(const struct rbac_node *n, const struct rbac_ask *ask)
{
    const struct filter_state_entry *e =
        ask->info ? filter_state_find(ask->info->state, DFP_UPSTREAM_ADDRESS) : NULL;
    if (!e) e = filter_state_find(ask->conn->state, DFP_UPSTREAM_ADDRESS);
    if (!e || e->text) return false; /* a text of that name is none */
    const struct addr *x = e->object;
    return (!n->has_range || ip_fits(n, x)) && (!n->has_ports || ports_fit(n, x));
}

/* Recursion: conditions are a tree whose depth decoding has limited. */
static bool node_fits(const struct rbac_node *n, const struct rbac_ask *ask)
{
    const struct conn_info *c = ask->conn;
    switch (n->kind) {
    case RBAC_AND: return all_fit(n->v, n->count, ask);
    case RBAC_OR: return any_fits(n->v, n->count, ask);
    case RBAC_NOT: return !node_fits(n->v, ask);
    case RBAC_ANY: return true;
    case RBAC_HEADER: return ask->headers && header_match(&n->header, ask->headers, ask->scratch);
    case RBAC_PATH: return path_fits(n, ask);
    case RBAC_METADATA: return metadata_match(&n->metadata, ask->dynamic);
    case RBAC_ROUTE_METADATA: return metadata_match(&n->metadata, ask->route);
    case RBAC_DESTINATION_IP: return ip_fits(n, &c->local);
    case RBAC_DESTINATION_PORTS: return ports_fit(n, &c->local);
    case RBAC_SERVER_NAME: return string_match(&n->string, c->sni);
    case RBAC_AUTHENTICATED: return authenticated_fits(n, ask);
    case RBAC_CONNECTION_IP: return ip_fits(n, &c->remote);
    case RBAC_DIRECT_IP: return ip_fits(n, c->direct_remote.len ? &c->direct_remote : &c->remote);
    case RBAC_REMOTE_IP:
        return ip_fits(n, ask->info && ask->info->remote.len ? &ask->info->remote : &c->remote);
    case RBAC_UPSTREAM: return upstream_fits(n, ask);
    case RBAC_STATE:
    case RBAC_STATE_ADDRESS: return state_fits(n, ask);
    }
    return false;
}

/* Envoy: no match, or an input that is not there, is a denial. */
static struct rbac_verdict tree_verdict(const struct rbac_rules *r, const struct rbac_ask *ask)
{
    struct match_ask tree_ask = {.worker = ask->worker,
                                 .scratch = ask->scratch,
                                 .conn = ask->conn,
                                 .info = ask->info,
                                 .request = ask->headers};
    const void *action;
    if (match_tree_find(r->tree, &tree_ask, &action) != MATCH_FOUND)
        return (struct rbac_verdict){.allowed = false};
    const struct rbac_match *m = action;
    return (struct rbac_verdict){.allowed = m->action != RBAC_DENY,
                                 .policy = m->name,
                                 .has_hint = r->tree_logs,
                                 .hint = m->action == RBAC_LOG};
}

static const struct rbac_policy *policy_that_fits(const struct rbac_rules *r,
                                                  const struct rbac_ask *ask)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct rbac_policy *p = &r->policies[i];
        if (any_fits(p->permissions, p->permission_count, ask) &&
            any_fits(p->principals, p->principal_count, ask))
            return p;
    }
    return NULL;
}

struct rbac_verdict rbac_ask(const struct rbac_rules *r, const struct rbac_ask *ask)
{
    if (r->tree) return tree_verdict(r, ask);
    const struct rbac_policy *fits = policy_that_fits(r, ask);
    struct rbac_verdict v = {.policy = fits ? fits->name : STR_NONE};
    switch (r->action) {
    case RBAC_ALLOW: v.allowed = fits != NULL; break;
    case RBAC_DENY: v.allowed = fits == NULL; break;
    case RBAC_LOG:
        v.allowed = v.has_hint = true;
        v.hint = fits != NULL;
        break;
    }
    return v;
}

struct str rbac_denied_details(struct arena *a, struct str policy)
{
    if (!policy.ptr) policy = STR("none");
    struct str text = str_fmt(a, "rbac_access_denied_matched_policy[%.*s]", STR_ARG(policy));
    char *p = str_z(a, text);
    for (size_t i = 0; i < text.len; i++) {
        if (p[i] == ' ' || (p[i] >= '\t' && p[i] <= '\r')) p[i] = '_';
    }
    return str_make(p, text.len);
}
