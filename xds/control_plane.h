/* Where a control plane is, and how long to wait before it is tried again. Main thread. */
#pragma once
#include <stdbool.h>
#include "envoy/config/core/v3/config_source.pb-c.h"
#include "proxy/api/conf.h"
#include "xds/grpc_stream.h"

struct xds;

struct control_plane {
    const char *cluster;    /* envoy_grpc; NULL: google_grpc */
    const char *target_uri; /* google_grpc */
    const char *authority;  /* NULL: the cluster's name */
    bool ssl;               /* google_grpc with ssl_credentials; PEM texts, or NULL */
    const char *roots_pem, *cert_chain_pem, *key_pem;
    struct grpc_header *headers;
    size_t header_count;
};
/* Reads the one GrpcService of an ApiConfigSource; everything is copied to `a`. False: told in at.
 */
bool control_plane_read(struct control_plane *p, struct arena *a,
                        const Envoy__Config__Core__V3__ApiConfigSource *api,
                        const struct conf_at *at);
/* For the log. */
const char *control_plane_name(const struct control_plane *p);
/* Opens a stream, see grpc_stream_open. NULL: cannot be reached now; *why in `a`. */
struct grpc_stream *control_plane_open(struct xds *x, const struct control_plane *p,
                                       const char *method, const struct grpc_stream_events *events,
                                       void *arg, struct arena *a, struct str *why);

/* Envoy's jittered exponential back-off: uniform below 0.5 s * 2^failures, at most 30 s. Counts the
 * failure. */
uint64_t control_plane_back_off_us(unsigned *failures);
