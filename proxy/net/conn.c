/* The life of a connection: connect or accept, pauses, closing in its three ways, the end of the
 * turn, and the facts that others ask for. Its bytes are in conn_io.c. */
#include "proxy/net/conn.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/net/conn_internal.h"
#include "proxy/net/socket.h"
#include "proxy/stats/stats.h"

enum {
    BUFFER_LIMIT_DEFAULT = 1024 * 1024,
    LINGER_US = 1000 * 1000, /* how long a closed connection waits for the peer's end */
    FLUSH_MOST_US =
        300 * 1000 *
        1000, /* without delayed_close: bytes that nobody takes are dropped after this */
    FREE_ROUNDS = 4,
    FDS_KEPT = 256,
    FDS_LAST = 16,
    LOOK_US = 250 * 1000 /* how often a paused connection looks whether its peer left */
};

/* Workers open no connection from here on: the last ones are main's, and gRPC, which ends the
 * process when it gets none. */
static int net_fd_last(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX) return INT_MAX;
    int most = (int)limit.rlim_cur;
    return most - (most / 4 < FDS_LAST ? most / 4 : FDS_LAST);
}

/* Accepting stops where the upper half (at most FDS_KEPT) of a worker's begins: an accepted request
 * is of no use without a descriptor for its upstream connection. */
int net_fd_most(void)
{
    int last = net_fd_last();
    if (last == INT_MAX) return INT_MAX;
    return last - (last / 2 < FDS_KEPT ? last / 2 : FDS_KEPT);
}

struct net_worker *net_worker(struct worker *w)
{
    struct net_worker *n = w->slot[WORKER_NET];
    if (n) return n;
    n = mem_alloc(sizeof(*n));
    list_init(&n->conns);
    list_init(&n->draining);
    n->fd_most = net_fd_most();
    n->fd_last = net_fd_last();
    n->relay_pipe[0] = n->relay_pipe[1] = -1;
    w->slot[WORKER_NET] = n;
    return n;
}

/* Asked anew when it seems to be one of the last: limits can be raised. */
int net_spare_fd(struct worker *w, int fd)
{
    struct net_worker *n = net_worker(w);
    if (fd < n->fd_last) return fd;
    n->fd_last = net_fd_last();
    if (fd < n->fd_last) return fd;
    (void)close(fd);
    return -EMFILE;
}

uint64_t net_next_id(struct worker *w)
{
    return net_worker(w)->next_id++ * w->rt->concurrency + w->index;
}

/* --- the end of the turn
 * -------------------------------------------------------------------------- */

static void conn_drop_stats(struct conn *c)
{
    if (!c->stats) return;
    if (c->rx_buffered) stat_sub(c->stats->group, c->stats->rx_buffered, c->rx_buffered);
    if (c->tx_buffered) stat_sub(c->stats->group, c->stats->tx_buffered, c->tx_buffered);
    c->rx_buffered = c->tx_buffered = 0;
    c->stats = NULL;
}

/* No more bytes from here on; the memory goes at the end of the turn. */
static void conn_shut(struct conn *c)
{
    if (c->state == CONN_CLOSED) return;
    c->state = CONN_CLOSED;
    loop_timer_stop(&c->timer);
    loop_io_want(&c->io, 0);
    (void)close(c->io.fd);
    buf_release(&c->out);
    conn_drop_stats(c);
    conn_later_add(c, CONN_LATER_FREE);
}

static void conn_free(struct conn *c)
{
    list_remove(&c->link);
    buf_release(&c->in);
    conn_drop_stats(c);
    if (c->transport) c->type->close(c->transport);
    arena_free(&c->arena);
    if (c->on_free) c->on_free(c->free_arg);
    mem_free(c->info);
    mem_free(c->failure);
    mem_free(c);
}

static void conn_tell_end(struct conn *c, enum conn_end why)
{
    const struct conn_events *events = c->events;
    void *owner = c->owner;
    c->owner = NULL;
    if (c->relay) conn_relay_stop(c->relay);
    if (c->info && c->failure) c->info->transport_failure = str_of(c->failure);
    if (c->info) c->info->local_close = why == CONN_END_LOCAL;
    if (c->info) c->info->remote_reset = why == CONN_END_RESET;
    /* Nobody vouches for the owner's statistics after this, unless the connection pins them. */
    if (!c->on_free) conn_drop_stats(c);
    events->on_close(c, owner, why);
}

void conn_end_with(struct conn *c, enum conn_end why)
{
    bool told = !conn_is_open(c);
    conn_shut(c);
    if (!told) conn_tell_end(c, why);
}

