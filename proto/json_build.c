/* From the value tree to messages, by descriptor. Every mistake is told and the walk goes on. */
#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "base/text.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "proto/json_internal.h"

ProtobufCMessage *json_message_new(struct json_builder *b, const ProtobufCMessageDescriptor *desc)
{
    ProtobufCMessage *m = arena_alloc_raw(b->out, desc->sizeof_message);
    protobuf_c_message_init(desc, m);
    return m;
}

static bool wrong(struct json_builder *b, const struct jval *v, const struct proto_path *path,
                  const char *why)
{
    struct str got = json_describe(b, v);
    return json_fail(b, v, false, path, "%s, got %.*s", why, STR_ARG(got));
}

static bool set_i64(struct json_builder *b, const struct jval *v, const struct proto_path *path,
                    bool wide, void *to)
{
    int64_t value;
    int32_t narrow;
    const char *why;
    if (!json_to_i64(v, wide ? INT64_MIN : INT32_MIN, wide ? INT64_MAX : INT32_MAX, &value, &why))
        return wrong(b, v, path, why);
    narrow = (int32_t)value;
    if (wide)
        memcpy(to, &value, sizeof value);
    else
        memcpy(to, &narrow, sizeof narrow);
    return true;
}

static bool set_u64(struct json_builder *b, const struct jval *v, const struct proto_path *path,
                    bool wide, void *to)
{
    uint64_t value;
    uint32_t narrow;
    const char *why;
    if (!json_to_u64(v, wide ? UINT64_MAX : UINT32_MAX, &value, &why))
        return wrong(b, v, path, why);
    narrow = (uint32_t)value;
    if (wide)
        memcpy(to, &value, sizeof value);
    else
        memcpy(to, &narrow, sizeof narrow);
    return true;
}

static bool set_float(struct json_builder *b, const struct jval *v, const struct proto_path *path,
                      bool single, void *to)
{
    double value;
    const char *why;
    if (!json_to_double(v, single, &value, &why)) return wrong(b, v, path, why);
    float narrow = (float)value;
    if (single)
        memcpy(to, &narrow, sizeof narrow);
    else
        memcpy(to, &value, sizeof value);
    return true;
}

static bool set_bool(struct json_builder *b, const struct jval *v, const struct proto_path *path,
                     void *to)
{
    bool value;
    const char *why;
    if (!json_to_bool(v, &value, &why)) return wrong(b, v, path, why);
    *(protobuf_c_boolean *)to = value;
    return true;
}

/* Envoy reads the names of enum values in any case. */
static bool enum_any_case(const ProtobufCEnumDescriptor *desc, struct str name, int *value)
{
    if (proto_enum_by_name(desc, name, value)) return true;
    for (unsigned i = 0; i < desc->n_value_names; i++) {
        if (!str_case_eq(name, str_of(desc->values_by_name[i].name))) continue;
        *value = desc->values[desc->values_by_name[i].index].value;
        return true;
    }
    return false;
}

static bool set_enum(struct json_builder *b, const struct jval *v,
                     const ProtobufCEnumDescriptor *desc, const struct proto_path *path, void *to)
{
    int64_t number;
    int value;
    const char *why;
    if (v->type > JVAL_STRING) return wrong(b, v, path, "expected the name of a value");
    struct str name = v->type != JVAL_STRING && v->plain ? *v->plain : v->text;
    if (enum_any_case(desc, name, &value)) {
        memcpy(to, &value, sizeof value);
        return true;
    }
    if (v->type != JVAL_BOOL && json_to_i64(v, INT32_MIN, INT32_MAX, &number, &why)) {
        value = (int)number;
        memcpy(to, &value, sizeof value);
        return true;
    }
    if (b->opts && b->opts->unknown != PROTO_UNKNOWN_REJECT) {
        json_note(b, PROTO_NOTE_UNKNOWN, path, "unknown enum value");
        return true;
    }
    struct str near = json_nearest_enum(desc, name);
    if (near.len)
        return json_fail(b, v, false, path, "unknown value \"%.*s\"; did you mean \"%.*s\"?",
                         STR_ARG(name), STR_ARG(near));
    return json_fail(b, v, false, path, "unknown value \"%.*s\" of %s", STR_ARG(name), desc->name);
}

/* The text of a value for a string field. Envoy refuses what YAML reads as a number or a boolean
 * (`id: 5`, `id: n`). */
