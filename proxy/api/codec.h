/* The interface between a codec (HTTP/1, HTTP/2) and what is above it: the connection manager
 * downstream, the pools upstream. A codec owns the framing on one connection; it never copies
 * framing bytes from one side to the other. Worker thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"
#include "base/str.h"

struct headers;
struct arena;
struct codec;
struct codec_stream;
struct stream_info;

enum stream_reset {
    RESET_NONE,
    RESET_LOCAL,           /* we gave up */
    RESET_LOCAL_REFUSED,   /* we refuse; safe to retry */
    RESET_REMOTE,          /* RST_STREAM from the peer, or its half of an h1 exchange broke off */
    RESET_REMOTE_REFUSED,  /* REFUSED_STREAM or above a GOAWAY's last id: safe to retry */
    RESET_CONNECT_FAILURE, /* no connection could be made */
    RESET_CONNECT_TIMEOUT,
    RESET_CONN_TERMINATION, /* the connection ended under the stream */
    RESET_OVERFLOW,         /* a limit (circuit breaker, pending) */
    RESET_PROTOCOL_ERROR,   /* the peer broke the protocol */
    RESET_CONNECT_ERROR     /* HTTP/2 CONNECT_ERROR */
};

/* --- from the codec up. `owner` is what the receiver set. Called in order: headers, data*,
 * trailers; `end` true once. ------------ */
struct codec_stream_events {
    /* A request's or response's headers. They live in the stream's arena (codec_stream.arena). */
    void (*on_headers)(struct codec_stream *s, void *owner, struct headers *h, bool end);
    void (*on_1xx)(struct codec_stream *s, void *owner,
                   struct headers *h); /* upstream only; 101 comes as on_headers */
    void (*on_data)(struct codec_stream *s, void *owner, struct buf *data,
                    bool end); /* receiver takes (moves) the bytes */
    void (*on_trailers)(struct codec_stream *s, void *owner, struct headers *t);
    /* A METADATA block of HTTP/2 came, beside the message and before its end: fields as a header
     * block of plain literals. The receiver takes (moves) the bytes. NULL: not wanted. */
    void (*on_metadata)(struct codec_stream *s, void *owner, struct buf *block);
    /* The stream is gone (not after a complete exchange). details: static or arena text such as
     * "http1.codec_error"-like names (Envoy's codec details). No events after it; codec_stream is
     * dead on return. */
    void (*on_reset)(struct codec_stream *s, void *owner, enum stream_reset why,
                     struct str details);
    /* The peer's window or the connection's write queue is full (above) / has room again. */
    void (*on_watermark)(struct codec_stream *s, void *owner, bool above);
    /* Both directions are complete; the codec_stream is dead on return. Comes after the last
     * on_data/on_headers/on_trailers with end and after our own side sent its end. */
    void (*on_complete)(struct codec_stream *s, void *owner);
};

/* Embedded first in each codec's stream struct. */
struct codec_stream {
    struct codec *codec;
    const struct codec_stream_events *events;
    void *owner;
    struct arena *arena; /* downstream: of the stream, given by on_new_stream; upstream: given by
                            codec_request */
    uint64_t id;         /* h2 stream id; h1: counter */
};

/* --- from the codec up, per connection
 * --------------------------------------------------------------------------------------- */
struct codec_events {
    /* Server codecs: a request begins. The receiver sets s->events, s->owner and s->arena. */
    void (*on_new_stream)(struct codec *c, void *owner, struct codec_stream *s);
    /* Client codecs: the peer said GOAWAY / Connection: close: use no more after the present
     * exchanges. */
    void (*on_goaway)(struct codec *c, void *owner);
    /* The peer broke the protocol beyond one stream; the codec has queued what it must say (GOAWAY,
     * or nothing: h1 servers say 400 through on_bad_request first). The owner closes the connection
     * (flush). */
    void (*on_error)(struct codec *c, void *owner, struct str details);
    /* Server h1: the bytes are no request. The owner answers `status` (400, 431, 413, 426, 505)
     * with `body` through the new stream given by on_new_stream before it, i.e. this is called
     * instead of on_headers. May be NULL for clients. */
    void (*on_bad_request)(struct codec *c, void *owner, struct codec_stream *s, uint32_t status,
                           struct str details);
};

/* Bytes of a stream's messages as they were on the wire so far: heads alone, and all. For logs. */
struct codec_counts {
    uint64_t header_received, wire_received, header_sent, wire_sent;
};

/* --- down into the codec
 * ------------------------------------------------------------------------------------------------------
 */
