/* Tokens and key sets: what must never pass, and what reading refuses. That good tokens pass, with
 * all algorithms, is conformance/cases/jwt.yaml. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/text.h"
#include "filters/common/jwt.h"

/* {"alg":"HS256"} . {"iss":"i"}, signed by "secret". */
#define HS256 "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJpIn0.mlKEz7FiUiM8ekq6mFuMNSJvjk6mw2MT71NLyUGgmlw"

static struct str token_of(struct arena *a, const char *header, const char *payload,
                           const char *signature)
{
    struct str h = base64url_encode(a, str_of(header)), p = base64url_encode(a, str_of(payload));
    return str_fmt(a, "%.*s.%.*s.%s", STR_ARG(h), STR_ARG(p), signature);
}

static void test_reading(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct jwt t;
    assert_int_equal(jwt_read(a, STR(HS256), &t), JWT_OK);
    assert_true(str_eq(t.iss, STR("i")));
    assert_int_equal(jwt_read(a, STR(""), &t), JWT_BAD_FORMAT);
    assert_int_equal(jwt_read(a, STR("a.b"), &t), JWT_BAD_FORMAT);
    assert_int_equal(jwt_read(a, STR("..."), &t), JWT_BAD_FORMAT);
    assert_int_equal(jwt_read(a, token_of(a, "{\"alg\":\"none\"}", "{}", "AA"), &t),
                     JWT_HEADER_ALG_UNKNOWN);
    assert_int_equal(jwt_read(a, token_of(a, "[]", "{}", "AA"), &t), JWT_HEADER_JSON);
    assert_int_equal(jwt_read(a, token_of(a, "{\"alg\":\"RS256\"}", "{}", "A A"), &t),
                     JWT_SIGNATURE_BASE64);
    assert_int_equal(jwt_read(a, token_of(a, "{\"alg\":\"RS256\"}", "{}", "AA=="), &t),
                     JWT_SIGNATURE_BASE64);
    arena_free(&a);
}

static enum jwt_status reads_payload(struct arena *a, const char *payload, struct jwt *t)
{
    return jwt_read(a, token_of(a, "{\"alg\":\"RS256\"}", payload, "AA"), t);
}

/* Times and names are read or refused, never skipped: a token without nbf and exp lives for ever.
 */
static void test_claims(void **state)
{
    static const struct {
        const char *payload;
        enum jwt_status status;
    } rows[] = {
        {"{\"iss\":1}", JWT_ISS_TYPE},         {"{\"sub\":[]}", JWT_SUB_TYPE},
        {"{\"jti\":1}", JWT_JTI_TYPE},         {"{\"iat\":\"1\"}", JWT_IAT_TYPE},
        {"{\"iat\":-1}", JWT_IAT_RANGE},       {"{\"nbf\":\"1\"}", JWT_NBF_TYPE},
        {"{\"nbf\":-1}", JWT_NBF_RANGE},       {"{\"exp\":true}", JWT_EXP_TYPE},
        {"{\"exp\":1e19}", JWT_EXP_RANGE},     {"{\"aud\":7}", JWT_AUD_TYPE},
        {"{\"aud\":[\"a\",7]}", JWT_AUD_TYPE},
    };
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct jwt t;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(reads_payload(a, rows[i].payload, &t), rows[i].status);
    assert_int_equal(
        reads_payload(a, "{\"iat\":1,\"nbf\":2.5,\"exp\":3,\"aud\":[\"a\",\"b\"]}", &t), JWT_OK);
    assert_true(t.has_iat && t.has_nbf && t.has_exp);
    assert_int_equal(t.iat, 1);
    assert_int_equal(t.nbf, 2);
    assert_int_equal(t.exp, 3);
    assert_int_equal(t.aud_count, 2);
    assert_true(str_eq(t.aud[1], STR("b")));
    assert_int_equal(reads_payload(a, "{\"aud\":\"one\"}", &t), JWT_OK);
    assert_false(t.has_iat || t.has_nbf || t.has_exp);
    assert_int_equal(t.aud_count, 1);
    arena_free(&a);
}

static void test_depth(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    struct jwt t;
    struct str deep = STR("1");
    for (int i = 0; i < 100; i++)
        deep = str_fmt(a, "[%.*s]", STR_ARG(deep));
    deep = str_fmt(a, "{\"x\":%.*s}", STR_ARG(deep));
    assert_int_equal(jwt_read(a, token_of(a, "{\"alg\":\"RS256\"}", str_z(a, deep), "AA"), &t),
                     JWT_PAYLOAD_JSON);
    arena_free(&a);
}

static enum jwt_status proves(struct arena *a, const char *keys, struct str token)
{
    enum jwt_status why;
    struct jwt t;
    const struct jwks *k = jwks_new(a, str_of(keys), &why);
    assert_non_null(k);
    assert_int_equal(jwt_read(a, token, &t), JWT_OK);
    return jwks_verify(k, &t);
}

static void test_proving(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    const char *secret = "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\"}]}",
               *other = "{\"keys\":[{\"kty\":\"oct\",\"k\":\"b3RoZXI\"}]}",
               *rsa = "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"c2VjcmV0\",\"e\":\"AQAB\"}]}",
               *named = "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\",\"alg\":\"HS512\"}]}";
    assert_int_equal(proves(a, secret, STR(HS256)), JWT_OK);
    assert_int_equal(proves(a, other, STR(HS256)), JWT_FAILS);
    assert_int_equal(proves(a, rsa, STR(HS256)), JWT_FAILS); /* a public key is no secret */
    assert_int_equal(proves(a, named, STR(HS256)), JWT_KID_ALG_MISMATCH);
    arena_free(&a);
}

static void test_key_sets(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    enum jwt_status why;
    assert_null(jwks_new(a, STR("junk"), &why));
    assert_int_equal(why, JWT_JWKS_JSON);
    assert_null(jwks_new(a, STR("{}"), &why));
    assert_int_equal(why, JWT_JWKS_NO_KEYS);
    assert_null(jwks_new(a, STR("{\"keys\":5}"), &why));
    assert_int_equal(why, JWT_JWKS_BAD_KEYS);
    const char *useless =
        "{\"keys\":[5,{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"},"
        "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"},{\"kty\":\"oct\",\"k\":\"\"}]}";
    assert_null(jwks_new(a, str_of(useless), &why));
    assert_int_equal(why, JWT_JWKS_NO_VALID_KEYS);
    arena_free(&a);
}

/* As keys look that were broken into lines in a YAML block. */
static void test_key_of_several_lines(void **state)
{
    (void)state;
    struct arena *a = arena_new("test", 0);
    enum jwt_status why;
    const char *lines =
                   "{\"keys\":\n [{\"kty\":\"oct\",\"kid\":\"a\\\"b\",\"k\":\"c2Vj\n   cm\tV0\"}]}",
               *padded = "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0MQ==\"}]}",
               *badly_padded = "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0MQ=\"}]}";
    assert_int_equal(proves(a, lines, STR(HS256)), JWT_OK);
    assert_non_null(jwks_new(a, str_of(padded), &why));
    assert_null(jwks_new(a, str_of(badly_padded), &why));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),  cmocka_unit_test(test_claims),
        cmocka_unit_test(test_depth),    cmocka_unit_test(test_proving),
        cmocka_unit_test(test_key_sets), cmocka_unit_test(test_key_of_several_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
