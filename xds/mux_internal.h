/* Shared by mux.c and its two encodings. */
#pragma once
#include "base/list.h"
#include "xds/mux.h"

/* A resource name that somebody wants, or (delta) that we have a version of. */
struct mux_name {
    struct str name;    /* heap copy, owned */
    struct str version; /* delta: of the accepted resource; heap copy */
    unsigned users;     /* watches */
    bool sent;          /* subscribed on this stream */
    bool again; /* sotw: given up and wanted anew before that was said: a request leaves it out, so
                   that the next one asks for it */
};

/* An ACK or NACK on its way: each response gets its own. Heap, as its texts. */
struct mux_answer {
    struct list link;     /* in mux_type.answers */
    struct list in_order; /* in mux.answers */
    struct mux_type *type;
    struct str nonce, error; /* error empty: ACK */
    struct str version;      /* sotw: last accepted when it was made */
    uint64_t due_us;         /* not before this */
};

struct mux_type {
    struct list link;    /* in mux.types, in order of the first watch */
    struct list answers; /* struct mux_answer: due, oldest first */
    const char *type_url;
    struct map names;   /* struct mux_name * */
    unsigned wildcard;  /* watches of all */
    bool begun;         /* a request of this type went out on this stream */
    bool changed;       /* the set of wanted names changed since the last request */
    struct str version; /* sotw: last accepted; heap copy */
    struct str nonce;   /* of the last response on this stream; heap copy */
    unsigned repeats;   /* how often the last refusal was the same as the one before it */
    struct str refusal; /* its text; heap copy */
    struct str packed;  /* sotw: resource_names as they go out, while names_packed; heap copy */
    bool names_packed;
    bool left_out; /* sotw: the last request left names out that are wanted: one more follows */
};

struct mux {
    enum mux_variant variant;
    const struct Envoy__Config__Core__V3__Node *node;
    bool node_first_only, connected, node_sent;
    const struct mux_events *events;
    void *arg;
    struct list types;
    struct list answers; /* struct mux_answer of all types, in the order of the responses */
    size_t answer_count;
};

/* Copies s to the heap in place of what *to held. */
void mux_keep(struct str *to, struct str s);
void mux_name_free(struct mux_name *n);
struct mux_name *mux_name_get(struct mux_type *t, struct str name);

/* Builds a request of t: with an answer, or (NULL) because wishes changed. */
struct str mux_sotw_request(struct mux *m, struct mux_type *t, const struct mux_answer *answer,
                            struct arena *a);
struct str mux_delta_request(struct mux *m, struct mux_type *t, const struct mux_answer *answer,
                             struct arena *a);
/* Decodes a response. False: *why. u's arrays live in `a`. */
bool mux_sotw_decode(struct str bytes, struct arena *a, struct mux_update *u, struct str *why);
bool mux_delta_decode(struct str bytes, struct arena *a, struct mux_update *u, struct str *why);
