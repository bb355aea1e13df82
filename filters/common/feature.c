/* Switches that runtime may turn. */
#include "filters/common/feature.h"

#include "envoy/config/core/v3/base.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"

struct feature feature_create(struct arena *a,
                              const struct Envoy__Config__Core__V3__RuntimeFeatureFlag *m)
{
    if (!m) return (struct feature){.on = true};
    return (struct feature){.key = str_dup(a, str_of(m->runtime_key)),
                            .on = !m->default_value || m->default_value->value};
}
