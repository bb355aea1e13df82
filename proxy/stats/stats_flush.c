/* Histograms from the threads' recorders to main's readable copies. */
#include "base/must.h"
#include "proxy/stats/stats_internal.h"

void stat_recorder_free(struct stat_recorder *r)
{
    if (!r) return;
    for (size_t i = 0; i < HISTOGRAM_DECADES; i++)
        mem_free(atomic_load(&r->decades[i]));
    mem_free(r);
}

void stat_merged_free(struct stat_merged *m)
{
    while (m) {
        struct stat_merged *next = m->next;
        histogram_release(&m->cumulative);
        histogram_release(&m->interval);
        mem_free(m);
        m = next;
    }
}

static void add_recorder(const struct stat_recorder *r, uint64_t counts[HISTOGRAM_BINS])
{
    counts[0] += atomic_load_explicit(&r->zeros, memory_order_relaxed);
    for (size_t i = 0; i < HISTOGRAM_DECADES; i++) {
        const struct stat_decade *d = atomic_load_explicit(&r->decades[i], memory_order_acquire);
        if (!d) continue;
        for (size_t k = 0; k < HISTOGRAM_DECADE_BINS; k++) {
            counts[1 + i * HISTOGRAM_DECADE_BINS + k] +=
                atomic_load_explicit(&d->counts[k], memory_order_relaxed);
        }
    }
}

/* All threads' counts; false: nobody recorded. */
static bool gather(const struct stat_group *g, size_t index, uint64_t counts[HISTOGRAM_BINS])
{
    bool any = false;
    for (unsigned t = 0; t < g->threads; t++) {
        struct stat_page *p = stat_page_find(g, t, index);
        uintptr_t cell =
            p ? atomic_load_explicit(&p->cells[index % STAT_PAGE_CELLS], memory_order_acquire) : 0;
        if (!cell) continue;
        if (!any) memset(counts, 0, HISTOGRAM_BINS * sizeof(counts[0]));
        add_recorder((const struct stat_recorder *)cell, counts);
        any = true;
    }
    return any;
}

static struct stat_merged *merged_make(struct stat_group *g, size_t index)
{
    struct stat_merged *m = g->merged;
    while (m && m->index != index)
        m = m->next;
    if (m) return m;
    m = mem_alloc(sizeof(*m));
    m->index = index;
    m->next = g->merged;
    g->merged = m;
    return m;
}

static void flush_one(struct stat_group *g, size_t index, uint64_t counts[HISTOGRAM_BINS])
{
    if (g->defs[index].type != STAT_HISTOGRAM || !gather(g, index, counts)) return;
    struct stat_merged *m = merged_make(g, index);
    struct stat_histogram before = m->cumulative;
    m->cumulative = (struct stat_histogram){0};
    histogram_fill(&m->cumulative, counts);
    for (size_t i = 0; i < before.used; i++)
        counts[before.bins[i].bin] -= before.bins[i].count;
    histogram_fill(&m->interval, counts);
    histogram_release(&before);
}

void stats_flush(struct stats *s)
{
    uint64_t *counts = mem_array(HISTOGRAM_BINS, sizeof(*counts));
    pthread_mutex_lock(&s->lock);
    for (struct stat_group *g = s->recorded; g; g = g->next_recorded) {
        for (size_t i = 0; i < g->count; i++)
            flush_one(g, i, counts);
    }
    pthread_mutex_unlock(&s->lock);
    mem_free(counts);
}
