/* Sending a request to a cluster: find the cluster, pick a host, get a connection, one exchange.
 * Used by the router, side calls and mirrors. Worker thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/loop.h"
#include "base/str.h"
#include "proxy/api/codec.h"
#include "proxy/api/lb_policy.h"

struct worker;
struct stream_info;
struct upstream_cluster; /* worker-local state of a cluster (pools, cursors), found by name */
struct host;
struct conn_info;
struct stat_group;

/* NULL: no such cluster (nobody published it). Borrowed for the call unless pinned. */
struct upstream_cluster *upstream_find(struct worker *w, struct str name, uint64_t hash);
void upstream_pin(struct upstream_cluster *uc);
void upstream_unpin(struct worker *w, struct upstream_cluster **uc);
/* Facts of the cluster as configured now (borrowed from its pin; valid while uc is pinned). */
const struct cluster *upstream_conf(const struct upstream_cluster *uc);
/* How many hosts a cluster has, and how many of them are fit. False: no such cluster. */
struct upstream_health {
    uint32_t total, healthy, degraded;
};
bool upstream_health(struct worker *w, struct str name, uint64_t hash, struct upstream_health *out);
/* Name, name in statistics and metadata of the cluster into info->up (borrowed as long as the
 * cluster lives). */
void upstream_name_facts(const struct upstream_cluster *uc, struct stream_info *info);
/* "cluster.<name>.", or with ".internal." etc. behind it: indices of code_stat_defs. Kept by uc. */
enum upstream_code_scope {
    UPSTREAM_CODES_ALL,
    UPSTREAM_CODES_INTERNAL,
    UPSTREAM_CODES_EXTERNAL,
    UPSTREAM_CODES_CANARY,
    UPSTREAM_CODES_RETRY,
    UPSTREAM_CODES_SCOPES
};
struct stat_group *upstream_code_stats(struct upstream_cluster *uc, enum upstream_code_scope which);
/* Groups by a name that only requests know ("vhost.v.vcluster.c."): kept by the worker, so that
 * they are found without a lock and their counts stay. The table must be the same for the same
 * prefix and `which` (0..3). Borrowed. NULL: too many names. */
struct stat_def;
struct stat_group *upstream_named_stats(struct worker *w, struct str prefix, unsigned which,
                                        const struct stat_def *defs, size_t count);
struct stat_group *upstream_stats(
    const struct upstream_cluster
        *uc); /* cluster.<name>.: enum cluster_stat of proxy/api/cluster_stats.h */

enum upstream_priority { UPSTREAM_DEFAULT = 0, UPSTREAM_HIGH = 1 };
enum upstream_failure {
    UPSTREAM_NO_HOST,        /* none healthy or none at all */
    UPSTREAM_OVERFLOW,       /* circuit breaker */
    UPSTREAM_CONNECT_FAILED, /* refused, unreachable, TLS failed (transport text) */
    UPSTREAM_CONNECT_TIMEOUT,
    UPSTREAM_LOCAL_FAILURE /* draining etc. */
};

/* One attempt. Embedded by the caller; zeroed before start. Everything is tied to it: after
 * upstream_cancel or an end event nothing fires. */
struct upstream_attempt;
struct upstream_events {
    /* A connection is there; headers may be sent now. Called inside upstream_start when a pooled
     * connection is free. */
    void (*on_ready)(struct upstream_attempt *a);
    /* No exchange took place (end event). detail: transport failure text or empty. */
    void (*on_failure)(struct upstream_attempt *a, enum upstream_failure why, struct str detail);
    void (*on_1xx)(struct upstream_attempt *a, struct headers *h);
    void (*on_headers)(struct upstream_attempt *a, struct headers *h, bool end);
    void (*on_data)(struct upstream_attempt *a, struct buf *data, bool end);
    void (*on_trailers)(struct upstream_attempt *a, struct headers *t);
    /* METADATA of HTTP/2 (codec_stream_events); takes the bytes. May be NULL. */
    void (*on_metadata)(struct upstream_attempt *a, struct buf *block);
    void (*on_reset)(struct upstream_attempt *a, enum stream_reset why,
                     struct str details);                         /* end event */
    void (*on_complete)(struct upstream_attempt *a);              /* end event: both sides done */
    void (*on_watermark)(struct upstream_attempt *a, bool above); /* request body: stop/go */
};
struct upstream_attempt {
    const struct upstream_events *events; /* set by the caller */
    void *owner;                          /* set by the caller */
    struct arena *arena;                  /* set by the caller: response headers live there */
    struct upstream_cluster *uc;          /* pinned while the attempt lives */
    struct host *host;                    /* chosen; NULL before */
    struct codec_stream *stream;          /* NULL before on_ready and after the end */
    struct conn *conn;                    /* of the exchange; NULL before on_ready */
    const struct conn_info
        *conn_info; /* upstream connection's facts; valid until the end event returns */
    enum http_protocol_kind {
        UPSTREAM_PROTO_UNKNOWN,
        UPSTREAM_PROTO_H1,
        UPSTREAM_PROTO_H2
    } protocol;
    enum upstream_priority priority;
    bool reused; /* the connection had served before */
    uint64_t start_us, connect_begin_us, connect_end_us, ready_us;
    void *priv[8]; /* upstream's own */
    /* Bytes on the wire of this exchange so far: of the headers, and of all. As of the end event,
     * or of upstream_wire(). */
    uint64_t header_sent, wire_sent, header_received, wire_received;
};
/* Brings the byte counts up to date (HTTP/1). */
void upstream_wire(struct upstream_attempt *a);
/* Picks a host and a connection. on_ready/on_failure may be called before it returns. */
void upstream_start(struct worker *w, struct upstream_cluster *uc, struct upstream_attempt *a,
                    const struct lb_ask *ask);
