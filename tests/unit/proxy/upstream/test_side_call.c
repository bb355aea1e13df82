/* Side calls: how each ends, that it ends once, and that nothing comes after its owner is gone. */
#include "proxy/api/side_call.h"
#include "tests/unit/proxy/upstream/help.h"

struct call {
    struct runtime *rt;
    struct side_target target;
    struct side_owner owner;
    struct side_call *call;
    const char *path;
    struct arena *arena;
    unsigned ended;
    bool done, cancel_in_event, stream;
    enum side_failure failure;
    uint32_t status;
    size_t body;
    struct sb data; /* of a stream */
};

static void call_done(void *arg)
{
    ((struct call *)arg)->done = true;
}

static void on_end(struct side_call *sc, void *arg, const struct side_end *e)
{
    struct call *c = arg;
    must(sc == c->call);
    c->ended++;
    c->call = NULL;
    c->failure = e->failure;
    c->status = e->status;
    c->body = e->body ? buf_len(e->body) : 0;
    runtime_to_main(c->rt, call_done, c);
}

static void on_headers(struct side_call *sc, void *arg, const struct headers *h, bool end)
{
    struct call *c = arg;
    (void)sc, (void)h, (void)end;
    if (!c->cancel_in_event) return;
    side_call_cancel(&c->call);
    runtime_to_main(c->rt, call_done, c);
}

static void on_data(struct side_call *sc, void *arg, struct buf *data, bool end)
{
    struct call *c = arg;
    (void)sc, (void)end;
    sb_add(&c->data, buf_dup(data, c->arena));
}

static const struct side_events whole_events = {.on_end = on_end};
static const struct side_events stream_events = {
    .on_headers = on_headers, .on_data = on_data, .on_end = on_end};

static void call_start(struct worker *w, void *arg)
{
    struct call *c = arg;
    struct side_ask q = {.worker = w,
                         .owner = &c->owner,
                         .target = &c->target,
                         .events = c->stream ? &stream_events : &whole_events,
                         .arg = c};
    struct arena *a = arena_new("headers", 0);
    struct headers *h = headers_new(a);
    if (c->path) headers_add_id(h, HDR_PATH, str_of(c->path));
    c->call = c->stream ? side_http_stream(&q, h, true) : side_http(&q, h, NULL);
    must(c->ended == 0); /* never inside the call that starts it */
    arena_free(&a);
}

static void call_release(struct worker *w, void *arg)
{
    (void)w;
    side_owner_release(&((struct call *)arg)->owner);
}

static struct call call_make(struct world *w, const char *path)
{
    return (struct call){.rt = w->rt,
                         .path = path,
                         .arena = arena_new("call", 0),
                         .target = {.cluster = STR("c"), .authority = STR("c"), .path = STR("/")}};
}

static void call_run(struct world *w, struct call *c)
{
    runtime_each_worker(w->rt, call_start, c, NULL);
    while (!c->done)
        loop_turn(w->main, true);
    settle(w);
    settle(w);
}

static void call_drop(struct call *c)
{
    sb_release(&c->data);
    arena_free(&c->arena);
}

static void use_cluster(struct world *w, struct cluster *c)
{
    (void)cluster_manager_set(w->cm, c);
    settle(w);
}

static void gets_an_answer(void **state)
{
    struct world *w = *state;
    use_cluster(w, cluster_make(w, 1, w->server.port, 10));
    struct call c = call_make(w, NULL); /* method, path, authority and scheme of the target */
    call_run(w, &c);
    assert_int_equal(c.failure, SIDE_OK);
    assert_int_equal(c.status, 200);
    assert_int_equal(c.body, 2);
    assert_int_equal(c.ended, 1);
    call_drop(&c);
    c = call_make(w, "/");
    c.stream = true;
    call_run(w, &c);
    assert_int_equal(c.failure, SIDE_OK);
    assert_true(str_eq(sb_str(&c.data), STR("ok")));
    assert_int_equal(c.body, 0);
    call_drop(&c);
}

static enum side_failure failure_of(struct world *w, const char *path, struct side_target *over)
{
    struct call c = call_make(w, path);
    if (over) c.target = *over;
    call_run(w, &c);
    assert_int_equal(c.ended, 1);
    assert_int_equal(side_failure_status(c.failure), c.failure == SIDE_TIMEOUT ? 504 : 503);
    call_drop(&c);
    return c.failure;
}

static void tells_failures(void **state)
{
    struct world *w = *state;
    struct side_target nobody = {.cluster = STR("nobody")},
                       hasty = {.cluster = STR("c"), .timeout_us = 20000},
                       narrow = {.cluster = STR("c"), .answer_most = 1};
    use_cluster(w, cluster_make(w, 1, w->server.port, 10));
    assert_int_equal(failure_of(w, "/", &nobody), SIDE_NO_CLUSTER);
    assert_int_equal(failure_of(w, "/eof", NULL), SIDE_RESET);
    assert_int_equal(failure_of(w, "/bad", NULL), SIDE_RESET);
    assert_int_equal(failure_of(w, "/silent", &hasty), SIDE_TIMEOUT);
    assert_int_equal(failure_of(w, "/", &narrow), SIDE_TOO_LARGE);
    use_cluster(w, cluster_make(w, 2, 1, 10)); /* nobody listens on port 1 */
    assert_int_equal(failure_of(w, "/", NULL), SIDE_CONNECT_FAILED);
    use_cluster(w, cluster_make(w, 3, 0, 10));
    assert_int_equal(failure_of(w, "/", NULL), SIDE_NO_HOST);
    use_cluster(w, cluster_make(w, 4, w->server.port, 0));
    assert_int_equal(failure_of(w, "/", NULL), SIDE_OVERFLOW);
}

/* An owner that ends takes its calls with it, at each of their stages. */
static void ends_with_its_owner(void **state)
{
    struct world *w = *state;
    use_cluster(w, cluster_make(w, 1, w->server.port, 10));
    struct call lost[3] = {call_make(w, "/silent"), call_make(w, "/"), call_make(w, "/eof")};
    for (size_t i = 0; i < ARRAY_LEN(lost); i++) {
        runtime_each_worker(w->rt, call_start, &lost[i], NULL);
        if (i == 0) settle(w);
        runtime_each_worker(w->rt, call_release, &lost[i], NULL);
    }
    settle(w);
    struct call after = call_make(w, "/");
    call_run(w, &after);
    assert_int_equal(after.failure, SIDE_OK);
    for (size_t i = 0; i < ARRAY_LEN(lost); i++) {
        assert_int_equal(lost[i].ended, 0);
        call_drop(&lost[i]);
    }
    call_drop(&after);
}

static void is_cancelled_inside_an_event(void **state)
{
    struct world *w = *state;
    use_cluster(w, cluster_make(w, 1, w->server.port, 10));
    struct call c = call_make(w, "/");
    c.stream = c.cancel_in_event = true;
    call_run(w, &c);
    assert_null(c.call);
    assert_int_equal(c.ended, 0);
    assert_int_equal(c.data.len, 0);
    call_drop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(gets_an_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(tells_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(ends_with_its_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(is_cancelled_inside_an_event, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
