/* Connections over loopback: connecting, reading, writing with watermarks, half-closes, pauses, and
 * the three ways to close. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/must.h"
#include "proxy/net/conn.h"
#include "proxy/net/conn_internal.h"
#include "proxy/net/socket.h"

/* A worker without a thread. */
struct world {
    struct runtime rt;
    struct worker w;
};

static void world_init(struct world *x)
{
    *x = (struct world){0};
    x->rt.concurrency = 1;
    x->w.rt = &x->rt;
    x->w.loop = loop_new();
    x->w.scratch = arena_new("scratch", 0);
    rng_init(&x->w.rng, 1);
}

static void world_release(struct world *x)
{
    for (int i = 0; i < 20; i++)
        loop_turn(x->w.loop, false);
    struct net_worker *n = x->w.slot[WORKER_NET];
    if (n) {
        assert_true(list_empty(&n->conns));
        relay_worker_release(n);
        mem_free(n);
    }
    loop_free(&x->w.loop);
    arena_free(&x->w.scratch);
    arena_thread_release();
    buf_thread_release();
}

/* What an owner saw. */
struct seen {
    int connected, closed, flushed;
    int above, below;
    bool end;
    enum conn_end why;
    struct buf got;
    struct conn *conn;
    char failure[100];
    bool keep; /* leave bytes in the buffer */
    bool close_on_read;
};

static void on_connected(struct conn *c, void *owner)
{
    (void)c;
    ((struct seen *)owner)->connected++;
}

static void on_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    struct seen *s = owner;
    if (!s->keep) buf_move(&s->got, in);
    s->end |= end;
    if (s->close_on_read) conn_close(c, CONN_CLOSE_NOW);
}

static void on_watermark(struct conn *c, void *owner, bool above)
{
    (void)c;
    struct seen *s = owner;
    if (above)
        s->above++;
    else
        s->below++;
}

static void on_flushed(struct conn *c, void *owner)
{
    (void)c;
    ((struct seen *)owner)->flushed++;
}

static void on_close(struct conn *c, void *owner, enum conn_end why)
{
    struct seen *s = owner;
    struct str failure = conn_failure(c);
    assert_true(failure.len < sizeof(s->failure));
    if (failure.len) memcpy(s->failure, failure.ptr, failure.len);
    s->closed++;
    s->why = why;
}

static const struct conn_events events = {on_connected, on_read, on_watermark, on_flushed,
                                          on_close};

static int listen_any(struct addr *a)
{
    assert_true(addr_parse(STR("127.0.0.1:0"), a));
    struct socket_listen how = {.addr = a};
    int fd = socket_listen(&how);
    assert_true(fd >= 0);
    assert_true(socket_local(fd, a));
    return fd;
}

/* The peer is a plain blocking socket of the test. */
static struct conn *pair(struct world *x, struct seen *s, size_t limit, int *peer)
{
    struct addr a;
    int listener = listen_any(&a);
    const struct conn_limits limits = {.buffer_limit = limit};
    struct conn *c = conn_connect(&x->w, &a, NULL, NULL, NULL, NULL, 1000000, &limits, &events, s);
    s->conn = c;
    for (int i = 0; i < 100 && !s->connected; i++)
        loop_turn(x->w.loop, true);
    assert_int_equal(s->connected, 1);
    *peer = -1;
    for (int i = 0; i < 100 && *peer < 0; i++)
        *peer = accept(listener, NULL, NULL);
    assert_true(*peer >= 0);
    (void)close(listener);
    return c;
}

static void turns(struct world *x, int n)
{
    for (int i = 0; i < n; i++) {
        loop_turn(x->w.loop, false);
        (void)usleep(1000);
    }
}

