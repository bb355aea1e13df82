/* Translation of ExtAuthz and its settings of routes. */
#include "filters/http/ext_authz.h"

#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/grpc_service.pb-c.h"
#include "envoy/config/core/v3/http_uri.pb-c.h"
#include "envoy/extensions/filters/http/ext_authz/v3/ext_authz.pb-c.h"
#include "envoy/type/matcher/v3/string.pb-c.h"
#include "envoy/type/v3/http_status.pb-c.h"
#include "filters/common/stats.h"
#include "google/protobuf/wrappers.pb-c.h"

typedef Envoy__Extensions__Filters__Http__ExtAuthz__V3__ExtAuthz ExtAuthz;

static const struct stat_def ext_authz_defs[EXT_AUTHZ_STATS] = {
    [EXT_AUTHZ_DENIED] = {"denied", STAT_COUNTER, 0},
    [EXT_AUTHZ_DISABLED] = {"disabled", STAT_COUNTER, 0},
    [EXT_AUTHZ_ERROR] = {"error", STAT_COUNTER, 0},
    [EXT_AUTHZ_ALLOWED] = {"failure_mode_allowed", STAT_COUNTER, 0},
    [EXT_AUTHZ_COLLISION] = {"filter_state_name_collision", STAT_COUNTER, 0},
    [EXT_AUTHZ_IGNORED] = {"ignored_dynamic_metadata", STAT_COUNTER, 0},
    [EXT_AUTHZ_INVALID] = {"invalid", STAT_COUNTER, 0},
    [EXT_AUTHZ_OK] = {"ok", STAT_COUNTER, 0},
    [EXT_AUTHZ_OMITTED] = {"omitted_response_headers", STAT_COUNTER, 0},
    [EXT_AUTHZ_LIMITS] = {"request_header_limits_reached", STAT_COUNTER, 0},
};

static const struct str *names_of(struct arena *a, char *const *v, size_t n)
{
    struct str *out = ARENA_ARRAY(a, struct str, n);
    for (size_t i = 0; i < n; i++)
        out[i] = str_dup(a, str_of(v[i]));
    return out;
}

static bool matchers_of(const struct conf_at *at, const char *field,
                        const Envoy__Type__Matcher__V3__ListStringMatcher *m,
                        const struct string_matcher **v, size_t *n)
{
    bool ok = true;
    if (!m) return true;
    struct conf_at here = conf_field(at, field);
    *v = conf_string_matchers(&here, "patterns", m->n_patterns, m->patterns, &ok);
    *n = *v ? m->n_patterns : 0;
    return ok;
}

static struct ext_authz_body body_of(
    const Envoy__Extensions__Filters__Http__ExtAuthz__V3__BufferSettings *m)
{
    if (!m) return (struct ext_authz_body){0};
    return (struct ext_authz_body){m->max_request_bytes, m->allow_partial_message,
                                   m->pack_as_bytes};
}

static bool authz_switches(const struct conf_at *at, const ExtAuthz *m, struct ext_authz_conf *c)
{
    struct arena *a = conf_arena(at);
    struct conf_at by = conf_field(at, "filter_enabled_metadata");
    c->enabled = conf_runtime_fraction(at, m->filter_enabled);
    if (m->deny_at_disable) {
        c->has_deny = true;
        c->deny_at_disable = feature_create(a, m->deny_at_disable);
    }
    if (!m->filter_enabled_metadata) return true;
    struct metadata_matcher *x = ARENA_NEW(a, struct metadata_matcher);
    c->enabled_by = x;
    return conf_metadata_matcher(&by, m->filter_enabled_metadata, x);
}

static bool names_list(const struct conf_at *at, const char *field,
                       const Envoy__Type__Matcher__V3__ListStringMatcher *m,
                       struct ext_authz_names *out)
{
    return matchers_of(at, field, m, &out->v, &out->count);
}

