/* The inside of matcher trees: proxy/config/match_tree.c fills it in, match_tree.c walks it. */
#pragma once
#include "base/addr.h"
#include "base/map.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/matcher.h"

struct match_input {
    const struct match_input_type *type;
    const void *conf;
};

/* What follows a match. All zero: nothing, the match counts as none. */
struct match_then {
    const struct match_tree *tree; /* or */
    const void *action;
    bool keep_matching; /* found, but the search goes on as if not */
};

enum match_predicate_kind { MATCH_TEXT, MATCH_CUSTOM, MATCH_OR, MATCH_AND, MATCH_NOT };
struct match_predicate {
    enum match_predicate_kind kind;
    struct match_input input;
    struct string_matcher text;            /* TEXT */
    const struct match_matcher_type *type; /* CUSTOM */
    const void *conf;                      /* CUSTOM */
    const struct match_predicate *sub;     /* OR, AND: count of them; NOT: one */
    size_t count;
};

/* One line of a matcher_list. */
struct match_line {
    struct match_predicate predicate;
    struct match_then then;
};
/* One range of an IPMatcher. */
struct match_range {
    struct cidr range;
    bool exclusive;
    struct match_then then;
};

enum match_tree_kind {
    MATCH_TREE_ALWAYS, /* on_no_match only */
    MATCH_TREE_LIST,
    MATCH_TREE_EXACT,
    MATCH_TREE_PREFIX,
    MATCH_TREE_IP,
    MATCH_TREE_DOMAIN
};
struct match_tree {
    enum match_tree_kind kind;
    struct match_then on_no_match;
    const struct match_line *lines; /* LIST */
    size_t count;                   /* of lines or ranges */
    struct match_input input;       /* all but LIST */
    struct map map;                 /* EXACT, PREFIX, DOMAIN: text -> struct match_then *. Domains:
                                       "*.x" is ".x" */
    const uint32_t *lengths;        /* PREFIX, DOMAIN (of the wildcards): longest first */
    size_t length_count;
    const struct match_then *any;     /* DOMAIN: "*" */
    const struct match_range *ranges; /* IP: longest prefix first, then as configured */
};
