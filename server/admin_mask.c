/* Field masks: a message cut down to the paths that are asked for. */
#include <protobuf-c/protobuf-c.h>
#include <string.h>

#include "base/arena.h"
#include "base/errors.h"
#include "google/protobuf/any.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "server/admin_internal.h"

enum { MASK_PATHS_MOST = 256 };

struct admin_mask admin_mask_parse(struct arena *a, struct str text)
{
    struct str *paths = ARENA_ARRAY(a, struct str, MASK_PATHS_MOST), one;
    size_t count = 0;
    while (count < MASK_PATHS_MOST && str_next(&text, ',', &one))
        if (one.len) paths[count++] = one;
    return (struct admin_mask){paths, count};
}

static void field_clear(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    static const size_t none = 0;
    char *empty = (char *)(uintptr_t)protobuf_c_empty_string;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        memcpy((char *)m + f->quantifier_offset, &none, sizeof none);
        return;
    }
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        uint32_t number;
        memcpy(&number, (char *)m + f->quantifier_offset, sizeof number);
        if (number == f->id) memset((char *)m + f->quantifier_offset, 0, sizeof number);
        return;
    }
    memset((char *)m + f->offset, 0, proto_element_size(f->type));
    if (f->type == PROTOBUF_C_TYPE_STRING) memcpy((char *)m + f->offset, &empty, sizeof empty);
}

/* The rests of the paths that go through `name`; *whole: one ends there. */
static struct admin_mask mask_below(struct arena *a, const struct admin_mask *mask, struct str name,
                                    bool *whole)
{
    struct str *rests = ARENA_ARRAY(a, struct str, mask->count);
    size_t count = 0;
    *whole = false;
    for (size_t i = 0; i < mask->count; i++) {
        struct str first = mask->paths[i], rest = STR_NONE;
        (void)str_cut(mask->paths[i], '.', &first, &rest);
        if (!str_eq(first, name)) continue;
        if (rest.len)
            rests[count++] = rest;
        else
            *whole = true;
    }
    return (struct admin_mask){rests, count};
}

static ProtobufCMessage *any_open(struct arena *a, const Google__Protobuf__Any *any)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    const struct proto_type *type = proto_type_find_url(str_of(any->type_url));
    struct errors unused = {.arena = a};
    if (!type) return NULL;
    return proto_unpack(a, type->desc, str_make((const char *)any->value.data, any->value.len),
                        &lenient, NULL, &unused);
}

static bool trim_any(struct arena *a, Google__Protobuf__Any *any, const struct admin_mask *mask)
{
    ProtobufCMessage *inside = any_open(a, any);
    if (!inside || !admin_mask_trim(a, inside, mask)) return false;
    struct str bytes = proto_pack(a, inside);
    any->value.data = arena_copy(a, bytes.ptr, bytes.len);
    any->value.len = bytes.len;
    return true;
}

/* Do all paths exist? Only what is there can be looked at through Any, so an absent Any lets all
 * paths through. */
static bool mask_valid(const ProtobufCMessageDescriptor *desc, const struct admin_mask *mask)
{
    const struct proto_type *type = proto_type_of(desc);
    for (size_t i = 0; i < mask->count; i++) {
        struct str first = mask->paths[i], rest = STR_NONE;
        (void)str_cut(mask->paths[i], '.', &first, &rest);
        size_t idx = proto_field_by_name(type, first);
        if (idx == SIZE_MAX) return false;
        if (rest.len == 0) continue;
        const struct proto_type *sub = type->fields[idx].type;
        if (!sub || desc->fields[idx].label == PROTOBUF_C_LABEL_REPEATED) return false;
        const struct admin_mask below = {&rest, 1};
        if (sub->kind != PROTO_KIND_ANY && !mask_valid(sub->desc, &below)) return false;
    }
    return true;
}

bool admin_mask_trim(struct arena *a, struct ProtobufCMessage *m, const struct admin_mask *mask)
{
    const struct proto_type *type = proto_type_of(m->descriptor);
    if (type->kind == PROTO_KIND_ANY) return trim_any(a, (Google__Protobuf__Any *)m, mask);
    if (!mask_valid(m->descriptor, mask)) return false;
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        bool whole;
        struct admin_mask below = mask_below(a, mask, str_of(f->name), &whole);
        if (whole) continue;
        if (below.count == 0) {
            field_clear(m, f);
            continue;
        }
        ProtobufCMessage *sub = (ProtobufCMessage *)(uintptr_t)proto_field_message(m, f, 0);
        if (sub && !admin_mask_trim(a, sub, &below)) return false;
    }
    return true;
}
