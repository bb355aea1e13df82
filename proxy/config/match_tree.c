/* Translation of matcher trees. */
#include <stdlib.h>

#include "base/arena.h"
#include "envoy/config/common/matcher/v3/matcher.pb-c.h"
#include "envoy/type/matcher/v3/regex.pb-c.h"
#include "envoy/type/matcher/v3/string.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf_types.h"
#include "proxy/http/match_tree.h"
#include "xds/core/v3/cidr.pb-c.h"
#include "xds/core/v3/extension.pb-c.h"
#include "xds/type/matcher/v3/domain.pb-c.h"
#include "xds/type/matcher/v3/ip.pb-c.h"
#include "xds/type/matcher/v3/matcher.pb-c.h"
#include "xds/type/matcher/v3/regex.pb-c.h"
#include "xds/type/matcher/v3/string.pb-c.h"

#define MATCHER(name) Xds__Type__Matcher__V3__Matcher##name
#define MATCHER_CASE(name) XDS__TYPE__MATCHER__V3__MATCHER__##name

/* Trees in trees, predicates in predicates: asking walks them on the stack, and an Any inside an
 * Any escapes the limit of decoding. */
enum { DEPTH_MOST = 32 };

/* Where translation is: what the user wants, and how deep. */
struct build {
    const struct match_tree_use *use;
    int depth;
};

static bool tree(const struct conf_at *at, const MATCHER() * m, struct build b,
                 struct match_tree *out);

static bool too_deep(const struct conf_at *at, const struct build *b)
{
    return b->depth > DEPTH_MOST ? !conf_fail(at, "nested too deeply: at most %d", DEPTH_MOST)
                                 : false;
}

static void release_map(void *m)
{
    map_release(m);
}

/* --- inputs and matchers
 * ---------------------------------------------------------------------------- */

static bool input(const struct conf_at *at, const Xds__Core__V3__TypedExtensionConfig *m,
                  const struct build *b, struct match_input *out)
{
    bool http = b->use->place != MATCH_IN_CHAINS && b->use->place != MATCH_IN_UDP;
    const ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(at, http ? EXTENSION_MATCHER_INPUT : EXTENSION_MATCHER_INPUT_NETWORK,
                       str_of(m->name), m->typed_config, &msg);
    if (!e) return false;
    const struct match_input_type *t = (const struct match_input_type *)e;
    struct conf_at place = conf_field(at, "typed_config");
    if (!(t->places >> b->use->place & 1))
        return conf_fail(&place, "the input \"%s\" cannot be used here", e->config->name);
    out->type = t;
    if (!t->conf_create) return true;
    out->conf = t->conf_create(&place, msg);
    return out->conf != NULL;
}

/* Texts are all that maps and StringMatchers know. */
static bool input_is_text(const struct conf_at *at, const struct match_input *in)
{
    if (!in->type || in->type->data == MATCH_DATA_TEXT) return true;
    return conf_fail(at, "Unsupported data input type: \"%s\" gives no text",
                     in->type->ext.config->name);
}

/* The fields of both messages are the same. */
static bool text_matcher(const struct conf_at *at, const Xds__Type__Matcher__V3__StringMatcher *m,
                         struct string_matcher *out)
{
    Envoy__Type__Matcher__V3__RegexMatcher regex = ENVOY__TYPE__MATCHER__V3__REGEX_MATCHER__INIT;
    Envoy__Type__Matcher__V3__StringMatcher same = ENVOY__TYPE__MATCHER__V3__STRING_MATCHER__INIT;
    same.ignore_case = m->ignore_case;
    same.match_pattern_case = (int)m->match_pattern_case;
    switch ((int)m->match_pattern_case) {
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_EXACT: same.exact = m->exact; break;
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_PREFIX:
        same.prefix = m->prefix;
        break;
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SUFFIX:
        same.suffix = m->suffix;
        break;
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_CONTAINS:
        same.contains = m->contains;
        break;
    case XDS__TYPE__MATCHER__V3__STRING_MATCHER__MATCH_PATTERN_SAFE_REGEX:
        regex.regex = m->safe_regex->regex;
        same.safe_regex = &regex;
        break;
    default: break; /* refused below */
    }
    return conf_string_matcher(at, &same, out);
}

