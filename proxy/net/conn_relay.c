/* Bytes from one raw connection to another with nothing between them: a little is copied through
 * the stack, much is spliced inside the kernel, through the worker's pipe. Nothing stays behind
 * when a read ends; what the other end did not take goes to the input and so the usual way, so that
 * queues, watermarks and ends have one place (conn_io.c). */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/must.h"
#include "proxy/api/transport_socket.h"
#include "proxy/net/conn_internal.h"

enum {
    RELAY_PIPE_SIZE = 256 * 1024,
    RELAY_COPY_MOST =
        CONN_BULK_LEAST /* a read that fills it counts as much: the next one splices */
};

void conn_relay_start(struct conn_relay *r, struct conn *a, struct conn *b)
{
    if (a->transport || b->transport || a->relay || b->relay) return;
    if (!conn_is_open(a) || !conn_is_open(b)) return;
    r->ends[0] = a;
    r->ends[1] = b;
    a->relay = b->relay = r;
}

void conn_relay_stop(struct conn_relay *r)
{
    for (int i = 0; i < 2; i++) {
        if (r->ends[i]) r->ends[i]->relay = NULL;
        r->ends[i] = NULL;
    }
}

static struct conn *relay_other(const struct conn *c)
{
    return c->relay->ends[c->relay->ends[0] == c];
}

bool conn_relay_fits(const struct conn *c)
{
    if (!c->relay || c->in.len) return false;
    const struct conn *to = relay_other(c);
    return to->state == CONN_OPEN && to->out.len == 0 && !to->blocked && !to->end_queued &&
           !to->write_broken;
}

/* Made at first use. NULL: out of descriptors, or the kernel does not. */
static const int *relay_pipe(struct worker *w)
{
    struct net_worker *n = net_worker(w);
    if (n->relay_pipe[0] >= 0) return n->relay_pipe;
    if (pipe2(n->relay_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        n->relay_pipe[0] = n->relay_pipe[1] = -1;
        return NULL;
    }
    (void)fcntl(n->relay_pipe[1], F_SETPIPE_SZ, RELAY_PIPE_SIZE); /* else it stays smaller */
    return n->relay_pipe;
}

void relay_worker_release(struct net_worker *n)
{
    for (int i = 0; i < 2; i++) {
        if (n->relay_pipe[i] >= 0) (void)close(n->relay_pipe[i]);
        n->relay_pipe[i] = -1;
    }
}

static ssize_t relay_splice(int from, int to, size_t most)
{
    ssize_t n;
    do
        n = splice(from, NULL, to, NULL, most, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    while (n < 0 && errno == EINTR);
    return n;
}

/* What is left in the pipe goes to the input. */
static void relay_take_back(struct conn *c, int pipe, size_t left)
{
    while (left) {
        size_t room;
        void *to = buf_reserve(&c->in, left, &room);
        ssize_t n = read(pipe, to, room);
        if (n < 0 && errno == EINTR) n = 0;
        must(n >= 0); /* it holds `left` bytes, and nobody else reads them */
        buf_commit(&c->in, (size_t)n);
        left -= (size_t)n;
    }
}

/* Writes to the other end what the pipe holds. Gives back how much it took. */
static size_t relay_push(struct conn *to, int pipe, size_t n)
{
    size_t moved = 0;
    while (moved < n) {
        ssize_t w = relay_splice(pipe, to->io.fd, n - moved);
        if (w > 0) {
            moved += (size_t)w;
            continue;
        }
        /* Another error is met again by the write of what is taken back. */
        to->blocked = w < 0 && errno == EAGAIN;
        break;
    }
    conn_count_written(to, moved);
    conn_update_want(to);
    return moved;
}

static bool relay_unable(int error)
{
    return error == EINVAL || error == ENOSYS || error == EPERM || error == EOPNOTSUPP;
}

/* For small reads the pipe's two calls cost more than the copy. A write that fails is met again,
 * and told, when what was taken back is written. */
static ssize_t relay_copy(struct conn *c, size_t *got)
{
    char bytes[RELAY_COPY_MOST];
    size_t most = c->limit < sizeof bytes ? c->limit : sizeof bytes;
    ssize_t n = recv(c->io.fd, bytes, most, 0);
    if (n <= 0) return conn_raw_result(n);
    *got = (size_t)n;
    struct conn *to = relay_other(c);
    ssize_t sent = send(to->io.fd, bytes, (size_t)n, MSG_NOSIGNAL);
    size_t moved = sent > 0 ? (size_t)sent : 0;
    to->blocked = sent >= 0 ? moved < (size_t)n : errno == EAGAIN;
    conn_count_written(to, moved);
    conn_update_want(to);
    if (moved < (size_t)n) buf_append(&c->in, bytes + moved, (size_t)n - moved);
    if (moved) c->relay->moved(c->relay, c, moved);
    return TRANSPORT_WANT_READ;
}

static ssize_t relay_splice_read(struct conn *c, size_t *got)
{
    struct conn_relay *r = c->relay;
    const int *pipe = relay_pipe(c->worker);
    size_t most = c->limit < RELAY_PIPE_SIZE ? c->limit : RELAY_PIPE_SIZE;
    ssize_t n = pipe ? relay_splice(c->io.fd, pipe[1], most) : TRANSPORT_WANT_READ;
    if (!pipe || (n < 0 && relay_unable(errno))) {
        conn_relay_stop(r); /* the socket is still readable: the next turn reads as ever */
        return TRANSPORT_WANT_READ;
    }
    if (n <= 0) return conn_raw_result(n);
    *got = (size_t)n;
    struct conn *to = relay_other(c);
    size_t moved = relay_push(to, pipe[0], (size_t)n);
    relay_take_back(c, pipe[0], (size_t)n - moved);
    if (moved) r->moved(r, c, moved);
    return TRANSPORT_WANT_READ;
}

ssize_t conn_relay_read(struct conn *c, size_t *got)
{
    return c->bulk ? relay_splice_read(c, got) : relay_copy(c, got);
}
