/* Options of a connection manager: times, codec, what happens to requests. */
#include "base/arena.h"
#include "envoy/config/core/v3/protocol.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/decode.h"
#include "envoy/extensions/request_id/uuid/v3/uuid.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/early_headers.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/original_ip.h"
#include "proxy/config/hcm_internal.h"
#include "proxy/config/http_options.h"
#include "proxy/config/socket.h"

#define HCM(name) \
    Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager##name
#define HCM_XFCC_JSON \
    ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__HTTP_CONNECTION_MANAGER__FORWARD_CLIENT_CERT_FORMAT__JSON

enum { SECOND_US = 1000000, DEFAULT_HEADER_KIB = 60, DEFAULT_HEADERS = 100, PERCENT_100 = 10000 };

struct hcm_time {
    const char *field;
    const Google__Protobuf__Duration *value;
    uint64_t fallback_us;
    uint64_t *out;
};

static bool hcm_time_list(const struct conf_at *at, const struct hcm_time *v, size_t n)
{
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at place = conf_field(at, v[i].field);
        ok &= conf_duration(&place, v[i].value, v[i].fallback_us, v[i].out);
    }
    return ok;
}

static bool hcm_common_options(const struct conf_at *at,
                               const Envoy__Config__Core__V3__HttpProtocolOptions *m,
                               struct hcm_conf *c)
{
    c->idle_timeout_us = (uint64_t)3600 * SECOND_US;
    if (!m) return true;
    const struct hcm_time times[] = {
        {"idle_timeout", m->idle_timeout, c->idle_timeout_us, &c->idle_timeout_us},
        {"max_connection_duration", m->max_connection_duration, 0, &c->max_connection_us},
        {"max_stream_duration", m->max_stream_duration, 0, &c->max_stream_us},
    };
    if (m->max_headers_count) c->codec_options.max_headers = m->max_headers_count->value;
    if (m->max_requests_per_connection)
        c->max_requests_per_connection = m->max_requests_per_connection->value;
    c->codec_options.underscores = (int)m->headers_with_underscores_action;
    return hcm_time_list(at, times, sizeof times / sizeof *times);
}

bool hcm_times(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    const Google__Protobuf__Duration *log_interval = m->access_log_flush_interval;
    if (m->access_log_options && m->access_log_options->access_log_flush_interval) {
        log_interval = m->access_log_options->access_log_flush_interval;
    }
    const struct hcm_time times[] = {
        {"stream_idle_timeout", m->stream_idle_timeout, (uint64_t)300 * SECOND_US,
         &c->stream_idle_timeout_us},
        {"stream_flush_timeout", m->stream_flush_timeout, 0, &c->stream_flush_timeout_us},
        {"request_timeout", m->request_timeout, 0, &c->request_timeout_us},
        {"request_headers_timeout", m->request_headers_timeout, 0, &c->request_headers_timeout_us},
        {"drain_timeout", m->drain_timeout, (uint64_t)5 * SECOND_US, &c->drain_timeout_us},
        {"delayed_close_timeout", m->delayed_close_timeout, SECOND_US, &c->delayed_close_us},
        {"access_log_options", log_interval, 0, &c->access_log_interval_us},
    };
    struct conf_at common = conf_field(at, "common_http_protocol_options");
    bool ok = hcm_common_options(&common, m->common_http_protocol_options, c);
    ok = hcm_time_list(at, times, sizeof times / sizeof *times) && ok;
    if (!m->stream_flush_timeout) c->stream_flush_timeout_us = c->stream_idle_timeout_us;
    return ok;
}

/* --- codec
 * ----------------------------------------------------------------------------------------------------------------
 */

static uint32_t value_or(const Google__Protobuf__UInt32Value *v, uint32_t fallback)
{
    return v ? v->value : fallback;
}

bool hcm_codec_options(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    struct codec_options *o = &c->codec_options;
    o->max_header_bytes = (size_t)value_or(m->max_request_headers_kb, DEFAULT_HEADER_KIB) * 1024;
    o->max_headers = DEFAULT_HEADERS;
    o->allow_absolute_url = true;
    if (m->codec_type == HCM_PB(HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP3)) {
        struct conf_at place = conf_field(at, "codec_type");
        return conf_fail(&place, "HTTP3 is not supported");
    }
    c->codec = m->codec_type == HCM_PB(HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP1) ? HCM_CODEC_H1
               : m->codec_type == HCM_PB(HTTP_CONNECTION_MANAGER__CODEC_TYPE__HTTP2)
                   ? HCM_CODEC_H2
                   : HCM_CODEC_AUTO;
    const Google__Protobuf__BoolValue *keep = m->stream_error_on_invalid_http_message;
    const Envoy__Config__Core__V3__Http1ProtocolOptions *h1 = m->http_protocol_options;
    if (h1 && h1->override_stream_error_on_invalid_http_message)
        keep = h1->override_stream_error_on_invalid_http_message;
    c->stream_error_on_bad_message = keep && keep->value;
    o->override_stream_error = c->stream_error_on_bad_message;
    struct conf_at first = conf_field(at, "http_protocol_options"),
                   second = conf_field(at, "http2_protocol_options");
    bool ok = translate_http1_options(&first, m->http_protocol_options, o);
    return translate_http2_options(&second, m->http2_protocol_options, o) && ok;
}

