/* HTTP filters: one descriptor per extension; config time (main) apart from request time (worker).
 * NULL callback = not interested, at no cost. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/list.h"
#include "base/loop.h"
#include "proxy/api/extension.h"

struct headers;
struct stream_info;
struct http_stream;
struct route_choice;
struct worker;

/* What a filter wants next. One enum for all events:
 *
 *             headers                              data                                   trailers
 *  CONTINUE   pass on now                          pass on now (with anything held)       pass on
 * now HOLD       headers wait here; body still        -- (use BUFFER or TAKEN)               wait
 * here comes to me HOLD_ALL   wait; nothing more comes to me,      keep it, stop reading the peer
 * wait here peer is back-pressured BUFFER     --                                   keep it up to
 * the stream's limit;      -- over it: 413 (request) / 500 (response) TAKEN      -- I emptied
 * `data`; pass nothing         --
 *
 * CONTINUE from data or trailers first releases headers this filter was holding. A filter that does
 * not CONTINUE must later call http_filter_resume(), send a local reply, or reset the stream. A
 * value marked "--" is a bug (counted; treated as CONTINUE). */
enum http_flow { HTTP_CONTINUE = 0, HTTP_HOLD, HTTP_HOLD_ALL, HTTP_BUFFER, HTTP_TAKEN };
enum http_dir { HTTP_DECODE, HTTP_ENCODE }; /* request path, response path */
enum http_init { HTTP_FILTER_JOIN = 0, HTTP_FILTER_SKIP };

/* Base of every per-request instance: first member of the filter's own struct. Read-only to
 * filters. */
struct http_filter {
    const struct http_filter_type *type;
    struct http_stream *stream; /* borrowed; outlives the filter */
    const void *conf;           /* from conf_create; pinned by the stream */
    const void *route_conf;     /* most specific override, merged; NULL if none. Refreshed when the
                                   route changes. */
    struct worker *worker;
    uint16_t position; /* in the chain */
};

struct http_filter_type {
    struct extension ext;
    const struct ProtobufCMessageDescriptor *route_config; /* per-route message; NULL: none */
    size_t instance_size; /* sizeof the struct that embeds struct http_filter */
    bool terminal;        /* must be last (router) */
    bool upstream;        /* may also run in an upstream chain */
    bool delegate;        /* conf_create makes a struct http_filter_delegate, route_conf_create a
                             struct match_tree; the chain runs what it names */

    /* config time, main thread. The result is immutable and lives in conf_arena(at). NULL = error
     * told. `prefix` is the HCM's stat prefix ("http.ingress."). */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg,
                               struct str stat_prefix);
    const void *(*route_conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg);
    /* Optional. Default: the most specific non-NULL wins. Outwards-in: route configuration, virtual
     * host, route, weighted cluster. */
    const void *(*route_conf_merge)(struct arena *a, const void *outer, const void *inner);

    /* per request, worker thread */
    enum http_init (*init)(struct http_filter *f);
    enum http_flow (*decode_headers)(struct http_filter *f, struct headers *h, bool end);
    enum http_flow (*decode_data)(struct http_filter *f, struct buf *data, bool end);
    enum http_flow (*decode_trailers)(struct http_filter *f, struct headers *t);
    /* Terminal filters only, after decode_headers: METADATA of HTTP/2 (codec_stream_events). Takes
     * the bytes. */
    void (*decode_metadata)(struct http_filter *f, struct buf *block);
    enum http_flow (*encode_1xx)(struct http_filter *f, struct headers *h);
    enum http_flow (*encode_headers)(struct http_filter *f, struct headers *h, bool end);
    enum http_flow (*encode_data)(struct http_filter *f, struct buf *data, bool end);
    enum http_flow (*encode_trailers)(struct http_filter *f, struct headers *t);
    void (*on_local_reply)(struct http_filter *f, uint32_t status);
    /* HTTP_DECODE: downstream cannot take more response (above) -> whoever produces response data
     * should pause; terminal filters pass it on to their producer. */
    void (*on_watermark)(struct http_filter *f, enum http_dir dir, bool above);
    void (*log)(struct http_filter *f);     /* stream complete, before access logs */
    void (*destroy)(struct http_filter *f); /* exactly once, after log; free only what the stream
                                               arena does not own */
};

struct match_tree;
/* Another filter, and the tree that leaves it out where it finds something. */
struct http_filter_delegate {
    const struct http_filter_type *type;
    const void *conf;
    const struct match_tree *tree; /* NULL: left out, unless a route has a tree */
};

/* --- what a filter may do to its stream
 * ---------------------------------------------------------------- */
