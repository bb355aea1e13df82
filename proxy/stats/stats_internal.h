/* The store's inside: groups, cells, and walking over them for the writers of text. */
#pragma once
#include <pthread.h>
#include <assert.h>
#include <stdatomic.h>
#include "base/map.h"
#include "proxy/stats/histogram.h"
#include "proxy/stats/stats.h"

enum { STAT_PAGE_CELLS = 16 };

/* Cells of 16 neighbouring stats of a group, written by one thread, read by main: hence relaxed
 * atomics. A cell is the number of a counter or gauge, or the pointer to a struct stat_recorder or
 * struct stat_text. */
struct stat_page {
    atomic_uint_least32_t used; /* a bit per cell: written at least once */
    atomic_uintptr_t cells[STAT_PAGE_CELLS];
};
static_assert(sizeof(uintptr_t) == sizeof(uint64_t), "a cell holds a counter or a pointer");

/* A thread's pages of a group, made on first use. */
struct stat_cells {
    size_t count; /* of pages */
    _Atomic(struct stat_page *) pages[];
};

/* A thread's side of a histogram: counts only grow, so main can read at any time and take
 * differences. */
struct stat_recorder {
    atomic_uint_least64_t zeros;
    _Atomic(struct stat_decade *) decades[HISTOGRAM_DECADES];
};
struct stat_decade {
    atomic_uint_least64_t counts[HISTOGRAM_DECADE_BINS];
};

struct stat_text {
    size_t len;
    char bytes[];
};

/* Main's readable copy of one histogram of a group. */
struct stat_merged {
    struct stat_merged *next;
    size_t index;
    struct stat_histogram cumulative, interval;
};

struct stat_group {
    atomic_uint refs; /* reaches 0 only under the store's lock */
    unsigned threads;
    struct stats *store;
    struct stat_group *next_same;     /* same prefix, other table */
    struct stat_group *next_recorded; /* list of groups with histograms in use */
    bool recorded;                    /* in that list */
    const struct stat_def *defs;
    size_t count;
    struct str prefix;                    /* behind the struct */
    struct stat_merged *merged;           /* main */
    uint64_t *reset_base;                 /* main: values of counters at the last reset, or NULL */
    _Atomic(struct stat_cells *) cells[]; /* one for each thread */
};

struct stats {
    pthread_mutex_t lock; /* groups, refs to 0, recorded */
    unsigned threads;
    struct map groups; /* prefix -> first group */
    struct stat_group *recorded;
    size_t group_count;
    bool (*wanted)(void *arg, struct str name);
    void *wanted_arg;
    struct stat_bounds (*bounds)(void *arg, struct str name);
    void *bounds_arg;
};

/* The calling thread's cells must exist for this; NULL when the thread never wrote near it. */
struct stat_page *stat_page_find(const struct stat_group *g, unsigned thread, size_t index);
/* All groups, each with a reference (main). stats_groups_release gives the references back. */
struct stat_group **stats_groups(struct stats *s, size_t *count);
void stats_groups_release(struct stat_group **groups, size_t count);
/* Fills a view but for its name. */
void stat_view_fill(const struct stat_group *g, size_t index, struct stat_view *v);
/* Histogram parts (stats_record.c). */
void stat_recorder_free(struct stat_recorder *r);
void stat_merged_free(struct stat_merged *m);
/* Full name, appended. */
static inline void stat_name_add(const struct stat_group *g, size_t index, struct sb *out)
{
    sb_add(out, g->prefix);
    sb_add(out, str_of(g->defs[index].name));
}
/* Any thread: puts the group in the store's list of groups with histograms. */
void stat_group_recorded(struct stat_group *g);
/* Makes the calling thread's page. */
struct stat_page *stat_page_make(struct stat_group *g, size_t index);
