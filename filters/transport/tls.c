/* envoy.transport_sockets.tls: DownstreamTlsContext and UpstreamTlsContext to what proxy/api/tls.h
 * wants. */
#include "base/arena.h"
#include "base/map.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/tls.h"

#define TLS(name) Envoy__Extensions__TransportSockets__Tls__V3__##name
#define COMMON_CASE(name) \
    ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_##name
#define DOWN_CASE(name) \
    ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__DOWNSTREAM_TLS_CONTEXT__SESSION_TICKET_KEYS_TYPE_##name

static bool tls_refuse(const struct conf_at *at, bool set, const char *field, const char *why)
{
    if (!set) return true;
    struct conf_at place = conf_field(at, field);
    return conf_fail(&place, "%s", why);
}

static const struct str *tls_strings(struct arena *a, char *const *v, size_t n)
{
    struct str *out = ARENA_ARRAY(a, struct str, n);
    for (size_t i = 0; i < n; i++)
        out[i] = str_dup(a, str_of(v[i]));
    return out;
}

static struct tls_secret_name tls_secret_need(const struct conf_at *at,
                                              const TLS(SdsSecretConfig) * m)
{
    struct tls_secret_name n = {.name = str_dup(conf_arena(at), str_of(m->name))};
    n.hash = hash_str(n.name);
    conf_need(at, NEED_SECRET, n.name, m->sds_config)->stat_prefix =
        str_fmt(conf_arena(at), "sds.%.*s.", STR_ARG(n.name));
    return n;
}

/* --- the common context
 * -------------------------------------------------------------------------------------- */

static void tls_params(const struct conf_at *at, const TLS(TlsParameters) * m, struct tls_conf *c)
{
    struct arena *a = conf_arena(at);
    if (!m) return;
    c->min_version = (enum tls_version)m->tls_minimum_protocol_version;
    c->max_version = (enum tls_version)m->tls_maximum_protocol_version;
    if (m->n_compliance_policies) /* at most one, by its rule */
        c->policy = (enum tls_policy)(m->compliance_policies[0] + 1);
    c->ciphers = tls_strings(a, m->cipher_suites, m->n_cipher_suites);
    c->cipher_count = m->n_cipher_suites;
    c->curves = tls_strings(a, m->ecdh_curves, m->n_ecdh_curves);
    c->curve_count = m->n_ecdh_curves;
    c->sigalgs = tls_strings(a, m->signature_algorithms, m->n_signature_algorithms);
    c->sigalg_count = m->n_signature_algorithms;
}

static bool tls_certs(const struct conf_at *at, const TLS(CommonTlsContext) * m, struct tls_conf *c)
{
    struct arena *a = conf_arena(at);
    const struct tls_cert **certs = ARENA_ARRAY(a, const struct tls_cert *, m->n_tls_certificates);
    struct tls_secret_name *names =
        ARENA_ARRAY(a, struct tls_secret_name, m->n_tls_certificate_sds_secret_configs);
    bool ok = true;
    for (size_t i = 0; i < m->n_tls_certificates; i++) {
        struct conf_at place = conf_index(at, "tls_certificates", i);
        certs[i] = conf_tls_cert(&place, m->tls_certificates[i]);
        ok = certs[i] && ok;
    }
    for (size_t i = 0; i < m->n_tls_certificate_sds_secret_configs; i++) {
        struct conf_at place = conf_index(at, "tls_certificate_sds_secret_configs", i);
        names[i] = tls_secret_need(&place, m->tls_certificate_sds_secret_configs[i]);
    }
    c->certs = certs;
    c->cert_count = m->n_tls_certificates;
    c->cert_secrets = names;
    c->cert_secret_count = m->n_tls_certificate_sds_secret_configs;
    return ok;
}

static bool tls_combined(const struct conf_at *at,
                         const TLS(CommonTlsContext__CombinedCertificateValidationContext) * m,
                         struct tls_conf *c)
{
    struct conf_at place = conf_field(at, "default_validation_context");
    c->validation = conf_tls_validation(&place, m->default_validation_context, true);
    place = conf_field(at, "validation_context_sds_secret_config");
    c->validation_secret = tls_secret_need(&place, m->validation_context_sds_secret_config);
    return c->validation != NULL;
}

static bool tls_validation_of(const struct conf_at *at, const TLS(CommonTlsContext) * m,
                              struct tls_conf *c)
{
    struct conf_at place;
    switch (m->validation_context_type_case) {
    case COMMON_CASE(VALIDATION_CONTEXT):
        place = conf_field(at, "validation_context");
        c->validation = conf_tls_validation(&place, m->validation_context, false);
        return c->validation != NULL;
    case COMMON_CASE(VALIDATION_CONTEXT_SDS_SECRET_CONFIG):
        place = conf_field(at, "validation_context_sds_secret_config");
        c->validation_secret = tls_secret_need(&place, m->validation_context_sds_secret_config);
        return true;
    case COMMON_CASE(COMBINED_VALIDATION_CONTEXT):
        place = conf_field(at, "combined_validation_context");
        return tls_combined(&place, m->combined_validation_context, c);
    case COMMON_CASE(VALIDATION_CONTEXT_CERTIFICATE_PROVIDER):
    case COMMON_CASE(VALIDATION_CONTEXT_CERTIFICATE_PROVIDER_INSTANCE):
        return conf_fail(
            at,
            "certificate providers are not supported (validation_context_certificate_provider)");
    case COMMON_CASE(_NOT_SET):
    default: return true;
    }
}

