/* From bytes, or from an Any, to a checked message in an arena. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include "base/str.h"
#include "proto/notes.h"
#include "proto/path.h"
#include "proto/proto.h"

struct arena;
struct errors;
struct Google__Protobuf__Any; /* Google__Protobuf__Any of google/protobuf/any.pb-c.h */

/* Pre-scan, unpack into the arena, validate, support check. NULL when any of them failed; all
 * mistakes are in `errors`. opts NULL: strict and silent. path NULL: a nameless root. */
ProtobufCMessage *proto_decode(struct arena *a, const ProtobufCMessageDescriptor *desc,
                               struct str bytes, const struct proto_opts *opts,
                               const struct proto_path *path, struct errors *errors);
/* Pre-scan and unpack only: for messages of the protocol itself (DiscoveryResponse). */
ProtobufCMessage *proto_unpack(struct arena *a, const ProtobufCMessageDescriptor *desc,
                               struct str bytes, const struct proto_opts *opts,
                               const struct proto_path *path, struct errors *errors);
/* Validate and support check of a message that is there already (read from YAML or JSON). */
bool proto_check(const ProtobufCMessage *m, const struct proto_opts *opts,
                 const struct proto_path *path, struct errors *errors);

/* The full name of what an Any carries, looking through both forms of TypedStruct; empty when there
 * is no type URL. Borrows from the Any or lives in `a`. */
struct str proto_any_name(struct arena *a, const struct Google__Protobuf__Any *any);
/* Decodes and checks what an Any carries. `expect` non-NULL: any other type is an error. A
 * TypedStruct is resolved to the type that it names. An undeclared type is an error that names it.
 * NULL: told in `errors` at `path`. */
ProtobufCMessage *proto_any_unpack(struct arena *a, const struct Google__Protobuf__Any *any,
                                   const ProtobufCMessageDescriptor *expect,
                                   const struct proto_opts *opts, const struct proto_path *path,
                                   struct errors *errors);
/* Makes an Any around a message; all in the arena. */
struct Google__Protobuf__Any *proto_any_pack(struct arena *a, const ProtobufCMessage *m);
