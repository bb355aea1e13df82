/* Clusters and load assignments from YAML: what they become, and what is refused with which path.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "envoy/extensions/load_balancing_policies/random/v3/random.pb-c.h"
#include "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proxy/config/cluster.h"

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
static const struct lb_policy_type random_type = {
    .ext = {.name = "envoy.load_balancing_policies.random",
            .config = &envoy__extensions__load_balancing_policies__random__v3__random__descriptor},
    .pick = no_pick};
static const struct registry_entry entries[] = {{EXTENSION_LB_POLICY, &round_robin.ext},
                                                {EXTENSION_LB_POLICY, &random_type.ext}};
static const struct registry registry = {.entries = entries, .count = ARRAY_LEN(entries)};

struct env {
    struct arena *a;
    struct errors errors;
    struct conf_cx cx;
    struct obj *object;
};

static int setup(void **state)
{
    struct env *e = mem_alloc(sizeof(*e));
    e->a = arena_new("test", 0);
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    if (e->object) obj_unref(&e->object);
    arena_free(&e->a);
    mem_free(e);
    return 0;
}

static const ProtobufCMessage *read_yaml(struct env *e, const ProtobufCMessageDescriptor *desc,
                                         const char *yaml)
{
    if (e->object) obj_unref(&e->object);
    e->errors = (struct errors){.arena = e->a};
    e->cx = (struct conf_cx){
        .arena = arena_new("object", 0), .errors = &e->errors, .registry = &registry};
    ProtobufCMessage *m =
        json_read(e->a, desc, str_of(yaml), JSON_FORMAT_YAML, NULL, NULL, &e->errors);
    return m && proto_check(m, NULL, NULL, &e->errors) ? m : NULL;
}

/* NULL when it was refused: e->errors tells. */
static struct cluster *load(struct env *e, const char *yaml)
{
    const ProtobufCMessage *m =
        read_yaml(e, &envoy__config__cluster__v3__cluster__descriptor, yaml);
    struct cluster *c =
        m ? translate_cluster(&e->cx, (const Envoy__Config__Cluster__V3__Cluster *)(const void *)m)
          : NULL;
    e->object = c ? &c->obj : NULL;
    if (!c) arena_free(&e->cx.arena);
    return c;
}

static struct load_assignment *load_endpoints(struct env *e, const char *yaml)
{
    const ProtobufCMessage *m =
        read_yaml(e, &envoy__config__endpoint__v3__cluster_load_assignment__descriptor, yaml);
    struct load_assignment *la =
        m ? translate_load_assignment(
                &e->cx, (const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *)(const void *)m)
          : NULL;
    e->object = la ? &la->obj : NULL;
    if (!la) arena_free(&e->cx.arena);
    return la;
}

static struct cluster *load_ok(struct env *e, const char *yaml)
{
    struct cluster *c = load(e, yaml);
    if (!c) fail_msg("refused: %.*s", STR_ARG(errors_text(&e->errors, e->a, STR_NONE)));
    return c;
}

static void assert_told(struct env *e, const char *what, const char *path, const char *text)
{
    struct str all = errors_text(&e->errors, e->a, STR_NONE);
    if (str_find(all, str_of(path)) == SIZE_MAX || str_find(all, str_of(text)) == SIZE_MAX)
        fail_msg("%s\n told: %.*s\n wanted: %s: %s", what, STR_ARG(all), path, text);
}

#define ENDPOINT(address)                                                      \
    "{lb_endpoints: [{endpoint: {address: {socket_address: {address: " address \
    ", port_value: 80}}}}]}"
#define ASSIGNMENT(endpoints) "load_assignment: {cluster_name: a, endpoints: [" endpoints "]}"

static void the_defaults(void **state)
{
    struct env *e = *state;
    struct cluster *c = load_ok(e, "{name: a, " ASSIGNMENT(ENDPOINT("10.0.0.1")) "}");
    assert_int_equal(c->discovery, CLUSTER_STATIC);
    assert_int_equal(c->connect_timeout_us, 5000000);
    assert_int_equal(c->buffer_limit, 1024 * 1024);
    assert_int_equal(c->limits[0].max_connections, 1024);
    assert_int_equal(c->limits[1].max_retries, 3);
    assert_ptr_equal(c->http, &upstream_http_default);
    assert_ptr_equal(c->lb, &round_robin);
    assert_false(c->locality_weighted);
    assert_int_equal(c->endpoints->count, 1);
    assert_int_equal(c->endpoints->v[0].v[0].weight, 1);
    assert_int_equal(addr_port(&c->endpoints->v[0].v[0].addr), 80);
}

static void the_meaning_is_hashed(void **state)
{
    struct env *e = *state;
    uint64_t one = load_ok(e, "{name: a, connect_timeout: 1s}")->obj.hash;
    assert_true(one == load_ok(e, "{connect_timeout: 1.0s, name: a}")->obj.hash);
    assert_false(one == load_ok(e, "{name: a, connect_timeout: 2s}")->obj.hash);
}

