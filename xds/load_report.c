/* One stream. Its first request says who we are; each response says which clusters to report, how
 * often, and whether by endpoint; what was counted before is not reported. A cluster is compared
 * with what its hosts counted at the last report. */
#include "xds/load_report.h"

#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "envoy/service/load_stats/v3/lrs.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/config/address_message.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/control_plane.h"
#include "xds/load_metrics.h"
#include "xds/xds_internal.h"

#define LRS(name) Envoy__Service__LoadStats__V3__##name
#define EDS(name) Envoy__Config__Endpoint__V3__##name

static const char load_method[] =
    "/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats";

enum load_stat { LOAD_REQUESTS, LOAD_RESPONSES, LOAD_ERRORS, LOAD_RETRIES, LOAD_STATS };
/* Envoy: what came is a request here, what went out a response. */
static const struct stat_def load_stat_defs[LOAD_STATS] = {
    [LOAD_REQUESTS] = {"requests", STAT_COUNTER, 0},
    [LOAD_RESPONSES] = {"responses", STAT_COUNTER, 0},
    [LOAD_ERRORS] = {"errors", STAT_COUNTER, 0},
    [LOAD_RETRIES] = {"retries", STAT_COUNTER, 0},
};

struct load_count {
    uint64_t success, error, issued, active;
};
/* What a host had counted at the last report. */
struct load_host {
    struct host *host; /* a reference; its address is the key */
    struct load_count was;
    struct load_metrics metrics; /* since the last report */
    uint64_t seen;               /* report that saw it last */
};
struct load_cluster {
    struct str name; /* heap; the key */
    struct map hosts;
    uint64_t measured_us; /* last report */
    uint64_t dropped, overload;
    bool asked;
};
struct load_report {
    struct xds *x;
    struct arena *arena;
    struct control_plane plane;
    struct grpc_stream *stream;
    struct stat_group *stats;
    struct loop_timer retry, period;
    unsigned failures;
    bool sending, all, by_endpoint;
    uint64_t interval_us, reports;
    struct map clusters; /* struct load_cluster * */
};

/* --- counting
 * ---------------------------------------------------------------------------------------------- */

static uint64_t load_read(_Atomic uint64_t *cell)
{
    return atomic_load_explicit(cell, memory_order_relaxed);
}

static struct load_count load_now(struct host *h)
{
    return (struct load_count){.success = load_read(&h->cells.rq_success),
                               .error = load_read(&h->cells.rq_error),
                               .issued = load_read(&h->cells.rq_total),
                               .active =
                                   atomic_load_explicit(&h->cells.rq_active, memory_order_relaxed)};
}

static struct load_host *load_host_get(struct load_cluster *c, struct host *h, bool from_now)
{
    struct str key = str_make((const char *)&h, sizeof h);
    struct load_host *l = map_get(&c->hosts, key);
    if (l) return l;
    l = mem_alloc(sizeof *l);
    l->host = host_ref(h);
    if (from_now) l->was = load_now(h);
    (void)map_put(&c->hosts, str_make((const char *)&l->host, sizeof l->host), l);
    return l;
}

/* What the host counted since the last report. */
static struct load_count load_take(struct load_report *r, struct load_host *l, struct host *h)
{
    struct load_count now = load_now(h), was = l->was;
    l->was = now;
    l->seen = r->reports;
    return (struct load_count){.success = now.success - was.success,
                               .error = now.error - was.error,
                               .issued = now.issued - was.issued,
                               .active = now.active};
}

static bool load_is_none(const struct load_count *n)
{
    return !(n->success | n->error | n->issued | n->active);
}

static void load_host_free(struct load_host *l)
{
    load_metrics_release(&l->metrics);
    host_unref(&l->host);
    mem_free(l);
}

/* Hosts that are gone. What they counted after the last report is not told, as in Envoy. */
static void load_forget(struct load_report *r, struct load_cluster *c)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&c->hosts, &it, &key, &value)) {
        struct load_host *l = value;
        if (l->seen == r->reports) continue;
        map_remove(&c->hosts, key);
        load_host_free(l);
    }
}