struct codec_ops {
    enum { CODEC_H1 = 1, CODEC_H2 = 2 } kind;
    /* Eats bytes of the connection (all it can); end: the peer closed its side. False: the
     * connection cannot go on (on_error was called). */
    bool (*on_bytes)(struct codec *c, struct buf *in, bool end);
    /* The connection's write queue rose/fell: forwarded to streams as on_watermark. */
    void (*on_conn_watermark)(struct codec *c, bool above);
    /* The connection is gone: resets all streams with `why`. */
    void (*on_conn_closed)(struct codec *c, enum stream_reset why, struct str details);
    /* Client: opens a stream; NULL when none can be opened now. */
    struct codec_stream *(*request)(struct codec *c, struct arena *a,
                                    const struct codec_stream_events *events, void *owner);
    size_t (*open_streams)(const struct codec *c);
    size_t (*stream_limit)(
        const struct codec *c); /* client: concurrent streams the peer allows (h1: 1) */
    /* Server: announces the end (h1: Connection: close on the next response; h2: GOAWAY). */
    void (*drain)(struct codec *c);
    bool (*keep_alive)(const struct codec *c); /* h1: may the connection be reused after the present
                                                  exchange, and is it clean? */
    void (*free)(struct codec *c);

    void (*send_headers)(struct codec_stream *s, struct headers *h, bool end);
    void (*send_1xx)(struct codec_stream *s, struct headers *h);
    void (*send_data)(struct codec_stream *s, struct buf *data, bool end); /* moves the bytes out */
    void (*send_trailers)(struct codec_stream *s, struct headers *t);
    /* Moves the block out (as of on_metadata; several may be one after the other). It is dropped
     * where the peer may not get any. */
    void (*send_metadata)(struct codec_stream *s, struct buf *block);
    void (*reset)(struct codec_stream *s,
                  enum stream_reset why); /* no on_reset follows; s is dead on return. h1: closes
                                             the connection */
    void (*pause)(struct codec_stream *s,
                  bool pause);              /* stop/resume on_data for the stream; counted */
    void (*detach)(struct codec_stream *s); /* server: owner is gone though our response is complete
                                               (unread request rest) */
    const struct codec_counts *(*counts)(const struct codec_stream *s);
};
/* Embedded first in each codec. */
struct codec {
    const struct codec_ops *ops;
    const struct codec_events *events;
    void *owner;
    struct conn *conn; /* writes go to conn_write */
};

/* A SETTINGS entry. */
struct codec_setting {
    uint16_t id;
    uint32_t value;
};
struct string_matcher;

/* Limits and options that both directions share; filled from protocol options. */
struct codec_options {
    size_t
        max_header_bytes; /* max_request_headers_kb * 1024 (default 60 KiB); same for responses */
    uint32_t max_headers; /* default 100 */
    bool allow_absolute_url; /* h1; Envoy: on unless allow_absolute_url: false */
    bool accept_http_10;
    struct str default_host_for_http_10;
    bool enable_trailers;                /* h1: default off: trailers are dropped */
    bool allow_chunked_length;           /* h1: chunked with content-length: chunked wins */
    bool proper_case;                    /* h1 header_key_format proper_case_words */
    bool preserve_case, preserve_reason; /* h1: names and reason phrases as they came */
    bool preserve_proper;                /* other names in proper case */
    bool send_fully_qualified_url;
    bool allow_custom_methods; /* h1 servers: any token is a method */
    const struct string_matcher
        *ignore_upgrades; /* h1 servers: these upgrades were not asked for */
    size_t ignore_upgrade_count;
    bool override_stream_error; /* h1: a bad message resets the stream but not the connection */
    int underscores;            /* 0 allow, 1 reject request, 2 drop header */
    struct stat_group *stats;   /* http1./http2. codec stats; index = enum in the codec's header */
    /* h2 (Http2ProtocolOptions), 0 = default */
    uint32_t h2_max_concurrent_streams, h2_initial_stream_window, h2_initial_conn_window,
        h2_hpack_table;
    uint32_t h2_max_outbound_frames, h2_max_outbound_control_frames, h2_max_inbound_empty_data,
        h2_max_inbound_priority, h2_max_inbound_window_update;
    const struct codec_setting *h2_settings; /* sent ahead of our own */
    size_t h2_setting_count;
    uint64_t h2_reset_burst, h2_reset_rate; /* servers: streams that the client may reset, at once
                                               and in a second */
    bool h2_allow_connect;
    bool h2_refuse_obs_text;  /* bytes above 0x7f make a field invalid */
    bool h2_allow_metadata;   /* METADATA frames pass on; else they are dropped */
    uint64_t h2_max_metadata; /* bytes of one METADATA block */
    uint64_t h2_keepalive_interval_us, h2_keepalive_timeout_us;
    double h2_keepalive_jitter;    /* up to this share of the interval is added */
    uint64_t h2_keepalive_idle_us; /* clients: a stream after such a silence pings first; 0: no */
    uint64_t h2_flush_timeout_us;  /* how long a message that is complete on our side may wait for
                                      the peer's window; 0: for ever */
};
