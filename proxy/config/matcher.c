/* Translation of matchers. */
#include "proxy/config/matcher.h"

#include "base/arena.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/type/matcher/v3/metadata.pb-c.h"
#include "envoy/type/matcher/v3/number.pb-c.h"
#include "envoy/type/matcher/v3/regex.pb-c.h"
#include "envoy/type/matcher/v3/string.pb-c.h"
#include "envoy/type/matcher/v3/value.pb-c.h"
#include "envoy/type/v3/range.pb-c.h"
#include "proxy/api/headers.h"

const struct regex *conf_regex(const struct conf_at *at,
                               const Envoy__Type__Matcher__V3__RegexMatcher *m)
{
    struct str why = STR_NONE;
    struct regex *r = regex_new(conf_arena(at), str_of(m->regex), &why);
    if (r) return r;
    struct conf_at here = conf_field(at, "regex");
    conf_fail(&here, "%.*s", STR_ARG(why));
    return NULL;
}

bool conf_regex_rewrite(const struct conf_at *at,
                        const Envoy__Type__Matcher__V3__RegexMatchAndSubstitute *m,
                        const struct regex **regex, struct str *to)
{
    struct conf_at pattern = conf_field(at, "pattern");
    *regex = conf_regex(&pattern, m->pattern);
    if (!*regex) return false;
    *to = str_dup(conf_arena(at), str_of(m->substitution));
    struct str why = STR_NONE;
    if (regex_check_rewrite(*regex, conf_arena(at), *to, &why)) return true;
    struct conf_at here = conf_field(at, "substitution");
    return conf_fail(&here, "%.*s", STR_ARG(why));
}

static void set_text(struct arena *a, struct string_matcher *out, enum string_match_kind kind,
                     const char *text, bool ignore_case)
{
    out->kind = kind;
    out->ignore_case = ignore_case;
    out->text = ignore_case ? str_dup_lower(a, str_of(text)) : str_dup(a, str_of(text));
}

static bool set_regex(const struct conf_at *at, const char *field, struct string_matcher *out,
                      const Envoy__Type__Matcher__V3__RegexMatcher *m)
{
    struct conf_at here = conf_field(at, field);
    out->kind = STRING_MATCH_REGEX;
    out->regex = conf_regex(&here, m);
    return out->regex != NULL;
}

bool conf_string_matcher(const struct conf_at *at, const Envoy__Type__Matcher__V3__StringMatcher *m,
                         struct string_matcher *out)
{
    struct arena *a = conf_arena(at);
    *out = (struct string_matcher){0};
    switch ((int)m->match_pattern_case) {
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT:
        set_text(a, out, STRING_MATCH_EXACT, m->exact, m->ignore_case);
        return true;
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_PREFIX:
        set_text(a, out, STRING_MATCH_PREFIX, m->prefix, m->ignore_case);
        return true;
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SUFFIX:
        set_text(a, out, STRING_MATCH_SUFFIX, m->suffix, m->ignore_case);
        return true;
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_CONTAINS:
        set_text(a, out, STRING_MATCH_CONTAINS, m->contains, m->ignore_case);
        return true;
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX:
        if (m->ignore_case) return conf_fail(at, "ignore_case has no effect for safe_regex.");
        return set_regex(at, "safe_regex", out, m->safe_regex);
    case ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_CUSTOM:
        return conf_fail(at, "custom string matchers are not supported");
    default: return conf_fail(at, "a match pattern is needed");
    }
}

const struct string_matcher *conf_string_matchers(const struct conf_at *at, const char *field,
                                                  size_t n,
                                                  Envoy__Type__Matcher__V3__StringMatcher *const *v,
                                                  bool *ok)
{
    *ok = true;
    if (!n) return NULL;
    struct string_matcher *out = ARENA_ARRAY(conf_arena(at), struct string_matcher, n);
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        *ok = conf_string_matcher(&here, v[i], &out[i]) && *ok;
    }
    return *ok ? out : NULL;
}

