/* The GrpcService of a control plane: a cluster of the bootstrap, or a target of gRPC's own. */
#include "xds/control_plane.h"

#include "base/arena.h"
#include "base/rand.h"
#include "proxy/api/conf_types.h"
#include "xds/target.h"
#include "xds/xds_internal.h"

static bool source_text(const struct conf_at *at, const char *field,
                        const Envoy__Config__Core__V3__DataSource *d, const char **out)
{
    struct conf_at here = conf_field(at, field);
    struct str text = STR_NONE;
    if (!d) return true;
    if (!conf_data_source(&here, d, 0, &text)) return false;
    *out = str_z(conf_arena(at), text);
    return true;
}

/* What gRPC itself does with them; those of Google's cloud are refused. */
static bool google_channel(struct control_plane *p, const struct conf_at *at,
                           const Envoy__Config__Core__V3__GrpcService__GoogleGrpc *m)
{
    const Envoy__Config__Core__V3__GrpcService__GoogleGrpc__ChannelCredentials *k =
        m->channel_credentials;
    struct conf_at here = conf_field(at, "channel_credentials");
    if (!k) return true;
    switch (k->credential_specifier_case) {
    case ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CHANNEL_CREDENTIALS__CREDENTIAL_SPECIFIER_SSL_CREDENTIALS: {
        struct conf_at ssl = conf_field(&here, "ssl_credentials");
        p->ssl = true;
        return source_text(&ssl, "root_certs", k->ssl_credentials->root_certs, &p->roots_pem) &&
               source_text(&ssl, "cert_chain", k->ssl_credentials->cert_chain,
                           &p->cert_chain_pem) &&
               source_text(&ssl, "private_key", k->ssl_credentials->private_key, &p->key_pem);
    }
    case ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CHANNEL_CREDENTIALS__CREDENTIAL_SPECIFIER_LOCAL_CREDENTIALS:
        if (str_starts(str_of(m->target_uri), STR("unix"))) return true;
        return conf_fail(&here, "local_credentials are only for Unix sockets");
    case ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CHANNEL_CREDENTIALS__CREDENTIAL_SPECIFIER_GOOGLE_DEFAULT:
    case ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CHANNEL_CREDENTIALS__CREDENTIAL_SPECIFIER__NOT_SET:
    default: return conf_fail(&here, "credentials of Google's cloud are not supported");
    }
}

static bool google_token(const struct conf_at *at,
                         const Envoy__Config__Core__V3__GrpcService__GoogleGrpc *m,
                         const char **token)
{
    *token = NULL;
    for (size_t i = 0; i < m->n_call_credentials; i++) {
        struct conf_at here = conf_index(at, "call_credentials", i);
        const Envoy__Config__Core__V3__GrpcService__GoogleGrpc__CallCredentials *k =
            m->call_credentials[i];
        if (i > 0 ||
            k->credential_specifier_case !=
                ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CALL_CREDENTIALS__CREDENTIAL_SPECIFIER_ACCESS_TOKEN)
            return conf_fail(&here, "only one access_token is supported");
        if (!m->channel_credentials)
            return conf_fail(&here, "a token is not sent without channel_credentials");
        *token = k->access_token;
    }
    return true;
}

static bool control_plane_google(struct control_plane *p, struct arena *a,
                                 const Envoy__Config__Core__V3__GrpcService__GoogleGrpc *m,
                                 const struct conf_at *at)
{
    const char *token;
    if (!google_channel(p, at, m) || !google_token(at, m, &token)) return false;
    p->target_uri = str_z(a, str_of(m->target_uri));
    if (token)
        p->headers[p->header_count++] =
            (struct grpc_header){"authorization", str_z(a, str_fmt(a, "Bearer %s", token))};
    return true;
}

