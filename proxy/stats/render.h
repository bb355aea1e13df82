/* The statistics as text: /stats in Envoy's text and JSON forms and the Prometheus exposition
 * format. Main thread. */
#pragma once
#include <stdbool.h>
#include "base/str.h"
#include "proxy/stats/stats.h"

struct regex;
struct tag_rules;

/* The histogram_buckets parameter. Default: summary for text and JSON, cumulative for Prometheus.
 */
enum stats_buckets {
    STATS_DEFAULT,
    STATS_SUMMARY,
    STATS_CUMULATIVE,
    STATS_DISJOINT,
    STATS_DETAILED
};

/* What is asked for; zero: everything. */
struct stats_query {
    bool used_only;             /* only stats written at least once */
    bool text_readouts;         /* Prometheus: text read-outs as gauges with a label */
    bool invert;                /* show what the filter does not find */
    const struct regex *filter; /* searched in the full name; NULL: all */
    bool one_type;              /* only `type` */
    enum stat_type type;
    enum stats_buckets buckets;
};

/* "name: value" lines: text read-outs, counters and gauges, histograms; each sorted by name. */
void stats_write_text(struct stats *s, const struct stats_query *q, struct sb *out);
/* {"stats":[...]} as Envoy nests it. */
void stats_write_json(struct stats *s, const struct stats_query *q, struct sb *out);
/* Families sorted by name within counters, gauges, (text read-outs,) histograms. STATS_DEFAULT,
 * _SUMMARY, _CUMULATIVE. */
void stats_write_prometheus(struct stats *s, const struct stats_query *q,
                            const struct tag_rules *rules, struct sb *out);
