/* The subscription machine of one xDS stream: what is wanted of each type, what was sent, versions,
 * nonces, ACK and NACK. It does no I/O: bytes come in by mux_message, requests are pulled out by
 * mux_next, so that each step can be tested. State of the world and delta (xDS protocol page of
 * Envoy's docs, "xDS REST and gRPC protocol"). Main thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/map.h"
#include "base/str.h"

struct arena;
struct mux;
struct Envoy__Config__Core__V3__Node;

enum mux_variant { MUX_SOTW, MUX_DELTA };

/* One resource of a response; all parts are borrowed for the call. */
struct mux_resource {
    struct str name; /* delta and wrapped resources; empty in plain state of the world: the reader
                        finds it in the bytes */
    struct str version; /* of the resource (delta) or of the response */
    struct str type_url, bytes;
    uint64_t ttl_us;      /* 0: lives on */
    char *const *aliases; /* delta: other names of it (virtual hosts) */
    size_t alias_count;
};
struct mux_update {
    struct str type_url, version, nonce, control_plane;
    const struct mux_resource *resources;
    size_t count;
    const struct str *removed; /* delta */
    size_t removed_count;
    bool full; /* state of the world: what is absent from it is gone (for types that work so) */
};
struct mux_events {
    /* Applies a response. Gives back the text of the NACK in `a`, or the empty str for an ACK. */
    struct str (*on_update)(void *arg, const struct mux_update *u, struct arena *a);
    /* mux_next may have something now. */
    void (*on_wanted)(void *arg);
};

/* node and events are borrowed; node goes with the first request of each stream only if first_only,
 * else with every request. */
struct mux *mux_new(enum mux_variant v, const struct Envoy__Config__Core__V3__Node *node,
                    bool first_only, const struct mux_events *events, void *arg);
void mux_free(struct mux **m);

/* Wants a resource by name, or all of the type (name empty). Counted; type_url is static. */
void mux_watch(struct mux *m, const char *type_url, struct str name);
void mux_unwatch(struct mux *m, const char *type_url, struct str name);

/* Delta: the resource is here already in this version, from elsewhere; said on the next stream. The
 * type is watched. */
void mux_have(struct mux *m, const char *type_url, struct str name, struct str version);
/* A new stream is up: everything is asked for anew, with what is known already. */
void mux_connected(struct mux *m);
void mux_disconnected(struct mux *m);
/* The next request to send, in `a`; false: none now. Call again after each one was taken. */
bool mux_next(struct mux *m, uint64_t now_us, struct arena *a, struct str *bytes);
/* Would mux_next have something? */
bool mux_ready(const struct mux *m, uint64_t now_us);
/* When mux_next will have something though nothing happens before (a NACK that is held back); 0:
 * never. */
uint64_t mux_due_us(const struct mux *m);
/* A response arrived. False: undecodable, the stream must be closed; *why in `a`. */
bool mux_message(struct mux *m, uint64_t now_us, struct str bytes, struct arena *a,
                 struct str *why);
/* Requests that wait to be sent (control_plane.pending_requests). */
size_t mux_pending(const struct mux *m);
/* ACKs and NACKs among them. Each response makes one: the owner must bound them by not reading on.
 */
size_t mux_answers(const struct mux *m);
