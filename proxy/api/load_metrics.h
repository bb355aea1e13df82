/* What endpoints say of their load in responses (ORCA), on its way from a worker to the load
 * reports. */
#pragma once
#include <stddef.h>
#include "base/str.h"

struct host;

struct load_metric {
    struct str name; /* "cpu_utilization", "named_metrics.x" */
    double value;    /* finite */
};
/* Set in struct runtime before the workers start, by whoever reports. */
struct load_sink {
    /* Main: one response of a host of the cluster. Borrowed for the call. */
    void (*take)(void *arg, struct str cluster, struct host *host, const struct load_metric *v,
                 size_t count);
    void *arg;
};