static bool header_value_matcher(const struct conf_at *at,
                                 const Envoy__Config__Route__V3__HeaderMatcher *m,
                                 struct header_matcher *out)
{
    struct arena *a = conf_arena(at);
    out->kind = HEADER_MATCH_STRING;
    switch ((int)m->header_match_specifier_case) {
    case ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_EXACT_MATCH:
        set_text(a, &out->string, STRING_MATCH_EXACT, m->exact_match, false);
        return true;
    case ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PREFIX_MATCH:
        set_text(a, &out->string, STRING_MATCH_PREFIX, m->prefix_match, false);
        return true;
    case ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_SUFFIX_MATCH:
        set_text(a, &out->string, STRING_MATCH_SUFFIX, m->suffix_match, false);
        return true;
    case ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_CONTAINS_MATCH:
        set_text(a, &out->string, STRING_MATCH_CONTAINS, m->contains_match, false);
        return true;
    case ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_SAFE_REGEX_MATCH:
        return set_regex(at, "safe_regex_match", &out->string, m->safe_regex_match);
    case ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_STRING_MATCH: {
        struct conf_at here = conf_field(at, "string_match");
        return conf_string_matcher(&here, m->string_match, &out->string);
    }
    case ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_RANGE_MATCH:
        out->kind = HEADER_MATCH_RANGE;
        out->range_start = m->range_match->start;
        out->range_end = m->range_match->end;
        return true;
    case ENVOY__CONFIG__ROUTE__V3__HEADER_MATCHER__HEADER_MATCH_SPECIFIER_PRESENT_MATCH:
        out->kind = m->present_match ? HEADER_MATCH_PRESENT : HEADER_MATCH_ABSENT;
        return true;
    default: out->kind = HEADER_MATCH_PRESENT; return true;
    }
}

bool conf_header_matcher(const struct conf_at *at, const Envoy__Config__Route__V3__HeaderMatcher *m,
                         struct header_matcher *out)
{
    *out = (struct header_matcher){.invert = m->invert_match,
                                   .missing_as_empty = m->treat_missing_header_as_empty};
    out->name = str_dup_lower(conf_arena(at), str_of(m->name));
    if (str_eq(out->name, STR("host"))) out->name = STR(":authority");
    out->id = (uint16_t)header_id_of(out->name);
    return header_value_matcher(at, m, out);
}

const struct header_matcher *conf_header_matchers(const struct conf_at *at, const char *field,
                                                  size_t n,
                                                  Envoy__Config__Route__V3__HeaderMatcher *const *v,
                                                  bool *ok)
{
    *ok = true;
    if (!n) return NULL;
    struct header_matcher *out = ARENA_ARRAY(conf_arena(at), struct header_matcher, n);
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        *ok = conf_header_matcher(&here, v[i], &out[i]) && *ok;
    }
    return *ok ? out : NULL;
}

static bool query_matcher(const struct conf_at *at,
                          const Envoy__Config__Route__V3__QueryParameterMatcher *m,
                          struct query_matcher *out)
{
    out->name = str_dup(conf_arena(at), str_of(m->name));
    switch ((int)m->query_parameter_match_specifier_case) {
    case ENVOY__CONFIG__ROUTE__V3__QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH: {
        struct conf_at here = conf_field(at, "string_match");
        return conf_string_matcher(&here, m->string_match, &out->string);
    }
    case ENVOY__CONFIG__ROUTE__V3__QUERY_PARAMETER_MATCHER__QUERY_PARAMETER_MATCH_SPECIFIER_PRESENT_MATCH:
        out->present_only = true;
        out->present_wanted = m->present_match;
        return true;
    default: out->present_only = out->present_wanted = true; return true;
    }
}

const struct query_matcher *conf_query_matchers(
    const struct conf_at *at, const char *field, size_t n,
    Envoy__Config__Route__V3__QueryParameterMatcher *const *v, bool *ok)
{
    *ok = true;
    if (!n) return NULL;
    struct query_matcher *out = ARENA_ARRAY(conf_arena(at), struct query_matcher, n);
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        *ok = query_matcher(&here, v[i], &out[i]) && *ok;
    }
    return *ok ? out : NULL;
}

