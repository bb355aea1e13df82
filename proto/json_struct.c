/* google.protobuf.Struct and its kin: from the value tree, and back into one for TypedStruct. */
#include "base/arena.h"
#include "base/errors.h"
#include "google/protobuf/struct.pb-c.h"
#include "proto/json_internal.h"

static Google__Protobuf__Value *value_build(struct json_builder *b, const struct jval *v,
                                            const struct proto_path *path);

static bool text_build(struct json_builder *b, const struct jval *v, struct str text,
                       const struct proto_path *path, char **out)
{
    if (text.len && memchr(text.ptr, 0, text.len))
        return json_fail(b, v, false, path, "a string must not contain NUL");
    *out = str_z(b->out, text);
    return true;
}

static Google__Protobuf__Struct *struct_build(struct json_builder *b, const struct jval *v,
                                              const struct proto_path *path)
{
    Google__Protobuf__Struct *s = ARENA_NEW(b->out, Google__Protobuf__Struct);
    google__protobuf__struct__init(s);
    size_t count = 0;
    for (const struct jval *e = v->first; e; e = e->next)
        count++;
    s->fields = ARENA_ARRAY(b->out, Google__Protobuf__Struct__FieldsEntry *, count);
    for (const struct jval *e = v->first; e; e = e->next) {
        Google__Protobuf__Struct__FieldsEntry *entry =
            ARENA_NEW(b->out, Google__Protobuf__Struct__FieldsEntry);
        google__protobuf__struct__fields_entry__init(entry);
        struct proto_path at = {.up = path, .key = e->key, .index = PROTO_NO_INDEX};
        if (!text_build(b, e, e->key, path, &entry->key)) return NULL;
        entry->value = value_build(b, e, &at);
        if (!entry->value) return NULL;
        s->fields[s->n_fields++] = entry;
    }
    return s;
}

static Google__Protobuf__ListValue *list_build(struct json_builder *b, const struct jval *v,
                                               const struct proto_path *path)
{
    Google__Protobuf__ListValue *list = ARENA_NEW(b->out, Google__Protobuf__ListValue);
    google__protobuf__list_value__init(list);
    size_t count = 0;
    for (const struct jval *e = v->first; e; e = e->next)
        count++;
    list->values = ARENA_ARRAY(b->out, Google__Protobuf__Value *, count);
    for (const struct jval *e = v->first; e; e = e->next) {
        struct proto_path at = {.up = path, .index = list->n_values};
        Google__Protobuf__Value *value = value_build(b, e, &at);
        if (!value) return NULL;
        list->values[list->n_values++] = value;
    }
    return list;
}

static Google__Protobuf__Value *value_build(struct json_builder *b, const struct jval *v,
                                            const struct proto_path *path)
{
    Google__Protobuf__Value *out = ARENA_NEW(b->out, Google__Protobuf__Value);
    google__protobuf__value__init(out);
    const char *why;
    switch ((enum jval_type)v->type) {
    case JVAL_NULL: out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE; return out;
    case JVAL_BOOL:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        out->bool_value = str_eq(v->text, STR("true"));
        return out;
    case JVAL_NUMBER:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        if (json_to_double(v, false, &out->number_value, &why)) return out;
        (void)json_fail(b, v, false, path, "%s", why);
        return NULL;
    case JVAL_STRING:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        return text_build(b, v, v->text, path, &out->string_value) ? out : NULL;
    case JVAL_OBJECT:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
        out->struct_value = struct_build(b, v, path);
        return out->struct_value ? out : NULL;
    case JVAL_ARRAY:
        out->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
        out->list_value = list_build(b, v, path);
        return out->list_value ? out : NULL;
    }
    return NULL;
}

ProtobufCMessage *json_build_struct(struct json_builder *b, const struct proto_type *type,
                                    const struct jval *v, const struct proto_path *path)
{
    if (type->kind == PROTO_KIND_VALUE) {
        Google__Protobuf__Value *value = value_build(b, v, path);
        return value ? &value->base : NULL;
    }
    if (type->kind == PROTO_KIND_STRUCT && v->type == JVAL_OBJECT) {
        Google__Protobuf__Struct *s = struct_build(b, v, path);
        return s ? &s->base : NULL;
    }
    if (type->kind == PROTO_KIND_LIST_VALUE && v->type == JVAL_ARRAY) {
        Google__Protobuf__ListValue *list = list_build(b, v, path);
        return list ? &list->base : NULL;
    }
    struct str got = json_describe(b, v);
    (void)json_fail(b, v, false, path, "expected %s, got %.*s",
                    type->kind == PROTO_KIND_STRUCT ? "an object" : "a list", STR_ARG(got));
    return NULL;
}

static struct jval *to_tree(struct arena *a, const Google__Protobuf__Value *value);

static struct jval *tree_new(struct arena *a, enum jval_type type, struct str text)
{
    struct jval *v = ARENA_NEW(a, struct jval);
    v->type = (uint8_t)type;
    v->text = text;
    return v;
}

static struct jval *struct_to_tree(struct arena *a, const Google__Protobuf__Struct *s)
{
    struct jval *v = tree_new(a, JVAL_OBJECT, STR_NONE), **tail = &v->first;
    for (size_t i = 0; s && i < s->n_fields; i++) {
        if (!s->fields[i]->value) continue;
        struct jval *member = to_tree(a, s->fields[i]->value);
        member->key = str_of(s->fields[i]->key);
        *tail = member;
        tail = &member->next;
    }
    return v;
}

static struct jval *list_to_tree(struct arena *a, const Google__Protobuf__ListValue *list)
{
    struct jval *v = tree_new(a, JVAL_ARRAY, STR_NONE), **tail = &v->first;
    for (size_t i = 0; list && i < list->n_values; i++) {
        *tail = to_tree(a, list->values[i]);
        tail = &(*tail)->next;
    }
    return v;
}

/* Depth is bounded by the wire pre-scan or by the parsers that made the Struct. */
static struct jval *to_tree(struct arena *a, const Google__Protobuf__Value *value)
{
    switch (value->kind_case) {
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        return tree_new(a, JVAL_BOOL, value->bool_value ? STR("true") : STR("false"));
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        return tree_new(a, JVAL_NUMBER, str_fmt(a, "%.17g", value->number_value));
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        return tree_new(a, JVAL_STRING, str_of(value->string_value));
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE: return struct_to_tree(a, value->struct_value);
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE: return list_to_tree(a, value->list_value);
    case GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET:
    case GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE: break;
    }
    return tree_new(a, JVAL_NULL, STR_NONE);
}

ProtobufCMessage *json_struct_to_message(struct arena *a, const struct Google__Protobuf__Struct *s,
                                         const ProtobufCMessageDescriptor *desc,
                                         const struct proto_opts *opts,
                                         const struct proto_path *path, struct errors *errors)
{
    struct arena *scratch = arena_new("typed struct", 0);
    struct json_builder b = {.out = a, .scratch = scratch, .opts = opts, .errors = errors};
    ProtobufCMessage *m = json_build(&b, proto_type_of(desc), struct_to_tree(scratch, s), path);
    arena_free(&scratch);
    return m;
}
