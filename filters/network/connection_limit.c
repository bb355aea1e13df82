/* envoy.filters.network.connection_limit: at most so many connections at a time through this
 * filter, over all workers. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/filters/network/connection_limit/v3/connection_limit.pb-c.h"
#include "filters/common/feature.h"
#include "filters/common/stats.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/network_filter.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"
#include "proxy/runtime/values.h"

#include <stdatomic.h>

enum limit_stat { LIMIT_ACTIVE, LIMIT_LIMITED, LIMIT_STAT_COUNT };
static const struct stat_def limit_defs[LIMIT_STAT_COUNT] = {
    [LIMIT_ACTIVE] = {"active_connections", STAT_GAUGE, 0},
    [LIMIT_LIMITED] = {"limited_connections", STAT_COUNTER, 0},
};

struct limit_conf {
    struct feature enabled;
    uint64_t most;
    uint64_t delay_us; /* how long a connection too many is kept waiting; 0: closed at once */
    struct stat_group *stats;
    _Atomic uint64_t *open; /* of all workers, relaxed; the one thing here that changes */
};
struct limit_filter {
    struct network_filter base;
    struct loop_timer timer;
    bool counted, in_gauge;
};

static const void *limit_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                     const struct network_filter_place *place)
{
    (void)place;
    const Envoy__Extensions__Filters__Network__ConnectionLimit__V3__ConnectionLimit *m =
        (const void *)msg;
    struct arena *a = conf_arena(at);
    struct limit_conf *c = ARENA_NEW(a, struct limit_conf);
    struct conf_at delay = conf_field(at, "delay");
    struct conf_at most = conf_field(at, "max_connections");
    bool ok = m->max_connections || conf_fail(&most, "value is required");
    c->most = m->max_connections ? m->max_connections->value : 0;
    c->enabled = feature_create(a, m->runtime_enabled);
    c->open = arena_alloc(a, sizeof *c->open);
    c->stats = conf_stat_group(at, str_fmt(a, "connection_limit.%s.", m->stat_prefix), limit_defs,
                               LIMIT_STAT_COUNT);
    return conf_duration(&delay, m->delay, 0, &c->delay_us) && ok ? c : NULL;
}

static struct limit_filter *limit_of(struct network_filter *f)
{
    return CONTAINER_OF(f, struct limit_filter, base);
}

static bool limit_take(const struct limit_conf *c)
{
    if (atomic_fetch_add_explicit(c->open, 1, memory_order_relaxed) < c->most) return true;
    atomic_fetch_sub_explicit(c->open, 1, memory_order_relaxed);
    return false;
}

static void limit_delay_over(struct loop_timer *t)
{
    struct limit_filter *l = CONTAINER_OF(t, struct limit_filter, timer);
    conn_close(l->base.conn, CONN_CLOSE_NOW);
}

static enum net_flow limit_on_new(struct network_filter *f)
{
    const struct limit_conf *c = f->conf;
    struct limit_filter *l = limit_of(f);
    bool on =
        c->enabled.key.len ? runtime_bool(f->worker, c->enabled.key, c->enabled.on) : c->enabled.on;
    if (!on) return NET_CONTINUE;
    stat_inc(c->stats, LIMIT_ACTIVE);
    l->in_gauge = true;
    l->counted = limit_take(c);
    if (l->counted) return NET_CONTINUE;
    stat_inc(c->stats, LIMIT_LIMITED);
    if (c->delay_us) {
        conn_pause_read(f->conn, true);
        loop_timer_start(f->worker->loop, &l->timer, c->delay_us, limit_delay_over);
    } else {
        conn_close(f->conn, CONN_CLOSE_NOW);
    }
    return NET_HOLD;
}

static enum net_flow limit_on_read(struct network_filter *f, struct buf *data, bool end)
{
    (void)data, (void)end;
    const struct limit_filter *l = limit_of(f);
    return l->in_gauge && !l->counted ? NET_HOLD : NET_CONTINUE;
}

static void limit_on_close(struct network_filter *f)
{
    const struct limit_conf *c = f->conf;
    struct limit_filter *l = limit_of(f);
    loop_timer_stop(&l->timer);
    if (l->counted) atomic_fetch_sub_explicit(c->open, 1, memory_order_relaxed);
    if (l->in_gauge) stat_dec(c->stats, LIMIT_ACTIVE);
    l->counted = l->in_gauge = false;
}

const struct network_filter_type network_connection_limit = {
    .ext =
        {.name = "envoy.filters.network.connection_limit",
         .config =
             &envoy__extensions__filters__network__connection_limit__v3__connection_limit__descriptor},
    .instance_size = sizeof(struct limit_filter),
    .conf_create = limit_conf_create,
    .on_new = limit_on_new,
    .on_read = limit_on_read,
    .on_close = limit_on_close,
};
