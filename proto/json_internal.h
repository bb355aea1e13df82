/* The value tree between text and messages; shared by the JSON and YAML parsers, the builder and
 * source.c. */
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"
#include "proto/json.h"
#include "proto/proto.h"

enum {
    JSON_DEPTH_MOST = 100, /* levels of objects and lists, as protobuf's own JSON reader */
    JSON_ALIAS_NODES_MOST =
        1000000 /* values that YAML aliases may add when they are all replayed */
};

enum jval_type { JVAL_NULL, JVAL_BOOL, JVAL_NUMBER, JVAL_STRING, JVAL_OBJECT, JVAL_ARRAY };

/* One value, and the name under which its object has it. All text is borrowed from the source or
 * lives in the tree's arena. */
struct jval {
    struct jval *next; /* sibling: next member or element */
    struct str key;    /* in objects */
    struct str text;   /* numbers, strings; a boolean's "true" or "false" */
    union {
        struct jval *first;      /* objects and lists */
        const struct str *plain; /* YAML booleans and numbers: as written; NULL in JSON */
    };
    uint32_t line, column; /* of the value, from 1; line 0: unknown */
    uint32_t key_line, key_column;
    uint32_t nodes; /* this and all below, aliases replayed; saturates */
    uint8_t height; /* levels below */
    uint8_t type;   /* enum jval_type */
    bool doubled;   /* the object had the name before; that value is gone */
};

/* Why a text is not JSON or YAML. */
struct json_fault {
    struct str text; /* in the arena of the parse */
    uint32_t line, column;
};

/* The tree of a text, in the arena; NULL: *fault tells. `yaml_numbers`: numbers are typed as in
 * YAML (only 32-bit integers are numbers). */
struct jval *json_parse(struct arena *a, struct str text, bool yaml_numbers,
                        struct json_fault *fault);
/* The tree of the first document. An empty one gives a null value. */
struct jval *yaml_parse(struct arena *a, struct str text, struct json_fault *fault);
/* Either. YAML that is JSON takes the fast way. */
struct jval *json_parse_any(struct arena *a, struct str text, enum json_format format,
                            struct json_fault *fault);
/* The member of that name (the last of equal ones), or NULL. */
struct jval *jval_member(const struct jval *object, struct str key);

/* Of members with the same name only the last stays, marked `doubled` (Envoy: the last one counts).
 */
void jval_drop_doubles(struct jval *object, size_t count);

/* Scalars of the mapping. False: not such a value; *why is a static text. */
bool json_to_i64(const struct jval *v, int64_t low, int64_t high, int64_t *out, const char **why);
bool json_to_u64(const struct jval *v, uint64_t high, uint64_t *out, const char **why);
bool json_to_double(const struct jval *v, bool single, double *out, const char **why);
bool json_to_bool(const struct jval *v, bool *out, const char **why);
/* "1.5s", "-0.000000001s" and RFC 3339 times. */
bool json_to_duration(struct str text, int64_t *seconds, int32_t *nanos, const char **why);
bool json_to_timestamp(struct str text, int64_t *seconds, int32_t *nanos, const char **why);

/* What builds a message from a tree. */
struct json_builder {
    struct arena *out;             /* where messages go */
    struct arena *scratch;         /* dies with the read */
    const struct proto_opts *opts; /* may be NULL */
    struct errors *errors;
    const char *file; /* may be NULL */
    bool idle;        /* below a field that has no effect or is refused: Anys there need not be of a
                         declared type */
};
/* Adds an error at a value (at its name when `at_key`). Always false. */
bool json_fail(struct json_builder *b, const struct jval *v, bool at_key,
               const struct proto_path *path, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* "a string \"x\"", "a list", … in the scratch arena; for "expected a number, got %.*s". */
struct str json_describe(struct json_builder *b, const struct jval *v);
/* A message of the type from a value (never of a null); NULL: told. */
ProtobufCMessage *json_build(struct json_builder *b, const struct proto_type *type,
                             const struct jval *v, const struct proto_path *path);
/* google.protobuf.Struct, Value and ListValue. */
ProtobufCMessage *json_build_struct(struct json_builder *b, const struct proto_type *type,
                                    const struct jval *v, const struct proto_path *path);
/* A new message of the type in b->out. */
ProtobufCMessage *json_message_new(struct json_builder *b, const ProtobufCMessageDescriptor *desc);
/* The nearest known field or enum value name, or empty. The result is borrowed or in the scratch
 * arena. */
struct str json_nearest_field(struct json_builder *b, const struct proto_type *type,
                              struct str name);
struct str json_nearest_enum(const ProtobufCEnumDescriptor *desc, struct str name);
/* A field that the slices do not have: error or note. True: go on. */
bool json_unknown_field(struct json_builder *b, const struct proto_type *type, const struct jval *v,
                        const struct proto_path *path);
/* A note for opts->on_note. */
void json_note(struct json_builder *b, enum proto_note_kind kind, const struct proto_path *path,
               const char *text);
