/* Applies configured header changes. */
#include "proxy/http/header_change.h"

#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/http/header_change_internal.h"

/* A value made from what peers said must not break out of its line. */
static struct str without_controls(struct str v, struct arena *a)
{
    for (size_t i = 0; i < v.len; i++) {
        if (v.ptr[i] != '\r' && v.ptr[i] != '\n' && v.ptr[i] != '\0') continue;
        char *copy = str_z(a, v);
        for (size_t k = i; k < v.len; k++) {
            if (copy[k] == '\r' || copy[k] == '\n' || copy[k] == '\0') copy[k] = ' ';
        }
        return str_make(copy, v.len);
    }
    return v;
}

static struct str op_value(const struct header_op *op, const struct headers *h,
                           const struct stream_info *info)
{
    if (!op->format || !info) return op->literal;
    return without_controls(format_dup(op->format, info, h->arena), h->arena);
}

/* Envoy: a header that it knows by a slot of its own gets further values joined with ","; any other
 * becomes another line. */
static void add_value(struct headers *h, struct str name, struct str value)
{
    enum header_id id = header_id_of(name);
    bool joined = id != HDR_OTHER && id != HDR_COOKIE && id != HDR_SET_COOKIE &&
                  id != HDR_WWW_AUTHENTICATE && id != HDR_PROXY_AUTHENTICATE;
    if (joined && headers_has(h, id))
        headers_append(h, name, value, STR(","));
    else
        headers_add(h, name, value);
}

/* Envoy: what is overwritten moves to the end. */
static void overwrite(struct headers *h, struct str name, struct str value)
{
    (void)headers_remove(h, name);
    headers_add(h, name, value);
}

static void op_add(const struct header_op *op, struct headers *h, struct str value, bool existed)
{
    switch (op->append) {
    case HEADER_APPEND_OR_ADD: add_value(h, op->name, value); return;
    case HEADER_ADD_IF_ABSENT:
        if (!existed) headers_add(h, op->name, value);
        return;
    case HEADER_OVERWRITE_OR_ADD: overwrite(h, op->name, value); return;
    case HEADER_OVERWRITE_IF_EXISTS:
        if (existed) overwrite(h, op->name, value);
        return;
    }
}

static void remove_matching(const struct header_op *op, struct headers *h)
{
    uint32_t it = 0;
    const struct header *x;
    while ((x = headers_next(h, &it))) {
        if (x->name.len && x->name.ptr[0] == ':') continue;
        if (string_match(&op->match, x->name)) (void)headers_remove(h, x->name);
    }
}

static void op_apply(const struct header_op *op, struct headers *h, struct str value, bool existed)
{
    switch (op->kind) {
    case HEADER_OP_REMOVE: (void)headers_remove(h, op->name); return;
    case HEADER_OP_REMOVE_MATCH: remove_matching(op, h); return;
    case HEADER_OP_ADD:
        if (value.len || op->keep_empty) op_add(op, h, value, existed);
        return;
    }
}

static bool present(const struct headers *h, struct str name)
{
    return headers_find(h, name).ptr != NULL;
}

static void apply_ordered(const struct header_change *c, struct headers *h,
                          const struct stream_info *info)
{
    for (size_t i = 0; i < c->count; i++) {
        const struct header_op *op = &c->ops[i];
        if (op->kind == HEADER_OP_ADD)
            op_apply(op, h, op_value(op, h, info), present(h, op->name));
        else
            op_apply(op, h, STR_NONE, false);
    }
}

/* What one addition will do, decided before any of them is made. */
struct planned {
    struct str value;
    bool existed;
};

static bool overwrites(const struct header_op *op)
{
    return op->append == HEADER_OVERWRITE_OR_ADD || op->append == HEADER_OVERWRITE_IF_EXISTS;
}

void header_change_apply(const struct header_change *c, struct headers *h,
                         const struct stream_info *info)
{
    if (!c) return;
    if (c->ordered) {
        apply_ordered(c, h, info);
        return;
    }
    size_t first = 0;
    while (first < c->count && c->ops[first].kind != HEADER_OP_ADD)
        op_apply(&c->ops[first++], h, STR_NONE, false);
    if (first == c->count) return;
    if (first + 1 == c->count) { /* the usual case: nothing to plan */
        const struct header_op *op = &c->ops[first];
        op_apply(op, h, op_value(op, h, info), present(h, op->name));
        return;
    }
    /* Envoy: all formats see the headers as they were, then what overwrites goes first. */
    struct planned *plan = ARENA_ARRAY(h->arena, struct planned, c->count - first);
    for (size_t i = first; i < c->count; i++) {
        plan[i - first] =
            (struct planned){op_value(&c->ops[i], h, info), present(h, c->ops[i].name)};
    }
    for (size_t i = first; i < c->count; i++) {
        if (overwrites(&c->ops[i]))
            op_apply(&c->ops[i], h, plan[i - first].value, plan[i - first].existed);
    }
    for (size_t i = first; i < c->count; i++) {
        if (!overwrites(&c->ops[i]))
            op_apply(&c->ops[i], h, plan[i - first].value, plan[i - first].existed);
    }
}
