/* Filter chain matching: Envoy's order of criteria, most specific first, no stepping back; and
 * collisions of rules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/must.h"
#include "proxy/net/filter_chain_match.h"
#include "proxy/net/listener.h"

static struct cidr range(const char *ip, uint32_t bits)
{
    struct cidr c;
    assert_true(cidr_make(str_of(ip), bits, &c));
    return c;
}

static struct addr at(const char *text)
{
    struct addr a;
    assert_true(addr_parse(str_of(text), &a));
    return a;
}

struct world {
    struct filter_chain_conf chains[8];
    struct filter_chain_conf *list[8];
    struct listener_conf l;
    struct addr local, remote;
    struct net_facts facts;
};

static void world_add(struct world *w, const struct net_match *m)
{
    struct filter_chain_conf *c = &w->chains[w->l.chain_count];
    c->match = m;
    w->list[w->l.chain_count++] = c;
}

static void world_init(struct world *w)
{
    *w = (struct world){0};
    w->l.chains = w->list;
    w->local = at("10.1.2.3:443");
    w->remote = at("192.168.5.6:50000");
    w->facts = (struct net_facts){.local = &w->local,
                                  .remote = &w->remote,
                                  .direct_remote = &w->remote,
                                  .transport_protocol = STR("raw_buffer")};
}

static size_t world_find(struct world *w)
{
    return filter_chain_find(&w->l, &w->facts);
}

static void the_only_chain_without_rules_takes_all(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    world_add(&w, NULL);
    assert_int_equal(world_find(&w), 0);
}

static void destination_port_comes_before_all(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    const struct cidr near[] = {range("10.1.2.3", 32)};
    const struct net_match by_ip = {.destination = near, .destination_count = 1},
                           by_port = {.destination_port = 443};
    world_add(&w, &by_ip);
    world_add(&w, &by_port);
    assert_int_equal(world_find(&w), 1);
    w.local = at("10.1.2.3:80");
    assert_int_equal(world_find(&w), 0);
}

static void longest_prefix_wins_and_nothing_steps_back(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    const struct cidr wide[] = {range("10.0.0.0", 8)}, narrow[] = {range("10.1.0.0", 16)};
    const struct str names[] = {STR("a.example.com")};
    const struct net_match m_wide = {.destination = wide, .destination_count = 1};
    const struct net_match m_narrow = {.destination = narrow,
                                       .destination_count = 1,
                                       .server_names = names,
                                       .server_name_count = 1};
    world_add(&w, &m_wide);
    world_add(&w, &m_narrow);
    /* The narrow range is chosen first; its server name does not fit: none, not the wide one. */
    assert_int_equal(world_find(&w), SIZE_MAX);
    w.facts.sni = STR("a.example.com");
    assert_int_equal(world_find(&w), 1);
    w.local = at("10.200.0.1:443");
    assert_int_equal(world_find(&w), 0);
    w.local = at("11.0.0.1:443");
    struct filter_chain_conf rest = {0};
    w.l.default_chain = &rest;
    assert_int_equal(world_find(&w), 2);
}

static void server_names_exact_then_longest_wildcard_then_none(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    const struct str exact[] = {STR("www.example.com")}, wild[] = {STR(".example.com")},
                     com[] = {STR(".com")};
    const struct net_match m[] = {
        {.server_names = com, .server_name_count = 1},
        {.server_names = wild, .server_name_count = 1},
        {.server_names = exact, .server_name_count = 1},
        {0},
    };
    for (size_t i = 0; i < ARRAY_LEN(m); i++)
        world_add(&w, &m[i]);
    const struct {
        struct str sni;
        size_t chain;
    } cases[] = {
        {STR("www.example.com"), 2},
        {STR("a.b.example.com"), 1},
        {STR("example.com"), 0},
        {STR("x.com"), 0},
        {STR("com"), 3},
        {STR("example.org"), 3},
        {STR(""), 3},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        w.facts.sni = cases[i].sni;
        assert_int_equal(world_find(&w), cases[i].chain);
    }
}

