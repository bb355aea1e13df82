/* Configuration of envoy.filters.http.jwt_authn. Main thread. */
#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/extensions/filters/http/jwt_authn/v3/config.pb-c.h"
#include "envoy/type/matcher/v3/string.pb-c.h"
#include "filters/common/stats.h"
#include "filters/http/jwt_authn_internal.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/route_ops.h"

#define PB(name) Envoy__Extensions__Filters__Http__JwtAuthn__V3__##name
#define PB_CASE(name) ENVOY__EXTENSIONS__FILTERS__HTTP__JWT_AUTHN__V3__##name

enum { NEED_DEPTH = 16, SKEW_DEFAULT_S = 60, SECOND_US = 1000000 };

static const struct stat_def jwt_stat_defs[JWT_STAT_COUNT] = {
    [JWT_STAT_ALLOWED] = {"allowed", STAT_COUNTER, 0},
    [JWT_STAT_PREFLIGHT] = {"cors_preflight_bypassed", STAT_COUNTER, 0},
    [JWT_STAT_DENIED] = {"denied", STAT_COUNTER, 0},
    [JWT_STAT_FETCH_FAILED] = {"jwks_fetch_failed", STAT_COUNTER, 0},
    [JWT_STAT_FETCH_SUCCESS] = {"jwks_fetch_success", STAT_COUNTER, 0},
    [JWT_STAT_CACHE_HIT] = {"jwt_cache_hit", STAT_COUNTER, 0},
    [JWT_STAT_CACHE_MISS] = {"jwt_cache_miss", STAT_COUNTER, 0},
};

static const struct str *texts(struct arena *a, size_t n, char *const *v)
{
    struct str *out = ARENA_ARRAY(a, struct str, n);
    for (size_t i = 0; i < n; i++)
        out[i] = str_dup(a, str_of(v[i]));
    return out;
}

/* --- providers
 * -------------------------------------------------------------------------------------- */

/* Envoy: a provider that names no place takes tokens of "Authorization: Bearer" and of the
 * parameter access_token. */
static void provider_places(struct arena *a, const PB(JwtProvider) * m, struct jwt_provider *p)
{
    static const struct jwt_place usual[] = {
        {JWT_IN_HEADER, {"authorization", 13}, {"Bearer ", 7}},
        {JWT_IN_PARAM, {"access_token", 12}, {NULL, 0}},
    };
    size_t n = m->n_from_headers + m->n_from_params + m->n_from_cookies, at = 0;
    struct jwt_place *v = ARENA_ARRAY(a, struct jwt_place, n);
    for (size_t i = 0; i < m->n_from_headers; i++)
        v[at++] =
            (struct jwt_place){JWT_IN_HEADER, str_dup_lower(a, str_of(m->from_headers[i]->name)),
                               str_dup(a, str_of(m->from_headers[i]->value_prefix))};
    for (size_t i = 0; i < m->n_from_params; i++)
        v[at++] = (struct jwt_place){JWT_IN_PARAM, str_dup(a, str_of(m->from_params[i])), STR_NONE};
    for (size_t i = 0; i < m->n_from_cookies; i++)
        v[at++] =
            (struct jwt_place){JWT_IN_COOKIE, str_dup(a, str_of(m->from_cookies[i])), STR_NONE};
    p->places = n ? v : usual;
    p->place_count = n ? n : sizeof usual / sizeof *usual;
}

static bool provider_keys(const struct conf_at *at, const PB(JwtProvider) * m,
                          struct jwt_provider *p)
{
    struct conf_at place = conf_field(at, "local_jwks");
    struct str text;
    enum jwt_status why;
    if (m->jwks_source_specifier_case != PB_CASE(JWT_PROVIDER__JWKS_SOURCE_SPECIFIER_LOCAL_JWKS))
        return conf_fail(at, "local_jwks is needed: remote keys are not supported");
    if (!conf_data_source(&place, m->local_jwks, 0, &text)) return false;
    p->jwks = jwks_new(conf_arena(at), text, &why);
    return p->jwks ||
           conf_fail(&place, "Provider '%.*s' in jwt_authn config has invalid local jwks: %s",
                     STR_ARG(p->name), jwt_status_text(why));
}

