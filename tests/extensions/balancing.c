/* Balancing policies.
 *
 * test.heavy (configured by an OverrideHost message, of which it reads fallback_policy) lets its
 * inner policy choose among the hosts that weigh more than 1.
 * test.later (a ClientSideWeightedRoundRobin message) answers after a while: x-test-delay-ms;
 * x-test-choice: none, or else the first host. It answers at once when the first host is the one of
 * x-test-until. */
#include "base/arena.h"
#include "base/loop.h"
#include "base/must.h"
#include "envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/client_side_weighted_round_robin.pb-c.h"
#include "envoy/extensions/load_balancing_policies/override_host/v3/override_host.pb-c.h"
#include "proxy/api/headers.h"
#include "proxy/api/lb_policy.h"
#include "proxy/api/upstream.h"
#include "proxy/runtime/runtime.h"

/* --- a policy with an inner one
 * ----------------------------------------------------------------------------------- */
struct heavy_table {
    struct lb_hosts hosts;
    const void *inner;
};
struct heavy_cursor {
    const struct lb_child *child;
    void *inner;
};

static const void *heavy_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__LoadBalancingPolicies__OverrideHost__V3__OverrideHost *m =
        (const void *)msg;
    struct lb_child *c = ARENA_NEW(conf_arena(at), struct lb_child);
    struct conf_at here = conf_field(at, "fallback_policy");
    return conf_lb_child(&here, m->fallback_policy, c) ? c : NULL;
}

static const struct lb_child *heavy_child(const void *conf)
{
    return conf;
}

static const void *heavy_table_create(struct arena *a, const void *conf,
                                      const struct lb_hosts *hosts)
{
    struct heavy_table *t = ARENA_NEW(a, struct heavy_table);
    struct host **v = ARENA_ARRAY(a, struct host *, hosts->count);
    for (uint32_t i = 0; i < hosts->count; i++) {
        if (host_weight(hosts->v[i]) > 1) v[t->hosts.count++] = hosts->v[i];
    }
    t->hosts.v = v;
    t->inner = lb_child_table(conf, a, &t->hosts);
    return t;
}

static void heavy_cursor_init(void *cursor, const void *conf, struct worker *w)
{
    struct heavy_cursor *c = cursor;
    c->child = conf;
    c->inner = lb_child_cursor_new(c->child, w);
}

static void heavy_cursor_release(void *cursor)
{
    struct heavy_cursor *c = cursor;
    lb_child_cursor_free(c->child, &c->inner);
}

static enum lb_answer heavy_choose(void *cursor, const void *conf, const void *table,
                                   const struct lb_hosts *hosts, const struct lb_ask *ask,
                                   struct lb_later *later, struct host **out)
{
    struct heavy_cursor *c = cursor;
    const struct heavy_table *t = table;
    (void)conf, (void)hosts;
    if (t->hosts.count == 0) return LB_NONE;
    return lb_choose(c->child->type, c->inner, c->child->conf, t->inner, &t->hosts, ask, later,
                     out);
}

const struct lb_policy_type test_heavy = {
    .ext =
        {.name = "test.heavy",
         .config =
             &envoy__extensions__load_balancing_policies__override_host__v3__override_host__descriptor},
    .cursor_size = sizeof(struct heavy_cursor),
    .child = heavy_child,
    .conf_create = heavy_conf_create,
    .table_create = heavy_table_create,
    .cursor_init = heavy_cursor_init,
    .choose = heavy_choose,
    .cursor_release = heavy_cursor_release,
};

/* --- a policy that answers later
 * ---------------------------------------------------------------------------------- */
struct later_cursor {
    struct list waiting; /* struct lb_later */
    struct worker *worker;
};
struct later_wait {
    struct loop_timer timer;
    struct lb_later *later;
    struct host *host; /* NULL: the answer is none */
};

static void later_cursor_init(void *cursor, const void *conf, struct worker *w)
{
    struct later_cursor *c = cursor;
    (void)conf;
    list_init(&c->waiting);
    c->worker = w;
}

static struct later_wait *wait_of(struct lb_later *l)
{
    return l->priv[0];
}

static void wait_end(struct later_wait *w)
{
    list_remove(&w->later->link);
    loop_timer_stop(&w->timer);
    mem_free(w);
}

static void wait_fire(struct loop_timer *t)
{
    struct later_wait *w = CONTAINER_OF(t, struct later_wait, timer);
    struct lb_later *l = w->later;
    struct host *h = w->host;
    wait_end(w);
    l->done(l, h ? LB_HOST : LB_NONE, h);
}

static void wait_cancel(struct lb_later *l)
{
    wait_end(wait_of(l));
}

static enum lb_answer later_choose(void *cursor, const void *conf, const void *table,
                                   const struct lb_hosts *hosts, const struct lb_ask *ask,
                                   struct lb_later *later, struct host **out)
{
    struct later_cursor *c = cursor;
    uint64_t ms = 0;
    (void)conf, (void)table;
    if (ask->headers) {
        (void)str_to_u64(headers_find(ask->headers, STR("x-test-delay-ms")), &ms);
        if (str_eq(headers_find(ask->headers, STR("x-test-until")),
                   host_address_text(hosts->v[0]))) {
            *out = hosts->v[0];
            return LB_HOST;
        }
    }
    struct later_wait *w = mem_alloc(sizeof(*w));
    w->later = later;
    w->host = hosts->v[0];
    if (ask->headers && str_eq(headers_find(ask->headers, STR("x-test-choice")), STR("none")))
        w->host = NULL;
    later->priv[0] = w;
    later->cancel = wait_cancel;
    list_push_back(&c->waiting, &later->link);
    loop_timer_start(c->worker->loop, &w->timer, ms * 1000, wait_fire);
    return LB_LATER;
}

static void later_cursor_release(void *cursor)
{
    struct later_cursor *c = cursor;
    for (struct list *it; (it = list_first(&c->waiting));) {
        struct lb_later *l = CONTAINER_OF(it, struct lb_later, link);
        wait_end(wait_of(l));
        l->done(l, LB_AGAIN, NULL);
    }
}

const struct lb_policy_type test_later = {
    .ext =
        {.name = "test.later",
         .config =
             &envoy__extensions__load_balancing_policies__client_side_weighted_round_robin__v3__client_side_weighted_round_robin__descriptor},
    .cursor_size = sizeof(struct later_cursor),
    .cursor_init = later_cursor_init,
    .choose = later_choose,
    .cursor_release = later_cursor_release,
};
