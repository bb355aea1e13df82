/* The loop: timers, later work, sockets and messages between threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/must.h"
#include "base/rand.h"

enum { TIMERS = 300, SENDERS = 3, MAILS = 20000 };

struct timed {
    struct loop_timer timer;
    uint64_t due_us;
    int fired;
};
static struct timed timed[TIMERS];
static int timers_left;

static void on_timed(struct loop_timer *t)
{
    struct timed *x = CONTAINER_OF(t, struct timed, timer);
    uint64_t late = clock_now_us() - x->due_us;
    assert_true(clock_now_us() >= x->due_us);
    assert_true(late < 200000); /* generous: the machine may be busy */
    x->fired++;
    timers_left--;
}

static void timers_fire_once_and_never_early(void **state)
{
    struct loop *l = loop_new();
    struct rng r;
    (void)state;
    rng_init(&r, 5);
    for (int i = 0; i < TIMERS; i++) {
        /* Twice: many are put off or pulled forward after the first start. */
        for (int again = 0; again < 2; again++) {
            uint64_t delay = rng_below(&r, 400000);
            loop_timer_start(l, &timed[i].timer, delay, on_timed);
            timed[i].due_us = loop_now_us(l) + delay;
        }
    }
    timers_left = TIMERS;
    for (int i = 0; i < TIMERS; i += 3) {
        loop_timer_stop(&timed[i].timer);
        timers_left--;
    }
    while (timers_left)
        loop_turn(l, true);
    for (int i = 0; i < TIMERS; i++) {
        assert_int_equal(timed[i].fired, i % 3 != 0);
        assert_false(loop_timer_running(&timed[i].timer));
    }
    loop_free(&l);
}

static struct timed other;

static void stop_other(struct loop_timer *t)
{
    (void)t;
    loop_timer_stop(&other.timer);
}

static void count_timer(struct loop_timer *t)
{
    CONTAINER_OF(t, struct timed, timer)->fired++;
}

static void a_timer_may_stop_one_that_is_due(void **state)
{
    struct loop *l = loop_new();
    struct loop_timer first = {0};
    (void)state;
    loop_timer_start(l, &first, 1000, stop_other);
    loop_timer_start(l, &other.timer, 1000, count_timer);
    usleep(5000);
    loop_turn(l, false);
    loop_turn(l, false);
    assert_int_equal(other.fired, 0);
    loop_timer_start(l, &other.timer, 3600u * 1000000u, count_timer);
    loop_free(&l);
    assert_false(loop_timer_running(&other.timer));
}

static void on_wake(struct loop_timer *t)
{
    (void)t;
}

static void an_idle_loop_sleeps(void **state)
{
    struct loop *l = loop_new();
    struct loop_timer end = {0}, idle = {0};
    int turns = 0;
    (void)state;
    loop_timer_start(l, &idle, 60u * 1000000u, on_wake);
    loop_timer_start(l, &end, 300000, on_wake);
    for (int i = 0; i < 1000; i++)
        loop_timer_start(l, &idle, 60u * 1000000u, on_wake);
    while (loop_timer_running(&end)) {
        loop_turn(l, true);
        turns++;
    }
    assert_in_range(turns, 1, 8); /* one for each level of the wheel at most */
    loop_timer_stop(&idle);
    loop_free(&l);
}

static int later_count;
static struct loop *later_loop;

static void again(struct loop_later *later)
{
    if (++later_count < 5) loop_later(later_loop, later, again);
}

static void later_work_runs_in_the_same_turn(void **state)
{
    struct loop_later one = {0}, two = {0};
    (void)state;
    later_loop = loop_new();
    loop_later(later_loop, &one, again);
    loop_later(later_loop, &one, again);
    loop_later(later_loop, &two, again);
    loop_later_cancel(&two);
    loop_turn(later_loop, false);
    assert_int_equal(later_count, 5);
    loop_free(&later_loop);
}

static int io_ready;

static void on_ready(struct loop_io *io, int ready)
{
    (void)io;
    io_ready = ready;
}

static void sockets_tell_when_ready(void **state)
{
    struct loop *l = loop_new();
    struct loop_io io = {0};
    int fds[2];
    char byte;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    loop_io_init(&io, l, fds[0], on_ready);
    loop_io_want(&io, LOOP_READ);
    loop_turn(l, false);
    assert_int_equal(io_ready, 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    loop_turn(l, true);
    assert_int_equal(io_ready, LOOP_READ);
    loop_io_want(&io, LOOP_READ | LOOP_WRITE);
    loop_turn(l, true);
    assert_int_equal(io_ready, LOOP_READ | LOOP_WRITE);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    loop_io_want(&io, 0);
    io_ready = 0;
    loop_turn(l, false);
    assert_int_equal(io_ready, 0);
    close(fds[0]);
    close(fds[1]);
    loop_free(&l);
}

struct numbered {
    struct mail mail;
    int sender, number;
};
static struct loop *mail_loop;
static int mail_next[SENDERS];
static int mail_total;

static void on_mail(struct mail *m)
{
    struct numbered *x = CONTAINER_OF(m, struct numbered, mail);
    assert_int_equal(x->number, mail_next[x->sender]);
    mail_next[x->sender]++;
    mem_free(x);
    if (++mail_total == SENDERS * MAILS) loop_stop(mail_loop);
}

static void *send_all(void *arg)
{
    int sender = *(const int *)arg;
    for (int i = 0; i < MAILS; i++) {
        struct numbered *x = mem_alloc(sizeof(*x));
        *x = (struct numbered){.mail.deliver = on_mail, .sender = sender, .number = i};
        loop_post(mail_loop, &x->mail);
    }
    return NULL;
}

static void messages_arrive_in_order(void **state)
{
    pthread_t threads[SENDERS];
    int ids[SENDERS];
    (void)state;
    mail_loop = loop_new();
    for (int i = 0; i < SENDERS; i++) {
        ids[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, &ids[i]), 0);
    }
    loop_run(mail_loop);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(mail_total, SENDERS * MAILS);
    loop_free(&mail_loop);
}

static void on_signal(void *arg, int signo)
{
    *(int *)arg = signo;
}

static void signals_reach_the_loop(void **state)
{
    struct loop *l = loop_new();
    int got = 0;
    (void)state;
    loop_on_signal(l, SIGUSR2, on_signal, &got);
    raise(SIGUSR2);
    while (!got)
        loop_turn(l, true);
    assert_int_equal(got, SIGUSR2);
    loop_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_once_and_never_early),
        cmocka_unit_test(a_timer_may_stop_one_that_is_due),
        cmocka_unit_test(an_idle_loop_sleeps),
        cmocka_unit_test(later_work_runs_in_the_same_turn),
        cmocka_unit_test(sockets_tell_when_ready),
        cmocka_unit_test(messages_arrive_in_order),
        cmocka_unit_test(signals_reach_the_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
