/* Insides of the HTTP/2 codec, for h2_*.c only. */
#pragma once
#include <nghttp2/nghttp2.h>
#include "base/buf.h"
#include "base/list.h"
#include "base/loop.h"
#include "proxy/api/codec.h"
#include "proxy/api/headers.h"
#include "proxy/http/h2.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

enum {
    H2_STREAM_WINDOW =
        256 * 1024, /* ours, unless configured: what a peer may send ahead of a slow reader */
    H2_CONN_WINDOW = 1024 * 1024,
    H2_STREAMS_MOST = 1024, /* concurrent streams that a client may open, unless configured */
    H2_OUT_HIGH =
        256 *
        1024, /* bytes of one stream that wait for the peer's window: above, the producer stops */
    H2_OUT_LOW = 128 * 1024,
    H2_OUT_ALL =
        1024 * 1024,      /* of all streams: above, each producer stops as soon as its bytes wait */
    H2_INTERIM_MOST = 32, /* 1xx answers to one request */
    H2_HEADER_OVERHEAD = 32, /* RFC 9113 6.5.2 */
    H2_FRAME_HEAD = 9,
    H2_METADATA = 0x4d, /* Envoy's frame type */
    H2_BOMB = 8,        /* times the limit of a head: what a peer that goes on beyond it may send */
    H2_OUT_FRAMES =
        10000, /* frames that may wait for a peer that does not read, unless configured */
    H2_RESET_MEMORY = 128,
    H2_RESETS_BURST = 200,
    H2_RESETS_PER_S = 20 /* streams that end before their time, either side's doing */
};

struct h2_stream {
    struct codec_stream base;
    struct list link; /* in h2.streams */
    int32_t id;
    /* headers being collected */
    struct headers *head;
    size_t head_bytes; /* as the limits count them */
    uint32_t head_count;
    const char *refused; /* why the head may not pass; NULL: fine */
    bool over_limit;     /* refused for its size or by policy, not as malformed */
    uint32_t pauses;
    bool final_head;        /* a head that is no 1xx came */
    bool peer_end, our_end; /* END_STREAM seen, sent or queued */
    bool is_head, extended; /* HEAD request; extended CONNECT that we show as an upgrade */
    struct str protocol;    /* client: of the extended CONNECT; in the request's headers */
    bool connect;           /* tunnel: no content-length */
    bool deferred;          /* the data provider waits for bytes */
    bool submitted;         /* our headers went to nghttp2 */
    bool detached;  /* nobody waits for the rest of the request: reset once our answer is out */
    bool above;     /* told the producer to stop */
    bool end_shown; /* the owner heard of the peer's end */
    struct headers *held_trailers; /* came while paused: shown after the body */
    struct buf in;                 /* body not yet shown (paused, or inside a frame) */
    size_t unconsumed;             /* bytes of the window that `in` holds */
    struct buf out;
    struct loop_timer stuck; /* complete on our side, waiting for the peer's window */
    struct codec_counts counts;
    uint32_t interim;        /* 1xx heads seen */
    struct buf metadata_in;  /* a METADATA block that is not whole yet */
    size_t metadata_bytes;   /* of all its blocks */
    struct buf metadata_out; /* waits for our head */
    bool head_said;          /* our head is written */
    nghttp2_nv *trailers;    /* to send after out; heap */
    size_t trailer_count;
    bool has_trailers;
};

struct h2 {
    struct codec base;
    nghttp2_session *session;
    const struct codec_options *options;
    struct list streams;
    size_t open;
    struct loop_later flush;
    struct loop_timer ping, ping_wait;
    uint64_t last_rx_us;
    struct str fail; /* details of what ended the session; empty: nothing did */
    bool server, receiving, flushing, dead;
    bool goaway_received, drain_noticed, drained, failed_told;
    bool show_wanted; /* a stream was resumed while bytes were read: what it holds is shown after */
    size_t above;     /* streams whose producers were told to stop */
    size_t queued;    /* bytes in `out` of all streams */
    struct list metadata;   /* METADATA frames in nghttp2's queue */
    size_t metadata_queued; /* their bytes */
    struct buf wire;        /* serialised frames on their way to the connection */
    /* abuse */
    bool resets_bounded;  /* by configuration: nghttp2 counts them */
    uint32_t control_due; /* acknowledgements and resets that nghttp2 has not written */
    uint64_t said;        /* bytes given to the connection so far */
    uint64_t *control_at; /* those in the connection's queue: their ends in `said`, a ring; heap */
    uint32_t control_first, control_count, control_cap;
    uint64_t reset_tokens_us;             /* bucket as time: now - this, in tokens */
    int32_t reset_by_us[H2_RESET_MEMORY]; /* ids, a ring: what the peer still sends on them is no
                                             mistake */
    int32_t opened_ids[H2_RESET_MEMORY];  /* the last ones that the peer opened */
    unsigned reset_count, opened_count;
    /* frame heads are looked at before nghttp2 sees them */
    uint8_t head[9];
    size_t head_have, frame_left;
    size_t block_bytes; /* of the head that is coming: its frames */
    bool preface_seen;
    int32_t last_id; /* highest stream the peer opened */
    uint64_t inbound_priority, inbound_window, inbound_empty, opened, data_sent;
};

