/* A side call, as side_call.c (HTTP) and side_grpc.c (framing, status) share it. */
#pragma once
#include "base/loop.h"
#include "proxy/api/side_call.h"
#include "proxy/api/upstream.h"

enum side_shape { SIDE_HTTP_ONE, SIDE_HTTP_STREAM, SIDE_GRPC_ONE, SIDE_GRPC_STREAM };

struct side_call {
    struct upstream_attempt a;
    struct side_link link; /* of the owner */
    struct arena *arena;   /* holds the call itself */
    struct worker *worker;
    const struct side_target *target;
    const struct side_events *events;
    void *arg;
    enum side_shape shape;
    size_t answer_most;
    uint64_t timeout_us, start_us;
    struct loop_timer timer;
    struct loop_later later;

    struct headers *request, *request_trailers;
    struct buf out; /* waits for a connection */
    bool out_end;   /* our side is complete */
    bool ready;     /* the request's headers were sent */
    bool live;      /* the attempt has not ended */

    struct buf in;     /* the answer: a whole body, frames, or what waits for a resume */
    bool in_end;       /* the peer's side is complete and a stream was not told so yet */
    bool peer_done;    /* the peer's side is complete */
    bool only_headers; /* ... with its headers */
    uint32_t pauses;
    bool above, told_above; /* what on_watermark would say, and what it said */
    struct buf message;     /* gRPC, one answer */
    bool has_message;

    bool ended; /* `end` is set: on_end is due */
    bool over;  /* on_end was told or the call was cancelled: only freeing is left */
    struct side_end end;
};

static inline bool side_is_grpc(const struct side_call *c)
{
    return c->shape == SIDE_GRPC_ONE || c->shape == SIDE_GRPC_STREAM;
}
/* headers become the call's; body may be NULL, else is moved out. */
struct side_call *side_start(const struct side_ask *q, enum side_shape shape,
                             const struct headers *h, struct buf *body, bool end);
/* The first end counts; details are borrowed from the call's arena or static. */
void side_ended(struct side_call *c, enum side_failure why, struct str details);

/* side_grpc.c */
/* Takes whole messages out of c->in while nobody pauses; may end the call. */
void side_grpc_deliver(struct side_call *c);
/* The answer's headers came. False: the call has ended with them. */
bool side_grpc_headers(struct side_call *c);
/* Fills grpc_* of c->end. */
void side_grpc_end(struct side_call *c);
