/* Regular expressions in ECMAScript's grammar: the C++ library's behind a C face. It has the
 * look-aheads that RE2 (regex.h) does not, and is many times slower: only for patterns of the
 * operator's own that RE2 refuses, on short texts. Envoy takes it for the same patterns.
 * Compile on main; matching is safe in any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of a text; a longer one does not match: time grows with text times pattern. */
enum { REGEX_ECMA_TEXT_MOST = 4096 };

struct regex_ecma;
struct arena;

/* Compiles; freed with the arena. NULL on error with *why in the arena. */
struct regex_ecma *regex_ecma_new(struct arena *a, struct str pattern, struct str *why);
/* As regex_groups: captures of the first match anywhere; unmatched groups have ptr NULL. False: no
 * match, too long, or the library gave up. */
bool regex_ecma_groups(const struct regex_ecma *r, struct str s, struct str *groups, size_t count);
size_t regex_ecma_group_count(const struct regex_ecma *r); /* without group 0 */

#ifdef __cplusplus
}
#endif
