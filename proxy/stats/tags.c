/* Tag extraction: each rule looks at the whole name; all cuts are applied together. Rules that name
 * no first token come first in the labels, as in Envoy, which keeps the others by that token. */
#include "proxy/stats/tags.h"

#include "base/arena.h"
#include "base/must.h"
#include "base/regex.h"
#include "base/regex_ecma.h"

enum tag_kind { TAG_CODE, TAG_CODE_CLASS, TAG_TOKENS, TAG_REGEX };

struct tag_rule {
    struct str tag;
    enum tag_kind kind;
    struct str pattern;      /* of TOKENS */
    struct regex *regex;     /* of REGEX; NULL: */
    struct regex_ecma *ecma; /* what RE2 cannot */
    struct str needs;        /* in the name, or no regex matches; may be empty */
    struct str first;        /* the name's first token, or empty: any */
    struct tag_rule *next;
};

struct tag_rules {
    struct arena *arena;
    struct tag_rule *any, *by_token; /* the rules without and with a first token, in order */
    struct tag fixed[TAGS_MOST];
    size_t fixed_count;
};

struct tag_row {
    const char *tag;
    enum tag_kind kind;
    const char *pattern, *needs;
};
static const struct tag_row rows[] = {
#define T(tag, kind, pattern, needs) {tag, TAG_##kind, pattern, needs},
#include "proxy/stats/tag_table.def"
#undef T
};

/* A part of the name to be left out. */
struct cut {
    size_t from, to;
};

/* The first token that a regex demands ("^listener\." gives "listener"), or empty. Envoy:
 * extractRegexPrefix. */
static struct str regex_first_token(struct str p)
{
    size_t i = 1;
    if (p.len == 0 || p.ptr[0] != '^') return STR_NONE;
    while (i < p.len && (p.ptr[i] == '_' || (p.ptr[i] >= '0' && p.ptr[i] <= '9') ||
                         (str_lower_char(p.ptr[i]) >= 'a' && str_lower_char(p.ptr[i]) <= 'z'))) {
        i++;
    }
    struct str rest = str_sub(p, i, SIZE_MAX);
    if (i == 1 || !(str_starts(rest, STR("\\.")) || str_starts(rest, STR("(?=\\.)"))))
        return STR_NONE;
    return str_sub(p, 1, i - 1);
}

static void rule_add(struct tag_rules *r, struct tag_rule rule)
{
    struct tag_rule **at = rule.first.len ? &r->by_token : &r->any;
    while (*at)
        at = &(*at)->next;
    *at = arena_copy(r->arena, &rule, sizeof(rule));
}

static void rule_add_row(struct tag_rules *r, const struct tag_row *row)
{
    struct tag_rule rule = {.tag = str_of(row->tag),
                            .kind = row->kind,
                            .pattern = str_of(row->pattern),
                            .needs = str_of(row->needs)};
    if (row->kind == TAG_REGEX) {
        struct str why;
        rule.regex = regex_new(r->arena, rule.pattern, &why);
        must(rule.regex);
        rule.first = regex_first_token(rule.pattern);
    }
    if (row->kind == TAG_TOKENS) {
        struct str rest = rule.pattern, first;
        must(str_next(&rest, '.', &first));
        if (!str_eq(first, STR("*")) && !str_eq(first, STR("$"))) rule.first = first;
    }
    rule_add(r, rule);
}

struct tag_rules *tag_rules_new(struct arena *a, bool defaults)
{
    struct tag_rules *r = ARENA_NEW(a, struct tag_rules);
    r->arena = a;
    for (size_t i = 0; defaults && i < ARRAY_LEN(rows); i++)
        rule_add_row(r, &rows[i]);
    return r;
}

/* RE2 has no look-ahead, and is many times faster than what has. At the very end, inside nothing
 * but closing brackets, "(?=x)" means the same as "x" behind those brackets, since only the groups
 * are used: "^a\.((.+?)(?=\.))" becomes
 * "^a\.((.+?))(?:\.)". */