static void conn_on_later(struct loop_later *later)
{
    struct conn *c = CONTAINER_OF(later, struct conn, later);
    unsigned work = c->later_work;
    c->later_work = 0;
    if (work & CONN_LATER_FREE) {
        if (++c->rounds >= FREE_ROUNDS)
            conn_free(c);
        else
            conn_later_add(c, CONN_LATER_FREE);
        return;
    }
    if (work & CONN_LATER_FAIL) {
        conn_end_with(c, (enum conn_end)c->fail_as);
        return;
    }
    if (work & CONN_LATER_STEP) conn_begin(c);
    if ((work & CONN_LATER_READ) && c->state == CONN_OPEN && c->pauses == 0) {
        if (c->in.len || c->end_seen) conn_show(c);
        if (c->state == CONN_OPEN && c->transport) conn_read(c);
    }
    if ((work & CONN_LATER_FLUSH) && (c->state == CONN_OPEN || c->state == CONN_FLUSHING))
        conn_flush(c, true);
}

void conn_later_add(struct conn *c, enum conn_later work)
{
    c->later_work |= (uint8_t)work;
    loop_later(c->worker->loop, &c->later, conn_on_later);
}

/* --- connecting
 * ----------------------------------------------------------------------------------- */

void conn_set_failure(struct conn *c, struct str text)
{
    if (!text.len) return;
    mem_free(c->failure);
    c->failure = mem_alloc(text.len + 1);
    memcpy(c->failure, text.ptr, text.len);
}

/* Envoy: "delayed connect error: Connection refused". */
static void conn_set_errno(struct conn *c, const char *when, int error)
{
    char text[160];
    const char *why = strerrordesc_np(error);
    int n = snprintf(text, sizeof(text), "%s connect error: %s", when, why ? why : "Unknown error");
    conn_set_failure(c, str_make(text, n > 0 ? (size_t)n : 0));
}

static void conn_on_timeout(struct loop_timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING:
    case CONN_HANDSHAKE: conn_end_with(c, CONN_END_CONNECT_TIMEOUT); return;
    case CONN_OPEN: return;
    case CONN_FLUSHING:
    case CONN_LINGERING:
    case CONN_CLOSED: conn_shut(c); return;
    }
}

/* Watched both ways, so that writable alone says that there was no error: those make both ready. */
static void conn_connected(struct conn *c, int ready)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (ready != LOOP_WRITE && getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error) {
        conn_set_errno(c, "delayed", error);
        conn_end_with(c, CONN_END_CONNECT_FAILED);
        return;
    }
    conn_begin(c);
}

static void conn_discard(struct conn *c)
{
    char drop[4096];
    for (int i = 0; i < 16; i++) {
        ssize_t n = recv(c->io.fd, drop, sizeof(drop), 0);
        if (n > 0) continue;
        if (n == 0 || (errno != EAGAIN && errno != EINTR)) conn_shut(c);
        return;
    }
}

static void conn_on_ready(struct loop_io *io, int ready)
{
    struct conn *c = CONTAINER_OF(io, struct conn, io);
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING: conn_connected(c, ready); return;
    case CONN_HANDSHAKE: conn_begin(c); return;
    case CONN_OPEN:
        if ((ready & LOOP_WRITE) || c->write_wants_read) {
            bool retry_read = c->read_wants_write;
            conn_flush(c, true);
            if (retry_read && c->state == CONN_OPEN) conn_read(c);
        }
        if ((ready & LOOP_READ) && c->state == CONN_OPEN) conn_read(c);
        return;
    case CONN_FLUSHING: conn_flush(c, true); return;
    case CONN_LINGERING: conn_discard(c); return;
    case CONN_CLOSED: return;
    }
}

static struct conn *conn_new(struct worker *w, int fd, const struct conn_limits *limits,
                             const struct conn_events *events, void *owner)
{
    struct conn *c = mem_alloc(sizeof(*c));
    c->worker = w;
    c->events = events;
    c->owner = owner;
    size_t limit = limits && limits->buffer_limit ? limits->buffer_limit : BUFFER_LIMIT_DEFAULT;
    c->limit = limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit;
    loop_io_init(&c->io, w->loop, fd, conn_on_ready);
    list_push_back(&net_worker(w)->conns, &c->link);
    return c;
}

/* A connection that could not even begin: told at the end of the turn, as all ends are. */
static void conn_fail_later(struct conn *c, int error)
{
    conn_set_errno(c, "immediate", error);
    c->fail_as = CONN_END_CONNECT_FAILED;
    conn_later_add(c, CONN_LATER_FAIL);
}

