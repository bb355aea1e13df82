/* The event loop of a thread: sockets, timers, mailbox, work at the end of a turn. Wraps libev
 * (only loop.c knows). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/list.h"

struct loop;

/* One loop per thread. */
struct loop *loop_new(void);
/* Timers and later work still queued are unlinked, messages still in the mailbox are not delivered:
 * turn until done first. */
void loop_free(struct loop **l);
/* Runs until loop_stop. */
void loop_run(struct loop *l);
/* One turn; waits for events at most if `block`. For tests. */
void loop_turn(struct loop *l, bool block);
void loop_stop(struct loop *l);
/* CLOCK_MONOTONIC of this turn, in microseconds (cached: cheap). */
uint64_t loop_now_us(const struct loop *l);
/* CLOCK_REALTIME of this turn in microseconds since 1970 (cached). */
uint64_t loop_wall_us(const struct loop *l);
/* Reads the clocks anew: after long work on main, before timers are started that must not count it.
 */
void loop_update_now(struct loop *l);
/* Fresh clocks for any thread. */
uint64_t clock_now_us(void);
uint64_t clock_wall_us(void);

/* --- sockets: watchers stay registered; the write side only after EAGAIN
 * -------------------------- */
enum { LOOP_READ = 1, LOOP_WRITE = 2 };
/* Embed it; zero, then loop_io_init. `fire` gets what is ready (LOOP_READ | LOOP_WRITE). */
struct loop_io {
    void (*fire)(struct loop_io *io, int ready);
    struct loop *loop;
    int fd;
    int wanted;
    /* libev's watcher */
    union {
        uint64_t align;
        unsigned char bytes[96];
    } ev;
};
void loop_io_init(struct loop_io *io, struct loop *l, int fd,
                  void (*fire)(struct loop_io *io, int ready));
/* Changes what is watched (0 = nothing). Fine to call when nothing changes. */
void loop_io_want(struct loop_io *io, int wanted);

/* --- timers: a lazy wheel; start, restart and stop are O(1) and cheap
 * ------------------------------ */
struct loop_timer {
    void (*fire)(
        struct loop_timer *t); /* stopped already when called; may start itself again or be freed */
    struct loop *loop;         /* NULL: not running */
    uint64_t at_us;
    struct list link;
};
/* (Re)starts: fires once, not before delay_us from the turn's time. Resolution about 1 ms. */
void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t delay_us,
                      void (*fire)(struct loop_timer *t));
void loop_timer_stop(struct loop_timer *t);
static inline bool loop_timer_running(const struct loop_timer *t)
{
    return t->loop != NULL;
}

/* --- work at the end of the current turn (before the next wait), each once
 * ------------------------- */
struct loop_later {
    void (*fire)(struct loop_later *later);
    struct list link;
};
/* Queues; queued again while it waits: nothing happens. Work queued by such work runs in the same
 * turn (bounded rounds). */
void loop_later(struct loop *l, struct loop_later *later, void (*fire)(struct loop_later *later));
void loop_later_cancel(struct loop_later *later);

/* --- mailbox: the only way from thread to thread
 * -------------------------------------------------- */
/* Embed in the message; ownership moves to the receiver, whose `deliver` runs in the receiving
 * loop's thread. */
struct mail {
    void (*deliver)(struct mail *m);
    struct mail *next;
};
/* Any thread. FIFO per sender; wakes the loop once per batch. After loop_free messages must not be
 * posted. */
void loop_post(struct loop *l, struct mail *m);
/* The loop's thread (or, after that was joined, another): delivers what has arrived, without a
 * turn. False: nothing had. */
bool loop_deliver(struct loop *l);

/* --- signals (main thread's loop)
 * ------------------------------------------------------------------ */
void loop_on_signal(struct loop *l, int signo, void (*fire)(void *arg, int signo), void *arg);
/* --- files: fires when the path's directory entry or content changes (inotify); see file watching
 * in base/watch.h --- */