static bool text_of(struct json_builder *b, const struct jval *v, const struct proto_path *path,
                    struct str *out)
{
    bool plain = (v->type == JVAL_BOOL || v->type == JVAL_NUMBER) && v->plain;
    if (v->type == JVAL_STRING) {
        *out = v->text;
        return true;
    }
    if (!plain) return wrong(b, v, path, "expected a string");
    const char *kind = v->type == JVAL_BOOL ? "boolean" : "number";
    return json_fail(b, v, false, path,
                     "expected a string, but YAML reads %.*s as a %s; write \"%.*s\" with quotes",
                     STR_ARG(*v->plain), kind, STR_ARG(*v->plain));
}

static bool set_string(struct json_builder *b, const struct jval *v, const struct proto_path *path,
                       void *to)
{
    struct str text;
    if (!text_of(b, v, path, &text)) return false;
    if (text.len && memchr(text.ptr, 0, text.len))
        return json_fail(b, v, false, path, "a string must not contain NUL");
    /* Never protobuf-c's own empty string: it packs no oneof member that points there, so `prefix:
     * ""` would be lost. */
    char *copy = str_z(b->out, text);
    memcpy(to, &copy, sizeof copy);
    return true;
}

static bool set_bytes(struct json_builder *b, const struct jval *v, const struct proto_path *path,
                      void *to)
{
    struct str text, bytes;
    if (!text_of(b, v, path, &text)) return false;
    if (!base64_decode(b->out, text, &bytes))
        return json_fail(b, v, false, path, "expected base64");
    ProtobufCBinaryData data = {.len = bytes.len, .data = (uint8_t *)(uintptr_t)bytes.ptr};
    if (bytes.len == 0) data.data = NULL;
    memcpy(to, &data, sizeof data);
    return true;
}

/* One value of the field's type to its place (the field itself or an element). */
static bool set_value(struct json_builder *b, const ProtobufCFieldDescriptor *f,
                      const struct proto_type *type, const struct jval *v,
                      const struct proto_path *path, void *to)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: return set_i64(b, v, path, false, to);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return set_i64(b, v, path, true, to);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: return set_u64(b, v, path, false, to);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return set_u64(b, v, path, true, to);
    case PROTOBUF_C_TYPE_FLOAT: return set_float(b, v, path, true, to);
    case PROTOBUF_C_TYPE_DOUBLE: return set_float(b, v, path, false, to);
    case PROTOBUF_C_TYPE_BOOL: return set_bool(b, v, path, to);
    case PROTOBUF_C_TYPE_ENUM: return set_enum(b, v, f->descriptor, path, to);
    case PROTOBUF_C_TYPE_STRING: return set_string(b, v, path, to);
    case PROTOBUF_C_TYPE_BYTES: return set_bytes(b, v, path, to);
    case PROTOBUF_C_TYPE_MESSAGE: {
        ProtobufCMessage *m = json_build(b, type, v, path);
        if (m) memcpy(to, &m, sizeof m);
        return m != NULL;
    }
    }
    return false;
}

static void set_count(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, void *items,
                      size_t count)
{
    memcpy((char *)m + f->quantifier_offset, &count, sizeof count);
    memcpy((char *)m + f->offset, &items, sizeof items);
}

/* A single value stands for a list of one, as in Envoy. */
static bool build_list(struct json_builder *b, ProtobufCMessage *m,
                       const ProtobufCFieldDescriptor *f, const struct proto_type *type,
                       const struct jval *v, const struct proto_path *up)
{
    const struct jval *first = v->type == JVAL_ARRAY ? v->first : v;
    size_t count = 0, i = 0, size = proto_element_size(f->type);
    bool good = true;
    if (v->type != JVAL_ARRAY)
        count = 1;
    else
        for (const struct jval *e = first; e; e = e->next)
            count++;
    if (count == 0) return true;
    char *items = arena_array(b->out, count, size);
    for (const struct jval *e = first; i < count; e = e->next, i++) {
        struct proto_path path = proto_path_item(up, f->name, i);
        void *to = items + i * size;
        char *empty = (char *)(uintptr_t)protobuf_c_empty_string;
        if (f->type == PROTOBUF_C_TYPE_STRING) memcpy(to, &empty, sizeof empty);
        if (e->type == JVAL_NULL && !(type && type->kind == PROTO_KIND_VALUE))
            good = json_fail(b, e, false, &path, "an element of a list must not be null");
        else
            good = set_value(b, f, type, e, &path, to) && good;
    }
    if (good) set_count(m, f, items, count);
    return good;
}

