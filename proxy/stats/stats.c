/* The store: groups found by prefix and table, made and freed under a lock that no request takes.
 */
#include "proxy/stats/stats.h"

#include "base/must.h"
#include "proxy/stats/stats_internal.h"

/* Tables of one for stat_single_get, by type and flags: the whole name is the prefix. */
#define SINGLE(type)                                                    \
    {                                                                   \
        {"", type, 0}, {"", type, STAT_LAZY}, {"", type, STAT_PERCENT}, \
        {                                                               \
            "", type, STAT_LAZY | STAT_PERCENT                          \
        }                                                               \
    }
static const struct stat_def single_defs[][4] = {SINGLE(STAT_COUNTER), SINGLE(STAT_GAUGE),
                                                 SINGLE(STAT_HISTOGRAM), SINGLE(STAT_TEXT)};

struct stats *stats_new(unsigned threads)
{
    struct stats *s = mem_alloc(sizeof(*s));
    must(threads > 0);
    s->threads = threads;
    must(pthread_mutex_init(&s->lock, NULL) == 0);
    stats_thread_enter(s, 0);
    return s;
}

/* Frees what the cell of a histogram or text refers to. */
static void cell_free(const struct stat_def *def, uintptr_t cell)
{
    if (def->type == STAT_HISTOGRAM) stat_recorder_free((struct stat_recorder *)cell);
    if (def->type == STAT_TEXT) mem_free((void *)cell);
}

static void cells_free(struct stat_group *g, struct stat_cells *c)
{
    if (!c) return;
    for (size_t i = 0; i < g->count; i++) {
        struct stat_page *p = atomic_load(&c->pages[i / STAT_PAGE_CELLS]);
        if (p) cell_free(&g->defs[i], atomic_load(&p->cells[i % STAT_PAGE_CELLS]));
    }
    for (size_t i = 0; i < c->count; i++)
        mem_free(atomic_load(&c->pages[i]));
    mem_free(c);
}

static void group_free(struct stat_group *g)
{
    for (unsigned t = 0; t < g->threads; t++)
        cells_free(g, atomic_load(&g->cells[t]));
    stat_merged_free(g->merged);
    mem_free(g->reset_base);
    mem_free(g);
}

void stats_free(struct stats **sp)
{
    struct stats *s = *sp;
    *sp = NULL;
    if (!s) return;
    size_t it = 0;
    void *value;
    while (map_next(&s->groups, &it, NULL, &value)) {
        struct stat_group *g = value;
        while (g) {
            struct stat_group *next = g->next_same;
            group_free(g);
            g = next;
        }
    }
    map_release(&s->groups);
    must(pthread_mutex_destroy(&s->lock) == 0);
    mem_free(s);
}

static struct stat_group *group_new(struct stats *s, struct str prefix, const struct stat_def *defs,
                                    size_t count)
{
    size_t head = sizeof(struct stat_group) + s->threads * sizeof(_Atomic(struct stat_cells *));
    struct stat_group *g = mem_alloc(head + prefix.len + 1);
    char *text = (char *)g + head;
    for (size_t i = 0; i < prefix.len; i++)
        text[i] = prefix.ptr[i] == ':' ? '_' : prefix.ptr[i];
    atomic_init(&g->refs, 1);
    g->threads = s->threads;
    g->store = s;
    g->defs = defs;
    g->count = count;
    g->prefix = (struct str){text, prefix.len};
    return g;
}

/* Under the lock; prefix has no ':' any more. */
static struct stat_group *group_find(struct stats *s, struct str prefix,
                                     const struct stat_def *defs)
{
    struct stat_group *g = map_get(&s->groups, prefix);
    while (g && g->defs != defs)
        g = g->next_same;
    return g;
}

/* Under the lock. */
static void group_add(struct stats *s, struct stat_group *g)
{
    struct stat_group *first = map_get(&s->groups, g->prefix);
    s->group_count++;
    if (first) {
        g->next_same = first->next_same;
        first->next_same = g;
        return;
    }
    must(!map_put(&s->groups, g->prefix, g));
}

