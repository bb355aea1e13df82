/* Route tables and sets of scopes that no listener needs any more. Connections of the listener that
 * did are drained for a while and still look them up by name, so they stay published as long. */
#include "base/must.h"
#include "proxy/net/listener_manager.h"
#include "xds/xds_internal.h"

struct retired {
    struct list link;
    struct loop_timer timer;
    struct xds *x;
    enum table table;
    enum xds_kind kind;
    struct str name; /* heap */
};

static void retired_free_one(struct retired *r)
{
    list_remove(&r->link);
    loop_timer_stop(&r->timer);
    resource_keep(&r->name, STR_NONE);
    mem_free(r);
}

static void retired_over(struct loop_timer *t)
{
    struct retired *r = CONTAINER_OF(t, struct retired, timer);
    const struct resource *again = resource_find(r->x, r->kind, r->name);
    if (!again || !again->watchers) runtime_publish(r->x->env.rt, r->table, r->name, NULL);
    retired_free_one(r);
}

void retire(struct xds *x, enum table t, enum xds_kind kind, struct str name)
{
    struct retired *r = mem_alloc(sizeof *r);
    r->x = x;
    r->table = t;
    r->kind = kind;
    resource_keep(&r->name, name);
    list_push_back(&x->retired, &r->link);
    loop_timer_start(xds_loop(x), &r->timer, listener_manager_drain_us(x->env.listeners),
                     retired_over);
}

void retired_free(struct xds *x)
{
    LIST_FOREACH_SAFE (&x->retired, it, next)
        retired_free_one(CONTAINER_OF(it, struct retired, link));
}
