/* Metadata as messages: what goes to services that speak google.protobuf.Struct. */
#pragma once

struct arena;
struct value;
struct Google__Protobuf__Struct;
struct Google__Protobuf__Value;

/* In the arena. v must be a VALUE_STRUCT. */
struct Google__Protobuf__Struct *struct_message(struct arena *a, const struct value *v);
struct Google__Protobuf__Value *value_message(struct arena *a, const struct value *v);
