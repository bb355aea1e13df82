/* Transport sockets around another one: everything goes to the inner one. */
#include "filters/transport/wrapped.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/must.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "proxy/api/conf_types.h"

bool wrapped_create(const struct conf_at *at, const Envoy__Config__Core__V3__TransportSocket *m,
                    bool downstream, struct wrapped_socket *out)
{
    const Google__Protobuf__Any *any =
        m->config_type_case == ENVOY__CONFIG__CORE__V3__TRANSPORT_SOCKET__CONFIG_TYPE_TYPED_CONFIG
            ? m->typed_config
            : NULL;
    const struct ProtobufCMessage *msg;
    const struct extension *e = conf_extension(at,
                                               downstream ? EXTENSION_TRANSPORT_SOCKET_DOWNSTREAM
                                                          : EXTENSION_TRANSPORT_SOCKET_UPSTREAM,
                                               str_of(m->name), any, &msg);
    if (!e) return false;
    struct conf_at here = conf_field(at, "typed_config");
    out->inner = ((const struct transport_socket_type *)(const void *)e)
                     ->conf_create(&here, msg, downstream);
    return out->inner != NULL;
}

void wrapped_open(struct wrapped *w, const struct transport_socket *inner, struct conn *c, int fd,
                  bool server, const struct transport_ask *ask)
{
    w->fd = fd;
    if (!inner || !inner->type->open) return;
    w->inner_type = inner->type;
    w->inner = inner->type->open(inner, c, fd, server, ask);
}

int wrapped_handshake(void *t)
{
    struct wrapped *w = t;
    return w->inner && w->inner_type->handshake ? w->inner_type->handshake(w->inner) : 0;
}

ssize_t wrapped_read(void *t, void *to, size_t len)
{
    struct wrapped *w = t;
    if (w->inner) return w->inner_type->read(w->inner, to, len);
    ssize_t n = recv(w->fd, to, len, 0);
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EINTR ? TRANSPORT_WANT_READ : TRANSPORT_ERROR;
}

ssize_t wrapped_writev(void *t, const struct iovec *iov, int count)
{
    struct wrapped *w = t;
    if (w->inner) return w->inner_type->writev(w->inner, iov, count);
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)count};
    ssize_t n = sendmsg(w->fd, &m, MSG_NOSIGNAL);
    if (n >= 0) return n;
    return errno == EAGAIN || errno == EINTR ? TRANSPORT_WANT_WRITE : TRANSPORT_ERROR;
}

int wrapped_shutdown(void *t)
{
    struct wrapped *w = t;
    return w->inner && w->inner_type->shutdown ? w->inner_type->shutdown(w->inner) : 0;
}

const struct tls_info *wrapped_info(void *t)
{
    const struct wrapped *w = t;
    return w->inner && w->inner_type->info ? w->inner_type->info(w->inner) : NULL;
}

struct str wrapped_alpn(void *t)
{
    const struct wrapped *w = t;
    return w->inner && w->inner_type->alpn ? w->inner_type->alpn(w->inner) : STR_NONE;
}

struct str wrapped_failure(void *t)
{
    const struct wrapped *w = t;
    return w->inner && w->inner_type->failure ? w->inner_type->failure(w->inner) : STR_NONE;
}

bool wrapped_pending(void *t)
{
    const struct wrapped *w = t;
    return w->inner && w->inner_type->pending && w->inner_type->pending(w->inner);
}

void wrapped_close(void *t)
{
    struct wrapped *w = t;
    if (w->inner) w->inner_type->close(w->inner);
    mem_free(w);
}