static bool double_matcher(const Envoy__Type__Matcher__V3__DoubleMatcher *m,
                           struct value_matcher *out)
{
    if (m->match_pattern_case == ENVOY__TYPE__MATCHER__V3__DOUBLE_MATCHER__MATCH_PATTERN_RANGE) {
        out->kind = VALUE_MATCH_DOUBLE_RANGE;
        out->number = m->range->start;
        out->range_end = m->range->end;
    } else {
        out->kind = VALUE_MATCH_DOUBLE_EXACT;
        out->number = m->exact;
    }
    return true;
}

/* Both hold matchers themselves; the depth is bounded by that of configuration messages. */
static bool value_matcher_subs(const struct conf_at *at, const char *field, size_t n,
                               Envoy__Type__Matcher__V3__ValueMatcher *const *v,
                               struct value_matcher *out)
{
    struct value_matcher *sub = ARENA_ARRAY(conf_arena(at), struct value_matcher, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        ok = conf_value_matcher(&here, v[i], &sub[i]) && ok;
    }
    out->sub = sub;
    out->count = n;
    return ok;
}

bool conf_value_matcher(const struct conf_at *at, const Envoy__Type__Matcher__V3__ValueMatcher *m,
                        struct value_matcher *out)
{
    *out = (struct value_matcher){0};
    switch ((int)m->match_pattern_case) {
    case ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_NULL_MATCH:
        out->kind = VALUE_MATCH_NULL;
        return true;
    case ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_DOUBLE_MATCH:
        return double_matcher(m->double_match, out);
    case ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_STRING_MATCH: {
        struct conf_at here = conf_field(at, "string_match");
        out->kind = VALUE_MATCH_STRING;
        return conf_string_matcher(&here, m->string_match, &out->string);
    }
    case ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_BOOL_MATCH:
        out->kind = VALUE_MATCH_BOOL;
        out->boolean = m->bool_match;
        return true;
    case ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_PRESENT_MATCH:
        out->kind = VALUE_MATCH_PRESENT;
        out->boolean = m->present_match;
        return true;
    case ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_LIST_MATCH: {
        struct conf_at here = conf_field(at, "list_match");
        out->kind = VALUE_MATCH_LIST;
        if (m->list_match->match_pattern_case !=
            ENVOY__TYPE__MATCHER__V3__LIST_MATCHER__MATCH_PATTERN_ONE_OF) {
            return conf_fail(&here, "a match pattern is needed");
        }
        return value_matcher_subs(&here, "one_of", 1, &m->list_match->one_of, out);
    }
    case ENVOY__TYPE__MATCHER__V3__VALUE_MATCHER__MATCH_PATTERN_OR_MATCH: {
        struct conf_at here = conf_field(at, "or_match");
        out->kind = VALUE_MATCH_OR;
        return value_matcher_subs(&here, "value_matchers", m->or_match->n_value_matchers,
                                  m->or_match->value_matchers, out);
    }
    default: return conf_fail(at, "a match pattern is needed");
    }
}

bool conf_metadata_matcher(const struct conf_at *at,
                           const Envoy__Type__Matcher__V3__MetadataMatcher *m,
                           struct metadata_matcher *out)
{
    struct arena *a = conf_arena(at);
    struct str *path = ARENA_ARRAY(a, struct str, m->n_path);
    for (size_t i = 0; i < m->n_path; i++)
        path[i] = str_dup(a, str_of(m->path[i]->key));
    *out = (struct metadata_matcher){.ns = str_dup(a, str_of(m->filter)),
                                     .path = path,
                                     .path_count = m->n_path,
                                     .invert = m->invert};
    struct conf_at here = conf_field(at, "value");
    return conf_value_matcher(&here, m->value, &out->value);
}
