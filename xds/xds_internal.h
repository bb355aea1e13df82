/* What the files of xds/ share: the state, resources, sources, kinds. Main thread only. */
#pragma once
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "proxy/api/extension.h"
#include "proxy/api/load_metrics.h"
#include "proxy/api/on_demand.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "xds/mux.h"
#include "xds/xds.h"

struct grpc_client;
struct source;
struct layers;
struct listener_conf;
struct route_config;
struct extension_slot;
struct extension_use;

/* --- resources
 * --------------------------------------------------------------------------------------- */
/* One resource that is known by name: wanted, received, refused, or all of it. Heap; lives in
 * xds.store. */
struct resource {
    struct xds *x;
    enum xds_kind kind;
    bool is_static, present; /* present: an accepted version exists */
    bool cached;             /* it is from the config cache */
    bool done;               /* received, or given up waiting: nobody waits for it any more */
    bool late;               /* given up waiting */
    uint64_t hash;           /* of the bytes */
    uint64_t seen;           /* generation of the last full response that had it */
    struct str name;         /* heap copy (a short one lies in short_name), as the ones below */
    char short_name[40]; /* beside what an unchanged resource is recognised by: few cache lines */
    struct str version, type_url, bytes; /* of the accepted version */
    uint64_t updated_wall_us;
    struct source *source;   /* where it comes from; NULL: static */
    struct known *known;     /* of the source, while it holds this accepted version */
    unsigned watchers;       /* needs that refer to it */
    struct loop_timer fetch; /* initial_fetch_timeout */
    struct need_link *needs; /* what the accepted version holds on to */
    /* the last refused version */
    struct str error, error_version, failed_bytes;
    uint64_t error_wall_us, failed_hash;
    /* accepted, waits for what it needs (listeners, routes) */
    struct list waiting;
    struct obj *pending;
    struct need_link *pending_needs;
    struct obj *object; /* in use: held for listeners and routes that other code must find again */
    struct loop_timer hold;   /* a route table waits at most this long for clusters */
    struct stat_group *stats; /* of the subscription; may be NULL */
    struct loop_timer ttl;
    bool warming;  /* cluster: not active yet */
    bool demanded; /* asked for by a request: counted in xds.demanded */
    const ProtobufCMessage
        *unread; /* static secret: translated when something first needs it, as Envoy does */
    union {      /* by kind; NULL: nothing */
        struct secret_files *files;    /* secret: the files that it is made of, watched */
        struct extension_use *uses;    /* extension: the places that use it */
        struct vhds *vhds;             /* route: whose virtual hosts come by themselves */
        struct vhost_names *vhost;     /* virtual host */
        struct scope_facts *scope;     /* scoped route */
        struct scope_follower *scopes; /* set of scopes */
    };
};
struct need_link {
    struct resource *resource;
    struct extension_use *use; /* extension: the place; else NULL */
    struct need_link *next;
};
struct resource *resource_find(const struct xds *x, enum xds_kind kind, struct str name);
struct resource *resource_get(struct xds *x, enum xds_kind kind, struct str name);
/* The accepted version is no longer one that needs no look when it comes again. */
void resource_unknow(struct resource *r);
/* Drops it if nobody watches it and nothing is accepted. */
void resource_forget(struct resource *r);
/* kind_secret.c: stops watching the files of a secret. NULL is fine. */
void secret_files_free(struct secret_files **files);
/* retired.c: what nobody needs any more stays published while old connections drain; unless it is
 * needed again, it goes then. */
void retire(struct xds *x, enum table t, enum xds_kind kind, struct str name);
void retired_free(struct xds *x);
/* kind_extension.c: a place begins to use r (counted); what is known of r is put there. */
struct extension_use *extension_use_add(struct resource *r, struct extension_slot *slot);
void extension_use_drop(struct resource *r, struct extension_use *u);
/* Does nobody wait for what is discovered for this place? */
bool extension_use_ready(const struct extension_use *u);
unsigned extension_places(const struct resource *r); /* 1 << enum extension_kind */
void extension_uses_free(struct resource *r);        /* the end of all */
/* kind_route.c: a translated table is to be used as soon as what it needs is there. */
void route_take(struct resource *r, struct route_config *c);
/* kind_virtual_host.c: route tables whose virtual hosts come by themselves (VHDS). */
struct Envoy__Config__Route__V3__RouteConfiguration;
/* The source of m's `vhds`; NULL: told. */
struct source *vhds_source(struct resource *route,
                           const struct Envoy__Config__Route__V3__RouteConfiguration *m,
                           struct conf_cx *cx);
