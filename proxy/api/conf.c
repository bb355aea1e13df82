/* Places in the configuration and the errors told there. */
#include "proxy/api/conf.h"

#include "base/arena.h"
#include "base/errors.h"

struct conf_at conf_root(struct conf_cx *cx)
{
    return (struct conf_at){.cx = cx, .index = -1};
}

struct conf_at conf_field(const struct conf_at *at, const char *field)
{
    return (struct conf_at){.cx = at->cx, .parent = at, .field = field, .index = -1};
}

struct conf_at conf_index(const struct conf_at *at, const char *field, size_t index)
{
    return (struct conf_at){.cx = at->cx, .parent = at, .field = field, .index = (int64_t)index};
}

struct conf_at conf_key(const struct conf_at *at, const char *field, struct str key)
{
    return (struct conf_at){.cx = at->cx, .parent = at, .field = field, .index = -1, .key = key};
}

struct arena *conf_arena(const struct conf_at *at)
{
    return at->cx->arena;
}

static void conf_path_add(const struct conf_at *at, struct sb *out)
{
    if (at->parent) conf_path_add(at->parent, out);
    if (!at->field) return;
    if (out->len) sb_char(out, '.');
    sb_add(out, str_of(at->field));
    if (at->index >= 0) sb_fmt(out, "[%lld]", (long long)at->index);
    if (at->key.ptr) sb_fmt(out, "[\"%.*s\"]", STR_ARG(at->key));
}

struct str conf_path(const struct conf_at *at)
{
    struct sb out = {0};
    conf_path_add(at, &out);
    struct str path = str_dup(at->cx->errors->arena, sb_str(&out));
    sb_release(&out);
    return path;
}

bool conf_fail(const struct conf_at *at, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    errors_vadd(at->cx->errors, conf_path(at), fmt, ap);
    va_end(ap);
    return false;
}

bool conf_fail_cluster(const struct conf_at *at, const char *what, struct str name)
{
    const struct conf_cx *cx = at->cx;
    struct str near = STR_NONE;
    if (cx->cluster_nearest && cx->errors->count < ERRORS_MOST)
        near = cx->cluster_nearest(cx->cluster_known_arg, name);
    if (!near.len) return conf_fail(at, "%s '%.*s'", what, STR_ARG(name));
    return conf_fail(at, "%s '%.*s'; did you mean '%.*s'?", what, STR_ARG(name), STR_ARG(near));
}

struct need *conf_need(const struct conf_at *at, enum need_kind kind, struct str name,
                       const void *config_source)
{
    struct need *n = ARENA_NEW(conf_arena(at), struct need);
    n->kind = kind;
    n->name = str_dup(conf_arena(at), name);
    n->config_source = config_source;
    n->path = conf_path(at);
    n->next = at->cx->needs;
    at->cx->needs = n;
    return n;
}