static bool provider(const struct conf_at *at, const PB(JwtProvider) * m, struct jwt_provider *p)
{
    struct arena *a = conf_arena(at);
    uint64_t lifetime_us;
    struct conf_at lifetime = conf_field(at, "max_lifetime"), subjects = conf_field(at, "subjects");
    p->issuer = str_dup(a, str_of(m->issuer));
    p->audiences = texts(a, m->n_audiences, m->audiences);
    p->audience_count = m->n_audiences;
    p->require_expiration = m->require_expiration;
    p->forward = m->forward;
    p->pad_payload = m->pad_forward_payload_header;
    p->clear_route = m->clear_route_cache;
    p->payload_header = str_dup_lower(a, str_of(m->forward_payload_header));
    p->payload_key = str_dup(a, str_of(m->payload_in_metadata));
    p->header_key = str_dup(a, str_of(m->header_in_metadata));
    p->failed_key = str_dup(a, str_of(m->failed_status_in_metadata));
    p->skew_s = m->clock_skew_seconds ? m->clock_skew_seconds : SKEW_DEFAULT_S;
    if (m->normalize_payload_in_metadata) {
        p->space_count = m->normalize_payload_in_metadata->n_space_delimited_claims;
        p->space_claims =
            texts(a, p->space_count, m->normalize_payload_in_metadata->space_delimited_claims);
    }
    struct jwt_claim_header *claims =
        ARENA_ARRAY(a, struct jwt_claim_header, m->n_claim_to_headers);
    for (size_t i = 0; i < m->n_claim_to_headers; i++)
        claims[i] =
            (struct jwt_claim_header){str_dup_lower(a, str_of(m->claim_to_headers[i]->header_name)),
                                      str_dup(a, str_of(m->claim_to_headers[i]->claim_name))};
    p->claims = claims;
    p->claim_count = m->n_claim_to_headers;
    provider_places(a, m, p);
    bool ok = conf_duration(&lifetime, m->max_lifetime, 0, &lifetime_us);
    p->max_lifetime_s = lifetime_us / SECOND_US;
    if (m->subjects) {
        struct string_matcher *s = ARENA_NEW(a, struct string_matcher);
        ok &= conf_string_matcher(&subjects, m->subjects, s);
        p->subjects = s;
    }
    return provider_keys(at, m, p) && ok;
}

static bool providers(const struct conf_at *at, const PB(JwtAuthentication) * m, struct jwt_conf *c)
{
    struct jwt_provider *v = ARENA_ARRAY(conf_arena(at), struct jwt_provider, m->n_providers);
    bool ok = true;
    for (size_t i = 0; i < m->n_providers; i++) {
        v[i].name = str_dup(conf_arena(at), str_of(m->providers[i]->key));
        struct conf_at place = conf_key(at, "providers", v[i].name);
        ok &= m->providers[i]->value ? provider(&place, m->providers[i]->value, &v[i])
                                     : conf_fail(&place, "value is required");
    }
    c->providers = v;
    c->provider_count = m->n_providers;
    return ok;
}

/* --- requirements
 * ----------------------------------------------------------------------------------- */

static bool need(const struct conf_at *at, const PB(JwtRequirement) * m, const struct jwt_conf *c,
                 int depth, struct jwt_need *out);

static bool need_provider(const struct conf_at *at, const char *name, const struct jwt_conf *c,
                          struct jwt_need *out)
{
    out->kind = JWT_NEED_PROVIDER;
    for (size_t i = 0; i < c->provider_count; i++) {
        if (str_eq(c->providers[i].name, str_of(name))) out->provider = &c->providers[i];
    }
    return out->provider || conf_fail(at, "Required provider ['%s'] is not configured.", name);
}

/* Envoy: in a list of alternatives the two "allow" are conditions of the list. */
static bool need_list(const struct conf_at *at, size_t n, PB(JwtRequirement) *const *v,
                      const struct jwt_conf *c, int depth, struct jwt_need *out)
{
    struct jwt_need *sub = ARENA_ARRAY(conf_arena(at), struct jwt_need, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at place = conf_index(at, "requirements", i);
        struct jwt_need *x = &sub[out->count];
        *x = (struct jwt_need){0};
        ok &= need(&place, v[i], c, depth - 1, x);
        if (out->kind == JWT_NEED_ANY && x->kind == JWT_NEED_VALID_OR_MISSING)
            out->may_miss = true;
        else if (out->kind == JWT_NEED_ANY && x->kind == JWT_NEED_TRY)
            out->may_fail = true;
        else
            out->count++;
    }
    out->sub = sub;
    return ok;
}

/* Recursion: at most NEED_DEPTH. */
static bool need(const struct conf_at *at, const PB(JwtRequirement) * m, const struct jwt_conf *c,
                 int depth, struct jwt_need *out)
{
    struct conf_at place;
    if (depth <= 0) return conf_fail(at, "nested too deeply");
    switch ((int)m->requires_type_case) {
    case PB_CASE(JWT_REQUIREMENT__REQUIRES_TYPE_PROVIDER_NAME):
        place = conf_field(at, "provider_name");
        return need_provider(&place, m->provider_name, c, out);
    case PB_CASE(JWT_REQUIREMENT__REQUIRES_TYPE_PROVIDER_AND_AUDIENCES):
        place = conf_field(at, "provider_and_audiences");
        out->own_audiences = true;
        out->audiences = texts(conf_arena(at), m->provider_and_audiences->n_audiences,
                               m->provider_and_audiences->audiences);
        out->audience_count = m->provider_and_audiences->n_audiences;
        return need_provider(&place, m->provider_and_audiences->provider_name, c, out);
    case PB_CASE(JWT_REQUIREMENT__REQUIRES_TYPE_REQUIRES_ANY):
        place = conf_field(at, "requires_any");
        out->kind = JWT_NEED_ANY;
        return need_list(&place, m->requires_any->n_requirements, m->requires_any->requirements, c,
                         depth, out);
    case PB_CASE(JWT_REQUIREMENT__REQUIRES_TYPE_REQUIRES_ALL):
        place = conf_field(at, "requires_all");
        out->kind = JWT_NEED_ALL;
        return need_list(&place, m->requires_all->n_requirements, m->requires_all->requirements, c,
                         depth, out);
    case PB_CASE(JWT_REQUIREMENT__REQUIRES_TYPE_ALLOW_MISSING_OR_FAILED):
        out->kind = JWT_NEED_TRY;
        return true;
    case PB_CASE(JWT_REQUIREMENT__REQUIRES_TYPE_ALLOW_MISSING):
        out->kind = JWT_NEED_VALID_OR_MISSING;
        return true;
    default: out->kind = JWT_NEED_NOTHING; return true;
    }
}

