/* Statistics: groups of counters, gauges, histograms and text read-outs under one prefix, written
 * without locks by each thread into its own cells and summed by main. A group's names come from a
 * static table, so that 10,000 clusters cost 10,000 small structs and nothing more until they are
 * used. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct arena;
struct stats;      /* the store: one a process */
struct stat_group; /* refcounted (atomically); found again by prefix and table while anyone holds it
                    */

enum stat_type { STAT_COUNTER, STAT_GAUGE, STAT_HISTOGRAM, STAT_TEXT };
/* STAT_LAZY: listed only after the first write ("upstream_rq_200"). STAT_PERCENT: histogram of
 * percentages. */
enum { STAT_LAZY = 1, STAT_PERCENT = 2 };
struct stat_def {
    const char *name; /* under the prefix: "upstream_cx_total" */
    uint8_t type, flags;
};

/* Main. `threads` counts main (index 0) and the workers (1..n). */
struct stats *stats_new(unsigned threads);
void stats_free(struct stats **s);
/* Each thread once, before it writes: names the cells it owns (thread-local). */
void stats_thread_enter(struct stats *s, unsigned index);

/* Any thread (locked; not per request). Finds or makes the group "prefix" ("cluster.web."; copied;
 * ':' becomes '_'). defs is static and must be the same table for the same prefix+table pair.
 * Several tables may share a prefix. */
struct stat_group *stat_group_get(struct stats *s, struct str prefix, const struct stat_def *defs,
                                  size_t count);
struct stat_group *stat_group_ref(struct stat_group *g);
/* As it was asked for; borrowed. */
struct str stat_group_prefix(const struct stat_group *g);
void stat_group_unref(struct stat_group **g);
/* One stat with a name only known at run time ("vhost.v.vcluster.c.upstream_rq_total"); a group of
 * one, index 0. */
struct stat_group *stat_single_get(struct stats *s, struct str name, enum stat_type type,
                                   unsigned flags);

/* --- writing: the calling thread's own cell; g may be NULL (nothing happens)
 * --------------------------- */
void stat_add(struct stat_group *g, size_t index, uint64_t n); /* counters and gauges */
void stat_sub(struct stat_group *g, size_t index, uint64_t n); /* gauges */
static inline void stat_inc(struct stat_group *g, size_t index)
{
    stat_add(g, index, 1);
}
static inline void stat_dec(struct stat_group *g, size_t index)
{
    stat_sub(g, index, 1);
}
/* Main thread only (its cell is the gauge's whole value). */
void stat_set(struct stat_group *g, size_t index, uint64_t value);
void stat_set_text(struct stat_group *g, size_t index, struct str text); /* main only; copies */
void stat_record(struct stat_group *g, size_t index, uint64_t value);    /* histograms */

/* Upstream/downstream response code stats share one def table tail: 5 class counters
 * "<name>_1xx".."_5xx" and lazy codes 100..599 can be made with this helper: index of the code
 * counter = base + 5 + (code - 100). */

/* --- reading: main thread
 * ------------------------------------------------------------------------------ */
/* Sum over threads. */
uint64_t stat_value(const struct stat_group *g, size_t index);
bool stat_used(const struct stat_group *g, size_t index); /* written at least once */
/* Upper bounds of the buckets that a histogram is shown in, ascending. */
struct stat_bounds {
    const double *v;
    size_t count;
};
struct stat_view {
    struct str name; /* full */
    enum stat_type type;
    bool used;
    uint64_t value;  /* counters, gauges */
    struct str text; /* text read-outs */
    const struct stat_histogram *cumulative, *interval;
    struct stat_bounds bounds; /* of the histogram's buckets */
};
/* Calls fn for each listed stat, unsorted; lazy ones only if used. */
void stats_each(struct stats *s, void (*fn)(void *arg, const struct stat_view *v), void *arg);
/* One turn of the histogram period (stats_flush_interval, default 5 s) moves what was recorded into
 * the readable copies. */
void stats_flush(struct stats *s);
/* POST /reset_counters. */
void stats_reset_counters(struct stats *s);
/* histogram_bucket_settings: the bounds for a histogram's full name; v NULL: the default ones. */
void stats_set_bounds(struct stats *s, struct stat_bounds (*bounds)(void *arg, struct str name),
                      void *arg);
/* stats_matcher: a stat for which it says false is not made (not listed). NULL: all. */
void stats_set_matcher(struct stats *s, bool (*wanted)(void *arg, struct str name), void *arg);
