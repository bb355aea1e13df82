/* What the files of the TCP proxy share: its configuration, a proxied connection, and the upstream
 * side of one. Worker thread, except for the configuration (made on main, immutable). */
#pragma once
#include "base/loop.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/on_demand.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/upstream.h"
#include "proxy/net/conn.h"
#include "proxy/stats/stats.h"

enum tcp_stat {
    TCP_CX_DRAIN_CLOSE,
    TCP_CX_NO_ROUTE,
    TCP_CX_OVERLOAD_CLOSE,
    TCP_CX_RX_BYTES_BUFFERED,
    TCP_CX_RX_BYTES_TOTAL,
    TCP_CX_TOTAL,
    TCP_CX_TX_BYTES_BUFFERED,
    TCP_CX_TX_BYTES_TOTAL,
    TCP_FLOW_PAUSED,
    TCP_FLOW_RESUMED,
    TCP_EARLY_DATA,
    TCP_IDLE_TIMEOUT,
    TCP_MAX_DURATION,
    TCP_ROUTE_DELAYED,
    TCP_UPSTREAM_FLUSH_ACTIVE,
    TCP_UPSTREAM_FLUSH_TOTAL,
    TCP_STAT_COUNT
};
extern const struct stat_def tcp_stat_defs[TCP_STAT_COUNT];

/* With on_demand only. */
enum tcp_on_demand_stat {
    TCP_ON_DEMAND_ATTEMPT,
    TCP_ON_DEMAND_MISSING,
    TCP_ON_DEMAND_SUCCESS,
    TCP_ON_DEMAND_TIMEOUT,
    TCP_ON_DEMAND_STAT_COUNT
};

/* One cluster that connections may go to. */
struct tcp_target {
    struct str cluster;
    uint64_t hash;
    uint64_t weight;
    const struct metadata *metadata_match; /* the whole proxy's merged in; NULL: none */
};
/* What becomes of a client's own PROXY header. */
enum tcp_tlv_merge { TCP_TLV_ADD_IF_ABSENT, TCP_TLV_OVERWRITE, TCP_TLV_APPEND };
/* A TLV for the upstream's PROXY header. */
struct tcp_tlv {
    uint8_t type;
    struct str value;            /* format NULL */
    const struct format *format; /* NULL: the value as it is */
};
/* TunnelingConfig: the connection is the body of a CONNECT or POST request. */
struct tcp_tunnel_conf {
    const struct format *hostname;
    bool post;
    struct str path;                  /* POST */
    bool keep_headers, keep_trailers; /* the response's, in filter state */
    bool request_id;
    struct str id_header, id_key; /* request_id: where it goes */
    const struct header_change *headers;
};
enum tcp_connect_mode { TCP_CONNECT_NOW, TCP_CONNECT_ON_DATA };
enum tcp_hash { TCP_HASH_NONE, TCP_HASH_SOURCE_IP, TCP_HASH_FILTER_STATE };
struct tcp_conf {
    const struct tcp_target *targets;
    size_t target_count;
    uint64_t total_weight;
    bool weighted;
    const struct metadata *metadata_match; /* for a cluster named by filter state */
    uint64_t idle_us;                      /* 0: none */
    uint64_t duration_us;                  /* 0: none */
    double duration_jitter;                /* share of duration_us that is added at most */
    uint32_t max_attempts;
    uint64_t backoff_us, backoff_most_us;     /* 0: the next attempt begins at once */
    const struct access_log_list *access_log; /* NULL: none */
    uint64_t log_interval_us;                 /* 0: none */
    bool log_start, log_connected;
    bool check_drain; /* a drained connection ends with its next bytes */
    enum tcp_hash hash;
    struct str hash_key;
    enum tcp_connect_mode connect_mode;
    bool early_data; /* bytes are taken before the upstream is there */
    size_t early_most;
    const struct tcp_tunnel_conf *tunnel; /* NULL: raw connections */
    const void *on_demand; /* ConfigSource where unknown clusters are asked for; NULL: nowhere */
    uint64_t on_demand_us; /* how long a connection waits for one */
    struct stat_group *on_demand_stats;
    const struct tcp_tlv *tlvs; /* fixed values first */
    size_t tlv_count;
    enum tcp_tlv_merge tlv_merge;
    struct stat_group *stats; /* NULL when only validating */
    struct conn_byte_stats bytes;
};
/* Main. NULL: told. */
const struct tcp_conf *tcp_conf_create(const struct conf_at *at,
                                       const struct ProtobufCMessage *msg);