/* m was accepted: begins, goes on or (s NULL) ends to follow its virtual hosts. */
void vhds_follow(struct resource *route,
                 const struct Envoy__Config__Route__V3__RouteConfiguration *m, struct source *s);
/* m with the virtual hosts that came by themselves; parts are shared with m or live in `a`. */
const struct Envoy__Config__Route__V3__RouteConfiguration *vhds_merge(
    const struct resource *route, const struct Envoy__Config__Route__V3__RouteConfiguration *m,
    struct arena *a);
bool vhds_ready(const struct resource *route); /* the first answer came, or is given up */
void vhds_published(struct resource *route);
void vhds_end(struct resource *route);
struct str vhds_bytes(struct resource *route); /* the whole table as a message, for dumps */
/* Names and aliases of an accepted virtual host; a name that the control plane says nothing has. */
void vhds_note_ids(struct resource *r, const struct mux_resource *m);
void vhds_absent(struct xds *x, const struct mux_resource *m);
/* The end of a response of virtual hosts. */
void vhds_settle(struct xds *x, struct source *s, const struct mux_update *u, bool refused,
                 uint64_t took_us);
void vhds_asked(struct xds *x, struct on_demand_call *call);
void vhds_free(struct resource *route); /* the end of all */
void vhost_free(struct resource *r);
/* kind_scope.c: scoped routes (SRDS). A set of scopes begins to follow its source. */
void scope_set_follow(struct resource *set, const struct need *n);
/* The end of a response of scopes: what is wrong with all of them together (and the name of one
 * that is to blame), or empty. */
struct str scopes_settle(struct xds *x, struct source *s, const struct mux_update *u, bool refused,
                         uint64_t took_us, struct arena *a, struct str *name);
void scope_asked(struct xds *x, struct on_demand_call *call);
void demand_answer_scopes(struct resource *set);        /* whose table is there, or will not come */
struct str scope_set_label(const struct resource *set); /* scoped_routes.name */
void scope_facts_free(struct resource *r);              /* the end of all */
void scope_follower_free(struct resource *set);
/* on_demand.c: requests that wait. name: of the resource. */
void demands_serve(struct xds *x);
bool demand_full(const struct xds *x); /* no new name is asked for */
void demand_wait(struct xds *x, struct str name, struct on_demand_call *call);
void demand_answer(struct xds *x, enum on_demand_kind kind, struct str name, bool found);
/* Answers all who wait for a name that is a key of the map. */
void demand_answer_known(struct xds *x, enum on_demand_kind kind, const struct map *names);
/* Subscribes to a name because a request asked for it, and ends that. */
/* The source that who asks names; NULL: the log says that `what` name cannot be asked for. */
struct source *demand_source(struct xds *x, enum xds_kind kind, const void *config,
                             enum log_component component, const char *what, struct str name);
void demand_watch(struct resource *r, struct source *s);
void demand_unwatch(struct resource *r);
/* demand_secret.c: certificates that handshakes ask for by name. */
struct tls_on_demand;
void secret_asked(struct xds *x, struct on_demand_call *call);
/* Watches the secret for the handshakes of a context; NULL: they may not have it. */
struct resource *secret_demand(struct xds *x, const struct tls_on_demand *who, struct str name);
void secret_demand_left(struct xds *x, const struct tls_on_demand *who);
/* r has a new object, or lost it. */
void secret_demand_changed(struct resource *r);
/* It is not to be had (removed, or did not come in time): who waits is told, and nobody watches it
 * for them any more, which may free it. */
void secret_demand_gone(struct xds *x, struct str name);
void secret_demands_free(struct xds *x);
void demand_cluster_active(struct xds *x, struct str name);
void demands_free(struct xds *x); /* answers all */
/* Replaces a heap copy. */
void mux_keep(struct str *to, struct str s); /* mux_internal.h */
#define resource_keep mux_keep

/* --- kinds: one file each
 * ------------------------------------------------------------------------------ */
