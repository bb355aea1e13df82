/* The dynamic half of the configuration: static resources of the bootstrap, subscriptions to a
 * control plane or to files, the store of what was accepted, warming and publication. Main thread
 * only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"
#include "proto/notes.h"

struct xds;
struct errors;
struct runtime;
struct cluster_manager;
struct listener_manager;
struct registry;
struct watch_set;
struct ProtobufCMessage;

struct xds_env {
    struct runtime *rt;
    struct cluster_manager *clusters;
    struct listener_manager *listeners;
    const struct registry *registry;
    struct watch_set *watches;
    struct proto_opts static_opts,
        dynamic_opts; /* from --allow-unknown-static-fields and the like; with on_note */
    bool validate_only;
    const char *cache_directory; /* --config-cache; NULL: none */
    void (*on_clusters)(
        void *arg);              /* once, before on_ready: clusters are complete (or timed out) */
    void (*on_ready)(void *arg); /* once: the first configuration is complete (or timed out) */
    void *arg;
};

struct xds *xds_new(const struct xds_env *env);
/* Translates and applies what the bootstrap says statically: runtime layers, clusters, secrets,
 * listeners; checks the rest. The message is borrowed for the life of xds. False: told in errors,
 * with paths from the root of the bootstrap. */
bool xds_load_bootstrap(struct xds *x, const struct ProtobufCMessage *bootstrap,
                        struct errors *errors);
/* Begins subscriptions once static clusters are ready; ends in env.on_ready. */
void xds_start(struct xds *x);
/* Ends subscriptions and timers; what is published stays. */
void xds_stop(struct xds *x);
void xds_free(struct xds **x);

/* --- views for admin
 * ------------------------------------------------------------------------------- */
enum xds_kind {
    XDS_LISTENER,
    XDS_CLUSTER,
    XDS_ROUTE,
    XDS_ENDPOINT,
    XDS_SECRET,
    XDS_RUNTIME,
    XDS_EXTENSION,
    XDS_VIRTUAL_HOST,
    XDS_SCOPED_ROUTE,
    XDS_SCOPE_SET, /* last: all scopes of a connection manager; no resource of a control plane */
    XDS_KINDS
};
struct xds_view {
    enum xds_kind kind;
    struct str name, version;
    bool is_static;
    /* Google__Protobuf__Any's parts; bytes empty when only an error is known */
    struct str type_url, bytes;
    uint64_t updated_wall_us;
    bool warming;       /* accepted, not yet in use */
    const void *source; /* equal for what comes from the same place; NULL: static */
    unsigned places; /* of a filter's configuration: 1 << enum extension_kind, where it is used */
    /* the last refused version, if any */
    struct str error, error_version, failed_bytes;
    uint64_t error_wall_us;
};
/* Each resource of the kind, in no order. Views are borrowed for the call. */
void xds_each(struct xds *x, enum xds_kind kind, void (*fn)(void *arg, const struct xds_view *v),
              void *arg);
/* The node as sent to control planes (Envoy__Config__Core__V3__Node *). */
const struct ProtobufCMessage *xds_node(const struct xds *x);
/* version_info of the last accepted CDS / LDS response ("" before). */
struct str xds_version(const struct xds *x, enum xds_kind kind);

/* --- runtime layers
 * ---------------------------------------------------------------------------------- */
struct xds_runtime_layer {
    struct str name;
};
size_t xds_runtime_layers(const struct xds *x);
struct str xds_runtime_layer_name(const struct xds *x, size_t layer);
/* Calls fn for each key with its values by layer ("" where the layer does not set it) and the final
 * one. */
void xds_runtime_each(const struct xds *x,
                      void (*fn)(void *arg, struct str key, const struct str *values,
                                 struct str final),
                      void *arg);
/* Admin layer: value empty removes. False: no admin layer. */
bool xds_runtime_set(struct xds *x, struct str key, struct str value);

/* Names of things that are not ready yet, for /init_dump. */
void xds_each_unready(struct xds *x, void (*fn)(void *arg, struct str name), void *arg);
