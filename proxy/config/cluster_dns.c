/* DNS settings of STRICT_DNS and LOGICAL_DNS clusters: the deprecated fields,
 * typed_dns_resolver_config (c-ares), DnsCluster. */
#include "base/arena.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/core/v3/resolver.pb-c.h"
#include "envoy/extensions/clusters/dns/v3/dns_cluster.pb-c.h"
#include "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/cluster_internal.h"
#include "proxy/config/socket.h"

enum { REFRESH_MS = 5000 };

bool translate_dns_servers(const struct conf_at *at, const char *field,
                           Envoy__Config__Core__V3__Address *const *v, size_t n,
                           struct dns_settings *d)
{
    struct addr *out = ARENA_ARRAY(conf_arena(at), struct addr, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        ok = translate_address(&here, v[i], &out[i], NULL) && ok;
    }
    d->resolvers = out;
    d->resolver_count = n;
    return ok;
}

static void resolver_options(const Envoy__Config__Core__V3__DnsResolverOptions *m,
                             struct dns_settings *d)
{
    if (!m) return;
    d->use_tcp = m->use_tcp_for_dns_lookups;
    d->no_default_search = m->no_default_search_domain;
}

bool translate_dns_resolver(const struct conf_at *at,
                            const Envoy__Config__Core__V3__TypedExtensionConfig *m,
                            struct dns_settings *d)
{
    static const char cares[] =
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";
    static const char system[] =
        "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig";
    struct conf_at here = conf_field(at, "typed_config");
    struct str name = m->typed_config ? proto_any_name(conf_arena(at), m->typed_config) : STR_NONE;
    if (str_eq(name, str_of(system)))
        return true; /* resolved by c-ares all the same: it reads the same files */
    if (!str_eq(name, str_of(cares)))
        return conf_fail(&here, "no DNS resolver of type \"%.*s\"", STR_ARG(name));
    struct proto_path path = proto_path_root(conf_path(&here));
    const ProtobufCMessage *msg = proto_any_unpack(
        conf_arena(at), m->typed_config,
        &envoy__extensions__network__dns_resolver__cares__v3__cares_dns_resolver_config__descriptor,
        at->cx->opts, &path, at->cx->errors);
    if (!msg) return false;
    const Envoy__Extensions__Network__DnsResolver__Cares__V3__CaresDnsResolverConfig *x =
        (const void *)msg;
    resolver_options(x->dns_resolver_options, d);
    return translate_dns_servers(&here, "resolvers", x->resolvers, x->n_resolvers, d);
}

/* Envoy: without a failure rate the refresh rate serves; the maximum defaults to ten times the
 * base. */
bool translate_dns_failure(const struct conf_at *at, const Google__Protobuf__Duration *base,
                           const Google__Protobuf__Duration *most, bool set, struct dns_settings *d)
{
    d->failure_base_us = d->failure_max_us = d->refresh_us;
    if (!set) return true;
    struct conf_at b = conf_field(at, "base_interval"), m = conf_field(at, "max_interval");
    if (!conf_duration(&b, base, d->refresh_us, &d->failure_base_us)) return false;
    if (!conf_duration(&m, most, d->failure_base_us * 10, &d->failure_max_us)) return false;
    if (d->failure_max_us < d->failure_base_us)
        return conf_fail(
            &m,
            "dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval");
    return true;
}

static bool from_fields(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                        struct dns_settings *d)
{
    struct conf_at rate = conf_field(at, "dns_refresh_rate"), jitter = conf_field(at, "dns_jitter");
    struct conf_at failure = conf_field(at, "dns_failure_refresh_rate"),
                   typed = conf_field(at, "typed_dns_resolver_config");
    struct conf_at old = conf_field(at, "dns_resolution_config");
    d->family = (int)m->dns_lookup_family;
    d->respect_ttl = m->respect_dns_ttl;
    d->use_tcp = m->use_tcp_for_dns_lookups;
    bool ok = conf_duration(&rate, m->dns_refresh_rate, d->refresh_us, &d->refresh_us);
    ok = conf_duration(&jitter, m->dns_jitter, 0, &d->jitter_us) && ok;
    const Envoy__Config__Cluster__V3__Cluster__RefreshRate *f = m->dns_failure_refresh_rate;
    ok = translate_dns_failure(&failure, f ? f->base_interval : NULL, f ? f->max_interval : NULL,
                               f != NULL, d) &&
         ok;
    if (m->typed_dns_resolver_config)
        return translate_dns_resolver(&typed, m->typed_dns_resolver_config, d) && ok;
    if (m->dns_resolution_config) {
        resolver_options(m->dns_resolution_config->dns_resolver_options, d);
        return translate_dns_servers(&old, "resolvers", m->dns_resolution_config->resolvers,
                                     m->dns_resolution_config->n_resolvers, d) &&
               ok;
    }
    return translate_dns_servers(at, "dns_resolvers", m->dns_resolvers, m->n_dns_resolvers, d) &&
           ok;
}

/* cluster_type envoy.cluster.dns. */
static bool from_cluster_type(const struct conf_at *at, const Google__Protobuf__Any *any,
                              struct cluster *c, struct dns_settings *d)
{
    struct proto_path path = proto_path_root(conf_path(at));
    const ProtobufCMessage *msg = proto_any_unpack(
        conf_arena(at), any, &envoy__extensions__clusters__dns__v3__dns_cluster__descriptor,
        at->cx->opts, &path, at->cx->errors);
    if (!msg) return false;
    const Envoy__Extensions__Clusters__Dns__V3__DnsCluster *x = (const void *)msg;
    struct conf_at rate = conf_field(at, "dns_refresh_rate"), jitter = conf_field(at, "dns_jitter");
    struct conf_at failure = conf_field(at, "dns_failure_refresh_rate"),
                   typed = conf_field(at, "typed_dns_resolver_config");
    c->discovery = x->all_addresses_in_single_endpoint ? CLUSTER_LOGICAL_DNS : CLUSTER_STRICT_DNS;
    d->family = x->dns_lookup_family > 0 ? (int)x->dns_lookup_family - 1
                                         : 0; /* UNSPECIFIED comes first here */
    d->respect_ttl = x->respect_dns_ttl;
    bool ok = conf_duration(&rate, x->dns_refresh_rate, d->refresh_us, &d->refresh_us);
    ok = conf_duration(&jitter, x->dns_jitter, 0, &d->jitter_us) && ok;
    const Envoy__Extensions__Clusters__Dns__V3__DnsCluster__RefreshRate *f =
        x->dns_failure_refresh_rate;
    ok = translate_dns_failure(&failure, f ? f->base_interval : NULL, f ? f->max_interval : NULL,
                               f != NULL, d) &&
         ok;
    return (!x->typed_dns_resolver_config ||
            translate_dns_resolver(&typed, x->typed_dns_resolver_config, d)) &&
           ok;
}

bool translate_cluster_dns(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                           struct cluster *c)
{
    bool typed = m->cluster_discovery_type_case ==
                     ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_CLUSTER_TYPE &&
                 m->cluster_type->typed_config;
    struct dns_settings *d = ARENA_NEW(conf_arena(at), struct dns_settings);
    d->refresh_us = (uint64_t)REFRESH_MS * 1000;
    c->dns = d;
    struct conf_at type = conf_field(at, "cluster_type");
    struct conf_at here = conf_field(&type, "typed_config");
    if (typed) return from_cluster_type(&here, m->cluster_type->typed_config, c, d);
    return from_fields(at, m, d);
}
