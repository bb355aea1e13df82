/* The cluster of a GoogleGrpc: one host by address or by name, HTTP/2, TLS as its credentials say.
 */
#include "proxy/config/grpc_client.h"

#include <string.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/grpc_service.pb-c.h"
#include "envoy/config/core/v3/protocol.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint_components.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/tls.pb-c.h"
#include "envoy/type/matcher/v3/string.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "proto/decode.h"
#include "proto/equal.h"
#include "proxy/api/side_call.h"
#include "proxy/config/cluster.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster_manager.h"

typedef Envoy__Config__Core__V3__GrpcService__GoogleGrpc GoogleGrpc;
typedef Envoy__Config__Cluster__V3__Cluster Cluster;
typedef Envoy__Extensions__TransportSockets__Tls__V3__CommonTlsContext CommonTls;
typedef Envoy__Extensions__TransportSockets__Tls__V3__CertificateValidationContext Validation;

/* gRPC's own: a port where none is named, roots where none are given, patience for a connect. */
#define CLIENT_ROOTS "/etc/ssl/certs/ca-certificates.crt"
enum { CLIENT_PORT = 443, CLIENT_CONNECT_S = 20 };

/* --- the address
 * --------------------------------------------------------------------------------------------------
 */
struct client_address {
    struct str host; /* a name or an IP address; empty: a path */
    uint16_t port;
    struct str path; /* of a Unix socket, "@name" for an abstract one */
    bool ip;
};

static bool host_read(const struct conf_at *at, struct str text, struct client_address *out)
{
    struct str host = text, port;
    bool bare_v6 =
        text.len && text.ptr[0] != '[' && str_find_char(text, ':') != SIZE_MAX &&
        str_find_char(str_sub(text, str_find_char(text, ':') + 1, SIZE_MAX), ':') != SIZE_MAX;
    out->port = CLIENT_PORT;
    if (!bare_v6 && str_cut_last(text, ':', &host, &port) && !str_ends(text, STR("]")) &&
        !str_to_u16(port, &out->port))
        return conf_fail(at, "\"%.*s\" is no port", STR_ARG(port));
    if (str_ends(text, STR("]"))) host = text;
    if (str_starts(host, STR("[")) && str_ends(host, STR("]")))
        host = str_sub(host, 1, host.len - 2);
    struct addr literal;
    out->ip = addr_parse_ip(host, out->port, &literal);
    out->host = host;
    return host.len > 0 || conf_fail(at, "a host is needed");
}

/* gRPC: "dns:///host:port", "ipv4:1.2.3.4:80", "unix:path", "unix:///path", "unix-abstract:name".
 */
static bool address_read(const struct conf_at *at, struct str uri, struct client_address *out)
{
    static const char *const hosts[] = {"dns:///", "dns:", "ipv4:", "ipv6:", "passthrough:///"};
    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        struct str scheme = str_of(hosts[i]);
        if (str_starts(uri, scheme)) return host_read(at, str_sub(uri, scheme.len, SIZE_MAX), out);
    }
    if (str_starts(uri, STR("unix-abstract:"))) {
        struct str name = str_sub(uri, strlen("unix-abstract:"), SIZE_MAX);
        out->path = str_cat(conf_arena(at), STR("@"), name);
        return true;
    }
    if (str_starts(uri, STR("unix:"))) {
        struct str path = str_sub(uri, strlen("unix:"), SIZE_MAX);
        out->path = str_starts(path, STR("//")) ? str_sub(path, 2, SIZE_MAX) : path;
        return out->path.len > 0 || conf_fail(at, "a path is needed");
    }
    if (str_find(uri, STR("://")) != SIZE_MAX)
        return conf_fail(at, "the scheme of \"%.*s\" is not supported", STR_ARG(uri));
    return host_read(at, uri, out);
}

static Envoy__Config__Core__V3__Address *address_message(struct arena *a,
                                                         const struct client_address *x)
{
    Envoy__Config__Core__V3__Address *m = ARENA_NEW(a, Envoy__Config__Core__V3__Address);
    envoy__config__core__v3__address__init(m);
    if (x->path.len) {
        m->pipe = ARENA_NEW(a, Envoy__Config__Core__V3__Pipe);
        envoy__config__core__v3__pipe__init(m->pipe);
        m->pipe->path = str_z(a, x->path);
        m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE;
        return m;
    }
    Envoy__Config__Core__V3__SocketAddress *s =
        ARENA_NEW(a, Envoy__Config__Core__V3__SocketAddress);
    envoy__config__core__v3__socket_address__init(s);
    s->address = str_z(a, x->host);
    s->port_specifier_case = ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
    s->port_value = x->port;
    m->socket_address = s;
    m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS;
    return m;
}

