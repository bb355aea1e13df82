/* Listeners from YAML: what they become, which parts two versions share by hash, and what is
 * refused with which path. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proxy/api/network_filter.h"
#include "proxy/config/listener.h"
#include "proxy/net/filter_chain_match.h"

static const struct network_filter_type end_type = {.ext = {.name = "end"}, .terminal = true};
static const struct network_filter_type pass_type = {.ext = {.name = "pass"}};
static const struct listener_filter_type peek_type = {.ext = {.name = "peek"}};
/* What use_original_dst brings along. */
static const void *original_conf(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    (void)at, (void)msg;
    return "original";
}
static const struct listener_filter_type original_type = {
    .ext = {.name = "envoy.filters.listener.original_dst"}, .conf_create = original_conf};
static const struct registry_entry entries[] = {{EXTENSION_NETWORK_FILTER, &end_type.ext},
                                                {EXTENSION_NETWORK_FILTER, &pass_type.ext},
                                                {EXTENSION_LISTENER_FILTER, &peek_type.ext},
                                                {EXTENSION_LISTENER_FILTER, &original_type.ext}};
static const struct registry registry = {.entries = entries, .count = ARRAY_LEN(entries)};

struct env {
    struct arena *a;
    struct errors errors;
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
    obj_unref(&e->object);
    arena_free(&e->a);
    mem_free(e);
    return 0;
}

/* NULL when it was refused: e->errors tells. The last one lives until the next. */
static struct listener_conf *load(struct env *e, const char *yaml)
{
    obj_unref(&e->object);
    e->errors = (struct errors){.arena = e->a};
    struct conf_cx cx = {
        .arena = arena_new("object", 0), .errors = &e->errors, .registry = &registry};
    ProtobufCMessage *m = json_read(e->a, &envoy__config__listener__v3__listener__descriptor,
                                    str_of(yaml), JSON_FORMAT_YAML, NULL, NULL, &e->errors);
    struct listener_conf *l = NULL;
    if (m && proto_check(m, NULL, NULL, &e->errors)) {
        l = translate_listener(&cx, (const Envoy__Config__Listener__V3__Listener *)(const void *)m);
    }
    if (l)
        e->object = &l->obj;
    else
        arena_free(&cx.arena);
    return l;
}

static struct listener_conf *load_ok(struct env *e, const char *yaml)
{
    struct listener_conf *l = load(e, yaml);
    if (!l) fail_msg("refused: %.*s", STR_ARG(errors_text(&e->errors, e->a, STR_NONE)));
    return l;
}

#define ADDRESS "address: {socket_address: {address: 127.0.0.1, port_value: 80}}"
#define END "filters: [{name: end}]"

static void the_defaults(void **state)
{
    struct env *e = *state;
    const struct listener_conf *l =
        load_ok(e, "{name: l, " ADDRESS ", filter_chains: [{" END "}]}");
    const struct listener_base *b = l->base;
    assert_true(str_eq(l->obj.name, STR("l")));
    assert_true(str_eq(b->stat_prefix, STR("listener.127.0.0.1:80.")));
    assert_true(b->bind_to_port && b->reuse_port);
    assert_int_equal(b->limits.buffer_limit, 1024 * 1024);
    assert_int_equal(b->filters_timeout_us, 15000000);
    assert_int_equal(l->chain_count, 1);
    assert_null(l->chains[0]->transport);
    assert_int_not_equal(l->obj.hash, 0);
    l = load_ok(
        e,
        "{" ADDRESS
        ", stat_prefix: x, filter_chains: [{}]}"); /* Envoy: no filters are fine, a name is made */
    assert_int_equal(l->obj.name.len, 36);
    assert_true(str_eq(l->base->stat_prefix, STR("listener.x.")));
}

