/* Comparing messages by meaning: the order of map entries and of bytes on the wire does not count.
 */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

struct arena;

/* Deterministic bytes: fields by number, map entries sorted by key, unknown fields last in the
 * order seen. Valid wire format. The bytes inside an Any are taken as they are. */
struct str proto_canonical(struct arena *a, const ProtobufCMessage *m);
/* xxh64 of the canonical bytes. Never 0. */
uint64_t proto_hash(const ProtobufCMessage *m);
/* Same type and same meaning. Both NULL is equal. */
bool proto_equal(const ProtobufCMessage *x, const ProtobufCMessage *y);
