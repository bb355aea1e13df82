/* envoy.transport_sockets.starttls: plain bytes until a network filter of the connection asks for
 * TLS (conn_start_secure), as in protocols where the peers agree on it first. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/transport_sockets/starttls/v3/starttls.pb-c.h"
#include "filters/transport/wrapped.h"
#include "proxy/api/conf_types.h"

#define START(name) Envoy__Extensions__TransportSockets__Starttls__V3__##name

struct starttls {
    struct wrapped w; /* plain until started */
    const struct transport_socket *secure;
    struct conn *conn;
    bool server;
};

extern const struct transport_socket_type tls_downstream_type, tls_upstream_type;
extern const struct transport_socket_type starttls_downstream_type, starttls_upstream_type;

static const struct transport_socket *starttls_create(const struct conf_at *at,
                                                      const struct ProtobufCMessage *msg,
                                                      bool downstream)
{
    struct wrapped_socket *s = ARENA_NEW(conf_arena(at), struct wrapped_socket);
    struct conf_at place = conf_field(at, "tls_socket_config");
    s->ts.type = downstream ? &starttls_downstream_type : &starttls_upstream_type;
    s->ts.protocol = STR("starttls");
    if (downstream) {
        const START(StartTlsConfig) *m = (const void *)msg;
        s->inner = tls_downstream_type.conf_create(
            &place, (const struct ProtobufCMessage *)&m->tls_socket_config->base, true);
    } else {
        const START(UpstreamStartTlsConfig) *m = (const void *)msg;
        s->inner = tls_upstream_type.conf_create(
            &place, (const struct ProtobufCMessage *)&m->tls_socket_config->base, false);
    }
    return s->inner ? &s->ts : NULL;
}

static void *starttls_open(const struct transport_socket *ts, struct conn *c, int fd, bool server,
                           const struct transport_ask *ask)
{
    (void)ask;
    struct starttls *t = mem_alloc(sizeof(*t));
    t->w.fd = fd;
    t->secure = ((const struct wrapped_socket *)(const void *)ts)->inner;
    t->conn = c;
    t->server = server;
    return t;
}

static bool starttls_start(void *arg)
{
    struct starttls *t = arg;
    if (!t->secure) return false;
    wrapped_open(&t->w, t->secure, t->conn, t->w.fd, t->server, NULL);
    t->secure = NULL;
    return true;
}

#define STARTTLS_CALLBACKS                                                                 \
    .conf_create = starttls_create, .open = starttls_open, .handshake = wrapped_handshake, \
    .read = wrapped_read, .writev = wrapped_writev, .shutdown = wrapped_shutdown,          \
    .info = wrapped_info, .alpn = wrapped_alpn, .failure = wrapped_failure,                \
    .close = wrapped_close, .pending = wrapped_pending, .start_secure = starttls_start

const struct transport_socket_type starttls_downstream_type = {
    .ext = {.name = "envoy.transport_sockets.starttls",
            .config =
                &envoy__extensions__transport_sockets__starttls__v3__start_tls_config__descriptor},
    STARTTLS_CALLBACKS,
};
const struct transport_socket_type starttls_upstream_type = {
    .ext =
        {.name = "envoy.transport_sockets.starttls",
         .config =
             &envoy__extensions__transport_sockets__starttls__v3__upstream_start_tls_config__descriptor},
    STARTTLS_CALLBACKS,
};
