/* Tag extraction: rows observed on a running Envoy 1.40, and rules of users. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "proxy/stats/tags.h"

static struct arena *a;

/* "rest|tag=value,tag=value" */
static const char *extract(const struct tag_rules *r, const char *name)
{
    struct tags t = {0};
    struct sb b = {0};
    tags_extract(r, str_of(name), &t);
    sb_add(&b, sb_str(&t.rest));
    for (size_t i = 0; i < t.count; i++) {
        sb_fmt(&b, "%c%.*s=%.*s", i ? ',' : '|', STR_ARG(t.v[i].name), STR_ARG(t.v[i].value));
    }
    struct str out = str_dup(a, sb_str(&b));
    sb_release(&b);
    tags_release(&t);
    return out.ptr;
}

static void default_rules_are_envoys(void **state)
{
    static const struct {
        const char *name, *want;
    } rows[] = {
        {"cluster.c.upstream_rq_200",
         "cluster.upstream_rq|envoy.response_code=200,envoy.cluster_name=c"},
        {"cluster.c.upstream_rq_2xx",
         "cluster.upstream_rq_xx|envoy.response_code_class=2,envoy.cluster_name=c"},
        {"cluster.c.upstream_rq_time", "cluster.upstream_rq_time|envoy.cluster_name=c"},
        {"listener.0.0.0.0_80.http.ing.downstream_rq_2xx",
         "listener.http.downstream_rq_xx|envoy.response_code_class=2,envoy.http_conn_manager_prefix=ing,"
         "envoy.listener_address=0.0.0.0_80"},
        {"listener.[__1]_10000.downstream_cx_total",
         "listener.downstream_cx_total|envoy.listener_address=[__1]_10000"},
        {"listener.127.0.0.1_80.worker_3.downstream_cx_total",
         "listener.worker_downstream_cx_total|envoy.worker_id=3,envoy.listener_address=127.0.0.1_80"},
        {"listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total"},
        {"http.admin.downstream_rq_total",
         "http.downstream_rq_total|envoy.http_conn_manager_prefix=admin"},
        {"http.ing.rds.my.route.update_success",
         "http.rds.update_success|envoy.http_conn_manager_prefix=ing,envoy.rds_route_config=my.route"},
        {"cluster.c.ext_authz.ea.error",
         "cluster.ext_authz.error|envoy.cluster_name=c,envoy.ext_authz_prefix=ea"},
        {"nr.rbac.allowed", "rbac.allowed|envoy.rbac_prefix=nr"},
        {"sds.s1.update_attempt", "sds.update_attempt|envoy.xds_resource_name=s1"},
        {"server.live", "server.live"},
        {"server.worker_0.watchdog_miss", "server.worker_watchdog_miss|envoy.worker_id=0"},
        {"vhost.v.route.r.upstream_rq_503",
         "vhost.route.upstream_rq|envoy.response_code=503,envoy.virtual_host=v,envoy.route=r"},
    };
    struct tag_rules *r = tag_rules_new(a, true);
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_string_equal(extract(r, rows[i].name), rows[i].want);
    }
}

static void users_add_rules(void **state)
{
    struct tag_rules *r = tag_rules_new(a, false);
    struct str why = STR_NONE;
    (void)state;
    assert_string_equal(extract(r, "cluster.c.x"), "cluster.c.x");
    assert_true(tag_rules_add_fixed(r, STR("zone"), STR("z1"), &why));
    assert_true(tag_rules_add_regex(r, STR("who"), STR("^cluster\\.((.+?)(?=\\.))"), &why));
    assert_true(tag_rules_add_regex(r, STR("grpc"), STR("(grpc=(.+?);)"), &why));
    assert_true(tag_rules_add_regex(r, STR("envoy.response_code"), STR_NONE, &why));
    assert_string_equal(extract(r, "cluster.c.x"), "cluster..x|zone=z1,who=c");
    assert_string_equal(extract(r, "a.grpc=7;.rq_200"), "a..rq_200|zone=z1,grpc=7");
    assert_string_equal(extract(r, "a_rq_200"), "a_rq|zone=z1,envoy.response_code=200");
    /* A look-ahead behind the first token, as in Istio's bootstrap. */
    assert_true(tag_rules_add_regex(
        r, STR("http"), STR("^listener(?=\\.).*?\\.http\\.(((?:[_.[:digit:]]*))\\.)"), &why));
    assert_string_equal(extract(r, "listener.0.0.0.0_15001.http.1.2_3.x"),
                        "listener.0.0.0.0_15001.http.x|zone=z1,http=1.2_3");
    assert_string_equal(extract(r, "listener.http.7.x"), "listener.http.x|zone=z1,http=7");
    assert_string_equal(extract(r, "listeners.a.http.7.x"), "listeners.a.http.7.x|zone=z1");
    /* One in the middle, which no rewriting helps. */
    assert_true(tag_rules_add_regex(r, STR("kind"),
                                    STR("^\\w+?(?=\\.).*?\\.(kind\\.(.+?)\\.)(\\w|\\.)+?$"), &why));
    assert_string_equal(extract(r, "app.deep.kind.blue.total"), "app.deep.total|zone=z1,kind=blue");
    assert_false(tag_rules_add_regex(r, STR("bad"), STR("(a"), &why));
    assert_true(str_eq(why, STR("missing ): (a")));
    assert_false(tag_rules_add_regex(r, STR("unknown"), STR_NONE, &why));
    assert_true(str_starts(why, STR("No regex specified for tag specifier")));
    assert_false(tag_rules_add_fixed(r, STR("who"), STR("x"), &why));
    assert_true(str_eq(why, STR("Tag name 'who' specified twice.")));
    assert_false(tag_rules_add_regex(r, STR("none"), STR("abc"), &why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(default_rules_are_envoys),
                                       cmocka_unit_test(users_add_rules)};
    a = arena_new("test", 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&a);
    return failed;
}
