/* Bidirectional gRPC streams to a control plane on gRPC core. This pair of files and grpc_server
 * are the only places that know gRPC. Main thread; one more thread drains the completion queue and
 * posts results to main's loop. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct loop;
struct grpc_client; /* the library's life, queue and thread: one a process */
struct grpc_stream;

/* Starts the queue's thread. */
struct grpc_client *grpc_client_new(struct loop *main);
/* All streams must be closed. Joins the thread. */
void grpc_client_free(struct grpc_client **c);

struct grpc_header {
    const char *name, *value;
};
/* The names in a server's certificate. */
struct grpc_peer_names {
    char *const *v;
    size_t count;
};
struct grpc_peer {
    struct grpc_peer_names uri, dns, email, ip;
};
/* Judges a server whose chain was verified. check runs in a thread of gRPC's; free when the last
 * connection that may use it is gone. */
struct grpc_judge {
    bool (*check)(const struct grpc_judge *j, const struct grpc_peer *peer);
    void (*free)(struct grpc_judge *j);
};
/* Where and how to connect. Borrowed for the call, but the judge is taken. */
struct grpc_target {
    const char *address; /* gRPC name syntax: "ipv4:127.0.0.1:18000,127.0.0.1:18001", "unix:/run/x",
                            "dns:///host:443" */
    const char *authority;             /* NULL: gRPC's default */
    const struct grpc_header *headers; /* initial metadata */
    size_t header_count;
    /* TLS: PEM texts; all NULL: plaintext */
    bool tls;
    const char *roots_pem; /* NULL: the server is not verified at all (Envoy without a validation
                              context) */
    bool tls_by_name;      /* gRPC's own rules: the address's name must be in the certificate, and
                              roots_pem NULL means the system's */
    const char *cert_chain_pem, *key_pem, *sni;
    struct grpc_judge *judge; /* NULL: any name will do */
    uint32_t keepalive_ms;    /* 0: off */
};
struct grpc_stream_events {
    void (*on_open)(void *arg); /* the request's headers went out: sending may begin */
    void (*on_sent)(
        void *arg); /* the last message was taken by the transport: the next may be sent */
    void (*on_message)(void *arg,
                       struct str bytes); /* borrowed; the next comes after grpc_stream_read */
    void (*on_closed)(void *arg, int status,
                      struct str text); /* the last event; the stream must then be closed */
};
/* Opens a stream of `method` ("/package.Service/Method"). Never NULL: failures come as on_closed.
 * events is static. */
struct grpc_stream *grpc_stream_open(struct grpc_client *c, const struct grpc_target *t,
                                     const char *method, const struct grpc_stream_events *events,
                                     void *arg);
/* One message at a time: after on_open or on_sent. The bytes are copied. */
void grpc_stream_send(struct grpc_stream *s, struct str bytes);
/* Asks for the next message: once after each on_message, at once or later. The first
 * is asked for by grpc_stream_open. */
void grpc_stream_read(struct grpc_stream *s);
/* Cancels and leaves NULL; no event follows. NULL is fine. */
void grpc_stream_close(struct grpc_stream **s);
