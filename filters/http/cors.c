/* envoy.filters.http.cors: answers preflight requests and adds the headers of cross-origin resource
 * sharing, by the policies of virtual hosts and routes. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/filters/http/cors/v3/cors.pb-c.h"
#include "filters/common/stats.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/runtime/values.h"

enum cors_stat { CORS_VALID, CORS_INVALID, CORS_STATS };
static const struct stat_def cors_defs[CORS_STATS] = {
    [CORS_VALID] = {"origin_valid", STAT_COUNTER, 0},
    [CORS_INVALID] = {"origin_invalid", STAT_COUNTER, 0},
};
struct cors_conf {
    struct stat_group *stats;
};
enum cors_yes_no { CORS_UNSET, CORS_YES, CORS_NO };
struct cors_policy {
    const struct string_matcher *origins;
    size_t origin_count;
    struct str methods, headers, expose, max_age;
    enum cors_yes_no credentials, private_network, forward_preflights;
    bool has_enabled, has_shadow;
    struct conf_fraction enabled, shadow;
};
struct cors {
    struct http_filter base;
    bool active; /* an allowed origin asks */
    struct str origin;
};

static const void *cors_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                    struct str stat_prefix)
{
    (void)msg;
    struct cors_conf *c = ARENA_NEW(conf_arena(at), struct cors_conf);
    c->stats = conf_stat_group(at, str_cat(conf_arena(at), stat_prefix, STR("cors.")), cors_defs,
                               CORS_STATS);
    return c;
}

static enum cors_yes_no yes_no(const Google__Protobuf__BoolValue *v)
{
    return !v ? CORS_UNSET : v->value ? CORS_YES : CORS_NO;
}

static const void *cors_route_conf_create(const struct conf_at *at,
                                          const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__Cors__V3__CorsPolicy *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct cors_policy *p = ARENA_NEW(a, struct cors_policy);
    bool ok;
    p->origins =
        conf_string_matchers(at, "allow_origin_string_match", m->n_allow_origin_string_match,
                             m->allow_origin_string_match, &ok);
    p->origin_count = p->origins ? m->n_allow_origin_string_match : 0;
    p->methods = str_dup(a, str_of(m->allow_methods));
    p->headers = str_dup(a, str_of(m->allow_headers));
    p->expose = str_dup(a, str_of(m->expose_headers));
    p->max_age = str_dup(a, str_of(m->max_age));
    p->credentials = yes_no(m->allow_credentials);
    p->private_network = yes_no(m->allow_private_network_access);
    p->forward_preflights = yes_no(m->forward_not_matching_preflights);
    p->has_enabled = m->filter_enabled != NULL;
    p->has_shadow = m->shadow_enabled != NULL;
    p->enabled = conf_runtime_fraction(at, m->filter_enabled);
    p->shadow = conf_runtime_fraction(at, m->shadow_enabled);
    return ok ? p : NULL;
}

static struct str inner_or_outer(struct str inner, struct str outer)
{
    return inner.len ? inner : outer;
}

/* Envoy: what the inner level leaves out comes from the outer one; whether the filter is on is the
 * inner one's alone. */
static const void *cors_merge(struct arena *a, const void *outer, const void *inner)
{
    const struct cors_policy *o = outer;
    struct cors_policy *p = arena_copy(a, inner, sizeof *p);
    if (!p->origin_count) {
        p->origins = o->origins;
        p->origin_count = o->origin_count;
    }
    p->methods = inner_or_outer(p->methods, o->methods);
    p->headers = inner_or_outer(p->headers, o->headers);
    p->expose = inner_or_outer(p->expose, o->expose);
    p->max_age = inner_or_outer(p->max_age, o->max_age);
    if (p->credentials == CORS_UNSET) p->credentials = o->credentials;
    if (p->private_network == CORS_UNSET) p->private_network = o->private_network;
    if (p->forward_preflights == CORS_UNSET) p->forward_preflights = o->forward_preflights;
    return p;
}

static bool fraction_hits(struct http_filter *f, const struct conf_fraction *x)
{
    return runtime_fraction(f->worker, x->runtime_key, x->numerator, x->denominator,
                            rng_next(&f->worker->rng));
}

static void set_text(struct headers *h, enum header_id id, struct str v)
{
    if (v.len) headers_set_id(h, id, v);
}

