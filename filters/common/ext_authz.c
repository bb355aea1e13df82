/* The question and the answer of external authorization. */
#include "filters/common/ext_authz.h"

#include "base/arena.h"
#include "base/errors.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/service/auth/v3/attribute_context.pb-c.h"
#include "envoy/service/auth/v3/external_auth.pb-c.h"
#include "filters/common/struct_message.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/metadata.h"
#include "proxy/api/side_call.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"

typedef Envoy__Service__Auth__V3__AttributeContext Attributes;
typedef Envoy__Service__Auth__V3__AttributeContext__Peer Peer;
typedef Envoy__Config__Core__V3__Address Address;

const struct str authz_method = {"/envoy.service.auth.v3.Authorization/Check", 42};

static Address *address_message(struct arena *a, const struct addr *x)
{
    Address *m = ARENA_NEW(a, Address);
    envoy__config__core__v3__address__init(m);
    if (!addr_is_ip(x)) {
        m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE;
        m->pipe = ARENA_NEW(a, Envoy__Config__Core__V3__Pipe);
        envoy__config__core__v3__pipe__init(m->pipe);
        m->pipe->path = str_z(a, addr_text(x, a));
        return m;
    }
    char ip[ADDR_TEXT_MAX];
    Envoy__Config__Core__V3__SocketAddress *s =
        ARENA_NEW(a, Envoy__Config__Core__V3__SocketAddress);
    envoy__config__core__v3__socket_address__init(s);
    s->address = str_z(a, str_make(ip, addr_format_ip(x, ip)));
    s->port_specifier_case = ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
    s->port_value = addr_port(x);
    m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS;
    m->socket_address = s;
    return m;
}

/* Envoy: the first URI name, else the first DNS name, else the subject. A name with a NUL inside is
 * nobody's: cut there it would be another's. */
static struct str principal(const struct tls_cert_info *c)
{
    struct str name = c->uri_san.count   ? c->uri_san.v[0]
                      : c->dns_san.count ? c->dns_san.v[0]
                                         : c->subject;
    return str_find_char(name, '\0') == SIZE_MAX ? name : STR_NONE;
}

static Peer *peer_message(struct arena *a, const struct addr *x, const struct tls_cert_info *cert)
{
    Peer *p = ARENA_NEW(a, Peer);
    envoy__service__auth__v3__attribute_context__peer__init(p);
    p->address = address_message(a, x);
    if (cert) p->principal = str_z(a, principal(cert));
    return p;
}

Envoy__Service__Auth__V3__CheckRequest *authz_request_new(struct arena *a,
                                                          const struct authz_peers *p)
{
    const struct conn_info *c = p->conn;
    const struct tls_info *t = c->tls;
    Envoy__Service__Auth__V3__CheckRequest *r =
        ARENA_NEW(a, Envoy__Service__Auth__V3__CheckRequest);
    Attributes *x = ARENA_NEW(a, Attributes);
    envoy__service__auth__v3__check_request__init(r);
    envoy__service__auth__v3__attribute_context__init(x);
    r->attributes = x;
    x->source = peer_message(a, &c->remote, t ? &t->peer : NULL);
    x->destination = peer_message(a, &c->local, t ? &t->local : NULL);
    if (p->certificate && t)
        x->source->certificate = str_z(a, tls_info_text(t, TLS_TEXT_PEER_PEM, a));
    if (p->session) {
        x->tls_session = ARENA_NEW(a, Envoy__Service__Auth__V3__AttributeContext__TLSSession);
        envoy__service__auth__v3__attribute_context__tlssession__init(x->tls_session);
        x->tls_session->sni = str_z(a, c->sni.len ? c->sni : t ? t->sni : STR_NONE);
    }
    x->metadata_context = ARENA_NEW(a, Envoy__Config__Core__V3__Metadata);
    envoy__config__core__v3__metadata__init(x->metadata_context);
    return r;
}

static bool metadata_has(const Envoy__Config__Core__V3__Metadata *m, struct str ns)
{
    for (size_t i = 0; i < m->n_filter_metadata; i++) {
        if (str_eq(str_of(m->filter_metadata[i]->key), ns)) return true;
    }
    return false;
}

void authz_request_metadata(struct arena *a, Envoy__Service__Auth__V3__CheckRequest *r,
                            const struct metadata *m, const struct str *namespaces, size_t count)
{
    Envoy__Config__Core__V3__Metadata *out = r->attributes->metadata_context;
    if (!m || count == 0) return;
    Envoy__Config__Core__V3__Metadata__FilterMetadataEntry **v =
        ARENA_ARRAY(a, Envoy__Config__Core__V3__Metadata__FilterMetadataEntry *,
                    out->n_filter_metadata + count);
    for (size_t i = 0; i < out->n_filter_metadata; i++)
        v[i] = out->filter_metadata[i];
    out->filter_metadata = v;
    for (size_t i = 0; i < count; i++) {
        const struct value *s = value_field(&m->root, namespaces[i]);
        if (!s || s->kind != VALUE_STRUCT || metadata_has(out, namespaces[i])) continue;
        Envoy__Config__Core__V3__Metadata__FilterMetadataEntry *e =
            ARENA_NEW(a, Envoy__Config__Core__V3__Metadata__FilterMetadataEntry);
        envoy__config__core__v3__metadata__filter_metadata_entry__init(e);
        e->key = str_z(a, namespaces[i]);
        e->value = struct_message(a, s);
        v[out->n_filter_metadata++] = e;
    }
}

struct str authz_request_pack(struct arena *a, const Envoy__Service__Auth__V3__CheckRequest *r)
{
    return proto_pack(a, &r->base);
}

enum authz_verdict authz_response(struct arena *a, const struct side_end *e,
                                  const Envoy__Service__Auth__V3__CheckResponse **out)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors errors = {.arena = a};
    *out = NULL;
    if (e->failure != SIDE_OK || e->grpc_status != 0) return AUTHZ_ERROR;
    const Envoy__Service__Auth__V3__CheckResponse *r =
        (const void *)proto_unpack(a, &envoy__service__auth__v3__check_response__descriptor,
                                   e->message, &lenient, NULL, &errors);
    if (!r) return AUTHZ_ERROR;
    *out = r;
    if (!r->status || r->status->code == 0) return AUTHZ_OK;
    return r->http_response_case ==
                   ENVOY__SERVICE__AUTH__V3__CHECK_RESPONSE__HTTP_RESPONSE_ERROR_RESPONSE
               ? AUTHZ_ERROR
               : AUTHZ_DENIED;
}
