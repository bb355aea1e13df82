/* Timers: a hierarchical wheel that is lazy on restart. A running timer that is put off keeps its
 * place and only gets a new deadline; it is put where it belongs when its old slot comes up. */
#include "base/loop_internal.h"

enum { WHEEL_MASK = WHEEL_SLOTS - 1 };
static const uint64_t WHEEL_LAST = ((uint64_t)1 << (WHEEL_BITS * WHEEL_LEVELS)) - 1;

void wheel_init(struct wheel *w, uint64_t now_us)
{
    w->tick = now_us / WHEEL_TICK_US;
    for (size_t level = 0; level < WHEEL_LEVELS; level++) {
        w->used[level] = 0;
        for (size_t i = 0; i < WHEEL_SLOTS; i++)
            list_init(&w->slots[level][i]);
    }
}

/* The first tick at which the timer may fire: never early. */
static uint64_t due_tick(uint64_t at_us)
{
    return at_us / WHEEL_TICK_US + (at_us % WHEEL_TICK_US != 0);
}

static void wheel_insert(struct wheel *w, struct loop_timer *t)
{
    uint64_t due = due_tick(t->at_us);
    if (due <= w->tick) due = w->tick + 1;
    if (due > WHEEL_LAST) due = WHEEL_LAST;
    unsigned top = 63 - (unsigned)__builtin_clzll(due ^ w->tick);
    unsigned level = top / WHEEL_BITS;
    unsigned slot = (unsigned)(due >> (level * WHEEL_BITS)) & WHEEL_MASK;
    list_push_back(&w->slots[level][slot], &t->link);
    w->used[level] |= (uint64_t)1 << slot;
}

/* The earliest slot with timers and its tick; false: no timers. */
static bool wheel_first(struct wheel *w, unsigned *level, unsigned *slot, uint64_t *tick)
{
    for (unsigned i = 0; i < WHEEL_LEVELS; i++) {
        while (w->used[i]) {
            unsigned at = (unsigned)__builtin_ctzll(w->used[i]);
            if (list_empty(&w->slots[i][at])) {
                w->used[i] &= w->used[i] - 1;
                continue;
            }
            uint64_t above = w->tick >> ((i + 1) * WHEEL_BITS) << ((i + 1) * WHEEL_BITS);
            *level = i;
            *slot = at;
            *tick = above | ((uint64_t)at << (i * WHEEL_BITS));
            return true;
        }
    }
    return false;
}

uint64_t wheel_next_us(struct wheel *w)
{
    unsigned level, slot;
    uint64_t tick;
    return wheel_first(w, &level, &slot, &tick) ? tick * WHEEL_TICK_US : UINT64_MAX;
}

/* Empties a slot that has come up: what is due goes to `due`, the rest to where it belongs now. */
static void wheel_open_slot(struct wheel *w, unsigned level, unsigned slot, struct list *due)
{
    struct list *head = &w->slots[level][slot];
    w->used[level] &= ~((uint64_t)1 << slot);
    while (!list_empty(head)) {
        struct loop_timer *t = CONTAINER_OF(head->next, struct loop_timer, link);
        list_remove(&t->link);
        if (due_tick(t->at_us) <= w->tick)
            list_push_back(due, &t->link);
        else
            wheel_insert(w, t);
    }
}

void wheel_advance(struct loop *l)
{
    struct wheel *w = &l->wheel;
    uint64_t now = l->now_us / WHEEL_TICK_US;
    unsigned level, slot;
    uint64_t tick;
    struct list due;
    if (now <= w->tick) return;
    list_init(&due);
    while (wheel_first(w, &level, &slot, &tick) && tick <= now) {
        w->tick = tick;
        wheel_open_slot(w, level, slot, &due);
    }
    w->tick = now;
    /* Only now: a callback may stop or restart any timer, those in `due` too. */
    while (!list_empty(&due)) {
        struct loop_timer *t = CONTAINER_OF(due.next, struct loop_timer, link);
        list_remove(&t->link);
        if (t->at_us > l->now_us) {
            wheel_insert(w, t); /* put off by an earlier callback of this turn */
            continue;
        }
        t->loop = NULL;
        t->fire(t);
    }
}

void wheel_release(struct wheel *w)
{
    for (size_t level = 0; level < WHEEL_LEVELS; level++) {
        for (size_t i = 0; i < WHEEL_SLOTS; i++) {
            LIST_FOREACH_SAFE (&w->slots[level][i], it, next) {
                CONTAINER_OF(it, struct loop_timer, link)->loop = NULL;
                list_remove(it);
            }
        }
    }
}

void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t delay_us,
                      void (*fire)(struct loop_timer *t))
{
    uint64_t at_us;
    if (__builtin_add_overflow(l->now_us, delay_us, &at_us)) at_us = UINT64_MAX;
    t->fire = fire;
    if (t->loop && at_us >= t->at_us) {
        t->at_us = at_us; /* its slot comes up no later: put it right then */
        return;
    }
    if (t->loop) list_remove(&t->link);
    t->loop = l;
    t->at_us = at_us;
    wheel_insert(&l->wheel, t);
}

void loop_timer_stop(struct loop_timer *t)
{
    if (!t->loop) return;
    t->loop = NULL;
    list_remove(&t->link);
}