static int conn_dial(int fd, const struct addr *to, const struct addr *bind_to,
                     const struct socket_options *opts)
{
    int r = socket_apply(fd, opts, SOCKET_PREBIND, NULL);
    if (r == 0 && bind_to && bind_to->len && bind(fd, &bind_to->sa.any, bind_to->len) != 0)
        r = -errno;
    if (r == 0) r = socket_apply(fd, opts, SOCKET_BOUND, NULL);
    if (r == 0 && connect(fd, &to->sa.any, to->len) != 0) r = -errno;
    return r;
}

struct conn *conn_connect(struct worker *w, const struct addr *to, const struct addr *bind_to,
                          const struct socket_options *opts, const struct transport_socket *ts,
                          const void *ts_ask, uint64_t timeout_us, const struct conn_limits *limits,
                          const struct conn_events *events, void *owner)
{
    int fd = net_spare_fd(w, socket_open(to));
    /* Without a descriptor the connection is a stand-in that fails at the end of the turn. */
    struct conn *c = conn_new(w, fd, limits, events, owner);
    c->half_close = true;
    c->state = CONN_CONNECTING;
    if (fd < 0) {
        conn_fail_later(c, -fd);
        return c;
    }
    int r = conn_dial(fd, to, bind_to, opts);
    if (r != 0 && r != -EINPROGRESS) {
        conn_fail_later(c, -r);
        return c;
    }
    if (ts && ts->type->open) {
        c->type = ts->type;
        c->transport = ts->type->open(ts, c, fd, false, ts_ask);
    }
    if (timeout_us) loop_timer_start(w->loop, &c->timer, timeout_us, conn_on_timeout);
    if (r == 0)
        conn_later_add(c, CONN_LATER_STEP);
    else
        conn_update_want(c);
    return c;
}

struct conn *conn_accept(struct worker *w, int fd, struct conn_info *info,
                         const struct transport_socket *ts, uint64_t handshake_us,
                         const struct conn_limits *limits, const struct conn_events *events,
                         void *owner)
{
    struct conn *c = conn_new(w, fd, limits, events, owner);
    c->server = true;
    c->info = info;
    c->state = CONN_HANDSHAKE;
    if (ts && ts->type->open) {
        c->type = ts->type;
        c->transport = ts->type->open(ts, c, fd, true, NULL);
        if (handshake_us) loop_timer_start(w->loop, &c->timer, handshake_us, conn_on_timeout);
    }
    conn_later_add(c, CONN_LATER_STEP);
    return c;
}

void conn_set_owner(struct conn *c, const struct conn_events *events, void *owner)
{
    c->events = events;
    c->owner = owner;
}

/* --- pauses
 * --------------------------------------------------------------------------------------- */

/* While nothing is read, epoll would not tell that the client has left; a request for nobody need
 * not go on. */
static void conn_look(struct loop_timer *t)
{
    struct conn *c = CONTAINER_OF(t, struct conn, timer);
    bool waits = c->state == CONN_HANDSHAKE && c->waits,
         paused = c->state == CONN_OPEN && !c->half_close && !c->end_seen && c->pauses > 0;
    if (!waits && !paused) return;
    struct pollfd p = {.fd = c->io.fd, .events = POLLRDHUP};
    if (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR))) {
        conn_end_with(c, (p.revents & POLLERR) ? CONN_END_RESET : CONN_END_REMOTE);
        return;
    }
    loop_timer_start(c->worker->loop, t, LOOK_US, conn_look);
}

void conn_watch_end(struct conn *c)
{
    if (!loop_timer_running(&c->timer))
        loop_timer_start(c->worker->loop, &c->timer, LOOK_US, conn_look);
}

void conn_pause_read(struct conn *c, bool pause)
{
    if (!conn_is_open(c)) return;
    if (pause) {
        if (c->pauses++ > 0) return;
        if (c->state == CONN_OPEN && !c->half_close) conn_watch_end(c);
    } else {
        if (bug_if(c->pauses == 0) || --c->pauses > 0) return;
        if (c->in.len || c->end_seen || c->transport) conn_later_add(c, CONN_LATER_READ);
    }
    if (c->state == CONN_OPEN) conn_update_want(c);
}

void conn_read_again(struct conn *c)
{
    if (conn_is_open(c)) conn_later_add(c, CONN_LATER_READ);
}

void conn_set_half_close(struct conn *c, bool on)
{
    c->half_close = on;
}

