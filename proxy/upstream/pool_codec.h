/* Which codec a pool's connection speaks. */
#pragma once
#include "proxy/upstream/pool_kind.h"
#include "proxy/upstream/upstream_internal.h"

struct transport_ask;
/* The codec for a connection that is up; UPSTREAM_PROTO_UNKNOWN: as ALPN said, HTTP/1 without an
 * answer. */
struct codec *pool_codec_new(struct upstream_cluster *uc, enum http_protocol_kind protocol,
                             struct conn *c, const struct codec_events *events, void *owner);
/* The codec's statistics exist from the first connection on, whatever becomes of it. */
void pool_codec_prepare(struct upstream_cluster *uc, enum http_protocol_kind protocol);
/* What the transport offers by ALPN. */
void pool_codec_ask(const struct upstream_cluster *uc, enum http_protocol_kind protocol,
                    struct transport_ask *ask);
/* The protocol of a request on this cluster (use_downstream_protocol looks at the stream). */
enum http_protocol_kind pool_protocol(const struct upstream_cluster *uc, const struct lb_ask *ask);