static void breakers_by_priority(void **state)
{
    struct env *e = *state;
    struct cluster *c = load_ok(
        e,
        "{name: a, circuit_breakers: {thresholds: [{max_connections: 7, retry_budget: {budget_percent: {value: 25}}},"
        " {priority: HIGH, max_requests: 9, track_remaining: true}, {max_connections: 8}],"
        " per_host_thresholds: [{max_connections: 3}]}}");
    assert_int_equal(c->limits[0].max_connections, 7); /* the first of a priority counts */
    assert_true(c->limits[0].has_budget && c->limits[0].budget_min == 3);
    assert_int_equal(c->limits[0].host_max_connections, 3);
    assert_int_equal(c->limits[1].max_requests, 9);
    assert_true(c->limits[1].track_remaining);
}

static void protocols(void **state)
{
    struct env *e = *state;
#define OPTIONS(rest)                                                                                                   \
    "{name: a, typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": " \
    "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, " rest "}}}"
    assert_int_equal(
        load_ok(e, OPTIONS("explicit_http_config: {http_protocol_options: {}}"))->http->protocol,
        CLUSTER_HTTP1);
    assert_int_equal(
        load_ok(
            e,
            OPTIONS("explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 5}}"))
            ->http->protocol,
        CLUSTER_HTTP2);
    assert_int_equal(load_ok(e, OPTIONS("use_downstream_protocol_config: {}"))->http->protocol,
                     CLUSTER_HTTP_DOWNSTREAM);
    struct cluster *c = load_ok(
        e,
        OPTIONS("common_http_protocol_options: {idle_timeout: 3s, max_requests_per_connection: 4},"
                " explicit_http_config: {http_protocol_options: {enable_trailers: true}}"));
    assert_int_equal(c->http->idle_timeout_us, 3000000);
    assert_int_equal(c->http->max_requests_per_connection, 4);
    assert_true(c->http->codec.enable_trailers);
    assert_int_equal(load_ok(e, "{name: a, http2_protocol_options: {}}")->http->protocol,
                     CLUSTER_HTTP2);
    assert_null(load(e, OPTIONS("auto_config: {}")));
    assert_told(e, "auto", "typed_extension_protocol_options", "non-ALPN transport socket");
}

static void policies(void **state)
{
    struct env *e = *state;
    assert_ptr_equal(load_ok(e, "{name: a, lb_policy: RANDOM}")->lb, &random_type);
#define POLICY(type)                                                                                                                  \
    "{typed_extension_config: {name: x, typed_config: {\"@type\": type.googleapis.com/envoy.extensions.load_balancing_policies." type \
    "}}}"
    struct cluster *c = load_ok(e, "{name: a, load_balancing_policy: {policies: [" POLICY(
                                       "maglev.v3.Maglev") ", " POLICY("random.v3.Random") "]}}");
    assert_ptr_equal(c->lb, &random_type); /* the first that is known */
    c = load_ok(
        e,
        "{name: a, load_balancing_policy: {policies: [{typed_extension_config: {name: w, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality, endpoint_picking_policy: "
        "{policies: [" POLICY("round_robin.v3.RoundRobin") "]}}}}]}}");
    assert_true(c->lb == &round_robin && c->locality_weighted);
    c = load_ok(
        e,
        "{name: a, common_lb_config: {locality_weighted_lb_config: {}, healthy_panic_threshold: {value: 0}}}");
    assert_true(c->locality_weighted);
    assert_true(c->panic_percent <= 0);
}

static void eds_needs_endpoints(void **state)
{
    struct env *e = *state;
    struct cluster *c = load_ok(
        e, "{name: a, type: EDS, eds_cluster_config: {service_name: s, eds_config: {ads: {}}}}");
    assert_int_equal(c->discovery, CLUSTER_EDS);
    assert_non_null(e->cx.needs);
    assert_true(e->cx.needs->kind == NEED_ENDPOINTS && str_eq(e->cx.needs->name, STR("s")));
    assert_null(c->endpoints);
}

static void dns_settings(void **state)
{
    struct env *e = *state;
    struct cluster *c = load_ok(
        e,
        "{name: a, type: STRICT_DNS, dns_refresh_rate: 2s, dns_lookup_family: V4_ONLY, respect_dns_ttl: true, "
        "dns_failure_refresh_rate: {base_interval: 1s}, " ASSIGNMENT(ENDPOINT("example.com")) "}");
    assert_int_equal(c->dns->refresh_us, 2000000);
    assert_int_equal(c->dns->failure_max_us, 10000000);
    assert_true(c->dns->respect_ttl && c->dns->family == 1);
    assert_true(str_eq(c->endpoints->v[0].v[0].dns, STR("example.com")));
    c = load_ok(
        e,
        "{name: a, cluster_type: {name: envoy.cluster.dns, typed_config: {\"@type\": "
        "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster, all_addresses_in_single_endpoint: true, "
        "dns_lookup_family: V4_ONLY}}, " ASSIGNMENT(ENDPOINT("example.com")) "}");
    assert_true(c->discovery == CLUSTER_LOGICAL_DNS && c->dns->family == 1);
}

