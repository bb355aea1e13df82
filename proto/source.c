/* Finds the line of a field path by reading the text again as a tree. */
#include "proto/source.h"

#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "proto/json_internal.h"

struct source {
    struct arena *arena;
    struct str name, text;
    const struct jval *tree; /* NULL until the first call */
    enum json_format format;
};

struct source *source_new(struct str name, struct str text, enum json_format format)
{
    struct arena *a = arena_new("source", 0);
    struct source *s = ARENA_NEW(a, struct source);
    *s = (struct source){
        .arena = a, .name = str_dup(a, name), .text = str_dup(a, text), .format = format};
    return s;
}

void source_free(struct source **s)
{
    if (!*s) return;
    struct arena *a = (*s)->arena;
    arena_free(&a);
    *s = NULL;
}

struct str source_name(const struct source *s)
{
    return s->name;
}

/* camelCase and snake_case of one field are the same name here. */
static bool same_name(struct str x, struct str y)
{
    size_t i = 0, k = 0;
    while (i < x.len && k < y.len) {
        bool gap_x = x.ptr[i] == '_', gap_y = y.ptr[k] == '_';
        if (gap_x && !gap_y)
            i++;
        else if (gap_y && !gap_x)
            k++;
        else if (str_lower_char(x.ptr[i++]) != str_lower_char(y.ptr[k++]))
            return false;
    }
    return i == x.len && k == y.len;
}

static const struct jval *member_of(const struct jval *v, struct str name)
{
    const struct jval *exact = jval_member(v, name);
    if (exact || v->type != JVAL_OBJECT) return exact;
    for (const struct jval *e = v->first; e; e = e->next)
        if (same_name(e->key, name)) return e;
    /* An Any of a TypedStruct has the fields one step further down. */
    const struct jval *url = jval_member(v, STR("@type")), *value = jval_member(v, STR("value"));
    if (url && value && str_ends(url->text, STR(".TypedStruct"))) return member_of(value, name);
    return NULL;
}

/* `[n]`; a single value may stand for a list of one. */
static const struct jval *element_of(const struct jval *v, uint64_t index)
{
    if (v->type != JVAL_ARRAY) return index == 0 ? v : NULL;
    const struct jval *e = v->first;
    for (; e && index; e = e->next)
        index--;
    return e;
}

/* Takes one step ("name", "[3]", "[\"key\"]") off the path and follows it; NULL: it leads nowhere.
 */
static const struct jval *step(const struct jval *v, struct str *path)
{
    if (path->ptr[0] == '.') *path = str_sub(*path, 1, path->len);
    if (path->len && path->ptr[0] == '[') {
        bool quoted = path->len > 1 && path->ptr[1] == '"';
        size_t end =
            quoted ? str_find(str_sub(*path, 2, path->len), STR("\"]")) : str_find_char(*path, ']');
        if (end == SIZE_MAX) return NULL;
        struct str inside = quoted ? str_sub(*path, 2, end) : str_sub(*path, 1, end - 1);
        *path = str_sub(*path, quoted ? end + 4 : end + 1, path->len);
        uint64_t index;
        if (quoted) return jval_member(v, inside);
        return str_to_u64(inside, &index) ? element_of(v, index) : NULL;
    }
    size_t end = 0;
    while (end < path->len && path->ptr[end] != '.' && path->ptr[end] != '[')
        end++;
    struct str name = str_sub(*path, 0, end);
    *path = str_sub(*path, end, path->len);
    return name.len ? member_of(v, name) : NULL;
}

size_t source_locate(struct source *s, struct str path, uint32_t *line, uint32_t *column)
{
    struct json_fault fault;
    size_t depth = 0;
    *line = *column = 1;
    if (!s->tree) s->tree = json_parse_any(s->arena, s->text, s->format, &fault);
    const struct jval *at = s->tree;
    while (at && path.len) {
        const struct jval *next = step(at, &path);
        if (!next) break;
        at = next;
        depth++;
    }
    if (!at || !at->line) return 0;
    /* A named value is shown at its name, an element at its own start. */
    *line = at->key_line ? at->key_line : at->line;
    *column = at->key_line ? at->key_column : at->column;
    return depth;
}

void source_locate_errors(struct source *const *sources, size_t count, struct errors *errors)
{
    size_t kept = errors->count < ERRORS_MOST ? errors->count : ERRORS_MOST;
    for (size_t i = 0; i < kept; i++) {
        struct error *e = &errors->v[i];
        size_t best = 0;
        if (e->where.len || !e->path.len) continue;
        for (size_t k = 0; k < count; k++) {
            uint32_t line, column;
            size_t depth = source_locate(sources[k], e->path, &line, &column);
            if (depth == 0 || depth < best) continue;
            best = depth;
            e->where =
                str_fmt(errors->arena, "%.*s:%u:%u", STR_ARG(sources[k]->name), line, column);
        }
    }
}
