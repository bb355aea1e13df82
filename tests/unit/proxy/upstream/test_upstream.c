/* A worker, a cluster and a small server in one process: exchanges, reuse, failures, breakers,
 * updates. */
#include "tests/unit/proxy/upstream/help.h"

/* --- one exchange in the worker
 * ---------------------------------------------------------------------------------------------------------------
 */
struct ask {
    const char *path;
    struct runtime *rt;
    struct upstream_attempt a;
    struct arena *arena;
    uint32_t status;
    int failure; /* -1: none */
    int reset;
    bool reused, complete, cancel;
    struct sb body;
    bool done;
};

static void ask_done(void *arg)
{
    ((struct ask *)arg)->done = true;
}
static void ask_end(struct upstream_attempt *a)
{
    struct ask *q = a->owner;
    runtime_to_main(q->rt, ask_done, q);
}
static void on_ready(struct upstream_attempt *a)
{
    struct ask *q = a->owner;
    struct headers *h = headers_new(a->arena);
    headers_add_id(h, HDR_METHOD, STR("GET"));
    headers_add_id(h, HDR_PATH, str_of(q->path));
    headers_add_id(h, HDR_AUTHORITY, STR("test"));
    headers_add_id(h, HDR_SCHEME, STR("http"));
    q->reused = a->reused;
    upstream_send_headers(a, h, true);
    if (!q->cancel) return;
    upstream_cancel(a);
    ask_end(a);
}
static void on_failure(struct upstream_attempt *a, enum upstream_failure why, struct str detail)
{
    (void)detail;
    ((struct ask *)a->owner)->failure = (int)why;
    ask_end(a);
}
static void on_headers(struct upstream_attempt *a, struct headers *h, bool end)
{
    (void)end;
    ((struct ask *)a->owner)->status = headers_status(h);
}
static void on_data(struct upstream_attempt *a, struct buf *data, bool end)
{
    (void)end;
    struct ask *q = a->owner;
    sb_add(&q->body, buf_dup(data, q->arena));
    buf_drain(data, buf_len(data));
}
static void on_trailers(struct upstream_attempt *a, struct headers *t)
{
    (void)a, (void)t;
}
static void on_reset(struct upstream_attempt *a, enum stream_reset why, struct str details)
{
    (void)details;
    ((struct ask *)a->owner)->reset = (int)why;
    ask_end(a);
}
static void on_complete(struct upstream_attempt *a)
{
    ((struct ask *)a->owner)->complete = true;
    ask_end(a);
}
static const struct upstream_events events = {
    .on_ready = on_ready,
    .on_failure = on_failure,
    .on_headers = on_headers,
    .on_data = on_data,
    .on_trailers = on_trailers,
    .on_reset = on_reset,
    .on_complete = on_complete,
};

static void ask_start(struct worker *w, void *arg)
{
    struct ask *q = arg;
    struct str name = STR("c");
    struct upstream_cluster *uc = upstream_find(w, name, hash_str(name));
    if (!uc) {
        q->failure = 99;
        runtime_to_main(w->rt, ask_done, q);
        return;
    }
    q->a = (struct upstream_attempt){.events = &events, .owner = q, .arena = q->arena};
    struct lb_ask ask = {.worker = w};
    upstream_start(w, uc, &q->a, &ask);
}

static struct ask run_with(struct world *w, const char *path, bool cancel)
{
    struct ask q = {
        .path = path, .rt = w->rt, .failure = -1, .cancel = cancel, .arena = arena_new("ask", 0)};
    runtime_each_worker(w->rt, ask_start, &q, NULL);
    while (!q.done)
        loop_turn(w->main, true);
    settle(w);
    arena_free(&q.arena);
    sb_release(&q.body);
    return q;
}
static struct ask run(struct world *w, const char *path)
{
    return run_with(w, path, false);
}
static uint64_t value(struct world *w, enum cluster_stat which)
{
    struct stat_group *g =
        stat_group_get(w->stats, STR("cluster.c."), cluster_stat_defs, CLUSTER_STAT_COUNT);
    uint64_t v = stat_value(g, which);
    stat_group_unref(&g);
    return v;
}

/* --- tests
 * ----------------------------------------------------------------------------------------------------------------------------------
 */
static void connections_are_reused_when_clean(void **state)
{
    struct world *w = *state;
    assert_int_equal(cluster_manager_set(w->cm, cluster_make(w, 1, w->server.port, 10)),
                     CLUSTER_ADDED);
    struct ask q = run(w, "/one");
    assert_int_equal(q.status, 200);
    assert_true(q.complete);
    assert_false(q.reused);
    assert_true(run(w, "/two").reused);
    assert_true(run(w, "/close").reused);
    assert_false(run(w, "/three").reused);
    assert_false(run(w, "/extra").complete && run(w, "/four").reused);
    assert_int_equal(value(w, CLUSTER_STAT_UPSTREAM_RQ_ACTIVE), 0);
    assert_int_equal(value(w, CLUSTER_STAT_UPSTREAM_RQ_PENDING_ACTIVE), 0);
}

