/* Writing a thread's own cells and reading everybody's. */
#include "base/must.h"
#include "proxy/stats/stats_internal.h"

/* Documented thread state: index of this thread's cells plus one; 0: the thread never entered. */
static _Thread_local unsigned stats_thread;

void stats_thread_enter(struct stats *s, unsigned index)
{
    must(index < s->threads);
    stats_thread = index + 1;
}

struct stat_page *stat_page_find(const struct stat_group *g, unsigned thread, size_t index)
{
    struct stat_cells *c = atomic_load_explicit(&g->cells[thread], memory_order_acquire);
    return c ? atomic_load_explicit(&c->pages[index / STAT_PAGE_CELLS], memory_order_acquire)
             : NULL;
}

struct stat_page *stat_page_make(struct stat_group *g, size_t index)
{
    unsigned thread = stats_thread - 1;
    struct stat_cells *c = atomic_load_explicit(&g->cells[thread], memory_order_relaxed);
    if (!c) {
        size_t count = (g->count + STAT_PAGE_CELLS - 1) / STAT_PAGE_CELLS;
        c = mem_alloc(sizeof(*c) + count * sizeof(c->pages[0]));
        c->count = count;
        atomic_store_explicit(&g->cells[thread], c, memory_order_release);
    }
    struct stat_page *p = mem_alloc(sizeof(*p));
    atomic_store_explicit(&c->pages[index / STAT_PAGE_CELLS], p, memory_order_release);
    return p;
}

/* The cell of the calling thread, marked as used; NULL when nothing may be written. */
static atomic_uintptr_t *own_cell(struct stat_group *g, size_t index)
{
    if (!g || bug_if(stats_thread == 0 || stats_thread > g->threads) || bug_if(index >= g->count))
        return NULL;
    struct stat_page *p = stat_page_find(g, stats_thread - 1, index);
    if (!p) p = stat_page_make(g, index);
    uint32_t bit = 1u << index % STAT_PAGE_CELLS;
    uint32_t used = (uint32_t)atomic_load_explicit(&p->used, memory_order_relaxed);
    if (!(used & bit)) atomic_store_explicit(&p->used, used | bit, memory_order_relaxed);
    return &p->cells[index % STAT_PAGE_CELLS];
}

/* Only the owner writes, so a load and a store do; wrapping round is how gauges go down. */
static void cell_add(atomic_uintptr_t *cell, uint64_t n)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void stat_add(struct stat_group *g, size_t index, uint64_t n)
{
    atomic_uintptr_t *cell = own_cell(g, index);
    if (cell) cell_add(cell, n);
}

void stat_sub(struct stat_group *g, size_t index, uint64_t n)
{
    atomic_uintptr_t *cell = own_cell(g, index);
    if (cell) cell_add(cell, 0 - n);
}

void stat_set(struct stat_group *g, size_t index, uint64_t value)
{
    atomic_uintptr_t *cell = own_cell(g, index);
    if (cell) atomic_store_explicit(cell, value, memory_order_relaxed);
}

void stat_set_text(struct stat_group *g, size_t index, struct str text)
{
    atomic_uintptr_t *cell = own_cell(g, index);
    if (!cell) return;
    struct stat_text *t = mem_alloc(sizeof(*t) + text.len);
    t->len = text.len;
    if (text.len) memcpy(t->bytes, text.ptr, text.len);
    mem_free((void *)atomic_load_explicit(cell, memory_order_relaxed));
    atomic_store_explicit(cell, (uintptr_t)t, memory_order_relaxed);
}

