/* The HTTP/2 codec on nghttp2: both sides of a multiplexed connection behind proxy/api/codec.h.
 * Flow control is tied to pauses: bytes of a paused stream are not given back to the peer's window,
 * so a slow reader on one side holds the other within a window. */
#pragma once
#include "proxy/api/codec.h"
#include "proxy/stats/stats.h"

struct conn;

/* "http2." downstream, "cluster.<name>.http2." upstream: index in codec_options.stats. */
enum h2_stat {
    H2_STAT_COOKIES_TOO_LARGE,
    H2_STAT_DROPPED_UNDERSCORES,
    H2_STAT_GOAWAY_SENT,
    H2_STAT_LIST_TOO_LARGE,
    H2_STAT_HEADER_OVERFLOW,
    H2_STAT_HEADERS_NO_STREAM,
    H2_STAT_EMPTY_FLOOD,
    H2_STAT_PRIORITY_FLOOD,
    H2_STAT_WINDOW_FLOOD,
    H2_STAT_KEEPALIVE_TIMEOUT,
    H2_STAT_METADATA_EMPTY,
    H2_STAT_NGHTTP2_DOWNSTREAM,
    H2_STAT_NGHTTP2_UPSTREAM,
    H2_STAT_OGHTTP2_DOWNSTREAM,
    H2_STAT_OGHTTP2_UPSTREAM,
    H2_STAT_CONTROL_FLOOD,
    H2_STAT_OUTBOUND_FLOOD,
    H2_STAT_REJECTED_UNDERSCORES,
    H2_STAT_MESSAGING_ERROR,
    H2_STAT_RX_RESET,
    H2_STAT_REFUSED,
    H2_STAT_TRAILERS,
    H2_STAT_FLUSH_TIMEOUT,
    H2_STAT_TX_RESET,
    H2_STAT_DEFERRED_CLOSE,
    H2_STAT_CONTROL_ACTIVE,
    H2_STAT_OUTBOUND_ACTIVE,
    H2_STAT_PENDING_BYTES,
    H2_STAT_STREAMS_ACTIVE,
    H2_STAT_COOKIE_COUNT,
    H2_STAT_COOKIE_SIZE,
    H2_STAT_HEADER_COUNT,
    H2_STAT_HEADER_LIST_SIZE,
    H2_STAT_COUNT
};
extern const struct stat_def h2_stat_defs[H2_STAT_COUNT];

/* Codecs for an accepted connection and for one that we made; options and events are borrowed for
 * the codec's life. The server side expects the client's preface as the first bytes. Freed by
 * ops->free. */
struct codec *h2_server_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner);
struct codec *h2_client_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner);
/* Do the bytes begin with the client's preface? *more: too few to tell. */
bool h2_preface(struct str bytes, bool *more);
