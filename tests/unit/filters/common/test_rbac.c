/* Role-based access control: policies from YAML, asked with made-up connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "envoy/config/rbac/v3/rbac.pb-c.h"
#include "filters/common/rbac.h"
#include "proto/json.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"

struct world {
    struct arena *arena;
    struct errors errors;
    struct conn_info conn;
    struct tls_info tls;
    struct rbac_ask ask;
};

static void world_init(struct world *w)
{
    *w = (struct world){.arena = arena_new("test", 0)};
    w->errors.arena = w->arena;
    assert_true(addr_parse(STR("10.1.2.3:4444"), &w->conn.remote));
    assert_true(addr_parse(STR("192.168.0.1:443"), &w->conn.local));
    w->conn.direct_remote = w->conn.remote;
    w->conn.sni = STR("shop.example");
    w->ask = (struct rbac_ask){.conn = &w->conn, .scratch = w->arena};
}

static const struct rbac_rules *make(struct world *w, const char *yaml, bool http)
{
    const void *m = json_read(w->arena, &envoy__config__rbac__v3__rbac__descriptor, str_of(yaml),
                              JSON_FORMAT_YAML, NULL, NULL, &w->errors);
    assert_non_null(m);
    struct conf_cx cx = {.arena = w->arena, .errors = &w->errors};
    struct conf_at at = conf_root(&cx);
    return rbac_create(&at, m, http);
}

static bool passes(struct world *w, const char *permission, const char *principal)
{
    struct str yaml = str_fmt(w->arena, "policies: {p: {permissions: [%s], principals: [%s]}}",
                              permission, principal);
    const struct rbac_rules *r = make(w, yaml.ptr, true);
    assert_non_null(r);
    return rbac_ask(r, &w->ask).allowed;
}

#define ANY "{any: true}"

static void test_permissions(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    assert_true(passes(&w, ANY, ANY));
    assert_true(passes(&w, "{destination_port: 443}", ANY));
    assert_false(passes(&w, "{destination_port: 444}", ANY));
    assert_true(passes(&w, "{destination_port_range: {start: 443, end: 444}}", ANY));
    assert_false(passes(&w, "{destination_port_range: {start: 442, end: 443}}", ANY));
    assert_true(passes(&w, "{destination_ip: {address_prefix: 192.168.0.0, prefix_len: 16}}", ANY));
    assert_false(passes(&w, "{destination_ip: {address_prefix: '::', prefix_len: 0}}", ANY));
    assert_true(passes(&w, "{requested_server_name: {suffix: .example}}", ANY));
    assert_false(passes(&w, "{not_rule: {any: true}}", ANY));
    assert_true(passes(&w, "{and_rules: {rules: [{any: true}, {destination_port: 443}]}}", ANY));
    assert_false(passes(&w, "{and_rules: {rules: [{any: true}, {destination_port: 1}]}}", ANY));
    assert_true(
        passes(&w, "{or_rules: {rules: [{destination_port: 1}, {destination_port: 443}]}}", ANY));
    arena_free(&w.arena);
}

static void test_principals(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    assert_true(passes(&w, ANY, "{remote_ip: {address_prefix: 10.0.0.0, prefix_len: 8}}"));
    assert_false(passes(&w, ANY, "{direct_remote_ip: {address_prefix: 11.0.0.0, prefix_len: 8}}"));
    /* The address that a proxy in front tells counts for remote_ip only. */
    assert_true(addr_parse(STR("11.0.0.1:1"), &w.conn.remote));
    assert_true(passes(&w, ANY, "{remote_ip: {address_prefix: 11.0.0.0, prefix_len: 8}}"));
    assert_false(passes(&w, ANY, "{direct_remote_ip: {address_prefix: 11.0.0.0, prefix_len: 8}}"));
    assert_false(passes(&w, ANY, "{not_id: {any: true}}"));
    assert_true(filter_state_set_text(&w.conn.state, w.arena, STR("k"), STR("v")));
    assert_true(passes(&w, ANY, "{filter_state: {key: k, string_match: {exact: v}}}"));
    assert_false(passes(&w, ANY, "{filter_state: {key: other, string_match: {exact: v}}}"));
    arena_free(&w.arena);
}

static void test_authenticated(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    assert_false(passes(&w, ANY, "{authenticated: {}}"));
    w.conn.tls = &w.tls;
    assert_false(passes(&w, ANY, "{authenticated: {}}")); /* TLS without a client certificate */
    struct str uri = STR("spiffe://a/b"), embedded = str_make("spiffe://a/b\0evil", 17);
    w.tls.peer =
        (struct tls_cert_info){.present = true, .subject = STR("CN=x"), .uri_san = {&uri, 1}};
    assert_true(passes(&w, ANY, "{authenticated: {}}"));
    assert_true(passes(&w, ANY, "{authenticated: {principal_name: {exact: 'spiffe://a/b'}}}"));
    assert_true(passes(&w, ANY, "{authenticated: {principal_name: {exact: CN=x}}}"));
    assert_false(passes(&w, ANY, "{authenticated: {principal_name: {exact: 'spiffe://a'}}}"));
    w.tls.peer.uri_san.v = &embedded;
    assert_false(passes(&w, ANY, "{authenticated: {principal_name: {exact: 'spiffe://a/b'}}}"));
    arena_free(&w.arena);
}

static void test_actions_and_names(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    struct rbac_verdict v;
    const char *policies = "policies: {b: {permissions: [" ANY "], principals: [" ANY "]}, "
                           "a: {permissions: [{destination_port: 1}], principals: [" ANY "]}}";
    assert_true((v = rbac_ask(make(&w, policies, true), &w.ask)).allowed);
    assert_true(str_eq(v.policy, STR("b")));
    struct str deny = str_fmt(w.arena, "action: DENY\n%s", policies),
               log = str_fmt(w.arena, "action: LOG\n%s", policies);
    assert_false((v = rbac_ask(make(&w, deny.ptr, true), &w.ask)).allowed);
    assert_true((v = rbac_ask(make(&w, log.ptr, true), &w.ask)).allowed);
    assert_false((v = rbac_ask(make(&w, "{}", true), &w.ask)).allowed); /* nobody is allowed */
    assert_null(v.policy.ptr);
    assert_true((v = rbac_ask(make(&w, "action: DENY", true), &w.ask)).allowed);
    arena_free(&w.arena);
}

static void test_refusals(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    const char *header =
        "policies: {p: {permissions: [{header: {name: x, present_match: true}}], principals: [" ANY
        "]}}";
    assert_null(make(&w, header, false));
    assert_non_null(make(&w, header, true));
    const char *range =
        "policies: {p: {permissions: [{destination_port_range: {start: 5, end: 5}}], principals: [" ANY
        "]}}";
    assert_null(make(&w, range, true));
    const char *ip = "policies: {p: {permissions: [" ANY
                     "], principals: [{remote_ip: {address_prefix: nonsense}}]}}";
    assert_null(make(&w, ip, true));
    const char *nothing = "policies: {p: {permissions: [{}], principals: [" ANY "]}}";
    assert_null(make(&w, nothing, true));
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permissions),   cmocka_unit_test(test_principals),
        cmocka_unit_test(test_authenticated), cmocka_unit_test(test_actions_and_names),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
