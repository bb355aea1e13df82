/* A host that is chosen later: the attempt waits, and asks anew when the hosts change meanwhile. */
#include "base/must.h"
#include "proxy/upstream/upstream_internal.h"

static void choice_free(struct choice *c)
{
    loop_later_cancel(&c->again);
    mem_free(c);
}

static void choice_end(struct choice *c, struct host *h)
{
    struct choice was = *c;
    choice_free(c);
    was.done(was.arg, &was.ask, h);
}

static void choice_again(struct loop_later *later);

static void choice_done(struct lb_later *l, enum lb_answer a, struct host *h)
{
    struct choice *c = CONTAINER_OF(l, struct choice, later);
    c->waiting = false;
    bool avoided =
        a == LB_HOST && c->ask.avoid && c->ask.tries_left > 0 && c->ask.avoid(&c->ask, h);
    if (avoided) {
        c->ask.tries_left--;
        c->ask.attempt++;
    }
    if (a == LB_AGAIN) c->ask.again++;
    if (a == LB_AGAIN || avoided)
        loop_later(c->uc->worker->loop, &c->again, choice_again);
    else
        choice_end(c, a == LB_HOST ? h : NULL);
}

static enum lb_answer choice_ask(struct choice *c, struct host **h)
{
    c->later = (struct lb_later){.done = choice_done};
    enum lb_answer a = balance_choose(c->uc, &c->ask, &c->later, h);
    c->waiting = a == LB_LATER;
    return a;
}

static void choice_again(struct loop_later *later)
{
    struct choice *c = CONTAINER_OF(later, struct choice, again);
    struct host *h;
    if (choice_ask(c, &h) != LB_LATER) choice_end(c, h);
}

enum lb_answer choice_start(struct upstream_cluster *uc, const struct lb_ask *ask,
                            const struct choice *how, struct host **h, struct choice **out)
{
    *out = NULL;
    if (!uc->conf->lb || !lb_may_wait(uc->conf->lb, uc->conf->lb_conf))
        return balance_choose(uc, ask, NULL, h);
    struct choice *c = mem_alloc(sizeof(*c));
    *c = *how;
    c->uc = uc;
    c->ask = *ask;
    enum lb_answer a = choice_ask(c, h);
    if (a == LB_LATER)
        *out = c;
    else
        choice_free(c);
    return a;
}

void choice_cancel(struct choice **cp)
{
    struct choice *c = *cp;
    *cp = NULL;
    if (!c) return;
    if (c->waiting && c->later.cancel) c->later.cancel(&c->later);
    choice_free(c);
}
