/* Route configurations from YAML: what is refused with which path, which route a request finds,
 * what is done to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/arena.h"
#include "base/loop.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/route_ops.h"
#include "proxy/api/stream_info.h"
#include "proxy/config/route.h"
#include "proxy/http/route_internal.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

struct env {
    struct arena *a, *object;
    struct errors errors;
    struct loop *loop;
    struct stats *stats;
    struct runtime *rt;
    struct worker *w;
    struct conf_cx cx;
    struct conn_info conn;
};

static bool cluster_known(void *arg, struct str name)
{
    (void)arg;
    return !str_eq(name, STR("unknown"));
}

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    e->a = arena_new("test", 0);
    e->loop = loop_new();
    e->stats = stats_new(2);
    e->rt = runtime_new(e->loop, e->stats, 1);
    e->w = e->rt->workers[0];
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    arena_free(&e->object);
    arena_free(&e->a);
    runtime_free(&e->rt);
    stats_free(&e->stats);
    loop_free(&e->loop);
    free(e);
    return 0;
}

/* NULL when it was refused: e->errors tells. */
static struct route_config *load(struct env *e, const char *yaml)
{
    arena_free(&e->object);
    e->object = arena_new("object", 0);
    e->errors = (struct errors){.arena = e->a};
    e->cx = (struct conf_cx){
        .arena = e->object, .errors = &e->errors, .rt = e->rt, .cluster_known = cluster_known};
    ProtobufCMessage *m =
        json_read(e->a, &envoy__config__route__v3__route_configuration__descriptor, str_of(yaml),
                  JSON_FORMAT_YAML, NULL, NULL, &e->errors);
    if (!m || !proto_check(m, NULL, NULL, &e->errors)) return NULL;
    return translate_route_config(&e->cx, (Envoy__Config__Route__V3__RouteConfiguration *)m);
}

static struct route_config *load_ok(struct env *e, const char *yaml)
{
    struct route_config *c = load(e, yaml);
    if (!c) {
        struct str text = errors_text(&e->errors, e->a, STR_NONE);
        fail_msg("%.*s\n%s", STR_ARG(text), yaml);
    }
    return c;
}

/* "METHOD host path[ name:value]..." */
static struct stream_info *request(struct env *e, const char *text)
{
    struct str rest = str_of(text), word;
    struct stream_info *i = ARENA_NEW(e->a, struct stream_info);
    i->arena = e->a;
    i->worker = e->w;
    i->conn = &e->conn;
    i->req = headers_new(e->a);
    (void)str_next(&rest, ' ', &word);
    headers_add(i->req, STR(":method"), word);
    (void)str_next(&rest, ' ', &word);
    headers_add(i->req, STR(":authority"), word);
    headers_add(i->req, STR(":scheme"), STR("http"));
    headers_add(i->req, STR("x-forwarded-proto"), STR("http"));
    if (str_next(&rest, ' ', &word) && word.len) headers_add(i->req, STR(":path"), word);
    while (str_next(&rest, ' ', &word)) {
        struct str name, value;
        assert_true(str_cut(word, ':', &name, &value));
        headers_add(i->req, name, value);
    }
    return i;
}

static void expect_route(struct env *e, const struct route_config *c, const char *text,
                         const char *name)
{
    struct stream_info *i = request(e, text);
    const struct route *r = route_find(c, e->w, i->req, i);
    struct str got = r ? r->name : STR("-");
    if (!str_eq(got, str_of(name))) fail_msg("%s: got %.*s, want %s", text, STR_ARG(got), name);
}

#define ROUTE(name, match) \
    "  - {name: " name ", match: {" match "}, direct_response: {status: 200}}\n"

