/* envoy.load_balancing_policies.random: any host, whatever its weight. */
#include "base/rand.h"
#include "envoy/extensions/load_balancing_policies/random/v3/random.pb-c.h"
#include "proxy/api/lb_policy.h"
#include "proxy/runtime/runtime.h"

static struct host *random_pick(void *cursor, const void *conf, const void *table,
                                const struct lb_hosts *hosts, const struct lb_ask *ask)
{
    (void)cursor, (void)conf, (void)table;
    return hosts->v[rng_below(&ask->worker->rng, hosts->count)];
}

const struct lb_policy_type random_policy = {
    .foresees = true,
    .ext = {.name = "envoy.load_balancing_policies.random",
            .config = &envoy__extensions__load_balancing_policies__random__v3__random__descriptor},
    .pick = random_pick,
};
