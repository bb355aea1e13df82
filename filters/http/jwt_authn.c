/* envoy.filters.http.jwt_authn: requests need tokens that keys at hand prove. Everything is decided
 * in decode_headers; what cannot be proven is refused. */
#include "base/arena.h"
#include "base/must.h"
#include "base/text.h"
#include "envoy/extensions/filters/http/jwt_authn/v3/config.pb-c.h"
#include "filters/http/jwt_authn_internal.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/route.h"
#include "proxy/api/route_ops.h"
#include "proxy/api/stream_info.h"
#include "proxy/runtime/runtime.h"

enum { SECOND_US = 1000000, TOKENS_MOST = 32, URI_MOST = 256 };

/* One request. */
struct jwt_ask {
    struct http_filter *f;
    const struct jwt_conf *conf;
    struct headers *h;
    struct arena *a;
    uint64_t now_s;
};
struct jwt_token {
    struct str text;
    const struct jwt_place *place;
};

/* --- finding tokens
 * --------------------------------------------------------------------------------- */

static bool token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
}

/* Behind the prefix, from the first character that a token may have. */
static bool token_in_header(const struct jwt_ask *q, const struct jwt_place *p, struct str *out)
{
    struct str v = headers_all(q->h, p->name, q->a);
    if (!v.ptr) return false;
    size_t at = p->prefix.len ? str_find(v, p->prefix) : 0;
    if (at == SIZE_MAX) return false;
    size_t from = at + p->prefix.len;
    while (from < v.len && !token_char(v.ptr[from]))
        from++;
    *out = from == v.len ? v : str_sub(v, from, SIZE_MAX);
    return true;
}

static bool token_in_param(const struct jwt_ask *q, const struct jwt_place *p, struct str *out)
{
    struct str path = headers_get(q->h, HDR_PATH), query = STR_NONE, pair;
    if (!str_cut(path, '?', &path, &query)) return false;
    size_t end = str_find_char(query, '#');
    if (end != SIZE_MAX) query.len = end;
    while (str_next(&query, '&', &pair)) {
        struct str name = pair, value = STR_NONE;
        (void)str_cut(pair, '=', &name, &value);
        if (!str_eq(percent_decode(q->a, name), p->name)) continue;
        *out = percent_decode(q->a, value);
        return true;
    }
    return false;
}