static void load_cluster_free(struct load_cluster *c)
{
    size_t it = 0;
    void *value;
    while (map_next(&c->hosts, &it, NULL, &value))
        load_host_free(value);
    map_release(&c->hosts);
    mux_keep(&c->name, STR_NONE);
    mem_free(c);
}

static void load_dropped(const struct cluster *c, uint64_t *dropped, uint64_t *overload)
{
    *dropped = stat_value(c->shared->stats, CLUSTER_STAT_UPSTREAM_RQ_MAINTENANCE_MODE);
    *overload = load_read(&c->shared->drop_overload);
}

/* Asked for: from now on it is counted (what is counted already goes on). */
static void load_ask(struct load_report *r, struct str name)
{
    const struct cluster *conf = cluster_manager_active(r->x->env.clusters, name);
    const struct host_set *hosts = cluster_manager_hosts(r->x->env.clusters, name);
    struct load_cluster *c = map_get(&r->clusters, name);
    if (!c) {
        c = mem_alloc(sizeof *c);
        mux_keep(&c->name, name);
        (void)map_put(&r->clusters, c->name, c);
        c->measured_us = loop_now_us(xds_loop(r->x));
        if (conf) load_dropped(conf, &c->dropped, &c->overload);
        for (uint32_t i = 0; hosts && i < hosts->host_count; i++)
            (void)load_host_get(c, hosts->hosts[i], true);
    }
    c->asked = true;
}

static void load_ask_view(void *arg, const struct cluster_view *v)
{
    if (v->active) load_ask(arg, v->name);
}

/* --- a report
 * ---------------------------------------------------------------------------------------------- */

/* A locality of a report. */
struct load_place {
    EDS(UpstreamLocalityStats) * stats;
    struct load_metrics metrics;
};
struct load_places {
    struct load_place *v;
    size_t count;
};

static struct load_place *load_place_get(struct arena *a, struct load_places *places,
                                         const struct host *h)
{
    const struct host_locality *l = &h->locality;
    for (size_t i = 0; i < places->count; i++) {
        EDS(UpstreamLocalityStats) *s = places->v[i].stats;
        const Envoy__Config__Core__V3__Locality *name = s->locality;
        if (s->priority == h->priority && str_eq(str_of(name->region), l->region) &&
            str_eq(str_of(name->zone), l->zone) && str_eq(str_of(name->sub_zone), l->sub_zone))
            return &places->v[i];
    }
    EDS(UpstreamLocalityStats) *s = ARENA_NEW(a, EDS(UpstreamLocalityStats));
    envoy__config__endpoint__v3__upstream_locality_stats__init(s);
    s->locality = ARENA_NEW(a, Envoy__Config__Core__V3__Locality);
    envoy__config__core__v3__locality__init(s->locality);
    s->locality->region = str_z(a, l->region);
    s->locality->zone = str_z(a, l->zone);
    s->locality->sub_zone = str_z(a, l->sub_zone);
    s->priority = h->priority;
    places->v[places->count].stats = s;
    return &places->v[places->count++];
}

static EDS(UpstreamEndpointStats) * load_endpoint(struct arena *a, EDS(UpstreamLocalityStats) * s,
                                                  size_t room, const struct host *h,
                                                  const struct load_count *n)
{
    EDS(UpstreamEndpointStats) *e = ARENA_NEW(a, EDS(UpstreamEndpointStats));
    envoy__config__endpoint__v3__upstream_endpoint_stats__init(e);
    e->address = address_message(a, &h->addr);
    e->total_successful_requests = n->success;
    e->total_error_requests = n->error;
    e->total_issued_requests = n->issued;
    e->total_requests_in_progress = n->active;
    if (!s->upstream_endpoint_stats)
        s->upstream_endpoint_stats = ARENA_ARRAY(a, EDS(UpstreamEndpointStats) *, room);
    s->upstream_endpoint_stats[s->n_upstream_endpoint_stats++] = e;
    return e;
}

