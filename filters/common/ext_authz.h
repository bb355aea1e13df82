/* What the network and the HTTP filter for external authorization share: the question and the
 * answer of envoy.service.auth.v3.Authorization. Worker thread, all in the arena given. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

struct arena;
struct conf_at;
struct conn_info;
struct headers;
struct stream_info;
struct metadata;
struct side_end;
struct Envoy__Service__Auth__V3__CheckRequest;
struct Envoy__Service__Auth__V3__CheckResponse;

/* "/envoy.service.auth.v3.Authorization/Check" */
extern const struct str authz_method;
enum { AUTHZ_TIMEOUT_MS = 200 }; /* Envoy: where the service says none */

/* Source, destination and TLS session of a connection, and an empty metadata context. */
struct authz_peers {
    const struct conn_info *conn;
    bool certificate; /* the client's, URL-encoded PEM */
    bool session;     /* its server name */
};
struct Envoy__Service__Auth__V3__CheckRequest *authz_request_new(struct arena *a,
                                                                 const struct authz_peers *p);
/* Labels of the destination: the fields of one key of the node's metadata. */
struct authz_labels {
    const struct str *names, *values; /* NUL-terminated */
    size_t count;
};
/* Main: those under `key` (empty: none). */
struct authz_labels authz_labels_create(const struct conf_at *at, struct str key);
void authz_request_labels(struct arena *a, struct Envoy__Service__Auth__V3__CheckRequest *r,
                          const struct authz_labels *l);
/* Adds namespaces of m (NULL: none) to the metadata context; those that are there already stay. */
void authz_request_metadata(struct arena *a, struct Envoy__Service__Auth__V3__CheckRequest *r,
                            const struct metadata *m, const struct str *namespaces, size_t count);
/* What is known of the request. */
struct authz_http {
    const struct stream_info *info;
    const struct headers *headers;
    bool (*wanted)(void *arg, struct str name); /* which headers are told; NULL: all */
    void *arg;
    struct str body;
    bool has_body, partial, as_bytes;
};
void authz_request_http(struct arena *a, struct Envoy__Service__Auth__V3__CheckRequest *r,
                        const struct authz_http *x);
void authz_request_extension(struct arena *a, struct Envoy__Service__Auth__V3__CheckRequest *r,
                             struct str key, struct str value);
/* As authz_request_metadata, into the metadata context of the route. */
void authz_request_route_metadata(struct arena *a, struct Envoy__Service__Auth__V3__CheckRequest *r,
                                  const struct metadata *m, const struct str *namespaces,
                                  size_t count);
struct str authz_request_pack(struct arena *a,
                              const struct Envoy__Service__Auth__V3__CheckRequest *r);

enum authz_verdict { AUTHZ_OK, AUTHZ_DENIED, AUTHZ_ERROR };
/* What the end of the call means. *r: the answer, NULL with AUTHZ_ERROR unless the service said so
 * itself. Anything that is not understood is an error. */
enum authz_verdict authz_response(struct arena *a, const struct side_end *e,
                                  const struct Envoy__Service__Auth__V3__CheckResponse **r);
