/* Metadata as messages. */
#include "filters/common/struct_message.h"

#include "base/arena.h"
#include "google/protobuf/struct.pb-c.h"
#include "proxy/api/metadata.h"

Google__Protobuf__Struct *struct_message(struct arena *a, const struct value *v)
{
    Google__Protobuf__Struct *m = ARENA_NEW(a, Google__Protobuf__Struct);
    google__protobuf__struct__init(m);
    size_t n = v->u.fields.count;
    m->fields = ARENA_ARRAY(a, Google__Protobuf__Struct__FieldsEntry *, n);
    m->n_fields = n;
    for (size_t i = 0; i < n; i++) {
        Google__Protobuf__Struct__FieldsEntry *e =
            ARENA_NEW(a, Google__Protobuf__Struct__FieldsEntry);
        google__protobuf__struct__fields_entry__init(e);
        e->key = str_z(a, v->u.fields.fields[i].name);
        e->value = value_message(a, &v->u.fields.fields[i].value);
        m->fields[i] = e;
    }
    return m;
}

static Google__Protobuf__ListValue *list_message(struct arena *a, const struct value *v)
{
    Google__Protobuf__ListValue *m = ARENA_NEW(a, Google__Protobuf__ListValue);
    google__protobuf__list_value__init(m);
    m->n_values = v->u.list.count;
    m->values = ARENA_ARRAY(a, Google__Protobuf__Value *, v->u.list.count);
    for (size_t i = 0; i < v->u.list.count; i++)
        m->values[i] = value_message(a, &v->u.list.items[i]);
    return m;
}

Google__Protobuf__Value *value_message(struct arena *a, const struct value *v)
{
    Google__Protobuf__Value *m = ARENA_NEW(a, Google__Protobuf__Value);
    google__protobuf__value__init(m);
    switch (v->kind) {
    case VALUE_NULL: m->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE; break;
    case VALUE_BOOL:
        m->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        m->bool_value = v->u.boolean;
        break;
    case VALUE_NUMBER:
        m->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        m->number_value = v->u.number;
        break;
    case VALUE_STRING:
        m->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        m->string_value = str_z(a, v->u.text);
        break;
    case VALUE_LIST:
        m->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
        m->list_value = list_message(a, v);
        break;
    case VALUE_STRUCT:
        m->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
        m->struct_value = struct_message(a, v);
        break;
    }
    return m;
}
