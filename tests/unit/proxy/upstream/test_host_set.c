/* Priorities, panic, localities and the identity of hosts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/upstream/membership.h"

static struct cluster conf(void)
{
    return (struct cluster){.obj.name = STR("c"), .discovery = CLUSTER_EDS, .panic_percent = 50};
}

/* `healthy` healthy endpoints and `sick` unhealthy ones, of one priority, in their own locality. */
static struct locality_endpoints locality(struct arena *a, uint32_t priority, size_t healthy,
                                          size_t sick)
{
    enum { UNHEALTHY = 2 };
    struct locality_endpoints l = {.priority = priority, .count = healthy + sick};
    l.zone = str_fmt(a, "z%u", priority);
    l.v = ARENA_ARRAY(a, struct endpoint, l.count);
    for (size_t i = 0; i < l.count; i++) {
        assert_true(
            addr_parse_ip(STR("10.0.0.1"), (uint16_t)(1000 + priority * 100 + i), &l.v[i].addr));
        l.v[i].weight = 1;
        l.v[i].status = i < healthy ? 0 : UNHEALTHY;
    }
    return l;
}

static bool near(double a, double b)
{
    return a - b < 1e-9 && b - a < 1e-9;
}

static struct host_set *build(const struct cluster *c, struct locality_endpoints *v, size_t n,
                              const struct host_set *old)
{
    struct load_assignment la = {.v = v, .count = n, .overprovisioning = 140};
    bool changed, updated;
    return membership_build(c, &la, old, &changed, &updated);
}

static void drop(struct host_set *s)
{
    struct obj *o = &s->obj;
    obj_unref(&o);
}

static void one_priority_gets_all(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct cluster c = conf();
    struct locality_endpoints v[] = {locality(a, 0, 3, 0)};
    struct host_set *s = build(&c, v, 1, NULL);
    assert_int_equal(s->priorities[0].healthy_load, 100);
    assert_false(s->priorities[0].panic);
    assert_int_equal(s->host_count, 3);
    drop(s);
    arena_free(&a);
}

/* Envoy's table: at 71 % healthy (times 1.4) the first priority still takes all; at 50 % it gives
 * 30 % away. */
static void load_spills_over(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct cluster c = conf();
    struct locality_endpoints v[] = {locality(a, 0, 5, 5), locality(a, 1, 4, 0)};
    struct host_set *s = build(&c, v, 2, NULL);
    assert_int_equal(s->priorities[0].healthy_load, 70);
    assert_int_equal(s->priorities[1].healthy_load, 30);
    assert_false(s->priorities[0].panic); /* together they are 100 % available */
    drop(s);
    arena_free(&a);
}

static void panic_below_threshold(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct cluster c = conf();
    struct locality_endpoints v[] = {locality(a, 0, 1, 9)};
    struct host_set *s = build(&c, v, 1, NULL);
    assert_true(s->priorities[0].panic);
    assert_int_equal(s->priorities[0].healthy_load, 100);
    drop(s);
    c.panic_percent = 0;
    s = build(&c, v, 1, NULL);
    assert_false(s->priorities[0].panic);
    drop(s);
    arena_free(&a);
}

static void no_hosts_is_fine(void **state)
{
    (void)state;
    struct cluster c = conf();
    struct host_set *s = build(&c, NULL, 0, NULL);
    assert_int_equal(s->host_count, 0);
    assert_int_equal(s->priorities[0].healthy_load, 100);
    drop(s);
}

static void hosts_keep_identity(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct cluster c = conf();
    struct locality_endpoints v[] = {locality(a, 0, 3, 0)};
    struct host_set *one = build(&c, v, 1, NULL);
    struct host *kept = one->hosts[1];
    v[0].v[1].weight = 7;
    v[0].v[0].hostname = STR("renamed");
    v[0].count = 2;
    struct host_set *two = build(&c, v, 1, one);
    assert_int_equal(two->host_count, 2);
    assert_ptr_equal(two->hosts[1], kept);
    assert_int_equal(host_weight_get(kept), 7);
    assert_ptr_not_equal(two->hosts[0], one->hosts[0]); /* another hostname is another host */
    drop(one);
    assert_string_equal(two->hosts[1]->text.ptr, "10.0.0.1:1001");
    drop(two);
    arena_free(&a);
}

