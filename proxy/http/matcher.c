/* Matching of strings, headers, query parameters, values and metadata. */
#include "proxy/http/matcher.h"

#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"

static bool case_ends(struct str s, struct str suffix)
{
    return s.len >= suffix.len && str_case_eq(str_sub(s, s.len - suffix.len, suffix.len), suffix);
}

static bool case_contains(struct str s, struct str part)
{
    if (part.len > s.len) return false;
    for (size_t i = 0; i + part.len <= s.len; i++) {
        if (str_case_eq(str_sub(s, i, part.len), part)) return true;
    }
    return false;
}

bool string_match(const struct string_matcher *m, struct str s)
{
    switch (m->kind) {
    case STRING_MATCH_EXACT: return m->ignore_case ? str_case_eq(s, m->text) : str_eq(s, m->text);
    case STRING_MATCH_PREFIX:
        return m->ignore_case ? str_case_starts(s, m->text) : str_starts(s, m->text);
    case STRING_MATCH_SUFFIX: return m->ignore_case ? case_ends(s, m->text) : str_ends(s, m->text);
    case STRING_MATCH_CONTAINS:
        return m->ignore_case ? case_contains(s, m->text) : str_find(s, m->text) != SIZE_MAX;
    case STRING_MATCH_REGEX: return regex_full(m->regex, s);
    }
    return false;
}

bool string_match_any(const struct string_matcher *v, size_t count, struct str s)
{
    for (size_t i = 0; i < count; i++) {
        if (string_match(&v[i], s)) return true;
    }
    return false;
}

static bool value_matches(const struct header_matcher *m, struct str v)
{
    int64_t n = 0;
    if (m->kind == HEADER_MATCH_RANGE) {
        if (v.len > 1 && v.ptr[0] == '+' && v.ptr[1] != '-')
            v = str_sub(v, 1, v.len); /* Envoy: "+3" is a number */
        return str_to_i64(v, &n) && n >= m->range_start && n < m->range_end;
    }
    return string_match(&m->string, v);
}

/* Envoy: with several values of a name, one that matches is enough. */
static bool any_value_matches(const struct header_matcher *m, const struct headers *h,
                              bool *present)
{
    uint32_t at = 0;
    *present = false;
    if (m->id != HDR_OTHER) {
        if (!h->first[m->id]) return false;
        at = h->first[m->id] - 1U;
    }
    const struct header *x;
    while ((x = headers_next(h, &at))) {
        if (m->id != HDR_OTHER ? x->id != m->id : x->id != HDR_OTHER || !str_eq(x->name, m->name))
            continue;
        *present = true;
        if (m->kind == HEADER_MATCH_PRESENT || m->kind == HEADER_MATCH_ABSENT ||
            value_matches(m, x->value))
            return true;
    }
    return false;
}

bool header_match(const struct header_matcher *m, const struct headers *h, struct arena *scratch)
{
    (void)scratch;
    bool present, hit = any_value_matches(m, h, &present);
    switch (m->kind) {
    case HEADER_MATCH_PRESENT: return (present || m->missing_as_empty) != m->invert;
    case HEADER_MATCH_ABSENT: return (present || m->missing_as_empty) == m->invert;
    case HEADER_MATCH_RANGE: return hit != m->invert; /* what is not there is out of range */
    case HEADER_MATCH_STRING:
        /* Envoy: a header that is not there matches no string, inverted or not. */
        if (!present && !m->missing_as_empty) return false;
        if (!present) hit = string_match(&m->string, STR(""));
        return hit != m->invert;
    }
    return false;
}

bool header_match_all(const struct header_matcher *v, size_t count, const struct headers *h,
                      struct arena *scratch)
{
    for (size_t i = 0; i < count; i++) {
        if (!header_match(&v[i], h, scratch)) return false;
    }
    return true;
}

bool header_match_any(const struct header_matcher *v, size_t count, const struct headers *h,
                      struct arena *scratch)
{
    for (size_t i = 0; i < count; i++) {
        if (header_match(&v[i], h, scratch)) return true;
    }
    return false;
}

struct str query_find(struct str path, struct str name)
{
    struct str left, query, part;
    if (!str_cut(path, '?', &left, &query)) return STR_NONE;
    size_t hash = str_find_char(query, '#');
    if (hash != SIZE_MAX) query.len = hash;
    while (str_next(&query, '&', &part)) {
        struct str key = part, value = STR("");
        (void)str_cut(part, '=', &key, &value);
        if (str_eq(key, name)) return value.ptr ? value : STR("");
    }
    return STR_NONE;
}

static bool query_match(const struct query_matcher *m, struct str path)
{
    struct str v = query_find(path, m->name);
    if (m->present_only) return (v.ptr != NULL) == m->present_wanted;
    return v.ptr && string_match(&m->string, v);
}

bool query_match_all(const struct query_matcher *v, size_t count, struct str path,
                     struct arena *scratch)
{
    (void)scratch;
    for (size_t i = 0; i < count; i++) {
        if (!query_match(&v[i], path)) return false;
    }
    return true;
}

static bool value_match_list(const struct value_matcher *m, const struct value *v)
{
    for (size_t i = 0; i < v->u.list.count; i++) {
        if (value_match(m->sub, &v->u.list.items[i])) return true;
    }
    return false;
}

bool value_match(const struct value_matcher *m, const struct value *v)
{
    switch (m->kind) {
    case VALUE_MATCH_NULL: return v && v->kind == VALUE_NULL;
    case VALUE_MATCH_DOUBLE_EXACT:
        return v && v->kind == VALUE_NUMBER && v->u.number >= m->number && v->u.number <= m->number;
    case VALUE_MATCH_DOUBLE_RANGE:
        return v && v->kind == VALUE_NUMBER && v->u.number >= m->number &&
               v->u.number < m->range_end;
    case VALUE_MATCH_STRING:
        return v && v->kind == VALUE_STRING && string_match(&m->string, v->u.text);
    case VALUE_MATCH_BOOL: return v && v->kind == VALUE_BOOL && v->u.boolean == m->boolean;
    case VALUE_MATCH_PRESENT: return (v != NULL) == m->boolean;
    case VALUE_MATCH_LIST: return v && v->kind == VALUE_LIST && value_match_list(m, v);
    case VALUE_MATCH_OR:
        for (size_t i = 0; i < m->count; i++) {
            if (value_match(&m->sub[i], v)) return true;
        }
        return false;
    }
    return false;
}

bool metadata_match(const struct metadata_matcher *m, const struct metadata *md)
{
    return value_match(&m->value, metadata_find(md, m->ns, m->path, m->path_count)) != m->invert;
}
