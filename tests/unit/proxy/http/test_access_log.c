/* Access logs: which entries filters let pass; that files get what was logged, also after rotation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/arena.h"
#include "base/loop.h"
#include "base/watch.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proxy/api/conf.h"
#include "proxy/api/headers.h"
#include "proxy/api/log_file.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/config/access_log.h"
#include "proxy/http/access_log.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

static int logged;

static const void *counting_conf(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    (void)msg;
    return at; /* anything but NULL */
}

static void counting_log(struct worker *w, const void *conf, const struct stream_info *info,
                         enum access_log_type type)
{
    (void)w;
    (void)conf;
    (void)info;
    (void)type;
    logged++;
}

static const struct access_logger_type counting = {
    .ext = {.name = "counting"}, .conf_create = counting_conf, .log = counting_log};
static const struct registry_entry entries[] = {{EXTENSION_ACCESS_LOGGER, &counting.ext}};
static const struct registry registry = {.entries = entries, .count = 1};

struct env {
    struct arena *a;
    struct errors errors;
    struct loop *loop;
    struct stats *stats;
    struct runtime *rt;
    struct conf_cx cx;
    struct stream_info info;
};

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    e->a = arena_new("test", 0);
    e->errors.arena = e->a;
    e->loop = loop_new();
    e->stats = stats_new(3);
    e->rt = runtime_new(e->loop, e->stats, 1);
    e->cx =
        (struct conf_cx){.arena = e->a, .errors = &e->errors, .rt = e->rt, .registry = &registry};
    e->info = (struct stream_info){
        .arena = e->a, .response_code = 503, .start_us = 1000, .end_us = 501000, .random = 7};
    e->info.req = headers_new(e->a);
    headers_add(e->info.req, STR("x-log"), STR("yes"));
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    access_log_stop(e->rt);
    arena_free(&e->a);
    runtime_free(&e->rt);
    stats_free(&e->stats);
    loop_free(&e->loop);
    free(e);
    return 0;
}

/* NULL when it was refused. */
static const struct access_log_list *load(struct env *e, const char *filter)
{
    struct str yaml = str_fmt(e->a, "{name: counting, filter: {%s}}", filter);
    ProtobufCMessage *m = json_read(e->a, &envoy__config__accesslog__v3__access_log__descriptor,
                                    yaml, JSON_FORMAT_YAML, NULL, NULL, &e->errors);
    if (!m || !proto_check(m, NULL, NULL, &e->errors)) return NULL;
    struct conf_at at = conf_root(&e->cx);
    Envoy__Config__Accesslog__V3__AccessLog *one = (Envoy__Config__Accesslog__V3__AccessLog *)m;
    bool ok;
    return translate_access_logs(&at, "access_log", 1, &one, &ok);
}