/* Under the lock. */
static void group_remove(struct stats *s, struct stat_group *g)
{
    struct stat_group *first = map_get(&s->groups, g->prefix);
    s->group_count--;
    if (first != g) {
        while (first->next_same != g)
            first = first->next_same;
        first->next_same = g->next_same;
    } else if (g->next_same) {
        (void)map_put(&s->groups, g->next_same->prefix, g->next_same); /* gives back g itself */
    } else {
        (void)map_remove(&s->groups, g->prefix); /* gives back g itself */
    }
    for (struct stat_group **at = &s->recorded; *at; at = &(*at)->next_recorded) {
        if (*at != g) continue;
        *at = g->next_recorded;
        break;
    }
}

struct stat_group *stat_group_get(struct stats *s, struct str prefix, const struct stat_def *defs,
                                  size_t count)
{
    struct stat_group *made = group_new(s, prefix, defs, count);
    pthread_mutex_lock(&s->lock);
    struct stat_group *g = group_find(s, made->prefix, defs);
    if (g) {
        atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    } else {
        g = made;
        made = NULL;
        group_add(s, g);
    }
    pthread_mutex_unlock(&s->lock);
    mem_free(made);
    return g;
}

struct stat_group *stat_single_get(struct stats *s, struct str name, enum stat_type type,
                                   unsigned flags)
{
    return stat_group_get(s, name, &single_defs[type][flags & (STAT_LAZY | STAT_PERCENT)], 1);
}

struct stat_group *stat_group_ref(struct stat_group *g)
{
    if (g) atomic_fetch_add_explicit(&g->refs, 1, memory_order_relaxed);
    return g;
}

struct str stat_group_prefix(const struct stat_group *g)
{
    return g->prefix;
}

void stat_group_unref(struct stat_group **gp)
{
    struct stat_group *g = *gp;
    *gp = NULL;
    if (!g) return;
    unsigned refs = atomic_load_explicit(&g->refs, memory_order_relaxed);
    while (refs > 1) {
        if (atomic_compare_exchange_weak_explicit(&g->refs, &refs, refs - 1, memory_order_release,
                                                  memory_order_relaxed)) {
            return;
        }
    }
    struct stats *s = g->store;
    pthread_mutex_lock(&s->lock);
    bool last = atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) == 1;
    if (last) group_remove(s, g);
    pthread_mutex_unlock(&s->lock);
    if (last) group_free(g);
}

struct stat_group **stats_groups(struct stats *s, size_t *count)
{
    pthread_mutex_lock(&s->lock);
    struct stat_group **all = mem_array(s->group_count, sizeof(struct stat_group *));
    size_t it = 0, n = 0;
    void *value;
    while (map_next(&s->groups, &it, NULL, &value)) {
        for (struct stat_group *g = value; g; g = g->next_same)
            all[n++] = stat_group_ref(g);
    }
    must(n == s->group_count);
    pthread_mutex_unlock(&s->lock);
    *count = n;
    return all;
}

void stats_groups_release(struct stat_group **groups, size_t count)
{
    for (size_t i = 0; i < count; i++)
        stat_group_unref(&groups[i]);
    mem_free(groups);
}

void stat_group_recorded(struct stat_group *g)
{
    struct stats *s = g->store;
    pthread_mutex_lock(&s->lock);
    if (!g->recorded) {
        g->recorded = true;
        g->next_recorded = s->recorded;
        s->recorded = g;
    }
    pthread_mutex_unlock(&s->lock);
}

void stats_set_matcher(struct stats *s, bool (*wanted)(void *arg, struct str name), void *arg)
{
    s->wanted = wanted;
    s->wanted_arg = arg;
}

void stats_set_bounds(struct stats *s, struct stat_bounds (*bounds)(void *arg, struct str name),
                      void *arg)
{
    s->bounds = bounds;
    s->bounds_arg = arg;
}

void stats_each(struct stats *s, void (*fn)(void *arg, const struct stat_view *v), void *arg)
{
    size_t count;
    struct stat_group **groups = stats_groups(s, &count);
    struct sb name = {0};
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < groups[i]->count; k++) {
            struct stat_view v;
            stat_view_fill(groups[i], k, &v);
            if (!v.used && (groups[i]->defs[k].flags & STAT_LAZY)) continue;
            sb_clear(&name);
            stat_name_add(groups[i], k, &name);
            v.name = sb_str(&name);
            if (!s->wanted || s->wanted(s->wanted_arg, v.name)) fn(arg, &v);
        }
    }
    sb_release(&name);
    stats_groups_release(groups, count);
}
