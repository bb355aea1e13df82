/* From a static cluster to a gRPC target: endpoints, and the TLS context with certificates from
 * files, inline or SDS. */
#include "xds/target.h"

#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf_types.h"
#include "proxy/upstream/cluster_manager.h"

#define TLS(name) Envoy__Extensions__TransportSockets__Tls__V3__##name

/* --- endpoints
 * ------------------------------------------------------------------------------------------------------
 */

/* A list of addresses of one family; the first decides, because gRPC takes one. */
struct target_list {
    const char *scheme;
    struct str text;
};

static void target_add(struct target_list *l, const struct addr *addr, struct arena *a)
{
    const char *kind = !addr_is_ip(addr) ? "unix:" : addr_is_v4(addr) ? "ipv4:" : "ipv6:";
    struct str one = addr_text(addr, a);
    if (one.len && one.ptr[0] == '@') kind = "unix-abstract:", one = str_sub(one, 1, one.len);
    if (l->scheme && strcmp(l->scheme, kind) != 0) return;
    l->text = l->scheme ? str_fmt(a, "%.*s,%.*s", STR_ARG(l->text), STR_ARG(one))
                        : str_fmt(a, "%s%.*s", kind, STR_ARG(one));
    l->scheme = kind;
}

/* "ipv4:1.2.3.4:5,1.2.3.5:5", "ipv6:...", "unix:...", or "dns:///name:port" when an endpoint is a
 * name. A static cluster that is active has its endpoints as hosts only. */
static bool target_address(struct xds *x, struct arena *a, const struct cluster *c, struct str *out)
{
    struct target_list list = {0};
    const struct host_set *hosts =
        c->endpoints ? NULL : cluster_manager_hosts(x->env.clusters, c->obj.name);
    for (uint32_t i = 0; hosts && i < hosts->host_count; i++)
        target_add(&list, &hosts->hosts[i]->addr, a);
    for (size_t i = 0; c->endpoints && i < c->endpoints->count; i++) {
        for (size_t k = 0; k < c->endpoints->v[i].count; k++) {
            const struct endpoint *e = &c->endpoints->v[i].v[k];
            if (!e->addr.len) {
                *out = str_fmt(a, "dns:///%.*s:%u", STR_ARG(e->dns), e->port);
                return true;
            }
            target_add(&list, &e->addr, a);
        }
    }
    *out = list.text;
    return list.text.len > 0;
}

/* --- secrets
 * ---------------------------------------------------------------------------------------------------------
 */

static const TLS(Secret) *
    target_secret(struct xds *x, const char *name, struct arena *a, struct errors *errors)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    for (size_t i = 0; s && i < s->n_secrets; i++)
        if (strcmp(s->secrets[i]->name, name) == 0) return s->secrets[i];
    const struct resource *r = resource_find(x, XDS_SECRET, str_of(name));
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    if (r && r->present)
        return (const void *)proto_unpack(a, kind_secret.desc, r->bytes, &lenient, NULL, errors);
    (void)errors_add(errors, STR_NONE, "the secret \"%s\" has not come yet", name);
    return NULL;
}

static bool target_text(const struct conf_at *at, const Envoy__Config__Core__V3__DataSource *d,
                        const char **out)
{
    struct str text = STR_NONE;
    if (d && !conf_data_source(at, d, 0, &text)) return false;
    if (text.len) *out = str_z(conf_arena(at), text);
    return true;
}

static bool target_identity(struct xds *x, const struct conf_at *at,
                            const TLS(CommonTlsContext) * m, struct grpc_target *t)
{
    const TLS(TlsCertificate) *cert = m->n_tls_certificates ? m->tls_certificates[0] : NULL;
    if (m->n_tls_certificate_sds_secret_configs) {
        const TLS(Secret) *s = target_secret(x, m->tls_certificate_sds_secret_configs[0]->name,
                                             conf_arena(at), at->cx->errors);
        if (!s) return false;
        if (s->type_case !=
            ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SECRET__TYPE_TLS_CERTIFICATE)
            return conf_fail(at, "the secret \"%s\" is no tls_certificate", s->name);
        cert = s->tls_certificate;
    }
    if (!cert) return true;
    if (cert->pkcs12 || cert->password)
        return conf_fail(
            at, "pkcs12 and password are not supported for the connection to a control plane");
    return target_text(at, cert->certificate_chain, &t->cert_chain_pem) &&
           target_text(at, cert->private_key, &t->key_pem);
}

