/* Walking a matcher tree. Envoy's rules: a nested tree that finds nothing lets the search go on
 * where it was; an input that is not there yet ends it. */
#include "proxy/http/match_tree.h"

#include "base/must.h"

/* Recursion below: trees are at most as deep as translation allows. */

static enum match_result then(const struct match_then *t, const struct match_ask *ask,
                              const void **action)
{
    const void *found = t->action;
    enum match_result r = found ? MATCH_FOUND : MATCH_NONE;
    if (t->tree) r = match_tree_find(t->tree, ask, &found);
    if (r == MATCH_FOUND && t->keep_matching) return MATCH_NONE;
    if (r == MATCH_FOUND) *action = found;
    return r;
}

/* --- predicates
 * ------------------------------------------------------------------------------------- */

static enum match_result single_fits(const struct match_predicate *p, const struct match_ask *ask)
{
    struct match_value v = {0};
    if (!p->input.type->get(p->input.conf, ask, &v)) return MATCH_WAIT;
    bool fits = p->kind == MATCH_CUSTOM ? p->type->fits(p->conf, ask, &v)
                                        : v.present && string_match(&p->text, v.text);
    return fits ? MATCH_FOUND : MATCH_NONE;
}

/* OR ends at the first that fits, AND at the first that does not; what waits decides last. */
static enum match_result predicate_fits(const struct match_predicate *p,
                                        const struct match_ask *ask)
{
    enum match_result r, end = p->kind == MATCH_OR ? MATCH_FOUND : MATCH_NONE;
    bool waits = false;
    switch (p->kind) {
    case MATCH_TEXT:
    case MATCH_CUSTOM: return single_fits(p, ask);
    case MATCH_NOT:
        r = predicate_fits(p->sub, ask);
        if (r == MATCH_WAIT) return r;
        return r == MATCH_FOUND ? MATCH_NONE : MATCH_FOUND;
    case MATCH_OR:
    case MATCH_AND:
        for (size_t i = 0; i < p->count; i++) {
            r = predicate_fits(&p->sub[i], ask);
            if (r == end) return end;
            waits |= r == MATCH_WAIT;
        }
        if (waits) return MATCH_WAIT;
        return p->kind == MATCH_OR ? MATCH_NONE : MATCH_FOUND;
    }
    return MATCH_NONE;
}

static enum match_result list_find(const struct match_tree *t, const struct match_ask *ask,
                                   const void **action)
{
    for (size_t i = 0; i < t->count; i++) {
        enum match_result r = predicate_fits(&t->lines[i].predicate, ask);
        if (r == MATCH_WAIT) return r;
        if (r == MATCH_NONE) continue;
        r = then(&t->lines[i].then, ask, action);
        if (r != MATCH_NONE) return r;
    }
    return MATCH_NONE;
}

/* --- maps
 * ------------------------------------------------------------------------------------------- */

static enum match_result key_find(const struct match_tree *t, struct str key,
                                  const struct match_ask *ask, const void **action)
{
    const struct match_then *x = map_get(&t->map, key);
    return x ? then(x, ask, action) : MATCH_NONE;
}

static enum match_result prefix_find(const struct match_tree *t, struct str text,
                                     const struct match_ask *ask, const void **action)
{
    for (size_t i = 0; i < t->length_count; i++) {
        if (t->lengths[i] > text.len) continue;
        enum match_result r = key_find(t, str_sub(text, 0, t->lengths[i]), ask, action);
        if (r != MATCH_NONE) return r;
    }
    return MATCH_NONE;
}

/* The exact name, then the longest "*.x", then "*". */
static enum match_result domain_find(const struct match_tree *t, struct str name,
                                     const struct match_ask *ask, const void **action)
{
    enum match_result r =
        name.len && name.ptr[0] == '.' ? MATCH_NONE : key_find(t, name, ask, action);
    for (size_t i = 0; i < t->length_count && r == MATCH_NONE; i++) {
        size_t len = t->lengths[i];
        if (len <= name.len) r = key_find(t, str_sub(name, name.len - len, len), ask, action);
    }
    return r == MATCH_NONE && t->any ? then(t->any, ask, action) : r;
}

/* An exclusive range counts only when no narrower one fits. */
static enum match_result ip_find(const struct match_tree *t, struct str text,
                                 const struct match_ask *ask, const void **action)
{
    struct addr a;
    if (!addr_parse_ip(text, 0, &a)) return MATCH_NONE;
    bool first = true;
    for (size_t i = 0; i < t->count; i++) {
        const struct match_range *x = &t->ranges[i];
        if (!cidr_contains(&x->range, &a)) continue;
        if (!first && x->exclusive) continue;
        first = false;
        enum match_result r = then(&x->then, ask, action);
        if (r != MATCH_NONE) return r;
    }
    return MATCH_NONE;
}

static enum match_result map_find(const struct match_tree *t, const struct match_ask *ask,
                                  const void **action)
{
    struct match_value v = {0};
    if (!t->input.type->get(t->input.conf, ask, &v)) return MATCH_WAIT;
    if (!v.present) return MATCH_NONE;
    switch (t->kind) {
    case MATCH_TREE_EXACT: return key_find(t, v.text, ask, action);
    case MATCH_TREE_PREFIX: return prefix_find(t, v.text, ask, action);
    case MATCH_TREE_IP: return v.text.len ? ip_find(t, v.text, ask, action) : MATCH_NONE;
    case MATCH_TREE_DOMAIN: return v.text.len ? domain_find(t, v.text, ask, action) : MATCH_NONE;
    case MATCH_TREE_ALWAYS:
    case MATCH_TREE_LIST: break;
    }
    return MATCH_NONE;
}

enum match_result match_tree_find(const struct match_tree *t, const struct match_ask *ask,
                                  const void **action)
{
    enum match_result r = MATCH_NONE;
    if (t->kind == MATCH_TREE_LIST)
        r = list_find(t, ask, action);
    else if (t->kind != MATCH_TREE_ALWAYS)
        r = map_find(t, ask, action);
    return r == MATCH_NONE ? then(&t->on_no_match, ask, action) : r;
}