/* One host; room: for endpoints of a locality. */
static void load_of_host(struct load_report *r, struct load_cluster *c, struct arena *a,
                         struct load_places *places, struct host *h, size_t room)
{
    struct load_host *l = load_host_get(c, h, false);
    struct load_count n = load_take(r, l, h);
    if (load_is_none(&n) && !l->metrics.sums.count) return;
    struct load_place *p = load_place_get(a, places, h);
    p->stats->total_successful_requests += n.success;
    p->stats->total_error_requests += n.error;
    p->stats->total_issued_requests += n.issued;
    p->stats->total_requests_in_progress += n.active;
    load_metrics_merge(&p->metrics, &l->metrics);
    if (r->by_endpoint) {
        EDS(UpstreamEndpointStats) *e = load_endpoint(a, p->stats, room, h, &n);
        e->load_metric_stats = load_metrics_list(&l->metrics, a, &e->n_load_metric_stats);
    }
    load_metrics_release(&l->metrics);
}

static void load_localities(struct load_report *r, struct load_cluster *c, struct arena *a,
                            EDS(ClusterStats) * out)
{
    const struct host_set *hosts = cluster_manager_hosts(r->x->env.clusters, c->name);
    uint32_t count = hosts ? hosts->host_count : 0;
    struct load_places places = {.v = ARENA_ARRAY(a, struct load_place, count)};
    for (uint32_t i = 0; i < count; i++)
        load_of_host(r, c, a, &places, hosts->hosts[i], count);
    out->upstream_locality_stats = ARENA_ARRAY(a, EDS(UpstreamLocalityStats) *, places.count);
    for (size_t i = 0; i < places.count; i++) {
        struct load_place *p = &places.v[i];
        p->stats->load_metric_stats =
            load_metrics_list(&p->metrics, a, &p->stats->n_load_metric_stats);
        load_metrics_release(&p->metrics);
        out->upstream_locality_stats[out->n_upstream_locality_stats++] = p->stats;
    }
    load_forget(r, c);
}

static Google__Protobuf__Duration *load_duration(struct arena *a, uint64_t us)
{
    enum { SECOND_US = 1000000, US_NANOS = 1000 };
    Google__Protobuf__Duration *d = ARENA_NEW(a, Google__Protobuf__Duration);
    google__protobuf__duration__init(d);
    d->seconds = (int64_t)(us / SECOND_US);
    d->nanos = (int32_t)(us % SECOND_US * US_NANOS);
    return d;
}

static void load_drops(struct load_cluster *c, const struct cluster *conf, struct arena *a,
                       EDS(ClusterStats) * out)
{
    uint64_t dropped, overload;
    load_dropped(conf, &dropped, &overload);
    out->total_dropped_requests = dropped - c->dropped;
    uint64_t more = overload - c->overload;
    c->dropped = dropped;
    c->overload = overload;
    const struct host_set *hosts = cluster_manager_hosts(conf->manager, c->name);
    if (!more || !hosts || !hosts->drop_count) return;
    EDS(ClusterStats__DroppedRequests) *d = ARENA_NEW(a, EDS(ClusterStats__DroppedRequests));
    envoy__config__endpoint__v3__cluster_stats__dropped_requests__init(d);
    d->category = str_z(a, hosts->drops[0].category);
    d->dropped_count = more;
    out->dropped_requests = ARENA_ARRAY(a, EDS(ClusterStats__DroppedRequests) *, 1);
    out->dropped_requests[out->n_dropped_requests++] = d;
    out->total_dropped_requests += more;
}

/* NULL: the cluster is not there. */
static EDS(ClusterStats) *
    load_cluster_stats(struct load_report *r, struct load_cluster *c, struct arena *a)
{
    const struct cluster *conf = cluster_manager_active(r->x->env.clusters, c->name);
    uint64_t now = loop_now_us(xds_loop(r->x));
    if (!conf) return NULL;
    EDS(ClusterStats) *out = ARENA_NEW(a, EDS(ClusterStats));
    envoy__config__endpoint__v3__cluster_stats__init(out);
    out->cluster_name = str_z(a, c->name);
    if (conf->eds_service.len) out->cluster_service_name = str_z(a, conf->eds_service);
    load_localities(r, c, a, out);
    load_drops(c, conf, a, out);
    out->load_report_interval = load_duration(a, now - c->measured_us);
    c->measured_us = now;
    return out;
}

/* --- the stream
 * ---------------------------------------------------------------------------------------------- */

