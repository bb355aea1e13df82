/* Checks a decoded message against the validate.rules of its slices, as protoc-gen-validate does
 * for Envoy. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

struct errors;
struct proto_path;

/* Walks the message and all below it (not into Any). Every broken rule is added with the path of
 * its field, e.g. virtual_hosts[2].routes[0].match.safe_regex.regex. True: nothing was added.
 * `path` NULL: a nameless root. */
bool proto_validate(const ProtobufCMessage *m, const struct proto_path *path,
                    struct errors *errors);