struct kind_ops {
    const char *type_url, *label;
    const ProtobufCMessageDescriptor *desc;
    bool full;                    /* state of the world: what a response lacks is gone */
    size_t arena;                 /* first block of an object's arena */
    const struct stat_def *stats; /* of a subscription; NULL: sub_stat_defs */
    size_t stat_count;
    bool stays; /* Envoy: while something needs it, its removal (delta) is passed over */
    /* Translates and takes the message's meaning over; object arena in cx (taken on success).
     * False: told in cx->errors. */
    bool (*accept)(struct resource *r, const ProtobufCMessage *msg, struct conf_cx *cx);
    void (*remove)(struct resource *r);
    /* A needed resource became done, or a cluster active: try what waits. True: no longer waiting.
     */
    bool (*ready)(struct resource *r);
    /* initial_fetch_timeout passed or the resource does not exist */
    void (*missing)(struct resource *r);
    /* Nobody needs it any more; optional, instead of `remove`. */
    void (*left)(struct resource *r);
    /* A version was refused; optional. */
    void (*refused)(struct resource *r, const struct mux_resource *m);
    /* Is a resource of this name of use, though nobody asked for it by name? Optional. */
    bool (*wants)(const struct xds *x, struct str name);
};
extern const struct kind_ops kind_listener, kind_cluster, kind_route, kind_endpoint, kind_secret,
    kind_runtime, kind_extension, kind_virtual_host, kind_scoped_route, kind_scope_set;
const struct kind_ops *kind_of(enum xds_kind kind);
/* False: not a type of ours. */
bool kind_of_url(struct str type_url, enum xds_kind *kind);

/* --- sources
 * -------------------------------------------------------------------------------------------- */
/* Finds or makes the source that a ConfigSource names, for a kind; NULL: told in at. */
struct source *source_get(struct xds *x, enum xds_kind kind,
                          const Envoy__Config__Core__V3__ConfigSource *cs,
                          const struct conf_at *at);
/* The ADS stream of the bootstrap. */
struct source *source_ads(struct xds *x, const Envoy__Config__Core__V3__ApiConfigSource *api,
                          const struct conf_at *at);
/* name empty: all of the kind. */
void source_watch(struct source *s, enum xds_kind kind, struct str name);
void source_unwatch(struct source *s, enum xds_kind kind, struct str name);
/* Sources stay idle (no connection) until this. */
void source_start(struct source *s);
void sources_stop(struct xds *x);
void sources_free(struct xds *x);

/* --- updates
 * --------------------------------------------------------------------------------------------- */
/* Applies a response from a source. The NACK text in `a`, or empty. */
struct str store_update(struct xds *x, struct source *s, const struct mux_update *u,
                        struct arena *a);
/* A connection to the source failed: counted for every subscription of it. */
void store_source_failed(struct xds *x, struct source *s);
/* Translates one message (static or from a response); errors are added with their path from the
 * resource's root. */
bool store_accept(struct resource *r, const ProtobufCMessage *msg, struct errors *errors,
                  const struct proto_opts *opts);
/* Replaces the needs of r by those in the list (watching the new before dropping the old). *to:
 * where they hang. */
bool store_link_needs(struct resource *r, struct need *needs, struct need_link **to,
                      const struct conf_at *at);
/* First watcher of r (its source is set): subscribes and starts the clock of initial_fetch_timeout
 * (0: none). */
void resource_subscribe(struct resource *r, uint64_t timeout_us);
void store_drop_needs(struct need_link **from);
/* Takes one watcher off; the last one ends the subscription and frees r. */
void resource_unwatch(struct resource *r);
/* Done (received, given up): whoever waits is looked at at the end of the turn. */
void store_done(struct resource *r);
void store_wait(struct resource *r); /* r.pending waits for its needs */
void store_wake(struct xds *x);
void store_free(struct xds *x);

/* --- statistics of subscriptions
 * --------------------------------------------------------------------------- */
