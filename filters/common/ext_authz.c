/* The question and the answer of external authorization. */
#include "filters/common/ext_authz.h"

#include "base/arena.h"
#include "base/errors.h"
#include "base/text.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/service/auth/v3/attribute_context.pb-c.h"
#include "envoy/service/auth/v3/external_auth.pb-c.h"
#include "filters/common/struct_message.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/side_call.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"
#include "proxy/runtime/runtime.h"

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

/* Envoy: a label that is no text is empty. */
struct authz_labels authz_labels_create(const struct conf_at *at, struct str key)
{
    struct authz_labels out = {0};
    struct arena *a = conf_arena(at);
    const struct value *all = at->cx->rt ? at->cx->rt->node_metadata : NULL;
    const struct value *l = all && key.len ? value_field(all, key) : NULL;
    if (!l || l->kind != VALUE_STRUCT) return out;
    struct str *names = ARENA_ARRAY(a, struct str, l->u.fields.count),
               *values = ARENA_ARRAY(a, struct str, l->u.fields.count);
    for (size_t i = 0; i < l->u.fields.count; i++) {
        const struct value_field *f = &l->u.fields.fields[i];
        names[i] = str_of(str_z(a, f->name));
        values[i] = str_of(str_z(a, f->value.kind == VALUE_STRING ? f->value.u.text : STR_NONE));
    }
    out = (struct authz_labels){.names = names, .values = values, .count = l->u.fields.count};
    return out;
}

void authz_request_labels(struct arena *a, Envoy__Service__Auth__V3__CheckRequest *r,
                          const struct authz_labels *l)
{
    Peer *p = r->attributes->destination;
    p->labels =
        ARENA_ARRAY(a, Envoy__Service__Auth__V3__AttributeContext__Peer__LabelsEntry *, l->count);
    p->n_labels = l->count;
    for (size_t i = 0; i < l->count; i++) {
        p->labels[i] = ARENA_NEW(a, Envoy__Service__Auth__V3__AttributeContext__Peer__LabelsEntry);
        envoy__service__auth__v3__attribute_context__peer__labels_entry__init(p->labels[i]);
        p->labels[i]->key = str_z(a, l->names[i]);
        p->labels[i]->value = str_z(a, l->values[i]);
    }
}

static bool metadata_has(const Envoy__Config__Core__V3__Metadata *m, struct str ns)
{
    for (size_t i = 0; i < m->n_filter_metadata; i++) {
        if (str_eq(str_of(m->filter_metadata[i]->key), ns)) return true;
    }
    return false;
}

static void metadata_add(struct arena *a, Envoy__Config__Core__V3__Metadata *out,
                         const struct metadata *m, const struct str *namespaces, size_t count)
{
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

void authz_request_metadata(struct arena *a, Envoy__Service__Auth__V3__CheckRequest *r,
                            const struct metadata *m, const struct str *namespaces, size_t count)
{
    metadata_add(a, r->attributes->metadata_context, m, namespaces, count);
}

void authz_request_route_metadata(struct arena *a, Envoy__Service__Auth__V3__CheckRequest *r,
                                  const struct metadata *m, const struct str *namespaces,
                                  size_t count)
{
    Attributes *x = r->attributes;
    if (!x->route_metadata_context) {
        x->route_metadata_context = ARENA_NEW(a, Envoy__Config__Core__V3__Metadata);
        envoy__config__core__v3__metadata__init(x->route_metadata_context);
    }
    metadata_add(a, x->route_metadata_context, m, namespaces, count);
}

/* Envoy: bytes that are no UTF-8 become "!", so that the message can be sent. */
static struct str utf8_marked(struct arena *a, struct str s)
{
    char *out = str_z(a, s);
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)out[i] >= 0x80 || !out[i]) out[i] = '!';
    }
    return str_make(out, s.len);
}

/* --- requests
 * ------------------------------------------------------------------------------------------------------
 */
typedef Envoy__Service__Auth__V3__AttributeContext__HttpRequest HttpRequest;
typedef Envoy__Service__Auth__V3__AttributeContext__HttpRequest__HeadersEntry HeadersEntry;

static void http_header(struct arena *a, HttpRequest *m, struct str name, struct str value)
{
    HeadersEntry *e = ARENA_NEW(a, HeadersEntry);
    envoy__service__auth__v3__attribute_context__http_request__headers_entry__init(e);
    e->key = str_z(a, name);
    e->value = utf8_valid(value) ? str_z(a, value) : str_z(a, utf8_marked(a, value));
    m->headers[m->n_headers++] = e;
}

