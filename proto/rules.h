/* The constraint rules of a field as the generator writes them (from validate.rules). Only
 * validate.c reads them. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

/* Which members of struct proto_rules count. */
enum {
    RULE_REQUIRED = 1 << 0,     /* message, any, duration: must be set */
    RULE_SKIP = 1 << 1,         /* do not look inside the message */
    RULE_DEFINED_ONLY = 1 << 2, /* enum: a declared value */
    RULE_MIN_LEN = 1 << 3,      /* string: characters; bytes: bytes */
    RULE_MAX_LEN = 1 << 4,
    RULE_MAX_BYTES = 1 << 5,
    RULE_GT = 1 << 6, /* numbers and durations against low or high */
    RULE_GTE = 1 << 7,
    RULE_LT = 1 << 8,
    RULE_LTE = 1 << 9,
    RULE_CONST = 1 << 10, /* bool: equals low.u */
    RULE_IGNORE_EMPTY = 1 << 11,
    RULE_UNIQUE = 1 << 12,    /* repeated */
    RULE_MIN_ITEMS = 1 << 13, /* repeated and map */
    RULE_MAX_ITEMS = 1 << 14,
    RULE_HEADER_NAME = 1 << 15, /* string: a header name */
    RULE_HEADER_VALUE = 1 << 16,
    RULE_LOOSE = 1 << 17 /* the two above: only NUL, CR and LF are refused */
};

/* A bound: by the field's type signed, unsigned, floating point, or a duration in nanoseconds (i).
 */
union proto_number {
    int64_t i;
    uint64_t u;
    double d;
};

struct proto_rules {
    uint32_t flags;
    uint32_t not_in_count;
    union proto_number low, high;
    uint64_t min_len, max_len,
        max_bytes; /* min_len and max_len serve items, too, in rules of a repeated field */
    const char *pattern, *prefix, *suffix; /* NULL: none */
    const char *const *in;                 /* strings; NULL at the end */
    const int32_t *not_in;                 /* enum values */
    const struct proto_rules *items;       /* repeated: each element; map: each value */
    const struct proto_rules *keys;        /* map */
};

/* An enum value with a mark. */
struct proto_enum_mark {
    const char *name; /* of the enum, full */
    int32_t value;
    uint8_t deprecated, refused;
};

/* Generated (gen/proto/tables.c): all types in the order of their names, and the marked enum
 * values. */
struct proto_type;
extern const struct proto_type *const proto_type_table[];
extern const size_t proto_type_table_count;
extern const struct proto_enum_mark proto_enum_marks[];
extern const size_t proto_enum_mark_count;
/* The mark of an enum value, or NULL. */
const struct proto_enum_mark *proto_enum_mark_of(const ProtobufCEnumDescriptor *desc, int value);