static void broken_exchanges_are_told(void **state)
{
    struct world *w = *state;
    (void)cluster_manager_set(w->cm, cluster_make(w, 1, w->server.port, 10));
    assert_int_equal(run(w, "/eof").reset, RESET_CONN_TERMINATION);
    assert_int_equal(run(w, "/bad").reset, RESET_PROTOCOL_ERROR);
    assert_int_equal(run(w, "/fine").status, 200);
    struct ask q = run_with(w, "/silent", true);
    assert_int_equal(q.status, 0);
    assert_int_equal(value(w, CLUSTER_STAT_UPSTREAM_RQ_ACTIVE), 0);
}

static void failures_to_connect_are_told(void **state)
{
    struct world *w = *state;
    (void)cluster_manager_set(w->cm, cluster_make(w, 1, 1, 10)); /* nobody listens on port 1 */
    assert_int_equal(run(w, "/x").failure, UPSTREAM_CONNECT_FAILED);
    assert_int_equal(value(w, CLUSTER_STAT_UPSTREAM_CX_CONNECT_FAIL), 1);
    assert_int_equal(value(w, CLUSTER_STAT_UPSTREAM_CX_ACTIVE), 0);
    (void)cluster_manager_set(w->cm, cluster_make(w, 2, 0, 10));
    assert_int_equal(run(w, "/x").failure, UPSTREAM_NO_HOST);
    (void)cluster_manager_set(w->cm, cluster_make(w, 3, w->server.port, 0));
    assert_int_equal(run(w, "/x").failure, UPSTREAM_OVERFLOW);
    assert_int_equal(value(w, CLUSTER_STAT_UPSTREAM_RQ_PENDING_OVERFLOW), 1);
}

static void updates_and_removal(void **state)
{
    struct world *w = *state;
    assert_int_equal(cluster_manager_set(w->cm, cluster_make(w, 1, w->server.port, 10)),
                     CLUSTER_ADDED);
    (void)run(w, "/one");
    assert_int_equal(cluster_manager_set(w->cm, cluster_make(w, 1, w->server.port, 10)),
                     CLUSTER_UNCHANGED);
    assert_true(run(w, "/two").reused);
    assert_int_equal(cluster_manager_set(w->cm, cluster_make(w, 2, w->server.port, 10)),
                     CLUSTER_UPDATED);
    assert_false(run(w, "/three").reused); /* Envoy: an updated cluster has new pools */
    assert_true(cluster_manager_remove(w->cm, STR("c")));
    assert_false(cluster_manager_remove(w->cm, STR("c")));
    assert_int_equal(run(w, "/four").failure, 99);
}

static int active_calls;
static void count_active(void *arg, struct str name)
{
    (void)arg, (void)name;
    active_calls++;
}

static void eds_waits_for_endpoints(void **state)
{
    struct world *w = *state;
    active_calls = 0;
    cluster_manager_on_active(w->cm, count_active, NULL);
    struct cluster *c = cluster_make(w, 1, w->server.port, 10);
    c->discovery = CLUSTER_EDS;
    c->eds_service = str_dup(c->obj.arena, STR("svc"));
    struct load_assignment *la = c->endpoints;
    c->endpoints = NULL;
    (void)cluster_manager_set(w->cm, c);
    assert_true(cluster_manager_warming(w->cm, STR("c")));
    assert_int_equal(run(w, "/x").failure, 99);
    obj_ref(&la->obj);
    cluster_manager_endpoints(w->cm, STR("svc"), la);
    assert_int_equal(active_calls, 1);
    assert_int_equal(run(w, "/x").status, 200);
    la->stale_after_us = 1000; /* given up when nobody tells them again */
    cluster_manager_endpoints(w->cm, STR("svc"), la);
    while (value(w, CLUSTER_STAT_ASSIGNMENT_STALE) == 0)
        loop_turn(w->main, true);
    assert_int_equal(run(w, "/x").failure, UPSTREAM_NO_HOST);
    assert_int_equal(value(w, CLUSTER_STAT_MEMBERSHIP_CHANGE), 2);
}

static void names_are_resolved(void **state)
{
    struct world *w = *state;
    struct cluster *c = cluster_make(w, 1, w->server.port, 10);
    struct dns_settings *d = ARENA_NEW(c->obj.arena, struct dns_settings);
    d->family = 1; /* V4_ONLY */
    d->refresh_us = d->failure_base_us = d->failure_max_us = 60000000;
    c->dns = d;
    c->discovery = CLUSTER_STRICT_DNS;
    struct endpoint *e = &c->endpoints->v[0].v[0];
    e->dns = STR("localhost");
    e->port = w->server.port;
    e->addr.len = 0;
    (void)cluster_manager_set(w->cm, c);
    while (cluster_manager_warming(w->cm, STR("c")))
        loop_turn(w->main, true);
    assert_int_equal(run(w, "/x").status, 200);
    assert_int_equal(value(w, CLUSTER_STAT_UPDATE_SUCCESS), 1);
    assert_true(str_eq(cluster_manager_hosts(w->cm, STR("c"))->hosts[0]->name, STR("localhost")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(connections_are_reused_when_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_exchanges_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_to_connect_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(updates_and_removal, setup, teardown),
        cmocka_unit_test_setup_teardown(eds_waits_for_endpoints, setup, teardown),
        cmocka_unit_test_setup_teardown(names_are_resolved, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