static void mistakes(void **state)
{
    struct env *e = *state;
    static const struct {
        const char *yaml, *path, *text;
    } cases[] = {
        {"{name: a, connect_timeout: 0s}", "connect_timeout", ""},
        {"{connect_timeout: 1s}", "name", ""},
        {"{name: a, " ASSIGNMENT(ENDPOINT("example.com")) "}",
         "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address",
         "malformed IP address: example.com. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'"},
        {"{name: a, type: LOGICAL_DNS, " ASSIGNMENT(ENDPOINT("a.b") ", " ENDPOINT("c.d")) "}",
         "load_assignment",
         "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint"},
        {"{name: a, type: EDS}", "", "cannot create an EDS cluster without an EDS config"},
        {"{name: a, eds_cluster_config: {eds_config: {ads: {}}}}", "",
         "eds_cluster_config set in a non-EDS cluster"},
        {"{name: a, type: ORIGINAL_DST}", "", "is not valid for Cluster type ORIGINAL_DST"},
        {"{name: a, lb_policy: CLUSTER_PROVIDED}", "lb_policy", ""},
        {"{name: a, lb_policy: MAGLEV}", "lb_policy", "not supported"},
        {"{name: a, lb_policy: LOAD_BALANCING_POLICY_CONFIG}", "lb_policy",
         "load_balancing_policy need to be set"},
        {"{name: a, load_balancing_policy: {policies: [" POLICY("maglev.v3.Maglev") "]}}",
         "load_balancing_policy",
         "didn't find a registered load balancer factory implementation for cluster: 'a' with names from [x]"},
        {"{name: a, circuit_breakers: {per_host_thresholds: [{max_retries: 1}]}}",
         "circuit_breakers.per_host_thresholds[0]", ""},
        {"{name: a, type: STRICT_DNS, dns_failure_refresh_rate: {base_interval: 2s, max_interval: 1s}}",
         "dns_failure_refresh_rate", "greater than or equal to the base_interval"},
        {"{name: a, typed_extension_protocol_options: {x: {\"@type\": type.googleapis.com/google.protobuf.Duration, value: 1s}}}",
         "typed_extension_protocol_options", "Didn't find a registered"},
        {"{name: a, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{}]}]}}",
         "lb_endpoints[0]", "address is needed"},
        {"{name: a, load_assignment: {cluster_name: a, endpoints: [{priority: 129, lb_endpoints: []}]}}",
         "priority", ""},
        {"{name: a, cluster_type: {name: nobody}}", "cluster_type", "nobody"},
        {"{name: a, max_requests_per_connection: 1, typed_extension_protocol_options: "
         "{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {\"@type\": "
         "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, common_http_protocol_options: "
         "{max_requests_per_connection: 1}, explicit_http_config: {http_protocol_options: {}}}}}",
         "max_requests_per_connection", "Only one of"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (load(e, cases[i].yaml)) fail_msg("taken: %s", cases[i].yaml);
        assert_told(e, cases[i].yaml, cases[i].path, cases[i].text);
    }
}

static void assignments(void **state)
{
    struct env *e = *state;
    struct load_assignment *la = load_endpoints(
        e,
        "{cluster_name: a, policy: {overprovisioning_factor: 100}, endpoints: ["
        "{locality: {region: r, zone: z}, priority: 2, load_balancing_weight: 3, lb_endpoints: ["
        "{health_status: DRAINING, load_balancing_weight: 9, metadata: {filter_metadata: {envoy.lb: {canary: true}}}, "
        "endpoint: {hostname: h, health_check_config: {port_value: 81}, address: {socket_address: {address: '::1', port_value: 80}}}}]}]}");
    assert_non_null(la);
    assert_int_equal(la->overprovisioning, 100);
    const struct locality_endpoints *l = &la->v[0];
    assert_true(str_eq(l->zone, STR("z")) && l->priority == 2 && l->has_weight && l->weight == 3);
    const struct endpoint *x = &l->v[0];
    assert_true(x->canary && x->weight == 9 && x->status == 3 && str_eq(x->hostname, STR("h")));
    assert_int_equal(addr_port(x->health_addr), 81);
    assert_null(load_endpoints(e, "{cluster_name: a, endpoints: [" ENDPOINT("a.b") "]}"));
    assert_told(e, "EDS name", "endpoints[0].lb_endpoints[0].endpoint.address",
                "malformed IP address");
    assert_null(load_endpoints(
        e, "{cluster_name: a, endpoints: [{load_balancing_weight: 4294967295, lb_endpoints: []}, "
           "{load_balancing_weight: 1, lb_endpoints: []}]}"));
    assert_told(e, "weights", "endpoints[1]", "exceeds max size");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_defaults), T(the_meaning_is_hashed), T(breakers_by_priority), T(protocols),
        T(policies),     T(eds_needs_endpoints),   T(dns_settings),         T(mistakes),
        T(assignments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
