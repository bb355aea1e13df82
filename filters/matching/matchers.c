/* Matchers of predicates beyond texts: address ranges, metadata values, shares by hash. */
#include "base/addr.h"
#include "base/arena.h"
#include "base/map.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/matching/input_matchers/consistent_hashing/v3/consistent_hashing.pb-c.h"
#include "envoy/extensions/matching/input_matchers/ip/v3/ip.pb-c.h"
#include "envoy/extensions/matching/input_matchers/metadata/v3/metadata.pb-c.h"
#include "envoy/extensions/matching/input_matchers/runtime_fraction/v3/runtime_fraction.pb-c.h"
#include "filters/common/stats.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/match_tree.h"
#include "proxy/runtime/values.h"

/* --- ranges of addresses
 * ---------------------------------------------------------------------------- */

static const struct stat_def ip_stats[] = {{"ip_parsing_failed", STAT_COUNTER, 0}};

struct ip_conf {
    const struct cidr *ranges;
    size_t count;
    struct stat_group *stats;
};

static const void *ip_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Matching__InputMatchers__Ip__V3__Ip *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct ip_conf *c = ARENA_NEW(a, struct ip_conf);
    struct cidr *v = ARENA_ARRAY(a, struct cidr, m->n_cidr_ranges);
    bool ok = true;
    for (size_t i = 0; i < m->n_cidr_ranges; i++) {
        struct conf_at place = conf_index(at, "cidr_ranges", i);
        const Envoy__Config__Core__V3__CidrRange *r = m->cidr_ranges[i];
        ok &= conf_cidr(&place, str_of(r->address_prefix), r->prefix_len ? r->prefix_len->value : 0,
                        &v[i]);
    }
    c->ranges = v;
    c->count = m->n_cidr_ranges;
    c->stats = conf_stat_group(at, str_fmt(a, "%s.", m->stat_prefix), ip_stats, 1);
    return ok ? c : NULL;
}

static bool ip_fits(const void *conf, const struct match_ask *ask, const struct match_value *v)
{
    (void)ask;
    const struct ip_conf *c = conf;
    struct addr x;
    if (!v->present || !v->text.len) return false;
    if (!addr_parse_ip(v->text, 0, &x)) {
        stat_inc(c->stats, 0);
        return false;
    }
    for (size_t i = 0; i < c->count; i++) {
        if (cidr_contains(&c->ranges[i], &x)) return true;
    }
    return false;
}

/* --- metadata
 * --------------------------------------------------------------------------------------- */

struct metadata_conf {
    struct value_matcher value;
    bool invert;
};

static const void *metadata_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Matching__InputMatchers__Metadata__V3__Metadata *m = (const void *)msg;
    struct metadata_conf *c = ARENA_NEW(conf_arena(at), struct metadata_conf);
    struct conf_at place = conf_field(at, "value");
    c->invert = m->invert;
    return conf_value_matcher(&place, m->value, &c->value) ? c : NULL;
}

static bool metadata_fits(const void *conf, const struct match_ask *ask,
                          const struct match_value *v)
{
    (void)ask;
    const struct metadata_conf *c = conf;
    return value_match(&c->value, v->value) != c->invert;
}

/* --- shares
 * ----------------------------------------------------------------------------------------- */

struct hashing_conf {
    uint64_t seed;
    uint32_t threshold, modulo;
};

static const void *hashing_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Matching__InputMatchers__ConsistentHashing__V3__ConsistentHashing *m =
        (const void *)msg;
    struct hashing_conf *c = ARENA_NEW(conf_arena(at), struct hashing_conf);
    *c = (struct hashing_conf){.seed = m->seed, .threshold = m->threshold, .modulo = m->modulo};
    if (m->threshold > m->modulo) {
        conf_fail(at, "threshold cannot be greater than modulo: %u > %u", m->threshold, m->modulo);
        return NULL;
    }
    return c;
}

static bool hashing_fits(const void *conf, const struct match_ask *ask, const struct match_value *v)
{
    (void)ask;
    const struct hashing_conf *c = conf;
    return v->present && hash_xxh64(v->text, c->seed) % c->modulo >= c->threshold;
}

struct fraction_conf {
    struct conf_fraction fraction;
    uint64_t seed;
};

static const void *fraction_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Matching__InputMatchers__RuntimeFraction__V3__RuntimeFraction *m =
        (const void *)msg;
    struct fraction_conf *c = ARENA_NEW(conf_arena(at), struct fraction_conf);
    struct conf_at place = conf_field(at, "runtime_fraction");
    c->fraction = conf_runtime_fraction(&place, m->runtime_fraction);
    c->seed = m->seed;
    return c;
}

static bool fraction_fits(const void *conf, const struct match_ask *ask,
                          const struct match_value *v)
{
    const struct fraction_conf *c = conf;
    return v->present &&
           runtime_fraction(ask->worker, c->fraction.runtime_key, c->fraction.numerator,
                            c->fraction.denominator, hash_xxh64(v->text, c->seed));
}

#define INPUT_MATCHER(symbol, text, message, ...)                                                 \
    const struct match_matcher_type symbol = {                                                    \
        .ext = {.name = "envoy.matching.matchers." text,                                          \
                .config = &envoy__extensions__matching__input_matchers__##message##__descriptor}, \
        __VA_ARGS__}

INPUT_MATCHER(matcher_ip, "ip", ip__v3__ip, .conf_create = ip_create, .fits = ip_fits);
INPUT_MATCHER(matcher_metadata, "metadata_matcher", metadata__v3__metadata,
              .data = MATCH_DATA_METADATA, .conf_create = metadata_create, .fits = metadata_fits);
INPUT_MATCHER(matcher_consistent_hashing, "consistent_hashing",
              consistent_hashing__v3__consistent_hashing, .conf_create = hashing_create,
              .fits = hashing_fits);
INPUT_MATCHER(matcher_runtime_fraction, "runtime_fraction", runtime_fraction__v3__runtime_fraction,
              .conf_create = fraction_create, .fits = fraction_fits);
