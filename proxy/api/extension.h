/* What every extension descriptor begins with, its kinds, and the registry that finds them by type
 * URL or name. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"
#include "proxy/api/conf.h"

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

enum extension_kind {
    EXTENSION_HTTP_FILTER,                 /* struct http_filter_type */
    EXTENSION_NETWORK_FILTER,              /* struct network_filter_type */
    EXTENSION_UPSTREAM_NETWORK_FILTER,     /* struct network_filter_type; only such as do nothing */
    EXTENSION_LISTENER_FILTER,             /* struct listener_filter_type */
    EXTENSION_UDP_LISTENER_FILTER,         /* struct udp_filter_type */
    EXTENSION_ACCESS_LOGGER,               /* struct access_logger_type */
    EXTENSION_LB_POLICY,                   /* struct lb_policy_type */
    EXTENSION_CLUSTER_TYPE,                /* struct cluster_type */
    EXTENSION_TRANSPORT_SOCKET_DOWNSTREAM, /* struct transport_socket_type */
    EXTENSION_TRANSPORT_SOCKET_UPSTREAM,   /* struct transport_socket_type */
    EXTENSION_MATCHER_INPUT,               /* struct match_input_type, of requests */
    EXTENSION_MATCHER_INPUT_NETWORK,       /* struct match_input_type, of connections */
    EXTENSION_MATCHER,                     /* struct match_matcher_type */
    EXTENSION_FORMATTER,
    EXTENSION_RETRY_HOST_PREDICATE,
    EXTENSION_PATH_MATCH,
    EXTENSION_PATH_REWRITE,
    EXTENSION_ORIGINAL_IP,
    EXTENSION_EARLY_HEADERS, /* struct early_headers_type */
    EXTENSION_REQUEST_ID,
    EXTENSION_HEADER_FORMAT,    /* preserve_case */
    EXTENSION_TLS_SELECTOR,     /* struct tls_selector_type */
    EXTENSION_TLS_MAPPER,       /* struct tls_mapper_type */
    EXTENSION_UPSTREAM_OPTIONS, /* typed_extension_protocol_options */
    EXTENSION_BOOTSTRAP, /* bootstrap_extensions, resource monitors, sinks: load-time objects */
    EXTENSION_KINDS
};

/* First member of every descriptor. */
struct extension {
    const char *name; /* "envoy.filters.http.fault" */
    const struct ProtobufCMessageDescriptor
        *config; /* its full name is the type URL; NULL: no config */
    const struct ProtobufCMessageDescriptor *const
        *more_configs; /* other accepted config messages, NULL-ended; may be NULL */
};

/* One row of the table of all extensions. */
struct registry_entry {
    enum extension_kind kind;
    const struct extension *extension;
};
/* An HTTP filter that Envoy has and we have not: full names of its messages. */
struct registry_missing {
    const char *config, *route_config; /* the last one may be NULL */
};
/* Constant. filters/registry.c holds the one table; server/ hands it down. */
struct registry {
    const struct registry_entry *entries;
    size_t count;
    const struct extension *missing_filter; /* stands for them all: an http_filter_type whose conf
                                               is the name, struct str *. NULL: none */
    const struct registry_missing *missing; /* the last one has no config; NULL: none */
};
/* By the config's type URL (with or without prefix) or, when the URL is empty, by name. NULL:
 * unknown. */
const struct extension *registry_find(const struct registry *r, enum extension_kind kind,
                                      struct str type_url, struct str name);
/* NULL: no filter that is known to be missing has this message (by full name), as its config or for
 * routes. */
const struct registry_missing *registry_find_missing(const struct registry *r, struct str full_name,
                                                     bool route);
/* Calls fn for each extension of all kinds (server_info, config_dump, did-you-mean). */
void registry_each(const struct registry *r,
                   void (*fn)(void *arg, enum extension_kind kind, const struct extension *e),
                   void *arg);
const char *extension_kind_category(enum extension_kind kind); /* "envoy.filters.http" */

/* Resolves a TypedExtensionConfig-like pair (name + Any) : finds the extension, unpacks and
 * validates the config message in the context's arena. NULL = told at `at` ("typed_config: unknown
 * type ...; did you mean ..."). *msg may be NULL only if the extension has no config. `any` is a
 * Google__Protobuf__Any *. Implemented in proxy/config/any.c. */
const struct extension *conf_extension(const struct conf_at *at, enum extension_kind kind,
                                       struct str name, const void *any,
                                       const struct ProtobufCMessage **msg);