enum sub_stat {
    SUB_CONFIG_RELOAD,
    SUB_INIT_FETCH_TIMEOUT,
    SUB_UPDATE_ATTEMPT,
    SUB_UPDATE_FAILURE,
    SUB_UPDATE_REJECTED,
    SUB_UPDATE_SUCCESS,
    SUB_CONFIG_RELOAD_TIME,
    SUB_UPDATE_TIME,
    SUB_VERSION,
    SUB_UPDATE_DURATION,
    SUB_VERSION_TEXT,
    SUB_COUNT
};
extern const struct stat_def sub_stat_defs[SUB_COUNT];
/* Of a filter's configuration: those, and two more. */
enum { EXTENSION_CONFIG_CONFLICT = SUB_COUNT, EXTENSION_CONFIG_FAIL, EXTENSION_STAT_COUNT };
extern const struct stat_def extension_stat_defs[EXTENSION_STAT_COUNT];
/* Of a secret. */
enum { SECRET_ROTATION_FAILED = SUB_COUNT, SECRET_STAT_COUNT };
extern const struct stat_def secret_stat_defs[SECRET_STAT_COUNT];
/* Of a route table, and of its virtual hosts. */
enum { ROUTE_UPDATE_EMPTY = SUB_COUNT, ROUTE_STAT_COUNT };
/* Of a set of scopes. */
enum { SCOPE_ALL = SUB_COUNT, SCOPE_ACTIVE, SCOPE_ON_DEMAND, SCOPE_UPDATE_EMPTY, SCOPE_STAT_COUNT };
extern const struct stat_def scope_stat_defs[SCOPE_STAT_COUNT];
extern const struct stat_def route_stat_defs[ROUTE_STAT_COUNT], vhds_stat_defs[ROUTE_STAT_COUNT];
void sub_updated(struct stat_group *g, struct str version, uint64_t wall_us, uint64_t took_us);
/* SUB_UPDATE_REJECTED, SUB_UPDATE_FAILURE, SUB_INIT_FETCH_TIMEOUT: each is an attempt, too. Or
 * SUB_UPDATE_ATTEMPT. */
void sub_count(struct stat_group *g, enum sub_stat what);
/* Counts for every subscription of the source. */
void store_source_count(struct xds *x, struct source *s, enum sub_stat what);
/* The same for the subscription of a resource. */
void resource_count(const struct resource *r, enum sub_stat what);
enum control_plane_stat {
    CONTROL_PLANE_CONNECTED,
    CONTROL_PLANE_PENDING,
    CONTROL_PLANE_RATE_LIMITED,
    CONTROL_PLANE_ID,
    CONTROL_PLANE_COUNT
};
extern const struct stat_def control_plane_stat_defs[CONTROL_PLANE_COUNT];

/* --- the whole
 * ---------------------------------------------------------------------------------------------- */
enum xds_phase {
    XDS_IDLE,
    XDS_STATIC,
    XDS_RUNTIME_LAYERS,
    XDS_CLUSTERS,
    XDS_LISTENERS,
    XDS_READY,
    XDS_STOPPED
};
/* A wildcard subscription: CDS or LDS. */
struct top {
    struct source *source; /* NULL: none configured */
    struct stat_group *stats;
    struct loop_timer fetch;
    struct xds *x;
    uint64_t fetch_us;
    bool done, watched;
    struct str version; /* heap */
};
struct xds {
    struct xds_env env;
    struct arena *arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap *bootstrap;
    Envoy__Config__Core__V3__Node *node;
    struct grpc_client *grpc; /* made at first use */
    struct list sources;
    struct source *ads;
    struct map store[XDS_KINDS];
    size_t statics[XDS_KINDS]; /* how many of them are from the bootstrap */
    struct list waiting;       /* resources with a pending object */
    struct list vhds;          /* struct vhds.link */
    struct list scope_sets;    /* struct scope_follower.link */
    struct list retired;       /* struct retired.link */
    struct map demands;        /* struct demand *: requests that wait (on_demand.c) */
    struct map asked_secrets;  /* struct asked_secret * (demand_secret.c) */
    size_t demanded;           /* names that requests made us ask for */
    size_t asking;             /* calls in all demands */
    struct loop_later wake;
    uint64_t generation;
    size_t warming_clusters;
    enum xds_phase phase;
    struct top cds, lds;
    struct layers *layers;
    struct stat_group *control_plane;
    struct load_report *load_report; /* NULL: none */
    struct load_sink load_sink;      /* workers tell it while it is set in the runtime */
    struct cache *cache;             /* --config-cache; may be NULL */
    size_t rest_calls;               /* whose memory is still in use */
};
/* Looks whether the phase is over and begins the next. */
void xds_advance(struct xds *x);
struct top *xds_top(struct xds *x, enum xds_kind kind); /* NULL for kinds without */
void xds_top_updated(struct xds *x, enum xds_kind kind);
/* initial_fetch_timeout of a ConfigSource in microseconds: default 15 s, 0 none. */
uint64_t xds_fetch_timeout(const Envoy__Config__Core__V3__ConfigSource *cs);
struct loop *xds_loop(const struct xds *x);

/* --- runtime layers (layers.c)
 * -------------------------------------------------------------------------------- */
bool layers_load(struct xds *x, struct errors *errors);
/* Begins RTDS subscriptions. */
void layers_start(struct xds *x);
bool layers_update(struct xds *x, struct str name, const ProtobufCMessage *runtime);
void layers_publish(struct xds *x);
void layers_free(struct xds *x);
