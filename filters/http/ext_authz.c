/* envoy.filters.http.ext_authz: asks an authorization service before a request goes on, with its
 * body where that is wanted. Whatever is not a clear yes is a no, unless failures may pass. */
#include "filters/http/ext_authz.h"

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/filters/http/ext_authz/v3/ext_authz.pb-c.h"
#include "envoy/service/auth/v3/external_auth.pb-c.h"
#include "envoy/type/v3/http_status.pb-c.h"
#include "filters/common/ext_authz.h"
#include "google/protobuf/struct.pb-c.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/route.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/upstream.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/cluster.h" /* the cluster's name in statistics */

typedef Envoy__Service__Auth__V3__CheckResponse CheckResponse;

enum ext_authz_state { EXT_AUTHZ_IDLE, EXT_AUTHZ_BODY, EXT_AUTHZ_ASKING, EXT_AUTHZ_OVER };
struct ext_authz {
    struct http_filter base;
    enum ext_authz_state state;
    struct ext_authz_body body;
    uint64_t start_us;
    struct ext_authz_ops response; /* for the response of a request that passed */
    struct ext_authz_ops denial;
};

static struct ext_authz *authz_of(struct http_filter *f)
{
    return CONTAINER_OF(f, struct ext_authz, base);
}

/* --- what is counted
 * ------------------------------------------------------------------------------------------------
 */
enum { UP_DENIED, UP_ERROR, UP_ALLOWED, UP_OK, UP_STATS };
static const struct stat_def upstream_defs[UP_STATS] = {
    [UP_DENIED] = {"denied", STAT_COUNTER, 0},
    [UP_ERROR] = {"error", STAT_COUNTER, 0},
    [UP_ALLOWED] = {"failure_mode_allowed", STAT_COUNTER, 0},
    [UP_OK] = {"ok", STAT_COUNTER, 0},
};

static struct upstream_cluster *authz_cluster(struct http_filter *f)
{
    struct str name = http_filter_cluster(f);
    return name.len ? upstream_find(f->worker, name, hash_str(name)) : NULL;
}

/* Envoy counts under the route's cluster, too. */
static void authz_count(struct http_filter *f, enum ext_authz_stat stat, unsigned upstream)
{
    enum { GROUP = 2 }; /* beside the codes of the same prefix */
    const struct ext_authz_conf *c = f->conf;
    struct upstream_cluster *uc = authz_cluster(f);
    stat_inc(c->stats, stat);
    if (!uc) return;
    struct str prefix = str_fmt(f->worker->scratch, "cluster.%.*s.%.*s",
                                STR_ARG(upstream_conf(uc)->stat_name), STR_ARG(c->cluster_prefix));
    stat_inc(upstream_named_stats(f->worker, prefix, GROUP, upstream_defs, UP_STATS), upstream);
}

/* --- the answer
 * ----------------------------------------------------------------------------------------------------
 */
static void authz_edit(void *arg, struct headers *h)
{
    ext_authz_apply(arg, h);
}

static void authz_reply(struct ext_authz *z, uint32_t status, struct str body, struct str details)
{
    struct local_reply r = {.status = status,
                            .body = body,
                            .details = details,
                            .grpc_status = -1,
                            .flags = (uint64_t)1 << RF_UAEX,
                            .edit = authz_edit,
                            .edit_arg = &z->denial};
    z->state = EXT_AUTHZ_OVER;
    http_filter_reply(&z->base, &r);
}

static void authz_invalid(struct ext_authz *z)
{
    const struct ext_authz_conf *c = z->base.conf;
    z->denial.count = 0;
    stat_inc(c->stats, EXT_AUTHZ_INVALID);
    authz_reply(z, 500, STR_NONE, STR("ext_authz_invalid"));
}

