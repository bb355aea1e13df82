/* The tables of cluster statistics. */
#include "proxy/api/cluster_stats.h"

const struct stat_def cluster_stat_defs[CLUSTER_STAT_COUNT] = {
#define S(id, name, type, flags) {name, type, flags},
#include "proxy/api/cluster_stats.def"
#undef S
};

/* Names of the codes 100 to 599, made by digits so that the table stays readable. */
#define C1(h, t, o)                                      \
    {                                                    \
        "upstream_rq_" #h #t #o, STAT_COUNTER, STAT_LAZY \
    }
#define C10(h, t)                                                                              \
    C1(h, t, 0), C1(h, t, 1), C1(h, t, 2), C1(h, t, 3), C1(h, t, 4), C1(h, t, 5), C1(h, t, 6), \
        C1(h, t, 7), C1(h, t, 8), C1(h, t, 9)
#define C100(h)                                                                             \
    C10(h, 0), C10(h, 1), C10(h, 2), C10(h, 3), C10(h, 4), C10(h, 5), C10(h, 6), C10(h, 7), \
        C10(h, 8), C10(h, 9)

const struct stat_def code_stat_defs[CODE_STAT_COUNT] = {
    {"upstream_rq_1xx", STAT_COUNTER, STAT_LAZY},
    {"upstream_rq_2xx", STAT_COUNTER, STAT_LAZY},
    {"upstream_rq_3xx", STAT_COUNTER, STAT_LAZY},
    {"upstream_rq_4xx", STAT_COUNTER, STAT_LAZY},
    {"upstream_rq_5xx", STAT_COUNTER, STAT_LAZY},
    C100(1),
    C100(2),
    C100(3),
    C100(4),
    C100(5),
    {"upstream_rq_completed", STAT_COUNTER, STAT_LAZY},
    {"upstream_rq_time", STAT_HISTOGRAM, STAT_LAZY},
};

void code_stat_count(struct stat_group *g, uint32_t status)
{
    stat_inc(g, CODE_STAT_COMPLETED);
    if (status < 100 || status > 599) return;
    stat_inc(g, CODE_STAT_CLASS + status / 100 - 1);
    stat_inc(g, CODE_STAT_CODE + status - 100);
}
