/* Decodes what an Any carries, overwrites sensitive fields and packs it again; Any within Any
 * likewise. */
#include "proto/redact.h"

#include <string.h>

#include "base/arena.h"
#include "base/errors.h"
#include "proto/decode.h"
#include "proto/proto.h"

enum { REDACT_DEPTH_MOST = 200 }; /* Any within Any, as print.c */

struct redaction {
    struct arena *scratch;
    unsigned depth;
};

static void redact_message(const struct redaction *r, ProtobufCMessage *m, bool hide);

static void redact_any(const struct redaction *r, struct arena *out, Google__Protobuf__Any *any,
                       bool hide)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    const struct proto_type *type = proto_type_find_url(str_of(any->type_url));
    ProtobufCBinaryData bytes = any->value;
    if (!type && !hide) return;
    any->value = (ProtobufCBinaryData){0};
    if (!type || r->depth >= REDACT_DEPTH_MOST) return;
    struct redaction in = {arena_new("redact", 0), r->depth + 1};
    struct errors unused = {.arena = in.scratch}; /* broken bytes are left out */
    ProtobufCMessage *m =
        proto_unpack(in.scratch, type->desc, str_make((const char *)bytes.data, bytes.len),
                     &lenient, NULL, &unused);
    if (m) {
        redact_message(&in, m, hide);
        struct str packed = proto_pack(out, m);
        any->value.data = (uint8_t *)(uintptr_t)packed.ptr;
        any->value.len = packed.len;
    }
    arena_free(&in.scratch);
}

/* One value at its place; scalars keep their type. */
static void redact_value(const struct redaction *r, const ProtobufCFieldDescriptor *f, char *at,
                         bool hide)
{
    static const char redacted[] = "[redacted]";
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        ProtobufCMessage *m = *(ProtobufCMessage **)(void *)at;
        if (m) redact_message(r, m, hide);
    } else if (!hide) {
        return;
    } else if (f->type == PROTOBUF_C_TYPE_STRING) {
        *(const char **)(void *)at = redacted;
    } else if (f->type == PROTOBUF_C_TYPE_BYTES) {
        *(ProtobufCBinaryData *)(void *)at = (ProtobufCBinaryData){
            .data = (uint8_t *)(uintptr_t)redacted, .len = sizeof redacted - 1};
    } else {
        memset(at, 0, proto_element_size(f->type));
    }
}

static void redact_message(const struct redaction *r, ProtobufCMessage *m, bool hide)
{
    const struct proto_type *type = proto_type_of(m->descriptor);
    m->n_unknown_fields = 0;
    if (type->kind == PROTO_KIND_ANY) {
        redact_any(r, r->scratch, (Google__Protobuf__Any *)m, hide);
        return;
    }
    for (unsigned i = type->kind == PROTO_KIND_MAP_ENTRY; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        bool hidden = hide || type->fields[i].sensitive;
        char *at = (char *)m + f->offset;
        if ((!hidden && f->type != PROTOBUF_C_TYPE_MESSAGE) || !proto_field_set(m, type, i))
            continue;
        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            redact_value(r, f, at, hidden);
            continue;
        }
        size_t count = proto_field_count(m, f), size = proto_element_size(f->type);
        for (size_t k = 0; k < count; k++)
            redact_value(r, f, *(char **)(void *)at + k * size, hidden);
    }
}

void proto_redact_any(struct arena *a, Google__Protobuf__Any *any)
{
    struct redaction root = {a, 0};
    redact_any(&root, a, any, false);
}
