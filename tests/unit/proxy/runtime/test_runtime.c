/* The runtime: publication, pins, calls between threads, runtime values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/runtime/values.h"
#include "proxy/stats/stats.h"

enum { WORKERS = 3 };
static atomic_int started, stopped, changes, freed;
static struct runtime *rt;
static struct loop *main_loop;
static struct stats *stats;

static void on_start(struct worker *w)
{
    assert_ptr_equal(worker_self(), w);
    atomic_fetch_add(&started, 1);
}

static void on_stop(struct worker *w)
{
    struct pin *p = w->slot[WORKER_HTTP];
    w->slot[WORKER_HTTP] = NULL;
    pin_drop(w, &p);
    atomic_fetch_add(&stopped, 1);
}

static void on_changed(struct worker *w, enum table t, struct str name, struct pin *old,
                       struct pin *now)
{
    (void)t;
    (void)name;
    assert_true(!old || !old->current);
    assert_true(!now || now->current);
    /* A connection that began with the first version keeps it. */
    if (now && str_eq(now->obj->version, STR("1"))) w->slot[WORKER_HTTP] = pin_hold(now);
    atomic_fetch_add(&changes, 1);
}

static const struct worker_hooks hooks = {
    .start = on_start, .stop = on_stop, .changed = on_changed};

static void on_free(struct obj *o)
{
    (void)o;
    assert_null(worker_self());
    atomic_fetch_add(&freed, 1);
}

static void publish(const char *version)
{
    struct obj *o = obj_new(sizeof(*o), "test");
    o->version = str_dup(o->arena, str_of(version));
    o->on_free = on_free;
    runtime_publish(rt, TABLE_ROUTES, STR("web"), o);
    runtime_publish(rt, TABLE_ROUTES, STR("web"), o);
    obj_unref(&o);
}

static void look(struct worker *w, void *arg)
{
    const char *version = arg;
    struct pin *p = worker_find(w, TABLE_ROUTES, STR("web"), hash_str(STR("web")));
    if (!version) {
        assert_null(p);
        return;
    }
    assert_non_null(p);
    assert_true(str_eq(p->obj->version, str_of(version)));
    assert_true(str_ends(worker_date(w), STR(" GMT")));
}

static bool looked;

static void on_looked(void *arg)
{
    (void)arg;
    looked = true;
}

static void expect(char *version)
{
    looked = false;
    runtime_each_worker(rt, look, version, on_looked);
    while (!looked)
        loop_turn(main_loop, true);
}

static void setup_runtime(void)
{
    main_loop = loop_new();
    stats = stats_new(WORKERS + 1);
    rt = runtime_new(main_loop, stats, WORKERS);
}

static void teardown_runtime(void)
{
    runtime_stop(rt);
    runtime_free(&rt);
    stats_free(&stats);
    loop_free(&main_loop);
}

static void publishes_in_order_and_frees_what_nobody_uses(void **state)
{
    static char one[] = "1", three[] = "3";
    (void)state;
    setup_runtime();
    runtime_add_hooks(rt, &hooks);
    publish("1");
    runtime_start(rt);
    assert_int_equal(atomic_load(&started), WORKERS);
    expect(one);
    publish("2");
    publish("3");
    expect(three);
    expect(three); /* the objects that were given back have arrived by now */
    assert_int_equal(atomic_load(&freed), 1); /* "2"; "1" is pinned */
    assert_int_equal(atomic_load(&changes), 3 * WORKERS);
    runtime_publish(rt, TABLE_ROUTES, STR("web"), NULL);
    expect(NULL);
    teardown_runtime();
    assert_int_equal(atomic_load(&stopped), WORKERS);
    assert_int_equal(atomic_load(&freed), 3);
}

static void a_runtime_that_never_started_frees_all(void **state)
{
    (void)state;
    atomic_store(&freed, 0);
    setup_runtime();
    publish("1");
    publish("2");
    teardown_runtime();
    assert_int_equal(atomic_load(&freed), 2);
}

static struct runtime_value *value(struct runtime_values *v, const char *key)
{
    struct runtime_value *x = ARENA_NEW(v->obj.arena, struct runtime_value);
    (void)map_put(&v->by_key, str_of(key), x);
    return x;
}

static void release_values(struct obj *o)
{
    map_release(&CONTAINER_OF(o, struct runtime_values, obj)->by_key);
}

static void values_fall_back(void **state)
{
    (void)state;
    setup_runtime();
    assert_int_equal(runtime_u64(NULL, STR("n"), 3), 3);
    struct runtime_values *v = obj_new(sizeof(*v), "values");
    v->obj.on_free = release_values;
    *value(v, "n") = (struct runtime_value){.has_number = true, .number = 25};
    *value(v, "neg") = (struct runtime_value){.has_number = true, .number = -1};
    *value(v, "b") = (struct runtime_value){.has_bool = true, .boolean = true};
    *value(v, "f") =
        (struct runtime_value){.has_fraction = true, .numerator = 1, .denominator = 10000};
    runtime_publish(rt, TABLE_RUNTIME, STR(""), &v->obj);
    struct obj *o = &v->obj;
    obj_unref(&o);
    assert_int_equal(runtime_u64(NULL, STR("n"), 3), 25);
    assert_int_equal(runtime_u64(NULL, STR("neg"), 3), 3);
    assert_int_equal(runtime_u64(NULL, STR("b"), 3), 3);
    assert_true(runtime_bool(NULL, STR("b"), false) && runtime_bool(NULL, STR("none"), true));
    assert_true(runtime_fraction(NULL, STR("n"), 0, 100, 24) &&
                !runtime_fraction(NULL, STR("n"), 0, 100, 25));
    assert_true(runtime_fraction(NULL, STR("f"), 100, 100, 10000) &&
                !runtime_fraction(NULL, STR("f"), 100, 100, 1));
    assert_true(runtime_fraction(NULL, STR(""), 50, 100, 149) &&
                !runtime_fraction(NULL, STR("x"), 50, 100, 150));
    teardown_runtime();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(publishes_in_order_and_frees_what_nobody_uses),
        cmocka_unit_test(a_runtime_that_never_started_frees_all),
        cmocka_unit_test(values_fall_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