static bool tls_common(const struct conf_at *at, const TLS(CommonTlsContext) * m,
                       struct tls_conf *c)
{
    if (!m) return true;
    bool ok = tls_refuse(at, m->custom_handshaker != NULL, "custom_handshaker",
                         "custom handshakers are not supported");
    if (c->server) {
        ok = tls_selector_create(at, m->custom_tls_certificate_selector, c) && ok;
    } else {
        ok = tls_refuse(at, m->custom_tls_certificate_selector != NULL,
                        "custom_tls_certificate_selector",
                        "is not supported for upstream connections") &&
             ok;
    }
    ok = conf_tls_key_log(at, m->key_log, &c->key_log) && ok;
    tls_params(at, m->tls_params, c);
    ok = tls_certs(at, m, c) && ok;
    ok = tls_validation_of(at, m, c) && ok;
    c->alpn = tls_strings(conf_arena(at), m->alpn_protocols, m->n_alpn_protocols);
    c->alpn_count = m->n_alpn_protocols;
    return ok;
}

/* --- downstream
 * -------------------------------------------------------------------------------------------------
 */

static bool tls_tickets_of(const struct conf_at *at, const TLS(DownstreamTlsContext) * m,
                           struct tls_conf *c)
{
    struct conf_at place;
    switch (m->session_ticket_keys_type_case) {
    case DOWN_CASE(SESSION_TICKET_KEYS):
        place = conf_field(at, "session_ticket_keys");
        c->tickets = conf_tls_tickets(&place, m->session_ticket_keys);
        return c->tickets != NULL;
    case DOWN_CASE(SESSION_TICKET_KEYS_SDS_SECRET_CONFIG):
        place = conf_field(at, "session_ticket_keys_sds_secret_config");
        c->ticket_secret = tls_secret_need(&place, m->session_ticket_keys_sds_secret_config);
        return true;
    case DOWN_CASE(DISABLE_STATELESS_SESSION_RESUMPTION):
        c->no_tickets = m->disable_stateless_session_resumption;
        return true;
    case DOWN_CASE(_NOT_SET):
    default: return true;
    }
}

static bool tls_flag(const Google__Protobuf__BoolValue *v)
{
    return v && v->value;
}

static bool tls_downstream(const struct conf_at *at, const TLS(DownstreamTlsContext) * m,
                           struct tls_conf *c)
{
    struct conf_at common = conf_field(at, "common_tls_context"),
                   timeout = conf_field(at, "session_timeout");
    uint64_t timeout_us = 0;
    c->server = true;
    c->require_client = tls_flag(m->require_client_certificate);
    c->require_sni = tls_flag(m->require_sni);
    c->full_scan = tls_flag(m->full_scan_certs_on_sni_mismatch);
    c->prefer_client_ciphers = m->prefer_client_ciphers;
    c->no_cache = m->disable_stateful_session_resumption;
    c->ocsp = (enum tls_ocsp)m->ocsp_staple_policy;
    bool ok = tls_tickets_of(at, m, c);
    ok = tls_common(&common, m->common_tls_context, c) && ok;
    ok = conf_duration(&timeout, m->session_timeout, 0, &timeout_us) && ok;
    c->session_timeout_s = timeout_us / 1000000;
    return ok && tls_conf_ready(&common, c);
}

/* --- upstream
 * ----------------------------------------------------------------------------------------------------
 */

static bool tls_upstream(const struct conf_at *at, const TLS(UpstreamTlsContext) * m,
                         struct tls_conf *c)
{
    struct conf_at common = conf_field(at, "common_tls_context"),
                   place = conf_field(at, "auto_sni_san_validation");
    c->sni = str_dup(conf_arena(at), str_of(m->sni));
    c->auto_host_sni = m->auto_host_sni;
    c->auto_sni_san = m->auto_sni_san_validation;
    c->allow_renegotiation = m->allow_renegotiation;
    c->max_sessions = m->max_session_keys ? m->max_session_keys->value : 1;
    bool ok = tls_common(&common, m->common_tls_context, c);
    if (ok && c->auto_sni_san && !c->validation && !c->validation_secret.name.len) {
        ok = conf_fail(&place,
                       "'auto_sni_san_validation' was configured without a validation context");
    }
    return ok && tls_conf_ready(&common, c);
}

extern const struct transport_socket_type tls_downstream_type, tls_upstream_type;

static const struct transport_socket *tls_create(const struct conf_at *at,
                                                 const struct ProtobufCMessage *msg,
                                                 bool downstream)
{
    struct tls_conf *c = ARENA_NEW(conf_arena(at), struct tls_conf);
    c->ts.type = downstream ? &tls_downstream_type : &tls_upstream_type;
    bool ok = downstream ? tls_downstream(at, (const TLS(DownstreamTlsContext) *)msg, c)
                         : tls_upstream(at, (const TLS(UpstreamTlsContext) *)msg, c);
    return ok ? &c->ts : NULL;
}

#define TLS_CALLBACKS                                                                          \
    .conf_create = tls_create, .open = tls_open, .handshake = tls_handshake, .read = tls_read, \
    .writev = tls_writev, .shutdown = tls_shutdown, .info = tls_info_get, .alpn = tls_alpn,    \
    .failure = tls_failure, .close = tls_close, .pending = tls_pending

const struct transport_socket_type tls_downstream_type = {
    .ext = {.name = "envoy.transport_sockets.tls",
            .config =
                &envoy__extensions__transport_sockets__tls__v3__downstream_tls_context__descriptor},
    TLS_CALLBACKS,
};
const struct transport_socket_type tls_upstream_type = {
    .ext = {.name = "envoy.transport_sockets.tls",
            .config =
                &envoy__extensions__transport_sockets__tls__v3__upstream_tls_context__descriptor},
    TLS_CALLBACKS,
};
