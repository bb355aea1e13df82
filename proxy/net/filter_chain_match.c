/* Which filter chain gets a connection. Criterion by criterion, in Envoy's order, the most specific
 * value that fits is found among the chains that are still in the running; those that have it go
 * on, the others are out: there is no stepping back. */
#include "proxy/net/filter_chain_match.h"

#include "base/must.h"
#include "proxy/api/match_tree.h"
#include "proxy/net/listener.h"

enum { RUNNING_ON_STACK = 64 };

/* The chains still in the running: indexes into the listener's. */
struct running {
    const struct listener_conf *l;
    uint32_t *index;
    size_t count;
};

/* How well a chain fits in one criterion. 0: not at all; 1: it names no value; more: a more
 * specific value. Scores are equal only for the same value. */
static size_t fit_port(const struct net_match *m, const struct net_facts *f)
{
    if (m->destination_port == 0) return 1;
    return addr_is_ip(f->local) && m->destination_port == addr_port(f->local) ? 2 : 0;
}

/* An unnamed range is /0 of Envoy's tries. Addresses that are none (Unix sockets) fit only that. */
static size_t fit_cidr(const struct cidr *v, size_t count, const struct addr *a)
{
    if (count == 0) return 1;
    size_t best = 0;
    for (size_t i = 0; i < count; i++) {
        bool in = addr_is_ip(a) ? cidr_contains(&v[i], a) : v[i].bits == 0;
        if (in && (size_t)v[i].bits + 1 > best) best = (size_t)v[i].bits + 1;
    }
    return best;
}

static size_t fit_destination(const struct net_match *m, const struct net_facts *f)
{
    return fit_cidr(m->destination, m->destination_count, f->local);
}

/* ".example.com" fits "www.example.com" and "a.b.example.com", not "example.com". */
static bool name_fits(struct str pattern, struct str sni)
{
    if (pattern.len && pattern.ptr[0] == '.')
        return sni.len > pattern.len && str_ends(sni, pattern);
    return str_eq(pattern, sni);
}

static size_t fit_server_name(const struct net_match *m, const struct net_facts *f)
{
    size_t best = m->server_name_count == 0 ? 1 : 0;
    for (size_t i = 0; i < m->server_name_count; i++) {
        struct str name = m->server_names[i];
        if (name.len == 0) {
            if (best == 0) best = 1;
            continue;
        }
        if (!f->sni.len || !name_fits(name, f->sni)) continue;
        /* An exact name is longer than any wildcard that fits it. */
        if (name.len + 1 > best) best = name.len + 1;
    }
    return best;
}

static size_t fit_transport(const struct net_match *m, const struct net_facts *f)
{
    if (m->transport_protocol.len == 0) return 1;
    return str_eq(m->transport_protocol, f->transport_protocol) ? 2 : 0;
}

/* The client's first choice wins. */
static size_t fit_alpn(const struct net_match *m, const struct net_facts *f)
{
    if (m->alpn_count == 0) return 1;
    for (size_t i = 0; i < f->alpn_count; i++) {
        for (size_t k = 0; k < m->alpn_count; k++) {
            if (str_eq(f->alpn[i], m->alpn[k])) return f->alpn_count - i + 1;
        }
    }
    return 0;
}

static size_t fit_direct_source(const struct net_match *m, const struct net_facts *f)
{
    return fit_cidr(m->direct_source, m->direct_source_count, f->direct_remote);
}

static bool addr_same_ip(const struct addr *a, const struct addr *b)
{
    struct addr x = *a, y = *b;
    if (!addr_is_ip(a) || !addr_is_ip(b)) return false;
    addr_set_port(&x, 0);
    addr_set_port(&y, 0);
    return addr_eq(&x, &y);
}

static bool is_local(const struct net_facts *f)
{
    if (!addr_is_ip(f->remote)) return true; /* Envoy: a Unix socket's peer is local */
    return addr_is_loopback(f->remote) || addr_same_ip(f->remote, f->local);
}

static size_t fit_source_type(const struct net_match *m, const struct net_facts *f)
{
    switch (m->source_type) {
    case NET_SOURCE_ANY: return 1;
    case NET_SOURCE_LOCAL: return is_local(f) ? 2 : 0;
    case NET_SOURCE_EXTERNAL: return is_local(f) ? 0 : 2;
    }
    return 0;
}

static size_t fit_source(const struct net_match *m, const struct net_facts *f)
{
    return fit_cidr(m->source, m->source_count, f->remote);
}

static size_t fit_source_port(const struct net_match *m, const struct net_facts *f)
{
    if (m->source_port_count == 0) return 1;
    for (size_t i = 0; i < m->source_port_count; i++) {
        if (addr_is_ip(f->remote) && m->source_ports[i] == addr_port(f->remote)) return 2;
    }
    return 0;
}

/* Envoy's order: docs of FilterChainMatch. */
static size_t (*const criteria[])(const struct net_match *m, const struct net_facts *f) = {
    fit_port,          fit_destination, fit_server_name, fit_transport,   fit_alpn,
    fit_direct_source, fit_source_type, fit_source,      fit_source_port,
};

static const struct net_match match_all;

static const struct net_match *match_of(const struct listener_conf *l, size_t i)
{
    return l->chains[i]->match ? l->chains[i]->match : &match_all;
}