static bool custom_matcher(const struct conf_at *at, const Xds__Core__V3__TypedExtensionConfig *m,
                           struct match_predicate *out)
{
    const ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(at, EXTENSION_MATCHER, str_of(m->name), m->typed_config, &msg);
    if (!e) return false;
    struct conf_at place = conf_field(at, "typed_config");
    out->type = (const struct match_matcher_type *)e;
    if (out->input.type && out->input.type->data != out->type->data)
        return conf_fail(&place, "Unsupported data input type: \"%s\" cannot look at \"%s\"",
                         e->config->name, out->input.type->ext.config->name);
    out->conf = out->type->conf_create(&place, msg);
    return out->conf != NULL;
}

/* --- predicates
 * ------------------------------------------------------------------------------------- */

static bool predicate(const struct conf_at *at, const MATCHER(__MatcherList__Predicate) * m,
                      struct build b, struct match_predicate *out);

static bool predicate_single(const struct conf_at *at,
                             const MATCHER(__MatcherList__Predicate__SinglePredicate) * m,
                             const struct build *b, struct match_predicate *out)
{
    struct conf_at in = conf_field(at, "input"), text = conf_field(at, "value_match"),
                   custom = conf_field(at, "custom_match");
    bool ok = input(&in, m->input, b, &out->input);
    if (m->matcher_case ==
        MATCHER_CASE(MATCHER_LIST__PREDICATE__SINGLE_PREDICATE__MATCHER_VALUE_MATCH)) {
        out->kind = MATCH_TEXT;
        ok = input_is_text(&in, &out->input) && ok;
        return text_matcher(&text, m->value_match, &out->text) && ok;
    }
    out->kind = MATCH_CUSTOM;
    return custom_matcher(&custom, m->custom_match, out) && ok;
}

static bool predicate_list(const struct conf_at *at,
                           const MATCHER(__MatcherList__Predicate__PredicateList) * m,
                           struct build b, enum match_predicate_kind kind,
                           struct match_predicate *out)
{
    struct match_predicate *sub =
        ARENA_ARRAY(conf_arena(at), struct match_predicate, m->n_predicate);
    bool ok = true;
    for (size_t i = 0; i < m->n_predicate; i++) {
        struct conf_at place = conf_index(at, "predicate", i);
        ok &= predicate(&place, m->predicate[i], b, &sub[i]);
    }
    out->kind = kind;
    out->sub = sub;
    out->count = m->n_predicate;
    return ok;
}

static bool predicate(const struct conf_at *at, const MATCHER(__MatcherList__Predicate) * m,
                      struct build b, struct match_predicate *out)
{
    struct conf_at place;
    struct match_predicate *inner;
    b.depth++;
    if (too_deep(at, &b)) return false;
    switch ((int)m->match_type_case) {
    case MATCHER_CASE(MATCHER_LIST__PREDICATE__MATCH_TYPE_SINGLE_PREDICATE):
        place = conf_field(at, "single_predicate");
        return predicate_single(&place, m->single_predicate, &b, out);
    case MATCHER_CASE(MATCHER_LIST__PREDICATE__MATCH_TYPE_OR_MATCHER):
        place = conf_field(at, "or_matcher");
        return predicate_list(&place, m->or_matcher, b, MATCH_OR, out);
    case MATCHER_CASE(MATCHER_LIST__PREDICATE__MATCH_TYPE_AND_MATCHER):
        place = conf_field(at, "and_matcher");
        return predicate_list(&place, m->and_matcher, b, MATCH_AND, out);
    case MATCHER_CASE(MATCHER_LIST__PREDICATE__MATCH_TYPE_NOT_MATCHER):
        place = conf_field(at, "not_matcher");
        inner = ARENA_NEW(conf_arena(at), struct match_predicate);
        out->kind = MATCH_NOT;
        out->sub = inner;
        out->count = 1;
        return predicate(&place, m->not_matcher, b, inner);
    default: return conf_fail(at, "a predicate is needed");
    }
}

/* --- what follows
 * ----------------------------------------------------------------------------------- */

