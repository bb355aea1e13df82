/* What goes to an authorization service that speaks HTTP, and what its answers may change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "filters/http/ext_authz.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/headers.h"
#include "proxy/api/matcher.h"
#include "proxy/api/stream_info.h"

typedef Envoy__Config__Core__V3__HeaderValueOption Option;
enum {
    ACTION_ADD =
        ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD,
    ACTION_IF_ABSENT =
        ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__ADD_IF_ABSENT,
    ACTION_SET =
        ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD,
    ACTION_IF_EXISTS =
        ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS,
};

static struct arena *a;

static int setup(void **state)
{
    (void)state;
    a = arena_new("test", 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_free(&a);
    return 0;
}

/* append: -1 leaves it unset. */
static Option *option(const char *name, const char *value, int append, int action)
{
    Option *o = ARENA_NEW(a, Option);
    Envoy__Config__Core__V3__HeaderValue *h = ARENA_NEW(a, Envoy__Config__Core__V3__HeaderValue);
    envoy__config__core__v3__header_value_option__init(o);
    envoy__config__core__v3__header_value__init(h);
    h->key = str_z(a, str_of(name));
    h->value = str_z(a, str_of(value));
    o->header = h;
    o->append_action = action;
    if (append >= 0) {
        o->append = ARENA_NEW(a, Google__Protobuf__BoolValue);
        google__protobuf__bool_value__init(o->append);
        o->append->value = append;
    }
    return o;
}

static bool accepted(const char *name, const char *value)
{
    struct ext_authz_ops ops;
    Option *one = option(name, value, -1, ACTION_ADD);
    return ext_authz_ops(a, &one, 1, EXT_AUTHZ_REQUEST, &ops);
}

static void refuses_what_could_split_a_message(void **state)
{
    static const char *const framing[] = {"host",           "Host",       "content-length",
                                          "Content-Length", "connection", "transfer-encoding",
                                          "upgrade",        "te"};
    static const char *const bad_names[] = {"", "a b", "a:", ":path", "a\r\n", "a\x7f"};
    (void)state;
    assert_true(accepted("x-user", "jane\tdoe"));
    for (size_t i = 0; i < sizeof framing / sizeof framing[0]; i++)
        assert_false(accepted(framing[i], "v"));
    for (size_t i = 0; i < sizeof bad_names / sizeof bad_names[0]; i++)
        assert_false(accepted(bad_names[i], "v"));
    assert_false(accepted("x", "a\r\nb: c"));
    assert_false(accepted("x", "a\x7f"));
    Option nothing = ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__INIT, *one = &nothing;
    struct ext_authz_ops ops;
    assert_false(ext_authz_ops(a, &one, 1, EXT_AUTHZ_REQUEST, &ops));
}

static enum ext_authz_how how(int append, int action, enum ext_authz_where where)
{
    struct ext_authz_ops ops;
    Option *one = option("x", "v", append, action);
    assert_true(ext_authz_ops(a, &one, 1, where, &ops));
    assert_int_equal(ops.count, 1);
    return ops.v[0].how;
}

static void knows_how_headers_change(void **state)
{
    (void)state;
    assert_int_equal(how(-1, ACTION_IF_ABSENT, EXT_AUTHZ_REQUEST), EXT_AUTHZ_SET);
    assert_int_equal(how(1, ACTION_SET, EXT_AUTHZ_REQUEST), EXT_AUTHZ_APPEND);
    assert_int_equal(how(0, ACTION_ADD, EXT_AUTHZ_RESPONSE), EXT_AUTHZ_SET);
    assert_int_equal(how(1, ACTION_SET, EXT_AUTHZ_RESPONSE), EXT_AUTHZ_ADD);
    assert_int_equal(how(-1, ACTION_ADD, EXT_AUTHZ_RESPONSE), EXT_AUTHZ_ADD);
    assert_int_equal(how(-1, ACTION_SET, EXT_AUTHZ_RESPONSE), EXT_AUTHZ_SET);
    assert_int_equal(how(-1, ACTION_IF_ABSENT, EXT_AUTHZ_RESPONSE), EXT_AUTHZ_IF_ABSENT);
    assert_int_equal(how(-1, ACTION_IF_EXISTS, EXT_AUTHZ_RESPONSE), EXT_AUTHZ_IF_EXISTS);
    Option *appended = option("x", "v", 1, ACTION_ADD);
    struct ext_authz_ops ops;
    assert_true(ext_authz_ops(a, &appended, 1, EXT_AUTHZ_DENIAL, &ops));
    assert_int_equal(ops.count, 0); /* nothing is appended to a denial */
}

static const char *applied(enum ext_authz_how change, const char *there)
{
    struct ext_authz_op op = {STR("x"), STR("new"), change};
    struct ext_authz_ops ops = {&op, 1};
    struct headers *h = headers_new(a);
    if (there) headers_add(h, STR("x"), str_of(there));
    ext_authz_apply(&ops, h);
    const struct header *x;
    struct str all = STR("");
    for (uint32_t it = 0; (x = headers_next(h, &it));)
        all = str_fmt(a, "%.*s[%.*s]", STR_ARG(all), STR_ARG(x->value));
    return str_z(a, all);
}