static void authz_refuse(struct ext_authz *z, uint32_t status, struct str body)
{
    const struct ext_authz_conf *c = z->base.conf;
    authz_count(&z->base, EXT_AUTHZ_DENIED, UP_DENIED);
    struct upstream_cluster *uc = c->charge ? authz_cluster(&z->base) : NULL;
    if (uc) code_stat_count(upstream_code_stats(uc, UPSTREAM_CODES_ALL), status);
    authz_reply(z, status, body, STR("ext_authz_denied"));
}

static void authz_denied(struct ext_authz *z, const CheckResponse *r)
{
    enum { FORBIDDEN = 403 };
    struct arena *a = http_filter_arena(&z->base);
    uint32_t status = FORBIDDEN;
    struct str body = STR_NONE;
    if (r->http_response_case ==
        ENVOY__SERVICE__AUTH__V3__CHECK_RESPONSE__HTTP_RESPONSE_DENIED_RESPONSE) {
        const Envoy__Service__Auth__V3__DeniedHttpResponse *d = r->denied_response;
        if (d->status && d->status->code >= 100 && d->status->code < 600)
            status = (uint32_t)d->status->code;
        body = str_dup(a, str_of(d->body));
        if (!ext_authz_ops(a, d->headers, d->n_headers, EXT_AUTHZ_DENIAL, &z->denial)) {
            authz_invalid(z);
            return;
        }
    }
    authz_refuse(z, status, body);
}

static void authz_pass(struct ext_authz *z, bool changed)
{
    const struct ext_authz_conf *c = z->base.conf;
    z->state = EXT_AUTHZ_OVER;
    if (changed && c->clear_route) http_filter_clear_route(&z->base);
    http_filter_resume(&z->base, HTTP_DECODE);
}

/* Removal spares what makes the request one. */
static size_t authz_remove(struct headers *h, const Envoy__Service__Auth__V3__OkHttpResponse *ok)
{
    size_t n = 0;
    for (size_t i = 0; i < ok->n_headers_to_remove; i++) {
        struct str name = str_dup_lower(h->arena, str_of(ok->headers_to_remove[i]));
        if (!name.len || name.ptr[0] == ':' || str_eq(name, STR("host"))) continue;
        n += headers_remove(h, name);
    }
    return n;
}

static void authz_ok(struct ext_authz *z, const CheckResponse *r)
{
    struct http_filter *f = &z->base;
    struct arena *a = http_filter_arena(f);
    struct headers *h = http_filter_info(f)->req;
    bool changed = false;
    if (r->http_response_case ==
        ENVOY__SERVICE__AUTH__V3__CHECK_RESPONSE__HTTP_RESPONSE_OK_RESPONSE) {
        const Envoy__Service__Auth__V3__OkHttpResponse *ok = r->ok_response;
        struct ext_authz_ops ops;
        if (!ext_authz_ops(a, ok->headers, ok->n_headers, EXT_AUTHZ_REQUEST, &ops) ||
            !ext_authz_ops(a, ok->response_headers_to_add, ok->n_response_headers_to_add,
                           EXT_AUTHZ_RESPONSE, &z->response)) {
            z->response.count = 0;
            authz_invalid(z);
            return;
        }
        ext_authz_apply(&ops, h);
        changed = ops.count > 0 || ok->n_headers_to_remove > 0;
        (void)authz_remove(h, ok);
        ext_authz_query(a, h, r);
    }
    authz_count(f, EXT_AUTHZ_OK, UP_OK);
    authz_pass(z, changed);
}

static void authz_error(struct ext_authz *z)
{
    struct http_filter *f = &z->base;
    const struct ext_authz_conf *c = f->conf;
    authz_count(f, EXT_AUTHZ_ERROR, UP_ERROR);
    if (!c->allow_on_failure) {
        authz_reply(z, c->error_status, STR_NONE, STR("ext_authz_error"));
        return;
    }
    authz_count(f, EXT_AUTHZ_ALLOWED, UP_ALLOWED);
    if (c->tell_allowed)
        headers_add(http_filter_info(f)->req, STR("x-envoy-auth-failure-mode-allowed"),
                    STR("true"));
    authz_pass(z, false);
}