static void test_path_kinds(void **state)
{
    struct env *e = *state;
    const struct route_config *c = load_ok(
        e, "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n" ROUTE("exact", "path: /exact")
               ROUTE("loud", "path: /Loud, case_sensitive: false")
                   ROUTE("separated", "path_separated_prefix: /sep/a")
                       ROUTE("regex", "safe_regex: {regex: '/r/[0-9]+'}")
                           ROUTE("connect", "connect_matcher: {}") ROUTE("prefix", "prefix: /pre")
                               ROUTE("lowpre", "prefix: /LOW, case_sensitive: false")
                                   ROUTE("prelong", "prefix: /prefix"));
    expect_route(e, c, "GET h /exact", "exact");
    expect_route(e, c, "GET h /exact?x=/y", "exact");
    expect_route(e, c, "GET h /exact/", "-");
    expect_route(e, c, "GET h /lOUD", "loud");
    expect_route(e, c, "GET h /sep/a", "separated");
    expect_route(e, c, "GET h /sep/a/b?c", "separated");
    expect_route(e, c, "GET h /sep/ab", "-");
    expect_route(e, c, "GET h /r/12?q", "regex");
    expect_route(e, c, "GET h /r/12a", "-");
    expect_route(e, c, "GET h /prefix/x", "prefix");
    expect_route(e, c, "GET h /lowX", "lowpre");
    expect_route(e, c, "CONNECT h:80 ", "connect");
    expect_route(e, c, "GET h ", "-");
}

static void test_domains_longest_wins(void **state)
{
    struct env *e = *state;
    struct sb y = {0};
    const char *const domains[] = {"a.example", "'*.example'", "'*-b.example'", "'a.*'", "'*'"};
    sb_add(&y, STR("virtual_hosts:\n"));
    for (size_t i = 0; i < 5; i++) {
        sb_fmt(
            &y,
            "- name: v%zu\n  domains: [%s]\n  routes:\n  - {name: v%zu, match: {prefix: /}, direct_response: {status: 200}}\n",
            i, domains[i], i);
    }
    sb_char(&y, '\0');
    const struct route_config *c = load_ok(e, y.ptr);
    sb_release(&y);
    expect_route(e, c, "GET A.Example /", "v0");
    expect_route(e, c, "GET b.example /", "v1");
    expect_route(e, c, "GET .example /", "v4");
    expect_route(e, c, "GET x-b.example /", "v2");
    expect_route(e, c, "GET a.org /", "v3");
    expect_route(e, c, "GET a. /", "v4");
    expect_route(e, c, "GET a.example:80 /", "v3");
    expect_route(e, c, "GET other /", "v4");
}

static void test_port_may_be_ignored(void **state)
{
    struct env *e = *state;
    const struct route_config *c = load_ok(
        e,
        "ignore_port_in_host_matching: true\nvirtual_hosts:\n- name: v\n  domains: [a]\n  routes:\n" ROUTE(
            "r", "prefix: /"));
    expect_route(e, c, "GET a:8080 /", "r");
    expect_route(e, c, "GET [::1] /", "-");
    expect_route(e, c, "GET b:80 /", "-");
}

static void test_conditions(void **state)
{
    struct env *e = *state;
    const struct route_config *c = load_ok(
        e,
        "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n" ROUTE(
            "header", "prefix: /, headers: [{name: X-A, string_match: {exact: b}}]")
            ROUTE("absent", "prefix: /no, headers: [{name: x-a, present_match: false}]") ROUTE(
                "query", "prefix: /, query_parameters: [{name: q, string_match: {prefix: v}}]")
                ROUTE("qthere", "prefix: /, query_parameters: [{name: p}]")
                    ROUTE("grpc", "prefix: /, grpc: {}") ROUTE(
                        "never", "prefix: /, runtime_fraction: {default_value: {numerator: 0}}")
                        ROUTE("always",
                              "prefix: /run, runtime_fraction: {default_value: {numerator: 100}}"));
    expect_route(e, c, "GET h / x-a:b", "header");
    expect_route(e, c, "GET h /no", "absent");
    expect_route(e, c, "GET h /no x-a:c", "-");
    expect_route(e, c, "GET h /?a=1&q=v1", "query");
    expect_route(e, c, "GET h /?q=w&p", "qthere");
    expect_route(e, c, "GET h / content-type:application/grpc", "grpc");
    expect_route(e, c, "GET h /run", "always");
    expect_route(e, c, "GET h /other", "-");
}

