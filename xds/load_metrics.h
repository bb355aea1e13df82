/* Sums of what endpoints said of their load, by metric. Main thread. */
#pragma once
#include <stddef.h>
#include "base/map.h"
#include "proxy/api/load_metrics.h"

struct arena;
struct Envoy__Config__Endpoint__V3__EndpointLoadMetricStats;

/* Zero-initialised is empty. */
struct load_metrics {
    struct map sums;
};
/* Names are chosen by endpoints: past a limit new ones are passed over. */
void load_metrics_add(struct load_metrics *m, const struct load_metric *v, size_t count);
/* Adds all of `from`. */
void load_metrics_merge(struct load_metrics *m, const struct load_metrics *from);
void load_metrics_release(struct load_metrics *m);
/* As messages in `a`, sorted by name. */
struct Envoy__Config__Endpoint__V3__EndpointLoadMetricStats **load_metrics_list(
    const struct load_metrics *m, struct arena *a, size_t *count);