static void cluster_host(struct arena *a, Cluster *c, const struct client_address *x)
{
    Envoy__Config__Endpoint__V3__ClusterLoadAssignment *la =
        ARENA_NEW(a, Envoy__Config__Endpoint__V3__ClusterLoadAssignment);
    Envoy__Config__Endpoint__V3__LocalityLbEndpoints **l =
        ARENA_NEW(a, Envoy__Config__Endpoint__V3__LocalityLbEndpoints *);
    Envoy__Config__Endpoint__V3__LbEndpoint **e =
        ARENA_NEW(a, Envoy__Config__Endpoint__V3__LbEndpoint *);
    *l = ARENA_NEW(a, Envoy__Config__Endpoint__V3__LocalityLbEndpoints);
    *e = ARENA_NEW(a, Envoy__Config__Endpoint__V3__LbEndpoint);
    envoy__config__endpoint__v3__cluster_load_assignment__init(la);
    envoy__config__endpoint__v3__locality_lb_endpoints__init(*l);
    envoy__config__endpoint__v3__lb_endpoint__init(*e);
    (*e)->host_identifier_case = ENVOY__CONFIG__ENDPOINT__V3__LB_ENDPOINT__HOST_IDENTIFIER_ENDPOINT;
    (*e)->endpoint = ARENA_NEW(a, Envoy__Config__Endpoint__V3__Endpoint);
    envoy__config__endpoint__v3__endpoint__init((*e)->endpoint);
    (*e)->endpoint->address = address_message(a, x);
    (*l)->lb_endpoints = e;
    (*l)->n_lb_endpoints = 1;
    la->cluster_name = c->name;
    la->endpoints = l;
    la->n_endpoints = 1;
    c->load_assignment = la;
    c->cluster_discovery_type_case =
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__CLUSTER_DISCOVERY_TYPE_TYPE;
    c->type = x->path.len || x->ip
                  ? ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__STATIC
                  : ENVOY__CONFIG__CLUSTER__V3__CLUSTER__DISCOVERY_TYPE__LOGICAL_DNS;
}

/* --- credentials
 * --------------------------------------------------------------------------------------------------
 */

/* gRPC: the certificate must be of the host that was asked for. */
static void validation_name(struct arena *a, Validation *v, const struct client_address *x)
{
    typedef Envoy__Extensions__TransportSockets__Tls__V3__SubjectAltNameMatcher San;
    San **list = ARENA_NEW(a, San *), *san = ARENA_NEW(a, San);
    envoy__extensions__transport_sockets__tls__v3__subject_alt_name_matcher__init(san);
    san->san_type =
        x->ip
            ? ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__IP_ADDRESS
            : ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__SUBJECT_ALT_NAME_MATCHER__SAN_TYPE__DNS;
    san->matcher = ARENA_NEW(a, Envoy__Type__Matcher__V3__StringMatcher);
    envoy__type__matcher__v3__string_matcher__init(san->matcher);
    san->matcher->match_pattern_case =
        ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT;
    san->matcher->exact = str_z(a, x->host);
    *list = san;
    v->match_typed_subject_alt_names = list;
    v->n_match_typed_subject_alt_names = 1;
}

static CommonTls *tls_common(
    struct arena *a, const struct client_address *x,
    const Envoy__Config__Core__V3__GrpcService__GoogleGrpc__SslCredentials *m)
{
    typedef Envoy__Extensions__TransportSockets__Tls__V3__TlsCertificate Certificate;
    CommonTls *c = ARENA_NEW(a, CommonTls);
    Validation *v = ARENA_NEW(a, Validation);
    Envoy__Config__Core__V3__DataSource *roots = m->root_certs;
    envoy__extensions__transport_sockets__tls__v3__common_tls_context__init(c);
    envoy__extensions__transport_sockets__tls__v3__certificate_validation_context__init(v);
    if (!roots) {
        roots = ARENA_NEW(a, Envoy__Config__Core__V3__DataSource);
        envoy__config__core__v3__data_source__init(roots);
        roots->specifier_case = ENVOY__CONFIG__CORE__V3__DATA_SOURCE__SPECIFIER_FILENAME;
        roots->filename = str_z(a, STR(CLIENT_ROOTS));
    }
    v->trusted_ca = roots;
    if (x->host.len) validation_name(a, v, x);
    c->validation_context_type_case =
        ENVOY__EXTENSIONS__TRANSPORT_SOCKETS__TLS__V3__COMMON_TLS_CONTEXT__VALIDATION_CONTEXT_TYPE_VALIDATION_CONTEXT;
    c->validation_context = v;
    char **alpn = ARENA_NEW(a, char *);
    *alpn = str_z(a, STR("h2"));
    c->alpn_protocols = alpn;
    c->n_alpn_protocols = 1;
    if (!m->cert_chain && !m->private_key) return c;
    Certificate **list = ARENA_NEW(a, Certificate *);
    *list = ARENA_NEW(a, Certificate);
    envoy__extensions__transport_sockets__tls__v3__tls_certificate__init(*list);
    (*list)->certificate_chain = m->cert_chain;
    (*list)->private_key = m->private_key;
    c->tls_certificates = list;
    c->n_tls_certificates = 1;
    return c;
}