/* Without access-control-allow-origin (an origin that is not allowed) the rest says nothing to a
 * browser. */
static void preflight_edit(void *arg, struct headers *h)
{
    struct cors *me = arg;
    const struct cors_policy *p = me->base.route_conf;
    if (me->active) headers_set_id(h, HDR_ACCESS_CONTROL_ALLOW_ORIGIN, me->origin);
    if (p->credentials == CORS_YES)
        headers_set_id(h, HDR_ACCESS_CONTROL_ALLOW_CREDENTIALS, STR("true"));
    set_text(h, HDR_ACCESS_CONTROL_ALLOW_METHODS, p->methods);
    set_text(h, HDR_ACCESS_CONTROL_ALLOW_HEADERS, p->headers);
    set_text(h, HDR_ACCESS_CONTROL_MAX_AGE, p->max_age);
    const struct headers *req = http_filter_info(&me->base)->req;
    struct str asked = headers_find(req, STR("access-control-request-private-network"));
    if (p->private_network == CORS_YES && str_eq(asked, STR("true"))) {
        headers_set(h, STR("access-control-allow-private-network"), STR("true"));
    }
}

static enum http_flow preflight_answer(struct cors *me)
{
    struct local_reply reply = {.status = 200,
                                .details = STR("cors_response"),
                                .grpc_status = -1,
                                .edit = preflight_edit,
                                .edit_arg = me};
    http_filter_reply(&me->base, &reply);
    return HTTP_HOLD_ALL;
}

static enum http_flow cors_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    struct cors *me = CONTAINER_OF(f, struct cors, base);
    const struct cors_conf *c = f->conf;
    (void)http_filter_route(f); /* route_conf is that of the route from here on */
    const struct cors_policy *p = f->route_conf;
    if (!p) return HTTP_CONTINUE;
    bool enabled = !p->has_enabled || fraction_hits(f, &p->enabled);
    if (!enabled && !(p->has_shadow && fraction_hits(f, &p->shadow))) return HTTP_CONTINUE;
    struct str origin = headers_get(h, HDR_ORIGIN);
    if (!origin.len) return HTTP_CONTINUE;
    bool allowed = string_match_any(p->origins, p->origin_count, origin);
    for (size_t i = 0; !allowed && i < p->origin_count; i++) {
        allowed = p->origins[i].kind == STRING_MATCH_EXACT && str_eq(p->origins[i].text, STR("*"));
    }
    stat_inc(c->stats, allowed ? CORS_VALID : CORS_INVALID);
    if (!enabled) return HTTP_CONTINUE;
    me->active = allowed;
    me->origin = origin;
    bool preflight = str_eq(headers_get(h, HDR_METHOD), STR("OPTIONS")) &&
                     headers_get(h, HDR_ACCESS_CONTROL_REQUEST_METHOD).len;
    if (!preflight) return HTTP_CONTINUE;
    if (!allowed && p->forward_preflights != CORS_NO) return HTTP_CONTINUE;
    return preflight_answer(me);
}

static enum http_flow cors_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    struct cors *me = CONTAINER_OF(f, struct cors, base);
    const struct cors_policy *p = f->route_conf;
    if (!me->active || !p) return HTTP_CONTINUE;
    headers_set_id(h, HDR_ACCESS_CONTROL_ALLOW_ORIGIN, me->origin);
    if (p->credentials == CORS_YES)
        headers_set_id(h, HDR_ACCESS_CONTROL_ALLOW_CREDENTIALS, STR("true"));
    set_text(h, HDR_ACCESS_CONTROL_EXPOSE_HEADERS, p->expose);
    return HTTP_CONTINUE;
}

const struct http_filter_type http_cors = {
    .ext = {.name = "envoy.filters.http.cors",
            .config = &envoy__extensions__filters__http__cors__v3__cors__descriptor},
    .route_config = &envoy__extensions__filters__http__cors__v3__cors_policy__descriptor,
    .instance_size = sizeof(struct cors),
    .conf_create = cors_conf_create,
    .route_conf_create = cors_route_conf_create,
    .route_conf_merge = cors_merge,
    .decode_headers = cors_decode_headers,
    .encode_headers = cors_encode_headers,
};
