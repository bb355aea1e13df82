/* What the files of the pools share: pool.c (queues, growth, the end), pool_conn.c (one connection
 * and the exchanges on it). Worker thread. */
#pragma once
#include "proxy/net/conn.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/upstream_internal.h"

enum pool_conn_state { POOL_CONN_CONNECTING, POOL_CONN_READY, POOL_CONN_BUSY, POOL_CONN_CLOSED };

struct pool_conn {
    struct list link; /* one of the pool's lists by state */
    struct list attempts;
    struct pool *pool;
    struct conn *conn;
    struct codec *codec; /* NULL until connected */
    enum pool_conn_state state;
    bool draining; /* takes no more */
    bool broken;   /* the peer broke the protocol */
    bool peer_ended;
    uint32_t streams, served;
    uint32_t cut; /* HTTP/1: the exchange whose breaking off ends the connection */
    uint64_t begin_us;
    struct loop_timer idle, lifetime;
    struct loop_later bury;
};
struct pool {
    struct list link; /* uc->pools */
    struct pool_key key;
    struct upstream_cluster *uc; /* a user of it */
    struct host *host;           /* a reference */
    enum upstream_priority priority;
    struct list connecting, ready, busy, pending;
    uint32_t connecting_count, ready_count, busy_count, pending_count;
    uint32_t active; /* exchanges on its connections */
    bool draining;
    bool fresh;              /* a new attempt came: look ahead at the next check */
    struct pool_kind kind;   /* of key.kind; its texts are in the pool's own allocation */
    struct loop_later check; /* serve, grow or end */
};

static inline struct stat_group *pool_stats(const struct pool *p)
{
    return p->uc->conf->shared->stats;
}
static inline uint64_t pool_now_us(const struct pool *p)
{
    return loop_now_us(p->uc->worker->loop);
}
/* At the end of the turn: serves, grows or ends the pool. */
void pool_check(struct pool *p);
/* Out of the queue, if it is there. */
void pool_unqueue(struct pool *p, struct upstream_attempt *a);
/* The attempt fails; it must not wait any more. */
void pool_fail(struct upstream_attempt *a, enum upstream_failure why, struct str detail);
/* Fails everything that waits. */
void pool_purge(struct pool *p, enum upstream_failure why, struct str detail);

/* --- pool_conn.c */
/* Begins to connect. */
void pc_new(struct pool *p);
/* The attempt becomes an exchange on the connection, or fails. */
void pc_attach(struct pool *p, struct pool_conn *pc, struct upstream_attempt *a);
/* Its exchange is over: counts, and frees its place on the connection. */
void pc_detach(struct upstream_attempt *a);
/* Where does the connection belong now? After each change. */
void pc_settle(struct pool_conn *pc);
/* An HTTP/1 exchange broke off: its connection cannot go on. */
void pc_cut(struct pool_conn *pc);
