/* JSON web tokens and the keys that prove them (RFC 7515, 7517, 7519). Keys are made on main and
 * are immutable; tokens are read and verified in any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"
#include "proxy/api/metadata.h"

struct arena;

/* X(symbol, text that the client sees): Envoy's. */
#define JWT_STATUSES(X)                                                                  \
    X(OK, "OK")                                                                          \
    X(MISSING, "Jwt is missing")                                                         \
    X(NOT_YET_VALID, "Jwt not yet valid")                                                \
    X(EXPIRED, "Jwt is expired")                                                         \
    X(BAD_FORMAT,                                                                        \
      "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections") \
    X(HEADER_BASE64, "Jwt header is an invalid Base64url encoded")                       \
    X(HEADER_JSON, "Jwt header is an invalid JSON")                                      \
    X(HEADER_ALG, "Jwt header [alg] field is required and must be a string")             \
    X(HEADER_ALG_UNKNOWN, "Jwt header [alg] is not supported")                           \
    X(HEADER_KID, "Jwt header [kid] field is not a string")                              \
    X(PAYLOAD_BASE64, "Jwt payload is an invalid Base64url encoded")                     \
    X(PAYLOAD_JSON, "Jwt payload is an invalid JSON")                                    \
    X(ISS_TYPE, "Jwt payload [iss] field is not a string")                               \
    X(SUB_TYPE, "Jwt payload [sub] field is not a string")                               \
    X(IAT_TYPE, "Jwt payload [iat] field is not an integer")                             \
    X(IAT_RANGE, "Jwt payload [iat] field is not a positive 64 bit integer")             \
    X(NBF_TYPE, "Jwt payload [nbf] field is not an integer")                             \
    X(NBF_RANGE, "Jwt payload [nbf] field is not a positive 64 bit integer")             \
    X(EXP_TYPE, "Jwt payload [exp] field is not an integer")                             \
    X(EXP_RANGE, "Jwt payload [exp] field is not a positive 64 bit integer")             \
    X(JTI_TYPE, "Jwt payload [jti] field is not a string")                               \
    X(AUD_TYPE, "Jwt payload [aud] field is not a string or string list")                \
    X(SIGNATURE_BASE64, "Jwt signature is an invalid Base64url encoded")                 \
    X(UNKNOWN_ISSUER, "Jwt issuer is not configured")                                    \
    X(AUDIENCE, "Audiences in Jwt are not allowed")                                      \
    X(FAILS, "Jwt verification fails")                                                   \
    X(KID_ALG_MISMATCH, "Jwks doesn't have key to match kid or alg from Jwt")            \
    X(JWKS_JSON, "Jwks is an invalid JSON")                                              \
    X(JWKS_NO_KEYS, "Jwks does not have [keys] field")                                   \
    X(JWKS_BAD_KEYS, "[keys] in Jwks is not an array")                                   \
    X(JWKS_NO_VALID_KEYS, "Jwks doesn't have any valid public key")
#define JWT_STATUS_SYMBOL(symbol, text) JWT_##symbol,
enum jwt_status { JWT_STATUSES(JWT_STATUS_SYMBOL) JWT_STATUS_COUNT };
const char *jwt_status_text(enum jwt_status s);
/* The number that Envoy's dynamic metadata tells. */
int jwt_status_code(enum jwt_status s);

/* A token as read; nothing in it is proven yet. All in the arena that it was read into. */
struct jwt {
    struct str alg, kid, iss, sub;
    const struct str *aud;
    size_t aud_count;
    bool has_exp, has_nbf, has_iat;
    uint64_t exp, nbf, iat; /* seconds since 1970 */
    struct value header, payload;
    struct str payload_base64; /* as it stands in the token */
    struct str signed_part, signature;
};
enum jwt_status jwt_read(struct arena *a, struct str token, struct jwt *out);

struct jwks;
/* Freed with the arena. NULL: *why. Keys that cannot be used are left out, as long as one is
 * left. */
const struct jwks *jwks_new(struct arena *a, struct str json, enum jwt_status *why);
/* Proves the signature: by the keys whose id and algorithm fit; the algorithm must fit the key's
 * type. */
enum jwt_status jwks_verify(const struct jwks *k, const struct jwt *t);
