/* Listeners end to end with two workers: accepting, updates that keep sockets and unchanged chains,
 * removal, drain, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "proxy/api/network_filter.h"
#include "proxy/net/listener_manager.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

enum { WORKERS = 2 };

/* --- a filter that answers with the first letter of its configuration and what it got
 * ---------------------- */

struct letter_filter {
    struct network_filter base;
};

static enum net_flow letter_on_read(struct network_filter *f, struct buf *data, bool end)
{
    struct buf answer = {0};
    if (buf_len(data)) {
        buf_append(&answer, f->conf, 1);
        buf_move(&answer, data);
        conn_write(f->conn, &answer, false);
    }
    if (end) conn_close(f->conn, CONN_CLOSE_FLUSH);
    return NET_CONTINUE;
}

static void letter_on_drain(struct network_filter *f)
{
    if (network_filter_draining(f)) conn_close(f->conn, CONN_CLOSE_FLUSH);
}

static const struct network_filter_type letter_type = {
    .ext = {.name = "test.letter"},
    .instance_size = sizeof(struct letter_filter),
    .terminal = true,
    .on_read = letter_on_read,
    .on_drain = letter_on_drain,
};

/* --- configuration by hand
 * ------------------------------------------------------------------------------------ */

static struct filter_chain_conf *chain_of(const char *letter)
{
    struct filter_chain_conf *c = filter_chain_conf_new();
    struct network_filter_conf *f = ARENA_NEW(c->obj.arena, struct network_filter_conf);
    f->type = &letter_type;
    f->conf = letter;
    c->filters = f;
    c->filter_count = 1;
    c->obj.hash = (uint64_t)letter[0];
    return c;
}

static struct listener_conf *listener_of(const char *name, const char *address, uint64_t base_hash,
                                         const char *letter)
{
    struct listener_conf *l = listener_conf_new(arena_new("listener", 0));
    struct listener_base *b = listener_base_new();
    l->obj.name = str_dup(l->obj.arena, str_of(name));
    l->obj.hash = base_hash * 1000 + (uint64_t)letter[0];
    l->base = b;
    b->obj.name = str_dup(b->obj.arena, str_of(name));
    b->obj.hash = base_hash;
    b->addresses = ARENA_NEW(b->obj.arena, struct listener_address);
    b->address_count = 1;
    assert_true(addr_parse(str_of(address), &b->addresses[0].addr));
    b->stat_prefix = str_fmt(b->obj.arena, "listener.%s.", name);
    b->limit_key = STR("none");
    b->bind_to_port = b->reuse_port = true;
    l->chains = ARENA_NEW(l->obj.arena, struct filter_chain_conf *);
    l->chains[0] = chain_of(letter);
    l->chain_count = 1;
    return l;
}

struct world {
    struct loop *main;
    struct stats *stats;
    struct runtime *rt;
    struct listener_manager *m;
    struct arena *arena;
    struct errors errors;
};

static void world_init(struct world *x)
{
    *x = (struct world){0};
    x->main = loop_new();
    x->stats = stats_new(WORKERS + 1);
    stats_thread_enter(x->stats, 0);
    x->rt = runtime_new(x->main, x->stats, WORKERS);
    x->m = listener_manager_new(x->rt);
    x->arena = arena_new("test", 0);
    x->errors.arena = x->arena;
    runtime_start(x->rt);
    listener_manager_start_workers(x->m);
}

static void world_release(struct world *x)
{
    runtime_stop(x->rt);
    listener_manager_free(&x->m);
    runtime_free(&x->rt);
    stats_free(&x->stats);
    loop_free(&x->main);
    arena_free(&x->arena);
    arena_thread_release();
}

static void turns(struct world *x, int n)
{
    for (int i = 0; i < n; i++) {
        loop_turn(x->main, false);
        (void)usleep(1000);
    }
}

static bool set(struct world *x, const char *name, const char *address, uint64_t base_hash,
                const char *letter)
{
    bool ok = listener_manager_set(x->m, listener_of(name, address, base_hash, letter), &x->errors);
    turns(x, 20);
    return ok;
}

static void take_address(void *arg, const struct listener_view *v)
{
    *(struct addr *)arg = *v->addr;
}

static struct addr address_of(struct world *x)
{
    struct addr a = {0};
    listener_manager_each(x->m, take_address, &a);
    assert_int_not_equal(a.len, 0);
    return a;
}

