/* Shared by mux.c and its two encodings. */
#pragma once
#include "base/list.h"
#include "xds/mux.h"

/* A resource name that somebody wants, or (delta) that we have a version of. */
struct mux_name {
    struct str name;    /* heap copy, owned */
    struct str version; /* delta: of the accepted resource; heap copy */
    unsigned users;     /* watches */
    bool sent;          /* delta: subscribed on this stream */
};

struct mux_type {
    struct list link; /* in mux.types, in order of the first watch */
    const char *type_url;
    struct map names;   /* struct mux_name * */
    unsigned wildcard;  /* watches of all */
    bool begun;         /* a request of this type went out on this stream */
    bool changed;       /* the set of wanted names changed since the last request */
    bool answer;        /* an ACK or NACK is due */
    struct str version; /* sotw: last accepted; heap copy */
    struct str nonce;   /* of the last response on this stream; heap copy */
    struct str error;   /* NACK text to send; heap copy, empty: ACK */
    struct str packed;  /* sotw: resource_names as they go out, while names_packed; heap copy */
    bool names_packed;
};

struct mux {
    enum mux_variant variant;
    const struct Envoy__Config__Core__V3__Node *node;
    bool node_first_only, connected, node_sent;
    const struct mux_events *events;
    void *arg;
    struct list types;
};

/* Copies s to the heap in place of what *to held. */
void mux_keep(struct str *to, struct str s);
struct mux_name *mux_name_get(struct mux_type *t, struct str name);

/* Builds the due request of t and clears what made it due. */
struct str mux_sotw_request(struct mux *m, struct mux_type *t, struct arena *a);
struct str mux_delta_request(struct mux *m, struct mux_type *t, struct arena *a);
/* Decodes a response. False: *why. u's arrays live in `a`. */
bool mux_sotw_decode(struct str bytes, struct arena *a, struct mux_update *u, struct str *why);
bool mux_delta_decode(struct str bytes, struct arena *a, struct mux_update *u, struct str *why);