static bool http_answers(
    const struct conf_at *at,
    const Envoy__Extensions__Filters__Http__ExtAuthz__V3__AuthorizationResponse *m,
    struct ext_authz_http *h)
{
    if (!m) return true;
    bool ok = names_list(at, "allowed_upstream_headers", m->allowed_upstream_headers, &h->upstream);
    ok = names_list(at, "allowed_upstream_headers_to_append", m->allowed_upstream_headers_to_append,
                    &h->append) &&
         ok;
    ok = names_list(at, "allowed_client_headers", m->allowed_client_headers, &h->client) && ok;
    ok = names_list(at, "allowed_client_headers_on_success", m->allowed_client_headers_on_success,
                    &h->client_ok) &&
         ok;
    return names_list(at, "dynamic_metadata_from_headers", m->dynamic_metadata_from_headers,
                      &h->metadata) &&
           ok;
}

static bool http_service(const struct conf_at *at,
                         const Envoy__Extensions__Filters__Http__ExtAuthz__V3__HttpService *m,
                         struct ext_authz_conf *c)
{
    struct arena *a = conf_arena(at);
    struct ext_authz_http *h = ARENA_NEW(a, struct ext_authz_http);
    struct conf_at uri = conf_field(at, "server_uri"), prefix = conf_field(at, "path_prefix"),
                   request = conf_field(at, "authorization_request"),
                   response = conf_field(at, "authorization_response");
    bool ok = m->server_uri != NULL || conf_fail(&uri, "value is required"), added = true;
    if (ok) ok = (c->target = conf_http_uri(&uri, m->server_uri)) != NULL;
    h->prefix = str_dup(a, str_of(m->path_prefix));
    if (h->prefix.len && h->prefix.ptr[0] != '/')
        ok = conf_fail(&prefix, "path_prefix should start with \"/\".");
    if (m->authorization_request) {
        ok = names_list(&request, "allowed_headers", m->authorization_request->allowed_headers,
                        &h->allowed) &&
             ok;
        h->add = conf_header_values(&request, "headers_to_add",
                                    m->authorization_request->n_headers_to_add,
                                    m->authorization_request->headers_to_add, &added);
    }
    c->http = h;
    return http_answers(&response, m->authorization_response, h) && added && ok;
}

static bool authz_service(const struct conf_at *at, const ExtAuthz *m, struct ext_authz_conf *c)
{
    struct conf_at here = conf_field(at, "grpc_service"), http = conf_field(at, "http_service");
    if (m->services_case ==
        ENVOY__EXTENSIONS__FILTERS__HTTP__EXT_AUTHZ__V3__EXT_AUTHZ__SERVICES_HTTP_SERVICE)
        return http_service(&http, m->http_service, c);
    if (m->services_case !=
        ENVOY__EXTENSIONS__FILTERS__HTTP__EXT_AUTHZ__V3__EXT_AUTHZ__SERVICES_GRPC_SERVICE)
        return conf_fail(&here, "an authorization service is needed");
    if (!m->grpc_service) return conf_fail(&here, "an authorization service is needed");
    c->target = conf_grpc_service(&here, m->grpc_service, SIDE_CLUSTER_ANY);
    return c->target != NULL;
}

