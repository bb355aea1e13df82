/* Upstream HTTP options: HttpProtocolOptions and the deprecated cluster fields that say the same.
 */
#include "base/arena.h"
#include "envoy/config/core/v3/protocol.pb-c.h"
#include "envoy/extensions/upstreams/http/v3/http_protocol_options.pb-c.h"
#include "envoy/extensions/upstreams/tcp/v3/tcp_protocol_options.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/transport_socket.h"
#include "proxy/config/cluster_internal.h"
#include "proxy/config/http_options.h"
#include "proxy/config/route_internal.h"

enum { HEADER_KIB = 60, HEADERS_MOST = 100, IDLE_S = 3600 };

const struct upstream_http upstream_http_default = {
    .protocol = CLUSTER_HTTP1,
    .codec = {.max_header_bytes = HEADER_KIB * 1024,
              .max_headers = HEADERS_MOST,
              .allow_absolute_url = true},
    .idle_timeout_us = (uint64_t)IDLE_S * 1000000,
};

static bool common_options(const struct conf_at *at,
                           const Envoy__Config__Core__V3__HttpProtocolOptions *m,
                           struct upstream_http *out)
{
    if (!m) return true;
    struct conf_at idle = conf_field(at, "idle_timeout"),
                   life = conf_field(at, "max_connection_duration");
    struct conf_at stream = conf_field(at, "max_stream_duration");
    bool ok = conf_duration(&idle, m->idle_timeout, out->idle_timeout_us, &out->idle_timeout_us);
    ok = conf_duration(&life, m->max_connection_duration, 0, &out->max_connection_us) && ok;
    ok = conf_duration(&stream, m->max_stream_duration, 0, &out->max_stream_us) && ok;
    if (m->max_headers_count) out->codec.max_headers = m->max_headers_count->value;
    if (m->max_response_headers_kb)
        out->codec.max_header_bytes = (size_t)m->max_response_headers_kb->value * 1024;
    if (m->max_requests_per_connection)
        out->max_requests_per_connection = m->max_requests_per_connection->value;
    out->codec.underscores = (int)m->headers_with_underscores_action;
    return ok;
}

static bool http1_options(const struct conf_at *at,
                          const Envoy__Config__Core__V3__Http1ProtocolOptions *m,
                          struct codec_options *o)
{
    if (!m) return true;
    o->override_stream_error = m->override_stream_error_on_invalid_http_message &&
                               m->override_stream_error_on_invalid_http_message->value;
    return translate_http1_options(at, m, o);
}

static bool http2_options(const struct conf_at *at,
                          const Envoy__Config__Core__V3__Http2ProtocolOptions *m,
                          struct codec_options *o)
{
    if (!m) return true;
    o->override_stream_error = m->override_stream_error_on_invalid_http_message
                                   ? m->override_stream_error_on_invalid_http_message->value
                                   : m->stream_error_on_invalid_http_messaging;
    return translate_http2_options(at, m, o);
}

static void upstream_options(struct arena *a,
                             const Envoy__Config__Core__V3__UpstreamHttpProtocolOptions *m,
                             struct upstream_http *out)
{
    if (!m) return;
    out->auto_sni = m->auto_sni;
    out->auto_san_validation = m->auto_san_validation;
    out->override_auto_sni_header = str_dup(a, str_of(m->override_auto_sni_header));
}

static bool explicit_options(
    const struct conf_at *at,
    const Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions__ExplicitHttpConfig *m,
    struct upstream_http *out)
{
    struct conf_at here;
    switch (m->protocol_config_case) {
    case ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP_PROTOCOL_OPTIONS:
        here = conf_field(at, "http_protocol_options");
        return http1_options(&here, m->http_protocol_options, &out->codec);
    case ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP2_PROTOCOL_OPTIONS:
        out->protocol = CLUSTER_HTTP2;
        here = conf_field(at, "http2_protocol_options");
        return http2_options(&here, m->http2_protocol_options, &out->codec);
    case ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG_HTTP3_PROTOCOL_OPTIONS:
        here = conf_field(at, "http3_protocol_options");
        return conf_fail(&here, "HTTP/3 is not supported");
    case ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__EXPLICIT_HTTP_CONFIG__PROTOCOL_CONFIG__NOT_SET:
        break;
    }
    return conf_fail(at, "a protocol is needed");
}