static inline struct h2 *h2_of(struct codec *c)
{
    return (struct h2 *)(void *)c; /* base is first */
}
static inline struct h2_stream *h2_stream_of(struct codec_stream *s)
{
    return (struct h2_stream *)(void *)s; /* base is first */
}
static inline void h2_stat(const struct h2 *h, enum h2_stat which)
{
    if (h->options->stats) stat_inc(h->options->stats, which);
}

/* h2.c */
struct h2_stream *h2_stream_new(struct h2 *h, int32_t id);
void h2_stream_free(struct h2 *h, struct h2_stream *s);
void h2_flush_soon(struct h2 *h);
/* A keep-alive ping; without an answer in time the connection ends. */
void h2_ping(struct h2 *h);
/* Ends the session: GOAWAY with the code, and nothing more is read. details is static. */
void h2_fail(struct h2 *h, uint32_t code, const char *details);
/* RST_STREAM. The stream's close follows once it is out. */
void h2_say_reset(struct h2 *h, int32_t id, uint32_t code);
/* The message may not pass (s->refused): ends its stream, or the connection (Envoy: unless
 * override_stream_error_on_invalid_http_message, when it is malformed). */
void h2_refuse_stream(struct h2 *h, struct h2_stream *s);

/* h2_limits.c */
/* Another stream ended before its time: too many of them end the connection. */
void h2_count_reset(struct h2 *h);
/* How many streams a client may reset at once and in a second. True: as configured. */
bool h2_reset_limit(const struct codec_options *o, uint64_t *burst, uint64_t *rate);
/* An acknowledgement or a reset of ours: it was queued in nghttp2; it left that queue unsaid; its
 * bytes are in `wire`. */
void h2_control_begin(struct h2 *h);
void h2_control_end(struct h2 *h);
void h2_control_said(struct h2 *h);
uint32_t h2_control_most(const struct codec_options *o);
/* A peer that asks and does not read makes us keep what we say. Too much of it ends the
 * connection. */
void h2_check_queue(struct h2 *h);
static inline bool h2_is_control(const nghttp2_frame_hd *f)
{
    bool asked = f->type == NGHTTP2_PING || f->type == NGHTTP2_SETTINGS;
    return f->type == NGHTTP2_RST_STREAM || (asked && f->flags & NGHTTP2_FLAG_ACK);
}

/* h2_check.c: follows the frames in the bytes that nghttp2 will get next: how many it may have now,
 * at most to the end of one frame. 0: a frame came on a closed stream (RFC 9113 5.1), which
 * nghttp2 1.52 lets pass; h2_fail was called. */
size_t h2_check_bytes(struct h2 *h, struct str bytes);
/* Remembers that we reset a stream. */
void h2_note_reset(struct h2 *h, int32_t id);

/* h2_recv.c: nghttp2's callbacks */
void h2_set_callbacks(nghttp2_session_callbacks *cb);
/* Shows what `in` holds, gives its bytes back to the window. */
void h2_show_data(struct h2 *h, struct h2_stream *s);

/* h2_metadata.c */
void h2_set_metadata_callbacks(nghttp2_session_callbacks *cb);
void h2_send_metadata(struct codec_stream *s, struct buf *block);
/* Our head is out: what waited for it follows. */
void h2_metadata_submit(struct h2 *h, struct h2_stream *s);
/* A frame was written or dropped by nghttp2: its bytes are no longer needed. */
void h2_metadata_done(struct h2 *h, const nghttp2_frame *frame);
/* Frees what nghttp2 never sent. */
void h2_metadata_release(struct h2 *h);

/* h2_head.c: one header of a message; false: the head is refused (s->refused). */
bool h2_head_add(struct h2 *h, struct h2_stream *s, struct str name, struct str value);
/* The head is complete: rules between versions (authority and host, cookies, extended CONNECT).
 * False: s->refused. */
bool h2_head_finish(struct h2 *h, struct h2_stream *s, bool trailers);
/* A message's fields for nghttp2, pseudo-headers first; hop-by-hop fields are left out. Heap,
 * borrowed bytes. */
nghttp2_nv *h2_head_wire(const struct h2_stream *s, const struct headers *h, bool server,
                         bool trailers, size_t *count);

/* h2_send.c */
void h2_send_headers(struct codec_stream *s, struct headers *h, bool end);
void h2_send_1xx(struct codec_stream *s, struct headers *h);
void h2_send_data(struct codec_stream *s, struct buf *data, bool end);
void h2_send_trailers(struct codec_stream *s, struct headers *t);
/* What waits to be sent is thrown away. */
void h2_drop_out(struct h2 *h, struct h2_stream *s);
void h2_set_send_callbacks(nghttp2_session_callbacks *cb);
/* Hands frames to the connection while it takes them. */
void h2_flush(struct h2 *h);
