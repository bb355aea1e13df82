/* Keys of JSON web key sets, and signatures by them. The only file of filters/ that sees OpenSSL.
 */
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <jansson.h>

#include <ctype.h>

#include "base/arena.h"
#include "filters/common/jwt_json.h"

enum jwk_kind { JWK_RSA, JWK_EC, JWK_OCT, JWK_ED25519 };
struct jwk {
    enum jwk_kind kind;
    struct str kid, alg;
    EVP_PKEY *key;     /* all but OCT; freed with the arena */
    struct str secret; /* OCT */
    size_t coordinate; /* EC: bytes of one */
};
struct jwks {
    struct jwk *v;
    size_t count;
};

static void key_free(void *key)
{
    EVP_PKEY_free(key);
}

static bool field(json_t *j, const char *name, struct str *out)
{
    json_t *x = json_object_get(j, name);
    *out = STR_NONE;
    if (!x) return true;
    if (!json_is_string(x)) return false;
    *out = str_make(json_string_value(x), json_string_length(x));
    return true;
}

/* A field of base64url bytes that has to be there. Envoy: white space between them does not count,
 * and it may be padded, if to the right length. */
static bool bytes(struct arena *a, json_t *j, const char *name, struct str *out)
{
    struct str text;
    if (!field(j, name, &text)) return false;
    char *dense = arena_alloc_raw(a, text.len);
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        if (!isspace((unsigned char)text.ptr[i])) dense[n++] = text.ptr[i];
    text = str_make(dense, n);
    if (n % 4 == 0)
        for (int i = 0; i < 2 && str_ends(text, STR("=")); i++)
            text.len--;
    return text.len && jwt_base64url(a, text, out) && out->len;
}

/* The key set as JSON. Envoy: in its strings, line ends and the like may be as they are, as when a
 * long key was broken into lines in a YAML block. */
static json_t *keys_json(struct str text)
{
    struct sb b = {0};
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (quoted && (unsigned char)c < ' ') {
            sb_fmt(&b, "\\u%04x", (unsigned)c);
            continue;
        }
        if (c == '"') quoted = !quoted;
        sb_char(&b, c);
        if (quoted && c == '\\' && i + 1 < text.len) sb_char(&b, text.ptr[++i]);
    }
    json_t *j = jwt_json(sb_str(&b));
    sb_release(&b);
    return j;
}

/* --- keys
 * ------------------------------------------------------------------------------------------- */

static EVP_PKEY *key_from(const char *type, OSSL_PARAM_BLD *build)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *cx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (!params || !cx || EVP_PKEY_fromdata_init(cx) <= 0 ||
        EVP_PKEY_fromdata(cx, &key, EVP_PKEY_PUBLIC_KEY, params) <= 0)
        key = NULL;
    EVP_PKEY_CTX_free(cx);
    OSSL_PARAM_free(params);
    return key;
}

static EVP_PKEY *rsa_key(struct arena *a, json_t *j)
{
    struct str n, e;
    if (!bytes(a, j, "n", &n) || !bytes(a, j, "e", &e)) return NULL;
    BIGNUM *bn = BN_bin2bn((const unsigned char *)n.ptr, (int)n.len, NULL),
           *be = BN_bin2bn((const unsigned char *)e.ptr, (int)e.len, NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    EVP_PKEY *key = NULL;
    if (bn && be && build && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, bn) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, be))
        key = key_from("RSA", build);
    OSSL_PARAM_BLD_free(build);
    BN_free(bn);
    BN_free(be);
    return key;
}

static EVP_PKEY *ec_key(struct arena *a, json_t *j, struct jwk *out)
{
    static const struct {
        const char *name, *group;
        size_t size;
    } curves[] = {{"P-256", "P-256", 32}, {"P-384", "P-384", 48}, {"P-521", "P-521", 66}};
    struct str curve, x, y;
    if (!field(j, "crv", &curve) || !bytes(a, j, "x", &x) || !bytes(a, j, "y", &y)) return NULL;
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        size_t size = curves[i].size;
        if (!str_eq(curve, str_of(curves[i].name)) || x.len > size || y.len > size) continue;
        unsigned char point[1 + 2 * 66] = {4};
        memcpy(point + 1 + size - x.len, x.ptr, x.len);
        memcpy(point + 1 + 2 * size - y.len, y.ptr, y.len);
        out->coordinate = size;
        OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
        EVP_PKEY *key = NULL;
        if (build &&
            OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, curves[i].group,
                                            0) &&
            OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size))
            key = key_from("EC", build);
        OSSL_PARAM_BLD_free(build);
        return key;
    }
    return NULL;
}

static EVP_PKEY *ed25519_key(struct arena *a, json_t *j)
{
    struct str curve, x;
    if (!field(j, "crv", &curve) || !str_eq(curve, STR("Ed25519")) || !bytes(a, j, "x", &x))
        return NULL;
    return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, (const unsigned char *)x.ptr, x.len);
}

static bool jwk_read(struct arena *a, json_t *j, struct jwk *out)
{
    struct str type, kid, alg;
    if (!json_is_object(j) || !field(j, "kty", &type) || !field(j, "kid", &kid) ||
        !field(j, "alg", &alg))
        return false;
    out->kid = str_dup(a, kid);
    out->alg = str_dup(a, alg);
    if (str_eq(type, STR("oct"))) {
        out->kind = JWK_OCT;
        return bytes(a, j, "k", &out->secret);
    }
    if (str_eq(type, STR("RSA"))) {
        out->kind = JWK_RSA;
        out->key = rsa_key(a, j);
    } else if (str_eq(type, STR("EC"))) {
        out->kind = JWK_EC;
        out->key = ec_key(a, j, out);
    } else if (str_eq(type, STR("OKP"))) {
        out->kind = JWK_ED25519;
        out->key = ed25519_key(a, j);
    }
    if (out->key) arena_on_free(a, key_free, out->key);
    return out->key != NULL;
}

