/* Where we stand on what a message sets, by walking it along the generated tables. */
#include "proto/support.h"

#include "base/arena.h"
#include "base/errors.h"
#include "proto/notes.h"
#include "proto/path.h"
#include "proto/proto.h"
#include "proto/rules.h"

struct walk {
    const struct proto_opts *opts;
    struct errors *errors;
};

static void note(const struct walk *w, enum proto_note_kind kind, const struct proto_path *path,
                 struct str text)
{
    if (w->opts && w->opts->on_note)
        w->opts->on_note(w->opts->user, kind, proto_path_text(w->errors->arena, path), text);
}

static bool walk_message(const struct walk *w, const ProtobufCMessage *m,
                         const struct proto_type *type, const struct proto_path *path);

static bool walk_enum(const struct walk *w, const ProtobufCFieldDescriptor *f,
                      const struct proto_path *path, int value)
{
    const struct proto_enum_mark *mark = proto_enum_mark_of(f->descriptor, value);
    if (!mark) return true;
    const char *name = proto_enum_name(f->descriptor, value);
    if (mark->refused)
        return errors_add(w->errors, proto_path_text(w->errors->arena, path),
                          "%s is deprecated and not allowed", name);
    note(w, PROTO_NOTE_DEPRECATED, path,
         str_fmt(w->errors->arena, "the value %s is deprecated", name));
    return true;
}

static bool walk_elements(const struct walk *w, const ProtobufCMessage *m,
                          const struct proto_type *type, size_t idx, const struct proto_path *up)
{
    const ProtobufCFieldDescriptor *f = &type->desc->fields[idx];
    const struct proto_field *facts = &type->fields[idx];
    bool good = true;
    for (size_t i = 0; i < proto_field_count(m, f); i++) {
        const struct proto_path path = proto_path_item(up, f->name, i);
        if (facts->map) {
            const ProtobufCMessage *entry = proto_field_message(m, f, i);
            const ProtobufCFieldDescriptor *key = &facts->type->desc->fields[0],
                                           *value = &facts->type->desc->fields[1];
            struct str name = key->type == PROTOBUF_C_TYPE_STRING
                                  ? str_of(*(const char *const *)proto_field_at(entry, key))
                                  : STR("");
            const struct proto_path keyed = proto_path_key(up, f->name, name.ptr ? name : STR(""));
            const ProtobufCMessage *sub = value->type == PROTOBUF_C_TYPE_MESSAGE
                                              ? proto_field_message(entry, value, 0)
                                              : NULL;
            if (sub) good = walk_message(w, sub, facts->type->fields[1].type, &keyed) && good;
        } else if (facts->type) {
            good = walk_message(w, proto_field_message(m, f, i), facts->type, &path) && good;
        } else if (facts->enum_marked) {
            good = walk_enum(w, f, &path, (*(const int *const *)proto_field_at(m, f))[i]) && good;
        }
    }
    return good;
}

static bool walk_field(const struct walk *w, const ProtobufCMessage *m,
                       const struct proto_type *type, size_t idx, const struct proto_path *up)
{
    const ProtobufCFieldDescriptor *f = &type->desc->fields[idx];
    const struct proto_field *facts = &type->fields[idx];
    bool below = facts->type && facts->type->has_verdicts;
    if (facts->verdict == PROTO_IMPLEMENTED && !facts->deprecated && !facts->enum_marked && !below)
        return true;
    /* Envoy: an enum that is left out stands for its zero value, which may be one that is not
     * allowed. */
    bool zero_counts =
        facts->enum_marked && !facts->presence && f->label != PROTOBUF_C_LABEL_REPEATED;
    if (!zero_counts && !proto_field_set(m, type, idx)) return true;
    const struct proto_path path = proto_path_field(up, f->name);
    if (facts->deprecated) note(w, PROTO_NOTE_DEPRECATED, &path, STR("the field is deprecated"));
    if (facts->verdict == PROTO_REFUSED)
        return errors_add(w->errors, proto_path_text(w->errors->arena, &path), "%s",
                          facts->deprecated ? "the field is deprecated and not supported"
                                            : "the field is not supported yet");
    if (facts->verdict == PROTO_IGNORED) {
        note(w, PROTO_NOTE_IGNORED, &path, str_of(facts->reason));
        return true; /* what is below has no effect either */
    }
    if (f->label == PROTOBUF_C_LABEL_REPEATED) return walk_elements(w, m, type, idx, up);
    if (facts->type) return walk_message(w, proto_field_message(m, f, 0), facts->type, &path);
    return !facts->enum_marked || walk_enum(w, f, &path, *(const int *)proto_field_at(m, f));
}

static bool walk_message(const struct walk *w, const ProtobufCMessage *m,
                         const struct proto_type *type, const struct proto_path *path)
{
    if (!type->has_verdicts) return true;
    bool good = true;
    for (size_t i = 0; i < type->desc->n_fields; i++) {
        good = walk_field(w, m, type, i, path) && good;
        if (w->errors->count > ERRORS_MOST) return false; /* enough is known */
    }
    return good;
}

bool proto_support_check(const ProtobufCMessage *m, const struct proto_path *path,
                         const struct proto_opts *opts, struct errors *errors)
{
    const struct proto_path root = proto_path_root(STR(""));
    const struct walk walk = {.opts = opts, .errors = errors};
    return walk_message(&walk, m, proto_type_of(m->descriptor), path ? path : &root);
}