static void all_fields_arrive(void **state)
{
    struct env *e = *state;
    const struct listener_conf *l = load_ok(
        e,
        "{name: l, " ADDRESS
        ", bind_to_port: false, enable_reuse_port: false, use_original_dst: true, drain_type: MODIFY_ONLY,"
        " tcp_backlog_size: 7, max_connections_to_accept_per_socket_event: 3, per_connection_buffer_limit_bytes: 9,"
        " traffic_direction: INBOUND, ignore_global_conn_limit: true, listener_filters_timeout: 0s,"
        " continue_on_listener_filters_timeout: true, freebind: true, transparent: true, tcp_fast_open_queue_length: 5,"
        " socket_options: [{level: 1, name: 9, int_value: 1, state: STATE_LISTENING}],"
        " additional_addresses: [{address: {socket_address: {address: '::', port_value: 81, ipv4_compat: true}}}],"
        " listener_filters: [{name: peek, filter_disabled: {not_match: {destination_port_range: {start: 80, end: 82}}}}],"
        " filter_chains: [{name: c, transport_socket_connect_timeout: 2s, filters: [{name: pass}, {name: end}]}],"
        " default_filter_chain: {" END "}}");
    const struct listener_base *b = l->base;
    assert_false(b->bind_to_port || b->reuse_port);
    assert_true(b->use_original_dst && b->drain_modify_only && b->ignore_global_limit &&
                b->continue_on_timeout);
    assert_int_equal(b->backlog, 7);
    assert_int_equal(b->accept_most, 3);
    assert_int_equal(b->limits.buffer_limit, 9);
    assert_int_equal(b->filters_timeout_us, 0);
    assert_int_equal(b->address_count, 2);
    assert_true(b->addresses[1].options.v6_only_off && b->addresses[1].options.freebind);
    assert_int_equal(b->addresses[0].options.fast_open, 5);
    assert_int_equal(b->addresses[0].options.v[0].state, SOCKET_LISTENING);
    assert_int_equal(b->filters[0].disabled->kind, PREDICATE_NOT);
    assert_int_equal(l->chains[0]->filter_count, 2);
    assert_int_equal(l->chains[0]->transport_timeout_us, 2000000);
    assert_non_null(l->default_chain);
}

static void criteria_arrive(void **state)
{
    struct env *e = *state;
    const struct listener_conf *l = load_ok(
        e,
        "{name: l, " ADDRESS ", filter_chains: [{" END
        ", filter_chain_match: {destination_port: 8, server_names: ['*.A.com', b.com],"
        " transport_protocol: tls, application_protocols: [h2], source_type: EXTERNAL, source_ports: [5],"
        " prefix_ranges: [{address_prefix: 10.1.2.3, prefix_len: 8}, {address_prefix: 1.2.3.4, prefix_len: 64}],"
        " source_prefix_ranges: [{address_prefix: '::1'}]}}]}");
    const struct net_match *m = l->chains[0]->match;
    assert_int_equal(m->destination_port, 8);
    assert_true(str_eq(m->server_names[0], STR(".a.com")));
    assert_int_equal(m->destination[0].bits, 8);
    assert_int_equal(m->destination[1].bits, 32); /* Envoy: too long is the longest */
    assert_int_equal(m->source[0].bits, 0);
    assert_int_equal(m->source_ports[0], 5);
    assert_int_equal(m->source_type, NET_SOURCE_EXTERNAL);
}

static void hashes_tell_what_changed(void **state)
{
    struct env *e = *state;
    const struct listener_conf *l =
        load_ok(e, "{name: l, " ADDRESS ", filter_chains: [{name: a, " END "}]}");
    uint64_t all = l->obj.hash, base = l->base->obj.hash, chain = l->chains[0]->obj.hash;
    l = load_ok(e, "{name: l, filter_chains: [{" END ", name: a}], " ADDRESS "}");
    assert_true(l->obj.hash == all && l->base->obj.hash == base && l->chains[0]->obj.hash == chain);
    l = load_ok(e, "{name: l, " ADDRESS ", filter_chains: [{name: b, " END "}]}");
    assert_true(l->obj.hash != all && l->base->obj.hash == base && l->chains[0]->obj.hash != chain);
    l = load_ok(e,
                "{name: l, " ADDRESS ", tcp_backlog_size: 9, filter_chains: [{name: a, " END "}]}");
    assert_true(l->obj.hash != all && l->base->obj.hash != base && l->chains[0]->obj.hash == chain);
}

