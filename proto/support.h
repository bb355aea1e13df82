/* Where we stand on what a message sets: refused fields are errors, ignored and deprecated ones are
 * notes. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

struct errors;
struct proto_opts;
struct proto_path;

/* Walks the message and all below it (not into Any). A set field with verdict `refused` is added to
 * `errors`; a set one with `ignored`, and use of deprecated fields, go to opts->on_note. True:
 * nothing was refused. */
bool proto_support_check(const ProtobufCMessage *m, const struct proto_path *path,
                         const struct proto_opts *opts, struct errors *errors);
