/* The HTTP connection manager: what its configuration became, and one connection under its care.
 * hcm.c owns the connection's life, stream.c one request, filter_chain.c the order of filters,
 * conn_manager_headers.c what is changed in requests and responses at the edge. Worker thread
 * unless told otherwise. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/list.h"
#include "base/loop.h"
#include "proxy/api/codec.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/route.h"
#include "proxy/http/hcm_stats.h"

struct match_tree;
struct arena;
struct conn;
struct conn_byte_stats;
struct worker;
struct pin;
struct local_reply_conf;
struct original_ip_type; /* proxy/http/local_reply.h */
struct access_log_list;
struct http_stream;
struct regex;
struct extension_slot;
struct scope_key_builder; /* proxy/http/scopes.h */
struct scope_set;

enum hcm_codec { HCM_CODEC_AUTO, HCM_CODEC_H1, HCM_CODEC_H2 };
enum hcm_server_header {
    HCM_SERVER_OVERWRITE,
    HCM_SERVER_APPEND_IF_ABSENT,
    HCM_SERVER_PASS_THROUGH
};
enum hcm_escaped_slashes {
    HCM_SLASHES_DEFAULT,
    HCM_SLASHES_KEEP,
    HCM_SLASHES_REJECT,
    HCM_SLASHES_UNESCAPE_REDIRECT,
    HCM_SLASHES_UNESCAPE
};
enum hcm_underscores { HCM_UNDERSCORES_ALLOW, HCM_UNDERSCORES_REJECT, HCM_UNDERSCORES_DROP };
enum hcm_xfcc {
    HCM_XFCC_SANITIZE,
    HCM_XFCC_FORWARD_ONLY,
    HCM_XFCC_APPEND_FORWARD,
    HCM_XFCC_SANITIZE_SET,
    HCM_XFCC_ALWAYS_FORWARD_ONLY
};
/* What is done with x-forwarded-client-cert, and what ours tells. */
struct hcm_xfcc_conf {
    enum hcm_xfcc how;
    bool subject, cert, chain, dns, uri, issuer, json;
};

/* One filter of a chain as configured. */
struct http_filter_conf {
    struct str name;
    const struct http_filter_type *type;
    const void *conf;
    const struct extension_slot *slot; /* discovered: type and conf are there; else NULL */
    bool disabled;                     /* off unless a route's override switches it on */
};
struct http_filter_chain {
    const struct http_filter_conf *v;
    size_t count;
};
/* upgrade_configs: which upgrades are taken, and by which chain. */
struct hcm_upgrade {
    struct str type; /* "websocket", "CONNECT"; compared without case */
    bool enabled;
    bool has_chain;
    struct http_filter_chain chain;
};

/* One of early_header_mutation_extensions. */
struct hcm_early_headers {
    const struct early_headers_type *type;
    const void *conf;
};
/* One of original_ip_detection_extensions. */
struct hcm_original_ip {
    const struct original_ip_type *type;
    const void *conf;
};

/* Immutable; lives in the arena of the filter chain (listener) and is pinned by its connections. */
struct hcm_conf {
    struct str stat_prefix;                                          /* "http.ingress." */
    struct stat_group *stats, *listener_stats, *h1_stats, *h2_stats; /* the last one may be NULL */
    enum hcm_codec codec;
    struct codec_options codec_options, h2_options; /* the same but for their statistics */
    struct http_filter_chain chain;
    const struct hcm_upgrade *upgrades;
    size_t upgrade_count;

    /* Where routes come from: inline, or by the name of a published table. */
    const struct route_config *routes;
    struct str rds_name;
    uint64_t rds_hash;
    /* Or chosen by a key: from scopes that stand here, or (scopes NULL) from a published set. */
    const struct scope_key_builder *scope_builder;
    const struct scope_set *scopes;
    struct str scopes_name;
    uint64_t scopes_hash;

    const struct access_log_list *access_log;
    uint64_t access_log_interval_us;
    bool access_log_on_new, access_log_on_tunnel;

