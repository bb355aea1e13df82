/* Messages to JSON text, in the style of Envoy's admin pages. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include "base/str.h"

/* How to print. Zero is compact JSON with names of the .proto, unset and zero fields left out. */
struct print_opts {
    bool pretty; /* one space a level, ": " after names, as Envoy's admin */
    bool redact; /* sensitive fields become "[redacted]" (strings), base64 of it (bytes), 0 or
                    false, through Any too; of an Any that cannot be read nothing is shown */
    bool always_primitive; /* zero scalars, enums and empty lists are printed, too (not members of
                              oneofs) */
    unsigned depth;        /* pretty: how deep in another text the message stands */
};

/* Appends the message. Any is expanded with "@type" first when its type is known and its bytes are
 * good, else printed as
 * {"@type": …, "value": base64}. */
void print_json(struct sb *out, const ProtobufCMessage *m, const struct print_opts *opts);
/* Appends one field, given by its place in the descriptor: its name and its value, as print_json
 * does within the message. */
void print_json_field(struct sb *out, const ProtobufCMessage *m, size_t field,
                      const struct print_opts *opts);
/* print_json in the arena. */
struct arena;
struct str print_to(struct arena *a, const ProtobufCMessage *m, const struct print_opts *opts);
