/* Pure functions on request paths and hosts. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

struct arena;

/* Dot segments removed, escapes of unreserved bytes undone, backslashes made slashes; the query
 * stays as it is. False: not a path, or it holds a NUL. The result is in `a`. */
bool path_normalize(struct arena *a, struct str path, struct str *out);
/* Runs of slashes in front of the query become one. */
struct str path_merge_slashes(struct arena *a, struct str path);
/* %2F, %5C in any case, in front of the query. */
bool path_has_escaped_slash(struct str path);
struct str path_unescape_slashes(struct arena *a, struct str path);
/* host without its port, when `any` or when the port is `own`. */
struct str host_strip_port(struct str host, bool any, uint16_t own);