static bool token_in_cookie(const struct jwt_ask *q, const struct jwt_place *p, struct str *out)
{
    struct str all = headers_all(q->h, STR("cookie"), q->a), one;
    uint32_t it = 0;
    const struct header *x;
    if (!all.ptr) return false;
    while ((x = headers_next(q->h, &it))) {
        struct str rest = x->value;
        if (x->id != HDR_COOKIE) continue;
        while (str_next(&rest, ';', &one)) {
            struct str name, value;
            if (!str_cut(str_trim(one), '=', &name, &value) || !str_eq(name, p->name)) continue;
            if (value.len > 1 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
                value = str_sub(value, 1, value.len - 2);
            *out = value;
            return true;
        }
    }
    return false;
}

static bool token_at(const struct jwt_ask *q, const struct jwt_place *p, struct str *out)
{
    switch (p->kind) {
    case JWT_IN_HEADER: return token_in_header(q, p, out);
    case JWT_IN_PARAM: return token_in_param(q, p, out);
    case JWT_IN_COOKIE: return token_in_cookie(q, p, out);
    }
    return false;
}

static bool place_same(const struct jwt_place *x, const struct jwt_place *y)
{
    return x->kind == y->kind && str_eq(x->name, y->name) && str_eq(x->prefix, y->prefix);
}

static size_t tokens_add(const struct jwt_ask *q, const struct jwt_provider *p,
                         struct jwt_token *out, size_t n)
{
    for (size_t i = 0; i < p->place_count && n < TOKENS_MOST; i++) {
        bool known = false;
        for (size_t k = 0; k < n; k++)
            known |= place_same(out[k].place, &p->places[i]);
        if (known || !token_at(q, &p->places[i], &out[n].text)) continue;
        out[n++].place = &p->places[i];
    }
    return n;
}

/* --- what a proven token leaves behind
 * ---------------------------------------------------------------- */

static void note(const struct jwt_ask *q, struct str key, const struct value *v)
{
    metadata_set(&http_filter_info(q->f)->dynamic, http_filter_arena(q->f),
                 STR("envoy.filters.http.jwt_authn"), key, v);
}

/* Claims that are texts with spaces become lists. */
static struct value normalized(const struct jwt_ask *q, const struct jwt_provider *p,
                               const struct value *payload)
{
    struct value out = *payload;
    struct value_field *fields = ARENA_ARRAY(q->a, struct value_field, out.u.fields.count);
    for (size_t i = 0; i < out.u.fields.count; i++) {
        fields[i] = payload->u.fields.fields[i];
        if (fields[i].value.kind != VALUE_STRING) continue;
        for (size_t k = 0; k < p->space_count; k++) {
            if (!str_eq(fields[i].name, p->space_claims[k])) continue;
            struct str rest = fields[i].value.u.text, one;
            struct value list = {.kind = VALUE_LIST};
            list.u.list.items = ARENA_ARRAY(q->a, struct value, rest.len / 2 + 1);
            while (str_next(&rest, ' ', &one)) {
                if (one.len)
                    list.u.list.items[list.u.list.count++] =
                        (struct value){.kind = VALUE_STRING, .u.text = one};
            }
            fields[i].value = list;
            break;
        }
    }
    out.u.fields.fields = fields;
    return out;
}

/* "a.b.c"; ptr NULL: no such claim, or nothing that a header can say. */
static struct str claim_value(const struct jwt_ask *q, const struct value *payload, struct str path)
{
    struct str step;
    const struct value *v = payload;
    while (v && str_next(&path, '.', &step))
        v = value_field(v, step);
    if (!v) return STR_NONE;
    struct str json = value_text(v, q->a);
    switch (v->kind) {
    case VALUE_STRING: return v->u.text;
    case VALUE_BOOL: return json;
    case VALUE_NUMBER:
        return str_find_char(json, '.') == SIZE_MAX ? json : str_fmt(q->a, "%f", v->u.number);
    case VALUE_LIST:
    case VALUE_STRUCT: return base64_encode(q->a, json);
    case VALUE_NULL: break;
    }
    return STR_NONE;
}

/* A header value must not end a line. */
static bool header_safe(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < ' ' || c == 0x7f) return false;
    }
    return true;
}

static void remove_param(const struct jwt_ask *q, struct str wanted)
{
    struct str path = headers_get(q->h, HDR_PATH), before, query, pair, out = STR_NONE;
    if (!str_cut(path, '?', &before, &query)) return;
    while (str_next(&query, '&', &pair)) {
        struct str name = pair, value;
        (void)str_cut(pair, '=', &name, &value);
        if (str_eq(percent_decode(q->a, name), wanted)) continue;
        out = out.ptr ? str_fmt(q->a, "%.*s&%.*s", STR_ARG(out), STR_ARG(pair)) : pair;
    }
    headers_set_id(q->h, HDR_PATH,
                   out.len ? str_fmt(q->a, "%.*s?%.*s", STR_ARG(before), STR_ARG(out)) : before);
}

static void good_token(const struct jwt_ask *q, const struct jwt_provider *p, const struct jwt *t,
                       const struct jwt_place *place)
{
    for (size_t i = 0; i < p->claim_count; i++) {
        struct str v = claim_value(q, &t->payload, p->claims[i].claim);
        if (v.ptr && header_safe(v)) headers_set(q->h, p->claims[i].header, v);
    }
    if (p->payload_header.len) {
        size_t pad = p->pad_payload ? (4 - t->payload_base64.len % 4) % 4 : 0;
        headers_set(q->h, p->payload_header,
                    str_fmt(q->a, "%.*s%.*s", STR_ARG(t->payload_base64), (int)pad, "==="));
    }
    if (!p->forward && place->kind == JWT_IN_HEADER) (void)headers_remove(q->h, place->name);
    if (!p->forward && place->kind == JWT_IN_PARAM) remove_param(q, place->name);
    if (p->header_key.len) note(q, p->header_key, &t->header);
    if (p->payload_key.len) {
        struct value payload = normalized(q, p, &t->payload);
        note(q, p->payload_key, &payload);
    }
    if (p->clear_route) http_filter_clear_route(q->f);
}