static void mistakes_are_told_with_their_place(void **state)
{
    struct env *e = *state;
    const struct {
        const char *yaml, *path, *text;
    } cases[] = {
        {"{name: l, filter_chains: [{" END "}]}", "address", "address is necessary"},
        {"{name: l, " ADDRESS "}", "",
         "error adding listener '127.0.0.1:80': no filter chains specified"},
        {"{name: l, address: {socket_address: {address: localhost, port_value: 1}}, filter_chains: [{" END
         "}]}",
         "address.socket_address.address", "malformed IP address: localhost"},
        {"{name: l, address: {socket_address: {address: 1.2.3.4, named_port: http}}, filter_chains: [{" END
         "}]}",
         "address.socket_address.named_port", "port number"},
        {"{name: l, address: {socket_address: {address: 1.2.3.4, port_value: 1, protocol: UDP}}, filter_chains: [{" END
         "}]}",
         "1.2.3.4:1", "UDP"},
        {"{name: l, address: {pipe: {path: '@x', mode: 384}}, filter_chains: [{" END "}]}",
         "address.pipe.mode", "Abstract"},
        {"{name: l, " ADDRESS ", filter_chains: [{filters: [{name: nosuch}]}]}",
         "filter_chains[0].filters[0]", "nosuch"},
        {"{name: l, " ADDRESS ", filter_chains: [{filters: [{name: pass}]}]}",
         "filter_chains[0].filters[0]",
         "Error: non-terminal filter named pass of type pass is the last filter in a network filter chain."},
        {"{name: l, " ADDRESS ", filter_chains: [{filters: [{name: end}, {name: pass}]}]}",
         "filter_chains[0].filters[0]",
         "Error: terminal filter named end of type end must be the last filter in a network filter chain."},
        {"{name: l, " ADDRESS ", filter_chains: [{name: a, " END "}, {name: b, " END "}]}",
         "filter_chains[1]", "filter chain 'b' has the same matching rules defined as 'a'"},
        {"{name: l, " ADDRESS ", filter_chains: [{" END
         ", filter_chain_match: {server_names: [a, b]}}, {" END
         ", filter_chain_match: {server_names: [B]}}]}",
         "filter_chains[1]", "multiple filter chains with overlapping matching rules are defined"},
        {"{name: l, " ADDRESS ", filter_chains: [{" END
         ", filter_chain_match: {server_names: ['*a.com']}}]}",
         "filter_chains[0].filter_chain_match.server_names[0]",
         "partial wildcards are not supported"},
        {"{name: l, " ADDRESS ", filter_chains: [{" END
         ", filter_chain_match: {prefix_ranges: [{address_prefix: x}]}}]}",
         "filter_chains[0].filter_chain_match.prefix_ranges[0].address_prefix",
         "malformed IP address: x"},
        {"{name: l, " ADDRESS ", listener_filters: [{name: nosuch}], filter_chains: [{" END "}]}",
         "listener_filters[0]", "nosuch"},
        {"{name: l, " ADDRESS
         ", socket_options: [{level: 99999999999, name: 1, int_value: 1}], filter_chains: [{" END
         "}]}",
         "socket_options[0].level", "must fit in an int"},
        {"{name: l, " ADDRESS ", filter_chains: [{" END ", use_proxy_proto: true}]}",
         "filter_chains[0].use_proxy_proto", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (load(e, cases[i].yaml)) fail_msg("accepted: %s", cases[i].yaml);
        struct str all = errors_text(&e->errors, e->a, STR_NONE);
        if (str_find(all, str_of(cases[i].path)) == SIZE_MAX ||
            str_find(all, str_of(cases[i].text)) == SIZE_MAX) {
            fail_msg("%s\n told: %.*s\n wanted: %s: %s", cases[i].yaml, STR_ARG(all), cases[i].path,
                     cases[i].text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(all_fields_arrive, setup, teardown),
        cmocka_unit_test_setup_teardown(criteria_arrive, setup, teardown),
        cmocka_unit_test_setup_teardown(hashes_tell_what_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(mistakes_are_told_with_their_place, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
