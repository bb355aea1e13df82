/* What is known about one request (or one TCP connection): filled in along the way, read by access
 * logs, header formatters, filters and statistics. Worker thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/str.h"

struct arena;
struct headers;
struct worker;
struct route;
struct virtual_host;
struct route_config;
struct pin;
struct metadata; /* proxy/api/metadata.h */

/* Response flags, in the order of Envoy's bit numbers; texts in proxy/http/response_flags.def
 * (short, long). */
enum response_flag {
    RF_LH,
    RF_UH,
    RF_UT,
    RF_LR,
    RF_UR,
    RF_UF,
    RF_UC,
    RF_UO,
    RF_NR,
    RF_DI,
    RF_FI,
    RF_RL,
    RF_UAEX,
    RF_RLSE,
    RF_DC,
    RF_URX,
    RF_SI,
    RF_IH,
    RF_DPE,
    RF_UMSDR,
    RF_RFCF,
    RF_NFCF,
    RF_DT,
    RF_UPE,
    RF_NC,
    RF_OM,
    RF_DF,
    RF_DO,
    RF_DR,
    RF_UDO,
    RF_COUNT
};
enum http_protocol {
    HTTP_PROTOCOL_NONE,
    HTTP_PROTOCOL_10,
    HTTP_PROTOCOL_11,
    HTTP_PROTOCOL_2,
    HTTP_PROTOCOL_3
};

/* Upstream connections come from this address (original_src filters). */
struct original_src {
    struct addr from; /* port 0: any */
    uint32_t mark;    /* SO_MARK; 0: none */
};

/* One downstream connection's facts; lives as long as the connection. */
struct conn_info {
    uint64_t id;
    uint64_t start_us, start_wall_us;
    struct addr remote, local;               /* after PROXY protocol / original_dst */
    struct addr direct_remote, direct_local; /* of the socket */
    struct str sni, alpn;                    /* empty: none */
    struct str filter_chain_name, listener_name;
    struct str transport_failure;   /* TLS failure text */
    struct str termination_details; /* CONNECTION_TERMINATION_DETAILS */
    struct str code_details;        /* RESPONSE_CODE_DETAILS of a TCP log; may be empty */
    const struct tls_info *tls;     /* proxy/api/tls_info.h; NULL: plaintext */
    struct str ja3, ja4;            /* of the ClientHello, by tls_inspector; empty: not asked */
    struct str proxy_tlvs;          /* of the PROXY header, those that may be passed on */
    struct metadata *metadata;      /* listener filters' dynamic metadata; may be NULL */
    struct filter_state *state;     /* connection-lifespan filter state; may be NULL */
    const struct original_src *original_src; /* NULL: the system's choice */
    int traffic_direction;                   /* envoy.config.core.v3.TrafficDirection */
    bool local_close;
    bool remote_reset; /* the peer reset it */
    uint64_t flags;    /* 1 << enum response_flag: what network filters say; for TCP logs */
};

/* The upstream side of the attempt that answered (or the last one). */
struct upstream_info {
    struct str cluster;              /* name */
    struct str cluster_stat;         /* alt_stat_name or name */
    struct str host_name;            /* endpoint hostname, may be empty */
    struct addr host, local, remote; /* len 0: unset */
    uint64_t conn_id;                /* 0: none */
    enum http_protocol protocol;
    const struct tls_info *tls;
    struct str transport_failure;
    const struct metadata *host_metadata, *cluster_metadata;
    uint64_t first_tx_us, last_tx_us, first_rx_us, first_body_us,
        last_rx_us; /* monotonic; 0: not happened */
    uint64_t cx_begin_us, cx_end_us, handshake_end_us, pool_ready_us;
    uint64_t wire_sent, wire_received, header_sent, header_received;
    uint32_t attempts;
    struct str hosts_attempted; /* comma lists in the stream's arena */
    struct str host_names_attempted, conn_ids_attempted;
};

struct stream_info {
    struct arena *arena; /* the stream's */
    struct worker *worker;
    struct conn_info *conn;
    uint64_t start_us, start_wall_us;
    uint64_t last_rx_us; /* last byte of the request received */
    uint64_t first_tx_us, last_tx_us, end_us;
    enum http_protocol protocol;
    struct addr remote;                  /* the trusted client address (after x-forwarded-for) */
    uint32_t response_code;              /* 0: no response started */
    struct str code_details;             /* RESPONSE_CODE_DETAILS */
    uint64_t flags;                      /* 1 << enum response_flag */
    uint64_t bytes_received, bytes_sent; /* body bytes */
    uint64_t wire_received, wire_sent, header_received, header_sent;
    uint64_t stream_id;
    struct str request_id;      /* x-request-id */
    uint64_t random;            /* one per stream: fractions and weighted clusters */
    bool scheme_match_upstream; /* the router sets :scheme by the upstream's transport */
    bool health_check, internal, local_reply, traceable;
    struct headers *req, *resp, *resp_trailers; /* NULL until there */
    struct str original_path;                   /* as received, before normalisation */
    const struct route_config *route_config;    /* pinned by the stream */
    const struct virtual_host *vhost;
    const struct route *route; /* NULL: no match */
    struct str virtual_cluster;
    struct str local_reply_body;
    struct upstream_info up;
    struct metadata *dynamic;                /* dynamic metadata; NULL: none yet */
    struct filter_state *state;              /* request-lifespan filter state; NULL: none yet */
    const struct original_src *original_src; /* goes before the connection's; NULL: as that says */
};
static inline void stream_info_flag(struct stream_info *i, enum response_flag f)
{
    i->flags |= (uint64_t)1 << f;
}
static inline bool stream_info_has_flag(const struct stream_info *i, enum response_flag f)
{
    return (i->flags >> f) & 1;
}
