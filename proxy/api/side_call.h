/* Side calls: an extension asks another cluster by HTTP or gRPC, one answer or a stream, through
 * Skiff's own client: balancing, pools, breakers, TLS and statistics of the cluster apply.
 *
 * Every call hangs on an owner (an HTTP stream, a network connection, or what a module embeds).
 * When the owner ends, its calls are cancelled: nothing fires after that. No event is called inside
 * a function of this header; on_end comes exactly once, last, at the end of a turn of the loop, and
 * the call is dead when it returns. Inside any event the call may be cancelled and its owner
 * released. Worker thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/list.h"
#include "base/str.h"

struct conf_at;
struct header_change;
struct headers;
struct stream_info;
struct worker;
struct http_filter;
struct network_filter;
struct Envoy__Config__Core__V3__GrpcService;
struct Envoy__Config__Core__V3__HttpUri;

/* --- owners
 * ----------------------------------------------------------------------------------------------------
 */
/* Zero-initialised owns nothing. */
struct side_owner {
    struct list calls; /* struct side_link */
};
struct side_link {
    struct list link;
    void (*cancel)(struct side_link *l); /* unlinks it */
};
/* Cancels all calls; the owner may be used again. */
void side_owner_release(struct side_owner *o);
/* The owners of extensions. The stream's calls end when the stream is over, before log and destroy;
 * the connection's when it is closed, before on_close. */
struct side_owner *http_filter_calls(struct http_filter *f);
struct side_owner *network_filter_calls(struct network_filter *f);

/* --- where to
 * --------------------------------------------------------------------------------------------------
 */
enum {
    SIDE_MESSAGE_MOST = 4 * 1024 * 1024, /* a gRPC message, where the configuration says nothing */
    SIDE_BODY_MOST = 1024 * 1024         /* the whole body of one HTTP answer, likewise */
};
/* A GrpcService or HttpUri. Immutable. */
struct side_target {
    struct str cluster;
    uint64_t cluster_hash;                /* 0: hashed at each call */
    struct str authority, path;           /* of an HttpUri; gRPC: authority or the cluster's name */
    uint64_t timeout_us;                  /* 0: none */
    size_t answer_most;                   /* bytes of a body or message; 0: the default above */
    const struct header_change *metadata; /* initial_metadata; NULL: none */
    struct str local_ip;                  /* added to x-forwarded-for */
    bool plain; /* skip_envoy_headers: neither x-envoy-internal nor x-forwarded-for is added */
    bool bare;  /* a peer by its address: no header of Envoy's at all */
};
/* Translation (proxy/config/side_target.c). NULL: told at `at`. Envoy: some extensions ask for a
 * cluster that exists when they are configured, others find it at each call. */
enum side_cluster { SIDE_CLUSTER_ANY, SIDE_CLUSTER_STATIC };
const struct side_target *conf_grpc_service(const struct conf_at *at,
                                            const struct Envoy__Config__Core__V3__GrpcService *m,
                                            enum side_cluster which);
const struct side_target *conf_http_uri(const struct conf_at *at,
                                        const struct Envoy__Config__Core__V3__HttpUri *m);

/* --- what comes back
 * ------------------------------------------------------------------------------------------- */
enum side_failure {
    SIDE_OK, /* the exchange is complete, whatever its status says */
    SIDE_NO_CLUSTER,
    SIDE_NO_HOST,
    SIDE_OVERFLOW, /* a circuit breaker */
    SIDE_CONNECT_FAILED,
    SIDE_CONNECT_TIMEOUT,
    SIDE_RESET, /* broken off by the other side or the connection */
    SIDE_TIMEOUT,
    SIDE_TOO_LARGE,  /* more than answer_most */
    SIDE_BAD_MESSAGE /* no gRPC framing, or compressed */
};
/* The HTTP status that Envoy's client makes of a failure (503, 504); 0 for SIDE_OK. */
uint32_t side_failure_status(enum side_failure f);

/* The end of a call. Everything is borrowed and lives until on_end returns. */
struct side_end {
    enum side_failure failure;
    struct str details;             /* transport failure or reset text; may be empty */
    uint32_t status;                /* HTTP; 0: no headers came */
    const struct headers *headers;  /* NULL: none came */
    const struct headers *trailers; /* NULL: none came */
    struct buf *body;               /* one HTTP answer: all of it (may be moved out); else NULL */
    /* gRPC: the status, of the peer or made from the failure as Envoy does; the decoded message. */
    uint32_t grpc_status;
    struct str grpc_message;
    struct str message; /* one gRPC answer with status 0: its message */
};

struct side_call;
/* Any but on_end may be NULL. `arg` as given at the start. */
struct side_events {
    void (*on_headers)(struct side_call *c, void *arg, const struct headers *h, bool end);
    void (*on_data)(struct side_call *c, void *arg, struct buf *data, bool end); /* HTTP stream;
                                                              what is not moved out is dropped */
    void (*on_message)(struct side_call *c, void *arg, struct str message);      /* gRPC stream */
    /* What is sent cannot leave (above) or leaves again: the sender should wait. */
    void (*on_watermark)(struct side_call *c, void *arg, bool above);
    void (*on_end)(struct side_call *c, void *arg, const struct side_end *e);
};

/* --- starting
 * --------------------------------------------------------------------------------------------------
 */
struct side_ask {
    struct worker *worker;
    struct side_owner *owner;
    const struct side_target *target; /* must live as long as the call */
    const struct side_events *events; /* static */
    void *arg;
    const struct stream_info *info; /* on whose behalf, for formats in metadata; may be NULL */
    uint64_t timeout_us;            /* 0: the target's */
};
/* One HTTP request and its whole answer. Headers are copied; missing :method (GET), :path,
 * :authority and :scheme come from the target. body may be NULL, else its bytes are moved out. */
struct side_call *side_http(const struct side_ask *q, const struct headers *h, struct buf *body);
/* An HTTP exchange in pieces; end: the request has no body. The timeout counts from our end. */
struct side_call *side_http_stream(const struct side_ask *q, const struct headers *h, bool end);
/* One gRPC message each way. method: "/package.Service/Method"; h: more metadata or NULL. */
struct side_call *side_grpc(const struct side_ask *q, struct str method, const struct headers *h,
                            struct str message);
/* A gRPC stream. The timeout counts from our end. */
struct side_call *side_grpc_stream(const struct side_ask *q, struct str method,
                                   const struct headers *h);

/* --- streams
 * ---------------------------------------------------------------------------------------------------
 */
/* Moves the bytes. Ignored once the call has ended. */
void side_call_send(struct side_call *c, struct buf *data, bool end);
/* Frames and copies. */
void side_call_send_message(struct side_call *c, struct str message, bool end);
void side_call_send_trailers(struct side_call *c, const struct headers *t); /* copied; HTTP */
/* Our side is complete. */
void side_call_finish(struct side_call *c);
/* Stop/go of on_data and on_message; counted. The peer is held back when the buffers are full. */
void side_call_pause(struct side_call *c, bool pause);
/* Gives up: no event follows, everything is freed. Leaves NULL; NULL is fine. */
void side_call_cancel(struct side_call **c);