/* --- requests
 * ---------------------------------------------------------------------------------------------------------------
 */

static bool is_true(const Google__Protobuf__BoolValue *v, bool fallback)
{
    return v ? v->value : fallback;
}

static bool hcm_internal_addresses(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    if (!m->internal_address_config) return true;
    struct conf_at place = conf_field(at, "internal_address_config");
    size_t n = m->internal_address_config->n_cidr_ranges;
    struct cidr *ranges = ARENA_ARRAY(conf_arena(at), struct cidr, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at range = conf_index(&place, "cidr_ranges", i);
        ok &= translate_cidr(&range, m->internal_address_config->cidr_ranges[i], &ranges[i]);
    }
    c->internal_ranges = ranges;
    c->internal_range_count = n;
    c->internal_unix = m->internal_address_config->unix_sockets;
    c->internal_configured = true;
    return ok;
}

static bool hcm_request_id(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    c->generate_request_id = is_true(m->generate_request_id, true);
    c->preserve_request_id = m->preserve_external_request_id;
    c->request_id_in_response = m->always_set_request_id_in_response;
    c->request_id_tracing = true;
    if (!m->request_id_extension || !m->request_id_extension->typed_config) return true;
    struct conf_at extension = conf_field(at, "request_id_extension"),
                   place = conf_field(&extension, "typed_config");
    const Google__Protobuf__Any *any = m->request_id_extension->typed_config;
    const ProtobufCMessageDescriptor *uuid =
        &envoy__extensions__request_id__uuid__v3__uuid_request_id_config__descriptor;
    struct str name = proto_any_name(conf_arena(at), any);
    if (!str_eq(name, str_of(uuid->name))) {
        return conf_fail(&place, "request id extension \"%.*s\" is not supported", STR_ARG(name));
    }
    struct proto_path root = proto_path_root(conf_path(&place));
    const ProtobufCMessage *msg =
        proto_any_unpack(conf_arena(at), any, uuid, at->cx->opts, &root, at->cx->errors);
    if (!msg) return false;
    const Envoy__Extensions__RequestId__Uuid__V3__UuidRequestIdConfig *u = (const void *)msg;
    c->request_id_tracing = is_true(u->pack_trace_reason, true);
    return true;
}

static uint32_t hcm_percent(const Envoy__Type__V3__Percent *p)
{
    if (!p) return PERCENT_100;
    double v = p->value < 0 ? 0 : p->value > 100 ? 100 : p->value;
    return (uint32_t)(v * 100);
}

static void hcm_tracing(const Hcm *m, struct hcm_conf *c)
{
    if (!m->tracing) return;
    c->tracing = true;
    c->sample_client = hcm_percent(m->tracing->client_sampling);
    c->sample_random = hcm_percent(m->tracing->random_sampling);
    c->sample_overall = hcm_percent(m->tracing->overall_sampling);
}

static struct hcm_xfcc_conf xfcc_of(int how, const HCM(__SetCurrentClientCertDetails) * m)
{
    struct hcm_xfcc_conf x = {.how = (enum hcm_xfcc)how};
    if (!m) return x;
    x.subject = is_true(m->subject, false);
    x.cert = m->cert;
    x.chain = m->chain;
    x.dns = m->dns;
    x.uri = m->uri;
    x.issuer = m->issuer;
    x.json = m->format == HCM_XFCC_JSON;
    return x;
}

static const void *xfcc_action(const struct conf_at *at, struct str name,
                               const Google__Protobuf__Any *any, void *arg)
{
    (void)arg;
    const HCM(__ForwardClientCertConfig) *m = (const void *)conf_match_action(
        at, name, any,
        &envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager__forward_client_cert_config__descriptor);
    if (!m) return NULL;
    struct hcm_xfcc_conf *x = ARENA_NEW(conf_arena(at), struct hcm_xfcc_conf);
    *x = xfcc_of((int)m->forward_client_cert_details, m->set_current_client_cert_details);
    return x;
}

