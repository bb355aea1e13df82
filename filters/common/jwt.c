/* Reading tokens. The only file but jwks.c that sees jansson. */
#include "filters/common/jwt.h"

#include <jansson.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/text.h"
#include "filters/common/jwt_json.h"

enum { VALUE_DEPTH = 64 };

const char *jwt_status_text(enum jwt_status s)
{
#define JWT_STATUS_TEXT(symbol, text) [JWT_##symbol] = text,
    static const char *const texts[JWT_STATUS_COUNT] = {JWT_STATUSES(JWT_STATUS_TEXT)};
    return texts[s];
}

/* jwt_verify_lib's enumeration: the statuses of tokens stand there in the same order, with one more
 * before the issuer's and five before the last that a token may get. */
int jwt_status_code(enum jwt_status s)
{
    if (s == JWT_KID_ALG_MISMATCH) return 32;
    return (int)s + (s >= JWT_UNKNOWN_ISSUER);
}

/* --- JSON to values
 * --------------------------------------------------------------------------------- */

static struct str text_of(struct arena *a, const json_t *j)
{
    return str_dup(a, str_make(json_string_value(j), json_string_length(j)));
}

static int field_order(const void *x, const void *y)
{
    return str_cmp(((const struct value_field *)x)->name, ((const struct value_field *)y)->name);
}

static bool value_of(struct arena *a, json_t *j, int depth, struct value *out);

static bool value_of_object(struct arena *a, json_t *j, int depth, struct value *out)
{
    size_t n = json_object_size(j), i = 0;
    struct value_field *v = ARENA_ARRAY(a, struct value_field, n);
    for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it), i++) {
        v[i].name = str_dup(a, str_make(json_object_iter_key(it), json_object_iter_key_len(it)));
        if (!value_of(a, json_object_iter_value(it), depth, &v[i].value)) return false;
    }
    if (n > 1) qsort(v, n, sizeof *v, field_order);
    out->kind = VALUE_STRUCT;
    out->u.fields.fields = v;
    out->u.fields.count = n;
    return true;
}

static bool value_of_array(struct arena *a, json_t *j, int depth, struct value *out)
{
    size_t n = json_array_size(j);
    struct value *v = ARENA_ARRAY(a, struct value, n);
    for (size_t i = 0; i < n; i++) {
        if (!value_of(a, json_array_get(j, i), depth, &v[i])) return false;
    }
    out->kind = VALUE_LIST;
    out->u.list.items = v;
    out->u.list.count = n;
    return true;
}

/* Recursion: at most VALUE_DEPTH. */
static bool value_of(struct arena *a, json_t *j, int depth, struct value *out)
{
    if (depth > VALUE_DEPTH) return false;
    *out = (struct value){.kind = VALUE_NULL};
    switch (json_typeof(j)) {
    case JSON_OBJECT: return value_of_object(a, j, depth + 1, out);
    case JSON_ARRAY: return value_of_array(a, j, depth + 1, out);
    case JSON_STRING:
        out->kind = VALUE_STRING;
        out->u.text = text_of(a, j);
        return true;
    case JSON_INTEGER:
    case JSON_REAL:
        out->kind = VALUE_NUMBER;
        out->u.number = json_number_value(j);
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        out->kind = VALUE_BOOL;
        out->u.boolean = json_is_true(j);
        return true;
    case JSON_NULL: return true;
    }
    return false;
}

/* --- claims
 * ----------------------------------------------------------------------------------------- */

static bool claim_text(struct arena *a, json_t *payload, const char *name, struct str *out)
{
    json_t *j = json_object_get(payload, name);
    if (!j) return true;
    if (!json_is_string(j)) return false;
    *out = text_of(a, j);
    return true;
}

static enum jwt_status claim_time(json_t *payload, const char *name, enum jwt_status wrong_type,
                                  enum jwt_status out_of_range, bool *has, uint64_t *out)
{
    json_t *j = json_object_get(payload, name);
    if (!j) return JWT_OK;
    if (!json_is_number(j)) return wrong_type;
    double number = json_number_value(j);
    if (!(number >= 0) || number >= 9.2e18) return out_of_range;
    *has = true;
    *out = json_is_integer(j) ? (uint64_t)json_integer_value(j) : (uint64_t)number;
    return JWT_OK;
}