/* --- judging a token
 * -------------------------------------------------------------------------------- */

static bool audience_fits(const struct str *allowed, size_t n, const struct jwt *t)
{
    if (!n) return true;
    for (size_t i = 0; i < t->aud_count; i++) {
        for (size_t k = 0; k < n; k++) {
            if (str_eq(t->aud[i], allowed[k])) return true;
        }
    }
    return false;
}

static enum jwt_status check_times(const struct jwt_ask *q, const struct jwt_provider *p,
                                   const struct jwt *t)
{
    if (t->has_nbf && q->now_s + p->skew_s < t->nbf) return JWT_NOT_YET_VALID;
    if (t->has_exp && q->now_s > p->skew_s && q->now_s - p->skew_s > t->exp) return JWT_EXPIRED;
    if (p->require_expiration && !t->has_exp) return JWT_FAILS;
    if (p->max_lifetime_s) {
        if (!t->has_exp) return JWT_FAILS;
        if (t->exp > q->now_s && t->exp - q->now_s > p->max_lifetime_s) return JWT_FAILS;
    }
    return JWT_OK;
}

static bool place_of(const struct jwt_provider *p, const struct jwt_place *place)
{
    for (size_t i = 0; i < p->place_count; i++) {
        if (place_same(&p->places[i], place)) return true;
    }
    return false;
}

/* allow_missing: by the token's issuer; a provider without an issuer takes what is left. */
static const struct jwt_provider *provider_of(const struct jwt_ask *q, const struct jwt *t,
                                              const struct jwt_place *place)
{
    const struct jwt_provider *rest = NULL;
    for (size_t i = 0; i < q->conf->provider_count; i++) {
        const struct jwt_provider *p = &q->conf->providers[i];
        if (!place_of(p, place)) continue;
        if (p->issuer.len && str_eq(p->issuer, t->iss)) return p;
        if (!p->issuer.len && !rest) rest = p;
    }
    return rest;
}

/* need->provider NULL: any provider's. */
static enum jwt_status token_status(const struct jwt_ask *q, const struct jwt_need *need,
                                    const struct jwt_token *token)
{
    struct jwt t;
    enum jwt_status s = jwt_read(q->a, token->text, &t);
    stat_inc(q->conf->stats, JWT_STAT_CACHE_MISS);
    if (s != JWT_OK) return s;
    const struct jwt_provider *p =
        need->provider ? need->provider : provider_of(q, &t, token->place);
    if (!p || (p->issuer.len && !str_eq(p->issuer, t.iss))) return JWT_UNKNOWN_ISSUER;
    if (p->subjects && !string_match(p->subjects, t.sub)) return JWT_FAILS;
    s = check_times(q, p, &t);
    if (s != JWT_OK) return s;
    bool fits = need->own_audiences ? audience_fits(need->audiences, need->audience_count, &t)
                                    : audience_fits(p->audiences, p->audience_count, &t);
    if (!fits) return JWT_AUDIENCE;
    s = jwks_verify(p->jwks, &t);
    if (s == JWT_OK) good_token(q, p, &t, token->place);
    return s;
}

/* Envoy: all tokens that are there have to be good. */
static enum jwt_status tokens_status(const struct jwt_ask *q, const struct jwt_need *need)
{
    struct jwt_token tokens[TOKENS_MOST];
    size_t n = 0;
    if (need->provider) n = tokens_add(q, need->provider, tokens, n);
    for (size_t i = 0; !need->provider && i < q->conf->provider_count; i++)
        n = tokens_add(q, &q->conf->providers[i], tokens, n);
    enum jwt_status s = JWT_MISSING;
    for (size_t i = 0; i < n; i++) {
        s = token_status(q, need, &tokens[i]);
        if (s != JWT_OK && need->kind != JWT_NEED_TRY) break;
    }
    if (n && s != JWT_OK && need->provider && need->provider->failed_key.len) {
        struct value_field *v = ARENA_ARRAY(q->a, struct value_field, 2);
        v[0].name = STR("code");
        v[0].value = (struct value){.kind = VALUE_NUMBER, .u.number = jwt_status_code(s)};
        v[1].name = STR("message");
        v[1].value = (struct value){.kind = VALUE_STRING, .u.text = str_of(jwt_status_text(s))};
        struct value failed = {.kind = VALUE_STRUCT};
        failed.u.fields.fields = v;
        failed.u.fields.count = 2;
        note(q, need->provider->failed_key, &failed);
    }
    return s;
}