/* --- whom we trust
 * -----------------------------------------------------------------------------------------------------
 */

struct target_san {
    int type; /* SubjectAltNameMatcher.SanType; 0: any */
    struct string_matcher matcher;
};
struct target_judge {
    struct grpc_judge judge;
    struct arena *arena; /* of this struct, too */
    struct target_san *sans;
    size_t count;
};

static bool target_name_matches(const struct target_san *s, const struct grpc_peer_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        if (string_match(&s->matcher, str_of(names->v[i]))) return true;
    return false;
}

static bool target_judge_check(const struct grpc_judge *judge, const struct grpc_peer *peer)
{
    const struct target_judge *j =
        (const struct target_judge *)(const void *)judge; /* judge is first */
    for (size_t i = 0; i < j->count; i++) {
        const struct target_san *s = &j->sans[i];
        const struct grpc_peer_names *const lists[] = {NULL, &peer->email, &peer->dns, &peer->uri,
                                                       &peer->ip};
        for (size_t k = 1; k < ARRAY_LEN(lists); k++)
            if ((s->type == 0 || (size_t)s->type == k) && target_name_matches(s, lists[k]))
                return true;
    }
    return false;
}

static void target_judge_free(struct grpc_judge *judge)
{
    struct target_judge *j = CONTAINER_OF(judge, struct target_judge, judge);
    struct arena *a = j->arena;
    arena_free(&a);
}

/* The SAN matchers live longer than the call: in an arena of their own that the connection frees.
 */
static bool target_sans(const struct conf_at *at, const TLS(CertificateValidationContext) * v,
                        struct grpc_target *t)
{
    size_t n = v->n_match_typed_subject_alt_names + v->n_match_subject_alt_names;
    if (!n) return true;
    struct arena *a = arena_new("xds judge", 512);
    struct target_judge *j = ARENA_NEW(a, struct target_judge);
    struct conf_cx cx = *at->cx;
    cx.arena = a;
    struct conf_at own = conf_root(&cx);
    *j = (struct target_judge){.judge = {target_judge_check, target_judge_free},
                               .arena = a,
                               .sans = ARENA_ARRAY(a, struct target_san, n)};
    bool ok = true;
    for (size_t i = 0; i < v->n_match_typed_subject_alt_names && ok; i++) {
        const TLS(SubjectAltNameMatcher) *m = v->match_typed_subject_alt_names[i];
        j->sans[j->count].type = (int)m->san_type;
        ok = conf_string_matcher(&own, m->matcher, &j->sans[j->count++].matcher);
    }
    for (size_t i = 0; i < v->n_match_subject_alt_names && ok; i++)
        ok = conf_string_matcher(&own, v->match_subject_alt_names[i], &j->sans[j->count++].matcher);
    if (ok)
        t->judge = &j->judge;
    else
        arena_free(&a);
    return ok;
}

static bool target_validation(const struct conf_at *at, const TLS(CertificateValidationContext) * v,
                              struct grpc_target *t)
{
    if (!v) return true;
    /* What gRPC cannot check must not be left out silently. */
    if (v->n_verify_certificate_hash || v->n_verify_certificate_spki || v->crl ||
        v->allow_expired_certificate || v->custom_validator_config || v->max_verify_depth)
        return conf_fail(
            at,
            "verify_certificate_hash, verify_certificate_spki, crl, allow_expired_certificate, custom_validator_config and "
            "max_verify_depth are not supported for the connection to a control plane");
    if (v->trust_chain_verification !=
            ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__CERTIFICATE_VALIDATION_CONTEXT__TRUST_CHAIN_VERIFICATION__ACCEPT_UNTRUSTED &&
        !target_text(at, v->trusted_ca, &t->roots_pem))
        return false;
    return t->judge || target_sans(at, v, t);
}

