/* Addresses and CIDR ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/addr.h"
#include "base/arena.h"

static struct arena *a;

static const char *text(const char *in)
{
    struct addr x;
    return addr_parse(str_of(in), &x) ? addr_text(&x, a).ptr : "none";
}

static void parses_and_prints(void **state)
{
    struct addr x, y;
    (void)state;
    assert_string_equal(text("127.0.0.1:80"), "127.0.0.1:80");
    assert_string_equal(text("[::1]:65535"), "[::1]:65535");
    assert_string_equal(text("::1:80"), "none");
    assert_string_equal(text("1.2.3:80"), "none");
    assert_string_equal(text("1.2.3.4:65536"), "none");
    assert_string_equal(text("localhost:80"), "none");
    assert_string_equal(text("[1.2.3.4]:80"), "none");
    assert_true(addr_unix(STR("/run/x.sock"), &x) && addr_unix(STR("@name"), &y));
    assert_string_equal(addr_text(&x, a).ptr, "/run/x.sock");
    assert_string_equal(addr_text(&y, a).ptr, "@name");
    assert_false(addr_eq(&x, &y));
    assert_true(addr_eq(&x, &x));
}

static void knows_its_kind(void **state)
{
    static const struct {
        const char *ip;
        bool internal, loopback;
    } rows[] = {
        {"10.1.2.3", true, false},     {"172.16.0.1", true, false}, {"172.32.0.1", false, false},
        {"192.168.9.9", true, false},  {"127.9.9.9", true, true},   {"8.8.8.8", false, false},
        {"::1", true, true},           {"fd00::1", true, false},    {"fe80::1", true, false},
        {"2001:db8::1", false, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct addr x;
        assert_true(addr_parse_ip(str_of(rows[i].ip), 1, &x));
        assert_int_equal(addr_is_internal(&x), rows[i].internal);
        assert_int_equal(addr_is_loopback(&x), rows[i].loopback);
    }
}

static void unmaps(void **state)
{
    struct addr x, v4;
    (void)state;
    assert_true(addr_parse_ip(STR("::ffff:1.2.3.4"), 5, &x) &&
                addr_parse_ip(STR("1.2.3.4"), 5, &v4));
    addr_unmap(&x);
    assert_true(addr_eq(&x, &v4));
}

static bool in(const char *range, uint32_t bits, const char *ip)
{
    struct cidr c;
    struct addr x;
    assert_true(cidr_make(str_of(range), bits, &c));
    assert_true(addr_parse_ip(str_of(ip), 9, &x));
    return cidr_contains(&c, &x);
}

static void ranges_contain(void **state)
{
    struct cidr c;
    (void)state;
    assert_true(in("10.1.2.3", 8, "10.255.0.1") && !in("10.0.0.0", 8, "11.0.0.1"));
    assert_true(in("192.168.1.128", 25, "192.168.1.200") &&
                !in("192.168.1.128", 25, "192.168.1.1"));
    assert_true(in("0.0.0.0", 0, "9.9.9.9") && !in("0.0.0.0", 0, "::1"));
    assert_true(in("2001:db8::", 33, "2001:db8:7fff::1") &&
                !in("2001:db8::", 33, "2001:db8:8000::1"));
    assert_true(in("1.2.3.4", 32, "1.2.3.4") && !in("1.2.3.4", 32, "1.2.3.5"));
    assert_false(cidr_make(STR("1.2.3.4"), 33, &c) || cidr_make(STR("x"), 1, &c));
    assert_true(cidr_make(STR("10.1.2.3"), 8, &c));
    assert_string_equal(cidr_text(&c, a).ptr, "10.0.0.0/8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_and_prints),
        cmocka_unit_test(knows_its_kind),
        cmocka_unit_test(unmaps),
        cmocka_unit_test(ranges_contain),
    };
    a = arena_new("test", 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&a);
    return failed;
}
