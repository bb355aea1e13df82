/* The HTTP/1 codec: both sides of an exchange on one connection, on llhttp. Needs nothing but a
 * connection, so that the connection manager, the pools and the admin server share it. */
#pragma once
#include "proxy/api/codec.h"
#include "proxy/stats/stats.h"

struct conn;

/* "http1." downstream, "cluster.<name>.http1." upstream: index in codec_options.stats. */
enum h1_stat {
    H1_STAT_DROPPED_UNDERSCORES,
    H1_STAT_METADATA_UNSUPPORTED,
    H1_STAT_REJECTED_UNDERSCORES,
    H1_STAT_RESPONSE_FLOOD,
    H1_STAT_COUNT
};
extern const struct stat_def h1_stat_defs[H1_STAT_COUNT];

/* A codec for an accepted connection: one request at a time; what follows it waits in the
 * connection's input. `options` and `events` are borrowed for the codec's life. Freed by ops->free.
 */
struct codec *h1_server_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner);
/* A codec for a connection that we made: ops->request opens the one exchange when the last is over
 * and the connection clean. */
struct codec *h1_client_new(struct conn *c, const struct codec_options *options,
                            const struct codec_events *events, void *owner);

/* Reason phrase ("Not Found"); "Unknown" for numbers without one. */
struct str http_status_text(uint32_t status);
/* Facts of the request under way that are not headers: valid from on_headers on. */
bool h1_request_is_http10(const struct codec_stream *s);
