/* Names of the statistics of every cluster, and of the counters by response code. */
#pragma once
#include <stddef.h>
#include "proxy/stats/stats.h"

enum cluster_stat {
#define S(id, name, type, flags) CLUSTER_STAT_##id,
#include "proxy/api/cluster_stats.def"
#undef S
    CLUSTER_STAT_COUNT
};
extern const struct stat_def cluster_stat_defs[CLUSTER_STAT_COUNT];

/* A second table under "cluster.<name>." (and ".internal." / ".external." / ".retry."), all lazy:
 * index 0..4 = upstream_rq_1xx..5xx, 5 + (code - 100) = upstream_rq_<code>, 505 =
 * upstream_rq_completed, 506 = upstream_rq_time. */
enum {
    CODE_STAT_CLASS = 0,
    CODE_STAT_CODE = 5,
    CODE_STAT_COMPLETED = 505,
    CODE_STAT_TIME = 506,
    CODE_STAT_COUNT = 507
};
extern const struct stat_def code_stat_defs[CODE_STAT_COUNT];
/* Counts one answer: completed, its class, its code. */
void code_stat_count(struct stat_group *g, uint32_t status);
