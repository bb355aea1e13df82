/* Matcher trees: from YAML, asked with made-up connections and requests. That Envoy finds the same
 * is conformance/cases/matchers.yaml; here is what it has no place for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "filters/registry.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/json.h"
#include "proxy/api/headers.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/stream_info.h"
#include "xds/type/matcher/v3/matcher.pb-c.h"

struct world {
    struct arena *arena;
    struct errors errors;
    struct conn_info conn;
    struct match_ask ask;
};

static void world_init(struct world *w)
{
    *w = (struct world){.arena = arena_new("test", 0)};
    w->errors.arena = w->arena;
    assert_true(addr_parse(STR("10.1.2.3:4444"), &w->conn.remote));
    assert_true(addr_parse(STR("192.168.0.1:443"), &w->conn.local));
    w->conn.direct_remote = w->conn.remote;
    w->ask = (struct match_ask){.conn = &w->conn, .scratch = w->arena};
}

static const void *text_action(const struct conf_at *at, struct str name,
                               const struct Google__Protobuf__Any *any, void *arg)
{
    (void)arg;
    const Google__Protobuf__StringValue *m =
        (const void *)conf_match_action(at, name, any, &google__protobuf__string_value__descriptor);
    return m ? m->value : NULL;
}

static const struct match_tree *make(struct world *w, const char *yaml, enum match_place place)
{
    const void *m = json_read(w->arena, &xds__type__matcher__v3__matcher__descriptor, str_of(yaml),
                              JSON_FORMAT_YAML, NULL, NULL, &w->errors);
    assert_non_null(m);
    struct conf_cx cx = {.arena = w->arena, .errors = &w->errors, .registry = &filters_registry};
    struct conf_at at = conf_root(&cx);
    struct match_tree_use use = {.place = place, .action = text_action};
    return conf_match_tree(&at, m, &use);
}

#define ACTION(text)                                                                               \
    "{action: {name: a, typed_config: {'@type': type.googleapis.com/google.protobuf.StringValue, " \
    "value: '" text "'}}}"
#define NETWORK(input)                                                                                                \
    "{name: i, typed_config: {'@type': type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3." input \
    "}}"
#define HTTP(input) \
    "{name: i, typed_config: {'@type': type.googleapis.com/envoy.type.matcher.v3." input "}}"
#define SINGLE(input, text) \
    "{single_predicate: {input: " input ", value_match: {exact: '" text "'}}}"

static void expect(struct world *w, const char *yaml, enum match_place place, enum match_result r,
                   const char *found)
{
    const struct match_tree *t = make(w, yaml, place);
    const void *action = NULL;
    assert_non_null(t);
    assert_int_equal(match_tree_find(t, &w->ask, &action), r);
    if (found) assert_string_equal(action, found);
}

static void test_what_is_not_there_yet(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct headers *h = headers_new(w.arena);
    headers_add_copy(h, STR("x-a"), STR("1"));
    w.ask.request = h;
#define A SINGLE(HTTP("HttpRequestHeaderMatchInput, header_name: x-a"), "1")
#define B SINGLE(HTTP("HttpRequestHeaderMatchInput, header_name: x-b"), "1")
#define STATUS SINGLE(HTTP("HttpResponseStatusCodeMatchInput"), "200")
#define LIST(predicate)                                 \
    "{matcher_list: {matchers: [{predicate: " predicate \
    ", on_match: " ACTION("yes") "}]}, on_no_match: " ACTION("no") "}"
    expect(&w, LIST(STATUS), MATCH_IN_HTTP, MATCH_WAIT, NULL);
    expect(&w, LIST("{not_matcher: " STATUS "}"), MATCH_IN_HTTP, MATCH_WAIT, NULL);
    expect(&w, LIST("{or_matcher: {predicate: [" STATUS ", " A "]}}"), MATCH_IN_HTTP, MATCH_FOUND,
           "yes");
    expect(&w, LIST("{or_matcher: {predicate: [" B ", " STATUS "]}}"), MATCH_IN_HTTP, MATCH_WAIT,
           NULL);
    expect(&w, LIST("{and_matcher: {predicate: [" STATUS ", " B "]}}"), MATCH_IN_HTTP, MATCH_FOUND,
           "no");
    expect(&w, LIST("{and_matcher: {predicate: [" A ", " STATUS "]}}"), MATCH_IN_HTTP, MATCH_WAIT,
           NULL);
    struct headers *answer = headers_new(w.arena);
    headers_set_status(answer, 200);
    w.ask.response = answer;
    expect(&w, LIST(STATUS), MATCH_IN_HTTP, MATCH_FOUND, "yes");
    expect(&w, LIST("{not_matcher: " STATUS "}"), MATCH_IN_HTTP, MATCH_FOUND, "no");
    expect(&w, "{on_no_match: " ACTION("no") "}", MATCH_IN_HTTP, MATCH_FOUND, "no");
    expect(&w, "{}", MATCH_IN_HTTP, MATCH_NONE, NULL);
    arena_free(&w.arena);
}

static void test_keep_matching(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    const char *yaml = "{matcher_tree: {input: " NETWORK(
        "SourceIPInput") ", prefix_match_map: {map: {"
                         "'10.': " ACTION(
                             "short") ", "
                                      "'10.1.2.3': {keep_matching: true, matcher: {on_no_match: " ACTION(
                                          "long") "}}}}}}";
    expect(&w, yaml, MATCH_IN_CHAINS, MATCH_FOUND, "short");
    assert_null(make(&w, yaml, MATCH_IN_HTTP));
    arena_free(&w.arena);
}

static void expect_error(struct world *w, const char *yaml, enum match_place place,
                         const char *path, const char *text)
{
    w->errors = (struct errors){.arena = w->arena};
    assert_null(make(w, yaml, place));
    struct str all = errors_text(&w->errors, w->arena, STR("tree"));
    assert_non_null(strstr(str_z(w->arena, all), path));
    assert_non_null(strstr(str_z(w->arena, all), text));
}

static void test_refusals(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    expect_error(&w, LIST(STATUS), MATCH_IN_CHAINS,
                 "matcher_list.matchers[0].predicate.single_predicate.input.typed_config",
                 "envoy.matching.network.input");
    expect_error(&w, LIST(STATUS), MATCH_IN_HTTP_RBAC,
                 "matcher_list.matchers[0].predicate.single_predicate.input.typed_config",
                 "cannot be used here");
    expect_error(&w, LIST(SINGLE(NETWORK("DirectSourceIPInput"), "x")), MATCH_IN_UDP,
                 "single_predicate.input", "cannot be used here");
    const char *metadata =
        LIST(SINGLE(NETWORK("DynamicMetadataInput, filter: f, path: [{key: k}]"), "x"));
    expect_error(&w, metadata, MATCH_IN_HTTP, "single_predicate.input",
                 "Unsupported data input type");
    expect_error(
        &w,
        "{matcher_tree: {input: " NETWORK(
            "SourceIPInput") ", custom_match: {name: c, typed_config: "
                             "{'@type': type.googleapis.com/google.protobuf.StringValue, value: x}}}}",
        MATCH_IN_HTTP, "matcher_tree.custom_match.typed_config",
        "envoy.matching.http.custom_matchers");
    expect_error(
        &w,
        "{matcher_tree: {input: " NETWORK(
            "SourceIPInput") ", custom_match: {name: c, typed_config: "
                             "{'@type': type.googleapis.com/xds.type.matcher.v3.IPMatcher, range_matchers: "
                             "[{ranges: [{address_prefix: ten}], on_match: " ACTION("x") "}]}}}}",
        MATCH_IN_HTTP, "range_matchers[0].ranges[0].address_prefix", "malformed IP");
    expect_error(
        &w,
        "{matcher_tree: {input: " NETWORK(
            "SourceIPInput") ", custom_match: {name: c, typed_config: "
                             "{'@type': type.googleapis.com/xds.type.matcher.v3.ServerNameMatcher, domain_matchers: "
                             "[{domains: [a.test, '*.a.test', 'a.*', a.test], on_match: " ACTION(
                                 "x") "}]}}}}",
        MATCH_IN_HTTP, "domain_matchers[0].domains[2]", "Invalid domain");
    arena_free(&w.arena);
}

/* Envoy's `not` of 40 levels, and the nearest name of a type. */
static void test_depth_and_names(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct str p = STR(A);
    for (int i = 0; i < 40; i++)
        p = str_fmt(w.arena, "{not_matcher: %.*s}", STR_ARG(p));
    struct str yaml = str_fmt(
        w.arena, "{matcher_list: {matchers: [{predicate: %.*s, on_match: " ACTION("x") "}]}}",
        STR_ARG(p));
    expect_error(&w, str_z(w.arena, yaml), MATCH_IN_HTTP, "not_matcher", "nested too deeply");
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_not_there_yet),
        cmocka_unit_test(test_keep_matching),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_depth_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
