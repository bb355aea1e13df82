#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/type/matcher/v3/regex.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/validate.h"
#include "envoy/type/v3/http_status.pb-c.h"
#include "tests/unit/proto/help.h"

#define CHECK(w, m) proto_validate(&(m).base, NULL, &(w).errors)

static void test_required_message(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Route__V3__Route route = ENVOY__CONFIG__ROUTE__V3__ROUTE__INIT;
    Envoy__Config__Route__V3__Route *routes[] = {&route};
    Envoy__Config__Route__V3__VirtualHost host = ENVOY__CONFIG__ROUTE__V3__VIRTUAL_HOST__INIT;
    char name[] = "v", star[] = "*";
    char *domains[] = {star};
    host.name = name;
    host.n_domains = 1;
    host.domains = domains;
    host.n_routes = 1;
    host.routes = routes;
    Envoy__Config__Route__V3__VirtualHost *hosts[] = {&host};
    Envoy__Config__Route__V3__RouteConfiguration config =
        ENVOY__CONFIG__ROUTE__V3__ROUTE_CONFIGURATION__INIT;
    config.n_virtual_hosts = 1;
    config.virtual_hosts = hosts;
    assert_false(CHECK(w, config));
    assert_int_equal(w.errors.count, 2);
    assert_str(w.errors.v[0].path, "virtual_hosts[0].routes[0]");
    assert_str(w.errors.v[1].path, "virtual_hosts[0].routes[0].match");
    assert_str(w.errors.v[1].text, "value is required");
    arena_free(&w.arena);
}

static void test_required_oneof_names_its_members(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Core__V3__Address address = ENVOY__CONFIG__CORE__V3__ADDRESS__INIT;
    assert_false(CHECK(w, address));
    assert_error(&w, "",
                 "address is required: set one of socket_address, pipe, envoy_internal_address");
    arena_free(&w.arena);
}

static void test_string_and_list_lengths(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Route__V3__VirtualHost host = ENVOY__CONFIG__ROUTE__V3__VIRTUAL_HOST__INIT;
    assert_false(CHECK(w, host));
    assert_int_equal(w.errors.count, 2);
    assert_str(w.errors.v[0].path, "name");
    assert_str(w.errors.v[0].text, "value length must be at least 1 characters");
    assert_str(w.errors.v[1].path, "domains");
    assert_str(w.errors.v[1].text, "value must contain at least 1 items");
    arena_free(&w.arena);
}

static void test_header_rules(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Core__V3__HeaderValue header = ENVOY__CONFIG__CORE__V3__HEADER_VALUE__INIT;
    char key[] = "a\nb", value[] = "x";
    header.key = key;
    header.value = value;
    assert_false(CHECK(w, header));
    assert_error(&w, "key", "header name");
    w.errors.count = 0;
    key[1] = ' '; /* the loose form refuses NUL, CR and LF only */
    assert_true(CHECK(w, header));
    value[0] = '\r';
    assert_false(CHECK(w, header));
    assert_error(&w, "value", "header value");
    arena_free(&w.arena);
}

static void test_numbers(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Core__V3__SocketAddress address = ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__INIT;
    char host[] = "127.0.0.1";
    address.address = host;
    address.port_specifier_case =
        ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
    address.port_value = 70000;
    assert_false(CHECK(w, address));
    assert_error(&w, "port_value", "less than or equal to 65535");
    address.port_value = 65535;
    w.errors.count = 0;
    assert_true(CHECK(w, address));
    arena_free(&w.arena);
}

static void test_duration_and_wrapper(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Cluster__V3__Cluster cluster = ENVOY__CONFIG__CLUSTER__V3__CLUSTER__INIT;
    char name[] = "c";
    Google__Protobuf__Duration none = GOOGLE__PROTOBUF__DURATION__INIT;
    cluster.name = name;
    cluster.connect_timeout = &none;
    assert_false(CHECK(w, cluster));
    assert_error(&w, "connect_timeout", "greater than 0s");
    w.errors.count = 0;
    none.nanos = 1;
    Envoy__Config__Cluster__V3__Cluster__RingHashLbConfig ring =
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__RING_HASH_LB_CONFIG__INIT;
    Google__Protobuf__UInt64Value size = GOOGLE__PROTOBUF__UINT64_VALUE__INIT;
    size.value = 8388609;
    ring.maximum_ring_size = &size;
    cluster.lb_config_case = ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG;
    cluster.ring_hash_lb_config = &ring;
    assert_false(CHECK(w, cluster));
    assert_error(&w, "ring_hash_lb_config.maximum_ring_size", "less than or equal to 8388608");
    arena_free(&w.arena);
}

static void test_undefined_enum_value(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Config__Cluster__V3__Cluster cluster = ENVOY__CONFIG__CLUSTER__V3__CLUSTER__INIT;
    char name[] = "c";
    cluster.name = name;
    cluster.lb_policy = 77;
    assert_false(CHECK(w, cluster));
    assert_error(&w, "lb_policy", "not one of the defined values");
    arena_free(&w.arena);
}

static void test_enum_value_that_must_not_be(void **state)
{
    (void)state;
    struct world w = world_new();
    Envoy__Type__V3__HttpStatus status = ENVOY__TYPE__V3__HTTP_STATUS__INIT;
    assert_false(CHECK(w, status));
    assert_error(&w, "code", "value must not be Empty");
    status.code = ENVOY__TYPE__V3__STATUS_CODE__NotFound;
    w.errors.count = 0;
    assert_true(CHECK(w, status));
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_required_message),
        cmocka_unit_test(test_required_oneof_names_its_members),
        cmocka_unit_test(test_string_and_list_lengths),
        cmocka_unit_test(test_header_rules),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_duration_and_wrapper),
        cmocka_unit_test(test_undefined_enum_value),
        cmocka_unit_test(test_enum_value_that_must_not_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
