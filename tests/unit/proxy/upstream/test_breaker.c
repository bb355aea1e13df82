/* Circuit breakers: room, gauges, retry budgets, changed limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/must.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/upstream_internal.h"

struct env {
    struct stats *stats;
    struct cluster_shared shared;
    struct breaker_limits limits[BREAKER_PRIORITIES];
    struct cluster c;
};

static int setup(void **state)
{
    struct env *e = mem_alloc(sizeof(*e));
    e->stats = stats_new(1);
    stats_thread_enter(e->stats, 0);
    e->shared.stats =
        stat_group_get(e->stats, STR("cluster.c."), cluster_stat_defs, CLUSTER_STAT_COUNT);
    for (size_t i = 0; i < BREAKER_PRIORITIES; i++)
        e->limits[i] = (struct breaker_limits){2, 2, 2, 2, 2, true, false, 0, 0, UINT32_MAX};
    e->c.shared = &e->shared;
    e->c.limits = e->limits;
    breaker_limits_set(&e->shared, STR("c"), e->limits);
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    stat_group_unref(&e->shared.stats);
    stats_free(&e->stats);
    mem_free(e);
    return 0;
}

static void the_last_one_opens_it(void **state)
{
    struct env *e = *state;
    breaker_take(&e->c, UPSTREAM_DEFAULT, BREAKER_RQ);
    assert_true(breaker_room(&e->c, UPSTREAM_DEFAULT, BREAKER_RQ));
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_RQ_OPEN), 0);
    breaker_take(&e->c, UPSTREAM_DEFAULT, BREAKER_RQ);
    assert_false(breaker_room(&e->c, UPSTREAM_DEFAULT, BREAKER_RQ));
    assert_true(breaker_room(&e->c, UPSTREAM_HIGH, BREAKER_RQ));
    assert_true(breaker_room(&e->c, UPSTREAM_DEFAULT, BREAKER_CX));
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_RQ_OPEN), 1);
    breaker_give(&e->c, UPSTREAM_DEFAULT, BREAKER_RQ);
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_RQ_OPEN), 0);
    breaker_give(&e->c, UPSTREAM_DEFAULT, BREAKER_RQ);
}

static void the_budget_follows_the_requests(void **state)
{
    struct env *e = *state;
    e->limits[0].has_budget = true;
    e->limits[0].budget_percent = 50;
    e->limits[0].budget_min = 1;
    assert_true(breaker_room(&e->c, UPSTREAM_DEFAULT, BREAKER_RETRY));
    breaker_take(&e->c, UPSTREAM_DEFAULT, BREAKER_RETRY);
    assert_false(breaker_room(&e->c, UPSTREAM_DEFAULT, BREAKER_RETRY));
    for (int i = 0; i < 4; i++)
        breaker_take(&e->c, UPSTREAM_DEFAULT, BREAKER_RQ);
    assert_true(breaker_room(&e->c, UPSTREAM_DEFAULT, BREAKER_RETRY)); /* half of four is two */
}

static void new_limits_move_the_gauges(void **state)
{
    struct env *e = *state;
    struct breaker_limits now[BREAKER_PRIORITIES];
    breaker_limits_set(&e->shared, STR("c"), e->limits);
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_REMAINING_CX), 2);
    breaker_take(&e->c, UPSTREAM_DEFAULT, BREAKER_CX);
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_REMAINING_CX), 1);
    for (size_t i = 0; i < BREAKER_PRIORITIES; i++) {
        now[i] = e->limits[i];
        now[i].max_connections = 1;
    }
    breaker_limits_set(&e->shared, STR("c"), now);
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_CX_OPEN), 1);
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_REMAINING_CX), 0);
    breaker_limits_set(&e->shared, STR("c"), e->limits);
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_CX_OPEN), 0);
    assert_int_equal(stat_value(e->shared.stats, CLUSTER_STAT_CB_DEFAULT_REMAINING_CX), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_last_one_opens_it, setup, teardown),
        cmocka_unit_test_setup_teardown(the_budget_follows_the_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(new_limits_move_the_gauges, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