static struct str rewrite_look_ahead(struct arena *a, struct str p)
{
    size_t at = SIZE_MAX, depth = 1, end;
    for (size_t i = 0; i + 3 <= p.len; i++) {
        if (memcmp(p.ptr + i, "(?=", 3) == 0) at = i;
    }
    if (at == SIZE_MAX) return p;
    for (end = at + 3; end < p.len && depth; end++) {
        if (p.ptr[end] == '\\')
            end++;
        else if (p.ptr[end] == '(')
            depth++;
        else if (p.ptr[end] == ')')
            depth--;
    }
    struct str closing = str_sub(p, end, SIZE_MAX);
    for (size_t i = 0; i < closing.len; i++) {
        if (closing.ptr[i] != ')') return p;
    }
    if (depth) return p;
    return str_fmt(a, "%.*s%.*s(?:%.*s)", STR_ARG(str_sub(p, 0, at)), STR_ARG(closing),
                   STR_ARG(str_sub(p, at + 3, end - 1 - (at + 3))));
}

/* "^listener(?=\\.)…": a rule with a first token sees only names that begin with that token and a
 * dot, so this look-ahead says nothing more. Istio's bootstrap has it. */
static struct str drop_first_look_ahead(struct arena *a, struct str first, struct str p)
{
    struct str rest = str_sub(p, first.len + 1, SIZE_MAX), look = STR("(?=\\.)");
    if (first.len == 0 || !str_starts(rest, look)) return p;
    return str_fmt(a, "^%.*s%.*s", STR_ARG(first), STR_ARG(str_sub(rest, look.len, SIZE_MAX)));
}

static size_t rule_groups(const struct tag_rule *rule)
{
    return rule->regex ? regex_group_count(rule->regex) : regex_ecma_group_count(rule->ecma);
}

static bool has_rule(const struct tag_rule *rule, struct str name)
{
    while (rule && !str_eq(rule->tag, name))
        rule = rule->next;
    return rule != NULL;
}

/* Envoy refuses a name that has a rule already, a default one too. */
static bool is_new_name(const struct tag_rules *r, struct str name, struct str *why)
{
    bool twice = has_rule(r->any, name) || has_rule(r->by_token, name);
    for (size_t i = 0; i < r->fixed_count; i++)
        twice = twice || str_eq(r->fixed[i].name, name);
    if (twice) *why = str_fmt(r->arena, "Tag name '%.*s' specified twice.", STR_ARG(name));
    return !twice;
}

bool tag_rules_add_regex(struct tag_rules *r, struct str name, struct str regex, struct str *why)
{
    size_t found = 0;
    if (!is_new_name(r, name, why)) return false;
    for (size_t i = 0; regex.len == 0 && i < ARRAY_LEN(rows); i++) {
        if (!str_eq(name, str_of(rows[i].tag))) continue;
        rule_add_row(r, &rows[i]);
        found++;
    }
    if (found) return true;
    if (regex.len == 0) {
        *why = str_fmt(r->arena,
                       "No regex specified for tag specifier and no default regex for name: '%.*s'",
                       STR_ARG(name));
        return false;
    }
    struct tag_rule rule = {.tag = str_dup(r->arena, name), .kind = TAG_REGEX};
    rule.first = str_dup(r->arena, regex_first_token(regex));
    regex = drop_first_look_ahead(r->arena, rule.first, regex);
    rule.regex = regex_new(r->arena, rewrite_look_ahead(r->arena, regex), why);
    if (!rule.regex) {
        struct str re2_said = *why;
        rule.ecma = regex_ecma_new(r->arena, regex, why);
        *why = re2_said; /* it is the clearer one */
    }
    if (!rule.regex && !rule.ecma) return false;
    if (rule_groups(&rule) == 0) {
        *why = STR("the expression has no group for the value");
        return false;
    }
    rule_add(r, rule);
    return true;
}

bool tag_rules_add_fixed(struct tag_rules *r, struct str name, struct str value, struct str *why)
{
    if (!is_new_name(r, name, why)) return false;
    if (r->fixed_count == TAGS_MOST / 2) {
        *why = STR("too many fixed tags");
        return false;
    }
    r->fixed[r->fixed_count++] =
        (struct tag){.name = str_dup(r->arena, name), .value = str_dup(r->arena, value)};
    return true;
}

/* --- matching ----------------------------------------------------------------------------------
 */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* "…_rq_200": cuts "_200". */
static bool match_code(struct str name, struct str *value, struct cut *cut)
{
    if (name.len < 7 || memcmp(name.ptr + name.len - 7, "_rq_", 4) != 0) return false;
    *value = str_sub(name, name.len - 3, 3);
    for (size_t i = 0; i < 3; i++) {
        if (!is_digit(value->ptr[i])) return false;
    }
    *cut = (struct cut){name.len - 4, name.len};
    return true;
}

