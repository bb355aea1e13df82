/* Matchers: declared in proxy/api, so that filters may use them. */
#pragma once
#include "proxy/api/matcher.h"

/* First value of a query parameter of `path`, percent-decoded (in scratch when it has to be); ptr NULL: absent. */
struct str query_find(struct str path, struct str name, struct arena *scratch);
