/* PROXY protocol headers and their TLVs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/proxy_header.h"

static void assert_sb(struct sb *got, const char *want, size_t len)
{
    assert_int_equal(got->len, len);
    assert_memory_equal(got->ptr, want, len);
    sb_release(got);
}

static void takes_tlvs_apart(void **state)
{
    struct sb out = {0};
    struct str rest, value;
    uint8_t type;
    (void)state;
    assert_true(proxy_tlv_add(&out, 0xE0, STR("ab")) && proxy_tlv_add(&out, 5, STR("")));
    assert_false(proxy_tlv_add(&out, 6, str_make("", PROXY_TLV_MOST + 1)));
    rest = sb_str(&out);
    assert_true(proxy_tlv_next(&rest, &type, &value));
    assert_int_equal(type, 0xE0);
    assert_true(str_eq(value, STR("ab")));
    assert_true(proxy_tlv_next(&rest, &type, &value) && type == 5 && value.len == 0);
    assert_false(proxy_tlv_next(&rest, &type, &value));
    /* a length beyond the end leaves what it is */
    rest = str_make("\x01\x00\x03xy", 5);
    assert_false(proxy_tlv_next(&rest, &type, &value));
    assert_int_equal(rest.len, 5);
    sb_release(&out);
}

static void writes_headers(void **state)
{
    struct addr v4, v4_to, v6;
    struct sb out = {0};
    (void)state;
    assert_true(addr_parse_ip(STR("1.2.3.4"), 5, &v4) && addr_parse_ip(STR("6.7.8.9"), 10, &v4_to));
    assert_true(addr_parse_ip(STR("2001:db8::1"), 1, &v6));
    proxy_header_v1(&out, &v4, &v4_to);
    assert_sb(&out, "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\r\n", 33);
    proxy_header_v1(&out, &v4, &v6);
    assert_sb(&out, "PROXY UNKNOWN\r\n", 15);
    assert_true(proxy_header_v2(&out, &v4, &v4_to, str_make("\x01\x00\x01z", 4)));
    assert_sb(&out,
              "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\x01\x02\x03\x04\x06\x07\x08\x09\0\x05\0\x0a"
              "\x01\0\x01z",
              32);
    assert_true(proxy_header_v2(&out, &v4, &v6, STR_NONE));
    assert_sb(&out, "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);
}

static void leaves_out_too_many_tlvs(void **state)
{
    struct addr v4;
    struct sb out = {0};
    char *many = calloc(1, PROXY_TLV_MOST);
    (void)state;
    assert_true(addr_parse_ip(STR("1.2.3.4"), 5, &v4));
    assert_false(proxy_header_v2(&out, &v4, &v4, str_make(many, PROXY_TLV_MOST - 11)));
    assert_int_equal(out.len, 28);
    assert_true(proxy_header_v2(&out, &v4, &v4, str_make(many, PROXY_TLV_MOST - 12)));
    assert_int_equal(out.len, 28 + 16 + PROXY_TLV_MOST);
    sb_release(&out);
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_tlvs_apart),
        cmocka_unit_test(writes_headers),
        cmocka_unit_test(leaves_out_too_many_tlvs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
