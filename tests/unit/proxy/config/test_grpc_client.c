/* Targets of gRPC clients: which addresses are understood, what goes with the calls, what is
 * refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/core/v3/grpc_service.pb-c.h"
#include "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.pb-c.h"
#include "proxy/api/lb_policy.h"
#include "proxy/api/side_call.h"
#include "proxy/config/grpc_client.h"

typedef Envoy__Config__Core__V3__GrpcService__GoogleGrpc GoogleGrpc;

static struct host *no_pick(void *cursor, const void *c, const void *table,
                            const struct lb_hosts *hosts, const struct lb_ask *ask)
{
    (void)cursor, (void)c, (void)table, (void)hosts, (void)ask;
    return NULL;
}
static const struct lb_policy_type round_robin = {
    .ext =
        {.name = "envoy.load_balancing_policies.round_robin",
         .config =
             &envoy__extensions__load_balancing_policies__round_robin__v3__round_robin__descriptor},
    .pick = no_pick};
static const struct registry_entry entries[] = {{EXTENSION_LB_POLICY, &round_robin.ext}};
static const struct registry registry = {.entries = entries, .count = ARRAY_LEN(entries)};

struct told {
    struct arena *a;
    struct errors errors;
    struct side_target target;
    struct str token;
};

static bool client(struct told *t, GoogleGrpc *m)
{
    t->errors = (struct errors){.arena = t->a};
    t->target = (struct side_target){0};
    struct conf_cx cx = {.arena = t->a, .errors = &t->errors, .registry = &registry};
    struct conf_at at = conf_root(&cx);
    return conf_grpc_client(&at, m, &t->target, &t->token);
}

static GoogleGrpc named(const char *uri)
{
    GoogleGrpc m;
    envoy__config__core__v3__grpc_service__google_grpc__init(&m);
    m.target_uri = (char *)(uintptr_t)uri;
    m.stat_prefix = (char *)(uintptr_t) "x";
    return m;
}

static void targets_are_addresses(void **state)
{
    (void)state;
    static const char *const table[][2] = {
        {"127.0.0.1:8182", "127.0.0.1:8182"},
        {"host.test:80", "host.test:80"},
        {"host.test", "host.test:443"},
        {"dns:///host.test:80", "host.test:80"},
        {"dns:host.test", "host.test:443"},
        {"ipv4:127.0.0.1:80", "127.0.0.1:80"},
        {"ipv6:[::1]:80", "[::1]:80"},
        {"[::1]", "[::1]:443"},
        {"::1", "[::1]:443"},
        {"unix:///run/sock", "localhost"},
        {"unix:run/sock", "localhost"},
        {"unix-abstract:name", "localhost"},
    };
    struct told t = {.a = arena_new("test", 0)};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        GoogleGrpc m = named(table[i][0]);
        if (!client(&t, &m)) fail_msg("%s was refused", table[i][0]);
        if (!str_eq(t.target.authority, str_of(table[i][1])))
            fail_msg("%s: \"%.*s\"", table[i][0], STR_ARG(t.target.authority));
        assert_true(t.target.bare);
        assert_null(t.token.ptr);
    }
    arena_free(&t.a);
}

static void targets_that_are_none(void **state)
{
    (void)state;
    static const char *const table[] = {"ftp://host", "host:http", ":80",
                                        "host:70000", "unix:",     "dns:///"};
    struct told t = {.a = arena_new("test", 0)};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        GoogleGrpc m = named(table[i]);
        if (client(&t, &m)) fail_msg("%s was taken", table[i]);
        assert_true(t.errors.count > 0);
    }
    arena_free(&t.a);
}

static void the_same_peer_is_the_same_cluster(void **state)
{
    (void)state;
    struct told t = {.a = arena_new("test", 0)};
    GoogleGrpc one = named("127.0.0.1:1"), other = named("127.0.0.1:2");
    assert_true(client(&t, &one));
    struct str first = t.target.cluster;
    assert_true(client(&t, &one));
    assert_true(str_eq(first, t.target.cluster));
    assert_true(client(&t, &other));
    assert_false(str_eq(first, t.target.cluster));
    arena_free(&t.a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets_are_addresses),
        cmocka_unit_test(targets_that_are_none),
        cmocka_unit_test(the_same_peer_is_the_same_cluster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
