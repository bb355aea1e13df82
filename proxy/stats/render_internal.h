/* Shared by the writers: choosing and sorting stats, the steps of a writer, numbers as Envoy prints
 * them. Main thread. */
#pragma once
#include "proxy/stats/render.h"
#include "proxy/stats/stats_internal.h"

/* --- a list of stats, in order (stat_list.c)
 * ------------------------------------------------------------------------------- */

/* The store's groups by prefix, each with a reference. */
struct stat_groups {
    struct stat_group **v;
    size_t count;
};
void stat_groups_take(struct stat_groups *g, struct stats *s);
void stat_groups_release(struct stat_groups *g);

/* One listed stat. */
struct stat_item {
    const struct stat_group *group;
    uint32_t index;
    uint32_t family; /* index into the list's families; 0 without them */
};
/* Items next .. end of the list are sorted. */
struct stat_run {
    size_t next, end;
};
/* What a query finds: collected in steps, then taken one by one. */
struct stat_list {
    const struct stat_groups *groups; /* borrowed */
    size_t group_next;
    const struct stats_query *query; /* borrowed */
    unsigned types;                  /* bits 1 << STAT_COUNTER | … */
    struct stat_item *items;
    size_t count, cap, sorted; /* items up to `sorted` are in runs */
    struct stat_run *runs;
    size_t run_count;
    /* optional, set before the first step: an item's family, whose name is sorted by before the
     * stat's own */
    uint32_t (*family_of)(void *arg, const struct stat_item *item);
    void *arg;
    const struct str *families; /* their names; family_of may move the array */
};
/* `types`: bits (1 << STAT_COUNTER | …); the query may narrow them. */
void stat_list_init(struct stat_list *l, const struct stat_groups *groups,
                    const struct stats_query *q, unsigned types);
/* One step, a few milliseconds. False: all is collected; now take. */
bool stat_list_collect(struct stat_list *l);
/* The next item by family, then by full name (bytes). False: none is left. */
bool stat_list_take(struct stat_list *l, struct stat_item *out);
void stat_list_release(struct stat_list *l);

/* --- a writer (render.c) and its forms
 * ------------------------------------------------------------------------------------- */

/* How a form writes; NULL callbacks: nothing to do. */
struct stats_form {
    /* the types of each part, which is sorted by itself; 0 at the end */
    unsigned parts[5];
    void (*begin)(struct stats_writer *w);
    void (*part_begin)(struct stats_writer *w); /* the list is made, nothing is collected */
    void (*item)(struct stats_writer *w, const struct stat_item *item);
    void (*part_end)(struct stats_writer *w);
    void (*end)(struct stats_writer *w);
    void (*release)(struct stats_writer *w);
};
extern const struct stats_form stats_form_text, stats_form_json, stats_form_prometheus;

struct exposition;
struct stats_writer {
    struct stats *stats;
    struct stats_query query;
    const struct tag_rules *rules;
    const struct stats_form *form;
    struct sb *out; /* during a step */
    size_t part;
    bool begun, listing, taking; /* at which point: see stats_writer_next */
    struct stat_groups groups;
    struct stat_list list;
    size_t items;                  /* written of all parts */
    bool histograms;               /* JSON: their object is open */
    struct exposition *exposition; /* Prometheus' own */
};

/* Shortest text that reads back as the same number. FIXED: fixed notation from 1e-4 up to 1e16, as
 * C++ {} does; SHORTER: the shorter of both notations, as Envoy's JSON. "nan" for not a number. */
enum number_style { NUMBER_FIXED, NUMBER_SHORTER };
void sb_number(struct sb *b, double x, enum number_style style);