static bool both_options(const struct conf_at *at,
                         const Envoy__Config__Core__V3__Http1ProtocolOptions *h1,
                         const Envoy__Config__Core__V3__Http2ProtocolOptions *h2,
                         struct upstream_http *out)
{
    struct conf_at first = conf_field(at, "http_protocol_options"),
                   second = conf_field(at, "http2_protocol_options");
    return http1_options(&first, h1, &out->codec) && http2_options(&second, h2, &out->codec);
}

/* Envoy: ALPN decides for auto_config, so the transport socket must be able to. */
static bool auto_options(
    const struct conf_at *at,
    const Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions__AutoHttpConfig *m,
    const struct cluster *c, struct upstream_http *out)
{
    out->protocol = CLUSTER_HTTP_AUTO;
    if (!c->socket || !c->socket->secure)
        return conf_fail(at,
                         "ALPN configured for cluster %.*s which has a non-ALPN transport socket",
                         STR_ARG(c->obj.name));
    return both_options(at, m->http_protocol_options, m->http2_protocol_options, out);
}

static bool options_refuse(const struct conf_at *at,
                           const Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions *m)
{
    struct conf_at here;
    /* Envoy's default chain is the codec filter alone. */
    static const char codec[] = "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
    for (size_t i = 0; i < m->n_http_filters; i++) {
        const Google__Protobuf__Any *any = m->http_filters[i]->typed_config;
        here = conf_index(at, "http_filters", i);
        if (m->n_http_filters > 1 || !any ||
            !str_eq(proto_any_name(conf_arena(at), any), str_of(codec)))
            return conf_fail(&here, "upstream HTTP filters are not supported");
    }
    return true;
}

/* What goes before the routes' own. */
static bool policies(const struct conf_at *at,
                     const Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions *m,
                     struct upstream_http *out)
{
    size_t n = m->n_request_mirror_policies;
    struct mirror_policy *mirrors = ARENA_ARRAY(conf_arena(at), struct mirror_policy, n);
    struct conf_at retry = conf_field(at, "retry_policy");
    bool ok = translate_hash_policies(at, m->n_hash_policy, m->hash_policy, &out->hashes,
                                      &out->hash_count);
    if (m->retry_policy) out->retry = translate_retry_policy(&retry, m->retry_policy);
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, "request_mirror_policies", i);
        ok = translate_mirror(&here, m->request_mirror_policies[i], &mirrors[i]) && ok;
    }
    out->mirrors = mirrors;
    out->mirror_count = n;
    return ok && (!m->retry_policy || out->retry);
}

static bool typed_options(const struct conf_at *at,
                          const Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions *m,
                          const struct cluster *c, struct upstream_http *out)
{
    struct conf_at common = conf_field(at, "common_http_protocol_options"), here;
    bool ok = common_options(&common, m->common_http_protocol_options, out);
    upstream_options(conf_arena(at), m->upstream_http_protocol_options, out);
    ok = options_refuse(at, m) && ok;
    ok = policies(at, m, out) && ok;
    switch (m->upstream_protocol_options_case) {
    case ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_EXPLICIT_HTTP_CONFIG:
        here = conf_field(at, "explicit_http_config");
        return explicit_options(&here, m->explicit_http_config, out) && ok;
    case ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_USE_DOWNSTREAM_PROTOCOL_CONFIG:
        out->protocol = CLUSTER_HTTP_DOWNSTREAM;
        here = conf_field(at, "use_downstream_protocol_config");
        return both_options(&here, m->use_downstream_protocol_config->http_protocol_options,
                            m->use_downstream_protocol_config->http2_protocol_options, out) &&
               ok;
    case ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS_AUTO_CONFIG:
        here = conf_field(at, "auto_config");
        return auto_options(&here, m->auto_config, c, out) && ok;
    case ENVOY__EXTENSIONS__UPSTREAMS__HTTP__V3__HTTP_PROTOCOL_OPTIONS__UPSTREAM_PROTOCOL_OPTIONS__NOT_SET:
        break;
    }
    return conf_fail(at, "upstream_protocol_options is required");
}

