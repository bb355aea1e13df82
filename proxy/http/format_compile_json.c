/* Compiles JSON formats: constants become JSON text once, strings become lists of operators. */
#include <stdint.h>

#include "base/arena.h"
#include "proxy/api/metadata.h"
#include "proxy/http/format_internal.h"
#include "proxy/http/format_json.h"

static struct str object_key(struct arena *a, struct str name)
{
    struct sb out = {0};
    json_string(&out, name);
    sb_char(&out, ':');
    struct str s = str_dup(a, sb_str(&out));
    sb_release(&out);
    return s;
}

static bool compile_text(struct arena *a, struct format_node *n, struct str text, unsigned extra,
                         struct str *why)
{
    n->kind = FORMAT_NODE_TEXT;
    n->parts = format_parts(a, text, extra, &n->part_count, why);
    if (!n->parts) return false;
    if (n->part_count == 0 || (n->part_count == 1 && !n->parts[0].op)) {
        struct value v = {.kind = VALUE_STRING,
                          .u.text = n->part_count ? n->parts[0].literal : STR("")};
        n->kind = FORMAT_NODE_RAW;
        n->raw = value_text(&v, a);
    }
    return true;
}

/* Recursion is bounded by the depth limit of configuration messages. */
static bool compile_node(struct arena *a, struct format_node *n, const struct value *v,
                         unsigned extra, struct str *why)
{
    bool object = v->kind == VALUE_STRUCT;
    if (v->kind == VALUE_STRING) return compile_text(a, n, v->u.text, extra, why);
    if (!object && v->kind != VALUE_LIST) {
        n->kind = FORMAT_NODE_RAW;
        n->raw = value_text(v, a);
        return true;
    }
    n->kind = object ? FORMAT_NODE_OBJECT : FORMAT_NODE_LIST;
    n->count = object ? v->u.fields.count : v->u.list.count;
    struct format_node *children = ARENA_ARRAY(a, struct format_node, n->count);
    n->children = children;
    for (size_t i = 0; i < n->count; i++) {
        const struct value *child = object ? &v->u.fields.fields[i].value : &v->u.list.items[i];
        if (object) children[i].key = object_key(a, v->u.fields.fields[i].name);
        if (!compile_node(a, &children[i], child, extra, why)) return false;
    }
    return true;
}

/* Structs are sorted by name already, which is the order of Envoy's lines whatever sort_properties
 * says. */
struct format *format_new_json(struct arena *a, const struct value *object, unsigned extra,
                               bool omit_empty, bool sort, struct str *why)
{
    (void)sort;
    struct format *f = ARENA_NEW(a, struct format);
    f->json = true;
    f->omit_empty = omit_empty;
    f->content_type = STR("application/json");
    return compile_node(a, &f->root, object, extra, why) ? f : NULL;
}

const struct format *format_parse_json(struct arena *a, const struct value *object, bool omit_empty,
                                       struct str *why)
{
    return format_new_json(a, object, 0, omit_empty, true, why);
}
