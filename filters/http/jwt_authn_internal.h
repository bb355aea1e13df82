/* What jwt_authn.c (requests) and jwt_authn_conf.c (configuration) share. */
#pragma once
#include "filters/common/jwt.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/matcher.h"
#include "proxy/stats/stats.h"

struct route_match;

enum jwt_stat {
    JWT_STAT_ALLOWED,
    JWT_STAT_PREFLIGHT,
    JWT_STAT_DENIED,
    JWT_STAT_FETCH_FAILED,
    JWT_STAT_FETCH_SUCCESS,
    JWT_STAT_CACHE_HIT,
    JWT_STAT_CACHE_MISS,
    JWT_STAT_COUNT
};

/* Where a provider's tokens are: one of header, param, cookie. */
enum jwt_place_kind { JWT_IN_HEADER, JWT_IN_PARAM, JWT_IN_COOKIE };
struct jwt_place {
    enum jwt_place_kind kind;
    struct str name, prefix;
};
struct jwt_claim_header {
    struct str header, claim; /* claim: names with "." between */
};
struct jwt_provider {
    struct str name, issuer;
    const struct str *audiences; /* none: all */
    size_t audience_count;
    const struct string_matcher *subjects; /* NULL: all */
    bool require_expiration;
    uint64_t max_lifetime_s; /* 0: none */
    const struct jwks *jwks;
    bool forward, pad_payload, clear_route;
    const struct jwt_place *places;
    size_t place_count;
    struct str payload_header, payload_key, header_key, failed_key;
    const struct str *space_claims; /* lists in the metadata, though they are one text */
    size_t space_count;
    uint64_t skew_s;
    const struct jwt_claim_header *claims;
    size_t claim_count;
};
enum jwt_need_kind {
    JWT_NEED_NOTHING,
    JWT_NEED_PROVIDER,
    JWT_NEED_ANY,
    JWT_NEED_ALL,
    JWT_NEED_VALID_OR_MISSING, /* allow_missing */
    JWT_NEED_TRY               /* allow_missing_or_failed */
};
struct jwt_need {
    enum jwt_need_kind kind;
    const struct jwt_provider *provider;
    bool own_audiences;
    const struct str *audiences;
    size_t audience_count;
    const struct jwt_need *sub; /* ANY, ALL */
    size_t count;
    bool may_miss, may_fail; /* ANY: allow_missing, allow_missing_or_failed is among them */
};
struct jwt_rule {
    const struct route_match *match;
    const struct jwt_need *need; /* NULL: nothing is needed */
};
struct jwt_named_need {
    struct str name;
    const struct jwt_need *need;
};
struct jwt_conf {
    const struct jwt_provider *providers;
    size_t provider_count;
    const struct jwt_rule *rules;
    size_t rule_count;
    const struct jwt_named_need *named;
    size_t named_count;
    bool bypass_preflight, strip_failure;
    struct stat_group *stats;
};
struct jwt_route_conf {
    bool disabled;
    struct str requirement;
};
const void *jwt_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                            struct str stat_prefix);
const void *jwt_route_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg);
