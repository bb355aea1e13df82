/* A worker: its thread, its tables of pinned objects, its date. */
#include "proxy/runtime/runtime_internal.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/must.h"
#include "base/text.h"
#include "proxy/stats/stats.h"

/* A pin doubles as the message that gives its object back. */
struct pin_own {
    struct pin pin;
    struct mail mail;
};

/* Documented thread state: which worker runs this thread, or which runtime has it as its main
 * thread. */
static _Thread_local struct worker *worker_here;
static _Thread_local struct runtime *main_here;

struct worker *worker_self(void)
{
    return worker_here;
}

struct runtime *runtime_here(void)
{
    return main_here;
}

void runtime_set_here(struct runtime *rt)
{
    main_here = rt;
}

/* On main. */
static void pin_returned(struct mail *m)
{
    struct pin_own *own = CONTAINER_OF(m, struct pin_own, mail);
    obj_unref(&own->pin.obj);
    mem_free(own);
}

static void pin_give_back(struct worker *w, struct pin *p)
{
    struct pin_own *own = CONTAINER_OF(p, struct pin_own, pin);
    own->mail.deliver = pin_returned;
    loop_post(w->rt->main, &own->mail);
}

void pin_drop(struct worker *w, struct pin **pp)
{
    struct pin *p = *pp;
    *pp = NULL;
    if (!p) return;
    must(p->users > 0);
    if (--p->users == 0 && !p->current) pin_give_back(w, p);
}

struct pin *worker_find(struct worker *w, enum table t, struct str name, uint64_t hash)
{
    return map_get_hashed(&w->tables[t], name, hash);
}

void worker_apply(struct worker *w, const struct publication *p)
{
    struct pin *now = NULL, *old;
    if (p->obj) {
        struct pin_own *own = mem_alloc(sizeof(*own));
        now = &own->pin;
        now->obj = p->obj;
        now->current = true;
        old = map_put(&w->tables[p->table], p->name, now);
    } else {
        old = map_remove(&w->tables[p->table], p->name);
    }
    if (old) {
        old->current = false;
        (void)pin_hold(old); /* for the hooks below */
    }
    for (unsigned i = 0; i < w->rt->hook_count; i++) {
        const struct worker_hooks *h = w->rt->hooks[i];
        if (h->changed) h->changed(w, p->table, p->name, old, now);
    }
    pin_drop(w, &old);
}

void worker_drop_tables(struct worker *w)
{
    for (size_t t = 0; t < TABLE_COUNT; t++) {
        size_t it = 0;
        void *value;
        while (map_next(&w->tables[t], &it, NULL, &value)) {
            struct pin *p = value;
            if (bug_if(p->users > 0))
                continue; /* a module still holds it: leak rather than dangle */
            pin_give_back(w, p);
        }
        map_release(&w->tables[t]);
    }
}

struct str worker_date(struct worker *w)
{
    uint64_t second = loop_wall_us(w->loop) / 1000000;
    if (w->date_at_us != second * 1000000) {
        w->date_at_us = second * 1000000;
        date_http(w->date_at_us, w->date);
    }
    return (struct str){w->date, strlen("Sun, 06 Nov 1994 08:49:37 GMT")};
}

void *worker_main(void *arg)
{
    struct worker_own *own = arg;
    struct worker *w = &own->w;
    struct runtime *rt = w->rt;
    worker_here = w;
    stats_thread_enter(rt->stats, w->index + 1);
    loop_update_now(w->loop);
    for (unsigned i = 0; i < rt->hook_count; i++) {
        if (rt->hooks[i]->start) rt->hooks[i]->start(w);
    }
    log_debug(LOG_C_MAIN, "worker %u entering dispatch loop", w->index);
    while (!own->stop) {
        loop_turn(w->loop, true);
        arena_reset(w->scratch);
    }
    for (unsigned i = rt->hook_count; i > 0; i--) {
        if (rt->hooks[i - 1]->stop) rt->hooks[i - 1]->stop(w);
    }
    worker_drop_tables(w);
    buf_thread_release();
    arena_thread_release();
    return NULL;
}
