/* Things that are worth telling but refuse nothing: unknown fields in dynamic config, ignored and
 * deprecated fields. */
#pragma once
#include "base/str.h"

enum proto_note_kind {
    PROTO_NOTE_UNKNOWN, /* a field number that the slices do not know */
    PROTO_NOTE_IGNORED, /* accepted without effect; the text says why that is harmless */
    PROTO_NOTE_DEPRECATED
};
/* What to do with a field number that the slices do not know (Envoy: reject in static, warn in
 * dynamic config). */
enum proto_unknown { PROTO_UNKNOWN_REJECT, PROTO_UNKNOWN_WARN, PROTO_UNKNOWN_IGNORE };

/* How to read one resource. Zero is strict and silent. */
struct proto_opts {
    enum proto_unknown unknown;
    /* NULL: not interested. Path and text live in the arena of the errors list of the same call. */
    void (*on_note)(void *user, enum proto_note_kind kind, struct str path, struct str text);
    void *user;
};