static bool legacy_options(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                           struct upstream_http *out)
{
    struct conf_at common = conf_field(at, "common_http_protocol_options"),
                   h1 = conf_field(at, "http_protocol_options");
    struct conf_at h2 = conf_field(at, "http2_protocol_options");
    bool ok = common_options(&common, m->common_http_protocol_options, out);
    upstream_options(conf_arena(at), m->upstream_http_protocol_options, out);
    ok = http1_options(&h1, m->http_protocol_options, &out->codec) && ok;
    if (m->protocol_selection ==
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_PROTOCOL_SELECTION__USE_DOWNSTREAM_PROTOCOL)
        out->protocol = CLUSTER_HTTP_DOWNSTREAM;
    else if (m->http2_protocol_options)
        out->protocol = CLUSTER_HTTP2;
    return http2_options(&h2, m->http2_protocol_options, &out->codec) && ok;
}

static const char HTTP_OPTIONS[] = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

static bool options_entry(
    const struct conf_at *at,
    const Envoy__Config__Cluster__V3__Cluster__TypedExtensionProtocolOptionsEntry *e,
    const struct cluster *c, struct upstream_http *out)
{
    static const char TCP_OPTIONS[] = "envoy.extensions.upstreams.tcp.v3.TcpProtocolOptions";
    struct str name = e->value ? proto_any_name(conf_arena(at), e->value) : STR_NONE;
    struct proto_path path = proto_path_root(conf_path(at));
    bool http = str_eq(name, str_of(HTTP_OPTIONS)), tcp = str_eq(name, str_of(TCP_OPTIONS));
    if (!http && !tcp)
        return conf_fail(
            at,
            "Didn't find a registered network or http filter or protocol options implementation for name: '%s'",
            e->key);
    const ProtobufCMessageDescriptor *want =
        http ? &envoy__extensions__upstreams__http__v3__http_protocol_options__descriptor
             : &envoy__extensions__upstreams__tcp__v3__tcp_protocol_options__descriptor;
    const ProtobufCMessage *m =
        proto_any_unpack(conf_arena(at), e->value, want, at->cx->opts, &path, at->cx->errors);
    if (!m) return false;
    if (http)
        return typed_options(
            at,
            (const Envoy__Extensions__Upstreams__Http__V3__HttpProtocolOptions *)(const void *)m, c,
            out);
    const Envoy__Extensions__Upstreams__Tcp__V3__TcpProtocolOptions *t = (const void *)m;
    struct conf_at idle = conf_field(at, "idle_timeout");
    return conf_duration(&idle, t->idle_timeout, out->idle_timeout_us, &out->idle_timeout_us);
}

bool translate_cluster_http(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                            struct cluster *c)
{
    c->http = &upstream_http_default;
    bool legacy = m->common_http_protocol_options || m->upstream_http_protocol_options ||
                  m->http_protocol_options || m->http2_protocol_options || m->protocol_selection;
    if (!legacy && m->n_typed_extension_protocol_options == 0 && !m->max_requests_per_connection)
        return true;
    struct upstream_http *out = ARENA_NEW(conf_arena(at), struct upstream_http);
    *out = upstream_http_default;
    c->http = out;
    out->names_chosen = m->upstream_http_protocol_options != NULL;
    bool ok = true, typed = false;
    for (size_t i = 0; i < m->n_typed_extension_protocol_options; i++) {
        const Envoy__Config__Cluster__V3__Cluster__TypedExtensionProtocolOptionsEntry *e =
            m->typed_extension_protocol_options[i];
        struct conf_at here = conf_key(at, "typed_extension_protocol_options", str_of(e->key));
        typed |= str_eq(str_of(e->key), str_of(HTTP_OPTIONS));
        ok = options_entry(&here, e, c, out) && ok;
    }
    out->names_chosen |= typed;
    if (!typed)
        ok = legacy_options(at, m, out) &&
             ok; /* Envoy: the typed options replace the deprecated fields */
    if (m->max_requests_per_connection) {
        struct conf_at here = conf_field(at, "max_requests_per_connection");
        if (out->max_requests_per_connection)
            return conf_fail(
                &here,
                "Only one of max_requests_per_connection from Cluster or HttpProtocolOptions can be specified");
        out->max_requests_per_connection = m->max_requests_per_connection->value;
    }
    return ok;
}