/* The index must give what looking at each route gives. */
static void test_index_keeps_configured_order(void **state)
{
    struct env *e = *state;
    struct sb y = {0};
    char text[64], want[16];
    sb_add(&y, STR("virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n"));
    for (unsigned i = 0; i < 200; i++) {
        switch (i % 5) {
        case 0:
            sb_fmt(&y, "  - {name: r%u, match: {prefix: /p/%u}, direct_response: {status: 200}}\n",
                   i, i);
            break;
        case 1:
            sb_fmt(&y, "  - {name: r%u, match: {path: /p/%u/x}, direct_response: {status: 200}}\n",
                   i, i);
            break;
        case 2:
            sb_fmt(
                &y,
                "  - {name: r%u, match: {safe_regex: {regex: '/p/%u[a-z]*'}}, direct_response: {status: 200}}\n",
                i, i);
            break;
        case 3:
            sb_fmt(
                &y,
                "  - {name: r%u, match: {path_separated_prefix: /p/%u}, direct_response: {status: 200}}\n",
                i, i);
            break;
        default:
            sb_fmt(
                &y,
                "  - {name: r%u, match: {prefix: /P/%u, case_sensitive: false}, direct_response: {status: 200}}\n",
                i, i);
        }
    }
    sb_char(&y, '\0');
    const struct route_config *c = load_ok(e, y.ptr);
    sb_release(&y);
    const struct virtual_host *v = c->table->any;
    assert_non_null(v->index);
    struct virtual_host bare = *v;
    bare.index = NULL;
    struct route_table table = *c->table;
    table.any = &bare;
    struct route_config plain = *c;
    plain.table = &table;
    for (unsigned i = 0; i < 220; i++) {
        static const char *const forms[] = {"GET h /p/%u", "GET h /p/%u/x", "GET h /p/%ua",
                                            "GET h /P/%u"};
        for (size_t k = 0; k < 4; k++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            (void)snprintf(text, sizeof text, forms[k], i);
#pragma GCC diagnostic pop
            struct stream_info *info = request(e, text);
            const struct route *r = route_find(&plain, e->w, info->req, info);
            (void)snprintf(want, sizeof want, "%.*s", STR_ARG(r ? r->name : STR("-")));
            expect_route(e, c, text, want);
        }
    }
}

static void test_require_tls(void **state)
{
    struct env *e = *state;
    const struct route_config *c = load_ok(
        e, "virtual_hosts:\n- name: v\n  domains: ['*']\n  require_tls: ALL\n  routes:\n" ROUTE(
               "r", "prefix: /"));
    struct stream_info *i = request(e, "GET h:80 /a?b");
    const struct route *r = route_find(c, e->w, i->req, i);
    assert_int_equal(r->action, ROUTE_REDIRECT);
    assert_int_equal(r->redirect->code, 301);
    struct str to = route_redirect_location(r, i->req, i, false);
    assert_true(str_eq(to, STR("https://h/a?b")));
    headers_set(i->req, STR("x-forwarded-proto"), STR("https"));
    r = route_find(c, e->w, i->req, i);
    assert_true(str_eq(r->name, STR("r")));
}

static void test_redirects(void **state)
{
    static const struct {
        const char *redirect, *ask, *want;
    } table[] = {
        {"https_redirect: true", "GET h:80 /a?b", "https://h/a?b"},
        {"https_redirect: true", "GET h:8080 /a", "https://h:8080/a"},
        {"https_redirect: true, port_redirect: 8443", "GET h:80 /a", "https://h:8443/a"},
        {"host_redirect: other, path_redirect: /x", "GET h /a?b=c", "http://other/x?b=c"},
        {"path_redirect: '/x?y', strip_query: true", "GET h /a?b=c", "http://h/x?y"},
        {"path_redirect: /x, strip_query: true", "GET h /a?b=c", "http://h/x"},
        {"prefix_rewrite: /new", "GET h /a/b?c", "http://h/new/b?c"},
        {"regex_rewrite: {pattern: {regex: '^/a/(.)'}, substitution: '/\\1/z'}, strip_query: true",
         "GET h /a/b?c", "http://h/b/z"},
        {"scheme_redirect: ftp, port_redirect: 21", "GET [::1]:80 /a", "ftp://[::1]:21/a"},
        {"strip_query: true", "GET h /a?b", "http://h/a"},
    };
    struct env *e = *state;
    for (size_t k = 0; k < sizeof table / sizeof table[0]; k++) {
        char yaml[512];
        (void)snprintf(
            yaml, sizeof yaml,
            "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n  - {match: {prefix: /a}, redirect: {%s}}\n",
            table[k].redirect);
        const struct route_config *c = load_ok(e, yaml);
        struct stream_info *i = request(e, table[k].ask);
        const struct route *r = route_find(c, e->w, i->req, i);
        struct str to = route_redirect_location(r, i->req, i, false);
        if (!str_eq(to, str_of(table[k].want)))
            fail_msg("%s: got %.*s, want %s", table[k].redirect, STR_ARG(to), table[k].want);
    }
}