bool conn_half_close(const struct conn *c)
{
    return c->half_close;
}

/* --- closing
 * -------------------------------------------------------------------------------------- */

/* All is written: our end goes out, and the peer's last bytes are read and dropped, because closing
 * a socket with unread bytes sends a reset that can destroy the answer on its way. */
void conn_linger(struct conn *c)
{
    if (c->transport && c->type->shutdown) (void)c->type->shutdown(c->transport);
    bool peer_left = c->end_seen;
    if (peer_left || shutdown(c->io.fd, SHUT_WR) != 0) {
        conn_shut(c);
        return;
    }
    c->state = CONN_LINGERING;
    c->blocked = c->write_wants_read = false;
    loop_timer_start(c->worker->loop, &c->timer, c->delayed_us ? c->delayed_us : LINGER_US,
                     conn_on_timeout);
    conn_update_want(c);
}

static void conn_close_flush(struct conn *c)
{
    c->state = CONN_FLUSHING;
    buf_release(&c->in);
    loop_timer_start(c->worker->loop, &c->timer, c->delayed_us ? c->delayed_us : FLUSH_MOST_US,
                     conn_on_timeout);
    if (!c->blocked) conn_later_add(c, CONN_LATER_FLUSH);
    conn_update_want(c);
    conn_tell_end(c, CONN_END_LOCAL);
}

void conn_close(struct conn *c, enum conn_close how)
{
    if (!conn_is_open(c)) return;
    if (how == CONN_CLOSE_FLUSH && c->state == CONN_OPEN && !c->write_broken) {
        conn_close_flush(c);
        return;
    }
    if (how == CONN_CLOSE_RESET && c->io.fd >= 0) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(c->io.fd, SOL_SOCKET, SO_LINGER, &now,
                         sizeof(now)); /* Unix sockets have no RST */
    }
    conn_end_with(c, CONN_END_LOCAL);
}

bool conn_is_open(const struct conn *c)
{
    return c->state < CONN_FLUSHING;
}

void conn_set_delayed_close(struct conn *c, uint64_t us)
{
    c->delayed_us = us;
}

/* --- facts
 * ---------------------------------------------------------------------------------------- */

size_t conn_write_queued(const struct conn *c)
{
    return c->out.len;
}

bool conn_above_watermark(const struct conn *c)
{
    return c->above;
}

struct worker *conn_worker(const struct conn *c)
{
    return c->worker;
}

struct conn_info *conn_info_of(struct conn *c)
{
    if (c->info) return c->info;
    struct conn_info *i = mem_alloc(sizeof(*i));
    c->info = i;
    i->id = net_next_id(c->worker);
    if (c->io.fd >= 0 && c->state != CONN_CLOSED) {
        (void)socket_local(c->io.fd, &i->local); /* unset when it cannot be told */
        (void)socket_peer(c->io.fd, &i->remote);
        i->direct_local = i->local;
        i->direct_remote = i->remote;
    }
    i->start_us = loop_now_us(c->worker->loop);
    i->start_wall_us = loop_wall_us(c->worker->loop);
    if (c->failure) i->transport_failure = str_of(c->failure);
    if (c->state == CONN_OPEN && c->transport && c->type->info)
        i->tls = c->type->info(c->transport);
    return i;
}

bool conn_start_secure(struct conn *c)
{
    if (c->state != CONN_OPEN || !c->transport || !c->type->start_secure) return false;
    conn_flush(c, false);
    if (c->out.len || c->write_broken || !c->type->start_secure(c->transport)) return false;
    buf_release(&c->in);
    c->state = CONN_HANDSHAKE;
    conn_later_add(c, CONN_LATER_STEP);
    return true;
}

uint64_t conn_bytes_read(const struct conn *c)
{
    return c->rx;
}

uint64_t conn_bytes_written(const struct conn *c)
{
    return c->tx;
}

struct str conn_failure(const struct conn *c)
{
    return str_of(c->failure);
}

struct str conn_alpn(const struct conn *c)
{
    if (!c->transport || !c->type->alpn) return STR_NONE;
    return c->type->alpn(c->transport);
}

struct buf *conn_input(struct conn *c)
{
    return &c->in;
}

int conn_fd(const struct conn *c)
{
    return c->io.fd;
}

void conn_set_byte_stats(struct conn *c, const struct conn_byte_stats *s)
{
    conn_drop_stats(c);
    c->stats = s;
}

struct arena *conn_arena(struct conn *c)
{
    if (!c->arena) c->arena = arena_new("connection", 1024);
    return c->arena;
}
