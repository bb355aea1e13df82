/* The store: cells of threads summed, lazy names, groups found again, counters reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "proxy/stats/histogram.h"
#include "proxy/stats/stats.h"

enum { THREADS = 4, ROUNDS = 20000 };
enum { T_TOTAL, T_ACTIVE, T_TIME, T_LAZY, T_TEXT, T_COUNT };
static const struct stat_def table[T_COUNT] = {
    {"total", STAT_COUNTER, 0},     {"active", STAT_GAUGE, 0},
    {"time", STAT_HISTOGRAM, 0},    {"code_200", STAT_COUNTER, STAT_LAZY},
    {"version_text", STAT_TEXT, 0},
};
static struct stats *s;
static struct stat_group *g;

static void *write_all(void *arg)
{
    stats_thread_enter(s, *(const unsigned *)arg);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct stat_group *own = stat_group_ref(g);
        stat_inc(own, T_TOTAL);
        stat_inc(own, T_ACTIVE);
        stat_record(own, T_TIME, i % 100);
        stat_group_unref(&own);
    }
    /* Goes down in another thread's cell than it went up in. */
    stat_sub(g, T_ACTIVE, ROUNDS / 2);
    return NULL;
}

static void threads_are_summed(void **state)
{
    pthread_t threads[THREADS];
    unsigned ids[THREADS];
    (void)state;
    s = stats_new(THREADS + 1);
    g = stat_group_get(s, STR("cluster.a:b."), table, T_COUNT);
    for (unsigned i = 0; i < THREADS; i++) {
        ids[i] = i + 1;
        assert_int_equal(pthread_create(&threads[i], NULL, write_all, &ids[i]), 0);
    }
    for (int i = 0; i < 50; i++) {
        stats_flush(s);
        (void)stat_value(g, T_TOTAL);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(stat_value(g, T_TOTAL), THREADS * ROUNDS);
    assert_int_equal(stat_value(g, T_ACTIVE), THREADS * ROUNDS / 2);
    stats_flush(s);
    stats_reset_counters(s);
    assert_int_equal(stat_value(g, T_TOTAL), 0);
    assert_int_equal(stat_value(g, T_ACTIVE), THREADS * ROUNDS / 2);
    stat_inc(g, T_TOTAL);
    assert_int_equal(stat_value(g, T_TOTAL), 1);
}

struct seen {
    int count;
    bool lazy;
    uint64_t recorded;
    char text[16];
};

static void note(void *arg, const struct stat_view *v)
{
    struct seen *x = arg;
    x->count++;
    assert_true(str_starts(v->name, STR("cluster.a_b.")) || str_eq(v->name, STR("one")));
    if (str_ends(v->name, STR("code_200"))) x->lazy = true;
    if (v->type == STAT_HISTOGRAM) x->recorded = histogram_count(v->cumulative);
    if (v->type == STAT_TEXT) memcpy(x->text, v->text.ptr, v->text.len);
}

static void lists_what_is_there(void **state)
{
    struct seen x = {0};
    (void)state;
    stat_set_text(g, T_TEXT, STR("v1"));
    stat_set_text(g, T_TEXT, STR("v22"));
    stats_each(s, note, &x);
    assert_int_equal(x.count, T_COUNT - 1);
    assert_false(x.lazy);
    assert_int_equal(x.recorded, THREADS * ROUNDS);
    assert_string_equal(x.text, "v22");
    stat_inc(g, T_LAZY);
    struct stat_group *one = stat_single_get(s, STR("one"), STAT_GAUGE, 0);
    stat_set(one, 0, 7);
    stat_set(one, 0, 5);
    assert_int_equal(stat_value(one, 0), 5);
    memset(&x, 0, sizeof(x));
    stats_each(s, note, &x);
    assert_int_equal(x.count, T_COUNT + 1);
    assert_true(x.lazy);
    stat_group_unref(&one);
}

static void a_group_lives_as_long_as_somebody_holds_it(void **state)
{
    struct stat_group *again = stat_group_get(s, STR("cluster.a_b."), table, T_COUNT);
    struct stat_group *other = stat_group_get(s, STR("cluster.a_b."), table + 1, 1);
    (void)state;
    assert_ptr_equal(again, g);
    assert_ptr_not_equal(other, g);
    stat_group_unref(&again);
    stat_group_unref(&g);
    again = stat_group_get(s, STR("cluster.a_b."), table, T_COUNT);
    assert_int_equal(stat_value(again, T_TOTAL), 0);
    assert_false(stat_used(again, T_TOTAL));
    stat_inc(NULL, 0);
    stat_group_unref(&again);
    stat_group_unref(&other);
    stats_flush(s);
    stats_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_are_summed),
        cmocka_unit_test(lists_what_is_there),
        cmocka_unit_test(a_group_lives_as_long_as_somebody_holds_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
