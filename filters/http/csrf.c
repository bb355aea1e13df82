/* envoy.filters.http.csrf: requests that change something must come from a page of the host itself,
 * or of one that is listed. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/filters/http/csrf/v3/csrf.pb-c.h"
#include "filters/common/stats.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/runtime/values.h"

enum csrf_stat { CSRF_MISSING, CSRF_INVALID, CSRF_VALID, CSRF_STATS };
static const struct stat_def csrf_defs[CSRF_STATS] = {
    [CSRF_MISSING] = {"missing_source_origin", STAT_COUNTER, 0},
    [CSRF_INVALID] = {"request_invalid", STAT_COUNTER, 0},
    [CSRF_VALID] = {"request_valid", STAT_COUNTER, 0},
};
struct csrf_conf {
    struct conf_fraction enabled, shadow;
    bool has_shadow;
    const struct string_matcher *origins;
    size_t origin_count;
    struct stat_group *stats; /* NULL in settings of routes: the filter's count */
};

static const void *csrf_route_conf_create(const struct conf_at *at,
                                          const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__Csrf__V3__CsrfPolicy *m = (const void *)msg;
    struct csrf_conf *c = ARENA_NEW(conf_arena(at), struct csrf_conf);
    bool ok;
    c->enabled = conf_runtime_fraction(at, m->filter_enabled);
    c->shadow = conf_runtime_fraction(at, m->shadow_enabled);
    c->has_shadow = m->shadow_enabled != NULL;
    c->origins = conf_string_matchers(at, "additional_origins", m->n_additional_origins,
                                      m->additional_origins, &ok);
    c->origin_count = c->origins ? m->n_additional_origins : 0;
    return ok ? c : NULL;
}

static const void *csrf_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                    struct str stat_prefix)
{
    const void *made = csrf_route_conf_create(at, msg);
    if (!made) return NULL;
    struct csrf_conf *c = arena_copy(conf_arena(at), made, sizeof *c);
    c->stats = conf_stat_group(at, str_cat(conf_arena(at), stat_prefix, STR("csrf.")), csrf_defs,
                               CSRF_STATS);
    return c;
}

/* "host:port" of a URL; text that is none is taken as it is, as Envoy does. */
static struct str host_of_url(struct str url)
{
    size_t at = str_find(url, STR("://"));
    if (at == SIZE_MAX) return url;
    struct str host = str_sub(url, at + 3, url.len);
    for (size_t i = 0; i < host.len; i++) {
        if (host.ptr[i] == '/' || host.ptr[i] == '?' || host.ptr[i] == '#') host.len = i;
    }
    size_t user = str_rfind_char(host, '@');
    return user == SIZE_MAX ? host : str_sub(host, user + 1, host.len);
}

static bool changes_something(const struct headers *h)
{
    static const char *const methods[] = {"POST", "PUT", "DELETE", "PATCH"};
    struct str method = headers_get(h, HDR_METHOD);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (str_eq(method, str_of(methods[i]))) return true;
    }
    return false;
}

static bool fraction_hits(struct http_filter *f, const struct conf_fraction *x)
{
    return runtime_fraction(f->worker, x->runtime_key, x->numerator, x->denominator,
                            rng_next(&f->worker->rng));
}

static enum http_flow csrf_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    (void)http_filter_route(f); /* route_conf is that of the route from here on */
    const struct csrf_conf *main_conf = f->conf, *c = f->route_conf ? f->route_conf : f->conf;
    bool enabled = fraction_hits(f, &c->enabled);
    if (!enabled && !(c->has_shadow && fraction_hits(f, &c->shadow))) return HTTP_CONTINUE;
    if (!changes_something(h)) return HTTP_CONTINUE;
    struct str source = headers_get(h, HDR_ORIGIN);
    if (source.len == 0) source = headers_get(h, HDR_REFERER);
    if (str_eq(source, STR("null")))
        source = STR_NONE; /* Envoy: "null" is no origin, and the referer does not help */
    struct str host = host_of_url(source);
    bool valid = host.len > 0 && (str_eq(host, headers_get(h, HDR_AUTHORITY)) ||
                                  string_match_any(c->origins, c->origin_count, host));
    if (!host.len)
        stat_inc(main_conf->stats, CSRF_MISSING);
    else
        stat_inc(main_conf->stats, valid ? CSRF_VALID : CSRF_INVALID);
    if (valid || !enabled) return HTTP_CONTINUE;
    struct local_reply reply = {.status = 403,
                                .body = STR("Invalid origin"),
                                .details = STR("csrf_origin_mismatch"),
                                .grpc_status = -1};
    http_filter_reply(f, &reply);
    return HTTP_HOLD_ALL;
}

const struct http_filter_type http_csrf = {
    .ext = {.name = "envoy.filters.http.csrf",
            .config = &envoy__extensions__filters__http__csrf__v3__csrf_policy__descriptor},
    .route_config = &envoy__extensions__filters__http__csrf__v3__csrf_policy__descriptor,
    .instance_size = sizeof(struct http_filter),
    .conf_create = csrf_conf_create,
    .route_conf_create = csrf_route_conf_create,
    .decode_headers = csrf_decode_headers,
};
