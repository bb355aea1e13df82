/* One request and its response: from the codec's first byte to the access log. stream.c reads in
 * the order of a request's life; filter_chain.c moves headers, data and trailers through the
 * filters. Worker thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/list.h"
#include "base/loop.h"
#include "proxy/api/codec.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/route_ops.h"
#include "proxy/api/side_call.h"
#include "proxy/api/stream_info.h"
#include "proxy/http/hcm.h"

/* What a filter does with one direction just now. */
enum side_state {
    SIDE_OPEN,     /* everything passes */
    SIDE_HOLD,     /* its headers (or trailers) wait; data still comes to it */
    SIDE_HOLD_ALL, /* nothing more comes to it until it resumes */
    SIDE_KEEP      /* BUFFER or TAKEN: data comes to it and stays */
};
/* One filter, one direction. */
struct filter_side {
    struct buf held;          /* data that waits here */
    struct headers *trailers; /* trailers that wait here */
    uint8_t state;            /* enum side_state */
    bool headers_wait;        /* headers reached it and did not go on */
    bool headers_passed;
    bool end_wait;    /* the end of data waits here */
    bool paused_peer; /* it holds so much that the peer was stopped */
    bool resume;      /* asked to resume inside its own callback */
};
struct filter_slot {
    struct http_filter *f; /* NULL: not part of this request */
    const struct http_filter_conf *conf;
    struct pin *pin;               /* of a discovered configuration */
    struct filter_side side[2];    /* enum http_dir */
    bool in_call;                  /* inside one of its callbacks: it is not entered again */
    bool matching, skipped;        /* a delegate: its tree has still to speak; it said "skip" */
    const struct match_tree *tree; /* NULL: skipped when the headers come */
};

struct http_stream {
    struct hcm *m;
    struct codec_stream *codec; /* NULL once the codec has let go of it */
    struct list link;
    struct arena *arena;
    struct stream_info info;
    struct filter_slot *slots;
    uint16_t slot_count;

    struct pin *route_pin; /* of the routes, or of the set of scopes that has them */
    struct str scope_name; /* a scope was found, and its table is not there: in the arena */
    bool route_known;
    struct route_choice choice; /* cluster for this stream; valid while route_known */

    struct side_owner calls; /* of its filters */
    struct loop_timer idle, request_timer, header_timer, max_timer, log_timer;
    uint64_t idle_us;
    uint64_t buffer_limit;

    struct buf metadata; /* METADATA of the request, before the last filter knows its head */
    struct headers *add_trailers[2]; /* made by a filter in its last data callback */
    const struct local_reply
        *reply_wanted; /* a local reply asked for inside a callback; in the arena */
    struct filter_slot *reply_by;
    uint32_t depth;          /* callbacks of filters on the C stack */
    uint32_t pauses;         /* how often the request's reading was stopped by filters */
    uint32_t response_stops; /* how often the response's source was */
    bool header_end[2];      /* the message was headers only */
    bool end_in;             /* the last byte of the request arrived */
    bool chain_made, headers_in;
    bool decode_cut; /* the rest of the request is thrown away (local reply, reset) */
    bool response_started, response_done; /* headers / end given to the codec */
    bool codec_done;                      /* both sides complete */
    bool local_reply;
    bool is_head, is_grpc, tunnel, upgrade_wanted;
    bool above;    /* downstream cannot take more response */
    bool encoding; /* response headers entered the encode path */
    bool over;     /* ended; only logging and freeing are left */
    bool reset_wanted;
    bool reset_by_peer; /* the client broke it off */
};

/* --- stream.c: life
 * ------------------------------------------------------------------------------------------- */
/* The codec saw the first byte of a request. */
void stream_begin(struct hcm *m, struct codec_stream *cs);
/* The codec refuses the bytes: an answer if none was begun, else a reset. */
void stream_bad_request(struct http_stream *s, uint32_t status, struct str details);
/* Breaks the stream off (and an HTTP/1 connection with it). */
void stream_reset(struct http_stream *s, enum stream_reset why);
/* Ends it: the codec no longer knows it. Logging and freeing follow at the end of the turn. */
void stream_over(struct http_stream *s);
/* Logs, destroys the filters, frees. Called by hcm.c at the end of the turn. */
void stream_free(struct http_stream *s);
void stream_touch(struct http_stream *s); /* restarts the idle timer */

/* --- stream_route.c: its routes
 * ------------------------------------------------------------------------------------ */
/* Looks the route up when it is not known, and chooses among weighted clusters. NULL: none.
 * Borrowed from the table that the stream has pinned. */
const struct route *stream_route(struct http_stream *s);
/* The next stream_route looks again: what the route depends on has changed. */
void stream_forget_route(struct http_stream *s);

/* --- filter_chain.c: movement
 * --------------------------------------------------------------------------------- */
/* Makes the filters of `chain` for this stream. */
void chain_make(struct http_stream *s, const struct http_filter_chain *chain);
void chain_headers(struct http_stream *s, enum http_dir dir, int from, struct headers *h, bool end);
void chain_data(struct http_stream *s, enum http_dir dir, int from, struct buf *data, bool end);
void chain_trailers(struct http_stream *s, enum http_dir dir, int from, struct headers *t);
/* Hands s->metadata to the last filter, once that knows the head. */
void chain_metadata(struct http_stream *s);
void chain_1xx(struct http_stream *s, int from, struct headers *h);
void chain_watermark(struct http_stream *s, enum http_dir dir, bool above);
/* Route changed: gives each filter its override anew. */
void chain_route_confs(struct http_stream *s);
void chain_log(struct http_stream *s);
void chain_destroy(struct http_stream *s);

/* --- stream_encode.c: the end of the encode path
 * ---------------------------------------------------------------- */
void stream_send_headers(struct http_stream *s, struct headers *h, bool end);
void stream_send_1xx(struct http_stream *s, struct headers *h);
void stream_send_data(struct http_stream *s, struct buf *data, bool end);
void stream_send_trailers(struct http_stream *s, struct headers *t);

/* --- local_reply.c
 * -------------------------------------------------------------------------------------------------
 */
/* Answers from here. `by` NULL: the connection manager itself; all encode filters see it. */
void stream_reply(struct http_stream *s, struct filter_slot *by, const struct local_reply *r);
