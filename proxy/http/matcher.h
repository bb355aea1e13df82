/* Matchers: declared in proxy/api, so that filters may use them. */
#pragma once
#include "proxy/api/matcher.h"

/* First value of a query parameter of `path` as it stands there (Envoy does not decode for
 * matching); ptr NULL: absent. Borrows. */
struct str query_find(struct str path, struct str name);
