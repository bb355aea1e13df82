/* Questions of workers to the control plane, and the way back (proxy/api/on_demand.h). */
#include "proxy/api/on_demand.h"

#include <string.h>

#include "base/must.h"
#include "proxy/runtime/runtime_internal.h"

struct on_demand_call {
    struct mail mail;
    struct worker *worker;
    struct on_demand *waiter; /* the worker's; NULL: cancelled */
    struct on_demand_question question;
    bool found;
    char text[]; /* name, key */
};

/* Worker; or main, when the worker has ended: then nobody waits any more. */
static void call_returned(struct mail *m)
{
    struct on_demand_call *c = CONTAINER_OF(m, struct on_demand_call, mail);
    struct on_demand *d = c->waiter;
    bool found = c->found;
    mem_free(c);
    if (!d) return;
    d->call = NULL;
    d->done(d, found);
}

static void call_arrived(struct mail *m)
{
    struct on_demand_call *c = CONTAINER_OF(m, struct on_demand_call, mail);
    const struct runtime *rt = c->worker->rt;
    if (rt->on_demand)
        rt->on_demand->asked(rt->on_demand_arg, c);
    else
        on_demand_answer(c, false);
}

bool on_demand_ask(struct worker *w, struct on_demand *d, const struct on_demand_question *q,
                   void (*done)(struct on_demand *d, bool found))
{
    if (!w->rt->on_demand) return false;
    struct on_demand_call *c = mem_alloc(sizeof(*c) + q->name.len + q->key.len);
    if (q->name.len) memcpy(c->text, q->name.ptr, q->name.len);
    if (q->key.len) memcpy(c->text + q->name.len, q->key.ptr, q->key.len);
    c->worker = w;
    c->waiter = d;
    c->question = *q;
    c->question.name = str_make(c->text, q->name.len);
    c->question.key = str_make(c->text + q->name.len, q->key.len);
    c->mail.deliver = call_arrived;
    d->call = c;
    d->done = done;
    loop_post(w->rt->main, &c->mail);
    return true;
}

void on_demand_cancel(struct on_demand *d)
{
    if (d->call) d->call->waiter = NULL;
    d->call = NULL;
}

void on_demand_serve(struct runtime *rt, const struct on_demand_ops *ops, void *arg)
{
    rt->on_demand = ops;
    rt->on_demand_arg = arg;
}

void on_demand_prefetch(struct runtime *rt, const struct tls_on_demand *who, struct str name)
{
    if (rt->on_demand) rt->on_demand->prefetch(rt->on_demand_arg, who, name);
}

void on_demand_left(struct runtime *rt, const struct tls_on_demand *who)
{
    if (rt->on_demand) rt->on_demand->left(rt->on_demand_arg, who);
}

const struct on_demand_question *on_demand_question(const struct on_demand_call *call)
{
    return &call->question;
}

void on_demand_answer(struct on_demand_call *c, bool found)
{
    runtime_flush(c->worker->rt);
    c->found = found;
    c->mail.deliver = call_returned;
    loop_post(c->worker->loop, &c->mail);
}
