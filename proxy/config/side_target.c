/* Where side calls go: GrpcService and HttpUri, translated in this one place. */
#include "base/arena.h"
#include "base/map.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/grpc_service.pb-c.h"
#include "envoy/config/core/v3/http_uri.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/side_call.h"
#include "proxy/config/grpc_client.h"
#include "proxy/net/socket.h"

static bool retries_refused(const struct conf_at *at, const void *policy)
{
    struct conf_at here = conf_field(at, "retry_policy");
    return !policy || conf_fail(&here, "calls of extensions are not retried");
}

static void target_cluster(struct arena *a, struct side_target *t, const char *name)
{
    t->cluster = str_dup(a, str_of(name));
    t->cluster_hash = hash_str(t->cluster);
    t->local_ip = socket_machine_ip(a);
}

const struct header_change *conf_header_values(const struct conf_at *at, const char *field,
                                               size_t n,
                                               Envoy__Config__Core__V3__HeaderValue *const *from,
                                               bool *ok)
{
    struct arena *a = conf_arena(at);
    Envoy__Config__Core__V3__HeaderValueOption **v =
        ARENA_ARRAY(a, Envoy__Config__Core__V3__HeaderValueOption *, n);
    for (size_t i = 0; i < n; i++) {
        v[i] = ARENA_NEW(a, Envoy__Config__Core__V3__HeaderValueOption);
        envoy__config__core__v3__header_value_option__init(v[i]);
        v[i]->header = from[i];
        v[i]->append_action =
            ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__OVERWRITE_IF_EXISTS_OR_ADD;
    }
    *ok = true;
    return conf_header_change(at, field, n, v, NULL, 0, NULL, ok);
}

static bool target_envoy(const struct conf_at *at,
                         const Envoy__Config__Core__V3__GrpcService__EnvoyGrpc *m,
                         enum side_cluster which, struct side_target *t)
{
    struct arena *a = conf_arena(at);
    const struct conf_cx *cx = at->cx;
    target_cluster(a, t, m->cluster_name);
    t->authority = *m->authority ? str_dup(a, str_of(m->authority)) : t->cluster;
    t->plain = m->skip_envoy_headers;
    if (m->max_receive_message_length) t->answer_most = m->max_receive_message_length->value;
    if (which == SIDE_CLUSTER_STATIC && cx->cluster_known &&
        !cx->cluster_known(cx->cluster_known_arg, t->cluster)) {
        struct conf_at name = conf_field(at, "cluster_name");
        return conf_fail_cluster(&name, "Unknown gRPC client cluster", t->cluster);
    }
    return retries_refused(at, m->retry_policy);
}

/* What goes with each call: the configured pairs, and the token of a client's credentials. */
static bool target_metadata(const struct conf_at *at, const Envoy__Config__Core__V3__GrpcService *m,
                            struct str token, struct side_target *t)
{
    struct arena *a = conf_arena(at);
    size_t n = m->n_initial_metadata;
    Envoy__Config__Core__V3__HeaderValue **v =
        ARENA_ARRAY(a, Envoy__Config__Core__V3__HeaderValue *, n + 1);
    for (size_t i = 0; i < n; i++)
        v[i] = m->initial_metadata[i];
    if (token.ptr) {
        v[n] = ARENA_NEW(a, Envoy__Config__Core__V3__HeaderValue);
        envoy__config__core__v3__header_value__init(v[n]);
        v[n]->key = str_z(a, STR("authorization"));
        v[n++]->value = str_z(a, token);
    }
    bool ok;
    t->metadata = conf_header_values(at, "initial_metadata", n, v, &ok);
    return ok;
}

const struct side_target *conf_grpc_service(const struct conf_at *at,
                                            const Envoy__Config__Core__V3__GrpcService *m,
                                            enum side_cluster which)
{
    struct side_target *t = ARENA_NEW(conf_arena(at), struct side_target);
    struct conf_at timeout = conf_field(at, "timeout"), envoy = conf_field(at, "envoy_grpc"),
                   google = conf_field(at, "google_grpc");
    bool ok = conf_duration(&timeout, m->timeout, 0, &t->timeout_us);
    struct str token = STR_NONE;
    if (m->target_specifier_case ==
        ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__TARGET_SPECIFIER_ENVOY_GRPC)
        ok = target_envoy(&envoy, m->envoy_grpc, which, t) && ok;
    else
        ok = conf_grpc_client(&google, m->google_grpc, t, &token) && ok;
    ok = target_metadata(at, m, token, t) && ok;
    ok = retries_refused(at, m->retry_policy) && ok;
    return ok ? t : NULL;
}

/* Envoy: "scheme://host/path" or "host/path". */
static void uri_cut(struct arena *a, struct str uri, struct side_target *t)
{
    size_t scheme = str_find(uri, STR("://"));
    if (scheme != SIZE_MAX) uri = str_sub(uri, scheme + 3, SIZE_MAX);
    size_t slash = str_find_char(uri, '/');
    t->authority = str_dup(a, str_sub(uri, 0, slash == SIZE_MAX ? uri.len : slash));
    t->path = slash == SIZE_MAX ? STR("/") : str_dup(a, str_sub(uri, slash, SIZE_MAX));
}

const struct side_target *conf_http_uri(const struct conf_at *at,
                                        const Envoy__Config__Core__V3__HttpUri *m)
{
    struct arena *a = conf_arena(at);
    struct side_target *t = ARENA_NEW(a, struct side_target);
    struct conf_at timeout = conf_field(at, "timeout");
    target_cluster(a, t, m->cluster);
    uri_cut(a, str_of(m->uri), t);
    return conf_duration(&timeout, m->timeout, 0, &t->timeout_us) ? t : NULL;
}