static void test_rewrites_and_header_changes(void **state)
{
    struct env *e = *state;
    const struct route_config *c = load_ok(
        e,
        "request_headers_to_add: [{header: {key: X-Level, value: table}}]\n"
        "virtual_hosts:\n- name: v\n  domains: ['*']\n"
        "  request_headers_to_add: [{header: {key: x-level, value: vhost}}]\n"
        "  routes:\n  - match: {prefix: /a/}\n"
        "    request_headers_to_add: [{header: {key: x-level, value: route}}, {header: {key: x-path, value: '%REQ(:path)%'}}]\n"
        "    request_headers_to_remove: [X-Gone]\n"
        "    route: {cluster: web, prefix_rewrite: /b/, host_rewrite_literal: other, append_x_forwarded_host: true}\n");
    struct stream_info *i = request(e, "GET h /a/c?d x-gone:1");
    const struct route *r = route_find(c, e->w, i->req, i);
    struct route_choice choice = route_choose_cluster(r, i->req, i);
    assert_true(str_eq(choice.cluster, STR("web")));
    route_finalize_request(r, &choice, i->req, i, true);
    struct str levels = headers_all(i->req, STR("x-level"), e->a);
    assert_true(str_eq(levels, STR("route,vhost,table")));
    assert_true(str_eq(headers_find(i->req, STR(":path")), STR("/b/c?d")));
    assert_true(str_eq(headers_find(i->req, STR("x-path")), STR("/a/c?d")));
    assert_true(str_eq(headers_find(i->req, STR("x-envoy-original-path")), STR("/a/c?d")));
    assert_true(str_eq(headers_find(i->req, STR(":authority")), STR("other")));
    assert_true(str_eq(headers_find(i->req, STR("x-forwarded-host")), STR("h")));
    assert_null(headers_find(i->req, STR("x-gone")).ptr);
}

static void test_weighted_clusters_follow_their_weights(void **state)
{
    struct env *e = *state;
    const struct route_config *c = load_ok(
        e,
        "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n  - match: {prefix: /}\n    route:\n      weighted_clusters:\n"
        "        header_name: x-pick\n"
        "        clusters: [{name: a, weight: 1}, {name: b, weight: 0}, {name: c, weight: 3}]\n");
    static const char *const want[] = {"a", "c", "c", "c"};
    for (uint64_t n = 0; n < 8; n++) {
        struct stream_info *i = request(e, "GET h /");
        i->random = n;
        const struct route *r = route_find(c, e->w, i->req, i);
        struct route_choice choice = route_choose_cluster(r, i->req, i);
        assert_true(str_eq(choice.cluster, str_of(want[n % 4])));
        assert_int_equal(choice.hash, hash_str(choice.cluster));
    }
    struct stream_info *i = request(e, "GET h / x-pick:2");
    assert_true(
        str_eq(route_choose_cluster(route_find(c, e->w, i->req, i), i->req, i).cluster, STR("c")));
    assert_int_equal(c->cluster_count, 3);
}

