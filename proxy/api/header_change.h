/* Lists of header additions and removals, as routes, clusters, local replies and filters configure
 * them. */
#pragma once
#include <stdbool.h>
#include "base/str.h"

struct header_change; /* immutable; NULL changes nothing */
struct headers;
struct stream_info;

/* Removes, then sets and appends; all values are formatted before the first change. New bytes live
 * in the list's arena. info may be NULL: formats are written as they were configured. Worker. */
void header_change_apply(const struct header_change *c, struct headers *h,
                         const struct stream_info *info);