static void duplicates_count_once(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct cluster c = conf();
    struct locality_endpoints v[] = {locality(a, 0, 2, 0), locality(a, 0, 2, 0)};
    struct host_set *s = build(&c, v, 2, NULL);
    assert_int_equal(s->host_count, 2);
    drop(s);
    c.discovery = CLUSTER_STATIC; /* Envoy: a static cluster keeps them */
    s = build(&c, v, 2, NULL);
    assert_int_equal(s->host_count, 4);
    drop(s);
    arena_free(&a);
}

static void localities_weigh_by_health(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct cluster c = conf();
    c.locality_weighted = true;
    struct locality_endpoints v[] = {locality(a, 0, 4, 0), locality(a, 0, 0, 0),
                                     locality(a, 0, 0, 0)};
    v[1] = locality(a, 0, 0, 0);
    v[2] = locality(a, 1, 1, 3);
    v[2].priority = 0;
    v[0].has_weight = v[2].has_weight = true;
    v[0].weight = 2;
    v[2].weight = 4;
    struct host_set *s = build(&c, v, 3, NULL);
    const struct priority_set *p = &s->priorities[0];
    assert_int_equal(p->locality_count, 3);
    assert_true(p->by_locality_healthy);
    assert_true(near(p->localities[0].healthy_weight, 2.0));
    assert_true(near(p->localities[1].healthy_weight, 0.0));
    assert_true(near(p->localities[2].healthy_weight, 4 * 1.4 * 0.25));
    drop(s);
    arena_free(&a);
}

static void health_text(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct cluster c = conf();
    struct locality_endpoints v[] = {locality(a, 0, 1, 1)};
    struct host_set *s = build(&c, v, 1, NULL);
    assert_true(str_eq(host_health_text(s->hosts[0], a), STR("healthy")));
    assert_true(str_eq(host_health_text(s->hosts[1], a), STR("/failed_eds_health")));
    drop(s);
    arena_free(&a);
}

static void note_ordinal(const struct host_set *s, bool seen[], const struct lb_source *one)
{
    assert_true(one->ordinal < s->source_count);
    assert_false(seen[one->ordinal]);
    seen[one->ordinal] = true;
}

/* A worker keeps a cursor for each list by its number. */
static void lists_have_numbers_of_their_own(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct cluster c = conf();
    struct locality_endpoints v[] = {locality(a, 0, 2, 1), locality(a, 1, 1, 0)};
    struct host_set *s = build(&c, v, 2, NULL);
    bool *seen = ARENA_ARRAY(a, bool, s->source_count);
    for (uint32_t i = 0; i < s->priority_count; i++) {
        const struct priority_set *p = &s->priorities[i];
        note_ordinal(s, seen, &p->all);
        note_ordinal(s, seen, &p->healthy);
        note_ordinal(s, seen, &p->degraded);
        for (uint32_t k = 0; k < p->locality_count; k++) {
            note_ordinal(s, seen, &p->localities[k].healthy);
            note_ordinal(s, seen, &p->localities[k].degraded);
        }
    }
    drop(s);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_priority_gets_all),
        cmocka_unit_test(load_spills_over),
        cmocka_unit_test(panic_below_threshold),
        cmocka_unit_test(no_hosts_is_fine),
        cmocka_unit_test(hosts_keep_identity),
        cmocka_unit_test(duplicates_count_once),
        cmocka_unit_test(localities_weigh_by_health),
        cmocka_unit_test(health_text),
        cmocka_unit_test(lists_have_numbers_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
