/* A call's memory is the worker's from `start` until `done` comes back; `stop` may cross it. */
#include "xds/rest_call.h"

#include "base/arena.h"
#include "base/map.h"
#include "proxy/api/headers.h"
#include "proxy/api/side_call.h"
#include "proxy/net/socket.h"
#include "proxy/runtime/runtime.h"

struct rest_call {
    struct mail start, stop; /* both go to the worker and come back */
    struct arena *arena;
    struct runtime *rt;
    struct worker *worker;
    void (*done)(void *arg, const struct rest_answer *answer);
    void *arg;
    size_t *living;
    unsigned mails; /* main: on their way; memory goes with the last */
    bool cancelled; /* main */
    /* the worker's */
    struct side_target target;
    struct side_owner owner;
    struct side_call *call;
    struct str body;
    bool finished; /* `start` is on its way back */
    struct rest_answer answer;
};

/* Main: one of the mails is back. */
static void rest_call_drop(struct rest_call *c)
{
    if (--c->mails) return;
    struct arena *a = c->arena;
    (*c->living)--;
    arena_free(&a);
}

static void rest_call_back(struct mail *m)
{
    struct rest_call *c = CONTAINER_OF(m, struct rest_call, start);
    if (!c->cancelled) c->done(c->arg, &c->answer);
    rest_call_drop(c);
}

static void rest_call_stopped(struct mail *m)
{
    rest_call_drop(CONTAINER_OF(m, struct rest_call, stop));
}

/* Worker. */
static void rest_call_finish(struct rest_call *c)
{
    c->finished = true;
    c->call = NULL;
    c->start.deliver = rest_call_back;
    loop_post(c->rt->main, &c->start);
}

static void rest_call_end(struct side_call *call, void *arg, const struct side_end *e)
{
    struct rest_call *c = arg;
    (void)call;
    c->answer.status = e->failure == SIDE_OK ? e->status : 0;
    if (e->body) c->answer.body = buf_dup(e->body, c->arena);
    c->answer.why = e->failure == SIDE_TIMEOUT      ? STR("it did not answer in time")
                    : e->failure == SIDE_TOO_LARGE  ? STR("the answer is too large")
                    : e->failure == SIDE_NO_CLUSTER ? STR("the cluster is not there")
                    : e->details.len                ? str_dup(c->arena, e->details)
                                                    : STR("no answer");
    rest_call_finish(c);
}
static const struct side_events rest_call_events = {.on_end = rest_call_end};

static void rest_call_begin(struct mail *m)
{
    enum { MS_US = 1000 };
    struct rest_call *c = CONTAINER_OF(m, struct rest_call, start);
    struct headers *h = headers_new(c->arena);
    headers_add_id(h, HDR_METHOD, STR("POST"));
    headers_add_id(h, HDR_CONTENT_TYPE, STR("application/json"));
    headers_add_id(h, HDR_CONTENT_LENGTH, str_fmt(c->arena, "%zu", c->body.len));
    if (c->target.timeout_us)
        headers_add_id(
            h, HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
            str_fmt(c->arena, "%llu", (unsigned long long)(c->target.timeout_us / MS_US)));
    struct buf body = {0};
    buf_append_str(&body, c->body);
    const struct side_ask ask = {.worker = c->worker,
                                 .owner = &c->owner,
                                 .target = &c->target,
                                 .events = &rest_call_events,
                                 .arg = c};
    c->call = side_http(&ask, h, &body);
    buf_release(&body);
}

static void rest_call_end_early(struct mail *m)
{
    struct rest_call *c = CONTAINER_OF(m, struct rest_call, stop);
    if (!c->finished) {
        side_call_cancel(&c->call);
        rest_call_finish(c);
    }
    c->stop.deliver = rest_call_stopped;
    loop_post(c->rt->main, &c->stop);
}

struct rest_call *rest_call_new(struct runtime *rt, const struct rest_ask *ask, size_t *living,
                                void (*done)(void *arg, const struct rest_answer *answer),
                                void *arg)
{
    struct arena *a = arena_new("rest call", 0);
    struct rest_call *c = ARENA_NEW(a, struct rest_call);
    c->arena = a;
    c->rt = rt;
    c->worker = rt->workers[0];
    c->done = done;
    c->arg = arg;
    c->living = living;
    c->body = str_dup(a, ask->body);
    c->target.cluster = c->target.authority = str_dup(a, ask->cluster);
    c->target.cluster_hash = hash_str(ask->cluster);
    c->target.path = str_dup(a, ask->path);
    c->target.timeout_us = ask->timeout_us;
    c->target.answer_most = ask->answer_most;
    c->target.local_ip = socket_machine_ip(a);
    c->start.deliver = rest_call_begin;
    c->mails = 1;
    (*living)++;
    loop_post(c->worker->loop, &c->start);
    return c;
}

void rest_call_cancel(struct rest_call **call)
{
    struct rest_call *c = *call;
    *call = NULL;
    if (!c) return;
    c->cancelled = true;
    c->mails++;
    c->stop.deliver = rest_call_end_early;
    loop_post(c->worker->loop, &c->stop);
}
