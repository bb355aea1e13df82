/* Reading a whole text, and how mistakes are told. */
#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "proto/json_internal.h"

static void error_place(struct json_builder *b, uint32_t line, uint32_t column)
{
    if (line == 0 || b->errors->count > ERRORS_MOST) return;
    struct error *e = &b->errors->v[b->errors->count - 1];
    if (b->file)
        e->where = str_fmt(b->errors->arena, "%s:%u:%u", b->file, line, column);
    else
        e->where = str_fmt(b->errors->arena, "line %u:%u", line, column);
}

bool json_fail(struct json_builder *b, const struct jval *v, bool at_key,
               const struct proto_path *path, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    errors_vadd(b->errors, proto_path_text(b->errors->arena, path), fmt, ap);
    va_end(ap);
    error_place(b, at_key ? v->key_line : v->line, at_key ? v->key_column : v->column);
    return false;
}

void json_note(struct json_builder *b, enum proto_note_kind kind, const struct proto_path *path,
               const char *text)
{
    if (!b->opts || !b->opts->on_note) return;
    b->opts->on_note(b->opts->user, kind, proto_path_text(b->errors->arena, path),
                     str_dup(b->errors->arena, str_of(text)));
}

struct str json_describe(struct json_builder *b, const struct jval *v)
{
    struct str text = str_sub(v->text, 0, 60);
    switch ((enum jval_type)v->type) {
    case JVAL_NULL: return STR("null");
    case JVAL_BOOL: return text;
    case JVAL_NUMBER: return str_fmt(b->scratch, "the number %.*s", STR_ARG(text));
    case JVAL_STRING: return str_fmt(b->scratch, "the string \"%.*s\"", STR_ARG(text));
    case JVAL_OBJECT: return STR("an object");
    case JVAL_ARRAY: return STR("a list");
    }
    return STR_NONE;
}

/* How far a typo may be from the right name. */
static size_t typo_most(struct str name)
{
    return name.len < 4 ? 1 : name.len < 10 ? 2 : 3;
}

/* Fields of v2 that people still write, and what they became. */
static const struct {
    const char *old, *now;
} renamed[] = {
    {"hosts", "load_assignment"}, {"config", "typed_config"}, {"tls_context", "transport_socket"},
    {"filter", "typed_config"},   {"regex", "safe_regex"},    {"cors", "typed_per_filter_config"}};

/* "child.name" when a message field of the type has the name. */
static struct str one_level_down(struct json_builder *b, const struct proto_type *type,
                                 struct str name)
{
    for (unsigned i = 0; i < type->desc->n_fields; i++) {
        const struct proto_type *sub = type->fields[i].type;
        if (!sub || sub->kind != PROTO_KIND_PLAIN ||
            type->desc->fields[i].label == PROTOBUF_C_LABEL_REPEATED)
            continue;
        if (proto_field_by_name(sub, name) != SIZE_MAX)
            return str_fmt(b->scratch, "%s.%.*s", type->desc->fields[i].name, STR_ARG(name));
    }
    return STR_NONE;
}

struct str json_nearest_field(struct json_builder *b, const struct proto_type *type,
                              struct str name)
{
    size_t best = typo_most(name) + 1;
    struct str found = STR_NONE;
    for (unsigned i = 0; i < type->desc->n_fields; i++) {
        struct str names[2] = {str_of(type->desc->fields[i].name),
                               str_of(type->fields[i].json_name)};
        for (int k = 0; k < 2; k++) {
            size_t distance = str_distance(name, names[k], best);
            if (distance >= best) continue;
            best = distance;
            found = names[k];
        }
    }
    if (found.len) return found;
    for (size_t i = 0; i < ARRAY_LEN(renamed); i++) {
        if (str_eq(name, str_of(renamed[i].old)) &&
            proto_field_by_name(type, str_of(renamed[i].now)) != SIZE_MAX)
            return str_of(renamed[i].now);
    }
    return one_level_down(b, type, name);
}

struct str json_nearest_enum(const ProtobufCEnumDescriptor *desc, struct str name)
{
    size_t best = typo_most(name) + 1;
    struct str found = STR_NONE;
    char upper[64];
    if (name.len > sizeof upper) return STR_NONE;
    for (size_t i = 0; i < name.len; i++)
        upper[i] = name.ptr[i] == '-'                         ? '_'
                   : name.ptr[i] >= 'a' && name.ptr[i] <= 'z' ? (char)(name.ptr[i] - 32)
                                                              : name.ptr[i];
    for (unsigned i = 0; i < desc->n_value_names; i++) {
        struct str candidate = str_of(desc->values_by_name[i].name);
        size_t distance = str_distance(str_make(upper, name.len), candidate, best);
        if (distance >= best) continue;
        best = distance;
        found = candidate;
    }
    return found;
}

bool json_unknown_field(struct json_builder *b, const struct proto_type *type, const struct jval *v,
                        const struct proto_path *path)
{
    if (b->opts && b->opts->unknown == PROTO_UNKNOWN_IGNORE) return true;
    struct str shown = str_sub(v->key, 0, 80);
    if (b->opts && b->opts->unknown == PROTO_UNKNOWN_WARN) {
        json_note(b, PROTO_NOTE_UNKNOWN, path,
                  str_fmt(b->scratch, "unknown field \"%.*s\"", STR_ARG(shown)).ptr);
        return true;
    }
    struct str near = json_nearest_field(b, type, v->key);
    if (near.len)
        return json_fail(b, v, true, path, "unknown field \"%.*s\"; did you mean \"%.*s\"?",
                         STR_ARG(shown), STR_ARG(near));
    if (str_eq(v->key, STR("<<")))
        return json_fail(
            b, v, true, path,
            "unknown field \"<<\": YAML merge keys are not supported (by Envoy neither)");
    return json_fail(b, v, true, path, "unknown field \"%.*s\" of %s", STR_ARG(shown), type->name);
}

static ProtobufCMessage *build_root(struct json_builder *b, const ProtobufCMessageDescriptor *desc,
                                    const struct jval *v)
{
    struct proto_path root = proto_path_root(STR_NONE);
    size_t before = b->errors->count;
    if (v->type == JVAL_NULL) {
        json_fail(b, v, false, &root, "the configuration is empty");
        return NULL;
    }
    ProtobufCMessage *m = json_build(b, proto_type_of(desc), v, &root);
    return b->errors->count == before ? m : NULL;
}

ProtobufCMessage *json_read(struct arena *a, const ProtobufCMessageDescriptor *desc,
                            struct str text, enum json_format format, const char *file_name,
                            const struct proto_opts *opts, struct errors *errors)
{
    struct arena *scratch = arena_new("json", 65536);
    struct json_builder b = {
        .out = a, .scratch = scratch, .opts = opts, .errors = errors, .file = file_name};
    struct json_fault fault;
    ProtobufCMessage *m = NULL;
    const struct jval *v = json_parse_any(scratch, text, format, &fault);
    if (v) {
        m = build_root(&b, desc, v);
    } else {
        errors_add(errors, STR_NONE, "not valid %s: %.*s",
                   format == JSON_FORMAT_JSON ? "JSON" : "YAML", STR_ARG(fault.text));
        error_place(&b, fault.line, fault.column);
    }
    arena_free(&scratch);
    return m;
}
