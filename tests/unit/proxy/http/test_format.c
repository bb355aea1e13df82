/* Formats: what is refused at load time and what lines look like, against values seen on Envoy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/route.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"
#include "proxy/http/format.h"
#include "proxy/http/format_internal.h"
#include "proxy/http/format_json.h"

struct env {
    struct arena *a;
    struct conn_info conn;
    struct tls_info tls;
    struct route route;
    struct stream_info info;
};

static int setup(void **state)
{
    struct env *e = calloc(1, sizeof *e);
    e->a = arena_new("test", 0);
    struct stream_info *i = &e->info;
    i->arena = e->a;
    i->conn = &e->conn;
    i->route = &e->route;
    e->route.name = STR("main");
    e->conn.id = 7;
    e->conn.sni = STR("sni.example");
    e->conn.listener_name = STR("lis");
    e->conn.transport_failure = STR("TLS error: bad cert");
    assert_true(addr_parse(STR("10.1.2.3:5000"), &e->conn.remote));
    assert_true(addr_parse(STR("[2001:db8::1]:80"), &e->conn.local));
    i->protocol = HTTP_PROTOCOL_11;
    i->start_us = 1000000;
    i->start_wall_us = 1795972168639181;
    i->last_rx_us = 1004500;
    i->end_us = 1250000;
    i->last_tx_us = 1240000;
    i->response_code = 200;
    i->code_details = STR("via upstream");
    i->bytes_sent = 100000;
    i->request_id = STR("abc");
    i->up.cluster = STR("web");
    i->up.cluster_stat = STR("web_alt");
    i->up.first_rx_us = 1100000;
    i->up.attempts = 2;
    assert_true(addr_parse(STR("127.0.0.1:9000"), &i->up.host));
    i->req = headers_new(e->a);
    headers_add(i->req, STR(":method"), STR("GET"));
    headers_add(i->req, STR(":path"), STR("/a?b=c&d=%20e"));
    headers_add(i->req, STR(":authority"), STR("host.example:8080"));
    headers_add(i->req, STR("user-agent"), STR("curl \"x\""));
    headers_add(i->req, STR("x-a"), STR("1"));
    headers_add(i->req, STR("x-a"), STR("2"));
    i->resp = headers_new(e->a);
    headers_add(i->resp, STR("server"), STR("s"));
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    arena_free(&e->a);
    free(e);
    return 0;
}

static void expect_text(struct env *e, const char *format, bool omit, const char *want)
{
    struct str why = STR_NONE;
    const struct format *f = format_parse(e->a, str_of(format), omit, &why);
    if (!f) fail_msg("%s: %.*s", format, STR_ARG(why));
    struct sb out = {0};
    format_write(f, &e->info, ACCESS_LOG_TYPE_DOWNSTREAM_END, &out);
    struct str got = str_dup(e->a, sb_str(&out));
    sb_release(&out);
    if (!str_eq(got, str_of(want)))
        fail_msg("%s: got [%.*s], want [%s]", format, STR_ARG(got), want);
}

static void test_operators_give_envoys_texts(void **state)
{
    static const char *const table[][2] = {
        {"%PROTOCOL% %RESPONSE_CODE% %BYTES_SENT%", "HTTP/1.1 200 100000"},
        {"%RESPONSE_CODE_DETAILS%|%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%",
         "via_upstream|via upstream"},
        {"%RESPONSE_FLAGS%|%RESPONSE_FLAGS_LONG%", "-|-"},
        {"%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION% %REQUEST_TX_DURATION%",
         "250 4 100 140 -"},
        {"%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%|%COMMON_DURATION(DS_RX_BEG:US_CX_BEG)%",
         "240000|-"},
        {"%REQ(user-agent)%|%REQ(nope?USER-AGENT):4%|%REQ(x-a)%|%REQ(no)%", "curl \"x\"|curl|1|-"},
        {"%RESP(server)%%TRAILER(x)%", "s-"},
        {"%START_TIME%|%START_TIME(%s.%3f)%", "2026-11-29T17:09:28.639Z|1795972168.639"},
        {"%START_TIME(%Y%m%dT%H%M%S.%f %1f %6f %9f %s %E4S)%",
         "20261129T170928.639181000 6 639181 639181000 1795972168 28.6391"},
        {"%START_TIME(a)b)%", "a)b"},
        {"%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_HOST_NAME% %UPSTREAM_HOST_NAME_WITHOUT_PORT%",
         "127.0.0.1:9000 web_alt web 127.0.0.1:9000 127.0.0.1"},
        {"%UPSTREAM_REQUEST_ATTEMPT_COUNT% %CONNECTION_ID% %STREAM_ID% %ROUTE_NAME% %LISTENER_NAME%",
         "2 7 abc main lis"},
        {"%DOWNSTREAM_REMOTE_ADDRESS%|%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_REMOTE_PORT%",
         "10.1.2.3:5000|10.1.2.3|5000"},
        {"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%|%DOWNSTREAM_LOCAL_ADDRESS%",
         "10.1.0.0/16|[2001:db8::1]:80"},
        {"%QUERY_PARAM(d)%|%QUERY_PARAMS%|%QUERY_PARAMS(DECODED)%|%QUERY_PARAM(x)%",
         " e|b=c&d=%20e|b=c&d= e|-"},
        {"%PATH%|%PATH(NQ)%|%PATH(WQ:ORIG)%", "/a?b=c&d=%20e|/a|-"},
        {"%REQUESTED_SERVER_NAME%|%REQUESTED_SERVER_NAME(HOST_FIRST)%",
         "sni.example|host.example:8080"},
        {"%DOWNSTREAM_TRANSPORT_FAILURE_REASON%", "TLS_error:_bad_cert"},
        {"%ACCESS_LOG_TYPE%|%LOCAL_REPLY_BODY%|%%|100%%", "DownstreamEnd||%|100%"},
        {"%COALESCE({\"operators\":[{\"command\":\"REQ\",\"param\":\"zz\"},\"PROTOCOL\"]})%",
         "HTTP/1.1"},
        {"%COALESCE({\"operators\":[\"PROTOCOL\"]}):4%", "HTTP"},
        {"%GRPC_STATUS%|%DYNAMIC_METADATA(a:b)%|%FILTER_STATE(k)%|%ENVIRONMENT(SKIFF_NOT_SET)%",
         "-|-|-|-"},
        {"%BYTES_RETRANSMITTED% %ROUNDTRIP_DURATION%", "0 -"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        expect_text(*state, table[i][0], false, table[i][1]);
}

static void test_omit_empty_leaves_nothing_but_flags(void **state)
{
    expect_text(*state, "[%REQ(no)%|%RESPONSE_FLAGS%|%GRPC_STATUS%]", true, "[|-|]");
}

static void test_control_bytes_of_peers_cannot_end_a_line(void **state)
{
    struct env *e = *state;
    headers_set(e->info.req, STR("user-agent"), STR("a\nb\x1b[31m\r\x7f\xff"));
    expect_text(e, "%REQ(user-agent)%", false, "a\\x0ab\\x1b[31m\\x0d\\x7f\xff");
}

static void test_grpc_status(void **state)
{
    struct env *e = *state;
    headers_add(e->info.req, STR("content-type"), STR("application/grpc+proto"));
    expect_text(e, "%GRPC_STATUS%", false, "Unknown");
    headers_add(e->info.resp, STR("grpc-status"), STR("1"));
    expect_text(
        e, "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%",
        false, "Canceled CANCELLED 1 1");
}

static void test_tls_facts(void **state)
{
    struct env *e = *state;
    struct str uris[] = {STR("spiffe://a"), STR("spiffe://b")};
    expect_text(e, "%DOWNSTREAM_TLS_VERSION%", false, "-");
    e->conn.tls = &e->tls;
    e->tls.version = STR("TLSv1.3");
    e->tls.peer = (struct tls_cert_info){
        .present = true, .subject = STR("CN=a"), .uri_san = {uris, 2}, .valid_from = 0};
    expect_text(
        e,
        "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_PEER_CERT_V_START%",
        false, "TLSv1.3 CN=a spiffe://a,spiffe://b 1970-01-01T00:00:00.000Z");
}

static void test_xfcc_fields(void **state)
{
    struct env *e = *state;
    headers_add(e->info.req, STR("x-forwarded-client-cert"),
                STR("By=a;Hash=1;Subject=\"CN=\\\"x\\\",O=y\";URI=,By=b;URI=u2"));
    expect_text(e, "%XFCC_VALUE(by)%|%XFCC_VALUE(subject)%|%XFCC_VALUE(uri)%|%XFCC_VALUE(dns)%",
                false, "a|CN=\"x\",O=y|u2|-");
}

static void test_bad_formats_are_refused(void **state)
{
    static const char *const table[][2] = {
        {"%NOPE%", "Not supported field in StreamInfo: NOPE"},
        {"%RESPONSECODE%",
         "Not supported field in StreamInfo: RESPONSECODE; did you mean RESPONSE_CODE?"},
        {"%REQ()%", "REQ requires parameters"},
        {"%REQ%", "REQ requires parameters"},
        {"a%", "Incorrect configuration: a%. Couldn't find valid command at position 1"},
        {"%REQ(a)%x%",
         "Incorrect configuration: %REQ(a)%x%. Couldn't find valid command at position 9"},
        {"%REQ(a):x%",
         "Incorrect configuration: %REQ(a):x%. Couldn't find valid command at position 0"},
        {"%REQ(a):99999999999999999999%",
         "Incorrect configuration: %REQ(a):99999999999999999999%. Couldn't find valid command at position 0"},
        {"%REQ(a?b?c)%", "More than 1 alternative header specified in token: a?b?c"},
        {"%REQ(a b)%", "Invalid header configuration. Format string contains invalid characters."},
        {"%PROTOCOL(x)%", "PROTOCOL does not take any parameters or length"},
        {"%PROTOCOL:3%", "PROTOCOL does not take any parameters or length"},
        {"%START_TIME():3%", "START_TIME does not allow length to be specified."},
        {"%CLUSTER_METADATA(a:b):3%", "CLUSTER_METADATA does not allow length to be specified."},
        {"%METADATA(XX:ns)%", "XX is not supported type of metadata"},
        {"%METADATA%", " is not supported type of metadata"},
        {"%QUERY_PARAMS(decoded)%",
         "Invalid QUERY_PARAMS option: 'decoded', only 'ORIG'/'DECODED' are allowed"},
        {"%PATH(NQ:X)%", "Invalid PATH option: 'X', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed"},
        {"%PATH(X)%", "Invalid PATH option: 'X', only 'WQ'/'NQ' are allowed"},
        {"%GRPC_STATUS(number)%",
         "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: number"},
        {"%REQUESTED_SERVER_NAME(X)%",
         "Invalid REQUESTED_SERVER_NAME option: 'X', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed"},
        {"%REQUESTED_SERVER_NAME(SNI_FIRST:X)%",
         "Invalid REQUESTED_SERVER_NAME option: 'X', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed"},
        {"%FILTER_STATE(:PLAIN)%", "Invalid filter state configuration, key cannot be empty."},
        {"%FILTER_STATE(k:XX)%",
         "Invalid filter state serialize type, only support PLAIN/TYPED/FIELD."},
        {"%FILTER_STATE(k:FIELD)%",
         "Invalid filter state serialize type, FIELD should be used with the field name."},
        {"%COMMON_DURATION(a)%", "Invalid common duration configuration: a."},
        {"%COMMON_DURATION(a:b:s)%", "Invalid common duration precision: s."},
        {"%CEL(x)%", "CEL expressions are not supported: \"x\""},
        {"%COALESCE({\"operators\":[]})%", "COALESCE: 'operators' array must not be empty"},
        {"%COALESCE({})%", "COALESCE: JSON configuration must contain 'operators' array"},
        {"%COALESCE(x)%", "COALESCE: failed to parse JSON configuration"},
        {"%COALESCE({\"operators\":[\"REQ(a)\"]})%",
         "COALESCE: failed to parse operator at index 0: unknown command: 'REQ(a)'"},
        {"%REQ_WITHOUT_QUERY(:PATH)%", "Not supported field in StreamInfo: REQ_WITHOUT_QUERY"},
        {"%PER_REQUEST_STATE(a)%", "Not supported field in StreamInfo: PER_REQUEST_STATE"},
    };
    struct env *e = *state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct str why = STR_NONE;
        if (format_parse(e->a, str_of(table[i][0]), false, &why))
            fail_msg("%s is taken", table[i][0]);
        if (!str_eq(why, str_of(table[i][1])))
            fail_msg("%s: got [%.*s], want [%s]", table[i][0], STR_ARG(why), table[i][1]);
    }
}

static void test_extension_brings_req_without_query(void **state)
{
    struct env *e = *state;
    struct str why;
    struct format *f = format_new_text(e->a, STR("%REQ_WITHOUT_QUERY(:PATH)%"),
                                       FORMAT_EXTRA_REQ_WITHOUT_QUERY, false, &why);
    assert_non_null(f);
    struct str got = format_dup(f, &e->info, e->a);
    assert_true(str_eq(got, STR("/a")));
}

static void test_old_header_syntax(void **state)
{
    static const char *const table[][2] = {
        {"%UPSTREAM_METADATA([\"ns\", \"k\"])%", "%UPSTREAM_METADATA(ns:k)%"},
        {"a%DYNAMIC_METADATA([\"n\"])%%%b", "a%DYNAMIC_METADATA(n)%%%b"},
        {"%PER_REQUEST_STATE(key)%", "%FILTER_STATE(key:PLAIN)%"},
        {"%DYNAMIC_METADATA(a:b)% %PROTOCOL%", "%DYNAMIC_METADATA(a:b)% %PROTOCOL%"},
        {"100%", "100%"},
    };
    struct env *e = *state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct str got = format_legacy_header(e->a, str_of(table[i][0]));
        if (!str_eq(got, str_of(table[i][1])))
            fail_msg("%s: got [%.*s]", table[i][0], STR_ARG(got));
    }
}

static struct value text_value(const char *s)
{
    return (struct value){.kind = VALUE_STRING, .u.text = str_of(s)};
}

static void expect_json(struct env *e, struct value_field *fields, size_t n, bool omit,
                        const char *want)
{
    struct value v = {.kind = VALUE_STRUCT, .u.fields = {fields, n}};
    struct str why = STR_NONE;
    const struct format *f = format_parse_json(e->a, &v, omit, &why);
    if (!f) fail_msg("%.*s", STR_ARG(why));
    struct sb out = {0};
    format_write(f, &e->info, ACCESS_LOG_TYPE_NONE, &out);
    struct str got = str_dup(e->a, sb_str(&out));
    sb_release(&out);
    if (!str_eq(got, str_of(want))) fail_msg("got [%.*s], want [%s]", STR_ARG(got), want);
}

static void test_json_keeps_types(void **state)
{
    struct value list[] = {text_value("%PROTOCOL%"), {.kind = VALUE_NUMBER, .u.number = 1.5}};
    struct value_field empty[] = {{STR("x"), text_value("%REQ(no)%")}};
    struct value_field fields[] = {
        {STR("a"), text_value("%RESPONSE_CODE%")},
        {STR("b"), text_value("c %RESPONSE_CODE%")},
        {STR("c"), text_value("%REQ(no)%")},
        {STR("d"), text_value("x%REQ(no)%")},
        {STR("e"), {.kind = VALUE_LIST, .u.list = {list, 2}}},
        {STR("f"), {.kind = VALUE_STRUCT, .u.fields = {empty, 1}}},
        {STR("g"), text_value("100%% \"q\"\n")},
        {STR("h"), text_value("%REQ(user-agent)%")},
    };
    size_t n = sizeof fields / sizeof fields[0];
    expect_json(
        *state, fields, n, false,
        "{\"a\":200,\"b\":\"c 200\",\"c\":null,\"d\":\"x-\",\"e\":[\"HTTP/1.1\",1.5],\"f\":{\"x\":null},"
        "\"g\":\"100% \\\"q\\\"\\n\",\"h\":\"curl \\\"x\\\"\"}\n");
    expect_json(*state, fields, n, true,
                "{\"a\":200,\"b\":\"c 200\",\"d\":\"x\",\"e\":[\"HTTP/1.1\",1.5],"
                "\"g\":\"100% \\\"q\\\"\\n\",\"h\":\"curl \\\"x\\\"\"}\n");
}

static void test_json_stays_json_with_any_bytes(void **state)
{
    struct env *e = *state;
    struct value_field fields[] = {{STR("u"), text_value("%REQ(user-agent)%")}};
    headers_set(e->info.req, STR("user-agent"), STR("\x80\"\\\xc3\xa9\tz"));
    expect_json(e, fields, 1, false, "{\"u\":\"\\u0080\\u0022\\u005c\\u00c3\\u00a9\\u0009z\"}\n");
    headers_set(e->info.req, STR("user-agent"), STR("\"\\\xc3\xa9\t\x01"));
    expect_json(e, fields, 1, false, "{\"u\":\"\\\"\\\\\xc3\xa9\\t\\u0001\"}\n");
}

static void test_numbers_are_written_as_envoy_does(void **state)
{
    (void)state;
    static const struct {
        double v;
        const char *want;
    } table[] = {
        {0, "0"},
        {100000, "1e+05"},
        {10000, "10000"},
        {123456789, "123456789"},
        {1.5, "1.5"},
        {1e20, "1e+20"},
        {-0.1, "-0.1"},
        {12345678901234567890.0, "12345678901234567168"},
        {1e-7, "1e-07"},
        {0.001, "0.001"},
        {0.0001, "1e-04"},
        {0.00012, "0.00012"},
        {200, "200"},
        {1e300, "1e+300"},
        {1795972168, "1795972168"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct sb out = {0};
        json_number(&out, table[i].v);
        bool same = str_eq(sb_str(&out), str_of(table[i].want));
        if (!same) fail_msg("got %.*s, want %s", (int)out.len, out.ptr, table[i].want);
        sb_release(&out);
    }
}

static void test_metadata_by_path(void **state)
{
    struct env *e = *state;
    struct value list[] = {{.kind = VALUE_NUMBER, .u.number = 1},
                           {.kind = VALUE_BOOL, .u.boolean = true}};
    struct value v = {.kind = VALUE_LIST, .u.list = {list, 2}}, s = text_value("te\"xt");
    metadata_set(&e->info.dynamic, e->a, STR("ns"), STR("l"), &v);
    metadata_set(&e->info.dynamic, e->a, STR("ns"), STR("a"), &s);
    expect_text(
        e,
        "%DYNAMIC_METADATA(ns)%|%DYNAMIC_METADATA(ns:a)%|%DYNAMIC_METADATA(ns:l)%|%DYNAMIC_METADATA(ns:l:x)%",
        false, "{\"a\":\"te\\\"xt\",\"l\":[1,true]}|te\"xt|[1,true]|-");
    expect_text(e, "%METADATA(DYNAMIC:ns:a):2%|%METADATA(ROUTE:ns)%", false, "te|-");
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_operators_give_envoys_texts),
        T(test_omit_empty_leaves_nothing_but_flags),
        T(test_control_bytes_of_peers_cannot_end_a_line),
        T(test_grpc_status),
        T(test_tls_facts),
        T(test_xfcc_fields),
        T(test_bad_formats_are_refused),
        T(test_extension_brings_req_without_query),
        T(test_old_header_syntax),
        T(test_json_keeps_types),
        T(test_json_stays_json_with_any_bytes),
        T(test_numbers_are_written_as_envoy_does),
        T(test_metadata_by_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
