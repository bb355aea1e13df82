/* The runtime as main sees it: workers made, started, told and stopped. */
#include "proxy/runtime/runtime_internal.h"

#include <signal.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/must.h"

enum { SCRATCH_FIRST = 16384 };

static struct worker *worker_new(struct runtime *rt, unsigned index)
{
    struct worker_own *own = mem_alloc(sizeof(*own));
    struct worker *w = &own->w;
    w->rt = rt;
    w->index = index;
    w->loop = loop_new();
    w->scratch = arena_new("scratch", SCRATCH_FIRST);
    rng_init(&w->rng, 0);
    return w;
}

static void worker_free(struct worker **wp)
{
    struct worker *w = *wp;
    *wp = NULL;
    loop_free(&w->loop);
    arena_free(&w->scratch);
    mem_free(worker_own(w));
}

struct runtime *runtime_new(struct loop *main, struct stats *stats, unsigned concurrency)
{
    struct runtime_own *own = mem_alloc(sizeof(*own));
    struct runtime *rt = &own->rt;
    must(concurrency > 0);
    rt->main = main;
    rt->stats = stats;
    rt->concurrency = concurrency;
    rt->arena = arena_new("process", 0);
    rt->start_us = clock_now_us();
    rt->start_wall_us = clock_wall_us();
    rt->workers = ARENA_ARRAY(rt->arena, struct worker *, concurrency);
    for (unsigned i = 0; i < concurrency; i++)
        rt->workers[i] = worker_new(rt, i);
    runtime_set_here(rt);
    return rt;
}

void runtime_add_hooks(struct runtime *rt, const struct worker_hooks *hooks)
{
    must(rt->hook_count < RUNTIME_HOOKS_MOST);
    rt->hooks[rt->hook_count++] = hooks;
}

/* --- calls from thread to thread -----------------------------------------------------------------
 */

/* One call in every worker; freed on main after the last answer. */
struct call {
    void (*fn)(struct worker *w, void *arg);
    void (*done)(void *arg);
    void *arg;
    struct loop *main;
    unsigned left; /* main */
    struct call_mail {
        struct mail mail;
        struct call *call;
        struct worker *worker;
    } mails[];
};

static void call_answered(struct mail *m)
{
    struct call *c = CONTAINER_OF(m, struct call_mail, mail)->call;
    if (--c->left) return;
    if (c->done) c->done(c->arg);
    mem_free(c);
}

static void call_arrived(struct mail *m)
{
    struct call_mail *cm = CONTAINER_OF(m, struct call_mail, mail);
    cm->call->fn(cm->worker, cm->call->arg);
    cm->mail.deliver = call_answered;
    loop_post(cm->call->main, &cm->mail);
}

void runtime_each_worker(struct runtime *rt, void (*fn)(struct worker *w, void *arg), void *arg,
                         void (*done)(void *arg))
{
    runtime_flush(rt);
    struct call *c = mem_alloc(sizeof(*c) + rt->concurrency * sizeof(c->mails[0]));
    c->fn = fn;
    c->done = done;
    c->arg = arg;
    c->main = rt->main;
    c->left = rt->concurrency;
    for (unsigned i = 0; i < rt->concurrency; i++) {
        c->mails[i] =
            (struct call_mail){.mail.deliver = call_arrived, .call = c, .worker = rt->workers[i]};
        loop_post(rt->workers[i]->loop, &c->mails[i].mail);
    }
}

struct to_main {
    struct mail mail;
    void (*fn)(void *arg);
    void *arg;
};

static void to_main_arrived(struct mail *m)
{
    struct to_main *t = CONTAINER_OF(m, struct to_main, mail);
    t->fn(t->arg);
    mem_free(t);
}

void runtime_to_main(struct runtime *rt, void (*fn)(void *arg), void *arg)
{
    struct to_main *t = mem_alloc(sizeof(*t));
    *t = (struct to_main){.mail.deliver = to_main_arrived, .fn = fn, .arg = arg};
    loop_post(rt->main, &t->mail);
}

/* --- start and stop ------------------------------------------------------------------------------
 */

static void count_down(void *arg)
{
    *(bool *)arg = true;
}

static void do_nothing(struct worker *w, void *arg)
{
    (void)w;
    (void)arg;
}

void runtime_start(struct runtime *rt)
{
    sigset_t all, before;
    bool running = false;
    sigfillset(&all);
    /* Signals are main's: threads inherit this mask. */
    must(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    for (unsigned i = 0; i < rt->concurrency; i++) {
        struct worker_own *own = worker_own(rt->workers[i]);
        char name[32];
        must(pthread_create(&own->thread, NULL, worker_main, own) == 0);
        own->started = true;
        (void)snprintf(name, sizeof(name), "wrk:worker_%u", i);
        (void)pthread_setname_np(own->thread,
                                 name); /* refused when too long: only for people who look */
    }
    must(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    runtime_each_worker(rt, do_nothing, &running, count_down);
    while (!running)
        loop_turn(rt->main, true);
}

static void stop_worker(struct worker *w, void *arg)
{
    (void)arg;
    worker_own(w)->stop = true;
}

void runtime_stop(struct runtime *rt)
{
    runtime_each_worker(rt, stop_worker, NULL, NULL);
    for (unsigned i = 0; i < rt->concurrency; i++) {
        struct worker_own *own = worker_own(rt->workers[i]);
        if (!own->started) continue;
        must(pthread_join(own->thread, NULL) == 0);
        own->started = false;
    }
    /* What the workers sent before they ended: objects given back above all. */
    while (loop_deliver(rt->main))
        continue;
}

/* Workers that never ran have their messages still: apply them here, so that nothing leaks. */
static void drain_unstarted(struct runtime *rt)
{
    runtime_flush(rt);
    for (unsigned i = 0; i < rt->concurrency; i++) {
        struct worker *w = rt->workers[i];
        while (loop_deliver(w->loop))
            continue;
        worker_drop_tables(w);
    }
    while (loop_deliver(rt->main))
        continue;
}

void runtime_free(struct runtime **rtp)
{
    struct runtime *rt = *rtp;
    *rtp = NULL;
    if (!rt) return;
    rt->hook_count = 0; /* modules are gone */
    drain_unstarted(rt);
    rt->ended = true;
    for (size_t t = 0; t < TABLE_COUNT; t++) {
        size_t it = 0;
        void *value;
        while (map_next(&rt->published[t], &it, NULL, &value)) {
            struct obj *o = value;
            obj_unref(&o); /* its key goes with it, but nobody looks up any more */
        }
        map_release(&rt->published[t]);
    }
    map_release(&rt->extension_slots);
    for (unsigned i = 0; i < rt->concurrency; i++)
        worker_free(&rt->workers[i]);
    arena_free(&rt->arena);
    if (runtime_here() == rt) runtime_set_here(NULL);
    mem_free(runtime_own(rt));
}
