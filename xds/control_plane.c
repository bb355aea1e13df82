/* The GrpcService of a control plane: a cluster of the bootstrap, or a target of gRPC's own. */
#include "xds/control_plane.h"

#include "base/arena.h"
#include "base/rand.h"
#include "xds/target.h"
#include "xds/xds_internal.h"

static void control_plane_headers(struct control_plane *p, struct arena *a,
                                  const Envoy__Config__Core__V3__GrpcService *service)
{
    p->headers = ARENA_ARRAY(a, struct grpc_header, service->n_initial_metadata + 1);
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
            return conf_fail(&name_at, "no static cluster is named '%s'", e->cluster_name);
        p->cluster = str_z(a, str_of(e->cluster_name));
        if (e->authority && e->authority[0]) p->authority = str_z(a, str_of(e->authority));
        return true;
    }
    if (service->target_specifier_case !=
        ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__TARGET_SPECIFIER_GOOGLE_GRPC)
        return conf_fail(at, "needs envoy_grpc or google_grpc");
    const Envoy__Config__Core__V3__GrpcService__GoogleGrpc *google = service->google_grpc;
    struct conf_at google_at = conf_field(at, "google_grpc");
    if (google->channel_credentials || google->n_call_credentials ||
        google->n_channel_credentials_plugin)
        return conf_fail(
            &google_at,
            "credentials are not supported; use envoy_grpc with a cluster that has a transport_socket");
    p->target_uri = str_z(a, str_of(google->target_uri));
    return true;
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
    if (!p->cluster) t.address = p->target_uri;
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