const struct jwks *jwks_new(struct arena *a, struct str text, enum jwt_status *why)
{
    json_t *j = keys_json(text);
    *why = JWT_JWKS_JSON;
    if (!j) return NULL;
    json_t *keys = json_object_get(j, "keys");
    struct jwks *k = ARENA_NEW(a, struct jwks);
    *why = !keys ? JWT_JWKS_NO_KEYS : !json_is_array(keys) ? JWT_JWKS_BAD_KEYS : JWT_OK;
    if (*why == JWT_OK) {
        size_t n = json_array_size(keys);
        k->v = ARENA_ARRAY(a, struct jwk, n);
        for (size_t i = 0; i < n; i++) {
            struct jwk one = {0};
            if (jwk_read(a, json_array_get(keys, i), &one)) k->v[k->count++] = one;
        }
        if (!k->count) *why = JWT_JWKS_NO_VALID_KEYS;
    }
    json_decref(j);
    return *why == JWT_OK ? k : NULL;
}

/* --- signatures
 * ------------------------------------------------------------------------------------- */

static const EVP_MD *digest_of(struct str alg)
{
    struct str size = str_sub(alg, 2, SIZE_MAX);
    return str_eq(size, STR("256"))   ? EVP_sha256()
           : str_eq(size, STR("384")) ? EVP_sha384()
                                      : EVP_sha512();
}

static bool hmac_proves(const struct jwk *k, const struct jwt *t)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    return HMAC(digest_of(t->alg), k->secret.ptr, (int)k->secret.len,
                (const unsigned char *)t->signed_part.ptr, t->signed_part.len, sum, &len) &&
           len == t->signature.len && CRYPTO_memcmp(sum, t->signature.ptr, len) == 0;
}

/* md NULL: Ed25519. */
static bool key_proves(EVP_PKEY *key, const EVP_MD *md, bool pss, struct str text,
                       struct str signature)
{
    EVP_MD_CTX *cx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *key_cx = NULL;
    bool ok = cx && EVP_DigestVerifyInit(cx, &key_cx, md, NULL, key) > 0;
    if (ok && pss)
        ok = EVP_PKEY_CTX_set_rsa_padding(key_cx, RSA_PKCS1_PSS_PADDING) > 0 &&
             EVP_PKEY_CTX_set_rsa_pss_saltlen(key_cx, RSA_PSS_SALTLEN_DIGEST) > 0;
    ok = ok && EVP_DigestVerify(cx, (const unsigned char *)signature.ptr, signature.len,
                                (const unsigned char *)text.ptr, text.len) == 1;
    EVP_MD_CTX_free(cx);
    return ok;
}

/* r and s side by side become what OpenSSL wants. */
static bool ec_proves(const struct jwk *k, const struct jwt *t)
{
    size_t wanted = str_eq(t->alg, STR("ES256")) ? 32 : str_eq(t->alg, STR("ES384")) ? 48 : 66;
    if (k->coordinate != wanted || t->signature.len != 2 * wanted) return false;
    const unsigned char *raw = (const unsigned char *)t->signature.ptr;
    ECDSA_SIG *sig = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw, (int)wanted, NULL), *s = BN_bin2bn(raw + wanted, (int)wanted, NULL);
    if (!sig || !r || !s || !ECDSA_SIG_set0(sig, r, s)) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(sig);
        return false;
    }
    unsigned char *der = NULL;
    int len = i2d_ECDSA_SIG(sig, &der);
    bool ok = len > 0 && key_proves(k->key, digest_of(t->alg), false, t->signed_part,
                                    str_make((const char *)der, (size_t)len));
    OPENSSL_free(der);
    ECDSA_SIG_free(sig);
    return ok;
}

/* The algorithm has to be one of the key's type: a public key is never a secret. */
static bool jwk_proves(const struct jwk *k, const struct jwt *t)
{
    switch (k->kind) {
    case JWK_RSA:
        return (str_starts(t->alg, STR("RS")) || str_starts(t->alg, STR("PS"))) &&
               key_proves(k->key, digest_of(t->alg), t->alg.ptr[0] == 'P', t->signed_part,
                          t->signature);
    case JWK_EC: return str_starts(t->alg, STR("ES")) && ec_proves(k, t);
    case JWK_OCT: return str_starts(t->alg, STR("HS")) && hmac_proves(k, t);
    case JWK_ED25519:
        return str_eq(t->alg, STR("EdDSA")) &&
               key_proves(k->key, NULL, false, t->signed_part, t->signature);
    }
    return false;
}

enum jwt_status jwks_verify(const struct jwks *k, const struct jwt *t)
{
    bool fits = false;
    for (size_t i = 0; i < k->count; i++) {
        const struct jwk *x = &k->v[i];
        if (t->kid.len && x->kid.len && !str_eq(t->kid, x->kid)) continue;
        if (x->alg.len && !str_eq(x->alg, t->alg)) continue;
        fits = true;
        if (jwk_proves(x, t)) return JWT_OK;
    }
    return fits ? JWT_FAILS : JWT_KID_ALG_MISMATCH;
}