static void changes_headers(void **state)
{
    (void)state;
    assert_string_equal(applied(EXT_AUTHZ_SET, "old"), "[new]");
    assert_string_equal(applied(EXT_AUTHZ_SET, NULL), "[new]");
    assert_string_equal(applied(EXT_AUTHZ_ADD, "old"), "[old][new]");
    assert_string_equal(applied(EXT_AUTHZ_APPEND, "old"), "[old,new]");
    assert_string_equal(applied(EXT_AUTHZ_APPEND, NULL), "");
    assert_string_equal(applied(EXT_AUTHZ_IF_ABSENT, "old"), "[old]");
    assert_string_equal(applied(EXT_AUTHZ_IF_ABSENT, NULL), "[new]");
    assert_string_equal(applied(EXT_AUTHZ_IF_EXISTS, "old"), "[new]");
    assert_string_equal(applied(EXT_AUTHZ_IF_EXISTS, NULL), "");
}

static const struct string_matcher *prefix(const char *text)
{
    struct string_matcher *m = ARENA_NEW(a, struct string_matcher);
    m->kind = STRING_MATCH_PREFIX;
    m->text = str_of(text);
    return m;
}

static void asks_with_what_may_go(void **state)
{
    (void)state;
    struct ext_authz_http http = {.prefix = STR("/check"), .allowed = {prefix("x-"), 1}};
    struct ext_authz_conf c = {
        .http = &http, .disallowed = prefix("x-secret"), .disallowed_count = 1};
    struct headers *req = headers_new(a);
    struct stream_info info = {.arena = a, .req = req};
    headers_add_id(req, HDR_METHOD, STR("POST"));
    headers_add_id(req, HDR_PATH, STR("/p?q"));
    headers_add_id(req, HDR_AUTHORITY, STR("h"));
    headers_add(req, STR("authorization"), STR("token"));
    headers_add(req, STR("content-length"), STR("9"));
    headers_add(req, STR("transfer-encoding"), STR("chunked"));
    headers_add(req, STR("cookie"), STR("c"));
    headers_add(req, STR("x-user"), STR("u"));
    headers_add(req, STR("x-secret-key"), STR("s"));
    struct headers *h = ext_authz_http_ask(a, &c, &info, STR("abc"), true);
    assert_true(str_eq(headers_get(h, HDR_PATH), STR("/check/p?q")));
    assert_true(str_eq(headers_get(h, HDR_METHOD), STR("POST")));
    assert_true(str_eq(headers_find(h, STR("authorization")), STR("token")));
    assert_true(str_eq(headers_find(h, STR("x-user")), STR("u")));
    assert_true(str_eq(headers_find(h, STR("content-length")), STR("3")));
    assert_true(str_eq(headers_find(h, STR("x-envoy-auth-partial-body")), STR("true")));
    assert_null(headers_find(h, STR("x-secret-key")).ptr);
    assert_null(headers_find(h, STR("cookie")).ptr);
    assert_null(headers_find(h, STR("transfer-encoding")).ptr);
    h = ext_authz_http_ask(a, &c, &info, STR(""), false);
    assert_null(headers_find(h, STR("x-envoy-auth-partial-body")).ptr);
    assert_true(str_eq(headers_find(h, STR("content-length")), STR("0")));
}

static const char *names_of(const struct ext_authz_ops *ops)
{
    struct str all = STR("");
    for (size_t i = 0; i < ops->count; i++)
        all = str_fmt(a, "%.*s%.*s ", STR_ARG(all), STR_ARG(ops->v[i].name));
    return str_z(a, all);
}

static void sorts_what_comes_back(void **state)
{
    (void)state;
    struct ext_authz_http http = {.upstream = {prefix("x-up"), 1},
                                  .append = {prefix("x-both"), 1},
                                  .client_ok = {prefix("x-both"), 1},
                                  .metadata = {prefix("x-meta"), 1}};
    struct ext_authz_conf c = {.http = &http};
    struct headers *h = headers_new(a);
    struct ext_authz_http_answer out;
    headers_set_status(h, 200);
    headers_add(h, STR("x-up"), STR("1"));
    headers_add(h, STR("x-both"), STR("2"));
    headers_add(h, STR("x-meta"), STR("3"));
    headers_add(h, STR("location"), STR("/l"));
    headers_add(h, STR("content-length"), STR("0"));
    headers_add(h, STR("x-envoy-auth-headers-to-remove"), STR("a,b"));
    ext_authz_http_read(a, &c, h, &out);
    assert_string_equal(names_of(&out.request), "x-up x-both ");
    assert_int_equal(out.request.v[0].how, EXT_AUTHZ_SET);
    assert_int_equal(out.request.v[1].how, EXT_AUTHZ_ADD);
    assert_string_equal(names_of(&out.response), "x-both ");
    assert_string_equal(names_of(&out.metadata), "x-meta ");
    assert_string_equal(names_of(&out.denial), "x-up x-both x-meta location ");
    assert_true(str_eq(out.remove, STR("a,b")));
    http.client = (struct ext_authz_names){prefix("x-meta"), 1}; /* a denial has only these, then */
    ext_authz_http_read(a, &c, h, &out);
    assert_string_equal(names_of(&out.denial), "x-meta location ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_could_split_a_message),
        cmocka_unit_test(knows_how_headers_change),
        cmocka_unit_test(changes_headers),
        cmocka_unit_test(asks_with_what_may_go),
        cmocka_unit_test(sorts_what_comes_back),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
