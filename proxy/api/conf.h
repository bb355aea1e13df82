/* Translation context: where in the configuration we are, what went wrong, what the new object
 * still needs. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/errors.h"
#include "base/str.h"

struct arena;
struct ProtobufCMessage;
struct registry;
struct runtime;
struct stats;
struct loop;
struct extension_slot;
struct proto_opts; /* proto/notes.h */

/* A resource that a translated object waits for or follows (EDS, RDS, SDS, ECDS, VHDS): told to
 * xds/ by translation. */
enum need_kind {
    NEED_ENDPOINTS,
    NEED_ROUTES,
    NEED_SECRET,
    NEED_EXTENSION,
    NEED_VIRTUAL_HOSTS,
    NEED_SCOPED_ROUTES
};
struct need {
    enum need_kind kind;
    struct str name;           /* resource name */
    const void *config_source; /* Envoy__Config__Core__V3__ConfigSource *, valid as long as the
                                  arena of the object */
    struct str path;           /* of the field that names the source: for errors */
    struct str
        stat_prefix; /* of the subscription's statistics: "http.ingress.rds.web."; empty: none */
    /* NEED_SCOPED_ROUTES: where the tables of the scopes come from (as config_source), the prefix
     * of their statistics, and what the set is called. */
    const void *routes_source;
    struct str routes_stat_prefix, label;
    struct extension_slot *slot; /* NEED_EXTENSION: where it is used; lives as long as the arena */
    struct need *next;
};

/* One translation. Main thread only. */
struct conf_cx {
    struct arena *arena; /* of the object being made */
    struct errors *errors;
    const struct registry *registry;
    struct runtime *rt; /* stats store, main loop */
    struct need *needs; /* list, in the arena */
    struct str root;    /* "Listener \"ingress\"": for log lines */
    bool validate_only; /* --mode validate: open no sockets, read files only as Envoy does */
    bool added_via_api;
    uint64_t version_hash;
    const struct proto_opts
        *opts; /* how strict nested messages (Any) are read; NULL: strict and silent */
    /* known to check references: does a static cluster of this name exist? NULL: not checked */
    bool (*cluster_known)(void *arg, struct str name);
    /* for did-you-mean: the known one whose name is nearest, or empty; borrowed. May be NULL. */
    struct str (*cluster_nearest)(void *arg, struct str name);
    void *cluster_known_arg; /* of both */
    struct str scope;        /* statistics prefix of the listener or cluster that is translated
                                ("cluster.web."): for transport sockets */
};

/* A place in a config message. Lives on the C stack of the translating functions; child -> parent.
 */
struct conf_at {
    struct conf_cx *cx;
    const struct conf_at *parent;
    const char *field; /* "routes"; static or arena text; NULL at the root */
    int64_t index;     /* element of a repeated field, or -1 */
    struct str key;    /* key of a map field, or empty */
};
struct conf_at conf_root(struct conf_cx *cx);
struct conf_at conf_field(const struct conf_at *at, const char *field);
struct conf_at conf_index(const struct conf_at *at, const char *field, size_t index);
struct conf_at conf_key(const struct conf_at *at, const char *field, struct str key);
struct arena *conf_arena(const struct conf_at *at);
/* "virtual_hosts[2].routes[0].match" in the arena of the error list. */
struct str conf_path(const struct conf_at *at);
/* Records "path: text". Always false, so that `return conf_fail(...)` reads well. */
bool conf_fail(const struct conf_at *at, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Records that there is no such cluster ("what 'name'"), and which may be meant. Always false. */
bool conf_fail_cluster(const struct conf_at *at, const char *what, struct str name);
/* Adds a need to the context and gives it back (for stat_prefix); texts are copied to the arena. */
struct need *conf_need(const struct conf_at *at, enum need_kind kind, struct str name,
                       const void *config_source);