static int dial(const struct addr *a)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval t = {.tv_sec = 2};
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    if (connect(fd, &a->sa.any, a->len) == 0) return fd;
    (void)close(fd);
    return -1;
}

/* The letter of the chain that answers, 0 at the end, -1 for none. */
static int ask(int fd)
{
    char in[16];
    if (send(fd, "?", 1, MSG_NOSIGNAL) != 1) return -1;
    ssize_t n = recv(fd, in, sizeof(in), 0);
    if (n == 2 && in[1] == '?') return in[0];
    return n == 0 ? 0 : -1;
}

static uint64_t stat_of(struct world *x, const char *name);
struct search {
    struct str name;
    uint64_t value;
    bool found;
};
static void stat_look(void *arg, const struct stat_view *v)
{
    struct search *s = arg;
    if (!str_eq(v->name, s->name)) return;
    s->value = v->value;
    s->found = true;
}
static uint64_t stat_of(struct world *x, const char *name)
{
    struct search s = {.name = str_of(name)};
    stats_each(x->stats, stat_look, &s);
    assert_true(s.found);
    return s.value;
}

/* --- tests
 * -------------------------------------------------------------------------------------------------------
 */

static void connections_are_served_and_counted(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    struct addr a = address_of(&x);
    assert_int_not_equal(addr_port(&a), 0);
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = dial(&a);
        assert_int_equal(ask(fds[i]), 'a');
    }
    assert_int_equal(listener_manager_connections(x.m), 20);
    assert_int_equal(stat_of(&x, "listener.l.downstream_cx_total"), 20);
    assert_int_equal(stat_of(&x, "listener.l.downstream_cx_active"), 20);
    assert_int_equal(stat_of(&x, "listener.l.worker_0.downstream_cx_total") +
                         stat_of(&x, "listener.l.worker_1.downstream_cx_total"),
                     20);
    for (int i = 0; i < 20; i++)
        (void)close(fds[i]);
    for (int i = 0; i < 200 && listener_manager_connections(x.m); i++)
        turns(&x, 5);
    assert_int_equal(stat_of(&x, "listener.l.downstream_cx_active"), 0);
    assert_int_equal(stat_of(&x, "listener.l.downstream_cx_destroy"), 20);
    assert_int_equal(stat_of(&x, "listener_manager.listener_create_success"), WORKERS);
    world_release(&x);
}

static void an_equal_update_changes_nothing(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    listener_manager_set_drain(x.m, 1000, LISTENER_DRAIN_IMMEDIATE);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    struct addr a = address_of(&x);
    int fd = dial(&a);
    assert_int_equal(ask(fd), 'a');
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    assert_int_equal(ask(fd), 'a');
    assert_int_equal(stat_of(&x, "listener_manager.listener_modified"), 0);
    (void)close(fd);
    world_release(&x);
}

static void an_update_keeps_the_socket_and_drains_the_old_chain(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    listener_manager_set_drain(x.m, 300 * 1000, LISTENER_DRAIN_GRADUAL);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    struct addr before = address_of(&x);
    int old = dial(&before);
    assert_int_equal(ask(old), 'a');
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "b"));
    struct addr after = address_of(&x);
    assert_true(addr_eq(&before, &after));
    assert_int_equal(stat_of(&x, "listener_manager.listener_in_place_updated"), 1);
    assert_int_equal(stat_of(&x, "listener_manager.total_filter_chains_draining"), 1);
    int new = dial(&after);
    assert_int_equal(ask(new), 'b');
    assert_int_equal(ask(old), 'a'); /* still served by the chain that it began with */
    turns(&x, 500);
    assert_int_equal(ask(old) > 0, 0); /* the drain time is over */
    assert_int_equal(ask(new), 'b');
    assert_int_equal(stat_of(&x, "listener_manager.total_filter_chains_draining"), 0);
    (void)close(old);
    (void)close(new);
    world_release(&x);
}

static void a_full_update_drains_all_but_keeps_the_socket(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    listener_manager_set_drain(x.m, 100 * 1000, LISTENER_DRAIN_IMMEDIATE);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    struct addr before = address_of(&x);
    int old = dial(&before);
    assert_int_equal(ask(old), 'a');
    assert_true(set(&x, "l", "127.0.0.1:0", 2, "a"));
    struct addr after = address_of(&x);
    assert_true(addr_eq(&before, &after));
    int new = dial(&after);
    assert_int_equal(ask(new), 'a');
    char in[4];
    assert_int_equal(recv(old, in, sizeof(in), 0), 0); /* immediate: told at once */
    (void)close(old);
    (void)close(new);
    world_release(&x);
}