/* Envoy: beside other metadata only. */
static void authz_note_time(struct ext_authz *z)
{
    struct stream_info *info = http_filter_info(&z->base);
    uint64_t us = loop_now_us(z->base.worker->loop) - z->start_us;
    struct value ms = {.kind = VALUE_NUMBER, .u.number = (double)(us / 1000)};
    metadata_set(&info->dynamic, info->arena, STR("envoy.filters.http.ext_authz"),
                 STR("ext_authz_duration"), &ms);
}

static void authz_metadata(struct ext_authz *z, const CheckResponse *r, enum authz_verdict verdict)
{
    const struct ext_authz_conf *c = z->base.conf;
    struct stream_info *info = http_filter_info(&z->base);
    const struct str ns = STR("envoy.filters.http.ext_authz");
    if (!r || !r->dynamic_metadata || r->dynamic_metadata->n_fields == 0) return;
    if (!c->ingest) {
        stat_inc(c->stats, EXT_AUTHZ_IGNORED);
        return;
    }
    const struct value *v = conf_struct(info->arena, r->dynamic_metadata);
    for (size_t i = 0; i < v->u.fields.count; i++)
        metadata_set(&info->dynamic, info->arena, ns, v->u.fields.fields[i].name,
                     &v->u.fields.fields[i].value);
    if (verdict == AUTHZ_OK) authz_note_time(z);
}

static void authz_on_end(struct side_call *call, void *arg, const struct side_end *e)
{
    (void)call;
    struct ext_authz *z = arg;
    const CheckResponse *r;
    enum authz_verdict verdict = authz_response(http_filter_arena(&z->base), e, &r);
    authz_metadata(z, r, verdict);
    switch (verdict) {
    case AUTHZ_OK: authz_ok(z, r); return;
    case AUTHZ_DENIED: authz_denied(z, r); return;
    case AUTHZ_ERROR: authz_error(z); return;
    }
}

static const struct side_events authz_events = {.on_end = authz_on_end};

/* --- an HTTP service
 * ------------------------------------------------------------------------------------------------
 */
static void authz_http_ok(struct ext_authz *z, const struct ext_authz_http_answer *x)
{
    struct stream_info *info = http_filter_info(&z->base);
    struct str rest = x->remove, name;
    z->response = x->response;
    ext_authz_apply(&x->request, info->req);
    while (rest.len && str_next(&rest, ',', &name)) {
        name = str_dup_lower(info->arena, str_trim(name));
        if (name.len && name.ptr[0] != ':' && !str_eq(name, STR("host")))
            headers_remove(info->req, name);
    }
    for (size_t i = 0; i < x->metadata.count; i++) {
        struct value v = {.kind = VALUE_STRING, .u.text = x->metadata.v[i].value};
        metadata_set(&info->dynamic, info->arena, STR("envoy.filters.http.ext_authz"),
                     x->metadata.v[i].name, &v);
    }
    if (x->metadata.count) authz_note_time(z);
    authz_count(&z->base, EXT_AUTHZ_OK, UP_OK);
    authz_pass(z, x->request.count > 0 || x->remove.len > 0);
}

static void authz_on_http_end(struct side_call *call, void *arg, const struct side_end *e)
{
    enum { STATUS_OK = 200, STATUS_BROKEN = 500 };
    (void)call;
    struct ext_authz *z = arg;
    struct arena *a = http_filter_arena(&z->base);
    struct ext_authz_http_answer x;
    if (e->failure != SIDE_OK || e->status >= STATUS_BROKEN || !e->headers) {
        authz_error(z);
        return;
    }
    ext_authz_http_read(a, z->base.conf, headers_dup(a, e->headers), &x);
    if (e->status == STATUS_OK) {
        authz_http_ok(z, &x);
        return;
    }
    z->denial = x.denial;
    authz_refuse(z, e->status, buf_dup(e->body, a));
}

static const struct side_events authz_http_events = {.on_end = authz_on_http_end};

