/* /stats as text, JSON and Prometheus; the expected texts were printed by Envoy 1.40 for the same
 * values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/must.h"
#include "base/regex.h"
#include "proxy/stats/render.h"
#include "proxy/stats/tags.h"

static struct arena *a;
static struct stats *s;
static struct stat_group *time_group, *unused_group, *total, *open_gauge, *version, *code;

static int setup(void **state)
{
    static const uint64_t values[] = {2, 4, 6, 7, 17, 26, 34, 51, 100, 120};
    (void)state;
    a = arena_new("test", 0);
    s = stats_new(1);
    time_group = stat_single_get(s, STR("cluster.c.upstream_rq_time"), STAT_HISTOGRAM, 0);
    unused_group = stat_single_get(s, STR("cluster.c.upstream_cx_length_ms"), STAT_HISTOGRAM, 0);
    total = stat_single_get(s, STR("cluster_manager.cluster_added"), STAT_COUNTER, 0);
    code = stat_single_get(s, STR("cluster.c.upstream_rq_200"), STAT_COUNTER, STAT_LAZY);
    open_gauge = stat_single_get(s, STR("server.live"), STAT_GAUGE, 0);
    version = stat_single_get(s, STR("cluster.c.version_text"), STAT_TEXT, 0);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        stat_record(time_group, 0, values[i]);
    stats_flush(s);
    stat_add(total, 0, 3);
    stat_set(open_gauge, 0, 1);
    stat_set_text(version, 0, STR("a\"b"));
    stat_inc(code, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stat_group_unref(&time_group);
    stat_group_unref(&unused_group);
    stat_group_unref(&total);
    stat_group_unref(&code);
    stat_group_unref(&open_gauge);
    stat_group_unref(&version);
    stats_free(&s);
    arena_free(&a);
    return 0;
}

static const char *keep(struct sb *b)
{
    struct str out = str_dup(a, sb_str(b));
    sb_release(b);
    return out.ptr;
}

/* All of it, step by step. */
static const char *written(const struct stats_query *q, enum stats_format format,
                           const struct tag_rules *rules)
{
    struct sb b = {0};
    struct stats_writer *w = stats_writer_new(s, q, format, rules);
    while (stats_writer_next(w, &b))
        continue;
    stats_writer_free(&w);
    return keep(&b);
}

static const char *text(const struct stats_query *q)
{
    return written(q, STATS_TEXT, NULL);
}

static void writes_text(void **state)
{
    struct stats_query q = {0};
    (void)state;
    assert_string_equal(
        text(&q),
        "cluster.c.version_text: \"a\"b\"\n"
        "cluster.c.upstream_rq_200: 1\n"
        "cluster_manager.cluster_added: 3\n"
        "server.live: 1\n"
        "cluster.c.upstream_cx_length_ms: No recorded values\n"
        "cluster.c.upstream_rq_time: P0(2.05,2.05) P25(6.05,6.05) P50(17.5,17.5) P75(51.5,51.5) "
        "P90(105,105) P95(125,125) P99(125,125) P99.5(125,125) P99.9(125,125) P100(125,125)\n");
    q.filter = regex_new(a, STR("rq_time"), NULL);
    q.buckets = STATS_DISJOINT;
    assert_string_equal(
        text(&q),
        "cluster.c.upstream_rq_time: B0.5(0,0) B1(0,0) B5(2,2) B10(2,2) B25(1,1) B50(2,2) "
        "B100(2,2) B250(1,1) B500(0,0) B1000(0,0) B2500(0,0) B5000(0,0) B10000(0,0) "
        "B30000(0,0) B60000(0,0) B300000(0,0) B600000(0,0) B1.8e+06(0,0) B3.6e+06(0,0)\n");
    q.buckets = STATS_DETAILED;
    assert_true(str_starts(
        str_of(text(&q)),
        STR("cluster.c.upstream_rq_time:\n  totals=2,0.1:1, 4,0.1:1, 6,0.1:1, 7,0.1:1, 17,1:1, "
            "26,1:1, 34,1:1, 51,1:1, 100,10:1, 120,10:1\n  intervals=2,0.1:1,")));
    q.invert = true;
    q.used_only = true;
    q.one_type = true;
    q.type = STAT_HISTOGRAM;
    assert_string_equal(text(&q), "");
}

static void writes_json(void **state)
{
    struct stats_query q = {0};
    (void)state;
    struct str out = str_of(written(&q, STATS_JSON, NULL));
    assert_true(str_starts(
        out, STR("{\"stats\":[{\"name\":\"cluster.c.version_text\",\"value\":\"a\\\"b\"},"
                 "{\"name\":\"cluster.c.upstream_rq_200\",\"value\":1},")));
    assert_true(
        str_find(out,
                 STR(",{\"histograms\":{\"supported_quantiles\":[0,25,50,75,90,95,99,99.5,99.9,"
                     "100],\"computed_quantiles\":[{\"name\":\"cluster.c.upstream_cx_length_ms\","
                     "\"values\":[{\"cumulative\":null,\"interval\":null},")) != SIZE_MAX);
    assert_true(str_ends(out, STR("{\"cumulative\":125,\"interval\":125}]}]}}]}")));
    q.buckets = STATS_CUMULATIVE;
    out = str_of(written(&q, STATS_JSON, NULL));
    assert_true(
        str_find(out,
                 STR("{\"upper_bound\":60000,\"interval\":10,\"cumulative\":10},{\"upper_bound\":"
                     "3e+05,\"interval\":10,")) != SIZE_MAX);
    q.filter = regex_new(a, STR("nothing like that"), NULL);
    assert_string_equal(written(&q, STATS_JSON, NULL), "{\"stats\":[]}");
}

