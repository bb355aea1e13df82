/* Publication: main gathers the changes of one turn in a batch; each worker applies it and sends
 * its mail back. */
#include "base/arena.h"
#include "proxy/runtime/runtime_internal.h"

static void batch_applied(struct mail *m)
{
    struct batch *b = CONTAINER_OF(m, struct batch_mail, mail)->batch;
    if (--b->left) return;
    struct arena *a = b->arena;
    arena_free(&a);
}

/* In a worker. */
static void batch_arrived(struct mail *m)
{
    struct batch_mail *bm = CONTAINER_OF(m, struct batch_mail, mail);
    for (const struct publication *p = bm->batch->first; p; p = p->next)
        worker_apply(bm->worker, p);
    bm->mail.deliver = batch_applied;
    loop_post(bm->batch->rt->main, &bm->mail);
}

void runtime_flush(struct runtime *rt)
{
    struct runtime_own *own = runtime_own(rt);
    struct batch *b = own->batch;
    loop_later_cancel(&own->flush);
    if (!b) return;
    own->batch = NULL;
    b->left = rt->concurrency;
    for (unsigned i = 0; i < rt->concurrency; i++) {
        b->mails[i] = (struct batch_mail){
            .mail.deliver = batch_arrived, .batch = b, .worker = rt->workers[i]};
        loop_post(rt->workers[i]->loop, &b->mails[i].mail);
    }
}

static void flush_later(struct loop_later *later)
{
    struct runtime_own *own = CONTAINER_OF(later, struct runtime_own, flush);
    runtime_flush(&own->rt);
}

static struct batch *batch_current(struct runtime *rt)
{
    struct runtime_own *own = runtime_own(rt);
    if (own->batch) return own->batch;
    struct arena *a = arena_new("batch", 0);
    struct batch *b = arena_alloc(a, sizeof(*b) + rt->concurrency * sizeof(b->mails[0]));
    b->arena = a;
    b->rt = rt;
    b->end = &b->first;
    own->batch = b;
    loop_later(rt->main, &own->flush, flush_later);
    return b;
}

void runtime_publish(struct runtime *rt, enum table t, struct str name, struct obj *o)
{
    struct obj *before = map_get(&rt->published[t], name);
    if (before == o || rt->ended) return;
    struct batch *b = batch_current(rt);
    struct publication *p = ARENA_NEW(b->arena, struct publication);
    *b->end = p;
    b->end = &p->next;
    p->table = t;
    p->obj = o;
    if (o) {
        /* The tables borrow the name for as long as they hold the object. */
        p->name = str_eq(o->name, name) ? o->name : str_dup(o->arena, name);
        (void)obj_ref(o);
        o->refs += rt->concurrency;
        (void)map_put(&rt->published[t], p->name, o); /* what was there: `before` */
    } else {
        p->name = str_dup(b->arena, name);
        (void)map_remove(&rt->published[t], name);
    }
    obj_unref(&before);
}

struct obj *runtime_published(const struct runtime *rt, enum table t, struct str name)
{
    return map_get(&rt->published[t], name);
}
