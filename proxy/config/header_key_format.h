/* header_key_format: how HTTP/1 writes the names of headers. */
#pragma once
#include <stdbool.h>

struct conf_at;
struct codec_options;
struct Envoy__Config__Core__V3__Http1ProtocolOptions__HeaderKeyFormat;

/* m may be NULL: lower case. False: told. Main thread. */
bool translate_header_key_format(
    const struct conf_at *at,
    const struct Envoy__Config__Core__V3__Http1ProtocolOptions__HeaderKeyFormat *m,
    struct codec_options *out);
