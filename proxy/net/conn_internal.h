/* A connection's insides, for proxy/net only. */
#pragma once
#include "base/list.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/transport_socket.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

enum conn_state {
    CONN_CONNECTING, /* connect() is under way */
    CONN_HANDSHAKE,  /* transport (TLS) handshake */
    CONN_OPEN,
    CONN_FLUSHING,   /* closed by the owner, who is gone; queued bytes still go out */
    CONN_LINGERING,  /* our end is sent; bytes of the peer are dropped until its end */
    CONN_CLOSED      /* freed at the end of the turn */
};
/* Work for the end of the turn. */
enum conn_later { CONN_LATER_FLUSH = 1, CONN_LATER_READ = 2, CONN_LATER_FREE = 4, CONN_LATER_FAIL = 8, CONN_LATER_STEP = 16 };

struct conn {
    struct loop_io io;
    struct loop_timer timer; /* connect and handshake deadline; paused: a look for the peer's end; closing: bound */
    struct loop_later later;
    struct list link; /* net_worker.conns */
    struct worker *worker;
    const struct conn_events *events;
    void *owner;
    const struct transport_socket_type *ts; /* NULL: raw bytes */
    void *transport;                        /* the transport's state */
    struct buf in, out;
    const struct conn_byte_stats *stats;
    struct conn_info *info;     /* upstream: made when asked */
    struct arena *arena;        /* made when asked; owns long texts of info */
    char *failure;              /* heap text */
    bool (*on_write)(void *owner, struct buf *data, bool end); /* network filters' write side; NULL: none. False: data is held */
    uint64_t id, rx, tx;
    uint64_t delayed_us, deadline_us;
    size_t rx_buffered, tx_buffered; /* what the byte gauges hold */
    uint32_t limit;
    uint16_t pauses;
    uint8_t state;      /* enum conn_state */
    uint8_t later_work; /* enum conn_later bits */
    uint8_t fail_as;    /* enum conn_end for CONN_LATER_FAIL */
    bool server;
    bool above;        /* write queue above high, told so */
    bool blocked;      /* a write met EAGAIN (or the transport wants to read first) */
    bool read_wants_write; /* TLS: reading waits for a writable socket */
    bool end_seen, end_told;
    bool end_queued, end_sent;
    bool write_broken; /* EPIPE: only what the peer still says matters */
    bool in_read;      /* inside on_read */
    bool half_close;   /* the owner wants the peer's end as an event even while paused */
};
/* Downstream: a connected descriptor. `info` becomes the connection's (heap). ts NULL: raw. handshake_us 0: no deadline.
 * on_connected follows at the end of the turn or after the handshake. */
struct conn *conn_accept(struct worker *w, int fd, struct conn_info *info, const struct transport_socket *ts, uint64_t handshake_us,
                         const struct conn_limits *limits, const struct conn_events *events, void *owner);
/* The connection's own arena, made at first use. */
struct arena *conn_arena(struct conn *c);

/* Net's state in each worker (slot WORKER_NET). */
struct net_worker {
    struct list conns; /* all connections, by conn.link */
    uint64_t next_id;
    struct map listeners; /* name -> struct worker_listener */
    struct list draining; /* worker_listener.link of replaced and removed ones */
    bool accepting;
};
struct net_worker *net_worker(struct worker *w); /* made at first use */
