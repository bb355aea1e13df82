/* A cluster as translated from its configuration: immutable, published in TABLE_CLUSTERS; and its
 * endpoints as configured. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/str.h"
#include "proxy/api/codec.h"
#include "proxy/api/lb_policy.h"
#include "proxy/runtime/obj.h"

struct metadata;
struct transport_socket;
struct stat_group;
struct runtime;
struct value;
struct access_log_list;
struct header_matcher;
struct cluster_manager;

enum cluster_discovery {
    CLUSTER_STATIC,
    CLUSTER_STRICT_DNS,
    CLUSTER_LOGICAL_DNS,
    CLUSTER_EDS,
    CLUSTER_ORIGINAL_DST,
    CLUSTER_CUSTOM
};
/* Which HTTP version its connections speak. */
enum cluster_protocol { CLUSTER_HTTP1, CLUSTER_HTTP2, CLUSTER_HTTP_AUTO, CLUSTER_HTTP_DOWNSTREAM };

/* --- endpoints
 * -----------------------------------------------------------------------------------------------------------------
 */
struct endpoint {
    struct addr addr;    /* len 0: a name to resolve (dns) */
    struct str dns;      /* DNS name (STRICT_DNS, LOGICAL_DNS), else empty */
    uint16_t port;       /* of dns */
    struct str hostname; /* Endpoint.hostname */
    uint32_t weight;     /* 1.. */
    int status;          /* envoy.config.core.v3.HealthStatus */
    bool canary;         /* envoy.lb canary */
    bool disable_active_hc;
    const struct metadata *metadata;          /* NULL: none */
    const struct metadata *locality_metadata; /* of its locality; NULL: none */
    uint64_t metadata_hash;                   /* of both */
    struct str health_hostname;
    const struct addr *health_addr; /* NULL: as addr */
};
struct locality_endpoints {
    struct str region, zone, sub_zone;
    uint32_t priority;
    bool has_weight;
    uint32_t weight;
    struct endpoint *v;
    size_t count;
};
struct drop_overload {
    struct str category;
    uint32_t numerator, denominator;
};
/* A ClusterLoadAssignment: an EDS resource, or what a STATIC or DNS cluster holds. */
struct load_assignment {
    struct obj obj; /* name = cluster_name */
    struct locality_endpoints *v;
    size_t count;
    uint32_t overprovisioning; /* default 140 */
    bool weighted_priority_health;
    struct drop_overload *drops;
    size_t drop_count;
    uint64_t stale_after_us; /* 0: never */
};

/* --- limits
 * --------------------------------------------------------------------------------------------------------------------
 */
enum { BREAKER_PRIORITIES = 2 };
enum breaker {
    BREAKER_CX,
    BREAKER_PENDING,
    BREAKER_RQ,
    BREAKER_RETRY,
    BREAKER_POOL,
    BREAKER_KINDS
};
struct breaker_limits {
    uint32_t max_connections, max_pending, max_requests, max_retries, max_pools;
    bool track_remaining, has_budget;
    double budget_percent;         /* of active + pending requests */
    uint32_t budget_min;           /* min_retry_concurrency */
    uint32_t host_max_connections; /* per_host_thresholds; UINT32_MAX: none */
};
/* Counts that Envoy keeps process-wide, and what else must survive updates of the cluster. Found
 * again by name; freed with the last cluster object that refers to it. Any thread counts, relaxed.
 */
struct breaker_counts {
    _Atomic uint32_t connections;
    _Atomic uint32_t pending, requests, retries, pools;
};
struct cluster_shared {
    _Atomic uint64_t drop_overload; /* requests dropped by drop_overloads; workers, relaxed */
    struct breaker_counts counts[BREAKER_PRIORITIES];
    _Atomic uint32_t most[BREAKER_PRIORITIES][BREAKER_KINDS]; /* set by main, relaxed */
    bool tracked[BREAKER_PRIORITIES]; /* main: the "remaining" gauges were last set */
    bool limited;                     /* main: `most` was set */
    uint32_t refs;                    /* main */
    struct stat_group *stats;         /* cluster.<name>.: enum cluster_stat */
};

/* --- protocol
 * -------------------------------------------------------------------------------------------------------------------
 */
struct retry_policy;
struct hash_policy;
struct mirror_policy;
/* HttpProtocolOptions and the deprecated fields that mean the same. One static default serves all
 * clusters that set nothing. */