static bool build_entry(struct json_builder *b, const struct proto_type *entry,
                        const struct jval *v, const struct proto_path *path, ProtobufCMessage **out)
{
    const ProtobufCFieldDescriptor *key = &entry->desc->fields[0], *value = &entry->desc->fields[1];
    struct jval name = {
        .text = v->key, .type = JVAL_STRING, .line = v->key_line, .column = v->key_column};
    *out = json_message_new(b, entry->desc);
    bool good = set_value(b, key, NULL, &name, path, (char *)*out + key->offset);
    return set_value(b, value, entry->fields[1].type, v, path, (char *)*out + value->offset) &&
           good;
}

static bool build_map(struct json_builder *b, ProtobufCMessage *m,
                      const ProtobufCFieldDescriptor *f, const struct proto_type *entry,
                      const struct jval *v, const struct proto_path *up)
{
    struct proto_path self = proto_path_field(up, f->name);
    size_t count = 0, i = 0;
    bool good = true;
    if (v->type != JVAL_OBJECT) return wrong(b, v, &self, "expected an object");
    for (const struct jval *e = v->first; e; e = e->next)
        count++;
    if (count == 0) return true;
    ProtobufCMessage **items = ARENA_ARRAY(b->out, ProtobufCMessage *, count);
    for (const struct jval *e = v->first; e; e = e->next) {
        struct proto_path path = proto_path_key(up, f->name, e->key);
        const struct proto_type *type = entry->fields[1].type;
        if (e->type == JVAL_NULL && !(type && type->kind == PROTO_KIND_VALUE)) {
            good = json_fail(b, e, false, &path, "a value of a map must not be null");
            continue;
        }
        if (!build_entry(b, entry, e, &path, &items[i]))
            good = false;
        else
            i++;
    }
    if (good) set_count(m, f, items, i);
    return good;
}

static bool claim_oneof(struct json_builder *b, ProtobufCMessage *m,
                        const ProtobufCFieldDescriptor *f, const struct jval *v,
                        const struct proto_path *path)
{
    uint32_t *set = (uint32_t *)(void *)((char *)m + f->quantifier_offset);
    if (*set && *set != f->id) {
        const ProtobufCFieldDescriptor *other =
            protobuf_c_message_descriptor_get_field(m->descriptor, *set);
        return json_fail(b, v, true, path, "only one of \"%s\" and \"%s\" may be set", other->name,
                         f->name);
    }
    *set = f->id;
    return true;
}

static bool build_field(struct json_builder *b, ProtobufCMessage *m, const struct proto_type *type,
                        size_t idx, const struct jval *v, const struct proto_path *up)
{
    const ProtobufCFieldDescriptor *f = &type->desc->fields[idx];
    const struct proto_type *sub = type->fields[idx].type;
    struct proto_path path = proto_path_field(up, f->name);
    if (v->type == JVAL_NULL && !(sub && sub->kind == PROTO_KIND_VALUE))
        return true; /* null is unset */
    if (type->fields[idx].map) return build_map(b, m, f, sub, v, up);
    if (f->label == PROTOBUF_C_LABEL_REPEATED) return build_list(b, m, f, sub, v, up);
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && !claim_oneof(b, m, f, v, &path)) return false;
    return set_value(b, f, sub, v, &path, (char *)m + f->offset);
}

static bool in_any(const struct jval *member)
{
    return str_eq(member->key, STR("@type"));
}

/* An HTTP filter that is off may be one that we do not have; translation says which those are. */
static bool switched_off(const struct proto_type *type, const struct jval *v)
{
    static const char filter[] =
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
    const struct jval *off = jval_member(v, STR("disabled"));
    return off && off->type == JVAL_BOOL && str_eq(off->text, STR("true")) &&
           str_eq(str_of(type->name), STR(filter));
}

