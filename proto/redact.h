/* Hides secrets in binary messages, as print.h does in text: the same fields (marked sensitive in
 * the .proto), the same words. */
#pragma once
#include "google/protobuf/any.pb-c.h"

struct arena;

/* Replaces the Any's bytes by ones without secrets, in the arena (the old ones are only read). What
 * we do not declare is left out, as in text; so are bytes that do not decode as the type says,
 * since nobody can tell what is secret in them. A type that we do not know stays as it is. */
void proto_redact_any(struct arena *a, Google__Protobuf__Any *any);
