/* Shared by the writers: choosing and sorting stats, numbers as Envoy prints them. */
#pragma once
#include "proxy/stats/render.h"
#include "proxy/stats/stats_internal.h"

/* One listed stat. */
struct stat_item {
    const struct stat_group *group;
    uint32_t index;
    uint32_t rank; /* for the writer's use; sorts before the name */
};
/* What a query finds, unsorted; groups are held until stat_list_release. */
struct stat_list {
    struct stat_group **groups;
    size_t group_count;
    struct stat_item *items;
    size_t count, cap;
};
/* Bits (1 << STAT_COUNTER | …) choose the types. */
void stat_list_collect(struct stat_list *l, struct stats *s, const struct stats_query *q,
                       unsigned types);
/* By rank, then by full name (bytes). */
void stat_list_sort(struct stat_list *l);
void stat_list_release(struct stat_list *l);

/* Shortest text that reads back as the same number. FIXED: fixed notation from 1e-4 up to 1e16, as
 * C++ {} does; SHORTER: the shorter of both notations, as Envoy's JSON. "nan" for not a number. */
enum number_style { NUMBER_FIXED, NUMBER_SHORTER };
void sb_number(struct sb *b, double x, enum number_style style);
