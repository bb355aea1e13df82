/* The pre-scan: walks serialised bytes by descriptor before protobuf-c sees them, because
 * protobuf-c recurses without a bound and takes any bytes for a string. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

struct errors;
struct proto_opts;
struct proto_path;

enum { PROTO_DEPTH_MOST = 100 };

/* True when the bytes are well-formed for the type: no nesting over PROTO_DEPTH_MOST, no NUL or
 * invalid UTF-8 in a string, no wrong wire type, no truncation, no group. Unknown field numbers as
 * `opts` says (NULL: reject); the contents of skiff.Unsupported are exempt. Does not look into Any.
 * False: added to `errors`. */
bool proto_wire_check(const ProtobufCMessageDescriptor *desc, struct str bytes,
                      const struct proto_opts *opts, const struct proto_path *path,
                      struct errors *errors);

/* One field as it stands on the wire. */
struct proto_piece {
    uint32_t number;
    unsigned wire;   /* 2: length-delimited, with a body; others' values are passed over */
    struct str body; /* borrowed */
};
/* Takes the next field off *rest (not empty). False: truncated or malformed. */
bool proto_piece_take(struct str *rest, struct proto_piece *p);
