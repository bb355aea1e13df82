/* Sets of scopes, for connection managers and for scopes that are discovered. Main. */
#pragma once
#include "base/str.h"

struct arena;
struct scope_set;
struct Envoy__Config__Route__V3__ScopedRouteConfiguration;

/* The key of a scope, in `a`. */
struct str scope_key_of(struct arena *a,
                        const struct Envoy__Config__Route__V3__ScopedRouteConfiguration *m);
/* A zeroed set in `a`, whose end releases its map. */
void scope_set_init(struct arena *a, struct scope_set *s);
