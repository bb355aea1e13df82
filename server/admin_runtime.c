/* /runtime and /runtime_modify. */
#include <stdlib.h>

#include "base/arena.h"
#include "server/admin_internal.h"
#include "server/server.h"
#include "xds/xds.h"

struct entry {
    struct str key, final;
    const struct str *values; /* one a layer */
};
struct entries {
    struct arena *arena;
    size_t layers, count, cap;
    struct entry *v;
};

static void entry_count(void *arg, struct str key, const struct str *values, struct str final)
{
    (void)key, (void)values, (void) final;
    ((struct entries *)arg)->cap++;
}

static void entry_add(void *arg, struct str key, const struct str *values, struct str final)
{
    struct entries *e = arg;
    struct str *copy = ARENA_ARRAY(e->arena, struct str, e->layers);
    for (size_t i = 0; i < e->layers; i++)
        copy[i] = str_dup(e->arena, values[i]);
    e->v[e->count++] = (struct entry){str_dup(e->arena, key), str_dup(e->arena, final), copy};
}

static int entry_order(const void *x, const void *y)
{
    return str_cmp(((const struct entry *)x)->key, ((const struct entry *)y)->key);
}

static void quoted(struct sb *out, struct str s)
{
    sb_char(out, '"');
    sb_json_escaped(out, s);
    sb_char(out, '"');
}

/* A list of strings, one a line. */
static void list(struct sb *out, const struct str *v, size_t count, const char *indent)
{
    sb_char(out, '[');
    for (size_t i = 0; i < count; i++) {
        sb_fmt(out, "%s\n%s ", i ? "," : "", indent);
        quoted(out, v[i]);
    }
    if (count) sb_fmt(out, "\n%s", indent);
    sb_char(out, ']');
}

void admin_page_runtime(struct admin_request *r)
{
    const struct xds *x = r->server->xds;
    struct entries e = {.arena = r->arena, .layers = xds_runtime_layers(x)};
    struct str *names = ARENA_ARRAY(r->arena, struct str, e.layers);
    xds_runtime_each(x, entry_count, &e);
    e.v = ARENA_ARRAY(r->arena, struct entry, e.cap);
    xds_runtime_each(x, entry_add, &e);
    qsort(e.v, e.count, sizeof *e.v, entry_order);
    r->content_type = ADMIN_JSON;
    for (size_t i = 0; i < e.layers; i++)
        names[i] = xds_runtime_layer_name(x, i);
    sb_add(&r->out, STR("{\n \"entries\": {"));
    for (size_t i = 0; i < e.count; i++) {
        sb_add(&r->out, i ? STR(",\n  ") : STR("\n  "));
        quoted(&r->out, e.v[i].key);
        sb_add(&r->out, STR(": {\n   \"final_value\": "));
        quoted(&r->out, e.v[i].final);
        sb_add(&r->out, STR(",\n   \"layer_values\": "));
        list(&r->out, e.v[i].values, e.layers, "   ");
        sb_add(&r->out, STR("\n  }"));
    }
    sb_add(&r->out, e.count ? STR("\n },\n \"layers\": ") : STR("},\n \"layers\": "));
    list(&r->out, names, e.layers, " ");
    sb_add(&r->out, STR("\n}\n"));
}

void admin_page_runtime_modify(struct admin_request *r)
{
    if (r->param_count == 0) {
        admin_error(r, 400,
                    "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n"
                    "       or send the parameters as form values\n"
                    "use an empty value to remove a previously added override");
        return;
    }
    for (size_t i = 0; i < r->param_count; i++) {
        if (xds_runtime_set(r->server->xds, r->params[i].name, r->params[i].value)) continue;
        admin_error(r, 503, "No admin layer specified");
        return;
    }
    sb_add(&r->out, STR("OK\n"));
}
