/* A switch that runtime may turn: envoy.config.core.v3.RuntimeFeatureFlag. */
#pragma once
#include <stdbool.h>
#include "base/str.h"

struct arena;
struct Envoy__Config__Core__V3__RuntimeFeatureFlag;

struct feature {
    struct str key; /* empty: runtime has no say */
    bool on;
};
/* m NULL: on. The key is copied. */
struct feature feature_create(struct arena *a,
                              const struct Envoy__Config__Core__V3__RuntimeFeatureFlag *m);
