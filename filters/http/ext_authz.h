/* envoy.filters.http.ext_authz between its files: configuration (ext_authz_conf.c), what an answer
 * changes (ext_authz_answer.c), and the filter (ext_authz.c). */
#pragma once
#include "filters/common/ext_authz.h"
#include "filters/common/feature.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/side_call.h"

struct Envoy__Service__Auth__V3__CheckResponse;

enum ext_authz_stat {
    EXT_AUTHZ_DENIED,
    EXT_AUTHZ_DISABLED,
    EXT_AUTHZ_ERROR,
    EXT_AUTHZ_ALLOWED,
    EXT_AUTHZ_COLLISION,
    EXT_AUTHZ_IGNORED,
    EXT_AUTHZ_INVALID,
    EXT_AUTHZ_OK,
    EXT_AUTHZ_OMITTED,
    EXT_AUTHZ_LIMITS,
    EXT_AUTHZ_STATS
};
struct ext_authz_body {
    uint32_t most; /* 0: no body is sent */
    bool partial, as_bytes;
};
struct ext_authz_pair {
    struct str key, value;
};
struct ext_authz_route {
    bool disabled, no_body, has_body;
    struct ext_authz_body body;
    const struct ext_authz_pair *extensions;
    size_t extension_count;
};
/* Names of headers; v NULL: none is named. */
struct ext_authz_names {
    const struct string_matcher *v;
    size_t count;
};
/* An HTTP service: which headers go there, and which come back to whom. */
struct ext_authz_http {
    struct str prefix;
    const struct header_change *add;
    struct ext_authz_names allowed, upstream, append, client, client_ok, metadata;
};
struct ext_authz_conf {
    const struct side_target *target;
    const struct ext_authz_http *http; /* NULL: the service speaks gRPC */
    struct stat_group *stats;
    struct str cluster_prefix; /* "ext_authz." or "ext_authz.<stat_prefix>." */
    struct ext_authz_body body;
    bool allow_on_failure, tell_allowed, clear_route, certificate, session, charge, ingest;
    uint32_t error_status;
    const struct str *namespaces, *route_namespaces;
    size_t namespace_count, route_namespace_count;
    struct conf_fraction enabled;
    const struct metadata_matcher *enabled_by; /* NULL: always */
    struct authz_labels labels;
    struct feature deny_at_disable;
    bool has_deny;
    const struct string_matcher *allowed, *disallowed;
    size_t allowed_count, disallowed_count;
};
const void *ext_authz_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                  struct str stat_prefix);
const void *ext_authz_route_create(const struct conf_at *at, const struct ProtobufCMessage *msg);
const void *ext_authz_route_merge(struct arena *a, const void *outer, const void *inner);

/* One change of a header, checked already. */
enum ext_authz_how {
    EXT_AUTHZ_SET,
    EXT_AUTHZ_ADD,
    EXT_AUTHZ_APPEND, /* to what is there */
    EXT_AUTHZ_IF_ABSENT,
    EXT_AUTHZ_IF_EXISTS
};
struct ext_authz_op {
    struct str name, value;
    enum ext_authz_how how;
};
struct ext_authz_ops {
    struct ext_authz_op *v;
    size_t count;
};
/* False: a name or value could not be sent. All in the arena. */
struct Envoy__Config__Core__V3__HeaderValueOption;
enum ext_authz_where { EXT_AUTHZ_REQUEST, EXT_AUTHZ_RESPONSE, EXT_AUTHZ_DENIAL };
bool ext_authz_ops(struct arena *a, struct Envoy__Config__Core__V3__HeaderValueOption *const *v,
                   size_t n, enum ext_authz_where where, struct ext_authz_ops *out);
void ext_authz_apply(const struct ext_authz_ops *ops, struct headers *h);
/* The query parameters that an answer sets and removes. */
void ext_authz_query(struct arena *a, struct headers *h,
                     const struct Envoy__Service__Auth__V3__CheckResponse *r);

/* --- an HTTP service (ext_authz_http.c) --- */
/* The request that asks, from that of the client; all in the arena. */
struct headers *ext_authz_http_ask(struct arena *a, const struct ext_authz_conf *c,
                                   const struct stream_info *info, struct str body, bool partial);
/* What its answer changes. */
struct ext_authz_http_answer {
    struct ext_authz_ops request, response, denial;
    struct str remove; /* names, separated by commas */
    struct ext_authz_ops metadata;
};
void ext_authz_http_read(struct arena *a, const struct ext_authz_conf *c, const struct headers *h,
                         struct ext_authz_http_answer *out);