static void narrow(struct running *r, size_t criterion, const struct net_facts *f)
{
    size_t best = 1, kept = 0;
    for (size_t i = 0; i < r->count; i++) {
        size_t fit = criteria[criterion](match_of(r->l, r->index[i]), f);
        if (fit < best || fit == 0) continue;
        if (fit > best) kept = 0;
        best = fit;
        r->index[kept++] = r->index[i];
    }
    r->count = kept;
}

static bool is_match_all(const struct net_match *m)
{
    return !m || (m->destination_port == 0 &&
                  m->destination_count + m->direct_source_count + m->source_count == 0 &&
                  m->server_name_count + m->alpn_count + m->source_port_count == 0 &&
                  m->transport_protocol.len == 0 && m->source_type == NET_SOURCE_ANY);
}

size_t filter_chain_find(const struct listener_conf *l, const struct net_facts *f)
{
    if (l->chain_count == 1 && is_match_all(l->chains[0]->match)) return 0;
    uint32_t on_stack[RUNNING_ON_STACK];
    struct running r = {.l = l, .index = on_stack, .count = l->chain_count};
    if (l->chain_count > RUNNING_ON_STACK) r.index = mem_array(l->chain_count, sizeof(*r.index));
    for (size_t i = 0; i < l->chain_count; i++)
        r.index[i] = (uint32_t)i;
    for (size_t i = 0; i < ARRAY_LEN(criteria) && r.count; i++)
        narrow(&r, i, f);
    size_t found = r.count ? r.index[0] : SIZE_MAX;
    if (r.index != on_stack) mem_free(r.index);
    if (found == SIZE_MAX && l->default_chain) found = l->chain_count;
    return found;
}

/* Envoy: a name that no chain has ends the connection, the default chain is for no match. */
size_t filter_chain_find_by_tree(const struct listener_conf *l, const struct match_ask *ask)
{
    const void *action;
    if (match_tree_find(l->matcher, ask, &action) == MATCH_FOUND)
        return ((const struct filter_chain_action *)action)->index;
    return l->default_chain ? l->chain_count : SIZE_MAX;
}

/* --- collisions
 * ------------------------------------------------------------------------------------ */

static bool cidr_same(const struct cidr *a, const struct cidr *b)
{
    return a->bits == b->bits && addr_eq(&a->base, &b->base);
}

/* Does list a have an element of list b (both empty: yes)? *same: every element of a is in b and
 * they are as many. */
static bool cidrs_meet(const struct cidr *a, size_t a_count, const struct cidr *b, size_t b_count,
                       bool *same)
{
    if (a_count == 0 && b_count == 0) return true;
    size_t found = 0;
    for (size_t i = 0; i < a_count; i++) {
        for (size_t k = 0; k < b_count; k++) {
            if (!cidr_same(&a[i], &b[k])) continue;
            found++;
            break;
        }
    }
    if (found != a_count || a_count != b_count) *same = false;
    return found > 0;
}

static bool strs_meet(const struct str *a, size_t a_count, const struct str *b, size_t b_count,
                      bool *same)
{
    if (a_count == 0 && b_count == 0) return true;
    size_t found = 0;
    for (size_t i = 0; i < a_count; i++) {
        for (size_t k = 0; k < b_count; k++) {
            if (!str_eq(a[i], b[k])) continue;
            found++;
            break;
        }
    }
    if (found != a_count || a_count != b_count) *same = false;
    return found > 0;
}

static bool ports_meet(const struct net_match *a, const struct net_match *b, bool *same)
{
    if (a->source_port_count == 0 && b->source_port_count == 0) return true;
    size_t found = 0;
    for (size_t i = 0; i < a->source_port_count; i++) {
        for (size_t k = 0; k < b->source_port_count; k++) {
            if (a->source_ports[i] != b->source_ports[k]) continue;
            found++;
            break;
        }
    }
    if (found != a->source_port_count || a->source_port_count != b->source_port_count)
        *same = false;
    return found > 0;
}

enum net_overlap net_match_overlap(const struct net_match *a, const struct net_match *b)
{
    bool same = true;
    if (!a) a = &match_all;
    if (!b) b = &match_all;
    if (a->destination_port != b->destination_port || a->source_type != b->source_type)
        return NET_OVERLAP_NONE;
    if (!str_eq(a->transport_protocol, b->transport_protocol)) return NET_OVERLAP_NONE;
    if (!strs_meet(a->server_names, a->server_name_count, b->server_names, b->server_name_count,
                   &same))
        return NET_OVERLAP_NONE;
    if (!strs_meet(a->alpn, a->alpn_count, b->alpn, b->alpn_count, &same)) return NET_OVERLAP_NONE;
    if (!cidrs_meet(a->destination, a->destination_count, b->destination, b->destination_count,
                    &same))
        return NET_OVERLAP_NONE;
    if (!cidrs_meet(a->direct_source, a->direct_source_count, b->direct_source,
                    b->direct_source_count, &same)) {
        return NET_OVERLAP_NONE;
    }
    if (!cidrs_meet(a->source, a->source_count, b->source, b->source_count, &same))
        return NET_OVERLAP_NONE;
    if (!ports_meet(a, b, &same)) return NET_OVERLAP_NONE;
    return same ? NET_OVERLAP_SAME : NET_OVERLAP_PART;
}
