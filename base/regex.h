/* Regular expressions: RE2 behind a C face. Compile on main; matching is safe in any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

struct regex;
struct arena;

/* Compiles; freed with the arena. NULL on error with *why in the arena. max_program 0: default
 * limit (100 like Envoy's warn level is not enforced; RE2's memory limit is). */
struct regex *regex_new(struct arena *a, struct str pattern, struct str *why);
bool regex_full(const struct regex *r, struct str s);
bool regex_partial(const struct regex *r, struct str s);
/* Captures of the first partial match: groups[0] is the whole; unmatched groups have ptr NULL.
 * False: no match. */
bool regex_groups(const struct regex *r, struct str s, struct str *groups, size_t count);
size_t regex_group_count(const struct regex *r); /* without group 0 */
/* Replaces every match, with \1 style references in `rewrite`; the result is in `a`. */
struct str regex_replace_all(const struct regex *r, struct arena *a, struct str s,
                             struct str rewrite);
/* True when `rewrite` refers only to groups that exist; else *why. */
bool regex_check_rewrite(const struct regex *r, struct arena *a, struct str rewrite,
                         struct str *why);

#ifdef __cplusplus
}
#endif
