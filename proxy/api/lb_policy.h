/* Load balancing policies and cluster types. Three objects without locks: conf (immutable, from the
 * message), table (immutable, rebuilt on main when the host set changes, shared), cursor (mutable,
 * one per worker). */
#pragma once
#include "base/addr.h"
#include "base/list.h"
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
    uint32_t again;      /* how often a later answer was LB_AGAIN in this choice */
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
/* --- choices that are answered later (a name must be resolved first, another party is asked)
 * ----------------------------------------- */
enum lb_answer {
    LB_NONE,  /* no host */
    LB_HOST,  /* here it is */
    LB_LATER, /* `later` is kept: done comes, from the loop, unless it is cancelled */
    LB_AGAIN  /* only as a later answer: what was asked has gone, ask anew */
};
/* One choice that waits. */
struct lb_later {
    /* The asker's. h: with LB_HOST, borrowed for the call. */
    void (*done)(struct lb_later *l, enum lb_answer a, struct host *h);
    /* The policy's, set with LB_LATER: the asker has gone, done must not be called any more. */
    void (*cancel)(struct lb_later *l);
    struct list link; /* the policy's own use */
    void *priv[4];    /* the policy's own use */
};

/* A policy inside another one. */
struct lb_policy_type;
struct lb_child {
    const struct lb_policy_type *type;
    const void *conf;
};
struct lb_policy_type {
    struct extension ext;
    size_t cursor_size;
    bool needs_hash;
    bool foresees; /* a pick depends on no request: it may be made ahead of one */
    /* The inner policy: whether a hash is needed is its affair, too. May be NULL. */
    const struct lb_child *(*child)(const void *conf);
    /* Brought along by a cluster type: it is asked for every choice with all hosts of the first
     * priority, whatever their health, even with none. */
    bool whole_cluster;
    const void *(*conf_create)(const struct conf_at *at,
                               const struct ProtobufCMessage *msg); /* msg NULL: defaults */
    /* Main. May be NULL (policy needs no table). In arena a; hosts stay valid as long as a. */
    const void *(*table_create)(struct arena *a, const void *conf, const struct lb_hosts *hosts);
    void (*cursor_init)(void *cursor, const void *conf, struct worker *w);
    /* NULL: none. Worker. */
    struct host *(*pick)(void *cursor, const void *conf, const void *table,
                         const struct lb_hosts *hosts, const struct lb_ask *ask);
    /* Instead of pick, for policies that may answer later. Worker. */
    enum lb_answer (*choose)(void *cursor, const void *conf, const void *table,
                             const struct lb_hosts *hosts, const struct lb_ask *ask,
                             struct lb_later *later, struct host **out);
    /* Frees what the cursor holds beyond its own bytes; may be NULL. Choices that still wait are
     * answered LB_AGAIN: the hosts have changed. */
    void (*cursor_release)(void *cursor);
};
/* Implemented in proxy/upstream/balance.c. Asks the policy, whichever way it answers. */
enum lb_answer lb_choose(const struct lb_policy_type *t, void *cursor, const void *conf,
                         const void *table, const struct lb_hosts *hosts, const struct lb_ask *ask,
                         struct lb_later *later, struct host **out);
bool lb_needs_hash(const struct lb_policy_type *t, const void *conf);
/* May it, or a policy inside it, answer later? */
bool lb_may_wait(const struct lb_policy_type *t, const void *conf);

/* --- what a policy does with its inner one
 * --------------------------------------------------------------------------------- */
struct Envoy__Config__Cluster__V3__LoadBalancingPolicy;
/* The first policy of the list that is known (proxy/config/cluster_lb.c). False: told at `at`. */
bool conf_lb_child(const struct conf_at *at,
                   const struct Envoy__Config__Cluster__V3__LoadBalancingPolicy *m,
                   struct lb_child *out);
/* The child's table for these hosts (main); NULL: it needs none. */
const void *lb_child_table(const struct lb_child *c, struct arena *a, const struct lb_hosts *hosts);
/* Worker; one for each list that the child picks from. */
void *lb_child_cursor_new(const struct lb_child *c, struct worker *w);
void lb_child_cursor_free(const struct lb_child *c, void **cursor);
/* Facts that policies need of a host, without knowing its struct. */
uint32_t host_weight(const struct host *h);
uint32_t host_active_requests(const struct host *h);

/* How a cluster learns its hosts. Main thread only. */
struct cluster;
struct cluster_feed; /* proxy/upstream/cluster.h */
struct cluster_type {
    struct extension ext;
    /* Main, after the rest of the cluster was translated, which it may still change. NULL: told.
     * The result is c->custom_conf. May be NULL. */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg,
                               struct cluster *c);
    /* What CLUSTER_PROVIDED means; its conf is custom_conf. NULL: no policy of its own. */
    const struct lb_policy_type *lb;
    bool (*start)(
        struct cluster *c,
        struct runtime *rt); /* begins resolving; tells hosts through cluster_set_hosts() */
    void (*stop)(struct cluster *c, struct runtime *rt);
};