static void control_plane_headers(struct control_plane *p, struct arena *a,
                                  const Envoy__Config__Core__V3__GrpcService *service)
{
    p->headers = ARENA_ARRAY(a, struct grpc_header, service->n_initial_metadata + 2);
    for (size_t i = 0; i < service->n_initial_metadata; i++) {
        const Envoy__Config__Core__V3__HeaderValue *h = service->initial_metadata[i];
        struct str value = h->raw_value.len
                               ? str_make((const char *)h->raw_value.data, h->raw_value.len)
                               : str_of(h->value);
        p->headers[p->header_count++] =
            (struct grpc_header){str_dup_lower(a, str_of(h->key)).ptr, str_z(a, value)};
    }
}

static bool control_plane_service(struct control_plane *p, struct arena *a,
                                  const Envoy__Config__Core__V3__GrpcService *service,
                                  const struct conf_at *at)
{
    if (service->target_specifier_case ==
        ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC) {
        const Envoy__Config__Core__V3__GrpcService__EnvoyGrpc *e = service->envoy_grpc;
        struct conf_at name_at = conf_field(at, "envoy_grpc.cluster_name");
        if (at->cx->cluster_known &&
            !at->cx->cluster_known(at->cx->cluster_known_arg, str_of(e->cluster_name)))
            return conf_fail_cluster(&name_at, "no static cluster is named",
                                     str_of(e->cluster_name));
        p->cluster = str_z(a, str_of(e->cluster_name));
        if (e->authority && e->authority[0]) p->authority = str_z(a, str_of(e->authority));
        return true;
    }
    if (service->target_specifier_case !=
        ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__TARGET_SPECIFIER_GOOGLE_GRPC)
        return conf_fail(at, "needs envoy_grpc or google_grpc");
    const Envoy__Config__Core__V3__GrpcService__GoogleGrpc *google = service->google_grpc;
    struct conf_at google_at = conf_field(at, "google_grpc");
    return control_plane_google(p, a, google, &google_at);
}

bool control_plane_read(struct control_plane *p, struct arena *a,
                        const Envoy__Config__Core__V3__ApiConfigSource *api,
                        const struct conf_at *at)
{
    if (api->n_cluster_names) {
        struct conf_at names_at = conf_field(at, "cluster_names");
        return conf_fail(&names_at, "is for REST only");
    }
    if (api->n_grpc_services != 1) {
        struct conf_at services_at = conf_field(at, "grpc_services");
        return conf_fail(&services_at, "needs exactly one service, has %zu", api->n_grpc_services);
    }
    struct conf_at service_at = conf_index(at, "grpc_services", 0);
    control_plane_headers(p, a, api->grpc_services[0]);
    return control_plane_service(p, a, api->grpc_services[0], &service_at);
}

const char *control_plane_name(const struct control_plane *p)
{
    return p->cluster ? p->cluster : p->target_uri;
}

struct grpc_stream *control_plane_open(struct xds *x, const struct control_plane *p,
                                       const char *method, const struct grpc_stream_events *events,
                                       void *arg, struct arena *a, struct str *why)
{
    struct grpc_target t = {
        .authority = p->authority, .headers = p->headers, .header_count = p->header_count};
    if (p->cluster && !target_of_cluster(x, str_of(p->cluster), a, &t, why)) return NULL;
    if (!p->cluster) {
        t.address = p->target_uri;
        t.tls = t.tls_by_name = p->ssl;
        t.roots_pem = p->roots_pem;
        t.cert_chain_pem = p->cert_chain_pem;
        t.key_pem = p->key_pem;
    }
    if (!x->grpc) x->grpc = grpc_client_new(xds_loop(x));
    return grpc_stream_open(x->grpc, &t, method, events, arg);
}

uint64_t control_plane_back_off_us(unsigned *failures)
{
    enum { BASE_US = 500000, MOST_US = 30000000, DOUBLINGS_MOST = 16, LEAST_US = 1000 };
    struct rng rng;
    rng_init(&rng, 0);
    uint64_t most = (uint64_t)BASE_US << (*failures < DOUBLINGS_MOST ? *failures : DOUBLINGS_MOST);
    (*failures)++;
    return rng_below(&rng, most < MOST_US ? most : MOST_US) + LEAST_US;
}
