/* The event loop over libev, the only file that knows it. One turn: work queued for later, timers
 * armed, wait, sockets and messages, timers that are due, work queued for later again. */
#include "base/loop.h"

#include <ev.h>
#include <string.h>
#include <time.h>

#include "base/loop_internal.h"
#include "base/must.h"

enum { LATER_ROUNDS = 32, SIGNALS_MOST = 16 };

static_assert(sizeof(struct ev_io) <= sizeof(((struct loop_io *)0)->ev), "loop_io.ev is too small");
static_assert(_Alignof(struct ev_io) <= _Alignof(struct loop_io), "loop_io.ev is not aligned");
static_assert((int)LOOP_READ == (int)EV_READ && (int)LOOP_WRITE == (int)EV_WRITE, "masks differ");

struct loop_signal {
    ev_signal watcher;
    void (*fire)(void *arg, int signo);
    void *arg;
};

struct loop_ev {
    struct ev_loop *loop;
    ev_timer timer; /* wakes for the wheel; nothing to do in its callback */
    ev_io mailbox;
    uint64_t armed_us; /* what the timer is set for; UINT64_MAX: not running */
    struct loop_signal signals[SIGNALS_MOST];
    size_t signal_count;
};

static uint64_t clock_us(clockid_t id)
{
    struct timespec t;
    must(clock_gettime(id, &t) == 0);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t clock_now_us(void)
{
    return clock_us(CLOCK_MONOTONIC);
}

uint64_t clock_wall_us(void)
{
    return clock_us(CLOCK_REALTIME);
}

uint64_t loop_now_us(const struct loop *l)
{
    return l->now_us;
}

uint64_t loop_wall_us(const struct loop *l)
{
    return l->wall_us;
}

static void loop_read_clocks(struct loop *l)
{
    l->now_us = clock_now_us();
    l->wall_us = clock_wall_us();
}

void loop_update_now(struct loop *l)
{
    loop_read_clocks(l);
    ev_now_update(l->ev->loop);
}

/* libev calls this right after epoll_wait, before any callback. */
static void on_wait_done(struct ev_loop *ev)
{
    loop_read_clocks(ev_userdata(ev));
}

static void on_timer(struct ev_loop *ev, ev_timer *w, int events)
{
    (void)events;
    struct loop *l = ev_userdata(ev);
    (void)w;
    l->ev->armed_us = UINT64_MAX;
}

static void on_mailbox(struct ev_loop *ev, ev_io *w, int events)
{
    (void)w;
    (void)events;
    struct loop *l = ev_userdata(ev);
    (void)mailbox_receive(&l->mailbox); /* none: taken already by loop_deliver */
}

struct loop *loop_new(void)
{
    struct loop *l = mem_alloc(sizeof(*l));
    struct loop_ev *e = mem_alloc(sizeof(*e));
    l->ev = e;
    e->loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    must(e->loop);
    ev_set_userdata(e->loop, l);
    ev_set_loop_release_cb(e->loop, NULL, on_wait_done);
    loop_read_clocks(l);
    list_init(&l->laters);
    wheel_init(&l->wheel, l->now_us);
    mailbox_init(&l->mailbox);
    ev_io_init(&e->mailbox, on_mailbox, l->mailbox.fd, EV_READ);
    ev_io_start(e->loop, &e->mailbox);
    ev_init(&e->timer, on_timer);
    e->armed_us = UINT64_MAX;
    return l;
}

void loop_free(struct loop **lp)
{
    struct loop *l = *lp;
    *lp = NULL;
    if (!l) return;
    wheel_release(&l->wheel);
    while (!list_empty(&l->laters))
        list_remove(l->laters.next);
    for (size_t i = 0; i < l->ev->signal_count; i++) {
        ev_signal_stop(l->ev->loop, &l->ev->signals[i].watcher);
    }
    ev_io_stop(l->ev->loop, &l->ev->mailbox);
    ev_timer_stop(l->ev->loop, &l->ev->timer);
    ev_loop_destroy(l->ev->loop);
    mailbox_release(&l->mailbox);
    mem_free(l->ev);
    mem_free(l);
}

/* --- work for later ----------------------------------------------------------------------------
 */

void loop_later(struct loop *l, struct loop_later *later, void (*fire)(struct loop_later *later))
{
    later->fire = fire;
    if (!list_linked(&later->link)) list_push_back(&l->laters, &later->link);
}

void loop_later_cancel(struct loop_later *later)
{
    if (list_linked(&later->link)) list_remove(&later->link);
}

/* Work that queues more work is followed for some rounds; the rest waits for the next turn, which
 * does not block. */
static void run_laters(struct loop *l)
{
    for (int round = 0; round < LATER_ROUNDS && !list_empty(&l->laters); round++) {
        struct list now;
        list_init(&now);
        list_push_front(&l->laters, &now); /* head in the middle: take over the whole ring */
        list_remove(&l->laters);
        while (!list_empty(&now)) {
            struct loop_later *later = CONTAINER_OF(now.next, struct loop_later, link);
            list_remove(&later->link);
            later->fire(later);
        }
    }
}

/* --- turns -------------------------------------------------------------------------------------
 */

/* Sets the one ev_timer for the wheel; nothing to wait for means that the process sleeps. */
static void arm_timer(struct loop *l)
{
    struct loop_ev *e = l->ev;
    uint64_t due_us = wheel_next_us(&l->wheel);
    if (due_us == e->armed_us) return;
    e->armed_us = due_us;
    ev_timer_stop(e->loop, &e->timer);
    if (due_us == UINT64_MAX) return;
    uint64_t wait_us = due_us > l->now_us ? due_us - l->now_us : 0;
    /* Half a tick more, so that rounding in libev's doubles never wakes us just before the tick. */
    ev_timer_set(&e->timer, (double)(wait_us + WHEEL_TICK_US / 2) / 1e6, 0.);
    ev_timer_start(e->loop, &e->timer);
}

void loop_turn(struct loop *l, bool block)
{
    run_laters(l);
    arm_timer(l);
    if (!list_empty(&l->laters)) block = false;
    ev_run(l->ev->loop, block ? EVRUN_ONCE : EVRUN_NOWAIT);
    wheel_advance(l);
    run_laters(l);
}

void loop_run(struct loop *l)
{
    l->stopped = false;
    loop_update_now(l);
    while (!l->stopped)
        loop_turn(l, true);
}

void loop_stop(struct loop *l)
{
    l->stopped = true;
}

/* --- sockets -----------------------------------------------------------------------------------
 */

static struct ev_io *io_watcher(struct loop_io *io)
{
    return (struct ev_io *)(void *)&io->ev;
}

static void on_io(struct ev_loop *ev, ev_io *w, int events)
{
    struct loop_io *io = CONTAINER_OF((void *)w, struct loop_io, ev);
    (void)ev;
    if (!ev_is_active(w)) io->wanted = 0; /* libev gave the descriptor up (EV_ERROR) */
    io->fire(io, events & (LOOP_READ | LOOP_WRITE));
}

void loop_io_init(struct loop_io *io, struct loop *l, int fd,
                  void (*fire)(struct loop_io *io, int ready))
{
    io->fire = fire;
    io->loop = l;
    io->fd = fd;
    io->wanted = 0;
    memset(&io->ev, 0, sizeof(io->ev));
    ev_io_init(io_watcher(io), on_io, fd, 0);
}

void loop_io_want(struct loop_io *io, int wanted)
{
    if (io->wanted == wanted) return;
    struct ev_loop *ev = io->loop->ev->loop;
    struct ev_io *w = io_watcher(io);
    /* A zeroed but never initialised watcher wants 0 and never gets here with an active libev
     * watcher. */
    if (io->wanted) ev_io_stop(ev, w);
    io->wanted = wanted;
    if (!wanted) return;
    /* Not ev_io_set: for libev that is another descriptor, which costs an epoll_ctl even when the
     * mask of the turn's end is the one of its beginning. */
    ev_io_modify(w, wanted);
    ev_io_start(ev, w);
}

/* --- signals -----------------------------------------------------------------------------------
 */

static void on_signal(struct ev_loop *ev, ev_signal *w, int events)
{
    struct loop_signal *s = CONTAINER_OF(w, struct loop_signal, watcher);
    (void)ev;
    (void)events;
    s->fire(s->arg, w->signum);
}

void loop_on_signal(struct loop *l, int signo, void (*fire)(void *arg, int signo), void *arg)
{
    struct loop_ev *e = l->ev;
    must(e->signal_count < SIGNALS_MOST);
    struct loop_signal *s = &e->signals[e->signal_count++];
    s->fire = fire;
    s->arg = arg;
    ev_signal_init(&s->watcher, on_signal, signo);
    ev_signal_start(e->loop, &s->watcher);
}
