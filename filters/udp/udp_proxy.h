/* What the files of the UDP proxy share: its configuration, and the sessions of one worker. */
#pragma once
#include <stdatomic.h>
#include "base/loop.h"
#include "base/map.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/udp.h"
#include "proxy/api/upstream.h"
#include "proxy/stats/stats.h"

enum udp_stat {
    UDP_SESS_NO_ROUTE,
    UDP_SESS_RX_BYTES,
    UDP_SESS_RX_DATAGRAMS,
    UDP_SESS_RX_ERRORS,
    UDP_SESS_TOTAL,
    UDP_SESS_TX_BYTES,
    UDP_SESS_TX_DATAGRAMS,
    UDP_SESS_TX_ERRORS,
    UDP_IDLE_TIMEOUT,
    UDP_FILTER_CONFIG_MISSING,
    UDP_SESS_ACTIVE,
    UDP_STAT_COUNT
};
enum udp_cluster_stat {
    UDP_CLUSTER_RX_DATAGRAMS,
    UDP_CLUSTER_RX_DROPPED,
    UDP_CLUSTER_RX_ERRORS,
    UDP_CLUSTER_TUNNEL_OVERFLOW,
    UDP_CLUSTER_TUNNEL_FAILURE,
    UDP_CLUSTER_TUNNEL_SUCCESS,
    UDP_CLUSTER_TX_DATAGRAMS,
    UDP_CLUSTER_TX_ERRORS,
    UDP_CLUSTER_STAT_COUNT
};
extern const struct stat_def udp_stat_defs[UDP_STAT_COUNT];
extern const struct stat_def udp_cluster_stat_defs[UDP_CLUSTER_STAT_COUNT];

struct udp_target {
    struct str cluster;
    uint64_t hash;
    const struct udp_target *next; /* of the configuration */
};
enum udp_hash { UDP_HASH_NONE, UDP_HASH_SOURCE_IP, UDP_HASH_KEY };
/* What the proxy's own log tells: added up over the workers, as each ends. */
struct udp_totals {
    _Atomic uint64_t v[UDP_STAT_COUNT];
};
struct udp_conf {
    const struct udp_target *target;  /* all go there; NULL: the tree says */
    const struct match_tree *tree;    /* its actions are struct udp_target */
    const struct udp_target *targets; /* all that are named */
    uint64_t idle_us;
    bool original_source, per_packet;
    enum udp_hash hash;
    uint64_t hash_key; /* UDP_HASH_KEY: the hash itself */
    size_t datagram_most;
    const struct access_log_list *access_log, *proxy_log; /* NULL: none */
    uint64_t log_interval_us;                             /* 0: none */
    struct stat_group *stats;                             /* NULL when only validating */
    struct udp_totals *totals;
};
/* Main. NULL: told. */
const void *udp_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                            const struct network_filter_place *place);

/* What tells sessions apart. All bytes count: zeroed first. */
struct udp_key {
    struct {
        uint8_t ip[16];
        uint16_t port, family;
    } peer, local;
    const struct host *host; /* per packet; else NULL */
};
/* The filter of one worker and version of the listener. */
struct udp_proxy {
    const struct udp_conf *conf;
    struct udp_listener *listener;
    struct worker *worker;
    struct map sessions;             /* udp_key -> struct udp_session */
    uint64_t counts[UDP_STAT_COUNT]; /* this worker's share, for the proxy's own log */
};
struct udp_session {
    struct udp_proxy *proxy;
    struct udp_key key;
    struct upstream_udp up;
    struct stat_group *cluster_stats; /* borrowed from the worker */
    struct str cluster;               /* its name; lives while `uc` is pinned */
    struct upstream_cluster *uc;
    struct addr peer, local;
    struct loop_timer idle, log_timer;
    struct loop_later later; /* frees it */
    uint64_t id, start_us, start_wall_us, active_us;
    uint64_t rx_bytes, rx_datagrams, tx_bytes, tx_datagrams, tx_errors;
    uint64_t flags; /* response flags */
    char uuid[37];  /* %STREAM_ID%; made for the first log line */
    bool over;
};

/* udp_proxy_log.c */
void udp_session_log(struct udp_session *s, enum access_log_type type);
void udp_proxy_log(struct udp_proxy *p);