/* --- requirements
 * ----------------------------------------------------------------------------------- */

static enum jwt_status need_status(const struct jwt_ask *q, const struct jwt_need *n);

/* Envoy: a failure that is more than "missing" or "of another issuer" is the one that is told. */
static enum jwt_status any_status(const struct jwt_ask *q, const struct jwt_need *n)
{
    enum jwt_status told = JWT_MISSING;
    for (size_t i = 0; i < n->count; i++) {
        enum jwt_status s = need_status(q, &n->sub[i]);
        if (s == JWT_OK) return s;
        bool soft = told == JWT_MISSING || told == JWT_UNKNOWN_ISSUER;
        if (soft && s != JWT_MISSING) told = s;
    }
    if (n->may_fail) {
        (void)tokens_status(q, &(struct jwt_need){.kind = JWT_NEED_TRY});
        return JWT_OK;
    }
    return n->may_miss && told == JWT_MISSING
               ? need_status(q, &(struct jwt_need){.kind = JWT_NEED_VALID_OR_MISSING})
               : told;
}

/* Recursion: as deep as translation allows. */
static enum jwt_status need_status(const struct jwt_ask *q, const struct jwt_need *n)
{
    enum jwt_status s = JWT_OK;
    switch (n->kind) {
    case JWT_NEED_NOTHING: return JWT_OK;
    case JWT_NEED_PROVIDER: return tokens_status(q, n);
    case JWT_NEED_ANY: return any_status(q, n);
    case JWT_NEED_ALL:
        for (size_t i = 0; i < n->count && s == JWT_OK; i++)
            s = need_status(q, &n->sub[i]);
        return s;
    case JWT_NEED_TRY: (void)tokens_status(q, n); return JWT_OK;
    case JWT_NEED_VALID_OR_MISSING: s = tokens_status(q, n); return s == JWT_MISSING ? JWT_OK : s;
    }
    return JWT_FAILS;
}

/* --- requests
 * --------------------------------------------------------------------------------------- */

struct jwt_refusal {
    struct str challenge;
};

static void refusal_edit(void *arg, struct headers *h)
{
    const struct jwt_refusal *r = arg;
    headers_set(h, STR("www-authenticate"), r->challenge);
}

/* "jwt_authn_access_denied{Jwt_is_missing}" */
static struct str refusal_details(struct arena *a, struct str text)
{
    char *p = str_z(a, text);
    for (size_t i = 0; i < text.len; i++) {
        if (p[i] == ' ') p[i] = '_';
    }
    return str_fmt(a, "jwt_authn_access_denied{%s}", p);
}

static struct str realm(const struct jwt_ask *q)
{
    struct str path = headers_get(q->h, HDR_X_ENVOY_ORIGINAL_PATH);
    if (!path.ptr) path = headers_get(q->h, HDR_PATH);
    return str_fmt(q->a, "%.*s://%.*s%.*s", STR_ARG(headers_get(q->h, HDR_SCHEME)),
                   STR_ARG(headers_get(q->h, HDR_AUTHORITY)), STR_ARG(str_sub(path, 0, URI_MOST)));
}

static enum http_flow refuse(const struct jwt_ask *q, enum jwt_status s)
{
    struct str text = str_of(jwt_status_text(s));
    struct local_reply r = {.status = s == JWT_AUDIENCE ? 403 : 401,
                            .details = refusal_details(q->a, text),
                            .grpc_status = -1};
    stat_inc(q->conf->stats, JWT_STAT_DENIED);
    if (!q->conf->strip_failure) {
        struct jwt_refusal *x = ARENA_NEW(q->a, struct jwt_refusal);
        x->challenge = str_fmt(q->a, "Bearer realm=\"%.*s\"%s", STR_ARG(realm(q)),
                               s == JWT_MISSING ? "" : ", error=\"invalid_token\"");
        r.body = text;
        r.edit = refusal_edit;
        r.edit_arg = x;
    }
    http_filter_reply(q->f, &r);
    return HTTP_HOLD_ALL;
}