const void *ext_authz_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                  struct str stat_prefix)
{
    enum { FORBIDDEN = 403 };
    const ExtAuthz *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct ext_authz_conf *c = ARENA_NEW(a, struct ext_authz_conf);
    bool ok = authz_service(at, m, c);
    ok = authz_switches(at, m, c) && ok;
    ok = matchers_of(at, "allowed_headers", m->allowed_headers, &c->allowed, &c->allowed_count) &&
         ok;
    ok = matchers_of(at, "disallowed_headers", m->disallowed_headers, &c->disallowed,
                     &c->disallowed_count) &&
         ok;
    c->body = body_of(m->with_request_body);
    c->allow_on_failure = m->failure_mode_allow;
    c->tell_allowed = m->failure_mode_allow_header_add;
    c->clear_route = m->clear_route_cache;
    c->certificate = m->include_peer_certificate;
    c->session = m->include_tls_session;
    c->charge = !m->charge_cluster_response_stats || m->charge_cluster_response_stats->value;
    c->ingest =
        !m->enable_dynamic_metadata_ingestion || m->enable_dynamic_metadata_ingestion->value;
    c->error_status = m->status_on_error && m->status_on_error->code
                          ? (uint32_t)m->status_on_error->code
                          : FORBIDDEN;
    c->namespaces = names_of(a, m->metadata_context_namespaces, m->n_metadata_context_namespaces);
    c->namespace_count = m->n_metadata_context_namespaces;
    c->route_namespaces =
        names_of(a, m->route_metadata_context_namespaces, m->n_route_metadata_context_namespaces);
    c->route_namespace_count = m->n_route_metadata_context_namespaces;
    c->labels = authz_labels_create(at, str_of(m->bootstrap_metadata_labels_key));
    c->cluster_prefix = str_fmt(a, "ext_authz.%s%s", m->stat_prefix, *m->stat_prefix ? "." : "");
    c->stats = conf_stat_group(at, str_cat(a, stat_prefix, c->cluster_prefix), ext_authz_defs,
                               EXT_AUTHZ_STATS);
    return ok ? c : NULL;
}

const void *ext_authz_route_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__ExtAuthz__V3__ExtAuthzPerRoute *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct ext_authz_route *r = ARENA_NEW(a, struct ext_authz_route);
    if (m->override_case ==
        ENVOY__EXTENSIONS__FILTERS__HTTP__EXT_AUTHZ__V3__EXT_AUTHZ_PER_ROUTE__OVERRIDE_DISABLED) {
        r->disabled = m->disabled;
        if (m->disabled) return r;
        struct conf_at here = conf_field(at, "disabled");
        (void)conf_fail(&here, "value must equal true");
        return NULL;
    }
    const Envoy__Extensions__Filters__Http__ExtAuthz__V3__CheckSettings *s = m->check_settings;
    r->no_body = s->disable_request_body_buffering;
    r->has_body = s->with_request_body != NULL;
    r->body = body_of(s->with_request_body);
    if (r->no_body && r->has_body) {
        (void)conf_fail(
            at, "disable_request_body_buffering and with_request_body are not possible together");
        return NULL;
    }
    struct ext_authz_pair *v = ARENA_ARRAY(a, struct ext_authz_pair, s->n_context_extensions);
    for (size_t i = 0; i < s->n_context_extensions; i++) {
        v[i].key = str_dup(a, str_of(s->context_extensions[i]->key));
        v[i].value = str_dup(a, str_of(s->context_extensions[i]->value));
    }
    r->extensions = v;
    r->extension_count = s->n_context_extensions;
    return r;
}

/* Envoy: the extensions of all levels, the inner ones first; all else is the innermost's. */
const void *ext_authz_route_merge(struct arena *a, const void *outer, const void *inner)
{
    const struct ext_authz_route *o = outer, *i = inner;
    if (!o || !i) return i ? i : o;
    struct ext_authz_route *r = arena_copy(a, i, sizeof *i);
    struct ext_authz_pair *v =
        ARENA_ARRAY(a, struct ext_authz_pair, o->extension_count + i->extension_count);
    for (size_t k = 0; k < i->extension_count; k++)
        v[k] = i->extensions[k];
    size_t n = i->extension_count;
    for (size_t k = 0; k < o->extension_count; k++) {
        bool there = false;
        for (size_t x = 0; x < i->extension_count && !there; x++)
            there = str_eq(i->extensions[x].key, o->extensions[k].key);
        if (!there) v[n++] = o->extensions[k];
    }
    r->extensions = v;
    r->extension_count = n;
    return r;
}
