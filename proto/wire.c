/* The pre-scan of serialised messages. It recurses, at most PROTO_DEPTH_MOST deep. */
#include "proto/wire.h"

#include "base/arena.h"
#include "base/errors.h"
#include "base/text.h"
#include "proto/notes.h"
#include "proto/path.h"
#include "proto/proto.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_LEN = 2, WIRE_32 = 5 };
/* Small sub-messages cost 2 bytes on the wire and hundreds in memory: more than this factor, over a
 * floor, is hostile. */
enum { MEMORY_FACTOR = 128, MEMORY_FLOOR = 64 << 20 };

struct scan {
    const struct proto_opts *opts;
    struct errors *errors;
    size_t bytes;  /* of the whole message */
    size_t memory; /* that the decoded structs will take, roughly */
    bool stop;     /* nothing more is worth reading */
};

/* One message being walked. */
struct cursor {
    const uint8_t *at, *end;
    const struct proto_type *type;
    const struct proto_path *path;
    unsigned depth;
    bool foreign; /* inside skiff.Unsupported: any field goes */
    size_t last;  /* index of the last repeated field seen, and how often it came in a row */
    size_t run;
};

static bool scan_fail(struct scan *s, const struct proto_path *path, const char *text)
{
    return errors_add(s->errors, proto_path_text(s->errors->arena, path), "%s", text);
}

/* At most ten bytes, as protobuf. */
static bool take_varint(struct cursor *c, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        if (c->at == c->end) return false;
        uint8_t byte = *c->at++;
        value |= shift < 64 ? (uint64_t)(byte & 0x7f) << shift : 0;
        if (!(byte & 0x80)) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool take_fixed(struct cursor *c, size_t size)
{
    if ((size_t)(c->end - c->at) < size) return false;
    c->at += size;
    return true;
}

static bool take_piece(struct cursor *c, struct proto_piece *p)
{
    uint64_t tag, value;
    if (!take_varint(c, &tag) || tag > UINT32_MAX || tag >> 3 == 0) return false;
    p->number = (uint32_t)(tag >> 3);
    p->wire = tag & 7;
    switch (p->wire) {
    case WIRE_VARINT: return take_varint(c, &value);
    case WIRE_64: return take_fixed(c, 8);
    case WIRE_32: return take_fixed(c, 4);
    case WIRE_LEN:
        if (!take_varint(c, &value) || value > (uint64_t)(c->end - c->at)) return false;
        p->body = str_make((const char *)c->at, (size_t)value);
        c->at += value;
        return true;
    default: return false; /* groups */
    }
}

bool proto_piece_take(struct str *rest, struct proto_piece *p)
{
    struct cursor c = {.at = (const uint8_t *)rest->ptr,
                       .end = (const uint8_t *)rest->ptr + rest->len};
    p->body = STR_NONE;
    if (!take_piece(&c, p)) return false;
    *rest = str_make((const char *)c.at, (size_t)(c.end - c.at));
    return true;
}

static unsigned wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT: return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: return WIRE_LEN;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM: return WIRE_VARINT;
    }
    return WIRE_VARINT;
}

/* A packed list must consist of whole values. */
static bool packed_ok(ProtobufCType type, struct str body)
{
    struct cursor c = {.at = (const uint8_t *)body.ptr,
                       .end = (const uint8_t *)body.ptr + body.len};
    unsigned wire = wire_of(type);
    if (wire == WIRE_32) return body.len % 4 == 0;
    if (wire == WIRE_64) return body.len % 8 == 0;
    for (uint64_t value; c.at < c.end;)
        if (!take_varint(&c, &value)) return false;
    return true;
}

static bool scan_unknown(struct scan *s, const struct cursor *c, uint32_t number)
{
    enum proto_unknown what = s->opts ? s->opts->unknown : PROTO_UNKNOWN_REJECT;
    if (c->foreign || what == PROTO_UNKNOWN_IGNORE) return true;
    struct arena *a = s->errors->arena;
    struct str path = proto_path_text(a, c->path);
    if (what == PROTO_UNKNOWN_REJECT)
        return errors_add(s->errors, path, "unknown field number %u of %s", number, c->type->name);
    if (s->opts->on_note)
        s->opts->on_note(s->opts->user, PROTO_NOTE_UNKNOWN, path,
                         str_fmt(a, "unknown field number %u of %s", number, c->type->name));
    return true;
}

static bool scan_string(struct scan *s, const struct proto_path *path, struct str body)
{
    if (str_find_char(body, '\0') != SIZE_MAX)
        return scan_fail(s, path, "a string must not contain NUL");
    if (!utf8_valid(body)) return scan_fail(s, path, "a string must be valid UTF-8");
    return true;
}

