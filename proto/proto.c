/* The registry of types by name, and reading any message by its descriptor. */
#include "proto/proto.h"

#include "base/arena.h"
#include "base/must.h"
#include "proto/rules.h"

const struct proto_type *const *proto_types(size_t *count)
{
    *count = proto_type_table_count;
    return proto_type_table;
}

const struct proto_type *proto_type_find(struct str full_name)
{
    size_t low = 0, high = proto_type_table_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = str_cmp(full_name, str_of(proto_type_table[mid]->name));
        if (order == 0) return proto_type_table[mid];
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return NULL;
}

struct str proto_url_name(struct str url)
{
    size_t slash = str_rfind_char(url, '/');
    return slash == SIZE_MAX ? url : str_sub(url, slash + 1, url.len);
}

const struct proto_type *proto_type_find_url(struct str url)
{
    return proto_type_find(proto_url_name(url));
}

struct str proto_url(struct arena *a, const struct proto_type *type)
{
    return str_cat(a, STR("type.googleapis.com/"), str_of(type->name));
}

const struct proto_type *proto_type_of(const ProtobufCMessageDescriptor *desc)
{
    const struct proto_type *type = proto_type_find(str_of(desc->name));
    must(type != NULL);
    return type;
}

size_t proto_field_by_name(const struct proto_type *type, struct str name)
{
    const ProtobufCMessageDescriptor *desc = type->desc;
    size_t low = 0, high = desc->n_fields;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        unsigned idx = desc->fields_sorted_by_name[mid];
        int order = str_cmp(name, str_of(desc->fields[idx].name));
        if (order == 0) return idx;
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    for (size_t i = 0; i < desc->n_fields; i++)
        if (str_eq(name, str_of(type->fields[i].json_name))) return i;
    return SIZE_MAX;
}

bool proto_enum_by_name(const ProtobufCEnumDescriptor *desc, struct str name, int *value)
{
    size_t low = 0, high = desc->n_value_names;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = str_cmp(name, str_of(desc->values_by_name[mid].name));
        if (order == 0) {
            *value = desc->values[desc->values_by_name[mid].index].value;
            return true;
        }
        if (order < 0)
            high = mid;
        else
            low = mid + 1;
    }
    return false;
}

const char *proto_enum_name(const ProtobufCEnumDescriptor *desc, int value)
{
    const ProtobufCEnumValue *found = protobuf_c_enum_descriptor_get_value(desc, value);
    return found ? found->name : NULL;
}

const struct proto_enum_mark *proto_enum_mark_of(const ProtobufCEnumDescriptor *desc, int value)
{
    for (size_t i = 0; i < proto_enum_mark_count; i++) {
        const struct proto_enum_mark *mark = &proto_enum_marks[i];
        if (mark->value == value && strcmp(mark->name, desc->name) == 0) return mark;
    }
    return NULL;
}

static bool case_is(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    uint32_t number;
    memcpy(&number, (const char *)m + f->quantifier_offset, sizeof number);
    return number == f->id;
}

/* A scalar without presence counts as set when it is not the default. */
static bool scalar_set(const ProtobufCFieldDescriptor *f, const void *at)
{
    static const char zero[8];
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)at;
        return text && *text;
    }
    case PROTOBUF_C_TYPE_BYTES: return ((const ProtobufCBinaryData *)at)->len > 0;
    case PROTOBUF_C_TYPE_MESSAGE: return *(void *const *)at != NULL;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return memcmp(at, zero, 8) != 0;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM: return memcmp(at, zero, 4) != 0;
    }
    return false;
}

bool proto_field_set(const ProtobufCMessage *m, const struct proto_type *type, size_t idx)
{
    const ProtobufCFieldDescriptor *f = &type->desc->fields[idx];
    if (f->label == PROTOBUF_C_LABEL_REPEATED) return proto_field_count(m, f) > 0;
    const void *at = proto_field_at(m, f);
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return case_is(m, f) && (f->type != PROTOBUF_C_TYPE_MESSAGE || scalar_set(f, at));
    return scalar_set(f, at);
}

size_t proto_field_count(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    size_t count;
    memcpy(&count, (const char *)m + f->quantifier_offset, sizeof count);
    return count;
}

const ProtobufCMessage *proto_field_message(const ProtobufCMessage *m,
                                            const ProtobufCFieldDescriptor *f, size_t at)
{
    const void *place = proto_field_at(m, f);
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        ProtobufCMessage *const *items = *(ProtobufCMessage *const *const *)place;
        return at < proto_field_count(m, f) ? items[at] : NULL;
    }
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && !case_is(m, f)) return NULL;
    return *(ProtobufCMessage *const *)place;
}

size_t proto_element_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM: return 4;
    case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE: return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
    }
    return 0;
}

static void *arena_allocate(void *data, size_t size)
{
    return arena_alloc_raw(data, size);
}

static void arena_ignore(void *data, void *ptr)
{
    (void)data, (void)ptr; /* the arena frees all at once */
}

ProtobufCAllocator proto_arena_allocator(struct arena *a)
{
    return (ProtobufCAllocator){.alloc = arena_allocate, .free = arena_ignore, .allocator_data = a};
}

struct str proto_pack(struct arena *a, const ProtobufCMessage *m)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *bytes = arena_alloc_raw(a, size);
    must(protobuf_c_message_pack(m, bytes) == size);
    return str_make((const char *)bytes, size);
}

ProtobufCMessage *proto_dup(struct arena *a, const ProtobufCMessage *m)
{
    struct str bytes = proto_pack(a, m);
    ProtobufCAllocator allocator = proto_arena_allocator(a);
    ProtobufCMessage *copy =
        protobuf_c_message_unpack(m->descriptor, &allocator, bytes.len, (const uint8_t *)bytes.ptr);
    must(copy != NULL);
    return copy;
}