static bool hcm_xfcc(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    struct conf_at place = conf_field(at, "forward_client_cert_matcher");
    struct match_tree_use use = {.place = MATCH_IN_HTTP, .action = xfcc_action};
    c->xfcc = xfcc_of((int)m->forward_client_cert_details, m->set_current_client_cert_details);
    if (!m->forward_client_cert_matcher) return true;
    c->xfcc_tree = conf_match_tree(&place, m->forward_client_cert_matcher, &use);
    return c->xfcc_tree != NULL;
}

static bool hcm_host_and_path(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    c->normalize_path = is_true(m->normalize_path, false);
    c->merge_slashes = m->merge_slashes;
    c->escaped_slashes = (enum hcm_escaped_slashes)m->path_with_escaped_slashes_action;
    c->strip_matching_port = m->strip_matching_host_port;
    c->strip_any_port = m->strip_port_mode_case && m->strip_any_host_port;
    c->strip_trailing_dot = m->strip_trailing_host_dot;
    if (!c->strip_matching_port || !c->strip_any_port) return true;
    struct conf_at place = conf_field(at, "strip_any_host_port");
    return conf_fail(&place, "strip_matching_host_port and strip_any_host_port cannot both be set");
}

/* Envoy: extensions stand instead of the older fields, not beside them. */
static bool hcm_original_ip(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    size_t n = m->n_original_ip_detection_extensions;
    struct hcm_original_ip *v = ARENA_ARRAY(conf_arena(at), struct hcm_original_ip, n);
    struct conf_at field = conf_field(at, "original_ip_detection_extensions");
    bool ok = true;
    if (n && c->use_remote_address)
        ok = conf_fail(&field,
                       "Original IP detection extensions and use_remote_address may not be mixed");
    if (n && c->xff_hops)
        ok = conf_fail(
            &field, "Original IP detection extensions and xff_num_trusted_hops may not be mixed");
    for (size_t i = 0; i < n; i++) {
        const Envoy__Config__Core__V3__TypedExtensionConfig *x =
            m->original_ip_detection_extensions[i];
        struct conf_at place = conf_index(at, "original_ip_detection_extensions", i),
                       config = conf_field(&place, "typed_config");
        const ProtobufCMessage *msg;
        v[i].type = (const struct original_ip_type *)conf_extension(
            &place, EXTENSION_ORIGINAL_IP, str_of(x->name), x->typed_config, &msg);
        v[i].conf = v[i].type ? v[i].type->conf_create(&config, msg) : NULL;
        ok &= v[i].conf != NULL;
    }
    c->original_ip = v;
    c->original_ip_count = n;
    return ok;
}

static bool hcm_early_headers(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    size_t n = m->n_early_header_mutation_extensions;
    struct hcm_early_headers *v = ARENA_ARRAY(conf_arena(at), struct hcm_early_headers, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        const Envoy__Config__Core__V3__TypedExtensionConfig *x =
            m->early_header_mutation_extensions[i];
        struct conf_at place = conf_index(at, "early_header_mutation_extensions", i),
                       config = conf_field(&place, "typed_config");
        const ProtobufCMessage *msg;
        v[i].type = (const struct early_headers_type *)conf_extension(
            &place, EXTENSION_EARLY_HEADERS, str_of(x->name), x->typed_config, &msg);
        v[i].conf = v[i].type ? v[i].type->conf_create(&config, msg) : NULL;
        ok &= v[i].conf != NULL;
    }
    c->early = v;
    c->early_count = n;
    return ok;
}

bool hcm_request_options(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    struct arena *a = conf_arena(at);
    c->use_remote_address = is_true(m->use_remote_address, false);
    c->xff_hops = m->xff_num_trusted_hops;
    c->skip_xff_append = m->skip_xff_append;
    c->append_x_forwarded_port = m->append_x_forwarded_port;
    c->add_user_agent = is_true(m->add_user_agent, false);
    c->via = str_dup(a, str_of(m->via));
    c->proxy_100_continue = m->proxy_100_continue;
    c->h1_safe_max_connection = m->http1_safe_max_connection_duration;
    c->server_name =
        m->server_name && m->server_name[0] ? str_dup(a, str_of(m->server_name)) : STR("envoy");
    c->server_header = (enum hcm_server_header)m->server_header_transformation;
    if (m->scheme_header_transformation) {
        c->scheme_match_upstream = m->scheme_header_transformation->match_upstream;
        if (m->scheme_header_transformation->transformation_case) {
            c->scheme_overwrite =
                str_dup(a, str_of(m->scheme_header_transformation->scheme_to_overwrite));
        }
    }
    hcm_tracing(m, c);
    bool ok = hcm_internal_addresses(at, m, c);
    ok &= hcm_xfcc(at, m, c);
    ok &= hcm_request_id(at, m, c);
    ok &= hcm_original_ip(at, m, c);
    ok &= hcm_early_headers(at, m, c);
    return hcm_host_and_path(at, m, c) && ok;
}