static bool named_needs(const struct conf_at *at, const PB(JwtAuthentication) * m,
                        struct jwt_conf *c)
{
    struct arena *a = conf_arena(at);
    struct jwt_named_need *v = ARENA_ARRAY(a, struct jwt_named_need, m->n_requirement_map);
    bool ok = true;
    for (size_t i = 0; i < m->n_requirement_map; i++) {
        struct jwt_need *n = ARENA_NEW(a, struct jwt_need);
        v[i] = (struct jwt_named_need){str_dup(a, str_of(m->requirement_map[i]->key)), n};
        struct conf_at place = conf_key(at, "requirement_map", v[i].name);
        ok &= m->requirement_map[i]->value
                  ? need(&place, m->requirement_map[i]->value, c, NEED_DEPTH, n)
                  : conf_fail(&place, "value is required");
    }
    c->named = v;
    c->named_count = m->n_requirement_map;
    return ok;
}

static bool rule(const struct conf_at *at, const PB(RequirementRule) * m, const struct jwt_conf *c,
                 struct jwt_rule *out)
{
    struct conf_at match = conf_field(at, "match"), requires = conf_field(at, "requires"),
                   name = conf_field(at, "requirement_name");
    out->match = conf_route_match(&match, m->match);
    if (m->requirement_type_case == PB_CASE(REQUIREMENT_RULE__REQUIREMENT_TYPE_REQUIRES)) {
        struct jwt_need *n = ARENA_NEW(conf_arena(at), struct jwt_need);
        out->need = n;
        return need(&requires, m->requires, c, NEED_DEPTH, n) && out->match;
    }
    if (m->requirement_type_case != PB_CASE(REQUIREMENT_RULE__REQUIREMENT_TYPE_REQUIREMENT_NAME))
        return out->match != NULL;
    for (size_t i = 0; i < c->named_count; i++) {
        if (str_eq(c->named[i].name, str_of(m->requirement_name))) out->need = c->named[i].need;
    }
    if (!out->need) conf_fail(&name, "Wrong requirement_name: %s", m->requirement_name);
    return out->need && out->match;
}

static bool rules(const struct conf_at *at, const PB(JwtAuthentication) * m, struct jwt_conf *c)
{
    struct jwt_rule *v = ARENA_ARRAY(conf_arena(at), struct jwt_rule, m->n_rules);
    bool ok = true;
    for (size_t i = 0; i < m->n_rules; i++) {
        struct conf_at place = conf_index(at, "rules", i);
        ok &= rule(&place, m->rules[i], c, &v[i]);
    }
    c->rules = v;
    c->rule_count = m->n_rules;
    return ok;
}

/* --- the filter
 * ------------------------------------------------------------------------------------- */

const void *jwt_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                            struct str stat_prefix)
{
    const PB(JwtAuthentication) *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct jwt_conf *c = ARENA_NEW(a, struct jwt_conf);
    c->bypass_preflight = m->bypass_cors_preflight;
    c->strip_failure = m->strip_failure_response;
    bool ok = providers(at, m, c) && named_needs(at, m, c) && rules(at, m, c);
    struct str prefix = str_fmt(a, "%.*sjwt_authn.%s%s", STR_ARG(stat_prefix), m->stat_prefix,
                                m->stat_prefix[0] ? "." : "");
    c->stats = conf_stat_group(at, prefix, jwt_stat_defs, JWT_STAT_COUNT);
    return ok ? c : NULL;
}

const void *jwt_route_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const PB(PerRouteConfig) *m = (const void *)msg;
    struct jwt_route_conf *c = ARENA_NEW(conf_arena(at), struct jwt_route_conf);
    c->disabled =
        m->requirement_specifier_case == PB_CASE(PER_ROUTE_CONFIG__REQUIREMENT_SPECIFIER_DISABLED);
    if (!c->disabled) c->requirement = str_dup(conf_arena(at), str_of(m->requirement_name));
    return c;
}
