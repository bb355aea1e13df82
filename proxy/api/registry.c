/* Finding extensions by the type URL of their config, or by name. */
#include "proxy/api/extension.h"

#include <protobuf-c/protobuf-c.h>

#include "base/must.h"

static bool extension_takes(const struct extension *e, struct str full_name)
{
    if (e->config && str_eq(str_of(e->config->name), full_name)) return true;
    for (size_t i = 0; e->more_configs && e->more_configs[i]; i++)
        if (str_eq(str_of(e->more_configs[i]->name), full_name)) return true;
    return false;
}

const struct extension *registry_find(const struct registry *r, enum extension_kind kind,
                                      struct str type_url, struct str name)
{
    struct str prefix, full = type_url;
    (void)(str_cut_last(type_url, '/', &prefix, &full)); /* without a slash the whole is the name */
    for (size_t i = 0; i < r->count; i++) {
        if (r->entries[i].kind != kind) continue;
        const struct extension *e = r->entries[i].extension;
        if (full.len ? extension_takes(e, full) : str_eq(str_of(e->name), name)) return e;
    }
    return NULL;
}

const struct registry_missing *registry_find_missing(const struct registry *r, struct str full_name,
                                                     bool route)
{
    for (const struct registry_missing *x = r->missing; x && x->config; x++) {
        const char *name = route ? x->route_config : x->config;
        if (name && str_eq(str_of(name), full_name)) return x;
    }
    return NULL;
}

void registry_each(const struct registry *r,
                   void (*fn)(void *arg, enum extension_kind kind, const struct extension *e),
                   void *arg)
{
    for (size_t i = 0; i < r->count; i++)
        fn(arg, r->entries[i].kind, r->entries[i].extension);
}

const char *extension_kind_category(enum extension_kind kind)
{
    static const char *const names[EXTENSION_KINDS] = {
        [EXTENSION_HTTP_FILTER] = "envoy.filters.http",
        [EXTENSION_NETWORK_FILTER] = "envoy.filters.network",
        [EXTENSION_UPSTREAM_NETWORK_FILTER] = "envoy.filters.upstream_network",
        [EXTENSION_LISTENER_FILTER] = "envoy.filters.listener",
        [EXTENSION_UDP_LISTENER_FILTER] = "envoy.filters.udp_listener",
        [EXTENSION_ACCESS_LOGGER] = "envoy.access_loggers",
        [EXTENSION_LB_POLICY] = "envoy.load_balancing_policies",
        [EXTENSION_CLUSTER_TYPE] = "envoy.clusters",
        [EXTENSION_TRANSPORT_SOCKET_DOWNSTREAM] = "envoy.transport_sockets.downstream",
        [EXTENSION_TRANSPORT_SOCKET_UPSTREAM] = "envoy.transport_sockets.upstream",
        [EXTENSION_MATCHER_INPUT] = "envoy.matching.http.input",
        [EXTENSION_MATCHER_INPUT_NETWORK] = "envoy.matching.network.input",
        [EXTENSION_MATCHER] = "envoy.matching.input_matchers",
        [EXTENSION_FORMATTER] = "envoy.formatter",
        [EXTENSION_RETRY_HOST_PREDICATE] = "envoy.retry_host_predicates",
        [EXTENSION_PATH_MATCH] = "envoy.path.match",
        [EXTENSION_PATH_REWRITE] = "envoy.path.rewrite",
        [EXTENSION_ORIGINAL_IP] = "envoy.http.original_ip_detection",
        [EXTENSION_EARLY_HEADERS] = "envoy.http.early_header_mutation",
        [EXTENSION_REQUEST_ID] = "envoy.request_id",
        [EXTENSION_HEADER_FORMAT] = "envoy.http.stateful_header_formatters",
        [EXTENSION_TLS_SELECTOR] = "envoy.tls.certificate_selectors",
        [EXTENSION_TLS_MAPPER] = "envoy.tls.certificate_mappers",
        [EXTENSION_UPSTREAM_OPTIONS] = "envoy.upstream_options",
        [EXTENSION_BOOTSTRAP] = "envoy.bootstrap",
    };
    must(kind < EXTENSION_KINDS && names[kind]);
    return names[kind];
}