const struct ProtobufCMessage *conf_match_action(const struct conf_at *at, struct str name,
                                                 const struct Google__Protobuf__Any *any,
                                                 const struct ProtobufCMessageDescriptor *type)
{
    (void)name;
    struct proto_path root = proto_path_root(conf_path(at));
    return proto_any_unpack(conf_arena(at), any, type, at->cx->opts, &root, at->cx->errors);
}

static bool then(const struct conf_at *at, const MATCHER(__OnMatch) * m, struct build b,
                 struct match_then *out)
{
    if (!m) return conf_fail(at, "value is required");
    out->keep_matching = m->keep_matching;
    if (m->keep_matching && b.use->place != MATCH_IN_CHAINS) {
        struct conf_at place = conf_field(at, "keep_matching");
        return conf_fail(&place, "keep_matching is not supported in this context");
    }
    if (m->on_match_case == MATCHER_CASE(ON_MATCH__ON_MATCH_MATCHER)) {
        struct conf_at place = conf_field(at, "matcher");
        struct match_tree *t = ARENA_NEW(conf_arena(at), struct match_tree);
        out->tree = t;
        return tree(&place, m->matcher, b, t);
    }
    if (m->on_match_case != MATCHER_CASE(ON_MATCH__ON_MATCH_ACTION))
        return conf_fail(at, "a matcher or an action is needed");
    struct conf_at outer = conf_field(at, "action"), place = conf_field(&outer, "typed_config");
    out->action =
        b.use->action(&place, str_of(m->action->name), m->action->typed_config, b.use->arg);
    return out->action != NULL;
}

/* --- kinds of trees
 * --------------------------------------------------------------------------------- */

static bool tree_list(const struct conf_at *at, const MATCHER(__MatcherList) * m, struct build b,
                      struct match_tree *out)
{
    struct match_line *lines = ARENA_ARRAY(conf_arena(at), struct match_line, m->n_matchers);
    bool ok = true;
    for (size_t i = 0; i < m->n_matchers; i++) {
        struct conf_at place = conf_index(at, "matchers", i),
                       when = conf_field(&place, "predicate"),
                       follows = conf_field(&place, "on_match");
        ok &= predicate(&when, m->matchers[i]->predicate, b, &lines[i].predicate);
        ok &= then(&follows, m->matchers[i]->on_match, b, &lines[i].then);
    }
    out->kind = MATCH_TREE_LIST;
    out->lines = lines;
    out->count = m->n_matchers;
    return ok;
}

static int longest_first(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a < b) - (a > b);
}

/* The different lengths of the keys that count. */
static void tree_lengths(struct arena *a, struct match_tree *out, bool wildcards_only)
{
    uint32_t *v = ARENA_ARRAY(a, uint32_t, out->map.count);
    size_t it = 0, n = 0, unique = 0;
    struct str key;
    void *value;
    while (map_next(&out->map, &it, &key, &value)) {
        if (!wildcards_only || (key.len && key.ptr[0] == '.')) v[n++] = (uint32_t)key.len;
    }
    if (n > 1) qsort(v, n, sizeof *v, longest_first);
    for (size_t i = 0; i < n; i++) {
        if (!unique || v[unique - 1] != v[i]) v[unique++] = v[i];
    }
    out->lengths = v;
    out->length_count = unique;
}

static bool tree_map(const struct conf_at *at, const MATCHER(__MatcherTree__MatchMap) * m,
                     struct build b, enum match_tree_kind kind, struct match_tree *out)
{
    struct arena *a = conf_arena(at);
    struct match_then *v = ARENA_ARRAY(a, struct match_then, m->n_map);
    bool ok = true;
    out->kind = kind;
    for (size_t i = 0; i < m->n_map; i++) {
        struct str key = str_dup(a, str_of(m->map[i]->key));
        struct conf_at place = conf_key(at, "map", key);
        ok &= then(&place, m->map[i]->value, b, &v[i]);
        (void)map_put(&out->map, key, &v[i]);
    }
    if (kind == MATCH_TREE_PREFIX) tree_lengths(a, out, false);
    return ok;
}