    /* times, 0 = none */
    uint64_t idle_timeout_us, stream_idle_timeout_us, request_timeout_us,
        request_headers_timeout_us, max_connection_us, max_stream_us, drain_timeout_us,
        delayed_close_us, stream_flush_timeout_us;
    uint32_t max_requests_per_connection; /* 0: no limit */
    bool h1_safe_max_connection; /* HTTP/1: the end of max_connection_us only with a response */

    /* requests */
    struct str local_address; /* of this machine: stands in x-forwarded-for for a loopback peer */
    bool use_remote_address, skip_xff_append, append_x_forwarded_port, add_user_agent;
    uint32_t xff_hops;
    const struct hcm_early_headers *early; /* in order */
    size_t early_count;
    const struct hcm_original_ip *original_ip; /* asked instead of counting hops; in order */
    size_t original_ip_count;
    const struct cidr *internal_ranges;
    size_t internal_range_count;
    bool internal_configured, internal_unix;
    bool generate_request_id, preserve_request_id, request_id_in_response, request_id_tracing;
    struct hcm_xfcc_conf xfcc;
    const struct match_tree *xfcc_tree; /* to one for the request; NULL or no match: xfcc */
    bool normalize_path, merge_slashes;
    bool normalize_configured;
    enum hcm_escaped_slashes escaped_slashes;
    bool strip_matching_port, strip_any_port, strip_trailing_dot;
    bool scheme_match_upstream;
    struct str scheme_overwrite; /* empty: none */
    struct str via;
    bool proxy_100_continue;
    bool represent_ipv4_as_mapped;
    bool stream_error_on_bad_message;

    /* responses */
    struct str server_name;
    enum hcm_server_header server_header;
    const struct local_reply_conf *local_reply;

    /* sampling bits in x-request-id: percent * 100 */
    bool tracing;
    uint32_t sample_client, sample_random, sample_overall;
    bool spawn_upstream_span;
    uint64_t buffer_limit; /* per_connection_buffer_limit_bytes: how much one filter may keep of a
                              body */
    struct stat_group *tracing_stats;
    struct conn_byte_stats *byte_stats;
};

/* A connection. */
struct hcm {
    const struct hcm_conf *conf;
    struct worker *worker;
    struct conn *conn;
    struct conn_info *info;
    struct codec *codec; /* NULL until its kind is known */
    struct list streams; /* struct http_stream.link, open ones */
    struct list ended;   /* over, waiting for the end of the turn */
    struct loop_later sweep;
    struct loop_timer idle, max_age, drain_wait, delay;
    uint64_t start_us;
    uint64_t requests;
    uint32_t open;
    uint64_t over, premature; /* streams that ended; of them, reset young and without an answer */
    bool draining;    /* the listener or the process is leaving: say so on the next response */
    bool close_next;  /* Connection: close was or will be said; no more requests */
    bool close_asked; /* by the client */
    bool winding;     /* the last response is queued; the client may close first */
    bool closing;     /* conn_close was called, or must be once flushed */
    bool closed;      /* on_close came */
    bool remote_closed, protocol_error;
};

/* Begins to serve a connection (the network filter's on_new). The conf must live as long as the
 * connection. */
void hcm_init(struct hcm *m, const struct hcm_conf *conf, struct conn *c, struct worker *w);
/* Bytes came; what is not used yet stays in `in`. */
void hcm_on_read(struct hcm *m, struct buf *in, bool end);
void hcm_on_watermark(struct hcm *m, bool above);
void hcm_on_drain(struct hcm *m);
/* The connection is gone; resets what was open. */
void hcm_on_close(struct hcm *m);
/* Frees what the struct owns; after hcm_on_close. */
void hcm_release(struct hcm *m);
/* Closes after what is queued is written. */
void hcm_close(struct hcm *m);
/* Called by stream.c. */
void hcm_stream_ended(struct hcm *m, struct http_stream *s);

/* Free lists of arenas for streams; per worker. */
struct worker_hooks;
extern const struct worker_hooks http_worker_hooks;
