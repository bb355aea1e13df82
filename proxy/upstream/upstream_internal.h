/* What the files of proxy/upstream share: a worker's view of a cluster, its balancer, its pools,
 * and the circuit breakers. */
#pragma once
#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/api/upstream.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster.h"
#include "proxy/upstream/host_set.h"

/* Keeps WORKER_UPSTREAM in step with the published tables. */
extern const struct worker_hooks upstream_worker_hooks;

/* --- circuit breakers: any thread
 * --------------------------------------------------------------------------------------------------
 */
/* Is there room for one more? */
bool breaker_room(const struct cluster *c, enum upstream_priority p, enum breaker b);
void breaker_take(const struct cluster *c, enum upstream_priority p, enum breaker b);
void breaker_give(const struct cluster *c, enum upstream_priority p, enum breaker b);
/* Main: the limits that hold from now on, those of runtime
 * ("circuit_breakers.<cluster>.<priority>.max_…") before the cluster's; the gauges follow. */
void breaker_limits_set(struct cluster_shared *s, struct str cluster,
                        const struct breaker_limits *limits);

/* --- a worker's cluster: one per published version, so that what a stream has pinned never changes
 * under it ------------------------ */
struct upstream_cluster {
    struct worker *worker;
    struct str name; /* of conf */
    struct pin *pin; /* of conf */
    const struct cluster *conf;
    struct pin *hosts_pin; /* NULL: none published */
    const struct host_set *hosts;
    uint32_t users; /* streams, attempts, pools */
    bool detached;  /* replaced or removed: freed with its last user */
    struct list pools;
    struct list udps; /* upstream_udp.link */
    struct map pool_by_key;
    void **cursors;       /* by lb_source.ordinal; NULL until used */
    struct host **peeked; /* choices made ahead (balance_peek), in order; heap */
    uint32_t peeked_count, peeked_cap;
    double *deadlines;                 /* of localities, by the ordinal of their list */
    struct stat_group *codec_stats[2]; /* http1., http2. */
    struct codec_options codec_options[2];
    struct stat_group *code_stats[UPSTREAM_CODES_SCOPES];
    struct conn_byte_stats bytes;      /* connections point here */
    struct original_dst *original_dst; /* ORIGINAL_DST: this worker's hosts; NULL until used */
};
/* Asks for a host. Counts panic. */
enum lb_answer balance_choose(struct upstream_cluster *uc, const struct lb_ask *ask,
                              struct lb_later *later, struct host **out);

/* The host that the choice after the present ones will give, noted for it; NULL: not foreseen (the
 * policy cannot, or all hosts are noted). */
struct host *balance_peek(struct upstream_cluster *uc, const struct lb_ask *ask);

/* --- choices of attempts (choice.c) --- */
/* One that waits for its answer. What `ask` points at must live as long. */
struct choice {
    struct lb_later later;
    struct loop_later again;
    struct lb_ask ask;
    struct upstream_cluster *uc;
    bool waiting; /* the policy holds `later` */
    void (*done)(void *arg, const struct lb_ask *ask, struct host *h);
    void *arg;
};
/* LB_LATER: *c is set, and done comes from the loop (h NULL: none) unless the choice is cancelled.
 * When it is called *c is gone: forget it. */
enum lb_answer choice_start(struct upstream_cluster *uc, const struct lb_ask *ask,
                            const struct choice *how, struct host **h, struct choice **c);
/* NULL is fine. Leaves NULL. */
void choice_cancel(struct choice **c);
/* Forgets the cursors (the host set changed). */
void balance_reset(struct upstream_cluster *uc);

/* ORIGINAL_DST clusters (original_dst.c): the host that the client meant; NULL: it is not known. */
struct host *original_dst_pick(struct upstream_cluster *uc, const struct lb_ask *ask);
void original_dst_release(struct upstream_cluster *uc);

/* Tells the datagram sessions whose host has left, or all (udp.c). */
void udps_follow_hosts(struct upstream_cluster *uc);
void udps_end_all(struct upstream_cluster *uc);