/* "…_rq_2xx": cuts "2", so that "_rq_xx" stays. */
static bool match_code_class(struct str name, struct str *value, struct cut *cut)
{
    if (name.len < 7 || memcmp(name.ptr + name.len - 7, "_rq_", 4) != 0) return false;
    if (!str_ends(name, STR("xx")) || !is_digit(name.ptr[name.len - 3])) return false;
    *value = str_sub(name, name.len - 3, 1);
    *cut = (struct cut){name.len - 3, name.len - 2};
    return true;
}

static bool match_tokens(struct str pattern, struct str name, struct str *value, struct cut *cut)
{
    struct str want, token, rest = name;
    *value = STR_NONE;
    while (str_next(&pattern, '.', &want)) {
        if (str_eq(want, STR("**"))) return rest.len > 0;
        if (!str_next(&rest, '.', &token)) return false;
        if (want.len == 1 && want.ptr[0] == '*') continue;
        if (want.len == 1 && want.ptr[0] == '$') {
            *value = token;
            size_t from = (size_t)(token.ptr - name.ptr);
            *cut = (struct cut){from, from + token.len + 1}; /* with the dot behind */
        } else if (!str_eq(want, token)) {
            return false;
        }
    }
    return rest.ptr == NULL;
}

static bool match_regex(const struct tag_rule *rule, struct str name, struct str *value,
                        struct cut *cut)
{
    struct str groups[3] = {STR_NONE, STR_NONE, STR_NONE};
    size_t count = rule_groups(rule) + 1, asked = count < 3 ? count : 3;
    if (rule->needs.len && str_find(name, rule->needs) == SIZE_MAX) return false;
    if (!(rule->regex ? regex_groups(rule->regex, name, groups, asked)
                      : regex_ecma_groups(rule->ecma, name, groups, asked)))
        return false;
    *value = count > 2 ? groups[2] : groups[1];
    *cut = (struct cut){0, 0};
    if (groups[1].ptr) {
        size_t from = (size_t)(groups[1].ptr - name.ptr);
        *cut = (struct cut){from, from + groups[1].len};
    }
    return true;
}

static bool match_rule(const struct tag_rule *rule, struct str name, struct str *value,
                       struct cut *cut)
{
    switch (rule->kind) {
    case TAG_CODE: return match_code(name, value, cut);
    case TAG_CODE_CLASS: return match_code_class(name, value, cut);
    case TAG_TOKENS: return match_tokens(rule->pattern, name, value, cut);
    case TAG_REGEX: return match_regex(rule, name, value, cut);
    }
    return false;
}

static void run_rules(const struct tag_rule *rule, struct str name, struct tags *out,
                      struct cut *cuts, bool tls)
{
    size_t dot = str_find_char(name, '.');
    struct str first = str_sub(name, 0, dot == SIZE_MAX ? 0 : dot);
    for (; rule && out->count < TAGS_MOST; rule = rule->next) {
        struct str value;
        if (rule->first.len && !str_eq(rule->first, first)) continue;
        if (!tls && str_starts(rule->needs, STR(".ssl."))) continue;
        if (!match_rule(rule, name, &value, &cuts[out->count])) continue;
        /* Envoy: the admin listener is no listener address. */
        if (str_eq(rule->tag, STR("envoy.listener_address")) && str_eq(value, STR("admin")))
            continue;
        out->v[out->count++] = (struct tag){.name = rule->tag, .value = value};
    }
}

void tags_extract(const struct tag_rules *r, struct str name, struct tags *out)
{
    struct cut cuts[TAGS_MOST] = {{0, 0}};
    out->count = 0;
    sb_clear(&out->rest);
    for (size_t i = 0; i < r->fixed_count; i++)
        out->v[out->count++] = r->fixed[i];
    /* Half of the regexes are about TLS, and most names are not: that is looked for once. */
    bool tls = str_find(name, STR(".ssl.")) != SIZE_MAX;
    run_rules(r->any, name, out, cuts, tls);
    run_rules(r->by_token, name, out, cuts, tls);
    for (size_t at = 0; at < name.len;) {
        size_t to = name.len;
        bool gone = false;
        for (size_t k = 0; k < out->count && !gone; k++) {
            gone = at >= cuts[k].from && at < cuts[k].to;
            if (gone)
                to = cuts[k].to;
            else if (cuts[k].from > at && cuts[k].from < to)
                to = cuts[k].from;
        }
        if (!gone) sb_add(&out->rest, str_sub(name, at, to - at));
        at = to;
    }
}

void tags_release(struct tags *t)
{
    sb_release(&t->rest);
    t->count = 0;
}