/* All members of an object into the message; `skip_type`: the object is that of an Any. */
static bool build_members(struct json_builder *b, ProtobufCMessage *m,
                          const struct proto_type *type, const struct jval *v, bool skip_type,
                          const struct proto_path *path)
{
    bool good = true, off = switched_off(type, v);
    for (const struct jval *e = v->first; e; e = e->next) {
        if (skip_type && in_any(e)) continue;
        size_t idx = proto_field_by_name(type, e->key);
        if (idx == SIZE_MAX) {
            good = json_unknown_field(b, type, e, path) && good;
            continue;
        }
        if (e->doubled) {
            struct proto_path at = proto_path_field(path, type->desc->fields[idx].name);
            json_note(b, PROTO_NOTE_IGNORED, &at, "set twice; the last one counts");
        }
        bool idle = b->idle;
        b->idle = idle || type->fields[idx].verdict != PROTO_IMPLEMENTED || off;
        good = build_field(b, m, type, idx, e, path) && good;
        b->idle = idle;
    }
    return good;
}

static ProtobufCMessage *build_plain(struct json_builder *b, const struct proto_type *type,
                                     const struct jval *v, bool skip_type,
                                     const struct proto_path *path)
{
    if (v->type != JVAL_OBJECT) {
        (void)wrong(b, v, path, "expected an object");
        return NULL;
    }
    ProtobufCMessage *m = json_message_new(b, type->desc);
    return build_members(b, m, type, v, skip_type, path) ? m : NULL;
}

static ProtobufCMessage *build_duration(struct json_builder *b, const struct proto_type *type,
                                        const struct jval *v, const struct proto_path *path)
{
    const char *why = "expected a duration such as \"1.5s\"";
    if (v->type == JVAL_OBJECT)
        return build_plain(b, type, v, false, path); /* Envoy takes {seconds: 1}, too */
    Google__Protobuf__Duration *d = (Google__Protobuf__Duration *)json_message_new(b, type->desc);
    if (v->type == JVAL_STRING && json_to_duration(v->text, &d->seconds, &d->nanos, &why))
        return &d->base;
    (void)wrong(b, v, path, why);
    return NULL;
}

static ProtobufCMessage *build_timestamp(struct json_builder *b, const struct proto_type *type,
                                         const struct jval *v, const struct proto_path *path)
{
    const char *why = "expected a time such as \"2026-01-31T12:00:00Z\"";
    if (v->type == JVAL_OBJECT) return build_plain(b, type, v, false, path);
    Google__Protobuf__Timestamp *t = (Google__Protobuf__Timestamp *)json_message_new(b, type->desc);
    if (v->type == JVAL_STRING && json_to_timestamp(v->text, &t->seconds, &t->nanos, &why))
        return &t->base;
    (void)wrong(b, v, path, why);
    return NULL;
}

static ProtobufCMessage *build_wrapper(struct json_builder *b, const struct proto_type *type,
                                       const struct jval *v, const struct proto_path *path)
{
    if (v->type == JVAL_OBJECT)
        return build_plain(b, type, v, false, path); /* Envoy takes {value: 1}, too */
    const ProtobufCFieldDescriptor *f = &type->desc->fields[0];
    ProtobufCMessage *m = json_message_new(b, type->desc);
    return set_value(b, f, NULL, v, path, (char *)m + f->offset) ? m : NULL;
}

/* "a.b,cD" → paths: ["a.b", "c_d"]. */
static ProtobufCMessage *build_field_mask(struct json_builder *b, const struct proto_type *type,
                                          const struct jval *v, const struct proto_path *path)
{
    if (v->type == JVAL_OBJECT) return build_plain(b, type, v, false, path);
    struct str text, token;
    if (!text_of(b, v, path, &text)) return NULL;
    size_t most = 1, count = 0;
    for (size_t i = 0; i < text.len; i++)
        most += text.ptr[i] == ',';
    char **items = ARENA_ARRAY(b->out, char *, most);
    while (str_next(&text, ',', &token)) {
        if (token.len == 0) continue;
        char *to = arena_alloc(b->out, token.len * 2 + 1);
        items[count++] = to;
        for (size_t i = 0; i < token.len; i++) {
            bool upper = token.ptr[i] >= 'A' && token.ptr[i] <= 'Z';
            if (upper) *to++ = '_';
            *to++ = str_lower_char(token.ptr[i]);
        }
    }
    ProtobufCMessage *m = json_message_new(b, type->desc);
    set_count(m, &type->desc->fields[0], items, count);
    return m;
}

