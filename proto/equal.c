/* Canonical bytes: what proto_pack writes, but with the entries of every map in one order, inside
 * known Anys too. */
#include "proto/equal.h"

#include <stdlib.h>
#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "proto/notes.h"
#include "proto/path.h"
#include "proto/proto.h"
#include "proto/wire.h"
#include "base/errors.h"

/* Anys may nest in Anys: below this they are taken as bytes. */
enum { ANY_DEPTH_MOST = 16 };

static void put_varint(struct sb *out, uint64_t value)
{
    while (value >= 0x80) {
        sb_char(out, (char)(value | 0x80));
        value >>= 7;
    }
    sb_char(out, (char)value);
}

static void put_tag(struct sb *out, uint32_t number, unsigned wire)
{
    put_varint(out, (uint64_t)number << 3 | wire);
}

static void put_bytes(struct sb *out, uint32_t number, struct str bytes)
{
    put_tag(out, number, 2);
    put_varint(out, bytes.len);
    sb_add(out, bytes);
}

static void put_zigzag(struct sb *out, int64_t value)
{
    put_varint(out, (uint64_t)value << 1 ^ (uint64_t)(value >> 63));
}

static void put_message(struct sb *out, const ProtobufCMessage *m, const struct proto_type *type,
                        unsigned anys);

/* One value with its tag. `at` is the storage of one element. */
static void put_value(struct sb *out, const ProtobufCFieldDescriptor *f,
                      const struct proto_type *sub, const void *at, unsigned anys)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: put_bytes(out, f->id, str_of(*(const char *const *)at)); return;
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = at;
        put_bytes(out, f->id, str_make((const char *)b->data, b->len));
        return;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        struct sb body = {0};
        const ProtobufCMessage *m = *(ProtobufCMessage *const *)at;
        if (m) put_message(&body, m, sub, anys);
        put_bytes(out, f->id, sb_str(&body));
        sb_release(&body);
        return;
    }
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        put_tag(out, f->id, 5);
        sb_add(out, str_make(at, 4));
        return;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        put_tag(out, f->id, 1);
        sb_add(out, str_make(at, 8));
        return;
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_INT32:
        put_tag(out, f->id, 0);
        put_varint(out, (uint64_t)(int64_t) * (const int32_t *)at);
        return;
    case PROTOBUF_C_TYPE_SINT32:
        put_tag(out, f->id, 0);
        put_zigzag(out, *(const int32_t *)at);
        return;
    case PROTOBUF_C_TYPE_SINT64:
        put_tag(out, f->id, 0);
        put_zigzag(out, *(const int64_t *)at);
        return;
    case PROTOBUF_C_TYPE_UINT32:
        put_tag(out, f->id, 0);
        put_varint(out, *(const uint32_t *)at);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        put_tag(out, f->id, 0);
        put_varint(out, *(const protobuf_c_boolean *)at != 0);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        put_tag(out, f->id, 0);
        put_varint(out, *(const uint64_t *)at);
        return;
    }
}

static int compare_str(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

/* Any order will do as long as it is one order: by the bytes of the entries. */
static void put_map(struct sb *out, const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
                    const struct proto_type *entry, unsigned anys)
{
    size_t count = proto_field_count(m, f);
    struct arena *scratch = arena_new("canonical map", 0);
    struct str *entries = ARENA_ARRAY(scratch, struct str, count);
    for (size_t i = 0; i < count; i++) {
        struct sb body = {0};
        put_message(&body, proto_field_message(m, f, i), entry, anys);
        entries[i] = str_dup(scratch, sb_str(&body));
        sb_release(&body);
    }
    qsort(entries, count, sizeof *entries, compare_str);
    for (size_t i = 0; i < count; i++)
        put_bytes(out, f->id, entries[i]);
    arena_free(&scratch);
}

/* Writers of an Any need not order its maps: unpack what we know. False: the bytes must be taken as
 * they are. */
static bool put_any(struct sb *out, const ProtobufCMessage *m, const struct proto_type *type,
                    unsigned anys)
{
    const char *url = *(const char *const *)proto_field_at(m, &type->desc->fields[0]);
    const ProtobufCBinaryData *value = proto_field_at(m, &type->desc->fields[1]);
    const struct proto_type *inner = proto_type_find_url(str_of(url));
    if (!inner || anys >= ANY_DEPTH_MOST || value->len == 0) return false;
    struct arena *scratch = arena_new("canonical any", 0);
    struct errors errors = {.arena = scratch};
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct str bytes = str_make((const char *)value->data, value->len);
    ProtobufCAllocator allocator = proto_arena_allocator(scratch);
    ProtobufCMessage *sub = NULL;
    if (proto_wire_check(inner->desc, bytes, &lenient, NULL, &errors))
        sub = protobuf_c_message_unpack(inner->desc, &allocator, bytes.len, value->data);
    if (sub) {
        struct sb body = {0};
        put_message(&body, sub, inner, anys + 1);
        put_bytes(out, 1, str_of(url));
        put_bytes(out, 2, sb_str(&body));
        sb_release(&body);
    }
    arena_free(&scratch);
    return sub != NULL;
}

static void put_field(struct sb *out, const ProtobufCMessage *m, const struct proto_type *type,
                      size_t idx, unsigned anys)
{
    const ProtobufCFieldDescriptor *f = &type->desc->fields[idx];
    const struct proto_field *facts = &type->fields[idx];
    if (!proto_field_set(m, type, idx)) return;
    if (facts->map) {
        put_map(out, m, f, facts->type, anys);
    } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        const char *items = *(const char *const *)proto_field_at(m, f);
        size_t size = proto_element_size(f->type);
        for (size_t i = 0; i < proto_field_count(m, f); i++)
            put_value(out, f, facts->type, items + i * size, anys);
    } else {
        put_value(out, f, facts->type, proto_field_at(m, f), anys);
    }
}

static void put_unknown(struct sb *out, const ProtobufCMessageUnknownField *u)
{
    put_tag(out, u->tag, (unsigned)u->wire_type);
    sb_add(out, str_make((const char *)u->data, u->len)); /* a length prefix is part of the data */
}

static void put_message(struct sb *out, const ProtobufCMessage *m, const struct proto_type *type,
                        unsigned anys)
{
    if (type->kind == PROTO_KIND_ANY && put_any(out, m, type, anys)) return;
    for (size_t i = 0; i < type->desc->n_fields; i++)
        put_field(out, m, type, i, anys);
    for (unsigned i = 0; i < m->n_unknown_fields; i++)
        put_unknown(out, &m->unknown_fields[i]);
}

struct str proto_canonical(struct arena *a, const ProtobufCMessage *m)
{
    struct sb out = {0};
    put_message(&out, m, proto_type_of(m->descriptor), 0);
    struct str bytes = str_dup(a, sb_str(&out));
    sb_release(&out);
    return bytes;
}

uint64_t proto_hash(const ProtobufCMessage *m)
{
    struct sb out = {0};
    put_message(&out, m, proto_type_of(m->descriptor), 0);
    uint64_t hash = hash_xxh64(sb_str(&out), 0);
    sb_release(&out);
    return hash ? hash : 1;
}

bool proto_equal(const ProtobufCMessage *x, const ProtobufCMessage *y)
{
    if (!x || !y) return x == y;
    if (x->descriptor != y->descriptor) return false;
    const struct proto_type *type = proto_type_of(x->descriptor);
    struct sb left = {0}, right = {0};
    put_message(&left, x, type, 0);
    put_message(&right, y, type, 0);
    bool same = str_eq(sb_str(&left), sb_str(&right));
    sb_release(&left);
    sb_release(&right);
    return same;
}
