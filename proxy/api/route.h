/* A translated route table as the connection manager, the router and filters see it. Immutable;
 * made in proxy/config/route.c, matched in proxy/http/route_match.c. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/map.h"
#include "base/regex.h"
#include "base/str.h"
#include "proxy/runtime/obj.h"

struct headers;
struct stream_info;
struct worker;
struct metadata;
struct value;
struct format;         /* compiled substitution format: proxy/http/format.h */
struct header_change;  /* list of header additions/removals: proxy/http/header_change.h */
struct string_matcher; /* proxy/http/matcher.h */
struct header_matcher;
struct route_table; /* index of domains and routes, private to proxy/http/route_*.c */
struct access_log_list;
struct retry_policy;
struct hash_policy;

/* Per-filter overrides (typed_per_filter_config) of one level, by filter name; conf NULL with
 * disabled = switched off here. */
struct filter_override {
    struct str filter_name;
    const struct extension *type; /* struct http_filter_type * */
    const void *conf;
    bool disabled;
    struct filter_override *next;
};

enum retry_on {
    RETRY_5XX = 1 << 0,
    RETRY_GATEWAY_ERROR = 1 << 1,
    RETRY_CONNECT_FAILURE = 1 << 2,
    RETRY_RETRIABLE_4XX = 1 << 3,
    RETRY_REFUSED_STREAM = 1 << 4,
    RETRY_RESET = 1 << 5,
    RETRY_RETRIABLE_STATUS_CODES = 1 << 6,
    RETRY_RETRIABLE_HEADERS = 1 << 7,
    RETRY_ENVOY_RATELIMITED = 1 << 8,
    RETRY_RESET_BEFORE_REQUEST = 1 << 9,
    RETRY_HTTP3_POST_CONNECT_FAILURE = 1 << 10,
    RETRY_GRPC_CANCELLED = 1 << 11,
    RETRY_GRPC_DEADLINE_EXCEEDED = 1 << 12,
    RETRY_GRPC_RESOURCE_EXHAUSTED = 1 << 13,
    RETRY_GRPC_UNAVAILABLE = 1 << 14,
    RETRY_GRPC_INTERNAL = 1 << 15
};
struct retry_policy {
    uint32_t on;          /* enum retry_on */
    uint32_t num_retries; /* default 1 */
    uint64_t per_try_timeout_us, per_try_idle_timeout_us;
    uint64_t backoff_base_us, backoff_max_us;
    const uint32_t *status_codes;
    size_t status_code_count;
    const struct header_matcher *retriable_headers, *retriable_request_headers; /* arrays */
    size_t retriable_header_count, retriable_request_header_count;
    uint32_t host_selection_attempts; /* default 1 */
    bool previous_hosts, omit_canary; /* retry host predicates */
    const void *host_predicates;
    struct {
        bool seconds;
        struct str name;
    } * reset_headers; /* rate_limited_retry_back_off; seconds or unix timestamp */
    size_t reset_header_count;
    uint64_t reset_max_us;
};
bool retry_on_parse(
    struct str list,
    uint32_t *on); /* x-envoy-retry-on values; unknown ones are skipped, false if any */
bool retry_grpc_on_parse(struct str list, uint32_t *on);

enum route_action {
    ROUTE_FORWARD,
    ROUTE_REDIRECT,
    ROUTE_DIRECT_RESPONSE,
    ROUTE_NON_FORWARDING,
    ROUTE_FILTER_ACTION
};
enum host_rewrite {
    HOST_REWRITE_NONE,
    HOST_REWRITE_LITERAL,
    HOST_REWRITE_AUTO,
    HOST_REWRITE_HEADER,
    HOST_REWRITE_PATH_REGEX,
    HOST_REWRITE_FORMAT
};

struct weighted_cluster {
    struct str name, header; /* cluster_header alternative */
    uint64_t hash;
    uint32_t weight;
    struct str runtime_key; /* runtime_key_prefix.name */
    struct str host_rewrite;
    const struct header_change *request_headers, *response_headers;
    const struct metadata *metadata_match;
    struct filter_override *overrides;
};
struct mirror_policy {
    struct str cluster, cluster_header;
    uint64_t hash;
    struct str runtime_key;
    uint32_t numerator, denominator;
    bool has_fraction, disable_shadow_host_suffix;
    const struct header_change *request_headers;
    struct str host_rewrite;
};
struct upgrade_conf {
    struct str type; /* "websocket", "CONNECT" */
    bool enabled, terminate_connect, allow_post;
    uint8_t proxy_header; /* version of the PROXY header before the bytes; 0: none */
};
struct redirect {
    bool https;
    struct str scheme, host, path, prefix_rewrite;
    const struct regex *regex;
    struct str regex_to;
    uint32_t port, code;
    bool strip_query;
    const struct format *path_format;
};
struct route {
    struct str name;
    enum route_action action;
    const struct virtual_host *vhost;
    const struct metadata *metadata; /* whole metadata of the route */
    const struct header_change *request_headers, *response_headers;
    struct filter_override *overrides;
    uint32_t per_request_buffer_limit;
    bool has_buffer_limit;
    struct str stat_prefix;
    struct str decorator;
    bool decorator_propagate;
    bool has_decorator;