static void test_hash_policies(void **state)
{
    struct env *e = *state;
    const struct route_config *c = load_ok(
        e,
        "virtual_hosts:\n- name: v\n  domains: ['*']\n  routes:\n  - match: {prefix: /}\n    route:\n      cluster: a\n"
        "      hash_policy: [{header: {header_name: x-h}, terminal: true}, {cookie: {name: c, ttl: 10s, path: /p}}]\n");
    struct stream_info *i = request(e, "GET h / x-h:abc");
    const struct route *r = route_find(c, e->w, i->req, i);
    uint64_t hash;
    struct str cookie;
    assert_true(route_hash(r->hash, r->hash_count, i->req, i, e->a, &hash, &cookie));
    assert_int_equal(hash, hash_xxh64(STR("abc"), 0));
    assert_int_equal(cookie.len, 0);
    i = request(e, "GET h / cookie:c=xyz");
    assert_true(route_hash(r->hash, r->hash_count, i->req, i, e->a, &hash, &cookie));
    assert_int_equal(hash, hash_xxh64(STR("xyz"), 0));
    i = request(e, "GET h /");
    assert_true(route_hash(r->hash, r->hash_count, i->req, i, e->a, &hash, &cookie));
    assert_true(str_starts(cookie, STR("c=\"")));
    assert_true(str_ends(cookie, STR("\"; Max-Age=10; Path=/p; HttpOnly")));
}

