/* Inside of the runtime: what runtime.c (main), publish.c and worker.c share. */
#pragma once
#include <pthread.h>
#include "base/loop.h"
#include "proxy/runtime/runtime.h"

/* A worker with what only this folder needs. */
struct worker_own {
    struct worker w;
    pthread_t thread;
    bool started; /* main: the thread runs and must be joined */
    bool stop;    /* worker: leave the loop */
};

/* One change of one table. */
struct publication {
    struct publication *next;
    enum table table;
    struct str name; /* in the object's arena, or (removal) in the batch's */
    struct obj *obj; /* NULL: removed. The batch hands one reference to each worker */
};

/* All changes of one turn of main's loop: read by every worker, freed on main when all have applied
 * it. */
struct batch {
    struct runtime *rt;
    struct arena *arena; /* owns the batch */
    struct publication *first, **end;
    unsigned left; /* main: workers that have not applied it */
    struct batch_mail {
        struct mail mail;
        struct batch *batch;
        struct worker *worker;
    } mails[]; /* one for each worker, there and back */
};

struct runtime_own {
    struct runtime rt;
    struct batch *batch; /* being filled in this turn; NULL: none */
    struct loop_later flush;
};

static inline struct worker_own *worker_own(struct worker *w)
{
    return CONTAINER_OF(w, struct worker_own, w);
}
static inline struct runtime_own *runtime_own(struct runtime *rt)
{
    return CONTAINER_OF(rt, struct runtime_own, rt);
}

/* Sends what was published so far: before any other message to workers, so that order holds. */
void runtime_flush(struct runtime *rt);
/* The worker's thread. */
void *worker_main(void *worker_own);
/* Worker: applies one change to its table and tells the modules. */
void worker_apply(struct worker *w, const struct publication *p);
/* Worker, at its end: gives all objects of the tables back to main. */
void worker_drop_tables(struct worker *w);
/* The runtime whose main thread this is (thread-local), NULL in workers. */
struct runtime *runtime_here(void);
void runtime_set_here(struct runtime *rt);