struct upstream_http {
    enum cluster_protocol protocol;
    struct codec_options codec;           /* stats unset */
    uint64_t idle_timeout_us;             /* default 1 h; 0: none */
    uint64_t max_connection_us;           /* 0: none */
    uint64_t max_stream_us;               /* max_stream_duration; 0: none */
    uint32_t max_requests_per_connection; /* 0: no limit */
    bool auto_sni, auto_san_validation;
    bool names_chosen; /* the configuration has a say in the two above, be it by leaving them out */
    struct str override_auto_sni_header;
    /* Instead of the routes' own; NULL: those hold. */
    const struct retry_policy *retry;
    const struct hash_policy *hashes;
    size_t hash_count;
    const struct mirror_policy *mirrors;
    size_t mirror_count;
};
extern const struct upstream_http upstream_http_default;

struct transport_match {
    struct str name;
    const struct value
        *match; /* VALUE_STRUCT: all fields must be in the endpoint's metadata; NULL: matches all */
    const struct transport_socket *socket;
    struct stat_group *total; /* total_match_count; NULL: no statistics */
};
struct dns_settings {
    int family; /* Cluster.DnsLookupFamily */
    bool respect_ttl, use_tcp, no_default_search;
    uint64_t refresh_us, jitter_us, failure_base_us, failure_max_us;
    const struct addr *resolvers;
    size_t resolver_count;
};
struct socket_options; /* proxy/net/socket.h */
struct health_check;   /* proxy/upstream/health.h */
struct outlier_conf;

/* OriginalDstLbConfig. */
struct original_dst_conf {
    struct str header; /* lower case; empty: none */
    bool has_port;
    uint16_t port; /* instead of the original one */
    struct str metadata_ns;
    const struct str *metadata_path;
    size_t metadata_count; /* 0: none */
    uint64_t cleanup_us;
};

struct cluster {
    struct obj obj;       /* name, version, hash of the message */
    struct str stat_name; /* alt_stat_name or name, ':' still in it */
    uint64_t name_hash;
    enum cluster_discovery discovery;
    const struct cluster_type *custom; /* CLUSTER_CUSTOM */
    const void *custom_conf;
    const struct str *load_metrics; /* lrs_report_endpoint_metrics */
    size_t load_metric_count;
    struct str eds_service;            /* EDS: resource name */
    struct load_assignment *endpoints; /* main: STATIC (until its hosts are made), DNS: an object of
                                          its own; else NULL */
    uint64_t connect_timeout_us;
    uint32_t buffer_limit; /* per_connection_buffer_limit_bytes */

    const struct lb_policy_type *lb;
    const void *lb_conf;
    bool locality_weighted;
    bool ignore_new_hosts_until_first_hc, close_on_health_failure, fail_on_panic;
    bool drain_on_host_removal;                           /* ignore_health_on_host_removal */
    uint32_t override_host_status;                        /* bit per HealthStatus */
    double panic_percent;                                 /* healthy_panic_threshold, default 50 */
    double preconnect_ratio, predictive_preconnect_ratio; /* default 1 */
    bool pool_per_downstream; /* a client's connection shares no pool with others */

    const struct breaker_limits *limits;   /* [BREAKER_PRIORITIES] */
    const struct upstream_http *http;      /* never NULL */
    const struct transport_socket *socket; /* NULL: plaintext */
    const struct transport_match *socket_matches;
    size_t socket_match_count;
    const struct addr *bind;                     /* NULL: any */
    const struct socket_options *socket_options; /* keepalive included; NULL: none */
    const struct dns_settings *dns;              /* DNS types */
    const struct metadata *metadata;
    struct health_check *const *health_checks;
    size_t health_check_count;
    const struct outlier_conf *outlier;

    bool added_via_api;
    bool track_timeout_budgets, track_sizes, per_endpoint_stats;
    bool cleanup_interval_set;
    bool wait_for_warm;                           /* wait_for_warm_on_init, default true */
    const struct original_dst_conf *original_dst; /* ORIGINAL_DST; else NULL */
    /* set by the cluster manager before publication */
    struct cluster_shared *shared;
    struct cluster_manager *manager; /* main only */
    void *feed;                      /* main only: of the discovery type while it runs */
};