static void load_send(struct load_report *r, LRS(LoadStatsRequest) * request, struct arena *a)
{
    static char *features[] = {(char *)(uintptr_t) "envoy.lrs.supports_send_all_clusters"};
    Envoy__Config__Core__V3__Node node = *r->x->node;
    node.client_features = features;
    node.n_client_features = ARRAY_LEN(features);
    request->node = &node;
    r->sending = true;
    stat_inc(r->stats, LOAD_RESPONSES);
    grpc_stream_send(r->stream, proto_pack(a, &request->base));
}

static void load_period(struct loop_timer *t)
{
    struct load_report *r = CONTAINER_OF(t, struct load_report, period);
    loop_timer_start(xds_loop(r->x), &r->period, r->interval_us, load_period);
    if (!r->stream || r->sending) return; /* it does not read: the next report covers both */
    struct arena *a = arena_new("load report", 0);
    LRS(LoadStatsRequest) request = ENVOY__SERVICE__LOAD_STATS__V3__LOAD_STATS_REQUEST__INIT;
    if (r->all) cluster_manager_each(r->x->env.clusters, load_ask_view, r);
    request.cluster_stats = ARENA_ARRAY(a, EDS(ClusterStats) *, r->clusters.count + 1);
    r->reports++;
    size_t it = 0;
    void *value;
    while (map_next(&r->clusters, &it, NULL, &value)) {
        EDS(ClusterStats) *s = load_cluster_stats(r, value, a);
        if (s) request.cluster_stats[request.n_cluster_stats++] = s;
    }
    load_send(r, &request, a);
    arena_free(&a);
}

/* Clusters that are not asked for any more. */
static void load_sweep(struct load_report *r)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&r->clusters, &it, &key, &value)) {
        struct load_cluster *c = value;
        if (c->asked) continue;
        map_remove(&r->clusters, key);
        load_cluster_free(c);
    }
}

static void load_told(struct load_report *r, const LRS(LoadStatsResponse) * m)
{
    enum { SECOND_US = 1000000, NANOS_US = 1000, LEAST_US = 10000, SECONDS_MOST = 86400 };
    size_t it = 0;
    void *value;
    while (map_next(&r->clusters, &it, NULL, &value))
        ((struct load_cluster *)value)->asked = false;
    r->all = m->send_all_clusters;
    r->by_endpoint = m->report_endpoint_granularity;
    if (r->all) cluster_manager_each(r->x->env.clusters, load_ask_view, r);
    for (size_t i = 0; i < m->n_clusters && !r->all; i++)
        load_ask(r, str_of(m->clusters[i]));
    load_sweep(r);
    const Google__Protobuf__Duration *d = m->load_reporting_interval;
    int64_t seconds = d ? d->seconds : 0, nanos = d ? d->nanos : 0;
    if (seconds < 0 || nanos < 0) seconds = nanos = 0;
    if (seconds > SECONDS_MOST) seconds = SECONDS_MOST;
    uint64_t us = (uint64_t)seconds * SECOND_US + (uint64_t)nanos / NANOS_US;
    r->interval_us = us < LEAST_US ? LEAST_US : us; /* 0 would keep us busy */
    loop_timer_start(xds_loop(r->x), &r->period, r->interval_us, load_period);
}

static void load_connect(struct load_report *r);

static void load_retry(struct loop_timer *t)
{
    struct load_report *r = CONTAINER_OF(t, struct load_report, retry);
    stat_inc(r->stats, LOAD_RETRIES);
    load_connect(r);
}

static void load_down(struct load_report *r, struct str why)
{
    log_warn(LOG_C_CONFIG, "the load report stream to %s is closed: %.*s",
             control_plane_name(&r->plane), STR_ARG(why));
    grpc_stream_close(&r->stream);
    loop_timer_stop(&r->period);
    loop_timer_start(xds_loop(r->x), &r->retry, control_plane_back_off_us(&r->failures),
                     load_retry);
}

static void load_on_open(void *arg)
{
    struct load_report *r = arg;
    struct arena *a = arena_new("load report", 0);
    LRS(LoadStatsRequest) request = ENVOY__SERVICE__LOAD_STATS__V3__LOAD_STATS_REQUEST__INIT;
    load_send(r, &request, a);
    arena_free(&a);
}

