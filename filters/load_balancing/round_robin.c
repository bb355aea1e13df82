/* envoy.load_balancing_policies.round_robin: in turn; with weights earliest deadline first. */
#include "base/rand.h"
#include "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.pb-c.h"
#include "filters/load_balancing/edf.h"
#include "proxy/runtime/runtime.h"

struct round_robin {
    uint64_t next;
    struct edf edf;
};

static void round_robin_init(void *cursor, const void *conf, struct worker *w)
{
    (void)conf;
    struct round_robin *r = cursor;
    r->next = r->edf.seed = rng_next(&w->rng);
}

static double round_robin_weight(const void *arg, const struct host *h)
{
    (void)arg;
    return host_weight(h);
}

static struct host *round_robin_pick(void *cursor, const void *conf, const void *table,
                                     const struct lb_hosts *hosts, const struct lb_ask *ask)
{
    (void)conf, (void)table, (void)ask;
    struct round_robin *r = cursor;
    if (hosts->weighted) return edf_pick(&r->edf, hosts, round_robin_weight, NULL);
    return hosts->v[r->next++ % hosts->count];
}

static void round_robin_release(void *cursor)
{
    edf_release(&((struct round_robin *)cursor)->edf);
}

const struct lb_policy_type round_robin_policy = {
    .foresees = true,
    .ext =
        {.name = "envoy.load_balancing_policies.round_robin",
         .config =
             &envoy__extensions__load_balancing_policies__round_robin__v3__round_robin__descriptor},
    .cursor_size = sizeof(struct round_robin),
    .cursor_init = round_robin_init,
    .pick = round_robin_pick,
    .cursor_release = round_robin_release,
};
