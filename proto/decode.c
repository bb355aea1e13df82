/* Bytes and Anys to checked messages: scan, unpack, validate, support check. */
#include "proto/decode.h"

#include "base/arena.h"
#include "base/errors.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "proto/json.h"
#include "proto/support.h"
#include "proto/validate.h"
#include "proto/wire.h"
#include "udpa/type/v1/typed_struct.pb-c.h"
#include "xds/type/v3/typed_struct.pb-c.h"

ProtobufCMessage *proto_unpack(struct arena *a, const ProtobufCMessageDescriptor *desc,
                               struct str bytes, const struct proto_opts *opts,
                               const struct proto_path *path, struct errors *errors)
{
    if (!proto_wire_check(desc, bytes, opts, path, errors)) return NULL;
    ProtobufCAllocator allocator = proto_arena_allocator(a);
    ProtobufCMessage *m =
        protobuf_c_message_unpack(desc, &allocator, bytes.len, (const uint8_t *)bytes.ptr);
    if (!m) errors_add(errors, proto_path_text(errors->arena, path), "malformed %s", desc->name);
    return m;
}

bool proto_check(const ProtobufCMessage *m, const struct proto_opts *opts,
                 const struct proto_path *path, struct errors *errors)
{
    bool good = proto_validate(m, path, errors);
    return proto_support_check(m, path, opts, errors) && good;
}

ProtobufCMessage *proto_decode(struct arena *a, const ProtobufCMessageDescriptor *desc,
                               struct str bytes, const struct proto_opts *opts,
                               const struct proto_path *path, struct errors *errors)
{
    ProtobufCMessage *m = proto_unpack(a, desc, bytes, opts, path, errors);
    return m && proto_check(m, opts, path, errors) ? m : NULL;
}

/* Both forms of TypedStruct have the same fields. */
struct typed_struct {
    struct str url;
    const Google__Protobuf__Struct *value;
};

static bool typed_struct_unpack(struct arena *a, const struct proto_type *type,
                                const Google__Protobuf__Any *any, const struct proto_path *path,
                                struct errors *errors, struct typed_struct *out)
{
    struct str bytes = str_make((const char *)any->value.data, any->value.len);
    ProtobufCMessage *m = proto_unpack(a, type->desc, bytes, NULL, path, errors);
    if (!m) return false;
    if (type->desc == &xds__type__v3__typed_struct__descriptor) {
        const Xds__Type__V3__TypedStruct *t = (const Xds__Type__V3__TypedStruct *)m;
        *out = (struct typed_struct){str_of(t->type_url), t->value};
    } else {
        const Udpa__Type__V1__TypedStruct *t = (const Udpa__Type__V1__TypedStruct *)m;
        *out = (struct typed_struct){str_of(t->type_url), t->value};
    }
    return true;
}

struct str proto_any_name(struct arena *a, const struct Google__Protobuf__Any *any)
{
    struct str name = proto_url_name(str_of(any->type_url));
    const struct proto_type *type = proto_type_find(name);
    if (!type || type->kind != PROTO_KIND_TYPED_STRUCT) return name;
    struct errors ignored = {.arena = a}; /* a broken one is told by proto_any_unpack */
    struct typed_struct inner;
    if (!typed_struct_unpack(a, type, any, NULL, &ignored, &inner)) return name;
    return proto_url_name(inner.url);
}

/* The type to decode to, or NULL: told. */
static const struct proto_type *known_type(struct str url, const ProtobufCMessageDescriptor *expect,
                                           const struct proto_path *path, struct errors *errors)
{
    struct str where = proto_path_text(errors->arena, path), name = proto_url_name(url);
    if (name.len == 0) {
        errors_add(errors, where, "the type URL (@type) is missing");
        return NULL;
    }
    if (expect && !str_eq(name, str_of(expect->name))) {
        errors_add(errors, where, "expected a %s, not a %.*s", expect->name, STR_ARG(name));
        return NULL;
    }
    const struct proto_type *type = proto_type_find(name);
    if (!type) errors_add(errors, where, "the type %.*s is not supported", STR_ARG(name));
    return type;
}

static ProtobufCMessage *typed_struct_convert(struct arena *a, const struct typed_struct *t,
                                              const ProtobufCMessageDescriptor *expect,
                                              const struct proto_opts *opts,
                                              const struct proto_path *path, struct errors *errors)
{
    const struct proto_type *type = known_type(t->url, expect, path, errors);
    if (!type) return NULL;
    ProtobufCMessage *m = json_struct_to_message(a, t->value, type->desc, opts, path, errors);
    return m && proto_check(m, opts, path, errors) ? m : NULL;
}

ProtobufCMessage *proto_any_unpack(struct arena *a, const struct Google__Protobuf__Any *any,
                                   const ProtobufCMessageDescriptor *expect,
                                   const struct proto_opts *opts, const struct proto_path *path,
                                   struct errors *errors)
{
    struct str url = str_of(any->type_url);
    const struct proto_type *type = proto_type_find_url(url);
    if (type && type->kind == PROTO_KIND_TYPED_STRUCT && type->desc != expect) {
        struct typed_struct inner;
        if (!typed_struct_unpack(a, type, any, path, errors, &inner)) return NULL;
        return typed_struct_convert(a, &inner, expect, opts, path, errors);
    }
    type = known_type(url, expect, path, errors);
    if (!type) return NULL;
    return proto_decode(a, type->desc, str_make((const char *)any->value.data, any->value.len),
                        opts, path, errors);
}

struct Google__Protobuf__Any *proto_any_pack(struct arena *a, const ProtobufCMessage *m)
{
    Google__Protobuf__Any *any = ARENA_NEW(a, Google__Protobuf__Any);
    google__protobuf__any__init(any);
    struct str url = proto_url(a, proto_type_of(m->descriptor)), bytes = proto_pack(a, m);
    any->type_url = str_z(a, url);
    any->value.data = arena_copy(a, bytes.ptr, bytes.len);
    any->value.len = bytes.len;
    return any;
}
