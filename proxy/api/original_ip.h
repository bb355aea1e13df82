/* Who the client of a request is, told by an extension of the connection manager
 * (original_ip_detection_extensions). */
#pragma once
#include "base/addr.h"
#include "proxy/api/extension.h"

struct headers;

struct original_ip {
    bool found;
    struct addr address;
    bool trusted;         /* it may tell "internal" */
    bool skip_xff_append; /* the peer is not noted in x-forwarded-for, found or not */
    uint32_t reject;      /* status; 0: not refused */
};
struct original_ip_type {
    struct extension ext;
    /* Main. The result lives in conf_arena(at); NULL: told. */
    const void *(*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg);
    /* Worker. `peer` is who is connected; *out is zero before. */
    void (*detect)(const void *conf, const struct headers *h, const struct addr *peer,
                   struct arena *scratch, struct original_ip *out);
};
