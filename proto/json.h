/* Configuration text to messages: JSON and YAML through one value tree, the proto3 JSON mapping as
 * Envoy reads it. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include "base/str.h"
#include "proto/notes.h"
#include "proto/path.h"

struct arena;
struct errors;
struct Google__Protobuf__Struct; /* Google__Protobuf__Struct of google/protobuf/struct.pb-c.h */

/* Envoy reads what ends in .json as JSON, .yaml and .yml (and --config-yaml, always) as YAML. */
enum json_format { JSON_FORMAT_JSON, JSON_FORMAT_YAML };

/* The format that the suffix of a file name tells; false when it tells none. */
bool json_format_of(struct str file_name, enum json_format *out);

/* Reads one message from text (of several YAML documents the first). The message lives in `a`; the
 * text is borrowed for the call. Any with "@type" becomes packed bytes of the type named. Neither
 * validated nor support-checked: see proto_check. `file_name` goes into error.where
 * ("file.yaml:12:7"); NULL: "line 12:7". opts NULL: strict and silent. NULL when anything was
 * wrong: all mistakes are in `errors`, each with where and path. */
ProtobufCMessage *json_read(struct arena *a, const ProtobufCMessageDescriptor *desc,
                            struct str text, enum json_format format, const char *file_name,
                            const struct proto_opts *opts, struct errors *errors);

/* Reads a message from a Struct (the value of a TypedStruct), strictly as from JSON. NULL: told in
 * `errors` below `path`. */
ProtobufCMessage *json_struct_to_message(struct arena *a, const struct Google__Protobuf__Struct *s,
                                         const ProtobufCMessageDescriptor *desc,
                                         const struct proto_opts *opts,
                                         const struct proto_path *path, struct errors *errors);

/* Both of one type, merged as protobuf does: set scalars of `over` win, repeated fields append,
 * messages merge. A new message in `a`; either may be NULL (then a copy of the other). */
ProtobufCMessage *json_merge(struct arena *a, const ProtobufCMessage *under,
                             const ProtobufCMessage *over);
