/* A connection's bytes: handshake, reading, showing, writing, half-closes. The rest of its life is
 * in conn.c. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/must.h"
#include "proxy/net/conn_internal.h"
#include "proxy/stats/stats.h"

enum {
    IOV_MOST = 32,
    READ_ROUNDS = 16, /* reads of one event at most: fairness among connections */
    READ_BULK = 8 * BUF_SLICE_SIZE,
    WRITE_SOON = 128 * 1024 /* queued bytes that are written before the end of the turn */
};

/* --- the raw transport --------------------------------------------------------------------------
 */

ssize_t conn_raw_result(ssize_t n)
{
    if (n >= 0) return n;
    if (errno == EAGAIN || errno == EINTR) return TRANSPORT_WANT_READ;
    return TRANSPORT_ERROR;
}

static ssize_t transport_read(struct conn *c, void *to, size_t len)
{
    if (c->transport) return c->type->read(c->transport, to, len);
    return conn_raw_result(recv(c->io.fd, to, len, 0));
}

static ssize_t transport_writev(struct conn *c, struct iovec *iov, int count)
{
    if (c->transport) return c->type->writev(c->transport, iov, count);
    ssize_t n;
    if (count == 1) {
        n = send(c->io.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
    } else {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = (size_t)count};
        n = sendmsg(c->io.fd, &m, MSG_NOSIGNAL);
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return TRANSPORT_WANT_WRITE;
    return conn_raw_result(n);
}

static bool transport_pending(const struct conn *c)
{
    return c->transport && c->type->pending && c->type->pending(c->transport);
}

/* --- what the loop watches ----------------------------------------------------------------------
 */

static bool conn_may_read(const struct conn *c)
{
    return c->pauses == 0 && !c->end_seen && c->in.len < c->limit;
}

void conn_update_want(struct conn *c)
{
    int want = 0;
    switch ((enum conn_state)c->state) {
    case CONN_CONNECTING: want = LOOP_READ | LOOP_WRITE; break;
    case CONN_HANDSHAKE:
        if (!c->waits) want = c->blocked ? LOOP_WRITE : LOOP_READ;
        break;
    case CONN_OPEN:
        if (conn_may_read(c) || c->write_wants_read) want = LOOP_READ;
        if (c->blocked || c->read_wants_write) want |= LOOP_WRITE;
        break;
    case CONN_FLUSHING:
        if (c->blocked) want = LOOP_WRITE;
        if (c->write_wants_read) want |= LOOP_READ;
        break;
    case CONN_LINGERING: want = LOOP_READ; break;
    case CONN_CLOSED: return;
    }
    loop_io_want(&c->io, want);
}

/* --- handshake -----------------------------------------------------------------------------------
 */

static void conn_opened(struct conn *c)
{
    c->state = CONN_OPEN;
    c->blocked = false;
    loop_timer_stop(&c->timer);
    if (c->info && c->transport && c->type->info) c->info->tls = c->type->info(c->transport);
    if (c->out.len || c->end_queued) conn_later_add(c, CONN_LATER_FLUSH);
    if (transport_pending(c)) conn_later_add(c, CONN_LATER_READ);
    conn_update_want(c);
    bool told = c->told_up; /* StartTLS: it was up before */
    c->told_up = true;
    if (!told && c->events->on_connected) c->events->on_connected(c, c->owner);
}

void conn_begin(struct conn *c)
{
    int r = 0;
    if (c->transport && c->type->handshake) r = c->type->handshake(c->transport);
    if (r == TRANSPORT_ERROR) {
        if (c->type->failure) conn_set_failure(c, c->type->failure(c->transport));
        if (c->info && c->type->info) c->info->tls = c->type->info(c->transport);
        conn_end_with(c, CONN_END_TRANSPORT);
        return;
    }
    if (r == 0) {
        conn_opened(c);
        return;
    }
    c->state = CONN_HANDSHAKE;
    c->blocked = r == TRANSPORT_WANT_WRITE;
    c->waits = r == TRANSPORT_WAIT;
    if (c->waits) conn_watch_end(c);
    conn_update_want(c);
}

void conn_handshake_go(struct conn *c)
{
    if (c->state != CONN_HANDSHAKE || !c->waits) return;
    c->waits = false;
    conn_begin(c);
}

/* --- reading
 * -------------------------------------------------------------------------------------- */

/* Envoy keeps in the gauge what was buffered right after the last read. */
static void conn_count_read(struct conn *c, size_t n)
{
    c->rx += n;
    const struct conn_byte_stats *s = c->stats;
    if (!s) return;
    stat_add(s->group, s->rx_total, n);
    if (c->in.len > c->rx_buffered) stat_add(s->group, s->rx_buffered, c->in.len - c->rx_buffered);
    if (c->in.len < c->rx_buffered) stat_sub(s->group, s->rx_buffered, c->rx_buffered - c->in.len);
    c->rx_buffered = c->in.len;
}

void conn_count_written(struct conn *c, size_t n)
{
    c->tx += n;
    const struct conn_byte_stats *s = c->stats;
    if (!s) return;
    stat_add(s->group, s->tx_total, n);
    if (c->out.len > c->tx_buffered)
        stat_add(s->group, s->tx_buffered, c->out.len - c->tx_buffered);
    if (c->out.len < c->tx_buffered)
        stat_sub(s->group, s->tx_buffered, c->tx_buffered - c->out.len);
    c->tx_buffered = c->out.len;
}

void conn_show(struct conn *c)
{
    c->events->on_read(c, c->owner, &c->in, c->end_seen);
    if (c->in.len == 0) buf_release(&c->in);
    conn_update_want(c);
}

/* Several slices by one call, where much is expected: the last read filled what it was offered. */
static ssize_t conn_read_bulk(struct conn *c, bool *full)
{
    size_t left = c->limit - c->in.len;
    struct buf_room room;
    buf_room_open(&c->in, &room, left < READ_BULK ? left : READ_BULK);
    size_t asked = 0;
    for (int i = 0; i < room.count; i++)
        asked += room.iov[i].iov_len;
    ssize_t n = conn_raw_result(readv(c->io.fd, room.iov, room.count));
    buf_room_close(&c->in, &room, n > 0 ? (size_t)n : 0);
    *full = n > 0 && (size_t)n == asked;
    return n;
}

static ssize_t conn_read_slice(struct conn *c, bool *full)
{
    size_t room;
    void *to = buf_reserve(&c->in, BUF_SLICE_SIZE, &room);
    ssize_t n = transport_read(c, to, room);
    buf_commit(&c->in, n > 0 ? (size_t)n : 0);
    *full = n > 0 && (c->transport ? transport_pending(c) : (size_t)n == room);
    return n;
}

/* Reads until the socket (or the transport) is empty, the buffer is full or it is another's turn.
 * Gives back what the last read said; *got: bytes read. */
static ssize_t conn_fill(struct conn *c, size_t *got)
{
    for (int round = 0; round < READ_ROUNDS && c->in.len < c->limit; round++) {
        bool full;
        bool bulk = !c->transport && (c->bulk || round > 0);
        ssize_t n = bulk ? conn_read_bulk(c, &full) : conn_read_slice(c, &full);
        if (n <= 0) return n;
        *got += (size_t)n;
        if (!full) return TRANSPORT_WANT_READ;
    }
    if (transport_pending(c)) conn_later_add(c, CONN_LATER_READ);
    return TRANSPORT_WANT_READ;
}

void conn_read(struct conn *c)
{
    if (!conn_may_read(c)) {
        conn_update_want(c);
        return;
    }
    size_t got = 0;
    c->read_wants_write = false;
    ssize_t last = conn_relay_fits(c) ? conn_relay_read(c, &got) : conn_fill(c, &got);
    c->bulk = got >= CONN_BULK_LEAST;
    if (last == 0) c->end_seen = true;
    if (last == TRANSPORT_WANT_WRITE) c->read_wants_write = true;
    if (got) conn_count_read(c, got);
    enum conn_end why = CONN_END_RESET;
    if (last == TRANSPORT_ERROR && c->transport) {
        why = CONN_END_TRANSPORT;
        if (c->type->failure) conn_set_failure(c, c->type->failure(c->transport));
    }
    if ((got && c->in.len) || last == 0) {
        conn_show(c);
    } else {
        if (c->in.len == 0) buf_release(&c->in);
        conn_update_want(c);
    }
    if (!conn_is_open(c)) return;
    if (last == TRANSPORT_ERROR)
        conn_end_with(c, why);
    else if (c->write_broken && (!got || c->end_seen))
        conn_end_with(c, CONN_END_RESET);
}

/* --- writing
 * -------------------------------------------------------------------------------------- */

/* The peer does not listen any more. What it said before is still read, then the connection ends.
 */
static void conn_write_failed(struct conn *c, bool may_end)
{
    buf_release(&c->out);
    conn_count_written(c, 0);
    c->blocked = false;
    c->write_broken = true;
    if (c->state != CONN_OPEN) {
        conn_end_with(c, CONN_END_RESET);
        return;
    }
    c->fail_as = CONN_END_RESET;
    if (c->transport && c->type->failure) {
        struct str text = c->type->failure(c->transport);
        if (text.len) conn_set_failure(c, text);
    }
    if (may_end && conn_may_read(c)) {
        conn_read(c);
        return;
    }
    if (may_end)
        conn_end_with(c, CONN_END_RESET);
    else
        conn_later_add(c, CONN_LATER_FAIL);
}

/* Our end after the last byte. */
static void conn_send_end(struct conn *c)
{
    if (c->end_sent) return;
    if (c->transport && c->type->shutdown) {
        int r = c->type->shutdown(c->transport);
        if (r == TRANSPORT_WANT_WRITE) {
            c->blocked = true;
            return;
        }
    }
    c->end_sent = true;
    (void)shutdown(c->io.fd,
                   SHUT_WR); /* fails only when the peer is gone, which reading will tell */
}

/* Writes what the socket takes. False: the write side broke. */
static bool conn_write_out(struct conn *c)
{
    c->blocked = c->write_wants_read = false;
    while (c->out.len) {
        struct iovec iov[IOV_MOST];
        int count = buf_iov(&c->out, iov, IOV_MOST);
        size_t asked = 0;
        for (int i = 0; i < count; i++)
            asked += iov[i].iov_len;
        ssize_t n = transport_writev(c, iov, count);
        if (n == TRANSPORT_ERROR || n == 0) return false;
        if (n == TRANSPORT_WANT_READ) c->write_wants_read = true;
        if (n == TRANSPORT_WANT_WRITE) c->blocked = true;
        if (n < 0) return true;
        buf_drain(&c->out, (size_t)n);
        conn_count_written(c, (size_t)n);
        if (!c->transport && (size_t)n < asked) {
            c->blocked = true; /* the socket's buffer is full: the next call would say EAGAIN */
            return true;
        }
    }
    return true;
}

static void conn_written(struct conn *c, size_t before)
{
    if (c->state == CONN_FLUSHING) {
        if (before > c->out.len && c->delayed_us)
            loop_timer_start(c->worker->loop, &c->timer, c->delayed_us, c->timer.fire);
        if (c->out.len == 0) conn_linger(c);
        return;
    }
    if (c->above && c->out.len <= c->limit / 2) {
        c->above = false;
        if (c->events->on_watermark) c->events->on_watermark(c, c->owner, false);
        if (!conn_is_open(c)) return;
    }
    if (c->out.len) return;
    if (c->end_queued) conn_send_end(c);
    if (!c->flush_untold) return;
    c->flush_untold = false;
    if (c->events->on_flushed) c->events->on_flushed(c, c->owner);
}

void conn_flush(struct conn *c, bool may_end)
{
    if (c->write_broken || c->state == CONN_CONNECTING || c->state == CONN_HANDSHAKE ||
        c->state == CONN_CLOSED)
        return;
    size_t before = c->out.len;
    if (!conn_write_out(c)) {
        conn_write_failed(c, may_end);
        return;
    }
    if (may_end)
        conn_written(c, before);
    else
        conn_later_add(c, CONN_LATER_FLUSH); /* callbacks wait for the end of the turn */
    conn_update_want(c);
}

static void conn_queue(struct conn *c, struct buf *data, bool end)
{
    if (data->len) c->flush_untold = true;
    buf_move(&c->out, data);
    if (end) c->end_queued = true;
    if (c->write_broken) {
        buf_release(&c->out);
        return;
    }
    if (c->out.len > c->limit && !c->above) {
        if (!c->blocked) conn_flush(c, false);
        if (c->out.len > c->limit) {
            c->above = true;
            if (c->events->on_watermark) c->events->on_watermark(c, c->owner, true);
        }
        return;
    }
    if (c->blocked || c->state != CONN_OPEN) return;
    if (c->out.len >= WRITE_SOON)
        conn_flush(c, false);
    else
        conn_later_add(c, CONN_LATER_FLUSH);
}

void conn_write(struct conn *c, struct buf *data, bool end)
{
    if (!conn_is_open(c) || c->end_queued) {
        buf_release(data);
        return;
    }
    if (c->on_write && !c->on_write(c->owner, data, end)) return;
    conn_queue(c, data, end);
}

void conn_write_str(struct conn *c, struct str bytes)
{
    struct buf b = {0};
    buf_append_str(&b, bytes);
    conn_write(c, &b, false);
}

void conn_write_filtered(struct conn *c, struct buf *data, bool end)
{
    if (conn_is_open(c))
        conn_queue(c, data, end);
    else
        buf_release(data);
}