/* Values of one name are joined, as a map has room for one. */
static void http_headers(struct arena *a, HttpRequest *m, const struct authz_http *x)
{
    const struct header *h;
    m->headers = ARENA_ARRAY(a, HeadersEntry *, x->headers->live + 1);
    for (uint32_t it = 0; (h = headers_next(x->headers, &it));) {
        bool first = true;
        for (size_t i = 0; i < m->n_headers && first; i++)
            first = !str_eq(str_of(m->headers[i]->key), h->name);
        if (first && (!x->wanted || x->wanted(x->arg, h->name)))
            http_header(a, m, h->name, headers_all(x->headers, h->name, a));
    }
    if (x->has_body)
        http_header(a, m, STR("x-envoy-auth-partial-body"),
                    x->partial ? STR("true") : STR("false"));
}

static void http_body(struct arena *a, HttpRequest *m, const struct authz_http *x)
{
    if (!x->has_body) return;
    if (x->as_bytes) {
        struct str copy = str_dup(a, x->body);
        m->raw_body.data = (uint8_t *)(uintptr_t)copy.ptr;
        m->raw_body.len = copy.len;
    } else {
        struct str text = utf8_valid(x->body) ? x->body : utf8_marked(a, x->body);
        m->body = str_z(a, text);
    }
}

static char *http_text(struct arena *a, const struct headers *h, enum header_id id)
{
    return str_z(a, headers_get(h, id));
}

void authz_request_http(struct arena *a, Envoy__Service__Auth__V3__CheckRequest *r,
                        const struct authz_http *x)
{
    Envoy__Service__Auth__V3__AttributeContext__Request *q =
        ARENA_NEW(a, Envoy__Service__Auth__V3__AttributeContext__Request);
    HttpRequest *m = ARENA_NEW(a, HttpRequest);
    static const char *const protocols[] = {[HTTP_PROTOCOL_NONE] = "",
                                            [HTTP_PROTOCOL_10] = "HTTP/1.0",
                                            [HTTP_PROTOCOL_11] = "HTTP/1.1",
                                            [HTTP_PROTOCOL_2] = "HTTP/2",
                                            [HTTP_PROTOCOL_3] = "HTTP/3"};
    envoy__service__auth__v3__attribute_context__request__init(q);
    envoy__service__auth__v3__attribute_context__http_request__init(m);
    r->attributes->request = q;
    q->http = m;
    q->time = ARENA_NEW(a, Google__Protobuf__Timestamp);
    google__protobuf__timestamp__init(q->time);
    q->time->seconds = (int64_t)(x->info->start_wall_us / 1000000);
    q->time->nanos = (int32_t)(x->info->start_wall_us % 1000000 * 1000);
    m->id = str_z(a, str_fmt(a, "%llu", (unsigned long long)x->info->stream_id));
    m->method = http_text(a, x->headers, HDR_METHOD);
    m->path = http_text(a, x->headers, HDR_PATH);
    m->host = http_text(a, x->headers, HDR_AUTHORITY);
    m->scheme = http_text(a, x->headers, HDR_SCHEME);
    m->protocol = str_z(a, str_of(protocols[x->info->protocol]));
    m->size = (int64_t)x->info->bytes_received;
    r->attributes->source->service =
        str_z(a, headers_find(x->headers, STR("x-envoy-downstream-service-cluster")));
    http_headers(a, m, x);
    http_body(a, m, x);
}

void authz_request_extension(struct arena *a, Envoy__Service__Auth__V3__CheckRequest *r,
                             struct str key, struct str value)
{
    typedef Envoy__Service__Auth__V3__AttributeContext__ContextExtensionsEntry Entry;
    Attributes *x = r->attributes;
    Entry **v = ARENA_ARRAY(a, Entry *, x->n_context_extensions + 1);
    for (size_t i = 0; i < x->n_context_extensions; i++)
        v[i] = x->context_extensions[i];
    Entry *e = ARENA_NEW(a, Entry);
    envoy__service__auth__v3__attribute_context__context_extensions_entry__init(e);
    e->key = str_z(a, key);
    e->value = str_z(a, value);
    v[x->n_context_extensions++] = e;
    x->context_extensions = v;
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
