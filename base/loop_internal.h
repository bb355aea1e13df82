/* Inside of struct loop, shared by loop.c (libev), loop_timer.c (the wheel) and mailbox.c. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/list.h"
#include "base/loop.h"

enum {
    WHEEL_BITS = 6,
    WHEEL_SLOTS = 1 << WHEEL_BITS,
    WHEEL_LEVELS = 7, /* 2^42 ticks of 1 ms: 139 years */
    WHEEL_TICK_US = 1000,
};

/* Hierarchical timer wheel. A timer that is due at tick e sits at the level of the highest base-64
 * digit in which e differs from `tick`, in the slot of that digit; so all timers of a level are due
 * after those of lower levels. */
struct wheel {
    uint64_t tick;               /* all ticks up to this one were handled */
    uint64_t used[WHEEL_LEVELS]; /* a bit per slot; may be stale (set though the slot is empty) */
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

/* Messages from any thread: a stack that the receiver takes whole and reverses. */
struct mailbox {
    _Atomic(struct mail *) head;
    int fd; /* eventfd, written when a message meets an empty box */
};

struct loop_ev; /* libev's watchers */

struct loop {
    struct loop_ev *ev;
    uint64_t now_us, wall_us;
    struct list laters;
    struct wheel wheel;
    struct mailbox mailbox;
    bool stopped;
};

void wheel_init(struct wheel *w, uint64_t now_us);
/* Fires what is due at the loop's time. */
void wheel_advance(struct loop *l);
/* When the wheel must be advanced next; UINT64_MAX: never. Forgets stale bits on the way. */
uint64_t wheel_next_us(struct wheel *w);
/* Stops all timers (end of the loop). */
void wheel_release(struct wheel *w);

void mailbox_init(struct mailbox *b);
/* Delivers all messages that have arrived; call when fd is readable. False: there were none. */
bool mailbox_receive(struct mailbox *b);
void mailbox_release(struct mailbox *b);
