/* DnsCacheConfig. */
#include "envoy/extensions/common/dynamic_forward_proxy/v3/dns_cache.pb-c.h"

#include "base/arena.h"
#include "base/map.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/resolver.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/equal.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/cluster_internal.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/dns_cache.h"

typedef Envoy__Extensions__Common__DynamicForwardProxy__V3__DnsCacheConfig DnsCacheConfig;

static bool cache_times(const struct conf_at *at, const DnsCacheConfig *m, struct dns_cache_conf *c)
{
    enum { REFRESH_S = 60, MIN_REFRESH_S = 5, HOST_TTL_S = 300, QUERY_S = 5, SECOND_US = 1000000 };
    struct conf_at refresh = conf_field(at, "dns_refresh_rate"),
                   least = conf_field(at, "dns_min_refresh_rate"), ttl = conf_field(at, "host_ttl"),
                   query = conf_field(at, "dns_query_timeout"),
                   failure = conf_field(at, "dns_failure_refresh_rate");
    const Envoy__Config__Cluster__V3__Cluster__RefreshRate *f = m->dns_failure_refresh_rate;
    bool ok = conf_duration(&refresh, m->dns_refresh_rate, (uint64_t)REFRESH_S * SECOND_US,
                            &c->dns.refresh_us);
    ok = conf_duration(&least, m->dns_min_refresh_rate, (uint64_t)MIN_REFRESH_S * SECOND_US,
                       &c->min_refresh_us) &&
         ok;
    ok = conf_duration(&ttl, m->host_ttl, (uint64_t)HOST_TTL_S * SECOND_US, &c->host_ttl_us) && ok;
    ok = conf_duration(&query, m->dns_query_timeout, (uint64_t)QUERY_S * SECOND_US,
                       &c->query_timeout_us) &&
         ok;
    if (ok && c->dns.refresh_us < c->min_refresh_us)
        ok = conf_fail(&refresh, "must not be less than dns_min_refresh_rate");
    return translate_dns_failure(&failure, f ? f->base_interval : NULL, f ? f->max_interval : NULL,
                                 f != NULL, &c->dns) &&
           ok;
}

static bool cache_resolver(const struct conf_at *at, const DnsCacheConfig *m,
                           struct dns_cache_conf *c)
{
    struct conf_at typed = conf_field(at, "typed_dns_resolver_config"),
                   old = conf_field(at, "dns_resolution_config");
    c->dns.family = (int)m->dns_lookup_family;
    c->dns.respect_ttl = true;
    c->dns.use_tcp = m->use_tcp_for_dns_lookups;
    if (m->typed_dns_resolver_config)
        return translate_dns_resolver(&typed, m->typed_dns_resolver_config, &c->dns);
    if (!m->dns_resolution_config) return true;
    const Envoy__Config__Core__V3__DnsResolverOptions *o =
        m->dns_resolution_config->dns_resolver_options;
    c->dns.use_tcp = o && o->use_tcp_for_dns_lookups;
    c->dns.no_default_search = o && o->no_default_search_domain;
    return translate_dns_servers(&old, "resolvers", m->dns_resolution_config->resolvers,
                                 m->dns_resolution_config->n_resolvers, &c->dns);
}

static void cache_drop(void *p)
{
    struct dns_cache *c = p;
    dns_cache_unref(&c);
}

static bool cache_preresolve(const struct conf_at *at, const DnsCacheConfig *m, struct dns_cache *c)
{
    bool ok = true;
    for (size_t i = 0; i < m->n_preresolve_hostnames; i++) {
        struct conf_at here = conf_index(at, "preresolve_hostnames", i);
        const Envoy__Config__Core__V3__SocketAddress *x = m->preresolve_hostnames[i];
        if (x->port_specifier_case !=
            ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE) {
            ok = conf_fail(&here, "a port_value is needed");
            continue;
        }
        dns_cache_preresolve(
            c, dns_cache_key(conf_arena(at), str_of(x->address), (uint16_t)x->port_value));
    }
    return ok;
}

struct dns_cache *conf_dns_cache(const struct conf_at *at, const DnsCacheConfig *m)
{
    enum { HOSTS_MOST = 1024, PENDING_MOST = 1024 };
    struct arena *a = conf_arena(at);
    struct dns_cache_conf c = {.name = str_of(m->name), .meaning = proto_hash(&m->base)};
    bool ok = cache_times(at, m, &c);
    ok = cache_resolver(at, m, &c) && ok;
    c.max_hosts = m->max_hosts ? m->max_hosts->value : HOSTS_MOST;
    const Envoy__Extensions__Common__DynamicForwardProxy__V3__DnsCacheCircuitBreakers *b =
        m->dns_cache_circuit_breaker;
    c.max_pending = b && b->max_pending_requests ? b->max_pending_requests->value : PENDING_MOST;
    if (!ok) return NULL;
    struct runtime *rt = at->cx->rt;
    if (!rt || at->cx->validate_only) return arena_alloc(a, 1); /* never asked */
    struct dns_cache *cache = dns_cache_get(rt, &c);
    if (!cache) {
        (void)conf_fail(at, "config specified DNS cache '%s' with different settings", m->name);
        return NULL;
    }
    arena_on_free(a, cache_drop, cache);
    return cache_preresolve(at, m, cache) ? cache : NULL;
}