/* --- the question
 * --------------------------------------------------------------------------------------------------
 */
static bool authz_header_wanted(void *arg, struct str name)
{
    const struct ext_authz_conf *c = arg;
    if (c->disallowed_count && string_match_any(c->disallowed, c->disallowed_count, name))
        return false;
    return c->allowed_count == 0 || string_match_any(c->allowed, c->allowed_count, name);
}

static void authz_ask_http(struct ext_authz *z, struct side_ask *q, struct str body, bool partial)
{
    struct stream_info *info = http_filter_info(&z->base);
    struct buf bytes = {0};
    buf_append_str(&bytes, body);
    q->events = &authz_http_events;
    (void)side_http(q, ext_authz_http_ask(info->arena, z->base.conf, info, body, partial), &bytes);
}

/* The question that a gRPC service is asked. */
static struct str authz_question(struct ext_authz *z, struct str body, bool partial)
{
    struct http_filter *f = &z->base;
    const struct ext_authz_conf *c = f->conf;
    const struct ext_authz_route *route = f->route_conf;
    struct stream_info *info = http_filter_info(f);
    struct arena *a = http_filter_arena(f);
    struct authz_peers peers = {info->conn, c->certificate, c->session};
    Envoy__Service__Auth__V3__CheckRequest *r = authz_request_new(a, &peers);
    authz_request_labels(a, r, &c->labels);
    struct authz_http x = {.info = info,
                           .headers = info->req,
                           .wanted = authz_header_wanted,
                           .arg = (void *)(uintptr_t)c,
                           .body = body,
                           .has_body = z->state == EXT_AUTHZ_BODY,
                           .partial = partial,
                           .as_bytes = z->body.as_bytes};
    authz_request_http(a, r, &x);
    authz_request_metadata(a, r, info->dynamic, c->namespaces, c->namespace_count);
    authz_request_metadata(a, r, info->conn->metadata, c->namespaces, c->namespace_count);
    authz_request_route_metadata(a, r, info->route ? info->route->metadata : NULL,
                                 c->route_namespaces, c->route_namespace_count);
    for (size_t i = 0; route && i < route->extension_count; i++)
        authz_request_extension(a, r, route->extensions[i].key, route->extensions[i].value);
    return authz_request_pack(a, r);
}

static void authz_ask(struct ext_authz *z, struct str body)
{
    struct http_filter *f = &z->base;
    const struct ext_authz_conf *c = f->conf;
    uint32_t most = z->body.most;
    bool partial = body.len > most || (z->body.partial && body.len >= most);
    struct str question = c->http ? STR_NONE : authz_question(z, str_sub(body, 0, most), partial);
    struct side_ask q = {.worker = f->worker,
                         .owner = http_filter_calls(f),
                         .target = c->target,
                         .events = &authz_events,
                         .arg = z,
                         .info = http_filter_info(f)};
    if (!c->target->timeout_us) q.timeout_us = AUTHZ_TIMEOUT_MS * 1000;
    z->state = EXT_AUTHZ_ASKING;
    z->start_us = loop_now_us(f->worker->loop);
    if (c->http)
        authz_ask_http(z, &q, str_sub(body, 0, most), partial);
    else
        (void)side_grpc(&q, authz_method, NULL, question);
}

/* --- the request
 * ---------------------------------------------------------------------------------------------------
 */
static bool authz_enabled(struct http_filter *f)
{
    const struct ext_authz_conf *c = f->conf;
    const struct stream_info *info = http_filter_info(f);
    if (c->enabled_by && !metadata_match(c->enabled_by, info->dynamic)) return false;
    return runtime_fraction(f->worker, c->enabled.runtime_key, c->enabled.numerator,
                            c->enabled.denominator, info->random);
}

