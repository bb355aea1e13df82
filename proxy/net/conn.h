/* A TCP (or Unix) connection of a worker, downstream or upstream: buffers, watermarks, transport
 * (raw or TLS), timers, close. Worker thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/buf.h"
#include "base/loop.h"

struct worker;
struct conn;
struct conn_info;
struct transport_socket; /* proxy/api/transport_socket.h */
struct tls_info;

/* Why a connection ended, as told to on_close. */
enum conn_end {
    CONN_END_LOCAL,           /* we closed it */
    CONN_END_REMOTE,          /* orderly end from the peer */
    CONN_END_RESET,           /* ECONNRESET, EPIPE ... */
    CONN_END_CONNECT_FAILED,  /* refused, unreachable */
    CONN_END_CONNECT_TIMEOUT, /* conn_connect's deadline */
    CONN_END_TRANSPORT        /* TLS handshake or record error; text in conn_failure() */
};
enum conn_close {
    CONN_CLOSE_FLUSH,
    /* write what is queued first (bounded by delayed_close) */ CONN_CLOSE_NOW,
    CONN_CLOSE_RESET /* RST */
};

/* The owner's callbacks; set at creation. The owner may close (not free) the connection inside any
 * of them; memory is freed at the end of the turn, after on_close, which comes exactly once and
 * last (also for a local close, inside conn_close). */
struct conn_events {
    void (*on_connected)(struct conn *c, void *owner); /* upstream: TCP (and TLS) is up */
    void (*on_read)(struct conn *c, void *owner, struct buf *in,
                    bool end); /* new bytes (and/or end of stream); the owner drains what it used,
                                 the rest stays and is shown again with the next bytes */
    void (*on_watermark)(struct conn *c, void *owner,
                         bool above); /* the write queue rose above high / fell below low */
    void (*on_flushed)(struct conn *c, void *owner); /* write queue empty again; may be NULL */
    void (*on_close)(struct conn *c, void *owner, enum conn_end why);
};

struct conn_limits {
    size_t buffer_limit; /* per_connection_buffer_limit_bytes: read high-water and write high
                            watermark; default 1 MiB */
};

/* Upstream: starts to connect; on_connected or on_close follows (never inside the call). bind may
 * be NULL. ts may be NULL (raw). Options (SO_KEEPALIVE ..., mark) are applied from opts (may be
 * NULL). */
struct socket_options; /* proxy/net/socket.h */
struct conn *conn_connect(struct worker *w, const struct addr *to, const struct addr *bind,
                          const struct socket_options *opts, const struct transport_socket *ts,
                          const void *ts_ask, uint64_t timeout_us, const struct conn_limits *limits,
                          const struct conn_events *events, void *owner);
/* Changes who gets the events (a tunnel takes over a codec's connection). */
void conn_set_owner(struct conn *c, const struct conn_events *events, void *owner);

/* Queues bytes (moved out of `data`) and writes at the end of this turn, or at once when much is
 * queued. end: half-close after them. */
void conn_write(struct conn *c, struct buf *data, bool end);
void conn_write_str(struct conn *c, struct str bytes); /* copies */
size_t conn_write_queued(const struct conn *c);
bool conn_above_watermark(const struct conn *c);
/* Counted: each true needs a false. While paused nothing is read (the peer is back-pressured);
 * bytes already read stay. */
void conn_pause_read(struct conn *c, bool pause);
/* Shows the unread rest of `in` to on_read again at the end of the turn (after a resume). */
void conn_read_again(struct conn *c);
/* StartTLS: what is queued goes out in the clear, what was read and not used is dropped (nobody
 * vouches for it), then the handshake begins; a failure ends the connection. False: the transport
 * is not one that can, or plain bytes are still queued. */
bool conn_start_secure(struct conn *c);
void conn_close(struct conn *c, enum conn_close how);
bool conn_is_open(const struct conn *c); /* false after conn_close or on_close */
/* Ends writing of queued bytes after this long when closing with FLUSH (HCM delayed_close_timeout);
 * 0: none. */
void conn_set_delayed_close(struct conn *c, uint64_t us);
/* Half-closes matter to the owner (tunnels, upstream responses): the peer's end while reading is
 * paused does not end the connection. Default: on for upstream, off for downstream connections. */
void conn_set_half_close(struct conn *c, bool on);
bool conn_half_close(const struct conn *c);

/* Two connections whose owner hands the bytes of each on to the other unseen. While both are raw
 * and much comes at once, the bytes go from socket to socket inside the kernel; otherwise through
 * on_read as ever. Ends, end of stream and back-pressure are told as ever. */
struct conn_relay {
    struct conn *ends[2]; /* NULL: none (any more) */
    /* n bytes of `from` were written to the other end. May not close. */
    void (*moved)(struct conn_relay *r, struct conn *from, size_t n);
};
/* The relay's memory must live until it is stopped or one of the two has closed. */
void conn_relay_start(struct conn_relay *r, struct conn *a, struct conn *b);
void conn_relay_stop(struct conn_relay *r);

struct worker *conn_worker(const struct conn *c);
struct conn_info *conn_info_of(
    struct conn *c); /* filled for downstream; for upstream: addresses, id, tls */
uint64_t conn_bytes_read(const struct conn *c);
uint64_t conn_bytes_written(const struct conn *c);
struct str conn_failure(const struct conn *c); /* transport failure text, empty if none */
struct str conn_alpn(const struct conn *c);    /* negotiated, empty if none */
struct buf *conn_input(struct conn *c);        /* read but not yet used bytes */
int conn_fd(const struct conn *c);
/* Statistics of bytes: where reads and writes are counted (listener/HCM
 * downstream_cx_rx_bytes_total ..., cluster ...). */
/* Worker. A new descriptor, or -EMFILE and it is closed: the last ones are main's, and gRPC's,
 * which ends the process when it gets none. Negative ones pass. */
int net_spare_fd(struct worker *w, int fd);

struct conn_byte_stats {
    struct stat_group *group;
    size_t rx_total, rx_buffered, tx_total, tx_buffered;
};
void conn_set_byte_stats(struct conn *c, const struct conn_byte_stats *s);
