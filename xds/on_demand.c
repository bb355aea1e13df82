/* What workers ask for while requests wait: who waits for what, and the answers. Clusters (ODCDS)
 * are handled here; virtual hosts and scopes in their kinds' files, secrets in demand_secret.c. */
#include "proxy/api/on_demand.h"

#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/source.h"
#include "xds/xds_internal.h"

/* Names that requests made us ask for and that nobody has confirmed: what clients say must not grow
 * without limit. */
enum { DEMANDS_MOST = 10000 };
/* Requests that wait, also those that were given up meanwhile: their calls stay until the answer.
 */
enum { WAITING_MOST = 65536 };

/* All who wait for one thing. Lives in xds.demands. */
struct demand {
    struct xds *x;
    struct str key; /* heap */
    struct on_demand_call **calls;
    size_t count, cap;
    struct loop_timer timer;
};

static struct str demand_key(struct arena *a, enum on_demand_kind kind, struct str name)
{
    return str_fmt(a, "%d/%.*s", (int)kind, STR_ARG(name));
}

static void demand_end(struct demand *d, bool found)
{
    (void)map_remove(&d->x->demands, d->key);
    d->x->asking -= d->count;
    loop_timer_stop(&d->timer);
    for (size_t i = 0; i < d->count; i++)
        on_demand_answer(d->calls[i], found);
    mem_free(d->calls);
    resource_keep(&d->key, STR_NONE);
    mem_free(d);
}

static void demand_timed_out(struct loop_timer *t)
{
    demand_end(CONTAINER_OF(t, struct demand, timer), false);
}

bool demand_full(const struct xds *x)
{
    return x->demanded >= DEMANDS_MOST || x->demands.count >= DEMANDS_MOST;
}

void demand_wait(struct xds *x, struct str name, struct on_demand_call *call)
{
    const struct on_demand_question *q = on_demand_question(call);
    if (x->asking >= WAITING_MOST) {
        on_demand_answer(call, false);
        return;
    }
    x->asking++;
    struct arena *a = arena_new("scratch", 0);
    struct str key = demand_key(a, q->kind, name);
    struct demand *d = map_get(&x->demands, key);
    if (!d) {
        d = mem_alloc(sizeof *d);
        d->x = x;
        resource_keep(&d->key, key);
        (void)map_put(&x->demands, d->key, d); /* was absent */
        if (q->timeout_us)
            loop_timer_start(xds_loop(x), &d->timer, q->timeout_us, demand_timed_out);
    }
    if (d->count == d->cap) {
        d->cap = d->cap ? d->cap * 2 : 4;
        d->calls = mem_realloc(d->calls, d->cap * sizeof *d->calls);
    }
    d->calls[d->count++] = call;
    arena_free(&a);
}

void demand_answer(struct xds *x, enum on_demand_kind kind, struct str name, bool found)
{
    if (!x->demands.count) return;
    struct arena *a = arena_new("scratch", 0);
    struct demand *d = map_get(&x->demands, demand_key(a, kind, name));
    arena_free(&a);
    if (d) demand_end(d, found);
}

void demand_answer_known(struct xds *x, enum on_demand_kind kind, const struct map *names)
{
    size_t it = 0;
    struct str key, prefix, name;
    void *value;
    while (map_next(&x->demands, &it, &key, &value)) {
        if (key.ptr[0] != '0' + (int)kind || !str_cut(key, '/', &prefix, &name)) continue;
        if (map_get(names, name)) demand_end(value, true);
    }
}

void demands_free(struct xds *x)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&x->demands, &it, &key, &value))
        demand_end(value, false);
    map_release(&x->demands);
}

struct source *demand_source(struct xds *x, enum xds_kind kind, const void *config,
                             enum log_component component, const char *what, struct str name)
{
    struct errors errors = {.arena = arena_new("errors", 0)};
    struct conf_cx cx = {.arena = errors.arena,
                         .errors = &errors,
                         .registry = x->env.registry,
                         .rt = x->env.rt,
                         .opts = &x->env.dynamic_opts};
    struct conf_at at = conf_root(&cx);
    struct source *s = source_get(x, kind, config, &at);
    if (!s) {
        struct str why = errors_text(&errors, errors.arena, STR_NONE);
        log_warn(component, "%s \"%.*s\" cannot be asked for: %.*s", what, STR_ARG(name),
                 STR_ARG(why));
    }
    arena_free(&errors.arena);
    return s;
}

void demand_watch(struct resource *r, struct source *s)
{
    r->source = s;
    r->demanded = true;
    r->x->demanded++;
    resource_subscribe(r, 0);
}

void demand_unwatch(struct resource *r)
{
    if (!r->demanded) return;
    r->demanded = false;
    r->x->demanded--;
    r->watchers--;
    source_unwatch(r->source, r->kind, r->name);
}

/* --- clusters
 * ------------------------------------------------------------------------------------------
 */

static bool demand_cluster_subscribe(struct resource *r, const void *source)
{
    struct xds *x = r->x;
    struct source *s = demand_source(x, XDS_CLUSTER, source, LOG_C_UPSTREAM, "cluster", r->name);
    if (!s) return false;
    if (!r->stats)
        r->stats = stat_group_get(x->env.rt->stats, STR("cluster_manager.odcds."), sub_stat_defs,
                                  SUB_COUNT);
    demand_watch(r, s);
    return true;
}

static void demand_cluster(struct xds *x, struct on_demand_call *call)
{
    const struct on_demand_question *q = on_demand_question(call);
    if (cluster_manager_active(x->env.clusters, q->name)) {
        on_demand_answer(call, true);
        return;
    }
    struct resource *r = resource_get(x, XDS_CLUSTER, q->name);
    bool known = r->present || r->is_static || r->watchers;
    if (!known && (demand_full(x) || !demand_cluster_subscribe(r, q->source))) {
        resource_forget(r);
        on_demand_answer(call, false);
        return;
    }
    demand_wait(x, r->name, call);
}

void demand_cluster_active(struct xds *x, struct str name)
{
    if (cluster_manager_active(x->env.clusters, name))
        demand_answer(x, ON_DEMAND_CLUSTER, name, true);
}

static void xds_asked(void *arg, struct on_demand_call *call)
{
    struct xds *x = arg;
    if (x->phase == XDS_STOPPED) {
        on_demand_answer(call, false);
        return;
    }
    switch (on_demand_question(call)->kind) {
    case ON_DEMAND_VIRTUAL_HOST: vhds_asked(x, call); return;
    case ON_DEMAND_SCOPE: scope_asked(x, call); return;
    case ON_DEMAND_CLUSTER: demand_cluster(x, call); return;
    case ON_DEMAND_SECRET: secret_asked(x, call); return;
    }
}

static void xds_prefetch(void *arg, const struct tls_on_demand *who, struct str name)
{
    struct xds *x = arg;
    if (x->phase != XDS_STOPPED) (void)secret_demand(x, who, name);
}

static void xds_left(void *arg, const struct tls_on_demand *who)
{
    secret_demand_left(arg, who);
}

void demands_serve(struct xds *x)
{
    static const struct on_demand_ops ops = {
        .asked = xds_asked, .prefetch = xds_prefetch, .left = xds_left};
    on_demand_serve(x->env.rt, &ops, x);
}
