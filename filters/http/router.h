/* The router's insides, shared by router*.c: one instance per request, one attempt at a time. */
#pragma once
#include "base/buf.h"
#include "base/list.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/route_ops.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/upstream.h"

struct access_log_list;
struct cluster;

/* "http.<prefix>.": index in router_conf.stats. */
enum router_stat {
    ROUTER_NO_CLUSTER,
    ROUTER_NO_ROUTE,
    ROUTER_REDIRECT_BAD_LOCATION,
    ROUTER_REDIRECT_NO_ROUTE,
    ROUTER_REDIRECT_PREDICATE,
    ROUTER_REDIRECT_TOO_MANY,
    ROUTER_REDIRECT_UNSAFE,
    ROUTER_DIRECT_RESPONSE,
    ROUTER_OVERLOAD_REPLY,
    ROUTER_REDIRECT,
    ROUTER_RESET_AFTER_RESPONSE,
    ROUTER_TOTAL,
    ROUTER_STATS
};
struct router_conf {
    struct stat_group *stats;
    bool dynamic_stats, suppress_headers, respect_expected, suppress_grpc_codes;
    uint32_t strict; /* bit per entry of router_strict_names */
    const struct access_log_list *upstream_log;
    struct str local_ip; /* Envoy's local_info address: x-forwarded-for of mirrored requests; may be
                            empty */
};

/* All times in microseconds; 0: none. */
struct router_timeouts {
    uint64_t global, per_try, per_try_idle;
};
enum retry_verdict { RETRY_NO, RETRY_NOW, RETRY_LATER };
enum retry_result {
    RETRY_RESULT_NO,
    RETRY_RESULT_YES,
    RETRY_RESULT_EXCEEDED,
    RETRY_RESULT_OVERFLOW
};
struct router_retry {
    const struct retry_policy *policy; /* may be NULL: only headers ask */
    uint32_t on;                       /* enum retry_on; 0: no retries */
    uint64_t left;
    uint64_t backoff_next, backoff_max;
    uint32_t *codes; /* of x-envoy-retriable-status-codes */
    size_t code_count;
    struct str *header_names; /* of x-envoy-retriable-header-names */
    size_t header_name_count;
    bool armed; /* a retry was made and still counts against the breaker */
};

struct router;
/* One try. In the stream's arena; what belongs to an older try is ignored. */
struct router_attempt {
    struct upstream_attempt a;
    struct router *r;
    struct router_attempt *older;
    bool live; /* started and not ended */
    bool ready, headers_in, paused_request;
};
struct router {
    struct http_filter f;
    const struct router_conf *conf;
    struct stream_info *info;
    struct headers *req;
    const struct route *route;
    const struct route_choice *choice;
    struct upstream_cluster *uc; /* pinned */
    /* The cluster's, else the route's. */
    const struct retry_policy *retry_policy; /* NULL: none */
    const struct hash_policy *hashes;
    const struct mirror_policy *mirrors;
    size_t hash_count, mirror_count;
    enum upstream_priority priority;
    struct router_attempt *cur; /* NULL: none yet */
    struct host *host;          /* of the present or last try; a reference */
    const struct tls_info *tls; /* info->up.tls: a reference, connections end before streams */
    const struct host **tried;  /* references, for previous_hosts */
    size_t tried_count, tried_cap;

    struct buf body;        /* kept for retries, or not sent yet */
    struct buf mirror_body; /* for request_mirror_policies, until the request is complete */
    bool mirrors_off;       /* it outgrew the buffer */
    struct buf metadata;    /* of the request, for the connection that comes */
    struct headers *trailers;
    bool keep_body; /* body stays after sending */
    bool head_only; /* the head ended the request; how each try is framed follows from it */
    bool request_done, waiting_paused;
    uint32_t downstream_above; /* watermark depth of the response's side */

    struct router_timeouts timeouts;
    uint32_t timeout_status; /* 504, or 204 by x-envoy-upstream-rq-timeout-alt-response */
    struct filter_timer global_timer, per_try_timer, per_try_idle_timer, retry_timer;
    bool timeout_retry; /* the last retry was for a timeout */
    uint64_t request_done_us;

    struct router_retry retry;
    uint32_t attempts;
    bool response_started, finished;
    bool load_told; /* what the endpoint says of its load was read */
    bool has_hash;
    uint64_t hash;
    struct str set_cookie;
    struct str vcluster; /* name of the virtual cluster, or empty */
    struct str alt_stat;
    bool is_grpc;
    struct local_reply reply; /* the one under way; edit functions look at it */
};

/* router_timeouts.c */
void router_timeouts_find(struct router *r);
/* Writes x-envoy-expected-rq-timeout-ms (and grpc-timeout) for a try that starts now. */
void router_timeouts_headers(struct router *r);
void router_timeouts_request_done(struct router *r); /* starts the global timer */
void router_timeouts_try(
    struct router *r); /* the try has a connection and the request is complete */
void router_timeouts_activity(struct router *r); /* bytes from upstream */
void router_timeouts_try_over(struct router *r);
void router_timeouts_stop(struct router *r);
/* Whole-number header in ms; false: absent or junk. */
bool router_header_ms(const struct headers *h, enum header_id id, uint64_t *us);

/* router_retry.c */
void router_retry_init(struct router *r);
enum retry_verdict router_retry_by_headers(struct router *r, const struct headers *resp);
enum retry_verdict router_retry_by_reset(struct router *r, enum stream_reset why,
                                         bool request_started);
/* Takes one of the retries that are left, if so wanted; starts the back-off timer. */
enum retry_result router_retry_take(struct router *r, enum retry_verdict v,
                                    const struct headers *resp);
void router_retry_release(struct router *r);
bool router_retry_avoid(const struct lb_ask *ask, const struct host *h);
void router_retry_remember_host(struct router *r);

/* router_attempt.c */
void router_attempt_start(struct router *r);
void router_attempt_cancel(struct router *r);
void router_attempt_send(struct router *r);
void router_attempt_timeout(struct router *r, const char *details, bool per_try);

/* router_mirror.c: the request is complete. */
void router_mirror(struct router *r);

/* router_stats.c */
void router_charge(struct router *r, uint32_t status, const struct headers *resp);
/* What the response's headers or trailers say of the endpoint's load (router_load_wire.c). */
void router_load_metrics(struct router *r, const struct upstream_attempt *a,
                         const struct headers *h);
void router_charge_retry(struct router *r, uint32_t status);
void router_charge_time(struct router *r);
enum router_named {
    ROUTER_NAMED_RETRY,
    ROUTER_NAMED_LIMIT_EXCEEDED,
    ROUTER_NAMED_OVERFLOW,
    ROUTER_NAMED_RETRY_SUCCESS,
    ROUTER_NAMED_TIMEOUT,
    ROUTER_NAMED_TOTAL,
    ROUTER_NAMED_STATS
};
/* For the virtual cluster and the route, where they are configured. */
void router_named_count(struct router *r, enum router_named stat);

/* router.c */
/* Ends the request with an answer of our own. */
void router_reply(struct router *r, uint32_t status, struct str body, struct str details,
                  uint64_t flags, bool overloaded);
