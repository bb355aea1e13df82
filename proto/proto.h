/* What the generator knows about each message beyond protobuf-c's descriptors: the registry of
 * types by name, and facts on each field (JSON name, map-ness, constraint rules, where we stand on
 * it). All of it is constant data. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct arena;
struct proto_rules; /* proto/rules.h; only validate.c looks inside */

/* Where Skiff stands on a field (the options of proto/skiff/support.proto). */
enum proto_verdict { PROTO_IMPLEMENTED, PROTO_IGNORED, PROTO_REFUSED };

/* Types that JSON, equality and dumps treat in their own way. */
enum proto_kind {
    PROTO_KIND_PLAIN,
    PROTO_KIND_ANY,
    PROTO_KIND_DURATION,
    PROTO_KIND_TIMESTAMP,
    PROTO_KIND_STRUCT,
    PROTO_KIND_VALUE,
    PROTO_KIND_LIST_VALUE,
    PROTO_KIND_WRAPPER, /* google.protobuf.*Value: one field "value" */
    PROTO_KIND_EMPTY,
    PROTO_KIND_FIELD_MASK,
    PROTO_KIND_TYPED_STRUCT, /* xds.type.v3 or udpa.type.v1: type_url and value */
    PROTO_KIND_UNSUPPORTED,  /* skiff.Unsupported: a type that we do not declare */
    PROTO_KIND_MAP_ENTRY     /* fields: key = 1, value = 2 */
};

/* Facts on one field; fields[i] belongs to desc->fields[i] (both in order of field number). */
struct proto_field {
    const char *json_name;           /* lowerCamelCase; desc->fields[i].name is the .proto name */
    const char *reason;              /* why it is ignored; NULL otherwise */
    const struct proto_rules *rules; /* NULL: none */
    const struct proto_type *type;   /* of a message field (for a map: the entry type); else NULL */
    uint8_t verdict;                 /* enum proto_verdict */
    bool map;                        /* repeated entry messages in protobuf-c */
    bool deprecated;
    bool oneof;       /* member of a oneof of two or more (a proto3 `optional` is none) */
    bool presence;    /* the proto has presence: a message, a oneof member or an `optional` */
    bool enum_marked; /* an enum with deprecated or refused values */
    bool sensitive;   /* hidden in dumps (udpa.annotations.sensitive) */
};

/* A oneof with (validate.required). */
struct proto_required {
    const char *name; /* of the oneof in the .proto */
    uint16_t first;   /* index of one member in desc->fields: its quantifier_offset is the case */
};

/* One message type. */
struct proto_type {
    const char *name; /* full name, "envoy.config.route.v3.Route" */
    const ProtobufCMessageDescriptor *desc;
    const struct proto_field *fields;      /* desc->n_fields of them */
    const struct proto_required *required; /* required oneofs */
    uint16_t required_count;
    uint8_t kind; /* enum proto_kind */
    bool deprecated;
    bool has_rules;    /* some rule, here or below: validation may skip it otherwise */
    bool has_verdicts; /* some ignored, refused or deprecated field, here or below */
};

/* NULL when we do not declare the type. */
const struct proto_type *proto_type_find(struct str full_name);
/* By "type.googleapis.com/envoy…" (any prefix before the last slash, as Envoy). */
const struct proto_type *proto_type_find_url(struct str url);
/* Never NULL for a generated descriptor. */
const struct proto_type *proto_type_of(const ProtobufCMessageDescriptor *desc);
/* The name behind the last slash of a type URL; the whole when there is no slash. */
struct str proto_url_name(struct str url);
/* "type.googleapis.com/" + name, in the arena. */
struct str proto_url(struct arena *a, const struct proto_type *type);
/* Index in desc->fields by .proto name or by JSON name; SIZE_MAX when absent. */
size_t proto_field_by_name(const struct proto_type *type, struct str name);
/* The value of an enum by name; false when unknown. */
bool proto_enum_by_name(const ProtobufCEnumDescriptor *desc, struct str name, int *value);
/* The name of a value (the first declared of aliases); NULL when unknown. */
const char *proto_enum_name(const ProtobufCEnumDescriptor *desc, int value);
/* All types in the order of their names (for tools and coverage). */
const struct proto_type *const *proto_types(size_t *count);

/* --- reading messages without knowing their C type --- */

/* Is the field set? Repeated: not empty; presence: its case or pointer; scalars without presence:
 * not the default. */
bool proto_field_set(const ProtobufCMessage *m, const struct proto_type *type, size_t idx);
/* Address of the field's storage (of the first member `T x` or `T *x`/`size_t n_x` by descriptor).
 */
static inline const void *proto_field_at(const ProtobufCMessage *m,
                                         const ProtobufCFieldDescriptor *f)
{
    return (const char *)m + f->offset;
}
/* Number of elements of a repeated field. */
size_t proto_field_count(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f);
/* Bytes of one element in the array of a repeated field. */
size_t proto_element_size(ProtobufCType type);
/* The sub-message of a singular field, or element `at` of a repeated one; NULL when unset. */
const ProtobufCMessage *proto_field_message(const ProtobufCMessage *m,
                                            const ProtobufCFieldDescriptor *f, size_t at);
/* An allocator for protobuf-c that takes from the arena and never frees. */
ProtobufCAllocator proto_arena_allocator(struct arena *a);
/* Serialised bytes in the arena. */
struct str proto_pack(struct arena *a, const ProtobufCMessage *m);
/* A deep copy in the arena (through its bytes, unknown fields included). */
ProtobufCMessage *proto_dup(struct arena *a, const ProtobufCMessage *m);