/* --- pools
 * --------------------------------------------------------------------------------------------------------------------------
 */
struct pool;
struct pool_key {
    const struct host *host;
    uint32_t priority, protocol; /* enum upstream_priority, enum http_protocol_kind */
    uint64_t kind;               /* hash of what else connections are told apart by (pool_kind) */
};
/* Private part of struct upstream_attempt. */
struct attempt_priv {
    struct list link; /* pool->pending or pool_conn->attempts */
    struct pool *pool;
    struct pool_conn *pc;
    struct choice *choice;   /* its host is not known yet; NULL: it is */
    struct raw_attempt *raw; /* over a raw connection; NULL: over a pool's */
    bool pending, live;
    bool begun, ended; /* the response's headers / end were told */
};
_Static_assert(sizeof(struct attempt_priv) <= sizeof(((struct upstream_attempt *)NULL)->priv),
               "priv is too small");
static inline struct attempt_priv *attempt_priv(struct upstream_attempt *a)
{
    return (struct attempt_priv *)(void *)a->priv;
}
/* Queues the attempt at the host's pool, or starts it on a free connection. */
void pool_start(struct upstream_cluster *uc, struct upstream_attempt *a, const struct lb_ask *ask,
                enum http_protocol_kind protocol);
void pool_cancel(struct upstream_attempt *a);
void raw_cancel(struct upstream_attempt *a); /* of upstream_start_raw */
/* The pool's host left or its cluster was replaced: idle connections end now, busy ones after their
 * exchange. */
void pool_drain(struct pool *p);
/* Drains the pools whose host is not in uc->hosts any more. */
void pools_follow_hosts(struct upstream_cluster *uc);
void pools_drain_all(struct upstream_cluster *uc);
/* At the worker's end: everything goes at once. */
void pools_close_all(struct upstream_cluster *uc);
void upstream_fail(struct upstream_attempt *a, enum upstream_failure why, struct str detail);

/* --- connections, for pools and raw users
 * ------------------------------------------------------------------------------------------- */
struct transport_ask;
struct transport_socket;
struct transport_proxied;
/* Connects to the host with the cluster's options and counts it (breaker, cluster and host
 * statistics). */
struct conn *upstream_connect(struct upstream_cluster *uc, struct host *h, enum upstream_priority p,
                              const struct transport_ask *ask, const struct conn_events *events,
                              void *owner);
/* The address that a filter wants the connection to come from; NULL: none. */
const struct original_src *upstream_source(const struct lb_ask *ask);
/* Names for the transport that the client's filter state says (envoy.network.upstream_server_name,
 * .upstream_subject_alt_names, .application_protocols; the latter two comma lists). Borrowed from
 * the scratch arena. */
struct upstream_names {
    struct str sni, sans, alpn;
};
struct upstream_names upstream_names_of(const struct lb_ask *ask);
/* They go before what the ask has; lists are made in `a`. */
void upstream_names_ask(const struct upstream_names *n, struct arena *a, struct transport_ask *ask);
/* Its end: gives back what upstream_connect counted. */
struct upstream_conn_end {
    enum upstream_priority priority;
    uint64_t begin_us;
    bool connected, local;
    uint32_t active; /* exchanges cut off */
};
void upstream_connect_end(struct upstream_cluster *uc, struct host *h,
                          const struct upstream_conn_end *end);
/* enum conn_end -> why no connection came about, and its text. */
enum upstream_failure upstream_connect_failure(int conn_end);
/* NULL: none fits, the cluster's own socket. Either metadata may be NULL. Any thread. */
const struct transport_match *upstream_socket_match(const struct cluster *c,
                                                    const struct metadata *endpoint,
                                                    const struct metadata *locality);
/* The transport socket that connections to a host get; NULL: raw. */
const struct transport_socket *upstream_socket(const struct upstream_cluster *uc,
                                               const struct host *h);
/* Whom a connection serves, borrowed from `ask`: out, or NULL for nobody. */
const struct transport_proxied *upstream_proxied(const struct lb_ask *ask,
                                                 struct transport_proxied *out);