/* The same over a raw connection of its own: the headers that are sent stay here, "200" comes back,
 * data are the connection's bytes. For a CONNECT that ends here. */
void upstream_start_raw(struct worker *w, struct upstream_cluster *uc, struct upstream_attempt *a,
                        const struct lb_ask *ask);
void upstream_send_headers(struct upstream_attempt *a, struct headers *h, bool end);
void upstream_send_data(struct upstream_attempt *a, struct buf *data, bool end);
void upstream_send_trailers(struct upstream_attempt *a, struct headers *t);
/* One more of the hosts, names or connections that were tried, which logs tell: "a,b"; of many the
 * first. */
struct str upstream_listed(struct arena *a, struct str list, struct str one);
void upstream_send_metadata(struct upstream_attempt *a, struct buf *block); /* moves it out */
void upstream_pause(struct upstream_attempt *a,
                    bool pause); /* stop/resume reading the response; counted */
/* Gives up: in the queue, connecting or mid-exchange (resets). No event follows. Fine on a zeroed
 * or ended attempt. */
void upstream_cancel(struct upstream_attempt *a);

/* drop_overloads of the endpoints: should this request be dropped? */
enum upstream_drop { UPSTREAM_DROP_NO, UPSTREAM_DROP_SOME, UPSTREAM_DROP_ALL };
enum upstream_drop upstream_drop(struct upstream_cluster *uc);

/* Circuit breakers shared by the router: retries. False: no room (counts
 * upstream_rq_retry_overflow). */
bool upstream_retry_take(struct upstream_cluster *uc, enum upstream_priority p);
void upstream_retry_give(struct upstream_cluster *uc, enum upstream_priority p);
/* Host facts for logs and predicates. An attempt borrows its host: who looks at it after the end
 * event holds a reference. */
struct host *host_ref(struct host *h);
void host_unref(struct host **h);
const struct addr *host_address(const struct host *h);
struct str host_address_text(const struct host *h); /* "ip:port" */
struct str host_name(const struct host *h);         /* endpoint hostname, may be empty */
const struct metadata *host_metadata(const struct host *h);
bool host_canary(const struct host *h);
/* Results told to the host's and cluster's statistics (rq_success/rq_error/rq_timeout; outlier
 * detection later). */
void upstream_report(struct upstream_attempt *a, uint32_t status);
void upstream_report_timeout(struct upstream_attempt *a);

/* --- raw connections (tcp_proxy): the same host choice, breakers and statistics
 * ------------------------------------------------- */
struct upstream_tcp;
struct upstream_tcp_events {
    /* Connected: t->conn is the caller's now; it calls conn_set_owner and, in its on_close,
     * upstream_tcp_end. */
    void (*on_ready)(struct upstream_tcp *t);
    void (*on_failure)(struct upstream_tcp *t, enum upstream_failure why,
                       struct str detail); /* end event */
};
struct upstream_tcp {
    const struct upstream_tcp_events *events; /* set by the caller */
    void *owner;                              /* set by the caller */
    struct upstream_cluster *uc;              /* pinned while it lives */
    struct host *host;
    struct conn *conn; /* NULL before on_ready */
    enum upstream_priority priority;
    uint64_t start_us, ready_us;
    void *priv[4]; /* upstream's own */
};
/* on_ready/on_failure may be called before it returns (failures only). */
void upstream_tcp_start(struct worker *w, struct upstream_cluster *uc, struct upstream_tcp *t,
                        const struct lb_ask *ask);
/* Before on_ready: gives up; nothing fires. */
void upstream_tcp_cancel(struct upstream_tcp *t);
/* After on_ready, when the connection has ended (inside its on_close): gives breakers and gauges
 * back. */
void upstream_tcp_end(struct upstream_tcp *t, bool local);

/* --- datagrams (udp_proxy): a socket of its own for each session
 * ------------------------------------------------- */
struct upstream_udp;
struct datagram_batch; /* proxy/net/datagram.h */
struct upstream_udp_events {
    void (*on_datagrams)(struct upstream_udp *u, const struct datagram_batch *b);
    void (*on_error)(struct upstream_udp *u, int error); /* of reading: errno; it goes on */
    /* The host or the cluster's version is not there any more: the owner ends it. */
    void (*on_gone)(struct upstream_udp *u);
};
struct upstream_udp {
    const struct upstream_udp_events *events; /* set by the caller */
    size_t datagram_most;                     /* set by the caller: longest datagram taken */
    struct addr source; /* set by the caller: send from this address (its port is not kept); len 0:
                           the system's choice */
    struct upstream_cluster *uc; /* pinned while it lives */
    struct host *host;           /* a reference */
    struct addr local;           /* of the socket */
    struct loop_io io;
    struct list link;
    bool open;
};
/* A reference to a host, NULL (counted) when there is none. */
struct host *upstream_udp_pick(struct upstream_cluster *uc, const struct lb_ask *ask);
bool upstream_host_usable(const struct host *h); /* not known to be unhealthy */
enum upstream_udp_result {
    UPSTREAM_UDP_OK,
    UPSTREAM_UDP_OVERFLOW, /* max_connections; counted */
    UPSTREAM_UDP_FAILED    /* no socket */
};
/* Opens and connects a socket to h (a reference is taken). Nothing is held unless OK. */
enum upstream_udp_result upstream_udp_start(struct worker *w, struct upstream_cluster *uc,
                                            struct upstream_udp *u, struct host *h);
bool upstream_udp_send(struct upstream_udp *u, struct str datagram); /* false: not taken */
void upstream_udp_end(struct upstream_udp *u);                       /* fine on a zeroed one */
