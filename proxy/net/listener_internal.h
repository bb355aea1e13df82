/* Listeners inside a worker, the sockets that main binds for them, and the mail between the two.
 * For proxy/net only. */
#pragma once
#include <stdatomic.h>
#include "base/list.h"
#include "base/loop.h"
#include "proxy/net/conn_internal.h"
#include "proxy/net/filter_chain_match.h"
#include "proxy/net/listener.h"
#include "proxy/net/listener_manager.h"
#include "proxy/stats/stats.h"

enum listener_stat {
    LISTENER_CX_ACTIVE,
    LISTENER_CX_DESTROY,
    LISTENER_CX_LENGTH_MS,
    LISTENER_CX_OVERFLOW,
    LISTENER_CX_OVERLOAD_REJECT,
    LISTENER_CX_TOTAL,
    LISTENER_CX_TRANSPORT_TIMEOUT,
    LISTENER_GLOBAL_CX_OVERFLOW,
    LISTENER_FILTER_ERROR,
    LISTENER_FILTER_REMOTE_CLOSE,
    LISTENER_PRE_CX_ACTIVE,
    LISTENER_PRE_CX_TIMEOUT,
    LISTENER_EXTENSION_MISSING,
    LISTENER_NETWORK_EXTENSION_MISSING,
    LISTENER_NO_CHAIN,
    LISTENER_ACCEPTED_PER_EVENT,
    LISTENER_STAT_COUNT
};
extern const struct stat_def listener_stat_defs[LISTENER_STAT_COUNT];
enum listener_worker_stat {
    LISTENER_WORKER_CX_ACTIVE,
    LISTENER_WORKER_CX_TOTAL,
    LISTENER_WORKER_STAT_COUNT
};
extern const struct stat_def listener_worker_stat_defs[LISTENER_WORKER_STAT_COUNT];

/* The sockets of one address: one, or one for each worker (SO_REUSEPORT). Owned by main; workers
 * read fds only. */
struct bound {
    struct addr addr; /* as bound: port 0 resolved */
    bool reuse_port;
    int *fds;
    size_t fd_count;
    unsigned holders; /* main: the manager's listener and each worker that watches it */
    struct runtime *rt;
};
static inline int bound_fd(const struct bound *b, unsigned worker)
{
    return b->fds[b->fd_count > 1 ? worker : 0];
}
/* Main. Binds; NULL with *err (negative errno). holders = 1. */
struct bound *bound_new(struct runtime *rt, const struct listener_base *base,
                        const struct listener_address *a, int *err);
void bound_unref(struct bound **b); /* main; the last closes the sockets */

/* Worker-local wrapper of a listener's base. */
struct worker_base {
    struct listener_base *conf; /* this worker's reference */
    struct stat_group *stats, *worker_stats;
    uint32_t users; /* the listener while current, its connections */
    struct worker *worker;
};
/* Worker-local wrapper of a filter chain. */
struct worker_chain {
    struct filter_chain_conf *conf; /* this worker's reference */
    struct worker *worker;
    struct list conns; /* network_chain.link */
    struct list link;  /* worker_listener.old_chains while it drains */
    uint32_t users;    /* the listener while current, its connections */
    bool draining, immediate;
    uint64_t drain_from_us, drain_us;
    struct loop_timer timer; /* drain time over: the rest is closed */
};
/* One listening socket that a worker watches. */
struct accept_socket {
    struct loop_io io;
    struct loop_timer timer; /* out of descriptors: pause */
    struct bound *bound;     /* main's; this worker is a holder */
    struct worker_listener *listener;
    bool paused, warned;
    uint32_t lost; /* UDP: the kernel's count of losses as of the last look */
};
struct udp_listener;
struct worker_listener {
    struct worker *worker;
    struct str name;            /* heap */
    struct listener_conf *conf; /* this worker's reference */
    struct worker_base *base;
    struct worker_chain **chains; /* by index in conf->chains; the default chain last */
    size_t chain_count;           /* with the default one */
    struct accept_socket **sockets;
    size_t socket_count;
    struct list accepting;    /* accept_step.link: connections in listener filters */
    struct udp_listener *udp; /* NULL: TCP */
    bool stopped;
};

/* What main tells a worker about one listener: references go to the worker. */
struct listener_order {
    struct runtime *rt;
    struct listener_conf *conf;
    struct bound **bound; /* holders counted for the worker; NULL entries: nothing to bind */
    size_t bound_count;
    uint64_t drain_us; /* for what this replaces */
    bool immediate;
};
void worker_listener_set(struct worker *w, struct listener_order *o); /* empties o */
void worker_listener_remove(struct worker *w, struct str name, uint64_t drain_us, bool immediate);
void worker_listeners_start(struct worker *w);
void worker_listeners_stop(struct worker *w, bool inbound_only);
void worker_listeners_drain(struct worker *w, bool inbound_only, uint64_t drain_us, bool immediate);
void worker_conns_end(struct worker *w);     /* closes all connections of the worker */
void worker_listeners_end(struct worker *w); /* the worker's end: all goes */

void worker_base_drop(struct worker_base **b);
void worker_chain_drop(struct worker_chain **c);

/* Accepting (listener_accept.c). */
void accept_ready(struct loop_io *io, int ready);
/* Accepts all that waits, before the socket is given up. */
void accept_rest(struct accept_socket *s);
void accept_steps_end(struct worker_listener *l);

/* Exact balancing (listener_balance.c). Without it these do nothing. */
void balance_add(struct worker_base *b); /* the worker has one more connection of it, one less */
void balance_drop(struct worker_base *b);
/* An accepted connection goes to the worker with the fewest: accept_given there. */
void balance_give(struct worker_listener *l, const struct bound *bound, int fd,
                  const struct addr *peer);
/* Goes on with a connection that was accepted on a socket bound to `bound`. */
void accept_given(struct worker_listener *l, int fd, const struct addr *peer,
                  const struct addr *bound);

/* Datagrams (udp_listener.c). */
void udp_ready(struct loop_io *io, int ready);
/* The listener's base is new: its UDP filter starts, the old one ends. */
void udp_replace(struct worker_listener *l);
void udp_end(struct worker_listener *l);

/* A connection and its network filters (network_chain.c): takes fd, info and arena (may be NULL).
 */
void network_chain_start(struct worker_base *b, struct worker_chain *c, int fd,
                         struct conn_info *info, struct arena *arena);
void network_chain_drain(struct worker_chain *c);     /* tells the filters of all its connections */
void network_chain_close_all(struct worker_chain *c); /* drain time is over */
/* Writes the listener's access log for a connection. end: flags, details and bytes; the rest is
 * filled in. */
void listener_log(struct worker_base *b, struct conn_info *info, struct stream_info *end);
