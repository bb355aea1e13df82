/* What the router counts: response codes by cluster, origin, canary, virtual cluster and route;
 * times. */
#include "base/arena.h"
#include "filters/http/router.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

static bool is_true(const struct headers *h, enum header_id id)
{
    return h && str_eq(headers_get(h, id), STR("true"));
}

static bool canary(const struct router *r, const struct headers *resp)
{
    return is_true(resp, HDR_X_ENVOY_UPSTREAM_CANARY) || (r->host && host_canary(r->host));
}

static enum upstream_code_scope origin(const struct router *r)
{
    return is_true(r->req, HDR_X_ENVOY_INTERNAL) ? UPSTREAM_CODES_INTERNAL
                                                 : UPSTREAM_CODES_EXTERNAL;
}

/* What virtual clusters and routes with a stat_prefix count beside codes. */
static const struct stat_def named_defs[ROUTER_NAMED_STATS] = {
    [ROUTER_NAMED_RETRY] = {"upstream_rq_retry", STAT_COUNTER, 0},
    [ROUTER_NAMED_LIMIT_EXCEEDED] = {"upstream_rq_retry_limit_exceeded", STAT_COUNTER, 0},
    [ROUTER_NAMED_OVERFLOW] = {"upstream_rq_retry_overflow", STAT_COUNTER, 0},
    [ROUTER_NAMED_RETRY_SUCCESS] = {"upstream_rq_retry_success", STAT_COUNTER, 0},
    [ROUTER_NAMED_TIMEOUT] = {"upstream_rq_timeout", STAT_COUNTER, 0},
    [ROUTER_NAMED_TOTAL] = {"upstream_rq_total", STAT_COUNTER, 0},
};
enum { GROUP_CODES, GROUP_NAMED };

/* "vhost.<vh>.vcluster.<vc>." or "vhost.<vh>.route.<prefix>."; NULL: not configured. */
static struct stat_group *named_group(const struct router *r, const char *kind, struct str name,
                                      unsigned which)
{
    if (name.len == 0 || !r->info->vhost) return NULL;
    struct str prefix = str_fmt(r->info->arena, "vhost.%.*s.%s.%.*s.",
                                STR_ARG(r->info->vhost->name), kind, STR_ARG(name));
    if (which == GROUP_NAMED)
        return upstream_named_stats(r->f.worker, prefix, which, named_defs, ROUTER_NAMED_STATS);
    return upstream_named_stats(r->f.worker, prefix, which, code_stat_defs, CODE_STAT_COUNT);
}

static void named_count(const struct router *r, const char *kind, struct str name, uint32_t status)
{
    struct stat_group *g = named_group(r, kind, name, GROUP_CODES);
    if (g) code_stat_count(g, status);
}

void router_named_count(struct router *r, enum router_named stat)
{
    stat_inc(named_group(r, "vcluster", r->vcluster, GROUP_NAMED), stat);
    if (r->route) stat_inc(named_group(r, "route", r->route->stat_prefix, GROUP_NAMED), stat);
}

void router_charge(struct router *r, uint32_t status, const struct headers *resp)
{
    if (!r->uc || !r->conf->dynamic_stats || r->info->health_check) return;
    code_stat_count(upstream_code_stats(r->uc, UPSTREAM_CODES_ALL), status);
    code_stat_count(upstream_code_stats(r->uc, origin(r)), status);
    if (canary(r, resp)) code_stat_count(upstream_code_stats(r->uc, UPSTREAM_CODES_CANARY), status);
    named_count(r, "vcluster", r->vcluster, status);
    if (r->route) named_count(r, "route", r->route->stat_prefix, status);
    if (r->alt_stat.len == 0) return;
    struct str prefix = str_fmt(r->info->arena, "cluster.%.*s.%.*s.",
                                STR_ARG(r->info->up.cluster_stat), STR_ARG(r->alt_stat));
    code_stat_count(
        upstream_named_stats(r->f.worker, prefix, GROUP_CODES, code_stat_defs, CODE_STAT_COUNT),
        status);
}

void router_charge_retry(struct router *r, uint32_t status)
{
    if (!r->conf->dynamic_stats) return;
    code_stat_count(upstream_code_stats(r->uc, UPSTREAM_CODES_RETRY), status);
}

void router_charge_time(struct router *r)
{
    if (!r->conf->dynamic_stats || r->info->health_check || !r->request_done) return;
    uint64_t ms = (loop_now_us(r->f.worker->loop) - r->request_done_us) / 1000;
    stat_record(upstream_code_stats(r->uc, UPSTREAM_CODES_ALL), CODE_STAT_TIME, ms);
    stat_record(upstream_code_stats(r->uc, origin(r)), CODE_STAT_TIME, ms);
    if (canary(r, r->info->resp))
        stat_record(upstream_code_stats(r->uc, UPSTREAM_CODES_CANARY), CODE_STAT_TIME, ms);
    struct stat_group *g = named_group(r, "vcluster", r->vcluster, GROUP_CODES);
    if (g) stat_record(g, CODE_STAT_TIME, ms);
    g = r->route ? named_group(r, "route", r->route->stat_prefix, GROUP_CODES) : NULL;
    if (g) stat_record(g, CODE_STAT_TIME, ms);
}