static void cluster_tls(struct arena *a, Cluster *c, const struct client_address *x,
                        const Envoy__Config__Core__V3__GrpcService__GoogleGrpc__SslCredentials *m)
{
    Envoy__Extensions__TransportSockets__Tls__V3__UpstreamTlsContext *u =
        ARENA_NEW(a, Envoy__Extensions__TransportSockets__Tls__V3__UpstreamTlsContext);
    envoy__extensions__transport_sockets__tls__v3__upstream_tls_context__init(u);
    u->common_tls_context = tls_common(a, x, m);
    if (x->host.len && !x->ip) u->sni = str_z(a, x->host);
    c->transport_socket = ARENA_NEW(a, Envoy__Config__Core__V3__TransportSocket);
    envoy__config__core__v3__transport_socket__init(c->transport_socket);
    c->transport_socket->name = str_z(a, STR("envoy.transport_sockets.tls"));
    c->transport_socket->config_type_case =
        ENVOY__CONFIG__CORE__V3__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG;
    c->transport_socket->typed_config = proto_any_pack(a, &u->base);
}

/* NULL credentials are none: bytes as they are. */
static bool client_credentials(const struct conf_at *at, const GoogleGrpc *m,
                               const struct client_address *x, Cluster *c)
{
    const Envoy__Config__Core__V3__GrpcService__GoogleGrpc__ChannelCredentials *k =
        m->channel_credentials;
    struct conf_at here = conf_field(at, "channel_credentials"), place;
    if (!k) return true;
    switch (k->credential_specifier_case) {
    case ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CHANNEL_CREDENTIALS__CREDENTIAL_SPECIFIER_SSL_CREDENTIALS:
        cluster_tls(conf_arena(at), c, x, k->ssl_credentials);
        return true;
    case ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CHANNEL_CREDENTIALS__CREDENTIAL_SPECIFIER_LOCAL_CREDENTIALS:
        place = conf_field(&here, "local_credentials");
        return x->path.len > 0 || /* Envoy: with others every call fails */
               conf_fail(&place, "only for Unix sockets");
    case ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CHANNEL_CREDENTIALS__CREDENTIAL_SPECIFIER_GOOGLE_DEFAULT:
        place = conf_field(&here, "google_default");
        return conf_fail(&place, "credentials of Google's cloud are not supported");
    case ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CHANNEL_CREDENTIALS__CREDENTIAL_SPECIFIER__NOT_SET:
    default: return conf_fail(&here, "a kind of credentials is needed");
    }
}

/* Metadata are formats: a percent sign is itself. */
static struct str token_text(struct arena *a, struct str token)
{
    struct sb out = {0};
    sb_add(&out, STR("Bearer "));
    for (size_t i = 0; i < token.len; i++) {
        if (token.ptr[i] == '%') sb_char(&out, '%');
        sb_char(&out, token.ptr[i]);
    }
    struct str text = str_dup(a, sb_str(&out));
    sb_release(&out);
    return text;
}

static bool client_token(const struct conf_at *at, const GoogleGrpc *m, struct str *token)
{
    bool ok = true;
    *token = STR_NONE;
    for (size_t i = 0; i < m->n_call_credentials; i++) {
        struct conf_at here = conf_index(at, "call_credentials", i);
        const Envoy__Config__Core__V3__GrpcService__GoogleGrpc__CallCredentials *k =
            m->call_credentials[i];
        if (k->credential_specifier_case !=
            ENVOY__CONFIG__CORE__V3__GRPC_SERVICE__GOOGLE_GRPC__CALL_CREDENTIALS__CREDENTIAL_SPECIFIER_ACCESS_TOKEN)
            ok = conf_fail(&here, "only access_token is supported");
        else if (i > 0)
            ok = conf_fail(&here, "one token is enough");
        else if (!m->channel_credentials)
            ok = conf_fail(&here, "a token is not sent without channel_credentials");
        else
            *token = token_text(conf_arena(at), str_of(k->access_token));
    }
    return ok;
}

