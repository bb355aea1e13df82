/* Transport sockets: what lies between the TCP bytes and the plaintext (raw buffer, TLS, PROXY
 * protocol ...). */
#pragma once
#include <sys/types.h>
#include <sys/uio.h>
#include "base/addr.h"
#include "base/str.h"
#include "proxy/api/extension.h"

struct conn;
struct worker;
struct tls_info;
struct host;

/* A configured transport socket; immutable. First member of each type's own struct. */
struct transport_socket {
    const struct transport_socket_type *type;
    bool secure;
    bool per_downstream; /* connections tell whom they serve: none is shared by two clients */
    bool per_tlvs;       /* nor by two that sent different PROXY TLVs */
    struct str protocol; /* "raw_buffer", "tls" */
};
/* Whom an upstream connection serves, for the PROXY header. */
struct transport_proxied {
    struct addr from, to;
    struct str tlvs; /* PROXY TLVs that may be passed on, as they came */
};
/* What an upstream connection knows when its transport is made: SNI, ALPN, SAN overrides (auto_sni
 * ...). */
struct transport_ask {
    struct str sni;
    const struct str *alpn;
    size_t alpn_count;
    const struct str *verify_sans;
    size_t verify_san_count;
    const struct host *host;
    const struct transport_proxied *proxied; /* NULL: nobody (health checks) */
    const struct original_src *source;       /* whence to connect; NULL: as the cluster says */
};
/* Results of io: >= 0 bytes; 0 from read = orderly end; negative: */
enum {
    TRANSPORT_WANT_READ = -1,
    TRANSPORT_WANT_WRITE = -2,
    TRANSPORT_ERROR = -3, /* text by failure() */
    TRANSPORT_WAIT = -4   /* handshake: for no byte; the transport calls conn_handshake_go */
};
struct transport_socket_type {
    struct extension ext;
    /* config time, main */
    const struct transport_socket *(*conf_create)(const struct conf_at *at,
                                                  const struct ProtobufCMessage *msg,
                                                  bool downstream);
    /* per connection, worker: state of the connection, NULL for none */
    void *(*open)(const struct transport_socket *ts, struct conn *c, int fd, bool server,
                  const struct transport_ask *ask);
    int (*handshake)(void *t); /* 0 done, or WANT_*, or WAIT, or ERROR */
    ssize_t (*read)(void *t, void *to, size_t len);
    ssize_t (*writev)(void *t, const struct iovec *iov, int count);
    int (*shutdown)(void *t);                /* close_notify; WANT_* possible */
    const struct tls_info *(*info)(void *t); /* after the handshake */
    struct str (*alpn)(void *t);
    struct str (*failure)(void *t);
    void (*close)(void *t);
    bool (*pending)(
        void *t); /* optional: decrypted bytes wait inside, read again without a readable socket */
    /* optional: what was plain until now becomes secure; a handshake follows. False: it is secure
     * already */
    bool (*start_secure)(void *t);
};