static void load_on_sent(void *arg)
{
    ((struct load_report *)arg)->sending = false;
}

static void load_on_message(void *arg, struct str bytes)
{
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct load_report *r = arg;
    struct arena *a = arena_new("load report", 0);
    struct errors errors = {.arena = a};
    const LRS(LoadStatsResponse) *m = (const void *)proto_unpack(
        a, &envoy__service__load_stats__v3__load_stats_response__descriptor, bytes, &lenient, NULL,
        &errors);
    r->failures = 0;
    if (m) {
        stat_inc(r->stats, LOAD_REQUESTS);
        load_told(r, m);
        grpc_stream_read(r->stream);
    } else {
        stat_inc(r->stats, LOAD_ERRORS);
        load_down(r, errors_text(&errors, a, STR("LoadStatsResponse")));
    }
    arena_free(&a);
}

static void load_on_closed(void *arg, int status, struct str text)
{
    struct load_report *r = arg;
    if (status) stat_inc(r->stats, LOAD_ERRORS);
    load_down(r, text);
}
static const struct grpc_stream_events load_events = {.on_open = load_on_open,
                                                      .on_sent = load_on_sent,
                                                      .on_message = load_on_message,
                                                      .on_closed = load_on_closed};

static void load_connect(struct load_report *r)
{
    struct str why;
    struct arena *a = arena_new("xds target", 0);
    r->sending = false;
    r->stream = control_plane_open(r->x, &r->plane, load_method, &load_events, r, a, &why);
    if (!r->stream) load_down(r, why);
    arena_free(&a);
}

/* --- its life
 * ---------------------------------------------------------------------------------------------- */

/* What a response of a host said; a cluster that nobody asked for is not counted. */
static void load_heard(void *arg, struct str cluster, struct host *h, const struct load_metric *v,
                       size_t count)
{
    const struct load_report *r = ((const struct xds *)arg)->load_report;
    struct load_cluster *c = r ? map_get(&r->clusters, cluster) : NULL;
    struct load_host *l = c ? map_get(&c->hosts, str_make((const char *)&h, sizeof h)) : NULL;
    if (l) load_metrics_add(&l->metrics, v, count);
}

bool load_report_new(struct xds *x, const struct conf_at *at, struct load_report **out)
{
    const Envoy__Config__Bootstrap__V3__ClusterManager *m = x->bootstrap->cluster_manager;
    struct conf_at here = conf_field(at, "cluster_manager.load_stats_config"),
                   type_at = conf_field(&here, "api_type");
    *out = NULL;
    if (!m || !m->load_stats_config) return true;
    if (m->load_stats_config->api_type !=
        ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__GRPC)
        return conf_fail(&type_at, "load reports need GRPC");
    if (m->load_stats_config->n_grpc_services == 0) {
        log_warn(LOG_C_CONFIG, "load_stats_config names no gRPC service: no load is reported");
        return true; /* Envoy: as here; Istio's bootstrap has it so */
    }
    struct arena *a = arena_new("load report", 1024);
    struct load_report *r = ARENA_NEW(a, struct load_report);
    r->x = x;
    r->arena = a;
    if (!control_plane_read(&r->plane, a, m->load_stats_config, &here)) {
        arena_free(&a);
        return false;
    }
    r->stats = stat_group_get(x->env.rt->stats, STR("load_reporter."), load_stat_defs, LOAD_STATS);
    x->load_sink = (struct load_sink){load_heard, x};
    x->env.rt->load_sink = &x->load_sink;
    *out = r;
    return true;
}

void load_report_start(struct load_report *r)
{
    if (r) load_connect(r);
}

void load_report_free(struct load_report **report)
{
    struct load_report *r = *report;
    *report = NULL;
    if (!r) return;
    loop_timer_stop(&r->retry);
    loop_timer_stop(&r->period);
    grpc_stream_close(&r->stream);
    size_t it = 0;
    void *value;
    while (map_next(&r->clusters, &it, NULL, &value))
        load_cluster_free(value);
    map_release(&r->clusters);
    stat_group_unref(&r->stats);
    struct arena *a = r->arena;
    arena_free(&a);
}
