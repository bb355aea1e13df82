/* What the files that translate clusters share. Main thread only. */
#pragma once
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "proxy/config/cluster.h"

/* Endpoints for a cluster of this discovery type: DNS types take names, others IP addresses and
 * pipes. False: told. */
bool translate_endpoints(const struct conf_at *at,
                         const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *m,
                         enum cluster_discovery discovery, struct load_assignment *out);
/* Protocol options, the deprecated fields and typed_extension_protocol_options alike. */
bool translate_cluster_http(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                            struct cluster *c);
/* Policy and common_lb_config. */
bool translate_cluster_lb(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                          struct cluster *c);
bool translate_cluster_dns(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                           struct cluster *c);
struct Envoy__Config__Core__V3__TypedExtensionConfig;
/* Parts of DNS settings: the resolver's own, its servers, and how soon a failure is tried again. */
bool translate_dns_resolver(const struct conf_at *at,
                            const struct Envoy__Config__Core__V3__TypedExtensionConfig *m,
                            struct dns_settings *d);
bool translate_dns_servers(const struct conf_at *at, const char *field,
                           struct Envoy__Config__Core__V3__Address *const *v, size_t n,
                           struct dns_settings *d);
bool translate_dns_failure(const struct conf_at *at, const struct Google__Protobuf__Duration *base,
                           const struct Google__Protobuf__Duration *most, bool set,
                           struct dns_settings *d);
bool translate_cluster_sockets(const struct conf_at *at,
                               const Envoy__Config__Cluster__V3__Cluster *m, struct cluster *c);
