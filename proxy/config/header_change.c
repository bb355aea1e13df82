/* Translation of header additions and removals. */
#include <string.h>

#include "base/arena.h"
#include "envoy/config/common/mutation_rules/v3/mutation_rules.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/http/format_internal.h"
#include "proxy/http/header_change_internal.h"

/* Envoy: pseudo-headers and host are changed by rewrites only. */
static bool modifiable(struct str name)
{
    return name.len && name.ptr[0] != ':' && !str_case_eq(name, STR("host"));
}

static bool line_break(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\r' || s.ptr[i] == '\n' || s.ptr[i] == '\0') return true;
    }
    return false;
}

/* A name that could be sent. Envoy takes spaces here; then the message is broken for the other
 * side. */
static bool sendable(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        if (c <= ' ' || c >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", c)) return false;
    }
    return true;
}

static bool append_action(const struct conf_at *at,
                          const Envoy__Config__Core__V3__HeaderValueOption *m,
                          enum header_append *out)
{
    *out = (enum header_append)m->append_action;
    if (!m->append) return true;
    if (m->append_action !=
        ENVOY__CONFIG__CORE__V3__HEADER_VALUE_OPTION__HEADER_APPEND_ACTION__APPEND_IF_EXISTS_OR_ADD) {
        return conf_fail(at, "Both append and append_action are set and it's not allowed");
    }
    *out = m->append->value ? HEADER_APPEND_OR_ADD : HEADER_OVERWRITE_OR_ADD;
    return true;
}

static bool op_value(const struct conf_at *at, const Envoy__Config__Core__V3__HeaderValue *m,
                     unsigned extra, struct header_op *op)
{
    struct arena *a = conf_arena(at);
    struct conf_at here = conf_field(at, m->raw_value.len ? "raw_value" : "value");
    struct str value = str_of(m->value), why = STR_NONE;
    if (m->raw_value.len) {
        if (value.len) return conf_fail(&here, "Either value or raw_value may be set, not both");
        value = str_make((const char *)m->raw_value.data, m->raw_value.len);
    }
    if (line_break(value)) return conf_fail(&here, "must not contain CR, LF or NUL");
    op->literal = str_dup(a, value);
    const struct format *f = format_new_header(a, op->literal, extra, &why);
    if (!f) return conf_fail(&here, "%.*s", STR_ARG(why));
    if (format_literal(f).ptr)
        op->literal = format_literal(f);
    else
        op->format = f;
    return true;
}

static bool op_add(const struct conf_at *at, const Envoy__Config__Core__V3__HeaderValueOption *m,
                   unsigned extra, struct header_op *op)
{
    struct conf_at header = conf_field(at, "header");
    *op = (struct header_op){.kind = HEADER_OP_ADD, .keep_empty = m->keep_empty_value};
    if (!append_action(at, m, &op->append)) return false;
    op->name = str_dup_lower(conf_arena(at), str_of(m->header->key));
    if (!modifiable(op->name)) {
        struct conf_at key = conf_field(&header, "key");
        return conf_fail(&key, ":-prefixed or host headers may not be modified");
    }
    if (!sendable(op->name)) {
        struct conf_at key = conf_field(&header, "key");
        return conf_fail(&key, "is no valid header name");
    }
    return op_value(&header, m->header, extra, op);
}

static bool op_remove(const struct conf_at *at, const char *name, struct header_op *op)
{
    *op = (struct header_op){.kind = HEADER_OP_REMOVE,
                             .name = str_dup_lower(conf_arena(at), str_of(name))};
    if (!modifiable(op->name))
        return conf_fail(at, ":-prefixed or host headers may not be removed");
    return true;
}

const struct header_change *conf_header_change(
    const struct conf_at *at, const char *add_field, size_t add_count,
    Envoy__Config__Core__V3__HeaderValueOption *const *add, const char *remove_field,
    size_t remove_count, char *const *remove, bool *ok)
{
    *ok = true;
    if (!add_count && !remove_count) return NULL;
    struct header_change *c = ARENA_NEW(conf_arena(at), struct header_change);
    c->ops = ARENA_ARRAY(conf_arena(at), struct header_op, add_count + remove_count);
    for (size_t i = 0; i < remove_count; i++) {
        struct conf_at here = conf_index(at, remove_field, i);
        *ok = op_remove(&here, remove[i], &c->ops[c->count++]) && *ok;
    }
    for (size_t i = 0; i < add_count; i++) {
        struct conf_at here = conf_index(at, add_field, i);
        *ok = op_add(&here, add[i], 0, &c->ops[c->count++]) && *ok;
    }
    return *ok ? c : NULL;
}

const struct header_change *conf_header_additions(
    const struct conf_at *at, const char *field, size_t n,
    Envoy__Config__Core__V3__HeaderValueOption *const *v, unsigned extra, bool *ok)
{
    *ok = true;
    if (!n) return NULL;
    struct header_change *c = ARENA_NEW(conf_arena(at), struct header_change);
    c->ops = ARENA_ARRAY(conf_arena(at), struct header_op, n);
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        *ok = op_add(&here, v[i], extra, &c->ops[c->count++]) && *ok;
    }
    return *ok ? c : NULL;
}

static bool mutation(const struct conf_at *at,
                     const Envoy__Config__Common__MutationRules__V3__HeaderMutation *m,
                     struct header_op *op)
{
    switch ((int)m->action_case) {
    case ENVOY__CONFIG__COMMON__MUTATION_RULES__V3__HEADER_MUTATION__ACTION_REMOVE: {
        struct conf_at here = conf_field(at, "remove");
        return op_remove(&here, m->remove, op);
    }
    case ENVOY__CONFIG__COMMON__MUTATION_RULES__V3__HEADER_MUTATION__ACTION_APPEND: {
        struct conf_at here = conf_field(at, "append");
        return op_add(&here, m->append, 0, op);
    }
    case ENVOY__CONFIG__COMMON__MUTATION_RULES__V3__HEADER_MUTATION__ACTION_REMOVE_ON_MATCH: {
        struct conf_at here = conf_field(at, "remove_on_match"),
                       key = conf_field(&here, "key_matcher");
        *op = (struct header_op){.kind = HEADER_OP_REMOVE_MATCH};
        return conf_string_matcher(&key, m->remove_on_match->key_matcher, &op->match);
    }
    default: return conf_fail(at, "an action is needed");
    }
}

const struct header_change *conf_header_mutations(
    const struct conf_at *at, const char *field, size_t n,
    Envoy__Config__Common__MutationRules__V3__HeaderMutation *const *v, bool *ok)
{
    *ok = true;
    if (!n) return NULL;
    struct header_change *c = ARENA_NEW(conf_arena(at), struct header_change);
    c->ops = ARENA_ARRAY(conf_arena(at), struct header_op, n);
    c->ordered = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        *ok = mutation(&here, v[i], &c->ops[c->count++]) && *ok;
    }
    return *ok ? c : NULL;
}