static void bytes_go_both_ways(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {0};
    int peer;
    world_init(&x);
    struct conn *c = pair(&x, &s, 0, &peer);
    conn_write_str(c, STR("hello"));
    conn_write_str(c, STR(" world"));
    assert_int_equal(conn_write_queued(c), 11);
    turns(&x, 2);
    assert_int_equal(conn_write_queued(c), 0);
    assert_int_equal(s.flushed, 1);
    char in[32];
    assert_int_equal(recv(peer, in, sizeof(in), 0), 11); /* one write */
    assert_int_equal(send(peer, "answer", 6, 0), 6);
    turns(&x, 2);
    assert_int_equal(buf_len(&s.got), 6);
    assert_null(c->in.head); /* an idle connection holds no buffer */
    assert_int_equal(conn_bytes_read(c), 6);
    assert_int_equal(conn_bytes_written(c), 11);
    conn_close(c, CONN_CLOSE_NOW);
    assert_int_equal(s.closed, 1);
    assert_int_equal(s.why, CONN_END_LOCAL);
    buf_release(&s.got);
    (void)close(peer);
    world_release(&x);
}

static void refused_and_silent_peers_are_told(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {0};
    struct addr a;
    world_init(&x);
    (void)close(listen_any(&a));
    (void)conn_connect(&x.w, &a, NULL, NULL, NULL, NULL, 1000000, NULL, &events, &s);
    assert_int_equal(s.closed, 0); /* never inside the call */
    turns(&x, 1);
    assert_int_equal(s.closed, 1);
    assert_int_equal(s.why, CONN_END_CONNECT_FAILED);
    assert_string_equal(s.failure, "delayed connect error: Connection refused");
    /* A Unix path that does not exist fails at once, and is told later all the same. */
    struct seen t = {0};
    assert_true(addr_unix(STR("/nonexistent/skiff.sock"), &a));
    (void)conn_connect(&x.w, &a, NULL, NULL, NULL, NULL, 0, NULL, &events, &t);
    assert_int_equal(t.closed, 0);
    turns(&x, 1);
    assert_int_equal(t.why, CONN_END_CONNECT_FAILED);
    world_release(&x);
}

static void a_slow_peer_raises_the_watermark(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {0};
    int peer;
    world_init(&x);
    struct conn *c = pair(&x, &s, 64 * 1024, &peer);
    char chunk[8192] = {0};
    size_t sent = 0;
    while (!s.above && sent < 64u * 1024 * 1024) {
        conn_write_str(c, str_make(chunk, sizeof(chunk)));
        sent += sizeof(chunk);
        loop_turn(x.w.loop, false);
    }
    assert_int_equal(s.above, 1);
    assert_true(conn_above_watermark(c));
    assert_true(conn_write_queued(c) < 128 * 1024);
    size_t got = 0;
    while (got < sent) {
        char in[65536];
        ssize_t n = recv(peer, in, sizeof(in), MSG_DONTWAIT);
        if (n > 0) got += (size_t)n;
        loop_turn(x.w.loop, false);
    }
    assert_int_equal(s.below, 1);
    assert_false(conn_above_watermark(c));
    conn_close(c, CONN_CLOSE_NOW);
    (void)close(peer);
    world_release(&x);
}

static void a_paused_connection_reads_nothing(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {0};
    int peer;
    world_init(&x);
    struct conn *c = pair(&x, &s, 0, &peer);
    conn_pause_read(c, true);
    conn_pause_read(c, true);
    assert_int_equal(send(peer, "abc", 3, 0), 3);
    turns(&x, 3);
    assert_int_equal(buf_len(&s.got), 0);
    conn_pause_read(c, false);
    turns(&x, 3);
    assert_int_equal(buf_len(&s.got), 0);
    conn_pause_read(c, false);
    turns(&x, 3);
    assert_int_equal(buf_len(&s.got), 3);
    conn_close(c, CONN_CLOSE_NOW);
    buf_release(&s.got);
    (void)close(peer);
    world_release(&x);
}

