/* Network filters (per connection) and listener filters (before the filter chain is chosen). */
#pragma once
#include "base/buf.h"
#include "proxy/api/extension.h"

struct conn;
struct conn_info;
struct worker;
struct listener_conf;
struct addr;

enum net_flow { NET_CONTINUE = 0, NET_HOLD };

/* Base of every per-connection instance: first member of the filter's struct. */
struct network_filter {
    const struct network_filter_type *type;
    struct conn *conn;
    struct worker *worker;
    const void *conf;
    void *chain; /* the framework's */
};
/* What a network filter's config may want to know about its place. */
struct network_filter_place {
    struct str listener_stat_prefix; /* "listener.0.0.0.0_80." */
    struct str listener_name;
    int traffic_direction;
    bool has_tls;
    const void *listener_msg; /* Envoy__Config__Listener__V3__Listener * */
};
struct network_filter_type {
    struct extension ext;
    size_t instance_size;
    bool terminal; /* tcp_proxy, HCM: reads all */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg,
                               const struct network_filter_place *place);
    enum net_flow (*on_new)(struct network_filter *f); /* connection is up (after the handshake) */
    enum net_flow (*on_read)(struct network_filter *f, struct buf *data, bool end);
    enum net_flow (*on_write)(struct network_filter *f, struct buf *data, bool end);
    void (*on_watermark)(struct network_filter *f, bool above);
    /* Its filter chain or listener is being drained: finish and close (HCM: Connection: close /
     * GOAWAY). */
    void (*on_drain)(struct network_filter *f);
    void (*on_close)(struct network_filter *f);
    void (*destroy)(struct network_filter *f);
    /* The connection exists, no filter has been asked yet (filters before this one may still end
     * it). Optional; a filter that has it gets on_close even when on_new was never called. */
    void (*on_attach)(struct network_filter *f);
};
void network_filter_resume(struct network_filter *f);
struct conn_info *network_filter_info(struct network_filter *f);
/* The connection's arena: freed with it. */
struct arena *network_filter_arena(struct network_filter *f);
/* No other filter of the connection reads or writes bytes. */
bool network_filter_alone(const struct network_filter *f);
/* The chain (config object) is pinned while the connection lives. Drain state of listener/process:
 */
bool network_filter_draining(const struct network_filter *f);

enum accept_flow {
    ACCEPT_CONTINUE = 0,
    ACCEPT_WAIT,
    ACCEPT_CLOSE,
    ACCEPT_DROP /* closed, and no error of the filter */
};
/* A connection before its filter chain is known. */
struct accepting {
    struct worker *worker;
    int fd;
    struct conn_info *info;        /* addresses, sni, alpn may be changed */
    struct str transport_protocol; /* "raw_buffer" or "tls"; static */
    const struct str *alpn; /* application protocols offered, from tls_inspector / http_inspector */
    size_t alpn_count;
    size_t consume;      /* bytes to drop from the front (PROXY header) */
    struct arena *arena; /* the connection's */
};
/* The destination before an iptables REDIRECT becomes info->local; without one nothing changes. */
void accepting_restore_destination(struct accepting *a);
struct listener_filter_type {
    struct extension ext;
    size_t instance_size;
    size_t max_peek; /* 0: needs no data */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg);
    enum accept_flow (*on_accept)(void *self, const void *conf, struct accepting *a);
    enum accept_flow (*on_data)(void *self, const void *conf, struct accepting *a,
                                struct str peeked, bool end);
    void (*destroy)(void *self);
};
