/* Turns a chain of path steps into text. */
#include "proto/path.h"

#include "base/arena.h"

/* Writes `path` and its parents, outermost first. The chain is as deep as messages may nest. */
static void path_add(struct sb *out, const struct proto_path *path)
{
    if (path->up) path_add(out, path->up);
    if (path->name.len) {
        if (out->len) sb_char(out, '.');
        sb_add(out, path->name);
    }
    if (path->key.ptr) {
        sb_add(out, STR("[\""));
        sb_json_escaped(out, path->key);
        sb_add(out, STR("\"]"));
    } else if (path->index != PROTO_NO_INDEX) {
        sb_fmt(out, "[%zu]", path->index);
    }
}

struct str proto_path_text(struct arena *a, const struct proto_path *path)
{
    if (!path) return STR_NONE;
    struct sb out = {0};
    path_add(&out, path);
    struct str text = str_dup(a, sb_str(&out));
    sb_release(&out);
    return text;
}
