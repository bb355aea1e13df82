/* envoy.load_balancing_policies.ring_hash: a ring of hashes, each host on it as often as its weight
 * says (ketama). Keys land where Envoy puts them: xxHash64, or MurmurHash2 with the seed of
 * libstdc++, of "<key>_<n>". */
#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "envoy/extensions/load_balancing_policies/common/v3/common.pb-c.h"
#include "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.pb-c.h"
#include "filters/load_balancing/hashing.h"
#include "google/protobuf/wrappers.pb-c.h"

enum { RING_MIN = 1024, RING_MAX = 8 * 1024 * 1024 };

struct ring_conf {
    uint64_t min, max;
    bool murmur, by_hostname;
};
struct ring_entry {
    uint64_t hash;
    struct host *host;
};
struct ring {
    size_t count;
    struct ring_entry v[];
};

static uint64_t load64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* MurmurHash64A. */
static uint64_t murmur(struct str s)
{
    const uint64_t seed = 0xc70f6907, mul = 0xc6a4a7935bd1e995ull;
    uint64_t h = seed ^ (s.len * mul);
    size_t whole = s.len & ~(size_t)7;
    for (size_t i = 0; i < whole; i += 8) {
        uint64_t k = load64(s.ptr + i) * mul;
        k = (k ^ (k >> 47)) * mul;
        h = (h ^ k) * mul;
    }
    if (s.len > whole) {
        uint64_t k = 0;
        memcpy(&k, s.ptr + whole, s.len - whole);
        h = (h ^ k) * mul;
    }
    h = (h ^ (h >> 47)) * mul;
    return h ^ (h >> 47);
}

static const void *ring_conf_create(const struct conf_at *at, const ProtobufCMessage *msg)
{
    const Envoy__Extensions__LoadBalancingPolicies__RingHash__V3__RingHash *m = (const void *)msg;
    struct ring_conf *c = ARENA_NEW(conf_arena(at), struct ring_conf);
    c->min = m && m->minimum_ring_size ? m->minimum_ring_size->value : RING_MIN;
    c->max = m && m->maximum_ring_size ? m->maximum_ring_size->value : RING_MAX;
    if (c->min > c->max) {
        conf_fail(at, "ring hash: minimum_ring_size (%llu) > maximum_ring_size (%llu)",
                  (unsigned long long)c->min, (unsigned long long)c->max);
        return NULL;
    }
    if (!m) return c;
    c->murmur =
        m->hash_function ==
        ENVOY__EXTENSIONS__LOAD_BALANCING_POLICIES__RING_HASH__V3__RING_HASH__HASH_FUNCTION__MURMUR_HASH_2;
    const Envoy__Extensions__LoadBalancingPolicies__Common__V3__ConsistentHashingLbConfig *h =
        m->consistent_hashing_lb_config;
    c->by_hostname = h ? h->use_hostname_for_hashing : m->use_hostname_for_hashing;
    if (m->hash_balance_factor || (h && h->hash_balance_factor)) {
        conf_fail(at, "hash_balance_factor is not supported");
        return NULL;
    }
    return c;
}

static int entry_order(const void *x, const void *y)
{
    const struct ring_entry *a = x, *b = y;
    return a->hash < b->hash ? -1 : a->hash > b->hash;
}

/* Envoy: the scale gives the lightest host a whole number of hashes, within the ring's limits. */
static const void *ring_table_create(struct arena *a, const void *conf,
                                     const struct lb_hosts *hosts)
{
    const struct ring_conf *c = conf;
    double min, max;
    struct hashed_host *v = hashing_hosts(a, hosts, c->by_hostname, &min, &max);
    double scale = fmin(ceil(min * (double)c->min) / min, (double)c->max);
    size_t size = (size_t)ceil(scale);
    struct ring *r = arena_alloc(a, sizeof(*r) + (size + 1) * sizeof(r->v[0]));
    struct sb key = {0};
    double target = 0;
    for (uint32_t i = 0; i < hosts->count; i++) {
        target += scale * v[i].weight;
        for (uint64_t n = 0; (double)r->count < target && r->count <= size; n++) {
            sb_clear(&key);
            sb_add(&key, v[i].key);
            sb_char(&key, '_');
            sb_u64(&key, n);
            uint64_t hash = c->murmur ? murmur(sb_str(&key)) : hash_xxh64(sb_str(&key), 0);
            r->v[r->count++] = (struct ring_entry){hash, v[i].host};
        }
    }
    sb_release(&key);
    qsort(r->v, r->count, sizeof(r->v[0]), entry_order);
    return r;
}

static struct host *ring_pick(void *cursor, const void *conf, const void *table,
                              const struct lb_hosts *hosts, const struct lb_ask *ask)
{
    (void)cursor, (void)conf, (void)hosts;
    const struct ring *r = table;
    uint64_t hash = hashing_of(ask);
    if (!r || r->count == 0) return NULL;
    size_t low = 0, high = r->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (r->v[mid].hash < hash)
            low = mid + 1;
        else
            high = mid;
    }
    return r->v[(low + ask->attempt) % r->count].host;
}

const struct lb_policy_type ring_hash_policy = {
    .ext = {.name = "envoy.load_balancing_policies.ring_hash",
            .config =
                &envoy__extensions__load_balancing_policies__ring_hash__v3__ring_hash__descriptor},
    .needs_hash = true,
    .conf_create = ring_conf_create,
    .table_create = ring_table_create,
    .pick = ring_pick,
};