static void no_connection_is_lost_while_updates_rain(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    struct addr a = address_of(&x);
    for (unsigned i = 0; i < 100; i++) {
        assert_true(listener_manager_set(
            x.m, listener_of("l", "127.0.0.1:0", i % 3, i % 2 ? "a" : "b"), &x.errors));
        int fd = dial(&a);
        assert_true(fd >= 0);
        turns(&x, 1);
        assert_true(ask(fd) > 0);
        (void)close(fd);
    }
    world_release(&x);
}

static void removal_closes_the_port_after_what_waits_is_accepted(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    struct addr a = address_of(&x);
    int fd = dial(&a);
    assert_int_equal(ask(fd), 'a');
    assert_true(listener_manager_remove(x.m, STR("l")));
    assert_false(listener_manager_remove(x.m, STR("l")));
    turns(&x, 50);
    assert_int_equal(dial(&a), -1);
    assert_int_equal(ask(fd), 'a'); /* drains: default 600 s */
    assert_int_equal(stat_of(&x, "listener_manager.total_listeners_draining"), 1);
    assert_int_equal(stat_of(&x, "listener_manager.total_listeners_active"), 0);
    (void)close(fd);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "c"));
    a = address_of(&x);
    fd = dial(&a);
    assert_int_equal(ask(fd), 'c');
    (void)close(fd);
    world_release(&x);
}

static void a_taken_address_is_refused_and_the_old_version_serves(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    struct addr taken, a;
    assert_true(addr_parse(STR("127.0.0.1:0"), &taken));
    struct socket_listen how = {.addr = &taken};
    int busy = socket_listen(&how);
    assert_true(socket_local(busy, &taken));
    char text[ADDR_TEXT_MAX];
    (void)addr_format(&taken, text);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    a = address_of(&x);
    assert_false(set(&x, "l", text, 2, "b"));
    assert_int_equal(x.errors.count, 1);
    struct str want = str_fmt(x.arena, "cannot bind '%s': Address already in use", text);
    assert_true(str_eq(x.errors.v[0].text, want));
    int fd = dial(&a);
    assert_int_equal(ask(fd), 'a');
    assert_int_equal(stat_of(&x, "listener_manager.listener_create_failure"), 1);
    (void)close(fd);
    (void)close(busy);
    world_release(&x);
}

static void two_listeners_may_not_share_an_address(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    assert_true(set(&x, "one", "127.0.0.1:0", 1, "a"));
    struct addr a = address_of(&x);
    char text[ADDR_TEXT_MAX];
    (void)addr_format(&a, text);
    assert_true(listener_manager_remove(x.m, STR("one")));
    turns(&x, 50);
    assert_true(set(&x, "one", text, 1, "a"));
    assert_false(set(&x, "two", text, 2, "b"));
    assert_true(str_starts(x.errors.v[0].text,
                           STR("error adding listener: 'two' has duplicate address '127.0.0.1:")));
    world_release(&x);
}

static void running_out_of_descriptors_pauses_and_recovers(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    assert_true(set(&x, "l", "127.0.0.1:0", 1, "a"));
    struct addr a = address_of(&x);
    int first = dial(&a), second = dial(&a);
    assert_int_equal(ask(first), 'a');
    assert_int_equal(ask(second), 'a');
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = (rlim_t)client + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_int_equal(connect(client, &a.sa.any, a.len), 0); /* waits in the backlog */
    turns(&x, 50);
    assert_int_equal(ask(first), 'a');
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    struct timeval t = {.tv_sec = 2};
    (void)setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t));
    assert_int_equal(ask(client), 'a');
    (void)close(client);
    (void)close(first);
    (void)close(second);
    world_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_served_and_counted),
        cmocka_unit_test(an_equal_update_changes_nothing),
        cmocka_unit_test(an_update_keeps_the_socket_and_drains_the_old_chain),
        cmocka_unit_test(a_full_update_drains_all_but_keeps_the_socket),
        cmocka_unit_test(no_connection_is_lost_while_updates_rain),
        cmocka_unit_test(removal_closes_the_port_after_what_waits_is_accepted),
        cmocka_unit_test(a_taken_address_is_refused_and_the_old_version_serves),
        cmocka_unit_test(two_listeners_may_not_share_an_address),
        cmocka_unit_test(running_out_of_descriptors_pauses_and_recovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