void stat_record(struct stat_group *g, size_t index, uint64_t value)
{
    atomic_uintptr_t *cell = own_cell(g, index);
    if (!cell) return;
    struct stat_recorder *r =
        (struct stat_recorder *)atomic_load_explicit(cell, memory_order_relaxed);
    if (!r) {
        r = mem_alloc(sizeof(*r));
        atomic_store_explicit(cell, (uintptr_t)r, memory_order_release);
        stat_group_recorded(g);
    }
    uint32_t bin = histogram_bin_of(value);
    atomic_uint_least64_t *count = &r->zeros;
    if (bin) {
        _Atomic(struct stat_decade *) *at = &r->decades[(bin - 1) / HISTOGRAM_DECADE_BINS];
        struct stat_decade *d = atomic_load_explicit(at, memory_order_relaxed);
        if (!d) {
            d = mem_alloc(sizeof(*d));
            atomic_store_explicit(at, d, memory_order_release);
        }
        count = &d->counts[(bin - 1) % HISTOGRAM_DECADE_BINS];
    }
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* --- reading (main) ----------------------------------------------------------------------------
 */

static uint64_t raw_value(const struct stat_group *g, size_t index)
{
    uint64_t sum = 0;
    for (unsigned t = 0; t < g->threads; t++) {
        struct stat_page *p = stat_page_find(g, t, index);
        if (p)
            sum += atomic_load_explicit(&p->cells[index % STAT_PAGE_CELLS], memory_order_relaxed);
    }
    return sum;
}

uint64_t stat_value(const struct stat_group *g, size_t index)
{
    if (!g || bug_if(index >= g->count)) return 0;
    return raw_value(g, index) - (g->reset_base ? g->reset_base[index] : 0);
}

bool stat_used(const struct stat_group *g, size_t index)
{
    if (!g || bug_if(index >= g->count)) return false;
    for (unsigned t = 0; t < g->threads; t++) {
        struct stat_page *p = stat_page_find(g, t, index);
        if (p &&
            atomic_load_explicit(&p->used, memory_order_relaxed) >> index % STAT_PAGE_CELLS & 1)
            return true;
    }
    return false;
}

static const struct stat_merged *merged_find(const struct stat_group *g, size_t index)
{
    const struct stat_merged *m = g->merged;
    while (m && m->index != index)
        m = m->next;
    return m;
}

static struct stat_bounds bounds_of(const struct stat_group *g, size_t index)
{
    struct stat_bounds b = {0};
    if (g->store->bounds) {
        struct sb name = {0};
        stat_name_add(g, index, &name);
        b = g->store->bounds(g->store->bounds_arg, sb_str(&name));
        sb_release(&name);
    }
    return b.v ? b : (struct stat_bounds){histogram_bounds, HISTOGRAM_BOUNDS};
}

void stat_view_fill(const struct stat_group *g, size_t index, struct stat_view *v)
{
    *v = (struct stat_view){.type = g->defs[index].type};
    if (v->type == STAT_HISTOGRAM) {
        /* Envoy: a histogram counts as used once its first values were merged. */
        const struct stat_merged *m = merged_find(g, index);
        v->used = m != NULL;
        v->cumulative = m ? &m->cumulative : NULL;
        v->interval = m ? &m->interval : NULL;
        if (m) v->bounds = bounds_of(g, index);
        return;
    }
    v->used = stat_used(g, index);
    if (v->type == STAT_TEXT) {
        struct stat_page *p = stat_page_find(g, 0, index);
        uintptr_t cell =
            p ? atomic_load_explicit(&p->cells[index % STAT_PAGE_CELLS], memory_order_relaxed) : 0;
        const struct stat_text *t = (const struct stat_text *)cell;
        if (t) v->text = (struct str){t->bytes, t->len};
        return;
    }
    v->value = stat_value(g, index);
}

void stats_reset_counters(struct stats *s)
{
    size_t count;
    struct stat_group **groups = stats_groups(s, &count);
    for (size_t i = 0; i < count; i++) {
        struct stat_group *g = groups[i];
        for (size_t k = 0; k < g->count; k++) {
            uint64_t value = g->defs[k].type == STAT_COUNTER ? raw_value(g, k) : 0;
            if (!value) continue;
            if (!g->reset_base) g->reset_base = mem_array(g->count, sizeof(*g->reset_base));
            g->reset_base[k] = value;
        }
    }
    stats_groups_release(groups, count);
}
