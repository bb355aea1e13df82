/* envoy.load_balancing_policies.maglev: a table of prime size that each host fills along its own
 * permutation, in turn. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "envoy/extensions/load_balancing_policies/common/v3/common.pb-c.h"
#include "envoy/extensions/load_balancing_policies/maglev/v3/maglev.pb-c.h"
#include "filters/load_balancing/hashing.h"
#include "google/protobuf/wrappers.pb-c.h"

enum { MAGLEV_SIZE = 65537 };

struct maglev_conf {
    uint64_t size;
    bool by_hostname;
};
struct maglev_entry {
    struct hashed_host host;
    uint64_t offset, skip, next;
    double target;
};
struct maglev {
    uint64_t size;
    struct host *v[];
};

static bool is_prime(uint64_t n)
{
    if (n < 2) return false;
    for (uint64_t d = 2; d * d <= n; d++) {
        if (n % d == 0) return false;
    }
    return true;
}

static const void *maglev_conf_create(const struct conf_at *at, const ProtobufCMessage *msg)
{
    const Envoy__Extensions__LoadBalancingPolicies__Maglev__V3__Maglev *m = (const void *)msg;
    struct maglev_conf *c = ARENA_NEW(conf_arena(at), struct maglev_conf);
    c->size = m && m->table_size ? m->table_size->value : MAGLEV_SIZE;
    if (!is_prime(c->size)) {
        conf_fail(at, "The table size of maglev must be prime number");
        return NULL;
    }
    const Envoy__Extensions__LoadBalancingPolicies__Common__V3__ConsistentHashingLbConfig *h =
        m ? m->consistent_hashing_lb_config : NULL;
    if (h && h->hash_balance_factor) {
        conf_fail(at, "hash_balance_factor is not supported");
        return NULL;
    }
    c->by_hostname = h && h->use_hostname_for_hashing;
    return c;
}

static int entry_order(const void *x, const void *y)
{
    const struct maglev_entry *a = x, *b = y;
    return str_cmp(a->host.key, b->host.key);
}

static uint64_t next_place(struct maglev_entry *e, uint64_t size)
{
    return (e->offset + e->skip * e->next++) % size;
}

static void table_fill(struct maglev *t, struct maglev_entry *v, uint32_t count, double max)
{
    uint64_t filled = 0;
    for (uint64_t round = 1; filled < t->size; round++) {
        for (uint32_t i = 0; i < count && filled < t->size; i++) {
            struct maglev_entry *e = &v[i];
            /* Envoy: the heaviest host takes a place in every round, one with a third of its weight
             * in every third. */
            if ((double)round * e->host.weight < e->target) continue;
            e->target += max;
            uint64_t at = next_place(e, t->size);
            while (t->v[at])
                at = next_place(e, t->size);
            t->v[at] = e->host.host;
            filled++;
        }
    }
}

static const void *maglev_table_create(struct arena *a, const void *conf,
                                       const struct lb_hosts *hosts)
{
    const struct maglev_conf *c = conf;
    double min, max;
    struct hashed_host *h = hashing_hosts(a, hosts, c->by_hostname, &min, &max);
    struct maglev *t = arena_alloc(a, sizeof(*t) + c->size * sizeof(t->v[0]));
    struct maglev_entry *v = ARENA_ARRAY(a, struct maglev_entry, hosts->count);
    t->size = c->size;
    for (uint32_t i = 0; i < hosts->count; i++) {
        v[i].host = h[i];
        v[i].offset = hash_xxh64(h[i].key, 0) % c->size;
        v[i].skip = hash_xxh64(h[i].key, 1) % (c->size - 1) + 1;
    }
    qsort(v, hosts->count, sizeof(*v), entry_order);
    table_fill(t, v, hosts->count, max);
    return t;
}

static struct host *maglev_pick(void *cursor, const void *conf, const void *table,
                                const struct lb_hosts *hosts, const struct lb_ask *ask)
{
    (void)cursor, (void)conf, (void)hosts;
    const struct maglev *t = table;
    uint64_t hash = hashing_of(ask);
    if (!t) return NULL;
    if (ask->attempt > 0)
        hash ^= ~0ull - ask->attempt + 1; /* another choice for the same request */
    return t->v[hash % t->size];
}

const struct lb_policy_type maglev_policy = {
    .ext = {.name = "envoy.load_balancing_policies.maglev",
            .config = &envoy__extensions__load_balancing_policies__maglev__v3__maglev__descriptor},
    .needs_hash = true,
    .conf_create = maglev_conf_create,
    .table_create = maglev_table_create,
    .pick = maglev_pick,
};