    /* what matched, for rewrites */
    enum {
        PATH_PREFIX,
        PATH_EXACT,
        PATH_REGEX,
        PATH_SEPARATED_PREFIX,
        PATH_CONNECT,
        PATH_TEMPLATE
    } path_kind;
    struct str path; /* prefix or path */

    /* direct response, redirect */
    uint32_t direct_status;
    struct str direct_body;
    const struct format *direct_format;
    const struct redirect *redirect;

    /* forward */
    struct str cluster, cluster_header;
    uint64_t cluster_hash;
    uint32_t cluster_not_found_code; /* default 503 */
    const struct weighted_cluster *weighted;
    size_t weighted_count;
    uint64_t weighted_total;
    struct str weighted_header, weighted_runtime_prefix;
    bool weighted_use_hash_policy;
    struct str prefix_rewrite;
    const struct regex *regex_rewrite;
    struct str regex_rewrite_to;
    const struct format *path_rewrite_format;
    const void *path_rewriter; /* uri template */
    enum host_rewrite host_rewrite;
    struct str host_rewrite_value; /* literal or header name or regex substitution */
    const struct regex *host_rewrite_regex;
    const struct format *host_rewrite_format;
    bool append_x_forwarded_host;
    bool has_timeout;
    uint64_t timeout_us; /* default 15 s; 0: none */
    bool has_idle_timeout, has_flush_timeout;
    uint64_t idle_timeout_us, flush_timeout_us;
    bool has_max_stream_duration, has_grpc_timeout_max, has_grpc_timeout_offset;
    uint64_t max_stream_duration_us, grpc_timeout_max_us, grpc_timeout_offset_us;
    bool has_max_grpc_timeout, has_legacy_grpc_offset;
    uint64_t max_grpc_timeout_us, legacy_grpc_offset_us;
    const struct retry_policy *retry; /* route's, else the virtual host's; NULL: none */
    const struct hash_policy *hash;
    size_t hash_count;
    const struct mirror_policy *mirrors;
    size_t mirror_count;
    const struct upgrade_conf *upgrades;
    size_t upgrade_count;
    bool high_priority;
    bool auto_host_rewrite;
    bool include_attempt_count_unused;
    const struct metadata *metadata_match;
    uint32_t max_internal_redirects;
    const void *internal_redirect; /* policy; NULL: off */
    const void *hedge;
    const void *cors, *rate_limits, *early_data; /* opaque to core; filters know */
    uint32_t ordinal;                            /* place in the vhost */
};
enum require_tls { REQUIRE_TLS_NONE, REQUIRE_TLS_EXTERNAL_ONLY, REQUIRE_TLS_ALL };
struct match_tree;
struct virtual_cluster;
struct virtual_host {
    struct str name;
    const struct route_config *config;
    enum require_tls require_tls;
    const struct header_change *request_headers, *response_headers;
    struct filter_override *overrides;
    bool include_request_attempt_count, include_attempt_count_in_response, include_is_timeout_retry;
    const struct metadata *metadata;
    const struct retry_policy *retry;
    const struct virtual_cluster *virtual_clusters;
    size_t virtual_cluster_count;
    const struct route *const *routes; /* in order */
    size_t route_count;
    const void *index;                   /* private to route_match.c */
    const struct match_tree *match_tree; /* instead of routes; leads to struct route_choices of
                                            route_match.c. NULL: none */
    uint32_t per_request_buffer_limit;
    bool has_buffer_limit;
    const struct mirror_policy *mirrors; /* for routes without their own */
    size_t mirror_count;
    const struct route
        *https_route; /* require_tls: what a request gets that did not come by https; NULL: none */
};
/* A whole RouteConfiguration; published by name (TABLE_ROUTES) or inline in a connection manager.
 */
struct route_config {
    struct obj obj;
    const struct header_change *request_headers, *response_headers;
    bool most_specific_header_mutations_wins;
    const struct str *internal_only_headers;
    size_t internal_only_count;
    struct filter_override *overrides;
    const struct metadata *metadata;
    bool validate_clusters, ignore_port_in_host_matching, ignore_path_parameters;
    bool on_demand; /* more virtual hosts may be had by asking (VHDS) */
    const struct route_table *table;
    struct str vhost_header;
    /* names of clusters that routes refer to: xds/ holds the table back until those that are
     * warming are active */
    const struct str *clusters;
    size_t cluster_count;
};

/* Finds the route of a request. headers must have :path, :authority, :method, :scheme; random
 * decides runtime fractions. Fills info->vhost and info->route; gives back the route or NULL.
 * Worker. */
const struct route *route_find(const struct route_config *c, struct worker *w,
                               const struct headers *h, struct stream_info *info);