static void unread_bytes_are_bounded_and_shown_again(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {.keep = true};
    int peer;
    world_init(&x);
    struct conn *c = pair(&x, &s, 32 * 1024, &peer);
    char chunk[16384] = {1};
    ssize_t sent = 0, n;
    for (int i = 0; i < 40; i++) {
        n = send(peer, chunk, sizeof(chunk), MSG_DONTWAIT);
        if (n > 0) sent += n;
        loop_turn(x.w.loop, false);
    }
    assert_true(buf_len(conn_input(c)) >= 32 * 1024);
    assert_true(buf_len(conn_input(c)) <= 64 * 1024);
    s.keep = false;
    conn_read_again(c);
    for (int i = 0; i < 1000 && buf_len(&s.got) < (size_t)sent; i++)
        loop_turn(x.w.loop, false);
    assert_int_equal(buf_len(&s.got), sent);
    conn_close(c, CONN_CLOSE_NOW);
    buf_release(&s.got);
    (void)close(peer);
    world_release(&x);
}

static void each_side_may_end_on_its_own(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {0};
    int peer;
    world_init(&x);
    struct conn *c = pair(&x, &s, 0, &peer);
    struct buf last = {0};
    buf_append(&last, "bye", 3);
    conn_write(c, &last, true);
    turns(&x, 2);
    char in[8];
    assert_int_equal(recv(peer, in, sizeof(in), 0), 3);
    assert_int_equal(recv(peer, in, sizeof(in), 0), 0);
    assert_int_equal(send(peer, "late", 4, 0), 4);
    (void)shutdown(peer, SHUT_WR);
    turns(&x, 3);
    assert_int_equal(buf_len(&s.got), 4);
    assert_true(s.end);
    assert_int_equal(s.closed, 0);
    conn_close(c, CONN_CLOSE_NOW);
    buf_release(&s.got);
    (void)close(peer);
    world_release(&x);
}

static void a_flushing_close_delivers_all_and_survives_unread_bytes(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {.keep = true};
    int peer;
    world_init(&x);
    struct conn *c = pair(&x, &s, 0, &peer);
    char chunk[65536] = {2};
    for (int i = 0; i < 40; i++)
        conn_write_str(c, str_make(chunk, sizeof(chunk)));
    assert_int_equal(send(peer, "unread by us", 12, 0), 12);
    conn_close(c, CONN_CLOSE_FLUSH);
    assert_int_equal(s.closed, 1);
    size_t got = 0;
    ssize_t n = 0;
    for (int i = 0; i < 100000; i++) {
        char in[65536];
        loop_turn(x.w.loop, false);
        n = recv(peer, in, sizeof(in), MSG_DONTWAIT);
        if (n > 0)
            got += (size_t)n;
        else if (n == 0 || errno != EAGAIN)
            break;
    }
    assert_int_equal(got, 40 * sizeof(chunk));
    assert_int_equal(n, 0); /* an orderly end, no reset */
    (void)close(peer);
    turns(&x, 5);
    world_release(&x);
}

static void a_reset_close_sends_rst(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {0};
    int peer;
    world_init(&x);
    struct conn *c = pair(&x, &s, 0, &peer);
    conn_close(c, CONN_CLOSE_RESET);
    turns(&x, 2);
    char in[8];
    assert_int_equal(recv(peer, in, sizeof(in), 0), -1);
    assert_int_equal(errno, ECONNRESET);
    (void)close(peer);
    world_release(&x);
}

static void a_reset_by_the_peer_is_told_once(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {0};
    int peer;
    world_init(&x);
    struct conn *c = pair(&x, &s, 0, &peer);
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    (void)close(peer);
    conn_write_str(c, STR("x"));
    turns(&x, 3);
    assert_int_equal(s.closed, 1);
    assert_int_equal(s.why, CONN_END_RESET);
    world_release(&x);
}

static void closing_inside_a_callback_is_fine(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {.close_on_read = true};
    int peer;
    world_init(&x);
    (void)pair(&x, &s, 0, &peer);
    assert_int_equal(send(peer, "x", 1, 0), 1);
    turns(&x, 3);
    assert_int_equal(s.closed, 1);
    buf_release(&s.got);
    (void)close(peer);
    world_release(&x);
}