static bool domain_add(const struct conf_at *at, struct str domain, const struct match_then *what,
                       struct match_tree *out)
{
    struct str key = domain;
    if (str_eq(domain, STR("*"))) {
        if (out->any) return conf_fail(at, "Duplicate domain in ServerNameMatcher: *");
        out->any = what;
        return true;
    }
    if (str_starts(domain, STR("*."))) key = str_sub(domain, 1, SIZE_MAX);
    if (!key.len || key.len == 1 || str_find_char(key, '*') != SIZE_MAX ||
        (key.ptr == domain.ptr && key.ptr[0] == '.'))
        return conf_fail(at, "Invalid domain \"%.*s\": names, \"*.name\" and \"*\" are allowed",
                         STR_ARG(domain));
    if (map_get(&out->map, key))
        return conf_fail(at, "Duplicate domain in ServerNameMatcher: %.*s", STR_ARG(domain));
    (void)map_put(&out->map, key, (void *)(uintptr_t)what);
    return true;
}

static bool tree_domains(const struct conf_at *at,
                         const Xds__Type__Matcher__V3__ServerNameMatcher *m, struct build b,
                         struct match_tree *out)
{
    struct arena *a = conf_arena(at);
    struct match_then *v = ARENA_ARRAY(a, struct match_then, m->n_domain_matchers);
    bool ok = true;
    out->kind = MATCH_TREE_DOMAIN;
    for (size_t i = 0; i < m->n_domain_matchers; i++) {
        const Xds__Type__Matcher__V3__ServerNameMatcher__DomainMatcher *d = m->domain_matchers[i];
        struct conf_at line = conf_index(at, "domain_matchers", i),
                       follows = conf_field(&line, "on_match");
        if (d->on_match) ok &= then(&follows, d->on_match, b, &v[i]);
        for (size_t k = 0; k < d->n_domains; k++) {
            struct conf_at place = conf_index(&line, "domains", k);
            ok &= domain_add(&place, str_dup(a, str_of(d->domains[k])), &v[i], out);
        }
    }
    tree_lengths(a, out, true);
    return ok;
}

static bool range_cidr(const struct conf_at *at, const Xds__Core__V3__CidrRange *m,
                       struct cidr *out)
{
    struct conf_at field = conf_field(at, "address_prefix");
    return conf_cidr(&field, str_of(m->address_prefix), m->prefix_len ? m->prefix_len->value : 0,
                     out);
}

/* Longest prefix first; ranges are in configured order before, and stay so among equals. */
static void ranges_sort(struct match_range *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct match_range x = v[i];
        size_t k = i;
        for (; k > 0 && v[k - 1].range.bits < x.range.bits; k--)
            v[k] = v[k - 1];
        v[k] = x;
    }
}

static bool tree_ranges(const struct conf_at *at, const Xds__Type__Matcher__V3__IPMatcher *m,
                        struct build b, struct match_tree *out)
{
    size_t n = 0;
    bool ok = true;
    for (size_t i = 0; i < m->n_range_matchers; i++)
        n += m->range_matchers[i]->n_ranges;
    struct match_range *v = ARENA_ARRAY(conf_arena(at), struct match_range, n);
    out->kind = MATCH_TREE_IP;
    out->ranges = v;
    for (size_t i = 0; i < m->n_range_matchers; i++) {
        const Xds__Type__Matcher__V3__IPMatcher__IPRangeMatcher *r = m->range_matchers[i];
        struct conf_at line = conf_index(at, "range_matchers", i),
                       follows = conf_field(&line, "on_match");
        struct match_then what = {0};
        if (r->on_match) ok &= then(&follows, r->on_match, b, &what);
        for (size_t k = 0; k < r->n_ranges; k++) {
            struct conf_at place = conf_index(&line, "ranges", k);
            struct match_range *x = &v[out->count++];
            *x = (struct match_range){.exclusive = r->exclusive, .then = what};
            ok &= range_cidr(&place, r->ranges[k], &x->range);
        }
    }
    ranges_sort(v, n);
    return ok;
}