static void transport_and_application_protocols(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    const struct str h2[] = {STR("h2")}, h1[] = {STR("http/1.1")};
    const struct net_match m[] = {
        {.transport_protocol = STR("tls"), .alpn = h1, .alpn_count = 1},
        {.transport_protocol = STR("tls"), .alpn = h2, .alpn_count = 1},
        {.transport_protocol = STR("raw_buffer")},
    };
    for (size_t i = 0; i < ARRAY_LEN(m); i++)
        world_add(&w, &m[i]);
    assert_int_equal(world_find(&w), 2);
    const struct str offered[] = {STR("h2"), STR("http/1.1")};
    w.facts.transport_protocol = STR("tls");
    w.facts.alpn = offered;
    w.facts.alpn_count = 2;
    assert_int_equal(world_find(&w), 1); /* the client's first choice */
    w.facts.alpn_count = 0;
    assert_int_equal(world_find(&w), SIZE_MAX);
}

static void sources(void **state)
{
    (void)state;
    struct world w;
    world_init(&w);
    const uint16_t ports[] = {50000};
    const struct cidr lan[] = {range("192.168.0.0", 16)};
    const struct net_match m[] = {
        {.source_type = NET_SOURCE_EXTERNAL},
        {.source_type = NET_SOURCE_EXTERNAL, .source = lan, .source_count = 1},
        {.source_type = NET_SOURCE_EXTERNAL,
         .source = lan,
         .source_count = 1,
         .source_ports = ports,
         .source_port_count = 1},
        {.source_type = NET_SOURCE_LOCAL},
    };
    for (size_t i = 0; i < ARRAY_LEN(m); i++)
        world_add(&w, &m[i]);
    assert_int_equal(world_find(&w), 2);
    w.remote = at("192.168.5.6:1");
    assert_int_equal(world_find(&w), 1);
    w.remote = at("8.8.8.8:1");
    assert_int_equal(world_find(&w), 0);
    w.remote = at("127.0.0.1:1");
    assert_int_equal(world_find(&w), 3);
    w.remote = at("10.1.2.3:9");
    assert_int_equal(world_find(&w), 3);
}

static void equal_and_overlapping_rules_collide(void **state)
{
    (void)state;
    const struct str ab[] = {STR("a"), STR("b")}, b[] = {STR("b")}, c[] = {STR("c")};
    const struct net_match m_ab = {.server_names = ab, .server_name_count = 2},
                           m_b = {.server_names = b, .server_name_count = 1},
                           m_c = {.server_names = c, .server_name_count = 1},
                           port = {.destination_port = 1};
    assert_int_equal(net_match_overlap(NULL, NULL), NET_OVERLAP_SAME);
    assert_int_equal(net_match_overlap(&m_ab, &m_ab), NET_OVERLAP_SAME);
    assert_int_equal(net_match_overlap(&m_ab, &m_b), NET_OVERLAP_PART);
    assert_int_equal(net_match_overlap(&m_b, &m_ab), NET_OVERLAP_PART);
    assert_int_equal(net_match_overlap(&m_ab, &m_c), NET_OVERLAP_NONE);
    assert_int_equal(net_match_overlap(NULL, &m_c), NET_OVERLAP_NONE);
    assert_int_equal(net_match_overlap(NULL, &port), NET_OVERLAP_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_only_chain_without_rules_takes_all),
        cmocka_unit_test(destination_port_comes_before_all),
        cmocka_unit_test(longest_prefix_wins_and_nothing_steps_back),
        cmocka_unit_test(server_names_exact_then_longest_wildcard_then_none),
        cmocka_unit_test(transport_and_application_protocols),
        cmocka_unit_test(sources),
        cmocka_unit_test(equal_and_overlapping_rules_collide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
