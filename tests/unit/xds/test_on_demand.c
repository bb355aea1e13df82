/* Requests that wait for the control plane, and those that gave up waiting. */
#include "proxy/api/on_demand.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/must.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "xds/xds_internal.h"

#define NAME STR("web/unknown.com")

struct fixture {
    struct xds x;
    size_t answered;
    struct on_demand last;
};

static void asked(void *arg, struct on_demand_call *call)
{
    demand_wait(&((struct fixture *)arg)->x, NAME, call);
}

static void answered(struct on_demand *d, bool found)
{
    struct fixture *f = CONTAINER_OF(d, struct fixture, last);
    assert_false(found);
    f->answered++;
}

static void test_what_gave_up_waiting_is_bounded(void **state)
{
    enum { MANY = 70000, BOUND = 65536 };
    static const struct on_demand_ops ops = {.asked = asked};
    (void)state;
    struct loop *main = loop_new();
    struct stats *stats = stats_new(2);
    struct runtime *rt = runtime_new(main, stats, 1);
    struct worker *w = rt->workers[0];
    struct fixture *f = mem_alloc(sizeof *f);
    f->x.env.rt = rt;
    on_demand_serve(rt, &ops, f);
    struct on_demand_question q = {.kind = ON_DEMAND_VIRTUAL_HOST, .name = NAME};
    for (size_t i = 0; i < MANY; i++) {
        assert_true(on_demand_ask(w, &f->last, &q, answered));
        if (i + 1 < MANY) on_demand_cancel(&f->last);
    }
    loop_turn(main, false);
    assert_int_equal(f->x.asking, BOUND);
    loop_turn(w->loop, false);
    assert_int_equal(f->answered, 1); /* the last one found no place: told at once */
    demands_free(&f->x);
    assert_int_equal(f->x.asking, 0);
    loop_turn(w->loop, false);
    mem_free(f);
    runtime_free(&rt);
    stats_free(&stats);
    loop_free(&main);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_gave_up_waiting_is_bounded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
