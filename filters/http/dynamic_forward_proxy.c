/* envoy.filters.http.dynamic_forward_proxy: holds a request for a dynamic forward proxy cluster
 * until the host that it asks for is resolved. */
#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "envoy/extensions/filters/http/dynamic_forward_proxy/v3/dynamic_forward_proxy.pb-c.h"
#include "filters/common/dynamic_forward_proxy.h"
#include "proxy/api/dns_cache.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/upstream.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster.h"

struct dfp_http_conf {
    struct dns_cache *cache;
    bool state; /* the host may come from filter state */
    bool save_address;
};
struct dfp_route_conf {
    struct str host, header; /* empty: none */
};
struct dfp_http {
    struct http_filter base;
    struct dns_wait wait;
};

static const void *dfp_http_conf_create(const struct conf_at *at,
                                        const struct ProtobufCMessage *msg, struct str stat_prefix)
{
    (void)stat_prefix;
    const Envoy__Extensions__Filters__Http__DynamicForwardProxy__V3__FilterConfig *m =
        (const void *)msg;
    struct dfp_http_conf *c = ARENA_NEW(conf_arena(at), struct dfp_http_conf);
    struct conf_at here = conf_field(at, "dns_cache_config");
    if (!m->dns_cache_config) {
        (void)conf_fail(&here, "value is required");
        return NULL;
    }
    c->save_address = m->save_upstream_address;
    c->state = m->allow_dynamic_host_from_filter_state;
    c->cache = conf_dns_cache(&here, m->dns_cache_config);
    return c->cache ? c : NULL;
}

static const void *dfp_route_conf_create(const struct conf_at *at,
                                         const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__DynamicForwardProxy__V3__PerRouteConfig *m =
        (const void *)msg;
    struct arena *a = conf_arena(at);
    struct dfp_route_conf *c = ARENA_NEW(a, struct dfp_route_conf);
    if (m->host_rewrite_specifier_case ==
        ENVOY__EXTENSIONS__FILTERS__HTTP__DYNAMIC_FORWARD_PROXY__V3__PER_ROUTE_CONFIG__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL)
        c->host = str_dup(a, str_of(m->host_rewrite_literal));
    if (m->host_rewrite_specifier_case ==
        ENVOY__EXTENSIONS__FILTERS__HTTP__DYNAMIC_FORWARD_PROXY__V3__PER_ROUTE_CONFIG__HOST_REWRITE_SPECIFIER_HOST_REWRITE_HEADER)
        c->header = str_dup_lower(a, str_of(m->host_rewrite_header));
    return c;
}

/* --- requests
 * ------------------------------------------------------------------------------------------------------
 */
static struct dfp_http *dfp_of(struct http_filter *f)
{
    return CONTAINER_OF(f, struct dfp_http, base);
}

static void dfp_refuse(struct http_filter *f, enum dns_answer a)
{
    struct local_reply r = {.status = 503, .grpc_status = -1};
    struct str why = dfp_of(f)->wait.why;
    switch (a) {
    case DNS_PENDING:
        r.body = STR("Dynamic forward proxy pending request overflow");
        r.details = STR("dynamic_forward_proxy_pending_request_overflow");
        break;
    case DNS_TOO_MANY:
        r.body = STR("DNS cache overflow");
        r.details = STR("dns_cache_overflow");
        break;
    case DNS_RESOLVED:
    case DNS_LATER:
    case DNS_FAILED:
        r.body = STR("DNS resolution failure");
        r.details = str_fmt(http_filter_arena(f), "dns_resolution_failure%s%.*s%s",
                            why.len ? "{" : "", STR_ARG(why), why.len ? "}" : "");
        r.flags = (uint64_t)1 << RF_DF;
        break;
    }
    http_filter_reply(f, &r);
}

static void dfp_resolved(struct dfp_http *d)
{
    const struct dfp_http_conf *c = d->base.conf;
    if (c->save_address)
        dfp_save_address(&http_filter_info(&d->base)->state, http_filter_arena(&d->base),
                         d->wait.address);
}

static void dfp_done(struct dns_wait *w, enum dns_answer a)
{
    struct dfp_http *d = CONTAINER_OF(w, struct dfp_http, wait);
    if (a != DNS_RESOLVED) {
        dfp_refuse(&d->base, a);
        return;
    }
    dfp_resolved(d);
    http_filter_resume(&d->base, HTTP_DECODE);
}

/* The route's cluster, if it is one that forwards dynamically. */
static const struct cluster *dfp_cluster(struct http_filter *f)
{
    if (!http_filter_route(f)) return NULL;
    struct str name = http_filter_cluster(f);
    const struct upstream_cluster *uc =
        name.len ? upstream_find(f->worker, name, hash_str(name)) : NULL;
    const struct cluster *c = uc ? upstream_conf(uc) : NULL;
    bool ours = c && c->discovery == CLUSTER_CUSTOM &&
                str_eq(str_of(c->custom->ext.name), STR("envoy.clusters.dynamic_forward_proxy"));
    return ours ? c : NULL;
}

static void dfp_rewrite(struct http_filter *f, struct headers *h)
{
    const struct dfp_route_conf *r = f->route_conf;
    if (!r) return;
    struct str to = r->host.len ? r->host : STR_NONE;
    if (r->header.len) to = headers_find(h, r->header);
    if (to.len) headers_set_id(h, HDR_AUTHORITY, to);
}

static enum http_flow dfp_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    const struct dfp_http_conf *conf = f->conf;
    const struct cluster *c = dfp_cluster(f);
    (void)end;
    if (!c) return HTTP_CONTINUE;
    dfp_rewrite(f, h);
    const struct stream_info *info = conf->state ? http_filter_info(f) : NULL;
    struct dfp_target to =
        dfp_target(info, NULL, h, f->worker->scratch, c->socket ? DFP_TLS_PORT : DFP_PORT);
    struct dfp_http *d = dfp_of(f);
    d->wait.done = dfp_done;
    enum dns_answer a = dns_cache_ask(f->worker, conf->cache, to.host, to.port, &d->wait);
    if (a == DNS_RESOLVED) {
        dfp_resolved(d);
        return HTTP_CONTINUE;
    }
    if (a != DNS_LATER) dfp_refuse(f, a);
    return HTTP_HOLD_ALL;
}

static void dfp_destroy(struct http_filter *f)
{
    dns_cache_forget(&dfp_of(f)->wait);
}

const struct http_filter_type http_dynamic_forward_proxy = {
    .ext =
        {.name = "envoy.filters.http.dynamic_forward_proxy",
         .config =
             &envoy__extensions__filters__http__dynamic_forward_proxy__v3__filter_config__descriptor},
    .route_config =
        &envoy__extensions__filters__http__dynamic_forward_proxy__v3__per_route_config__descriptor,
    .instance_size = sizeof(struct dfp_http),
    .conf_create = dfp_http_conf_create,
    .route_conf_create = dfp_route_conf_create,
    .decode_headers = dfp_decode_headers,
    .destroy = dfp_destroy,
};