static void a_paused_client_that_leaves_is_noticed(void **state)
{
    (void)state;
    struct world x;
    struct seen s = {0};
    int fds[2];
    world_init(&x);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct conn_info *info = mem_alloc(sizeof(*info));
    struct conn *c = conn_accept(&x.w, fds[0], info, NULL, 0, NULL, &events, &s);
    turns(&x, 1);
    assert_int_equal(s.connected, 1);
    conn_pause_read(c, true);
    assert_int_equal(send(fds[1], "unread", 6, 0), 6);
    (void)close(fds[1]);
    for (int i = 0; i < 600 && !s.closed; i++)
        turns(&x, 1);
    assert_int_equal(s.closed, 1);
    world_release(&x);
}

/* --- relayed pairs --- */

/* What a proxy does: bytes of each go to the other, a full queue pauses the other. */
struct proxied {
    struct conn_relay relay;
    struct seen seen[2];
    struct proxied_side {
        struct proxied *all;
        int index;
    } side[2];
    size_t moved[2];
    bool ended[2];
};

static void proxied_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    (void)c;
    struct proxied_side *s = owner;
    s->all->ended[s->index] |= end;
    conn_write(s->all->seen[1 - s->index].conn, in, end);
}

static void proxied_watermark(struct conn *c, void *owner, bool above)
{
    (void)c;
    struct proxied_side *s = owner;
    conn_pause_read(s->all->seen[1 - s->index].conn, above);
}

static void proxied_close(struct conn *c, void *owner, enum conn_end why)
{
    struct proxied_side *s = owner;
    on_close(c, &s->all->seen[s->index], why);
}

static const struct conn_events proxied_events = {
    .on_read = proxied_read, .on_watermark = proxied_watermark, .on_close = proxied_close};

static void proxied_moved(struct conn_relay *r, struct conn *from, size_t n)
{
    struct proxied *p = CONTAINER_OF(r, struct proxied, relay);
    p->moved[from == p->seen[1].conn] += n;
}

static void proxied_begin(struct world *x, struct proxied *p, int *peers)
{
    *p = (struct proxied){.relay = {.moved = proxied_moved}};
    for (int i = 0; i < 2; i++) {
        p->side[i] = (struct proxied_side){p, i};
        (void)pair(x, &p->seen[i], 65536, &peers[i]);
        conn_set_owner(p->seen[i].conn, &proxied_events, &p->side[i]);
    }
    conn_relay_start(&p->relay, p->seen[0].conn, p->seen[1].conn);
}

static unsigned char pattern(size_t at)
{
    return (unsigned char)(at * 31 + (at >> 8) * 7);
}

enum { MUCH = 6 * 1024 * 1024, PART = 50000 };

