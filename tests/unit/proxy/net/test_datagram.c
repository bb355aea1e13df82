/* Datagrams over loopback: batches, lengths, source addresses, errors of connected sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/must.h"
#include "proxy/net/conn_internal.h"
#include "proxy/net/datagram.h"
#include "proxy/net/socket.h"

/* A worker without a thread. */
struct world {
    struct runtime rt;
    struct worker w;
    struct datagram_batch batch;
};

static void world_init(struct world *x)
{
    *x = (struct world){0};
    x->rt.concurrency = 1;
    x->w.rt = &x->rt;
    x->w.loop = loop_new();
}

static void world_release(struct world *x)
{
    struct net_worker *n = x->w.slot[WORKER_NET];
    if (n) {
        relay_worker_release(n);
        mem_free(n->datagrams);
        mem_free(n);
    }
    loop_free(&x->w.loop);
    arena_thread_release();
    buf_thread_release();
}

static int bound_to(const char *ip, bool reuse_port, struct addr *out)
{
    assert_true(addr_parse_ip(str_of(ip), 0, out));
    struct socket_listen how = {.addr = out, .datagram = true, .reuse_port = reuse_port};
    int fd = socket_listen(&how);
    assert_true(fd >= 0);
    assert_true(socket_local(fd, out));
    return fd;
}

/* Waits for the first, reads what is there then. */
static int read_some(struct world *x, int fd, size_t most)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    return datagram_read(&x->w, fd, most, &x->batch);
}

static void a_batch_arrives_with_its_senders(void **state)
{
    (void)state;
    struct world x;
    struct addr here, there;
    const struct str words[] = {STR("one"), STR_NONE, STR("three")};
    world_init(&x);
    int a = bound_to("127.0.0.1", false, &here), b = bound_to("127.0.0.1", false, &there);
    assert_int_equal(datagram_send(b, &here, NULL, words, 3), 3);
    size_t seen = 0;
    while (seen < 3) {
        assert_int_equal(read_some(&x, a, 100), 0);
        for (size_t i = 0; i < x.batch.count; i++, seen++) {
            assert_true(str_eq(x.batch.v[i].bytes, words[seen]));
            assert_true(addr_eq(&x.batch.v[i].from, &there));
            assert_false(x.batch.v[i].cut);
            assert_int_equal(x.batch.v[i].to.len, 0); /* a socket of one address is not told */
        }
    }
    assert_int_equal(datagram_read(&x.w, a, 100, &x.batch), -EAGAIN);
    (void)close(a);
    (void)close(b);
    world_release(&x);
}

static void what_is_too_long_is_marked(void **state)
{
    (void)state;
    struct world x;
    struct addr here, there;
    const struct str words[] = {STR("12345"), STR("123456")};
    world_init(&x);
    int a = bound_to("127.0.0.1", false, &here), b = bound_to("127.0.0.1", false, &there);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(datagram_send(b, &here, NULL, &words[i], 1), 1);
        assert_int_equal(read_some(&x, a, 5), 0);
        assert_int_equal(x.batch.count, 1);
        assert_int_equal(x.batch.v[0].bytes.len, 5);
        assert_int_equal(x.batch.v[0].cut, i == 1);
    }
    (void)close(a);
    (void)close(b);
    world_release(&x);
}

/* A socket of any address learns to which one it was spoken, and answers from there. */
static void any_address_answers_from_the_one_asked(void **state)
{
    (void)state;
    struct world x;
    struct addr any, there, asked;
    const struct str word = STR("x");
    world_init(&x);
    int a = bound_to("0.0.0.0", false, &any), b = bound_to("127.0.0.1", false, &there);
    assert_true(addr_parse_ip(STR("127.0.0.9"), addr_port(&any), &asked));
    assert_int_equal(datagram_send(b, &asked, NULL, &word, 1), 1);
    assert_int_equal(read_some(&x, a, 100), 0);
    struct addr to = x.batch.v[0].to;
    addr_set_port(&to, addr_port(&any));
    assert_true(addr_eq(&to, &asked));
    assert_int_equal(datagram_send(a, &there, &to, &word, 1), 1);
    assert_int_equal(read_some(&x, b, 100), 0);
    assert_true(addr_eq(&x.batch.v[0].from, &asked));
    (void)close(a);
    (void)close(b);
    world_release(&x);
}

static void a_closed_port_is_told_to_a_connected_socket(void **state)
{
    (void)state;
    struct world x;
    struct addr gone, here;
    const struct str word = STR("x");
    world_init(&x);
    (void)close(bound_to("127.0.0.1", false, &gone));
    int a = bound_to("127.0.0.1", false, &here);
    assert_int_equal(connect(a, &gone.sa.any, gone.len), 0);
    assert_int_equal(datagram_send(a, NULL, NULL, &word, 1), 1);
    assert_int_equal(read_some(&x, a, 100), -ECONNREFUSED);
    (void)close(a);
    world_release(&x);
}

/* The kernel would give one port to two sockets that have SO_REUSEPORT when they ask for any. */
static void a_chosen_port_is_shared_only_on_demand(void **state)
{
    (void)state;
    enum { MANY = 200 };
    struct addr v[MANY];
    int fds[MANY];
    for (size_t i = 0; i < MANY; i++) {
        fds[i] = bound_to("127.0.0.1", true, &v[i]);
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(addr_port(&v[i]), addr_port(&v[k]));
    }
    struct socket_listen again = {.addr = &v[0], .datagram = true, .reuse_port = true};
    int second = socket_listen(&again);
    assert_true(second >= 0);
    again.reuse_port = false;
    assert_int_equal(socket_listen(&again), -EADDRINUSE);
    (void)close(second);
    for (size_t i = 0; i < MANY; i++)
        (void)close(fds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_arrives_with_its_senders),
        cmocka_unit_test(what_is_too_long_is_marked),
        cmocka_unit_test(any_address_answers_from_the_one_asked),
        cmocka_unit_test(a_closed_port_is_told_to_a_connected_socket),
        cmocka_unit_test(a_chosen_port_is_shared_only_on_demand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
