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

/* TEXT: "name: value" lines: text read-outs, counters and gauges, histograms; each sorted by name.
 * JSON: {"stats":[...]} as Envoy nests it.
 * PROMETHEUS: families sorted by name within counters, gauges, (text read-outs,) histograms;
 * buckets are STATS_DEFAULT, _SUMMARY or _CUMULATIVE. */
enum stats_format { STATS_TEXT, STATS_JSON, STATS_PROMETHEUS };

/* Writes in steps of a few milliseconds, between which the statistics may change: each value is
 * that of its step. */
struct stats_writer;
/* The query is copied, its filter borrowed; `rules` (borrowed) are for Prometheus. */
struct stats_writer *stats_writer_new(struct stats *s, const struct stats_query *q,
                                      enum stats_format format, const struct tag_rules *rules);
/* Appends the next piece, which may be empty. False: that was the last one. */
bool stats_writer_next(struct stats_writer *w, struct sb *out);
/* At any point; leaves NULL. */
void stats_writer_free(struct stats_writer **w);