static void test_filters(void **state)
{
    static const struct {
        const char *filter;
        int passes;
    } table[] = {
        {"status_code_filter: {comparison: {op: GE, value: {default_value: 500}}}", 1},
        {"status_code_filter: {comparison: {op: LE, value: {default_value: 500}}}", 0},
        {"status_code_filter: {comparison: {op: NE, value: {default_value: 503}}}", 0},
        {"duration_filter: {comparison: {op: EQ, value: {default_value: 500}}}", 1},
        {"not_health_check_filter: {}", 1},
        {"traceable_filter: {}", 0},
        {"runtime_filter: {runtime_key: k, percent_sampled: {numerator: 8}}", 1},
        {"runtime_filter: {runtime_key: k, percent_sampled: {numerator: 7}}", 0},
        {"header_filter: {header: {name: X-Log, string_match: {exact: 'yes'}}}", 1},
        {"header_filter: {header: {name: x-log, string_match: {exact: 'no'}}}", 0},
        {"response_flag_filter: {flags: [UF, UH]}", 1},
        {"response_flag_filter: {flags: [UT]}", 0},
        {"response_flag_filter: {}", 1},
        {"grpc_status_filter: {statuses: [UNAVAILABLE]}", 1},
        {"grpc_status_filter: {statuses: [UNAVAILABLE], exclude: true}", 0},
        {"metadata_filter: {matcher: {filter: ns, path: [{key: k}], value: {string_match: {exact: v}}}}",
         1},
        {"metadata_filter: {matcher: {filter: ns, path: [{key: k}], value: {string_match: {exact: w}}}}",
         0},
        {"metadata_filter: {matcher: {filter: ns, path: [{key: q}], value: {bool_match: true}}}",
         1},
        {"metadata_filter: {matcher: {filter: ns, path: [{key: q}], value: {bool_match: true}}, match_if_key_not_found: false}",
         0},
        {"log_type_filter: {types: [DownstreamEnd]}", 1},
        {"log_type_filter: {types: [DownstreamEnd], exclude: true}", 0},
        {"and_filter: {filters: [{not_health_check_filter: {}}, {traceable_filter: {}}]}", 0},
        {"or_filter: {filters: [{not_health_check_filter: {}}, {traceable_filter: {}}]}", 1},
    };
    struct env *e = *state;
    struct value v = {.kind = VALUE_STRING, .u.text = STR("v")};
    metadata_set(&e->info.dynamic, e->a, STR("ns"), STR("k"), &v);
    stream_info_flag(&e->info, RF_UF);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct access_log_list *l = load(e, table[i].filter);
        if (!l)
            fail_msg("%s: %.*s", table[i].filter, STR_ARG(errors_text(&e->errors, e->a, STR_NONE)));
        logged = 0;
        access_log_run(NULL, l, &e->info, ACCESS_LOG_TYPE_DOWNSTREAM_END);
        if (logged != table[i].passes) fail_msg("%s: %d", table[i].filter, logged);
    }
}

static void test_bad_filters_are_refused(void **state)
{
    struct env *e = *state;
    assert_null(load(e, "extension_filter: {name: a}"));
    assert_null(
        load(e, "header_filter: {header: {name: a, string_match: {safe_regex: {regex: '('}}}}"));
    assert_null(load(e, ""));
}

static void write_line(struct log_file *f, struct str line)
{
    struct sb *out = log_file_begin(NULL, f);
    assert_non_null(out);
    sb_add(out, line);
    log_file_end(NULL, f);
}

static struct str content(struct env *e, const char *path, size_t want)
{
    struct str text = STR_NONE;
    for (int i = 0; i < 500; i++) {
        if (file_read(e->a, path, 1000, &text) == 0 && text.len >= want) break;
        (void)usleep(10000);
    }
    return text;
}

static void test_files_are_written_and_rotated(void **state)
{
    struct env *e = *state;
    char path[] = "/tmp/skiff-log-XXXXXX", moved[64];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    (void)snprintf(moved, sizeof moved, "%s.1", path);
    access_log_start(e->rt, 1000, 64);
    struct conf_at at = conf_root(&e->cx);
    struct log_file *f = log_file_open(&at, str_of(path));
    assert_non_null(f);
    assert_ptr_equal(f, log_file_open(&at, str_of(path)));
    write_line(f, STR("one\n"));
    assert_true(str_eq(content(e, path, 4), STR("one\n")));
    assert_int_equal(rename(path, moved), 0);
    access_log_reopen(e->rt);
    write_line(f, STR("two\n"));
    assert_true(str_eq(content(e, path, 4), STR("two\n")));
    assert_true(str_eq(content(e, moved, 4), STR("one\n")));
    assert_null(log_file_open(&at, STR("/nope/none")));
    assert_true(str_eq(e->errors.v[e->errors.count - 1].text,
                       STR("unable to open file '/nope/none': No such file or directory")));
    access_log_stop(e->rt);
    (void)unlink(path);
    (void)unlink(moved);
}

static void test_a_full_disk_counts_and_goes_on(void **state)
{
    struct env *e = *state;
    access_log_start(e->rt, 1000, 64);
    struct conf_at at = conf_root(&e->cx);
    struct log_file *f = log_file_open(&at, STR("/dev/full"));
    assert_non_null(f);
    write_line(f, STR("lost\n"));
    write_line(f, STR("lost\n"));
    access_log_stop(e->rt);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {T(test_filters), T(test_bad_filters_are_refused),
                                       T(test_files_are_written_and_rotated),
                                       T(test_a_full_disk_counts_and_goes_on)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
