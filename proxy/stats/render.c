/* Choosing and sorting stats, and numbers as Envoy prints them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "base/regex.h"
#include "proxy/stats/render_internal.h"

static bool is_wanted(struct stats *s, const struct stats_query *q, struct str name)
{
    if (q->filter && regex_partial(q->filter, name) == q->invert) return false;
    return !s->wanted || s->wanted(s->wanted_arg, name);
}

static bool is_listed(const struct stat_group *g, size_t index, bool used_only)
{
    struct stat_view v;
    if (!used_only && !(g->defs[index].flags & STAT_LAZY)) return true;
    if (g->defs[index].type == STAT_HISTOGRAM) {
        stat_view_fill(g, index, &v);
        return v.used;
    }
    return stat_used(g, index);
}

static void list_add(struct stat_list *l, const struct stat_group *g, size_t index)
{
    if (l->count == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 256, bytes;
        must(size_mul(cap, sizeof(*l->items), &bytes));
        l->items = mem_realloc(l->items, bytes);
        l->cap = cap;
    }
    l->items[l->count++] = (struct stat_item){.group = g, .index = (uint32_t)index};
}

void stat_list_collect(struct stat_list *l, struct stats *s, const struct stats_query *q,
                       unsigned types)
{
    struct sb name = {0};
    bool any_name = !q->filter && !s->wanted;
    *l = (struct stat_list){0};
    l->groups = stats_groups(s, &l->group_count);
    if (q->one_type) types &= 1u << q->type;
    for (size_t i = 0; i < l->group_count; i++) {
        const struct stat_group *g = l->groups[i];
        for (size_t k = 0; k < g->count; k++) {
            if (!(types >> g->defs[k].type & 1) || !is_listed(g, k, q->used_only)) continue;
            sb_clear(&name);
            if (!any_name) stat_name_add(g, k, &name);
            if (any_name || is_wanted(s, q, sb_str(&name))) list_add(l, g, k);
        }
    }
    sb_release(&name);
}

/* Compares the concatenations a1 a2 and b1 b2 without making them. */
static int compare_pairs(struct str a1, struct str a2, struct str b1, struct str b2)
{
    if (!a1.len) {
        a1 = a2;
        a2 = STR_NONE;
    }
    if (!b1.len) {
        b1 = b2;
        b2 = STR_NONE;
    }
    while (a1.len && b1.len) {
        size_t n = a1.len < b1.len ? a1.len : b1.len;
        int order = memcmp(a1.ptr, b1.ptr, n);
        if (order) return order;
        a1 = str_sub(a1, n, SIZE_MAX);
        b1 = str_sub(b1, n, SIZE_MAX);
        if (!a1.len) {
            a1 = a2;
            a2 = STR_NONE;
        }
        if (!b1.len) {
            b1 = b2;
            b2 = STR_NONE;
        }
    }
    return (a1.len > 0) - (b1.len > 0);
}

static int compare_items(const void *pa, const void *pb)
{
    const struct stat_item *a = pa, *b = pb;
    if (a->rank != b->rank) return a->rank < b->rank ? -1 : 1;
    return compare_pairs(a->group->prefix, str_of(a->group->defs[a->index].name), b->group->prefix,
                         str_of(b->group->defs[b->index].name));
}

void stat_list_sort(struct stat_list *l)
{
    if (l->count) qsort(l->items, l->count, sizeof(*l->items), compare_items);
}

void stat_list_release(struct stat_list *l)
{
    stats_groups_release(l->groups, l->group_count);
    mem_free(l->items);
    *l = (struct stat_list){0};
}

/* --- numbers -----------------------------------------------------------------------------------
 */

/* Decimal digits and exponent of the shortest text that reads back as x: 0.digits times 10^point.
 */
static size_t shortest_digits(double x, char digits[24], int *point)
{
    char text[40];
    for (int precision = 0; precision < 17; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision, x);
        double back = strtod(text, NULL);
        if (back >= x && back <= x) break;
    }
    size_t count = 0;
    const char *at = text;
    for (; *at && *at != 'e'; at++) {
        if (*at != '.') digits[count++] = *at;
    }
    *point = (int)strtol(at + 1, NULL, 10) + 1;
    while (count > 1 && digits[count - 1] == '0')
        count--;
    return count;
}

static void add_fixed(struct sb *b, struct str digits, int point)
{
    if (point <= 0) {
        sb_add(b, STR("0."));
        for (int i = point; i < 0; i++)
            sb_char(b, '0');
        sb_add(b, digits);
        return;
    }
    size_t whole = (size_t)point;
    sb_add(b, str_sub(digits, 0, whole));
    for (size_t i = digits.len; i < whole; i++)
        sb_char(b, '0');
    if (digits.len > whole) {
        sb_char(b, '.');
        sb_add(b, str_sub(digits, whole, SIZE_MAX));
    }
}

static void add_scientific(struct sb *b, struct str digits, int point)
{
    sb_char(b, digits.ptr[0]);
    if (digits.len > 1) {
        sb_char(b, '.');
        sb_add(b, str_sub(digits, 1, SIZE_MAX));
    }
    sb_fmt(b, "e%+03d", point - 1);
}

void sb_number(struct sb *b, double x, enum number_style style)
{
    char bytes[24];
    int point;
    if (isnan(x)) {
        sb_add(b, STR("nan"));
        return;
    }
    if (x < 0) {
        sb_char(b, '-');
        x = -x;
    }
    struct str digits = {bytes, shortest_digits(x, bytes, &point)};
    struct sb fixed = {0}, scientific = {0};
    add_fixed(&fixed, digits, point);
    add_scientific(&scientific, digits, point);
    bool as_fixed = style == NUMBER_FIXED ? point > -4 && point <= 16 : fixed.len <= scientific.len;
    sb_add(b, as_fixed ? sb_str(&fixed) : sb_str(&scientific));
    sb_release(&fixed);
    sb_release(&scientific);
}
