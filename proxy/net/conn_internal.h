/* A connection's insides, for proxy/net only. */
#pragma once
#include "base/list.h"
#include "base/map.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/transport_socket.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

enum conn_state {
    CONN_CONNECTING, /* connect() is under way */
    CONN_HANDSHAKE,  /* transport (TLS) handshake */
    CONN_OPEN,
    CONN_FLUSHING,  /* closed by the owner, who is gone; queued bytes still go out */
    CONN_LINGERING, /* our end is sent; bytes of the peer are dropped until its end */
    CONN_CLOSED     /* freed at the end of the turn */
};
/* Work for the end of the turn. */
enum conn_later {
    CONN_LATER_FLUSH = 1,
    CONN_LATER_READ = 2, /* show `in` again, read what the transport holds */
    CONN_LATER_FAIL = 4, /* end as conn.fail_as */
    CONN_LATER_STEP = 8, /* begin: a connected descriptor's handshake */
    CONN_LATER_FREE = 16 /* after some rounds, so that others' work of this turn still finds it */
};

struct conn {
    struct loop_io io;
    struct loop_timer timer; /* connect and handshake deadline; paused: a look for the peer's end;
                                closing: bound */
    struct loop_later later;
    struct list link; /* net_worker.conns */
    struct worker *worker;
    const struct conn_events *events;
    void *owner; /* NULL once closed */
    void (*on_free)(
        void *arg); /* what must live as long as the memory (the filter chain's pin); NULL: none */
    void *free_arg;
    const struct transport_socket_type
        *type;       /* NULL: raw bytes. The configuration may go before a closed connection does */
    void *transport; /* the transport's state */
    struct buf in, out;
    const struct conn_byte_stats *stats;
    struct conn_info *info;   /* upstream: made when asked */
    struct arena *arena;      /* made when asked */
    char *failure;            /* heap text */
    struct conn_relay *relay; /* NULL: none */
    bool (*on_write)(void *owner, struct buf *data,
                     bool end); /* network filters' write side; NULL: none. False: data is held */
    uint64_t rx, tx;
    uint64_t delayed_us, timeout_us;
    size_t rx_buffered, tx_buffered; /* what the byte gauges hold */
    uint32_t limit;
    uint16_t pauses;
    uint8_t state;      /* enum conn_state */
    uint8_t later_work; /* enum conn_later bits */
    uint8_t rounds;     /* before it is freed */
    uint8_t fail_as;    /* enum conn_end for CONN_LATER_FAIL */
    bool server;
    bool above;            /* write queue above high, told so */
    bool blocked;          /* a write met EAGAIN: wait for a writable socket */
    bool waits;            /* the handshake waits for no byte (TRANSPORT_WAIT) */
    bool read_wants_write; /* TLS: reading waits for a writable socket */
    bool write_wants_read; /* TLS: writing waits for a readable one */
    bool end_seen;         /* the peer's end was read */
    bool end_queued, end_sent;
    bool write_broken; /* EPIPE: only what the peer still says matters */
    bool flush_untold; /* on_flushed is due when the queue is empty */
    bool bulk;         /* the last read brought much: offer more room, or relay */
    bool told_up;      /* on_connected was called */
    bool half_close;   /* the peer's end while paused is no reason to close */
};
/* Downstream: a connected descriptor. `info` becomes the connection's (heap). ts NULL: raw.
 * handshake_us 0: no deadline. on_connected follows at the end of the turn or after the handshake.
 */
struct conn *conn_accept(struct worker *w, int fd, struct conn_info *info,
                         const struct transport_socket *ts, uint64_t handshake_us,
                         const struct conn_limits *limits, const struct conn_events *events,
                         void *owner);
struct net_worker;
/* Steps that conn.c and conn_io.c share. */
void conn_later_add(struct conn *c, enum conn_later work);
void conn_update_want(struct conn *c);
void conn_begin(struct conn *c); /* opens the transport, does the handshake, tells on_connected */
/* Looks now and then whether the peer has left, while nothing is read. */
void conn_watch_end(struct conn *c);
/* What the transport waited for is there: its handshake goes on. */
void conn_handshake_go(struct conn *c);
void conn_read(struct conn *c); /* reads and shows */
void conn_show(struct conn *c); /* on_read with what is there */
void conn_flush(struct conn *c,
                bool may_end); /* writes; may_end false: a failure is told at the end of the turn */
void conn_end_with(struct conn *c, enum conn_end why); /* tears down and tells the owner */
void conn_set_failure(struct conn *c, struct str text);
/* --- conn_relay.c: may the next read go through it, and that read as transport_read's result */
enum { CONN_BULK_LEAST = 16 * 1024 }; /* a read of so much is "much" */
bool conn_relay_fits(const struct conn *c);
ssize_t conn_relay_read(struct conn *c, size_t *got);
void relay_worker_release(struct net_worker *n);
ssize_t conn_raw_result(ssize_t n); /* errno -> TRANSPORT_*, for reads */
void conn_count_written(struct conn *c, size_t n);
void conn_linger(struct conn *c); /* FLUSHING and all is written */
/* Queues bytes behind the network filters' write side. */
void conn_write_filtered(struct conn *c, struct buf *data, bool end);
/* The connection's own arena, made at first use. */
struct arena *conn_arena(struct conn *c);

/* Net's state in each worker (slot WORKER_NET). */
struct net_worker {
    struct list conns; /* all connections, by conn.link */
    uint64_t next_id;
    struct map listeners;              /* name -> struct worker_listener */
    struct list draining;              /* worker_listener.link of replaced and removed ones */
    struct tls_sessions *tls_sessions; /* upstream sessions for resumption; made at first use */
    int relay_pipe[2];                 /* -1: none; empty but inside conn_relay_read */
    char *datagrams;                   /* what datagram_read fills; made at first use */
    char *tls_chunk;                   /* where small writes are joined to one record */
    bool accepting;
    int fd_most; /* descriptors from here on are kept for upstream connections, files and the like
                  */
    int fd_last; /* and from here on for main alone */
    _Atomic uint64_t
        open; /* downstream connections with a filter chain; written here, read by all, relaxed */
};
struct net_worker *net_worker(struct worker *w); /* made at first use */
int net_fd_most(void);                           /* reads the limit of descriptors */
void tls_worker_release(struct net_worker *n);   /* tls_session.c */
uint64_t net_next_id(struct worker *w);          /* connection ids: unique in the process */