/* IPMatcher and ServerNameMatcher hold trees themselves and therefore live here. */
static bool tree_custom(const struct conf_at *at, const Xds__Core__V3__TypedExtensionConfig *m,
                        struct build b, struct match_tree *out)
{
    struct conf_at place = conf_field(at, "typed_config");
    struct str type = proto_any_name(conf_arena(at), m->typed_config);
    const ProtobufCMessageDescriptor *ip = &xds__type__matcher__v3__ipmatcher__descriptor;
    const ProtobufCMessageDescriptor *domain =
        &xds__type__matcher__v3__server_name_matcher__descriptor;
    const ProtobufCMessage *msg;
    if (str_eq(type, str_of(ip->name))) {
        msg = conf_match_action(&place, str_of(m->name), m->typed_config, ip);
        return msg && tree_ranges(&place, (const void *)msg, b, out);
    }
    if (str_eq(type, str_of(domain->name))) {
        msg = conf_match_action(&place, str_of(m->name), m->typed_config, domain);
        return msg && tree_domains(&place, (const void *)msg, b, out);
    }
    return conf_fail(&place,
                     "no extension of category \"envoy.matching.%s.custom_matchers\" for \"%s\" "
                     "with type \"%.*s\"; there are \"%s\" and \"%s\"",
                     b.use->place <= MATCH_IN_UDP ? "network" : "http", m->name, STR_ARG(type),
                     ip->name, domain->name);
}

static bool tree_map_of(const struct conf_at *at, const MATCHER(__MatcherTree) * m, struct build b,
                        struct match_tree *out)
{
    struct conf_at in = conf_field(at, "input"), place;
    bool ok = input(&in, m->input, &b, &out->input) && input_is_text(&in, &out->input);
    switch ((int)m->tree_type_case) {
    case MATCHER_CASE(MATCHER_TREE__TREE_TYPE_EXACT_MATCH_MAP):
        place = conf_field(at, "exact_match_map");
        return tree_map(&place, m->exact_match_map, b, MATCH_TREE_EXACT, out) && ok;
    case MATCHER_CASE(MATCHER_TREE__TREE_TYPE_PREFIX_MATCH_MAP):
        place = conf_field(at, "prefix_match_map");
        return tree_map(&place, m->prefix_match_map, b, MATCH_TREE_PREFIX, out) && ok;
    case MATCHER_CASE(MATCHER_TREE__TREE_TYPE_CUSTOM_MATCH):
        place = conf_field(at, "custom_match");
        return tree_custom(&place, m->custom_match, b, out) && ok;
    default: return conf_fail(at, "a map is needed");
    }
}

static bool tree(const struct conf_at *at, const MATCHER() * m, struct build b,
                 struct match_tree *out)
{
    b.depth++;
    if (too_deep(at, &b)) return false;
    bool ok = true;
    struct conf_at place;
    arena_on_free(conf_arena(at), release_map, &out->map);
    if (m->on_no_match) {
        place = conf_field(at, "on_no_match");
        ok = then(&place, m->on_no_match, b, &out->on_no_match);
    }
    switch ((int)m->matcher_type_case) {
    case MATCHER_CASE(MATCHER_TYPE_MATCHER_LIST):
        place = conf_field(at, "matcher_list");
        return tree_list(&place, m->matcher_list, b, out) && ok;
    case MATCHER_CASE(MATCHER_TYPE_MATCHER_TREE):
        place = conf_field(at, "matcher_tree");
        return tree_map_of(&place, m->matcher_tree, b, out) && ok;
    default: return ok; /* Envoy: on_no_match alone is allowed */
    }
}

const struct match_tree *conf_match_tree(const struct conf_at *at,
                                         const struct Xds__Type__Matcher__V3__Matcher *m,
                                         const struct match_tree_use *use)
{
    struct match_tree *t = ARENA_NEW(conf_arena(at), struct match_tree);
    return tree(at, m, (struct build){.use = use}, t) ? t : NULL;
}

const struct match_tree *conf_match_tree_old(
    const struct conf_at *at, const struct Envoy__Config__Common__Matcher__V3__Matcher *m,
    const struct match_tree_use *use)
{
    struct proto_path root = proto_path_root(conf_path(at));
    const ProtobufCMessage *same =
        proto_unpack(conf_arena(at), &xds__type__matcher__v3__matcher__descriptor,
                     proto_pack(conf_arena(at), &m->base), at->cx->opts, &root, at->cx->errors);
    return same ? conf_match_tree(at, (const void *)same, use) : NULL;
}