/* --- the cluster
 * --------------------------------------------------------------------------------------------------
 */

/* One cluster for all who name the same peer with the same credentials. */
struct grpc_client {
    struct runtime *rt;
    size_t users;
    struct str name; /* behind the struct */
};

static void grpc_client_leave(void *arg)
{
    struct grpc_client *g = arg;
    if (--g->users) return;
    if (g->rt->clusters) (void)cluster_manager_remove(g->rt->clusters, g->name);
    (void)map_remove(&g->rt->grpc_clients, g->name);
    if (g->rt->grpc_clients.count == 0) map_release(&g->rt->grpc_clients);
    mem_free(g);
}

static void grpc_client_join(struct runtime *rt, struct arena *a, struct str name)
{
    struct grpc_client *g = map_get(&rt->grpc_clients, name);
    if (!g) {
        g = mem_alloc(sizeof(*g) + name.len + 1);
        memcpy(g + 1, name.ptr, name.len);
        g->name = str_make((char *)(g + 1), name.len);
        g->rt = rt;
        (void)map_put(&rt->grpc_clients, g->name, g);
    }
    g->users++;
    arena_on_free(a, grpc_client_leave, g);
}

static bool client_cluster(const struct conf_at *at, Cluster *m)
{
    const struct conf_cx *cx = at->cx;
    struct runtime *rt = cx->rt;
    struct str name = str_of(m->name);
    if (rt && map_get(&rt->grpc_clients, name)) {
        grpc_client_join(rt, conf_arena(at), name);
        return true;
    }
    struct errors errors = {.arena = conf_arena(at)};
    struct conf_cx own = {.arena = arena_new("cluster", 0),
                          .errors = &errors,
                          .registry = cx->registry,
                          .rt = rt,
                          .root = name,
                          .validate_only = cx->validate_only,
                          .added_via_api = true, /* nobody's start waits for it */
                          .opts = cx->opts};
    struct cluster *c = translate_cluster(&own, m);
    if (!c) {
        arena_free(&own.arena);
        return conf_fail(at, "%.*s", STR_ARG(errors_text(&errors, conf_arena(at), STR_NONE)));
    }
    if (cx->validate_only || !rt || !rt->clusters) {
        struct obj *o = &c->obj;
        obj_unref(&o);
        return true;
    }
    (void)cluster_manager_set(rt->clusters, c);
    grpc_client_join(rt, conf_arena(at), name);
    return true;
}

bool conf_grpc_client(const struct conf_at *at, const GoogleGrpc *m, struct side_target *t,
                      struct str *token)
{
    struct arena *a = conf_arena(at);
    struct conf_at uri = conf_field(at, "target_uri");
    struct client_address x = {0};
    Cluster *c = ARENA_NEW(a, Cluster);
    envoy__config__cluster__v3__cluster__init(c);
    if (!address_read(&uri, str_of(m->target_uri), &x)) return false;
    t->cluster = str_fmt(a, "google_grpc.%s.%016llx", m->stat_prefix,
                         (unsigned long long)proto_hash(&m->base));
    t->cluster_hash = hash_str(t->cluster);
    t->authority =
        x.path.len
            ? STR("localhost")
            : str_fmt(a, x.ip && str_find_char(x.host, ':') != SIZE_MAX ? "[%.*s]:%u" : "%.*s:%u",
                      STR_ARG(x.host), (unsigned)x.port);
    t->bare = true;
    c->name = str_z(a, t->cluster);
    c->alt_stat_name = str_z(a, str_fmt(a, "google_grpc.%s", m->stat_prefix));
    c->connect_timeout = ARENA_NEW(a, Google__Protobuf__Duration);
    google__protobuf__duration__init(c->connect_timeout);
    c->connect_timeout->seconds = CLIENT_CONNECT_S;
    c->http2_protocol_options = ARENA_NEW(a, Envoy__Config__Core__V3__Http2ProtocolOptions);
    envoy__config__core__v3__http2_protocol_options__init(c->http2_protocol_options);
    cluster_host(a, c, &x);
    bool ok = client_credentials(at, m, &x, c);
    ok = client_token(at, m, token) && ok;
    return ok && client_cluster(at, c);
}