struct stream_info *http_filter_info(struct http_filter *f);
struct arena *http_filter_arena(struct http_filter *f); /* the stream's */
/* Continue from the filter after `f`, with held headers, data and trailers. Never re-enters `f`.
 * Inside a callback it is deferred to the end of that callback. */
void http_filter_resume(struct http_filter *f, enum http_dir dir);
/* Pass data on from after `f` as if it had arrived there. Moves the bytes. The headers must have
 * been passed on before. */
void http_filter_inject(struct http_filter *f, enum http_dir dir, struct buf *data, bool end);
/* The bytes held for f (BUFFER / HOLD_ALL), NULL if none. May be changed before resume. */
struct buf *http_filter_buffered(struct http_filter *f, enum http_dir dir);
/* Trailers made by a filter in its last data callback (end was true): then returns CONTINUE. */
struct headers *http_filter_add_trailers(struct http_filter *f, enum http_dir dir);

struct local_reply {
    uint32_t status;
    struct str body;    /* copied; text/plain unless edit changes it */
    struct str details; /* RESPONSE_CODE_DETAILS; static string or stream arena */
    int grpc_status;    /* -1: derive from status */
    uint64_t flags;     /* 1 << enum response_flag: added to the stream's */
    void (*edit)(void *arg,
                 struct headers *h); /* may be NULL: last change of the response headers */
    void *edit_arg;
};
/* Answers the client now. No later filter on the decode path is called; encode filters are. If
 * response headers were sent already, the stream is reset instead. */
void http_filter_reply(struct http_filter *f, const struct local_reply *r);
/* Breaks the stream off (h1: closes the connection; h2: RST_STREAM). */
void http_filter_reset(struct http_filter *f);

/* --- terminal filters: the response side (the router produces responses)
 * ------------------------------ */
void http_filter_respond_1xx(struct http_filter *f, struct headers *h);
void http_filter_respond_headers(struct http_filter *f, struct headers *h, bool end);
void http_filter_respond_data(struct http_filter *f, struct buf *data, bool end);
void http_filter_respond_trailers(struct http_filter *f, struct headers *t);
/* METADATA of the response goes at once, also ahead of the head. Moves the bytes out. */
void http_filter_respond_metadata(struct http_filter *f, struct buf *block);
/* The response broke off after its headers were sent: resets downstream. details:
 * RESPONSE_CODE_DETAILS. */
void http_filter_respond_reset(struct http_filter *f, struct str details, uint64_t flags);
/* Stop/resume reading the request body (upstream is slow). Counted. */
void http_filter_pause_request(struct http_filter *f, bool pause);
/* Upgrade or CONNECT accepted: after respond_headers the stream carries raw bytes both ways; the
 * codec is told by the response. */

/* --- route
 * -----------------------------------------------------------------------------------------------
 */
/* The route of the stream (computed at first use, before the first filter). NULL: none matched. */
const struct route *http_filter_route(struct http_filter *f);
/* Forget it: computed anew at the next use (headers were changed). */
void http_filter_clear_route(struct http_filter *f);
/* No route: asks the control plane for what would give one (a virtual host, a scope). False: there
 * is nothing to ask for. */
struct on_demand;
bool http_filter_ask_route(struct http_filter *f, struct on_demand *d,
                           void (*done)(struct on_demand *d, bool found));
/* The request begins anew, with the routes of now and all filters made anew: `f` is gone after it.
 * For a filter that held the headers; outside of its callbacks; before any response. */
void http_filter_restart(struct http_filter *f);
/* The cluster name chosen for this stream (weighted choice and cluster_header applied once); empty:
 * none. */
struct str http_filter_cluster(struct http_filter *f);
/* The whole choice (proxy/api/route_ops.h), for header changes of a weighted cluster. Valid until
 * the route is cleared. */
const struct route_choice *http_filter_choice(struct http_filter *f);
/* How many bytes of the request may be held for it (buffer limits of connection, virtual host,
 * route). */
uint64_t http_filter_buffer_limit(const struct http_filter *f);

/* --- timers, tied to the filter: they cannot fire after destroy
 * ------------------------------------------ */
struct filter_timer {
    void (*fire)(struct http_filter *f, struct filter_timer *t);
    struct http_filter *f;
    struct loop_timer timer;
};
void filter_timer_start(struct http_filter *f, struct filter_timer *t, uint64_t delay_us,
                        void (*fire)(struct http_filter *f, struct filter_timer *t));
void filter_timer_stop(struct filter_timer *t); /* filters stop theirs in destroy */