/* The upstream side: one attempt, then one connection. On the heap, because it may outlive the
 * client while it flushes. */
struct tcp_link {
    struct upstream_tcp tcp;
    struct tcp_proxy *proxy;   /* NULL: the client is gone, what is queued is written */
    struct conn *conn;         /* NULL until connected, and for tunnels */
    struct tcp_tunnel *tunnel; /* NULL: a raw connection */
    struct conn_relay relay;
    bool up; /* bytes may go */
    struct worker *worker;
    bool ended_by_peer; /* both directions had ended, the upstream's last */
    bool flushing;      /* alone, with bytes queued */
    struct loop_timer idle;
    uint64_t idle_us;
    struct stat_group *stats; /* a reference */
};

/* A client's connection. */
struct tcp_proxy {
    struct network_filter base;
    const struct tcp_conf *conf;
    struct tcp_link *link;       /* NULL: none */
    struct upstream_cluster *uc; /* of the last attempt; pinned */
    struct host *host;           /* of the last attempt; a reference */
    struct stream_info info;
    struct buf early;
    struct loop_timer idle, duration, log_timer, retry;
    uint64_t active_us; /* the last activity */
    uint64_t moved;     /* bytes written on both sides as of the idle timer's last look */
    bool fresh;         /* there was activity since then */
    uint64_t idle_us;   /* as configured, or as filter state says; 0: none */
    uint32_t attempts;
    struct on_demand question; /* for the cluster, while it is asked for */
    struct tcp_target asked;   /* what was chosen then, in the connection's arena */
    uint64_t asked_us;         /* 0: nothing was asked for */
    bool tunnels;              /* attempts are tunnels */
    bool ended;
    bool paused; /* the client is not read: no upstream yet, or the early data's limit */
    bool down_ended, up_ended; /* the client's, the upstream's end was read */
    bool early_counted;
};

/* Begins an attempt (and the next ones as configured). Never calls back before it returns except to
 * close the connection. */
void tcp_connect(struct tcp_proxy *p);
/* The attempt or connection is given up: FLUSH writes what is queued first and goes on alone. */
enum tcp_drop { TCP_DROP_NOW, TCP_DROP_FLUSH, TCP_DROP_RESET };
void tcp_link_drop(struct tcp_proxy *p, enum tcp_drop how);
/* The rest while l->up. write moves the bytes out. */
void tcp_link_write(struct tcp_link *l, struct buf *data, bool end);
void tcp_link_pause(struct tcp_link *l, bool pause);
uint64_t tcp_link_written(const struct tcp_link *l);
const struct tls_info *tcp_link_tls(const struct tcp_link *l); /* NULL: none, or over */

/* --- inside the upstream side (tcp_proxy_upstream.c, tcp_proxy_tunnel.c)
 * --------------------------------------- */
void tcp_link_host_facts(struct tcp_proxy *p, struct host *h);
void tcp_link_conn_facts(struct tcp_proxy *p, const struct conn_info *i);
/* It ended before it was up: frees l, says why in the flags, tries again or gives up. */
void tcp_link_failed(struct tcp_link *l, enum upstream_failure why, struct str detail);
void tcp_link_free(struct tcp_link *l);
void tcp_tunnel_start(struct tcp_link *l, struct upstream_cluster *uc, const struct lb_ask *ask);
void tcp_tunnel_write(struct tcp_tunnel *t, struct buf *data, bool end);
void tcp_tunnel_pause(struct tcp_tunnel *t, bool pause);
const struct tls_info *tcp_tunnel_tls(const struct tcp_tunnel *t);
/* Lets it end by itself (both sides have said all) or resets it now; then l is freed. */
void tcp_tunnel_drop(struct tcp_link *l, bool complete);
void tcp_tunnel_free(struct tcp_tunnel **t);

/* --- what the upstream side tells the proxy
 * ------------------------------------------------------------------- */
void tcp_proxy_connected(struct tcp_proxy *p);
void tcp_proxy_upstream_read(struct tcp_proxy *p, struct buf *in, bool end);
void tcp_proxy_upstream_closed(struct tcp_proxy *p, bool reset);
void tcp_proxy_moved(struct tcp_proxy *p, bool from_upstream, size_t n); /* bytes passed by */
/* No upstream can be had: the connection ends. */
void tcp_proxy_give_up(struct tcp_proxy *p);
void tcp_proxy_active(struct tcp_proxy *p); /* bytes moved: the idle time begins anew */