static enum http_flow refuse_name(const struct jwt_ask *q, struct str name)
{
    struct str text =
        str_fmt(q->a, "Wrong requirement_name: %.*s. It should be one of [", STR_ARG(name));
    for (size_t i = 0; i < q->conf->named_count; i++)
        text = str_fmt(q->a, "%.*s%s%.*s", STR_ARG(text), i ? "," : "",
                       STR_ARG(q->conf->named[i].name));
    text = str_fmt(q->a, "%.*s]", STR_ARG(text));
    struct local_reply r = {.status = 403,
                            .body = str_fmt(q->a, "Failed JWT authentication: %.*s", STR_ARG(text)),
                            .details = refusal_details(q->a, text),
                            .grpc_status = -1};
    if (q->conf->strip_failure) r.body = STR_NONE;
    stat_inc(q->conf->stats, JWT_STAT_DENIED);
    http_filter_reply(q->f, &r);
    return HTTP_HOLD_ALL;
}

/* What a client claims in headers that only proven tokens may fill. */
static void sanitize(const struct jwt_ask *q)
{
    for (size_t i = 0; i < q->conf->provider_count; i++) {
        const struct jwt_provider *p = &q->conf->providers[i];
        if (p->payload_header.len) (void)headers_remove(q->h, p->payload_header);
        for (size_t k = 0; k < p->claim_count; k++)
            (void)headers_remove(q->h, p->claims[k].header);
    }
}

static bool is_preflight(const struct headers *h)
{
    return str_eq(headers_get(h, HDR_METHOD), STR("OPTIONS")) &&
           headers_find(h, STR("origin")).len &&
           headers_find(h, STR("access-control-request-method")).len;
}

static const struct jwt_need *need_of(const struct jwt_ask *q)
{
    const struct stream_info *info = http_filter_info(q->f);
    for (size_t i = 0; i < q->conf->rule_count; i++) {
        if (route_match_fits(q->conf->rules[i].match, q->f->worker, q->h, info))
            return q->conf->rules[i].need;
    }
    return NULL;
}

static enum http_flow jwt_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    (void)http_filter_route(f); /* route_conf is known with the route */
    struct jwt_ask q = {.f = f,
                        .conf = f->conf,
                        .h = h,
                        .a = http_filter_arena(f),
                        .now_s = loop_wall_us(f->worker->loop) / SECOND_US};
    if (q.conf->bypass_preflight && is_preflight(h)) {
        stat_inc(q.conf->stats, JWT_STAT_PREFLIGHT);
        stat_inc(q.conf->stats, JWT_STAT_ALLOWED);
        return HTTP_CONTINUE;
    }
    sanitize(&q);
    const struct jwt_route_conf *r = f->route_conf;
    const struct jwt_need *need = r ? NULL : need_of(&q);
    if (r && !r->disabled) {
        for (size_t i = 0; i < q.conf->named_count && !need; i++) {
            if (str_eq(q.conf->named[i].name, r->requirement)) need = q.conf->named[i].need;
        }
        if (!need) return refuse_name(&q, r->requirement);
    }
    enum jwt_status s = need ? need_status(&q, need) : JWT_OK;
    if (s != JWT_OK) return refuse(&q, s);
    stat_inc(q.conf->stats, JWT_STAT_ALLOWED);
    return HTTP_CONTINUE;
}

const struct http_filter_type http_jwt_authn = {
    .ext = {.name = "envoy.filters.http.jwt_authn",
            .config =
                &envoy__extensions__filters__http__jwt_authn__v3__jwt_authentication__descriptor},
    .route_config = &envoy__extensions__filters__http__jwt_authn__v3__per_route_config__descriptor,
    .instance_size = sizeof(struct http_filter),
    .conf_create = jwt_conf_create,
    .route_conf_create = jwt_route_conf_create,
    .decode_headers = jwt_decode_headers,
};