static size_t send_some(int fd, size_t sent)
{
    static unsigned char out[PART];
    size_t n = MUCH - sent < PART ? MUCH - sent : PART;
    for (size_t i = 0; i < n; i++)
        out[i] = pattern(sent + i);
    ssize_t r = n ? send(fd, out, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    return r > 0 ? (size_t)r : 0;
}

static size_t take_some(int fd, size_t most, size_t had)
{
    static unsigned char in[PART];
    ssize_t r = recv(fd, in, most, MSG_DONTWAIT);
    for (ssize_t i = 0; i < r; i++)
        assert_int_equal(in[i], pattern(had + (size_t)i));
    return r > 0 ? (size_t)r : 0;
}

/* The reader is quick for a while and then slow, so that bytes pass in the kernel, are taken back
 * from the pipe, queue up, and pause the sender. */
static void much_passes_whole_and_in_order(void **state)
{
    (void)state;
    struct world x;
    struct proxied p;
    int peers[2];
    world_init(&x);
    proxied_begin(&x, &p, peers);
    size_t sent = 0, got = 0;
    for (int i = 0; i < 200000 && got < MUCH; i++) {
        bool quick = got < MUCH / 3 || got > MUCH / 3 * 2;
        sent += send_some(peers[0], sent);
        loop_turn(x.w.loop, false);
        if (quick || i % 4 == 0) got += take_some(peers[1], quick ? PART : 7000, got);
    }
    assert_int_equal(got, MUCH);
    assert_true(p.moved[0] > PART);
    assert_int_equal(conn_bytes_read(p.seen[0].conn), MUCH);
    assert_int_equal(conn_bytes_written(p.seen[1].conn), MUCH);
    (void)shutdown(peers[0], SHUT_WR);
    char one;
    for (int i = 0; i < 100 && !p.ended[0]; i++)
        turns(&x, 1);
    assert_int_equal(recv(peers[1], &one, 1, 0), 0);
    conn_close(p.seen[1].conn, CONN_CLOSE_NOW); /* the relay ends with either */
    assert_null(p.seen[0].conn->relay);
    conn_close(p.seen[0].conn, CONN_CLOSE_NOW);
    (void)close(peers[0]);
    (void)close(peers[1]);
    world_release(&x);
}

/* A little never meets the buffers: it is written in the turn that read it, whoever began. */
static void a_little_passes_at_once(void **state)
{
    (void)state;
    struct world x;
    struct proxied p;
    int peers[2];
    world_init(&x);
    proxied_begin(&x, &p, peers);
    static const char ask[] = "question", answer[] = "the answer";
    for (int i = 0; i < 3; i++) {
        char got[32];
        assert_int_equal(send(peers[0], ask, sizeof ask, 0), sizeof ask);
        loop_turn(x.w.loop, true);
        assert_int_equal(recv(peers[1], got, sizeof got, MSG_DONTWAIT), sizeof ask);
        assert_string_equal(got, ask);
        assert_int_equal(send(peers[1], answer, sizeof answer, 0), sizeof answer);
        loop_turn(x.w.loop, true);
        assert_int_equal(recv(peers[0], got, sizeof got, MSG_DONTWAIT), sizeof answer);
        assert_string_equal(got, answer);
    }
    assert_int_equal(p.moved[0], 3 * sizeof ask);
    assert_int_equal(p.moved[1], 3 * sizeof answer);
    assert_int_equal(conn_bytes_read(p.seen[0].conn), 3 * sizeof ask);
    assert_int_equal(conn_bytes_written(p.seen[0].conn), 3 * sizeof answer);
    for (int i = 0; i < 2; i++) {
        conn_close(p.seen[i].conn, CONN_CLOSE_NOW);
        (void)close(peers[i]);
    }
    world_release(&x);
}

static void a_relayed_end_that_breaks_is_told(void **state)
{
    (void)state;
    struct world x;
    struct proxied p;
    int peers[2];
    world_init(&x);
    proxied_begin(&x, &p, peers);
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(peers[1], SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    size_t sent = 0, got = 0;
    for (int i = 0; i < 20000 && !p.seen[1].closed; i++) {
        sent += send_some(peers[0], sent);
        loop_turn(x.w.loop, false);
        if (i < 20) got += take_some(peers[1], PART, got);
        if (i == 20) (void)close(peers[1]);
    }
    assert_int_equal(p.seen[1].closed, 1);
    assert_int_equal(p.seen[1].why, CONN_END_RESET);
    assert_int_equal(p.seen[0].closed, 0);
    conn_close(p.seen[0].conn, CONN_CLOSE_NOW);
    (void)close(peers[0]);
    world_release(&x);
}

int main(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as the server does: splice raises it */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_both_ways),
        cmocka_unit_test(refused_and_silent_peers_are_told),
        cmocka_unit_test(a_slow_peer_raises_the_watermark),
        cmocka_unit_test(a_paused_connection_reads_nothing),
        cmocka_unit_test(unread_bytes_are_bounded_and_shown_again),
        cmocka_unit_test(each_side_may_end_on_its_own),
        cmocka_unit_test(a_flushing_close_delivers_all_and_survives_unread_bytes),
        cmocka_unit_test(a_reset_close_sends_rst),
        cmocka_unit_test(a_reset_by_the_peer_is_told_once),
        cmocka_unit_test(closing_inside_a_callback_is_fine),
        cmocka_unit_test(a_paused_client_that_leaves_is_noticed),
        cmocka_unit_test(much_passes_whole_and_in_order),
        cmocka_unit_test(a_little_passes_at_once),
        cmocka_unit_test(a_relayed_end_that_breaks_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