static void writes_prometheus(void **state)
{
    struct stats_query q = {.text_readouts = true};
    struct tag_rules *rules = tag_rules_new(a, true);
    (void)state;
    struct str out = str_of(written(&q, STATS_PROMETHEUS, rules));
    assert_true(str_starts(
        out,
        STR("# TYPE envoy_cluster_upstream_rq counter\n"
            "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"c\"} 1\n"
            "# TYPE envoy_cluster_manager_cluster_added counter\n"
            "envoy_cluster_manager_cluster_added{} 3\n"
            "# TYPE envoy_server_live gauge\n"
            "envoy_server_live{} 1\n"
            "# TYPE envoy_cluster_version_text gauge\n"
            "envoy_cluster_version_text{envoy_cluster_name=\"c\",text_value=\"a\\\"b\"} 0\n"
            "# TYPE envoy_cluster_upstream_cx_length_ms histogram\n")));
    assert_true(str_ends(
        out,
        STR("envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"c\",le=\"3600000\"} 10\n"
            "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"c\",le=\"+Inf\"} 10\n"
            "envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"c\"} "
            "378.72347971039596359332790598273\n"
            "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"c\"} 10\n")));
    assert_true(str_find(out, STR("le=\"100\"} 9\n")) != SIZE_MAX);
    q.buckets = STATS_SUMMARY;
    stats_flush(s); /* an interval without values */
    assert_true(
        str_ends(str_of(written(&q, STATS_PROMETHEUS, rules)),
                 STR("quantile=\"1\"} nan\n"
                     "envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"c\"} 0\n"
                     "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"c\"} 0\n")));
    struct stats_query plain = {.filter = regex_new(a, STR("rq_time"), NULL)};
    assert_true(str_starts(str_of(text(&plain)),
                           STR("cluster.c.upstream_rq_time: P0(nan,2.05) P25(nan,6.05)")));
}

enum { MANY = 3000 };
static const struct stat_def many_defs[] = {
    {"zone", STAT_COUNTER, 0}, {"a", STAT_GAUGE, 0}, {"b_rq_200", STAT_COUNTER, 0}};

static void make_many(struct stat_group *groups[MANY])
{
    for (unsigned i = 0; i < MANY; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "cluster.m%u.", i * 7919 % MANY);
        groups[i] = stat_group_get(s, str_of(name), many_defs, ARRAY_LEN(many_defs));
    }
}

/* More than several runs of the list: the lines stay in order, none is lost, none comes twice. */
static void merges_runs(void **state)
{
    static struct stat_group *groups[MANY];
    struct stats_query q = {.filter = regex_new(a, STR("^cluster\\.m[0-9]"), NULL)};
    (void)state;
    make_many(groups);
    struct str all = str_of(written(&q, STATS_TEXT, NULL)), line, last = STR("");
    size_t count = 0;
    while (str_next(&all, '\n', &line)) {
        if (line.len == 0) continue;
        assert_true(str_cmp(str_sub(last, 0, str_find_char(last, ':')),
                            str_sub(line, 0, str_find_char(line, ':'))) < 0);
        last = line;
        count++;
    }
    assert_int_equal(count, MANY * ARRAY_LEN(many_defs));
    struct tag_rules *rules = tag_rules_new(a, true);
    all = str_of(written(&q, STATS_PROMETHEUS, rules));
    size_t heads = 0;
    for (struct str rest = all; str_next(&rest, '\n', &line);)
        heads += str_starts(line, STR("# TYPE "));
    assert_int_equal(heads, 3);
    assert_true(str_starts(all, STR("# TYPE envoy_cluster_b_rq counter\n")));
    for (size_t i = 0; i < MANY; i++)
        stat_group_unref(&groups[i]);
}

/* A page may be given up at any step, and what it lists may go between two. */
static void stops_at_any_step(void **state)
{
    static struct stat_group *groups[MANY];
    struct stats_query q = {0};
    struct tag_rules *rules = tag_rules_new(a, true);
    (void)state;
    for (unsigned steps = 0; steps < 12; steps++) {
        struct sb b = {0};
        make_many(groups);
        struct stats_writer *w = stats_writer_new(s, &q, STATS_PROMETHEUS, rules);
        for (unsigned i = 0; i < steps; i++)
            assert_true(stats_writer_next(w, &b));
        for (size_t i = 0; i < MANY; i++)
            stat_group_unref(&groups[i]);
        if (steps) assert_true(stats_writer_next(w, &b));
        stats_writer_free(&w);
        assert_null(w);
        sb_release(&b);
    }
    assert_int_equal(str_find(str_of(text(&q)), STR("cluster.m")), SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(writes_text), cmocka_unit_test(writes_json),
                                       cmocka_unit_test(writes_prometheus),
                                       cmocka_unit_test(merges_runs),
                                       cmocka_unit_test(stops_at_any_step)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
