/* Http1ProtocolOptions and Http2ProtocolOptions: the same for a connection manager and for a
 * cluster. Main thread. */
#pragma once
#include <stdbool.h>

struct conf_at;
struct codec_options;
struct Envoy__Config__Core__V3__Http1ProtocolOptions;
struct Envoy__Config__Core__V3__Http2ProtocolOptions;

/* All but what a bad message does, whose default each side has its own. m NULL: nothing changes.
 * False: told. */
bool translate_http1_options(const struct conf_at *at,
                             const struct Envoy__Config__Core__V3__Http1ProtocolOptions *m,
                             struct codec_options *o);
bool translate_http2_options(const struct conf_at *at,
                             const struct Envoy__Config__Core__V3__Http2ProtocolOptions *m,
                             struct codec_options *o);
