/* Changes of a request's headers before anything is made of them: before the client's address is
 * worked out and a route is chosen (early_header_mutation_extensions). */
#pragma once
#include "proxy/api/extension.h"

struct headers;
struct stream_info;

struct early_headers_type {
    struct extension ext;
    /* Main. The result lives in conf_arena(at); NULL: told. */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg);
    /* Worker. */
    void (*mutate)(const void *conf, struct headers *h, const struct stream_info *info);
};