/* The key of a serialised map entry, for paths; empty when it is no string. */
static struct str entry_key(struct str body)
{
    if (!body.len) return STR("");
    struct cursor c = {.at = (const uint8_t *)body.ptr,
                       .end = (const uint8_t *)body.ptr + body.len};
    struct proto_piece p;
    while (c.at < c.end && take_piece(&c, &p))
        if (p.number == 1 && p.wire == WIRE_LEN && utf8_valid(p.body)) return p.body;
    return STR("");
}

static struct proto_path step_of(struct cursor *c, size_t idx, struct str body)
{
    const ProtobufCFieldDescriptor *f = &c->type->desc->fields[idx];
    if (f->label != PROTOBUF_C_LABEL_REPEATED) return proto_path_field(c->path, f->name);
    c->run = c->last == idx ? c->run + 1 : 0;
    c->last = idx;
    if (c->type->fields[idx].map) return proto_path_key(c->path, f->name, entry_key(body));
    return proto_path_item(c->path, f->name, c->run);
}

static bool scan_message(struct scan *s, struct cursor *c);

static bool scan_sub(struct scan *s, struct cursor *c, const struct proto_type *type,
                     const struct proto_path *path, struct str body)
{
    s->memory += type->desc->sizeof_message;
    s->stop = s->memory > MEMORY_FLOOR && s->memory / MEMORY_FACTOR > s->bytes;
    if (s->stop) return scan_fail(s, path, "the message would take too much memory for its size");
    if (c->depth >= PROTO_DEPTH_MOST) return scan_fail(s, path, "nested too deeply");
    struct cursor inner = {.at = (const uint8_t *)body.ptr,
                           .end = (const uint8_t *)body.ptr + body.len,
                           .type = type,
                           .path = path,
                           .depth = c->depth + 1,
                           .foreign = type->kind == PROTO_KIND_UNSUPPORTED,
                           .last = SIZE_MAX};
    return scan_message(s, &inner);
}

static bool scan_field(struct scan *s, struct cursor *c, size_t idx, const struct proto_piece *p)
{
    const ProtobufCFieldDescriptor *f = &c->type->desc->fields[idx];
    const struct proto_path path = step_of(c, idx, p->body);
    if (p->wire != wire_of(f->type)) {
        bool packed = f->label == PROTOBUF_C_LABEL_REPEATED && p->wire == WIRE_LEN;
        if (packed && packed_ok(f->type, p->body)) return true;
        return scan_fail(s, &path, "wrong wire type");
    }
    if (f->type == PROTOBUF_C_TYPE_STRING) return scan_string(s, &path, p->body);
    if (f->type != PROTOBUF_C_TYPE_MESSAGE) return true;
    /* protobuf-c marks map entries' fields as it marks any other: the step already names the key.
     */
    const struct proto_path *inner = c->type->kind == PROTO_KIND_MAP_ENTRY ? c->path : &path;
    return scan_sub(s, c, c->type->fields[idx].type, inner, p->body);
}

static bool scan_message(struct scan *s, struct cursor *c)
{
    bool good = true;
    while (c->at < c->end) {
        struct proto_piece p = {0};
        if (!take_piece(c, &p)) return scan_fail(s, c->path, "truncated or malformed bytes");
        const ProtobufCFieldDescriptor *f =
            protobuf_c_message_descriptor_get_field(c->type->desc, p.number);
        if (f)
            good = scan_field(s, c, (size_t)(f - c->type->desc->fields), &p) && good;
        else
            good = scan_unknown(s, c, p.number) && good;
        if (s->stop || s->errors->count > ERRORS_MOST) return false;
    }
    return good;
}

bool proto_wire_check(const ProtobufCMessageDescriptor *desc, struct str bytes,
                      const struct proto_opts *opts, const struct proto_path *path,
                      struct errors *errors)
{
    const struct proto_path root = proto_path_root(STR(""));
    if (!bytes.ptr) bytes = STR("");
    struct scan scan = {.opts = opts, .errors = errors, .bytes = bytes.len};
    struct cursor cursor = {.at = (const uint8_t *)bytes.ptr,
                            .end = (const uint8_t *)bytes.ptr + bytes.len,
                            .type = proto_type_of(desc),
                            .path = path ? path : &root,
                            .last = SIZE_MAX};
    cursor.foreign = cursor.type->kind == PROTO_KIND_UNSUPPORTED;
    return scan_message(&scan, &cursor);
}
