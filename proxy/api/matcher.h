/* Matchers of strings, headers, query parameters, values and metadata, as routes, filters and
 * access logs use them. Made on main by the functions of proxy/api/conf_types.h; matching is safe
 * in any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/regex.h"
#include "base/str.h"

struct arena;
struct headers;
struct metadata;
struct stream_info;
struct value;

enum string_match_kind {
    STRING_MATCH_EXACT,
    STRING_MATCH_PREFIX,
    STRING_MATCH_SUFFIX,
    STRING_MATCH_CONTAINS,
    STRING_MATCH_REGEX
};
/* envoy.type.matcher.v3.StringMatcher. text is lower case already when ignore_case. */
struct string_matcher {
    enum string_match_kind kind;
    bool ignore_case;
    struct str text;
    const struct regex *regex; /* whole string */
};
bool string_match(const struct string_matcher *m, struct str s);
/* True when any of the matchers matches. */
bool string_match_any(const struct string_matcher *v, size_t count, struct str s);

enum header_match_kind {
    HEADER_MATCH_STRING,
    HEADER_MATCH_RANGE,
    HEADER_MATCH_PRESENT,
    HEADER_MATCH_ABSENT
};
/* envoy.config.route.v3.HeaderMatcher, the deprecated forms folded in. */
struct header_matcher {
    struct str name; /* lower case; "host" is ":authority" */
    uint16_t id;     /* enum header_id */
    enum header_match_kind kind;
    struct string_matcher string;
    int64_t range_start, range_end; /* [start, end) */
    bool invert, missing_as_empty;
};
/* Several values of a name are seen joined by ","; `scratch` holds such a join. */
bool header_match(const struct header_matcher *m, const struct headers *h, struct arena *scratch);
/* All must match (an empty array matches) / one matches. */
bool header_match_all(const struct header_matcher *v, size_t count, const struct headers *h,
                      struct arena *scratch);
bool header_match_any(const struct header_matcher *v, size_t count, const struct headers *h,
                      struct arena *scratch);

/* envoy.config.route.v3.QueryParameterMatcher. */
struct query_matcher {
    struct str name;
    bool present_only, present_wanted;
    struct string_matcher string;
};
/* `path` with its query ("/a?b=c"). */
bool query_match_all(const struct query_matcher *v, size_t count, struct str path,
                     struct arena *scratch);

enum value_match_kind {
    VALUE_MATCH_NULL,
    VALUE_MATCH_DOUBLE_EXACT,
    VALUE_MATCH_DOUBLE_RANGE,
    VALUE_MATCH_STRING,
    VALUE_MATCH_BOOL,
    VALUE_MATCH_PRESENT,
    VALUE_MATCH_LIST,
    VALUE_MATCH_OR
};
/* envoy.type.matcher.v3.ValueMatcher. */
struct value_matcher {
    enum value_match_kind kind;
    double number, range_end; /* exact value, or [number, range_end) */
    struct string_matcher string;
    bool boolean;
    const struct value_matcher *sub; /* list: one; or: count of them */
    size_t count;
};
/* v NULL: absent. */
bool value_match(const struct value_matcher *m, const struct value *v);

/* envoy.type.matcher.v3.MetadataMatcher. */
struct metadata_matcher {
    struct str ns;
    const struct str *path;
    size_t path_count;
    struct value_matcher value;
    bool invert;
};
bool metadata_match(const struct metadata_matcher *m, const struct metadata *md);
