/* Counts and sums by name, in a map of heap entries. */
#include "xds/load_metrics.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/endpoint/v3/load_report.pb-c.h"

enum { NAMES_MOST = 1024 }; /* of a host or a locality */

struct load_sum {
    struct str name; /* behind the struct */
    uint64_t count;
    double sum;
};

static void load_metrics_count(struct load_metrics *m, struct str name, uint64_t count, double sum)
{
    struct load_sum *s = map_get(&m->sums, name);
    if (!s && m->sums.count >= NAMES_MOST) return;
    if (!s) {
        s = mem_alloc(sizeof *s + name.len);
        memcpy(s + 1, name.ptr, name.len);
        s->name = str_make((const char *)(s + 1), name.len);
        (void)map_put(&m->sums, s->name, s);
    }
    s->count += count;
    s->sum += sum;
}

void load_metrics_add(struct load_metrics *m, const struct load_metric *v, size_t count)
{
    for (size_t i = 0; i < count; i++)
        load_metrics_count(m, v[i].name, 1, v[i].value);
}

void load_metrics_merge(struct load_metrics *m, const struct load_metrics *from)
{
    size_t it = 0;
    void *value;
    while (map_next(&from->sums, &it, NULL, &value)) {
        const struct load_sum *s = value;
        load_metrics_count(m, s->name, s->count, s->sum);
    }
}

void load_metrics_release(struct load_metrics *m)
{
    size_t it = 0;
    void *value;
    while (map_next(&m->sums, &it, NULL, &value))
        mem_free(value);
    map_release(&m->sums);
    *m = (struct load_metrics){0};
}

static int load_metrics_order(const void *x, const void *y)
{
    const Envoy__Config__Endpoint__V3__EndpointLoadMetricStats
        *a = *(Envoy__Config__Endpoint__V3__EndpointLoadMetricStats *const *)x,
        *b = *(Envoy__Config__Endpoint__V3__EndpointLoadMetricStats *const *)y;
    return strcmp(a->metric_name, b->metric_name);
}

Envoy__Config__Endpoint__V3__EndpointLoadMetricStats **load_metrics_list(
    const struct load_metrics *m, struct arena *a, size_t *count)
{
    Envoy__Config__Endpoint__V3__EndpointLoadMetricStats **v =
        ARENA_ARRAY(a, Envoy__Config__Endpoint__V3__EndpointLoadMetricStats *, m->sums.count);
    size_t it = 0;
    void *value;
    *count = 0;
    while (map_next(&m->sums, &it, NULL, &value)) {
        const struct load_sum *s = value;
        Envoy__Config__Endpoint__V3__EndpointLoadMetricStats *e =
            ARENA_NEW(a, Envoy__Config__Endpoint__V3__EndpointLoadMetricStats);
        envoy__config__endpoint__v3__endpoint_load_metric_stats__init(e);
        e->metric_name = str_z(a, s->name);
        e->num_requests_finished_with_metric = s->count;
        e->total_metric_value = s->sum;
        v[(*count)++] = e;
    }
    if (*count) qsort(v, *count, sizeof *v, load_metrics_order);
    return v;
}
