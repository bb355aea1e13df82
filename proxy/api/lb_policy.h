/* Load balancing policies and cluster types. Three objects without locks: conf (immutable, from the
 * message), table (immutable, rebuilt on main when the host set changes, shared), cursor (mutable,
 * one per worker). */
#pragma once
#include "base/addr.h"
#include "proxy/api/extension.h"

struct host;
struct host_set;
struct stream_info;
struct conn_info;
struct worker;
struct metadata;
struct headers;

/* What a pick may look at; any part may be absent. */
struct lb_ask {
    struct worker *worker;
    bool has_hash;
    uint64_t hash;
    const struct stream_info *stream;
    const struct conn_info *downstream;
    const struct headers *headers;
    const struct metadata *metadata_match; /* envoy.lb criteria of the route, merged */
    uint32_t attempt;    /* how often a host was chosen and avoided in this choice */
    uint32_t tries_left; /* host_selection_retry_max_attempts */
    bool (*avoid)(const struct lb_ask *ask,
                  const struct host *h); /* retry host predicates; NULL: none */
    void *avoid_arg;
    struct str override_host; /* stateful session: "ip:port"; empty: none */
    bool override_strict;
};
/* One level of priority as the policies see it: main computes it in the host set. Policies pick
 * inside the hosts given. */
struct lb_hosts {
    struct host *const *v; /* borrowed from the host set */
    uint32_t count;
    bool weighted; /* not all weights are equal */
};
struct lb_policy_type {
    struct extension ext;
    size_t cursor_size;
    bool needs_hash;
    const void *(*conf_create)(const struct conf_at *at,
                               const struct ProtobufCMessage *msg); /* msg NULL: defaults */
    /* Main. May be NULL (policy needs no table). In arena a; hosts stay valid as long as a. */
    const void *(*table_create)(struct arena *a, const void *conf, const struct lb_hosts *hosts);
    void (*cursor_init)(void *cursor, const void *conf, struct worker *w);
    /* NULL: none. Worker. */
    struct host *(*pick)(void *cursor, const void *conf, const void *table,
                         const struct lb_hosts *hosts, const struct lb_ask *ask);
    /* Frees what the cursor holds beyond its own bytes; may be NULL. */
    void (*cursor_release)(void *cursor);
};
/* Facts that policies need of a host, without knowing its struct. */
uint32_t host_weight(const struct host *h);
uint32_t host_active_requests(const struct host *h);

/* How a cluster learns its hosts. Main thread only. */
struct cluster;
struct cluster_feed; /* proxy/upstream/cluster.h */
struct cluster_type {
    struct extension ext;
    bool (*start)(
        struct cluster *c,
        struct runtime *rt); /* begins resolving; tells hosts through cluster_set_hosts() */
    void (*stop)(struct cluster *c, struct runtime *rt);
};