static enum jwt_status claim_audiences(struct arena *a, json_t *payload, struct jwt *out)
{
    json_t *j = json_object_get(payload, "aud");
    if (!j) return JWT_OK;
    size_t n = json_is_array(j) ? json_array_size(j) : 1;
    struct str *v = ARENA_ARRAY(a, struct str, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *one = json_is_array(j) ? json_array_get(j, i) : j;
        if (!json_is_string(one)) return JWT_AUD_TYPE;
        v[i] = text_of(a, one);
    }
    out->aud = v;
    out->aud_count = n;
    return JWT_OK;
}

static enum jwt_status read_claims(struct arena *a, json_t *payload, struct jwt *out)
{
    struct str jti;
    if (!claim_text(a, payload, "iss", &out->iss)) return JWT_ISS_TYPE;
    if (!claim_text(a, payload, "sub", &out->sub)) return JWT_SUB_TYPE;
    enum jwt_status s =
        claim_time(payload, "iat", JWT_IAT_TYPE, JWT_IAT_RANGE, &out->has_iat, &out->iat);
    if (s == JWT_OK)
        s = claim_time(payload, "nbf", JWT_NBF_TYPE, JWT_NBF_RANGE, &out->has_nbf, &out->nbf);
    if (s == JWT_OK)
        s = claim_time(payload, "exp", JWT_EXP_TYPE, JWT_EXP_RANGE, &out->has_exp, &out->exp);
    if (s != JWT_OK) return s;
    if (!claim_text(a, payload, "jti", &jti)) return JWT_JTI_TYPE;
    return claim_audiences(a, payload, out);
}

/* --- the three parts
 * -------------------------------------------------------------------------------- */

bool jwt_base64url(struct arena *a, struct str in, struct str *out)
{
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i];
        if (c == '+' || c == '/' || c == '=') return false;
    }
    return base64_decode(a, in, out);
}

json_t *jwt_json(struct str text)
{
    json_error_t error;
    json_t *j = json_loadb(text.ptr ? text.ptr : "", text.len, 0, &error);
    if (j && json_is_object(j)) return j;
    json_decref(j);
    return NULL;
}

static enum jwt_status read_header(struct arena *a, struct str part, struct jwt *out)
{
    static const char *const known[] = {"ES256", "ES384", "ES512", "HS256", "HS384",
                                        "HS512", "RS256", "RS384", "RS512", "PS256",
                                        "PS384", "PS512", "EdDSA"};
    struct str text;
    if (!jwt_base64url(a, part, &text)) return JWT_HEADER_BASE64;
    json_t *j = jwt_json(text);
    if (!j) return JWT_HEADER_JSON;
    enum jwt_status s = JWT_OK;
    const json_t *alg = json_object_get(j, "alg");
    if (!json_is_string(alg))
        s = JWT_HEADER_ALG;
    else
        out->alg = text_of(a, alg);
    bool supported = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        supported |= str_eq(out->alg, str_of(known[i]));
    if (s == JWT_OK && !supported) s = JWT_HEADER_ALG_UNKNOWN;
    if (s == JWT_OK && !claim_text(a, j, "kid", &out->kid)) s = JWT_HEADER_KID;
    if (s == JWT_OK && !value_of(a, j, 0, &out->header)) s = JWT_HEADER_JSON;
    json_decref(j);
    return s;
}

static enum jwt_status read_payload(struct arena *a, struct str part, struct jwt *out)
{
    struct str text;
    if (!jwt_base64url(a, part, &text)) return JWT_PAYLOAD_BASE64;
    json_t *j = jwt_json(text);
    if (!j) return JWT_PAYLOAD_JSON;
    enum jwt_status s = read_claims(a, j, out);
    if (s == JWT_OK && !value_of(a, j, 0, &out->payload)) s = JWT_PAYLOAD_JSON;
    json_decref(j);
    return s;
}

enum jwt_status jwt_read(struct arena *a, struct str token, struct jwt *out)
{
    struct str header, payload, signature, rest;
    *out = (struct jwt){0};
    token = str_dup(a, token);
    if (!str_cut(token, '.', &header, &rest) || !str_cut(rest, '.', &payload, &signature) ||
        str_find_char(signature, '.') != SIZE_MAX || !header.len || !payload.len || !signature.len)
        return JWT_BAD_FORMAT;
    enum jwt_status s = read_header(a, header, out);
    if (s == JWT_OK) s = read_payload(a, payload, out);
    if (s != JWT_OK) return s;
    out->payload_base64 = payload;
    out->signed_part = str_sub(token, 0, header.len + 1 + payload.len);
    return jwt_base64url(a, signature, &out->signature) ? JWT_OK : JWT_SIGNATURE_BASE64;
}
