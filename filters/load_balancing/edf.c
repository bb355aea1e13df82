/* Envoy's scheme: deadline = now + 1 / weight; the host that is picked goes back with its weight as
 * it is then. */
#include "filters/load_balancing/edf.h"

#include "base/must.h"

static bool before(const struct edf_entry *a, const struct edf_entry *b)
{
    return a->deadline < b->deadline || (a->deadline <= b->deadline && a->order < b->order);
}

static void sink(struct edf *e, uint32_t at)
{
    struct edf_entry moving = e->heap[at];
    for (uint32_t child; (child = at * 2 + 1) < e->count; at = child) {
        if (child + 1 < e->count && before(&e->heap[child + 1], &e->heap[child])) child++;
        if (before(&moving, &e->heap[child])) break;
        e->heap[at] = e->heap[child];
    }
    e->heap[at] = moving;
}

static struct host *pick(struct edf *e, double (*weight)(const void *arg, const struct host *h),
                         const void *arg)
{
    struct edf_entry *top = &e->heap[0];
    struct host *h = top->host;
    e->now = top->deadline;
    top->deadline = e->now + 1 / weight(arg, h);
    top->order = e->next_order++;
    sink(e, 0);
    return h;
}

static void fill(struct edf *e, const struct lb_hosts *hosts,
                 double (*weight)(const void *arg, const struct host *h), const void *arg)
{
    e->heap = mem_array(hosts->count, sizeof(*e->heap));
    e->count = hosts->count;
    for (uint32_t i = 0; i < hosts->count; i++) {
        e->heap[i] = (struct edf_entry){1 / weight(arg, hosts->v[i]), e->next_order++, hosts->v[i]};
    }
    for (uint32_t i = e->count / 2; i-- > 0;)
        sink(e, i);
    /* Workers start at different places, so that they do not all begin with the same host. */
    uint64_t skip = e->seed % e->count;
    for (uint64_t i = 0; i < skip; i++)
        (void)pick(e, weight, arg);
}

struct host *edf_pick(struct edf *e, const struct lb_hosts *hosts,
                      double (*weight)(const void *arg, const struct host *h), const void *arg)
{
    if (!e->heap) fill(e, hosts, weight, arg);
    return pick(e, weight, arg);
}

void edf_release(struct edf *e)
{
    mem_free(e->heap);
    e->heap = NULL;
}
