/* Choosing stats and putting them in order a little at a time: what is found is sorted in short
 * runs while it is collected, and the runs are merged while their items are taken. */
#include <stdlib.h>

#include "base/must.h"
#include "base/regex.h"
#include "proxy/stats/render_internal.h"

enum {
    RUN_ITEMS = 2048, /* a run is closed when it has as many */
    STEP_CELLS = 4096 /* stats looked at in one step */
};

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
    struct stat_item item = {.group = g, .index = (uint32_t)index};
    if (l->family_of) item.family = l->family_of(l->arg, &item);
    l->items[l->count++] = item;
}

static int compare_groups(const void *a, const void *b)
{
    return str_cmp((*(struct stat_group *const *)a)->prefix,
                   (*(struct stat_group *const *)b)->prefix);
}

void stat_groups_take(struct stat_groups *g, struct stats *s)
{
    g->v = stats_groups(s, &g->count);
    if (g->count) qsort(g->v, g->count, sizeof(*g->v), compare_groups);
}

void stat_groups_release(struct stat_groups *g)
{
    stats_groups_release(g->v, g->count);
    *g = (struct stat_groups){0};
}

void stat_list_init(struct stat_list *l, const struct stat_groups *groups,
                    const struct stats_query *q, unsigned types)
{
    *l = (struct stat_list){.groups = groups, .query = q, .types = types};
    if (q->one_type) l->types &= 1u << q->type;
}

/* Gives back how many stats it has looked at. */
static size_t collect_group(struct stat_list *l, const struct stat_group *g)
{
    struct sb name = {0};
    struct stats *s = g->store;
    bool any_name = !l->query->filter && !s->wanted;
    for (size_t k = 0; k < g->count; k++) {
        if (!(l->types >> g->defs[k].type & 1) || !is_listed(g, k, l->query->used_only)) continue;
        sb_clear(&name);
        if (!any_name) stat_name_add(g, k, &name);
        if (any_name || is_wanted(s, l->query, sb_str(&name))) list_add(l, g, k);
    }
    sb_release(&name);
    return g->count;
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

static int compare_items(const void *pa, const void *pb, void *list)
{
    const struct stat_item *a = pa, *b = pb;
    const struct stat_list *l = list;
    if (a->family != b->family) return str_cmp(l->families[a->family], l->families[b->family]);
    return compare_pairs(a->group->prefix, str_of(a->group->defs[a->index].name), b->group->prefix,
                         str_of(b->group->defs[b->index].name));
}

/* --- runs: a binary heap, the one with the least next item on top. Since the groups come by
 * prefix, the next item is nearly always in the same run --- */

static bool run_before(struct stat_list *l, const struct stat_run *a, const struct stat_run *b)
{
    return compare_items(&l->items[a->next], &l->items[b->next], l) < 0;
}

static void heap_sink(struct stat_list *l, size_t at)
{
    for (;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < l->run_count; child++)
            if (run_before(l, &l->runs[child], &l->runs[least])) least = child;
        if (least == at) return;
        struct stat_run moved = l->runs[at];
        l->runs[at] = l->runs[least];
        l->runs[least] = moved;
        at = least;
    }
}

static void close_run(struct stat_list *l)
{
    size_t from = l->sorted, count = l->count - from, bytes;
    if (count == 0) return;
    qsort_r(&l->items[from], count, sizeof(*l->items), compare_items, l);
    must(size_mul(l->run_count + 1, sizeof(*l->runs), &bytes));
    l->runs = mem_realloc(l->runs, bytes);
    l->runs[l->run_count++] = (struct stat_run){.next = from, .end = l->count};
    l->sorted = l->count;
}

bool stat_list_collect(struct stat_list *l)
{
    size_t looked_at = 0;
    while (l->group_next < l->groups->count && looked_at < STEP_CELLS) {
        looked_at += collect_group(l, l->groups->v[l->group_next++]);
        if (l->count - l->sorted >= RUN_ITEMS) {
            close_run(l);
            break;
        }
    }
    if (l->group_next < l->groups->count) return true;
    close_run(l);
    for (size_t i = l->run_count; i-- > 0;)
        heap_sink(l, i);
    return false;
}

bool stat_list_take(struct stat_list *l, struct stat_item *out)
{
    if (l->run_count == 0) return false;
    struct stat_run *top = &l->runs[0];
    *out = l->items[top->next++];
    if (top->next == top->end) *top = l->runs[--l->run_count];
    heap_sink(l, 0);
    return true;
}

void stat_list_release(struct stat_list *l)
{
    mem_free(l->items);
    mem_free(l->runs);
    *l = (struct stat_list){0};
}
