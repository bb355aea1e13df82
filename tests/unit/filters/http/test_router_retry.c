/* Which outcomes a policy and a request's headers want another try for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/must.h"
#include "filters/http/router.h"
#include "proxy/runtime/runtime.h"

struct env {
    struct arena *arena;
    struct runtime rt;
    struct worker worker;
    struct stream_info info;
    struct route route;
    struct retry_policy policy;
    struct router r;
};

static int setup(void **state)
{
    struct env *e = mem_alloc(sizeof(*e));
    e->arena = arena_new("test", 0);
    e->worker.rt = &e->rt;
    e->info.arena = e->arena;
    e->policy.num_retries = 1;
    e->r.f.worker = &e->worker;
    e->r.info = &e->info;
    e->r.route = &e->route;
    e->r.req = headers_new(e->arena);
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    arena_free(&e->arena);
    mem_free(e);
    return 0;
}

/* The policy has these conditions. */
static void with_policy(struct env *e, uint32_t on)
{
    e->policy.on = on;
    e->r.retry_policy = &e->policy;
    router_retry_init(&e->r);
}

static struct headers *answer(struct env *e, uint32_t status, const char *name, const char *value)
{
    struct headers *h = headers_new(e->arena);
    headers_set_status(h, status);
    if (name) headers_add(h, str_of(name), str_of(value));
    return h;
}

static bool wants(struct env *e, uint32_t status, const char *name, const char *value)
{
    return router_retry_by_headers(&e->r, answer(e, status, name, value)) != RETRY_NO;
}

static void nobody_asks_nobody_gets(void **state)
{
    struct env *e = *state;
    router_retry_init(&e->r);
    assert_false(wants(e, 503, NULL, NULL));
    assert_int_equal(router_retry_by_reset(&e->r, RESET_REMOTE, false), RETRY_NO);
}

static void status_codes_by_condition(void **state)
{
    static const struct {
        uint32_t on, status;
        bool wanted;
    } cases[] = {
        {RETRY_5XX, 500, true},
        {RETRY_5XX, 599, true},
        {RETRY_5XX, 499, false},
        {RETRY_GATEWAY_ERROR, 500, false},
        {RETRY_GATEWAY_ERROR, 502, true},
        {RETRY_GATEWAY_ERROR, 504, true},
        {RETRY_GATEWAY_ERROR, 505, false},
        {RETRY_RETRIABLE_4XX, 409, true},
        {RETRY_RETRIABLE_4XX, 408, false},
        {RETRY_RETRIABLE_STATUS_CODES, 418, true},
        {RETRY_RETRIABLE_STATUS_CODES, 419, false},
        {RETRY_CONNECT_FAILURE, 503, false},
    };
    struct env *e = *state;
    uint32_t codes[] = {418};
    e->policy.status_codes = codes;
    e->policy.status_code_count = 1;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        with_policy(e, cases[i].on);
        assert_int_equal(wants(e, cases[i].status, NULL, NULL), cases[i].wanted);
    }
}

static void resets_by_condition(void **state)
{
    static const struct {
        uint32_t on;
        enum stream_reset why;
        bool started, wanted;
    } cases[] = {
        {RETRY_RESET, RESET_REMOTE, true, true},
        {RETRY_5XX, RESET_REMOTE, true, true},
        {RETRY_RESET_BEFORE_REQUEST, RESET_REMOTE, false, true},
        {RETRY_RESET_BEFORE_REQUEST, RESET_REMOTE, true, false},
        {RETRY_CONNECT_FAILURE, RESET_CONNECT_TIMEOUT, false, true},
        {RETRY_CONNECT_FAILURE, RESET_REMOTE, false, false},
        {RETRY_REFUSED_STREAM, RESET_REMOTE_REFUSED, true, true},
        {RETRY_REFUSED_STREAM, RESET_REMOTE, true, false},
        {RETRY_5XX | RETRY_RESET, RESET_OVERFLOW, false, false}, /* a breaker's no is final */
        {RETRY_RETRIABLE_4XX, RESET_REMOTE, false, false},
    };
    struct env *e = *state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        with_policy(e, cases[i].on);
        bool got = router_retry_by_reset(&e->r, cases[i].why, cases[i].started) != RETRY_NO;
        assert_int_equal(got, cases[i].wanted);
    }
}

static void a_rate_limited_answer_is_final_unless_asked_for(void **state)
{
    struct env *e = *state;
    with_policy(e, RETRY_5XX);
    assert_false(wants(e, 503, "x-envoy-ratelimited", "true"));
    with_policy(e, RETRY_ENVOY_RATELIMITED);
    assert_true(wants(e, 429, "x-envoy-ratelimited", "true"));
}

static void grpc_statuses(void **state)
{
    struct env *e = *state;
    with_policy(e, RETRY_GRPC_UNAVAILABLE | RETRY_GRPC_CANCELLED);
    assert_true(wants(e, 200, "grpc-status", "14"));
    assert_true(wants(e, 200, "grpc-status", "1"));
    assert_false(wants(e, 200, "grpc-status", "13"));
    assert_false(wants(e, 200, "grpc-status", "x"));
}

static void the_request_may_ask_for_itself(void **state)
{
    struct env *e = *state;
    headers_add(e->r.req, STR("x-envoy-retry-on"), STR("retriable-status-codes,retriable-headers"));
    headers_add(e->r.req, STR("x-envoy-max-retries"), STR("7"));
    headers_add(e->r.req, STR("x-envoy-retriable-status-codes"), STR("401, 402,x,"));
    headers_add(e->r.req, STR("x-envoy-retriable-header-names"), STR("X-Again, "));
    router_retry_init(&e->r);
    assert_int_equal(e->r.retry.left, 7);
    assert_true(wants(e, 402, NULL, NULL));
    assert_false(wants(e, 403, NULL, NULL));
    assert_true(wants(e, 200, "x-again", ""));
    assert_int_equal(e->r.req->live, 0); /* the upstream does not see them */
}

static void headers_without_conditions_change_nothing(void **state)
{
    struct env *e = *state;
    headers_add(e->r.req, STR("x-envoy-max-retries"), STR("9"));
    headers_add(e->r.req, STR("x-envoy-retriable-status-codes"), STR("500"));
    router_retry_init(&e->r);
    assert_int_equal(e->r.retry.left, 1);
    assert_int_equal(e->r.retry.code_count, 0);
    assert_int_equal(e->r.req->live, 0);
}

static void the_back_off_has_its_bounds(void **state)
{
    struct env *e = *state;
    with_policy(e, RETRY_5XX);
    assert_int_equal(e->r.retry.backoff_next, 25 * 1000);
    assert_int_equal(e->r.retry.backoff_max, 250 * 1000);
    e->policy.backoff_base_us = 10; /* Envoy: at least a millisecond */
    e->policy.backoff_max_us = 90 * 1000;
    with_policy(e, RETRY_5XX);
    assert_int_equal(e->r.retry.backoff_next, 1000);
    assert_int_equal(e->r.retry.backoff_max, 90 * 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nobody_asks_nobody_gets, setup, teardown),
        cmocka_unit_test_setup_teardown(status_codes_by_condition, setup, teardown),
        cmocka_unit_test_setup_teardown(resets_by_condition, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rate_limited_answer_is_final_unless_asked_for, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(grpc_statuses, setup, teardown),
        cmocka_unit_test_setup_teardown(the_request_may_ask_for_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_without_conditions_change_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_back_off_has_its_bounds, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
