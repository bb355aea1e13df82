/* local_reply_config: mappers and body formats for the answers that we make ourselves. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct http_stream;
struct headers;
struct format;
struct header_change;
struct stream_info;
struct worker;

struct local_reply_format {
    const struct format *format; /* NULL: "%LOCAL_REPLY_BODY%" */
    struct str content_type;     /* empty: text/plain, application/json for JSON formats */
};
struct local_reply_mapper {
    const void *filter; /* an access log filter, read by `match`; NULL: every reply */
    bool (*match)(struct worker *w, const void *filter, const struct stream_info *info);
    uint32_t status; /* 0: unchanged */
    bool has_body;
    struct str body;
    const struct local_reply_format *format; /* NULL: the list's */
    const struct header_change *headers;
};
struct local_reply_conf {
    const struct local_reply_mapper *mappers;
    size_t mapper_count;
    const struct local_reply_format *format; /* NULL: plain */
};
/* Applies the first mapper that fits and the body format. *body and *type are in the stream's
 * arena. */
void local_reply_rewrite(struct http_stream *s, struct headers *h, uint32_t *status,
                         struct str *body, struct str *type);
/* Envoy: the gRPC status that stands for an HTTP status (doc: http-grpc-status-mapping). */
int grpc_status_of_http(uint32_t status);
