/* From a name and an Any to an extension and its checked config message. */
#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "google/protobuf/any.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/extension.h"

struct nearest {
    enum extension_kind kind;
    struct str wanted; /* full name of a message */
    struct str best;
    size_t distance;
};

static void nearest_look(void *arg, enum extension_kind kind, const struct extension *e)
{
    struct nearest *n = arg;
    if (kind != n->kind || !e->config) return;
    struct str name = str_of(e->config->name);
    size_t d = str_distance(n->wanted, name, 12);
    if (d >= n->distance) return;
    n->distance = d;
    n->best = name;
}

/* The type is declared nowhere or belongs to another kind: say which, and the nearest that would
 * do. */
static void extension_unknown(const struct conf_at *at, enum extension_kind kind, struct str name,
                              struct str full)
{
    struct nearest n = {.kind = kind, .wanted = full, .distance = 13};
    registry_each(at->cx->registry, nearest_look, &n);
    const char *category = extension_kind_category(kind);
    if (n.best.len) {
        conf_fail(
            at,
            "no extension of category \"%s\" for \"%.*s\" with type \"%.*s\"; did you mean \"%.*s\"?",
            category, STR_ARG(name), STR_ARG(full), STR_ARG(n.best));
    } else {
        conf_fail(at,
                  "no extension of category \"%s\" for \"%.*s\" with type \"%.*s\" (not supported)",
                  category, STR_ARG(name), STR_ARG(full));
    }
}

const struct extension *conf_extension(const struct conf_at *at, enum extension_kind kind,
                                       struct str name, const void *any,
                                       const struct ProtobufCMessage **msg)
{
    const Google__Protobuf__Any *packed = any;
    struct conf_at config_at = conf_field(at, "typed_config");
    struct str full = packed ? proto_any_name(conf_arena(at), packed) : STR_NONE;
    const struct extension *e = registry_find(at->cx->registry, kind, full, name);
    *msg = NULL;
    if (!e) {
        if (full.len) {
            extension_unknown(&config_at, kind, name, full);
        } else {
            conf_fail(
                at,
                "no extension of category \"%s\" is named \"%.*s\", and no typed_config says its type",
                extension_kind_category(kind), STR_ARG(name));
        }
        return NULL;
    }
    if (!packed || !full.len) {
        if (!e->config) return e;
        conf_fail(at, "\"%.*s\" needs a typed_config of type \"%s\"", STR_ARG(name),
                  e->config->name);
        return NULL;
    }
    struct str path = conf_path(&config_at);
    struct proto_path root = proto_path_root(path);
    *msg = proto_any_unpack(conf_arena(at), packed, NULL, at->cx->opts, &root, at->cx->errors);
    return *msg ? e : NULL;
}