static enum http_flow authz_off(struct ext_authz *z)
{
    const struct ext_authz_conf *c = z->base.conf;
    const struct feature *d = &c->deny_at_disable;
    stat_inc(c->stats, EXT_AUTHZ_DISABLED);
    z->state = EXT_AUTHZ_OVER;
    if (!c->has_deny || !runtime_bool(z->base.worker, d->key, d->on)) return HTTP_CONTINUE;
    authz_reply(z, c->error_status, STR_NONE, STR("ext_authz_error"));
    return HTTP_HOLD_ALL;
}

static enum http_flow authz_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct ext_authz *z = authz_of(f);
    const struct ext_authz_conf *c = f->conf;
    (void)http_filter_route(f); /* route_conf is that of the route from here on */
    const struct ext_authz_route *route = f->route_conf;
    if (route && route->disabled) {
        z->state = EXT_AUTHZ_OVER;
        return HTTP_CONTINUE;
    }
    if (!authz_enabled(f)) return authz_off(z);
    z->body = route && route->has_body ? route->body : c->body;
    bool upgrade = headers_has(h, HDR_UPGRADE) || headers_has(h, HDR_PROTOCOL);
    if (z->body.most && !end && !upgrade && !(route && route->no_body)) {
        z->state = EXT_AUTHZ_BODY;
        return HTTP_HOLD;
    }
    authz_ask(z, STR_NONE);
    return HTTP_HOLD_ALL;
}

static enum http_flow authz_too_large(struct http_filter *f)
{
    struct local_reply r = {.status = 413,
                            .body = STR("Payload Too Large"),
                            .details = STR("request_payload_too_large"),
                            .grpc_status = -1};
    authz_of(f)->state = EXT_AUTHZ_OVER;
    http_filter_reply(f, &r);
    return HTTP_BUFFER;
}

static struct str authz_body(struct http_filter *f, const struct buf *data)
{
    struct arena *a = http_filter_arena(f);
    const struct buf *held = http_filter_buffered(f, HTTP_DECODE);
    struct str first = held ? buf_dup(held, a) : STR_NONE,
               rest = data ? buf_dup(data, a) : STR_NONE;
    return first.len ? str_cat(a, first, rest) : rest;
}

static enum http_flow authz_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct ext_authz *z = authz_of(f);
    if (z->state == EXT_AUTHZ_OVER || z->state == EXT_AUTHZ_IDLE) return HTTP_CONTINUE;
    if (z->state == EXT_AUTHZ_ASKING) return HTTP_HOLD_ALL;
    const struct buf *held = http_filter_buffered(f, HTTP_DECODE);
    size_t have = (held ? held->len : 0) + data->len;
    if (!z->body.partial && have > z->body.most) return authz_too_large(f);
    if (!end && have < z->body.most) return HTTP_BUFFER;
    if (!end && !z->body.partial) return HTTP_BUFFER;
    authz_ask(z, authz_body(f, data));
    return HTTP_HOLD_ALL;
}

static enum http_flow authz_decode_trailers(struct http_filter *f, struct headers *t)
{
    struct ext_authz *z = authz_of(f);
    (void)t;
    if (z->state == EXT_AUTHZ_BODY) authz_ask(z, authz_body(f, NULL));
    return z->state == EXT_AUTHZ_ASKING ? HTTP_HOLD : HTTP_CONTINUE;
}

static enum http_flow authz_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    ext_authz_apply(&authz_of(f)->response, h);
    return HTTP_CONTINUE;
}

const struct http_filter_type http_ext_authz = {
    .ext = {.name = "envoy.filters.http.ext_authz",
            .config = &envoy__extensions__filters__http__ext_authz__v3__ext_authz__descriptor},
    .route_config =
        &envoy__extensions__filters__http__ext_authz__v3__ext_authz_per_route__descriptor,
    .instance_size = sizeof(struct ext_authz),
    .conf_create = ext_authz_conf_create,
    .route_conf_create = ext_authz_route_create,
    .route_conf_merge = ext_authz_route_merge,
    .decode_headers = authz_decode_headers,
    .decode_data = authz_decode_data,
    .decode_trailers = authz_decode_trailers,
    .encode_headers = authz_encode_headers,
};