/* The message inside an Any, in scratch memory. */
static ProtobufCMessage *build_inside(struct json_builder *b, const struct proto_type *type,
                                      const struct jval *v, const struct proto_path *path)
{
    struct json_builder inner = *b;
    inner.out = b->scratch;
    if (type->kind == PROTO_KIND_PLAIN || type->kind == PROTO_KIND_TYPED_STRUCT)
        return build_plain(&inner, type, v, true, path);
    const struct jval *value = jval_member(v, STR("value"));
    if (!value && type->kind == PROTO_KIND_EMPTY) return json_message_new(&inner, type->desc);
    if (!value)
        return (void)json_fail(b, v, false, path, "%s in an Any needs \"value\"", type->name), NULL;
    struct proto_path at = proto_path_field(path, "value");
    return json_build(&inner, type, value, &at);
}

/* The type is not declared: an error, unless nothing below this field has an effect. Envoy knows no
 * v2 type anywhere. */
static ProtobufCMessage *build_any_unknown(struct json_builder *b, Google__Protobuf__Any *any,
                                           const struct jval *url, const struct proto_path *path)
{
    struct str name = proto_url_name(url->text);
    if (str_find(name, STR(".v2.")) != SIZE_MAX || str_find(name, STR(".v2alpha")) != SIZE_MAX) {
        (void)json_fail(b, url, false, path, "the type %.*s belongs to the v2 API, which is gone",
                        STR_ARG(name));
        return NULL;
    }
    if (!b->idle)
        return (void)json_fail(b, url, false, path, "the type %.*s is not supported",
                               STR_ARG(name)),
               NULL;
    any->type_url = str_z(b->out, url->text);
    return &any->base;
}

static ProtobufCMessage *build_any(struct json_builder *b, const struct jval *v,
                                   const struct proto_path *path)
{
    if (v->type != JVAL_OBJECT)
        return (void)wrong(b, v, path, "expected an object with \"@type\""), NULL;
    Google__Protobuf__Any *any =
        (Google__Protobuf__Any *)json_message_new(b, &google__protobuf__any__descriptor);
    const struct jval *url = jval_member(v, STR("@type"));
    if (!url && !v->first) return &any->base;
    if (!url) return (void)json_fail(b, v, false, path, "\"@type\" is missing"), NULL;
    if (url->type != JVAL_STRING)
        return (void)wrong(b, url, path, "\"@type\": expected a string"), NULL;
    size_t slash = str_rfind_char(url->text, '/');
    if (slash == SIZE_MAX || slash == 0)
        return (void)json_fail(b, url, false, path,
                               "@type \"%.*s\" must be \"type.googleapis.com/\" and a name",
                               STR_ARG(url->text)),
               NULL;
    const struct proto_type *type = proto_type_find_url(url->text);
    if (!type) return build_any_unknown(b, any, url, path);
    ProtobufCMessage *inside = build_inside(b, type, v, path);
    if (!inside) return NULL;
    struct str bytes = proto_pack(b->out, inside);
    any->type_url = str_z(b->out, url->text);
    any->value = (ProtobufCBinaryData){.len = bytes.len, .data = (uint8_t *)(uintptr_t)bytes.ptr};
    return &any->base;
}

ProtobufCMessage *json_build(struct json_builder *b, const struct proto_type *type,
                             const struct jval *v, const struct proto_path *path)
{
    switch ((enum proto_kind)type->kind) {
    case PROTO_KIND_ANY: return build_any(b, v, path);
    case PROTO_KIND_DURATION: return build_duration(b, type, v, path);
    case PROTO_KIND_TIMESTAMP: return build_timestamp(b, type, v, path);
    case PROTO_KIND_STRUCT:
    case PROTO_KIND_VALUE:
    case PROTO_KIND_LIST_VALUE: return json_build_struct(b, type, v, path);
    case PROTO_KIND_WRAPPER: return build_wrapper(b, type, v, path);
    case PROTO_KIND_FIELD_MASK: return build_field_mask(b, type, v, path);
    case PROTO_KIND_UNSUPPORTED:
        return json_message_new(b, type->desc); /* the contents are exempt from checks */
    case PROTO_KIND_EMPTY:
    case PROTO_KIND_PLAIN:
    case PROTO_KIND_TYPED_STRUCT:
    case PROTO_KIND_MAP_ENTRY: return build_plain(b, type, v, false, path);
    }
    return NULL;
}