static bool target_secret_validation(struct xds *x, const struct conf_at *at, const char *name,
                                     struct grpc_target *t)
{
    const TLS(Secret) *s = target_secret(x, name, conf_arena(at), at->cx->errors);
    if (!s) return false;
    if (s->type_case !=
        ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SECRET__TYPE_VALIDATION_CONTEXT)
        return conf_fail(at, "the secret \"%s\" is no validation_context", s->name);
    return target_validation(at, s->validation_context, t);
}

static bool target_trust(struct xds *x, const struct conf_at *at, const TLS(CommonTlsContext) * m,
                         struct grpc_target *t)
{
    switch (m->validation_context_type_case) {
    case ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT:
        return target_validation(at, m->validation_context, t);
    case ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_SDS_SECRET_CONFIG:
        return target_secret_validation(x, at, m->validation_context_sds_secret_config->name, t);
    case ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_COMBINED_VALIDATION_CONTEXT:
        return target_validation(at, m->combined_validation_context->default_validation_context,
                                 t) &&
               target_secret_validation(
                   x, at,
                   m->combined_validation_context->validation_context_sds_secret_config->name, t);
    case ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE__NOT_SET:
        return true; /* no validation at all, as configured */
    case ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_CERTIFICATE_PROVIDER:
    case ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT_CERTIFICATE_PROVIDER_INSTANCE:
    default: return conf_fail(at, "certificate providers are not supported");
    }
}

static bool target_tls(struct xds *x, const struct conf_at *at,
                       const Envoy__Config__Core__V3__TransportSocket *socket,
                       struct grpc_target *t)
{
    struct arena *a = conf_arena(at);
    struct str type =
        socket && socket->typed_config ? proto_any_name(a, socket->typed_config) : STR_NONE;
    if (!type.len ||
        str_eq(
            type,
            str_of(
                envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor.name)))
        return true;
    const ProtobufCMessageDescriptor *desc =
        &envoy__extensions__transport_sockets__tls__v3__upstream_tls_context__descriptor;
    if (!str_eq(type, str_of(desc->name)))
        return conf_fail(at, "the transport socket %.*s is not supported for a control plane",
                         STR_ARG(type));
    const TLS(UpstreamTlsContext) *m = (const void *)proto_any_unpack(
        a, socket->typed_config, desc, at->cx->opts, NULL, at->cx->errors);
    if (!m) return false;
    if (m->auto_sni_san_validation)
        return conf_fail(
            at,
            "auto_sni_san_validation is not supported for the connection to a control plane: name it in "
            "match_typed_subject_alt_names");
    t->tls = true;
    if (m->sni[0]) t->sni = str_z(a, str_of(m->sni));
    return !m->common_tls_context || (target_identity(x, at, m->common_tls_context, t) &&
                                      target_trust(x, at, m->common_tls_context, t));
}

/* --- the whole
 * ------------------------------------------------------------------------------------------------------------
 */

static const Envoy__Config__Cluster__V3__Cluster *target_message(const struct xds *x,
                                                                 struct str name)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    for (size_t i = 0; s && i < s->n_clusters; i++)
        if (str_eq(str_of(s->clusters[i]->name), name)) return s->clusters[i];
    return NULL;
}

bool target_of_cluster(struct xds *x, struct str cluster, struct arena *a, struct grpc_target *t,
                       struct str *why)
{
    const struct cluster *c = cluster_manager_find(x->env.clusters, cluster);
    const Envoy__Config__Cluster__V3__Cluster *m = target_message(x, cluster);
    struct errors errors = {.arena = a};
    struct conf_cx cx = {.arena = a,
                         .errors = &errors,
                         .registry = x->env.registry,
                         .rt = x->env.rt,
                         .opts = &x->env.static_opts};
    struct conf_at at = conf_root(&cx);
    struct str address;
    if (!c || !m || !target_address(x, a, c, &address)) {
        *why = STR("it has no endpoint");
        return false;
    }
    t->address = str_z(a, address);
    if (!t->authority)
        t->authority =
            str_z(a, cluster); /* Envoy: the :authority of envoy_grpc is the cluster's name */
    if (target_tls(x, &at, m->transport_socket, t)) return true;
    if (t->judge) t->judge->free(t->judge);
    t->judge = NULL;
    *why = errors_text(&errors, a, STR_NONE);
    return false;
}
