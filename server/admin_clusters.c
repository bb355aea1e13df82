/* /clusters: text and JSON. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/regex.h"
#include "envoy/admin/v3/clusters.pb-c.h"
#include "proto/print.h"
#include "proxy/upstream/cluster_manager.h"
#include "proxy/config/address_message.h"
#include "server/admin_internal.h"
#include "server/server.h"

enum { STEP_BYTES = 64 * 1024 }; /* a step ends when its piece has as many */

/* A page under way: the clusters are looked up by name when it is their turn, because they may
 * change or go in the meantime. In the request's arena. */
struct clusters_page {
    const struct regex *filter; /* of names; NULL: all */
    struct str *names;          /* sorted */
    size_t count, cap, next;
    struct arena *scratch; /* of a step */
    bool json;
};

static void name_count(void *arg, const struct cluster_view *v)
{
    (void)v;
    ((struct clusters_page *)arg)->cap++;
}

static void name_add(void *arg, const struct cluster_view *v)
{
    struct clusters_page *p = arg;
    if (!v->active) return; /* Envoy shows active ones */
    if (p->filter && !regex_partial(p->filter, v->name)) return;
    p->names[p->count++] = v->name;
}

static int name_order(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

/* What is shown of a cluster. */
struct shown {
    struct str name;
    const struct cluster *cluster;
    const struct host_set *hosts; /* NULL: none yet */
};

static uint64_t relaxed32(const _Atomic uint32_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

static uint64_t relaxed64(const _Atomic uint64_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

/* The statistics of a host in Envoy's order of the text page. */
enum { HOST_STATS = 9 };
struct host_stat {
    const char *name;
    uint64_t value;
    bool gauge;
};

static void host_stats(const struct host *h, struct host_stat out[HOST_STATS])
{
    const struct host_cells *c = &h->cells;
    struct host_stat all[HOST_STATS] = {
        {"cx_active", relaxed32(&c->cx_active), true},
        {"cx_connect_fail", relaxed64(&c->cx_connect_fail), false},
        {"cx_total", relaxed64(&c->cx_total), false},
        {"rq_active", relaxed32(&c->rq_active), true},
        {"rq_error", relaxed64(&c->rq_error), false},
        {"rq_pending_active", 0, true}, /* requests wait by cluster, not by host */
        {"rq_success", relaxed64(&c->rq_success), false},
        {"rq_timeout", relaxed64(&c->rq_timeout), false},
        {"rq_total", relaxed64(&c->rq_total), false},
    };
    memcpy(out, all, sizeof all);
}

/* --- text
 * ----------------------------------------------------------------------------------------------------------------
 */

static void text_limits(struct sb *out, struct str name, const char *priority,
                        const struct breaker_limits *l)
{
    sb_fmt(out, "%.*s::%s_priority::max_connections::%u\n", STR_ARG(name), priority,
           l->max_connections);
    sb_fmt(out, "%.*s::%s_priority::max_pending_requests::%u\n", STR_ARG(name), priority,
           l->max_pending);
    sb_fmt(out, "%.*s::%s_priority::max_requests::%u\n", STR_ARG(name), priority, l->max_requests);
    sb_fmt(out, "%.*s::%s_priority::max_retries::%u\n", STR_ARG(name), priority, l->max_retries);
}

static void text_host(struct sb *out, struct arena *scratch, struct str name, const struct host *h)
{
    struct host_stat stats[HOST_STATS];
    struct str head = str_fmt(scratch, "%.*s::%.*s::", STR_ARG(name), STR_ARG(h->text));
    struct str health = host_health_text(h, scratch);
    host_stats(h, stats);
    for (int i = 0; i < HOST_STATS; i++)
        sb_fmt(out, "%.*s%s::%llu\n", STR_ARG(head), stats[i].name,
               (unsigned long long)stats[i].value);
    sb_fmt(out, "%.*shostname::%.*s\n", STR_ARG(head), STR_ARG(h->name));
    sb_fmt(out, "%.*shealth_flags::%.*s\n", STR_ARG(head), STR_ARG(health));
    sb_fmt(out, "%.*sweight::%u\n", STR_ARG(head), host_weight_get(h));
    sb_fmt(out, "%.*sregion::%.*s\n", STR_ARG(head), STR_ARG(h->locality.region));
    sb_fmt(out, "%.*szone::%.*s\n", STR_ARG(head), STR_ARG(h->locality.zone));
    sb_fmt(out, "%.*ssub_zone::%.*s\n", STR_ARG(head), STR_ARG(h->locality.sub_zone));
    sb_fmt(out, "%.*scanary::%s\n", STR_ARG(head), h->canary ? "true" : "false");
    sb_fmt(out, "%.*spriority::%u\n", STR_ARG(head), h->priority);
    sb_fmt(out, "%.*ssuccess_rate::-1\n",
           STR_ARG(head)); /* -1: no outlier detection has a figure */
    sb_fmt(out, "%.*slocal_origin_success_rate::-1\n", STR_ARG(head));
}

static void text_cluster(struct sb *out, struct arena *scratch, const struct shown *v)
{
    const struct cluster *c = v->cluster;
    sb_fmt(out, "%.*s::observability_name::%.*s\n", STR_ARG(v->name), STR_ARG(c->stat_name));
    text_limits(out, v->name, "default", &c->limits[0]);
    text_limits(out, v->name, "high", &c->limits[1]);
    sb_fmt(out, "%.*s::added_via_api::%s\n", STR_ARG(v->name), c->added_via_api ? "true" : "false");
    if (c->discovery == CLUSTER_EDS && c->eds_service.len)
        sb_fmt(out, "%.*s::eds_service_name::%.*s\n", STR_ARG(v->name), STR_ARG(c->eds_service));
    for (uint32_t i = 0; v->hosts && i < v->hosts->host_count; i++)
        text_host(out, scratch, v->name, v->hosts->hosts[i]);
}

/* --- JSON
 * ------------------------------------------------------------------------------------------------------------------
 */

static Google__Protobuf__UInt32Value *u32(struct arena *a, uint32_t value)
{
    Google__Protobuf__UInt32Value *m = ARENA_NEW(a, Google__Protobuf__UInt32Value);
    google__protobuf__uint32_value__init(m);
    m->value = value;
    return m;
}

static Envoy__Config__Cluster__V3__CircuitBreakers *json_limits(struct arena *a,
                                                                const struct breaker_limits *limits)
{
    Envoy__Config__Cluster__V3__CircuitBreakers *m =
        ARENA_NEW(a, Envoy__Config__Cluster__V3__CircuitBreakers);
    envoy__config__cluster__v3__circuit_breakers__init(m);
    m->n_thresholds = BREAKER_PRIORITIES;
    m->thresholds = ARENA_ARRAY(a, Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds *,
                                BREAKER_PRIORITIES);
    for (int i = 0; i < BREAKER_PRIORITIES; i++) {
        Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds *t =
            ARENA_NEW(a, Envoy__Config__Cluster__V3__CircuitBreakers__Thresholds);
        envoy__config__cluster__v3__circuit_breakers__thresholds__init(t);
        t->priority = i == 0 ? ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__DEFAULT
                             : ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH;
        t->max_connections = u32(a, limits[i].max_connections);
        t->max_pending_requests = u32(a, limits[i].max_pending);
        t->max_requests = u32(a, limits[i].max_requests);
        t->max_retries = u32(a, limits[i].max_retries);
        m->thresholds[i] = t;
    }
    return m;
}

/* Envoy lists counters, then gauges, each by name. */
static void json_stats(struct arena *a, const struct host *h, Envoy__Admin__V3__HostStatus *out)
{
    struct host_stat stats[HOST_STATS];
    host_stats(h, stats);
    out->stats = ARENA_ARRAY(a, Envoy__Admin__V3__SimpleMetric *, HOST_STATS);
    for (int gauge = 0; gauge < 2; gauge++) {
        for (int i = 0; i < HOST_STATS; i++) {
            if (stats[i].gauge != (gauge == 1)) continue;
            Envoy__Admin__V3__SimpleMetric *metric = ARENA_NEW(a, Envoy__Admin__V3__SimpleMetric);
            envoy__admin__v3__simple_metric__init(metric);
            metric->type = gauge ? ENVOY__ADMIN__V3__SIMPLE_METRIC__TYPE__GAUGE
                                 : ENVOY__ADMIN__V3__SIMPLE_METRIC__TYPE__COUNTER;
            metric->name = str_z(a, str_of(stats[i].name));
            metric->value = stats[i].value;
            out->stats[out->n_stats++] = metric;
        }
    }
}

static Envoy__Admin__V3__HostHealthStatus *json_health(struct arena *a, const struct host *h)
{
    Envoy__Admin__V3__HostHealthStatus *m = ARENA_NEW(a, Envoy__Admin__V3__HostHealthStatus);
    uint32_t flags = host_health_get(h);
    envoy__admin__v3__host_health_status__init(m);
    m->failed_active_health_check = (flags & HOST_FAILED_ACTIVE_HC) != 0;
    m->failed_outlier_check = (flags & HOST_FAILED_OUTLIER) != 0;
    m->failed_active_degraded_check = (flags & HOST_DEGRADED_ACTIVE_HC) != 0;
    m->pending_dynamic_removal = (flags & HOST_PENDING_REMOVAL) != 0;
    m->pending_active_hc = (flags & HOST_PENDING_ACTIVE_HC) != 0;
    m->excluded_via_immediate_hc_fail = (flags & HOST_EXCLUDED_IMMEDIATE_HC) != 0;
    m->active_hc_timeout = (flags & HOST_ACTIVE_HC_TIMEOUT) != 0;
    m->eds_health_status =
        flags & HOST_FAILED_EDS     ? ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__UNHEALTHY
        : flags & HOST_DEGRADED_EDS ? ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__DEGRADED
        : flags & HOST_EDS_DRAINING ? ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__DRAINING
                                    : ENVOY__CONFIG__CORE__V3__HEALTH_STATUS__HEALTHY;
    return m;
}

static Envoy__Admin__V3__HostStatus *json_host(struct arena *a, const struct host *h)
{
    Envoy__Admin__V3__HostStatus *m = ARENA_NEW(a, Envoy__Admin__V3__HostStatus);
    Envoy__Config__Core__V3__Locality *locality = ARENA_NEW(a, Envoy__Config__Core__V3__Locality);
    envoy__admin__v3__host_status__init(m);
    envoy__config__core__v3__locality__init(locality);
    locality->region = str_z(a, h->locality.region);
    locality->zone = str_z(a, h->locality.zone);
    locality->sub_zone = str_z(a, h->locality.sub_zone);
    m->address = address_message(a, &h->addr);
    m->health_status = json_health(a, h);
    m->weight = host_weight_get(h);
    m->hostname = str_z(a, h->name);
    m->priority = h->priority;
    m->locality = locality;
    json_stats(a, h, m);
    return m;
}

static Envoy__Admin__V3__ClusterStatus *json_cluster(struct arena *a, const struct shown *v)
{
    const struct cluster *c = v->cluster;
    Envoy__Admin__V3__ClusterStatus *m = ARENA_NEW(a, Envoy__Admin__V3__ClusterStatus);
    envoy__admin__v3__cluster_status__init(m);
    m->name = str_z(a, v->name);
    m->added_via_api = c->added_via_api;
    m->circuit_breakers = json_limits(a, c->limits);
    m->observability_name = str_z(a, c->stat_name);
    if (c->discovery == CLUSTER_EDS) m->eds_service_name = str_z(a, c->eds_service);
    size_t hosts = v->hosts ? v->hosts->host_count : 0;
    m->host_statuses = ARENA_ARRAY(a, Envoy__Admin__V3__HostStatus *, hosts);
    for (size_t i = 0; i < hosts; i++)
        m->host_statuses[m->n_host_statuses++] = json_host(a, v->hosts->hosts[i]);
    return m;
}

/* --- the page
 * -------------------------------------------------------------------------------------------------------
 */

static bool page_more(struct admin_request *r)
{
    struct clusters_page *p = r->cursor;
    struct print_opts opts = admin_print_opts;
    opts.depth = 2;
    if (p->json && p->next == 0) sb_add(&r->out, STR("{\n \"cluster_statuses\": ["));
    bool first = p->next == 0;
    while (p->next < p->count && r->out.len < STEP_BYTES) {
        struct str name = p->names[p->next++];
        struct shown shown = {name, cluster_manager_active(r->server->clusters, name),
                              cluster_manager_hosts(r->server->clusters, name)};
        if (!shown.cluster) continue; /* it is gone */
        if (p->json) {
            sb_add(&r->out, first ? STR("\n  ") : STR(",\n  "));
            print_json(&r->out, &json_cluster(p->scratch, &shown)->base, &opts);
        } else {
            text_cluster(&r->out, p->scratch, &shown);
        }
        first = false;
        arena_reset(p->scratch);
    }
    if (p->next < p->count) return true;
    if (p->json) sb_add(&r->out, STR("\n ]\n}\n"));
    return false;
}

static void page_release(void *arg)
{
    arena_free(&((struct clusters_page *)arg)->scratch);
}

void admin_page_clusters(struct admin_request *r)
{
    struct clusters_page *p = ARENA_NEW(r->arena, struct clusters_page);
    struct str filter = admin_param(r, "filter"), why;
    if (filter.len) {
        p->filter = regex_new(r->arena, filter, &why);
        if (!p->filter) {
            admin_error(r, 400, "Invalid re2 regex");
            return;
        }
    }
    cluster_manager_each(r->server->clusters, name_count, p);
    p->names = ARENA_ARRAY(r->arena, struct str, p->cap);
    cluster_manager_each(r->server->clusters, name_add, p);
    qsort(p->names, p->count, sizeof *p->names, name_order);
    for (size_t i = 0; i < p->count; i++)
        p->names[i] = str_dup(r->arena, p->names[i]);
    p->json = str_eq(admin_param(r, "format"), STR("json"));
    if (p->json) r->content_type = ADMIN_JSON;
    if (p->json && p->count == 0) {
        sb_add(&r->out, STR("{}\n"));
        return;
    }
    p->scratch = arena_new("clusters page", 0);
    arena_on_free(r->arena, page_release, p);
    r->cursor = p;
    r->more = page_more;
}
