/* What the files of a stream share among themselves. */
#pragma once
#include "proxy/http/stream.h"

/* filter_chain.c */
bool chain_stopped(const struct http_stream *s, enum http_dir dir);
void chain_resume(struct http_stream *s, struct filter_slot *slot, enum http_dir dir);

/* stream_encode.c: takes over what the codec has counted so far. */
void stream_note_counts(struct http_stream *s, const struct codec_stream *cs);

/* stream.c */
/* A filter holds more than the limit (or no longer): stops the source of that direction. Counted.
 */
void stream_pressure(struct http_stream *s, enum http_dir dir, bool stop);
void stream_too_large(struct http_stream *s);          /* 413 */
void stream_response_too_large(struct http_stream *s); /* 500 */
void stream_pause_request(struct http_stream *s, bool pause);
/* All filters are made anew, with the routes of now; what `by` holds comes again from the first
 * filter on. */
void stream_restart(struct http_stream *s, struct filter_slot *by);
struct filter_slot *stream_slot(struct http_filter *f);

/* stream_route.c */
/* Pins the routes as they are now: one table for the whole stream. */
void stream_pin_routes(struct http_stream *s);
/* Microseconds that the stream may live, by its route (NULL: none) or its connection manager; a
 * grpc-timeout counts where the route says so, and is sent on as it was capped. 0: no limit. */
uint64_t stream_longest_life(struct http_stream *s, const struct route *r);
/* Lowers the limit of what filters may hold to that of the route (NULL: none). */
void stream_route_limit(struct http_stream *s, const struct route *r);

/* hcm.c */
struct arena *stream_arena_take(struct worker *w); /* an empty one, recycled */
void stream_arena_give(struct worker *w, struct arena *a);
static inline void stat_hcm_add(struct hcm *m, enum hcm_stat which)
{
    stat_inc(m->conf->stats, which);
}
/* Does this request end the connection (Connection: close, HTTP/1.0, the last one allowed)? Notes
 * it. */
void hcm_note_request(struct hcm *m, const struct headers *h, bool http10);

/* local_reply.c: an `edit` that sets the Location header; arg is a struct str *. */
void stream_edit_location(void *arg, struct headers *h);

/* conn_manager_headers.c: what the edge changes. A refusal is told with its status and details. */
struct edge_refusal {
    uint32_t status; /* 0: go on */
    const char *details;
    struct str location; /* of a redirect */
};
void edge_close_after(struct http_stream *s);
struct edge_refusal edge_check_request(struct http_stream *s, struct headers *h);
struct edge_refusal edge_mutate_request(struct http_stream *s, struct headers *h);
void edge_mutate_response(struct http_stream *s, struct headers *h);

/* conn_manager_path.c: the path as everybody after it sees it. */
struct edge_refusal edge_normalize_path(struct http_stream *s, struct headers *h);
void edge_normalize_host(struct http_stream *s, struct headers *h);
/* conn_manager_xff.c: x-forwarded-*, internal or external, x-envoy-* sanitising. */
struct edge_refusal edge_addresses(struct http_stream *s, struct headers *h);
/* xfcc.c */
void edge_xfcc(struct http_stream *s, struct headers *h);
/* request_id.c */
void edge_request_id(struct http_stream *s, struct headers *h, bool edge);
