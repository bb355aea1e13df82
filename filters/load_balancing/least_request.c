/* envoy.load_balancing_policies.least_request: the least busy of some hosts drawn at random; with
 * weights earliest deadline first, where a host's weight shrinks with its active requests. */
#include <math.h>

#include "base/arena.h"
#include "base/rand.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/load_balancing_policies/least_request/v3/least_request.pb-c.h"
#include "filters/load_balancing/edf.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"

struct least_request_conf {
    uint32_t choices;
    bool full_scan;
    double bias; /* active_request_bias */
    struct str bias_key;
};
struct least_request {
    struct edf edf;
};
struct bias {
    double value;
};

static const void *least_request_conf_create(const struct conf_at *at, const ProtobufCMessage *msg)
{
    enum { CHOICES_USUAL = 2 };
    const Envoy__Extensions__LoadBalancingPolicies__LeastRequest__V3__LeastRequest *m =
        (const void *)msg;
    struct least_request_conf *c = ARENA_NEW(conf_arena(at), struct least_request_conf);
    c->choices = m && m->choice_count ? m->choice_count->value : CHOICES_USUAL;
    c->bias = 1;
    if (!m) return c;
    c->full_scan =
        m->selection_method ==
            ENVOY__EXTENSIONS__LOAD_BALANCING_POLICIES__LEAST_REQUEST__V3__LEAST_REQUEST__SELECTION_METHOD__FULL_SCAN ||
        (m->enable_full_scan && m->enable_full_scan->value);
    if (m->active_request_bias) {
        c->bias = m->active_request_bias->default_value;
        c->bias_key = str_dup(conf_arena(at), str_of(m->active_request_bias->runtime_key));
    }
    return c;
}

static void least_request_init(void *cursor, const void *conf, struct worker *w)
{
    (void)conf;
    ((struct least_request *)cursor)->edf.seed = rng_next(&w->rng);
}

/* Envoy: weight / (active + 1) ^ bias. */
static double least_request_weight(const void *arg, const struct host *h)
{
    const struct bias *bias = arg;
    double active = host_active_requests(h) + 1.0;
    if (bias->value <= 0) return host_weight(h);
    if (bias->value >= 1 && bias->value <= 1) return host_weight(h) / active;
    return host_weight(h) / pow(active, bias->value);
}

static struct host *least_busy(struct worker *w, const struct lb_hosts *hosts, uint32_t choices)
{
    struct host *best = NULL;
    for (uint32_t i = 0; i < choices; i++) {
        struct host *h = hosts->v[rng_below(&w->rng, hosts->count)];
        if (!best || host_active_requests(h) < host_active_requests(best)) best = h;
    }
    return best;
}

/* Of all hosts; equally busy ones have equal chances. */
static struct host *least_busy_of_all(struct worker *w, const struct lb_hosts *hosts)
{
    struct host *best = NULL;
    uint32_t equal = 0;
    for (uint32_t i = 0; i < hosts->count; i++) {
        struct host *h = hosts->v[i];
        uint32_t have = host_active_requests(h), least = best ? host_active_requests(best) : 0;
        if (!best || have < least) {
            best = h;
            equal = 1;
        } else if (have == least && rng_below(&w->rng, ++equal) == 0) {
            best = h;
        }
    }
    return best;
}

static struct host *least_request_pick(void *cursor, const void *conf, const void *table,
                                       const struct lb_hosts *hosts, const struct lb_ask *ask)
{
    (void)table;
    struct least_request *l = cursor;
    const struct least_request_conf *c = conf;
    if (hosts->weighted) {
        struct bias bias = {c->bias_key.len > 0 ? runtime_double(ask->worker, c->bias_key, c->bias)
                                                : c->bias};
        return edf_pick(&l->edf, hosts, least_request_weight, &bias);
    }
    return c->full_scan ? least_busy_of_all(ask->worker, hosts)
                        : least_busy(ask->worker, hosts, c->choices);
}

static void least_request_release(void *cursor)
{
    edf_release(&((struct least_request *)cursor)->edf);
}

const struct lb_policy_type least_request_policy = {
    .foresees = true,
    .ext =
        {.name = "envoy.load_balancing_policies.least_request",
         .config =
             &envoy__extensions__load_balancing_policies__least_request__v3__least_request__descriptor},
    .cursor_size = sizeof(struct least_request),
    .conf_create = least_request_conf_create,
    .cursor_init = least_request_init,
    .pick = least_request_pick,
    .cursor_release = least_request_release,
};
