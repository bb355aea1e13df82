/* A transport socket around another one: what both PROXY protocol and StartTLS share. */
#pragma once
#include "proxy/api/transport_socket.h"

struct Envoy__Config__Core__V3__TransportSocket;

/* First member of the outer socket's own struct. */
struct wrapped_socket {
    struct transport_socket ts;
    const struct transport_socket *inner; /* NULL: plain bytes */
};
/* First member of the outer socket's state of a connection. */
struct wrapped {
    const struct transport_socket_type *inner_type; /* the configuration may go before */
    void *inner;                                    /* NULL: plain bytes */
    int fd;
};

/* Translates the inner socket. False: told. */
bool wrapped_create(const struct conf_at *at,
                    const struct Envoy__Config__Core__V3__TransportSocket *m, bool downstream,
                    struct wrapped_socket *out);
/* Opens the inner socket. */
void wrapped_open(struct wrapped *w, const struct transport_socket *inner, struct conn *c, int fd,
                  bool server, const struct transport_ask *ask);
/* Callbacks of struct transport_socket_type; t: a struct wrapped. */
int wrapped_handshake(void *t);
ssize_t wrapped_read(void *t, void *to, size_t len);
ssize_t wrapped_writev(void *t, const struct iovec *iov, int count);
int wrapped_shutdown(void *t);
const struct tls_info *wrapped_info(void *t);
struct str wrapped_alpn(void *t);
struct str wrapped_failure(void *t);
bool wrapped_pending(void *t);
void wrapped_close(void *t); /* frees it */