#define VHOST "virtual_hosts:\n- name: v\n  domains: ['*']\n  "
/* lint: long because it is a table */
static void test_mistakes_are_told_with_their_path(void **state)
{
    static const struct {
        const char *yaml, *path, *text;
    } table[] = {
        {VHOST "routes: [{match: {safe_regex: {regex: '('}}, direct_response: {status: 200}}]",
         "virtual_hosts[0].routes[0].match.safe_regex.regex", NULL},
        {"virtual_hosts: [{name: v, domains: [a, A]}]", "virtual_hosts[0].domains[1]", NULL},
        {"virtual_hosts: [{name: v, domains: ['*', '*']}]", "virtual_hosts[0].domains[1]", NULL},
        {"virtual_hosts: [{name: v, domains: ['']}]", "virtual_hosts[0].domains[0]",
         "must not be empty"},
        {VHOST "request_headers_to_add: [{header: {key: ':path', value: x}}]",
         "virtual_hosts[0].request_headers_to_add[0].header.key",
         ":-prefixed or host headers may not be modified"},
        {VHOST "request_headers_to_add: [{header: {key: 'a b', value: x}}]",
         "virtual_hosts[0].request_headers_to_add[0].header.key", "is no valid header name"},
        {VHOST "response_headers_to_remove: [Host]",
         "virtual_hosts[0].response_headers_to_remove[0]",
         ":-prefixed or host headers may not be removed"},
        {VHOST "request_headers_to_add: [{header: {key: a, value: '%NOPE%'}}]",
         "virtual_hosts[0].request_headers_to_add[0].header.value",
         "Not supported field in StreamInfo: NOPE"},
        {VHOST
         "request_headers_to_add: [{append: true, append_action: ADD_IF_ABSENT, header: {key: a, value: b}}]",
         "virtual_hosts[0].request_headers_to_add[0]",
         "Both append and append_action are set and it's not allowed"},
        {VHOST
         "routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a, weight: 0}]}}}]",
         "virtual_hosts[0].routes[0].route.weighted_clusters.clusters",
         "Sum of weights in the weighted_cluster must be greater than 0."},
        {VHOST
         "routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a, weight: 4294967295}, {name: b, weight: 1}]}}}]",
         "virtual_hosts[0].routes[0].route.weighted_clusters.clusters",
         "The sum of weights of all weighted clusters exceeds 4294967295"},
        {VHOST
         "routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{weight: 1}]}}}]",
         "virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0]",
         "one of name or cluster_header needs to be specified"},
        {"validate_clusters: true\n" VHOST
         "routes: [{match: {prefix: /}, route: {cluster: unknown}}]",
         "virtual_hosts[0].routes[0].route.cluster", "unknown cluster 'unknown'"},
        {VHOST "routes: [{match: {prefix: /}, redirect: {port_redirect: 70000}}]",
         "virtual_hosts[0].routes[0].redirect.port_redirect", "must be 0..65535"},
        {VHOST
         "routes: [{match: {prefix: /}, route: {cluster: a, prefix_rewrite: /x, regex_rewrite: {pattern: {regex: a}, substitution: b}}}]",
         "virtual_hosts[0].routes[0].route",
         "only one of prefix_rewrite, regex_rewrite or path_rewrite can be specified"},
        {VHOST
         "routes: [{match: {prefix: /}, route: {cluster: a, regex_rewrite: {pattern: {regex: a}, substitution: '\\2'}}}]",
         "virtual_hosts[0].routes[0].route.regex_rewrite.substitution", NULL},
        {VHOST
         "routes: [{match: {prefix: /}, route: {cluster: a, upgrade_configs: [{upgrade_type: a}, {upgrade_type: A}]}}]",
         "virtual_hosts[0].routes[0].route.upgrade_configs[1]", "Duplicate upgrade A"},
        {VHOST
         "routes: [{match: {prefix: /}, route: {cluster: a, upgrade_configs: [{upgrade_type: a, connect_config: {}}]}}]",
         "virtual_hosts[0].routes[0].route.upgrade_configs[0].connect_config",
         "Non-CONNECT upgrade type a has ConnectConfig"},
        {VHOST
         "routes: [{match: {prefix: /}, route: {cluster: a, retry_policy: {retry_back_off: {base_interval: 2s, max_interval: 1s}}}}]",
         "virtual_hosts[0].routes[0].route.retry_policy.retry_back_off.max_interval",
         "retry_policy.max_interval must greater than or equal to the base_interval"},
        {VHOST "virtual_clusters: [{name: c}]", "virtual_hosts[0].virtual_clusters[0]",
         "virtual clusters must define 'headers'"},
        {VHOST
         "routes: [{match: {prefix: /}, direct_response: {status: 200, body: {filename: /nope/none}}}]",
         "virtual_hosts[0].routes[0].direct_response.body.filename",
         "file /nope/none cannot be read: No such file or directory"},
        {"max_direct_response_body_size_bytes: 2\n" VHOST
         "routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: abc}}}]",
         "virtual_hosts[0].routes[0].direct_response.body", "is larger than 2 bytes (has 3)"},
        {VHOST "routes: [{match: {prefix: /}, route: {cluster: a, timeout: -1s}}]",
         "virtual_hosts[0].routes[0].route.timeout", NULL},
        {VHOST
         "routes: [{match: {prefix: /, headers: [{name: a, string_match: {safe_regex: {regex: a}, ignore_case: true}}]}, route: {cluster: a}}]",
         "virtual_hosts[0].routes[0].match.headers[0].string_match",
         "ignore_case has no effect for safe_regex."},
        {VHOST "routes: [{match: {prefix: /}, route: {cluster: a, request_mirror_policies: [{}]}}]",
         "virtual_hosts[0].routes[0].route.request_mirror_policies[0]",
         "one of cluster or cluster_header needs to be specified"},
    };
    struct env *e = *state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (load(e, table[i].yaml)) fail_msg("taken: %s", table[i].yaml);
        bool found = false;
        for (size_t k = 0; k < e->errors.count && k < ERRORS_MOST && !found; k++) {
            found = str_eq(e->errors.v[k].path, str_of(table[i].path)) &&
                    (!table[i].text || str_eq(e->errors.v[k].text, str_of(table[i].text)));
        }
        struct str all = errors_text(&e->errors, e->a, STR_NONE);
        if (!found) fail_msg("%s\ntold: %.*s", table[i].yaml, STR_ARG(all));
    }
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_path_kinds),
        T(test_domains_longest_wins),
        T(test_port_may_be_ignored),
        T(test_conditions),
        T(test_index_keeps_configured_order),
        T(test_require_tls),
        T(test_redirects),
        T(test_rewrites_and_header_changes),
        T(test_weighted_clusters_follow_their_weights),
        T(test_hash_policies),
        T(test_mistakes_are_told_with_their_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
