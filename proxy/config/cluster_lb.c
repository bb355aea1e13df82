/* Balancing: the lb_policy enum with its deprecated options, load_balancing_policy, and
 * common_lb_config. */
#include "base/arena.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/core/v3/health_check.pb-c.h"
#include "envoy/extensions/load_balancing_policies/common/v3/common.pb-c.h"
#include "envoy/extensions/load_balancing_policies/least_request/v3/least_request.pb-c.h"
#include "envoy/extensions/load_balancing_policies/maglev/v3/maglev.pb-c.h"
#include "envoy/extensions/load_balancing_policies/random/v3/random.pb-c.h"
#include "envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.pb-c.h"
#include "envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.pb-c.h"
#include "envoy/extensions/load_balancing_policies/wrr_locality/v3/wrr_locality.pb-c.h"
#include "envoy/type/metadata/v3/metadata.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/cluster_internal.h"

static void locality_apply(
    const Envoy__Extensions__LoadBalancingPolicies__Common__V3__LocalityLbConfig *m,
    struct cluster *c)
{
    if (!m) return;
    if (m->locality_config_specifier_case ==
        ENVOY__EXTENSIONS__LOAD_BALANCING_POLICIES__COMMON__V3__LOCALITY_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        c->locality_weighted = true;
    else if (m->zone_aware_lb_config)
        c->fail_on_panic = m->zone_aware_lb_config->fail_traffic_on_panic;
}

/* What a typed policy says about localities. */
static void locality_of(const ProtobufCMessage *m, struct cluster *c)
{
    const void *x = m;
    if (m->descriptor ==
        &envoy__extensions__load_balancing_policies__round_robin__v3__round_robin__descriptor)
        locality_apply(
            ((const Envoy__Extensions__LoadBalancingPolicies__RoundRobin__V3__RoundRobin *)x)
                ->locality_lb_config,
            c);
    else if (
        m->descriptor ==
        &envoy__extensions__load_balancing_policies__least_request__v3__least_request__descriptor)
        locality_apply(
            ((const Envoy__Extensions__LoadBalancingPolicies__LeastRequest__V3__LeastRequest *)x)
                ->locality_lb_config,
            c);
    else if (m->descriptor ==
             &envoy__extensions__load_balancing_policies__random__v3__random__descriptor)
        locality_apply(((const Envoy__Extensions__LoadBalancingPolicies__Random__V3__Random *)x)
                           ->locality_lb_config,
                       c);
    else if (m->descriptor ==
             &envoy__extensions__load_balancing_policies__ring_hash__v3__ring_hash__descriptor)
        c->locality_weighted |=
            ((const Envoy__Extensions__LoadBalancingPolicies__RingHash__V3__RingHash *)x)
                ->locality_weighted_lb_config != NULL;
    else if (m->descriptor ==
             &envoy__extensions__load_balancing_policies__maglev__v3__maglev__descriptor)
        c->locality_weighted |=
            ((const Envoy__Extensions__LoadBalancingPolicies__Maglev__V3__Maglev *)x)
                ->locality_weighted_lb_config != NULL;
}

static bool policy_list(const struct conf_at *at,
                        const Envoy__Config__Cluster__V3__LoadBalancingPolicy *m, struct cluster *c,
                        int depth);

/* WrrLocality: localities by weight, then the inner policy. */
static bool policy_wrr(const struct conf_at *at, const Google__Protobuf__Any *any,
                       struct cluster *c, int depth)
{
    struct proto_path path = proto_path_root(conf_path(at));
    const ProtobufCMessage *m = proto_any_unpack(
        conf_arena(at), any,
        &envoy__extensions__load_balancing_policies__wrr_locality__v3__wrr_locality__descriptor,
        at->cx->opts, &path, at->cx->errors);
    if (!m) return false;
    c->locality_weighted = true;
    const Envoy__Extensions__LoadBalancingPolicies__WrrLocality__V3__WrrLocality *wrr =
        (const void *)m;
    struct conf_at here = conf_field(at, "endpoint_picking_policy");
    return policy_list(&here, wrr->endpoint_picking_policy, c, depth + 1);
}

static bool policy_use(const struct conf_at *at,
                       const Envoy__Config__Core__V3__TypedExtensionConfig *m, struct cluster *c)
{
    const ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(at, EXTENSION_LB_POLICY, str_of(m->name), m->typed_config, &msg);
    if (!e) return false;
    c->lb = (const struct lb_policy_type *)e;
    if (msg) locality_of(msg, c);
    struct conf_at here = conf_field(at, "typed_config");
    if (!c->lb->conf_create) return true;
    c->lb_conf = c->lb->conf_create(&here, msg);
    return c->lb_conf != NULL;
}

static bool policy_list(const struct conf_at *at,
                        const Envoy__Config__Cluster__V3__LoadBalancingPolicy *m, struct cluster *c,
                        int depth)
{
    enum { DEPTH_MOST = 8 };
    static const char wrr[] =
        "envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality";
    if (depth > DEPTH_MOST) return conf_fail(at, "policies are nested too deeply");
    for (size_t i = 0; m && i < m->n_policies; i++) {
        const Envoy__Config__Core__V3__TypedExtensionConfig *x =
            m->policies[i]->typed_extension_config;
        if (!x) continue;
        struct conf_at item = conf_index(at, "policies", i);
        struct conf_at here = conf_field(&item, "typed_extension_config");
        struct str name =
            x->typed_config ? proto_any_name(conf_arena(at), x->typed_config) : STR_NONE;
        if (str_eq(name, str_of(wrr))) return policy_wrr(&here, x->typed_config, c, depth);
        if (registry_find(at->cx->registry, EXTENSION_LB_POLICY, name, str_of(x->name)))
            return policy_use(&here, x, c);
    }
    struct sb names = {0};
    for (size_t i = 0; m && i < m->n_policies; i++) {
        if (!m->policies[i]->typed_extension_config) continue;
        sb_fmt(&names, "%s%s", names.len ? ", " : "", m->policies[i]->typed_extension_config->name);
    }
    conf_fail(
        at,
        "cluster: didn't find a registered load balancer factory implementation for cluster: '%.*s' with names from [%.*s]",
        STR_ARG(c->obj.name), STR_ARG(sb_str(&names)));
    sb_release(&names);
    return false;
}

bool conf_lb_child(const struct conf_at *at,
                   const Envoy__Config__Cluster__V3__LoadBalancingPolicy *m, struct lb_child *out)
{
    struct cluster inner = {.obj.name = at->cx->root};
    if (!policy_list(at, m, &inner, 1)) return false;
    if (inner.locality_weighted || inner.fail_on_panic)
        return conf_fail(at, "a policy inside another one cannot choose localities");
    *out = (struct lb_child){inner.lb, inner.lb_conf};
    return true;
}

/* --- the enum
 * ----------------------------------------------------------------------------------------------------------------------
 */
static const ProtobufCMessage *least_request_of(struct arena *a,
                                                const Envoy__Config__Cluster__V3__Cluster *m)
{
    if (m->lb_config_case != ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_LEAST_REQUEST_LB_CONFIG)
        return NULL;
    Envoy__Extensions__LoadBalancingPolicies__LeastRequest__V3__LeastRequest *x =
        ARENA_NEW(a, Envoy__Extensions__LoadBalancingPolicies__LeastRequest__V3__LeastRequest);
    envoy__extensions__load_balancing_policies__least_request__v3__least_request__init(x);
    x->choice_count = m->least_request_lb_config->choice_count;
    x->active_request_bias = m->least_request_lb_config->active_request_bias;
    return &x->base;
}

static const ProtobufCMessage *ring_hash_of(struct arena *a,
                                            const Envoy__Config__Cluster__V3__Cluster *m)
{
    Envoy__Extensions__LoadBalancingPolicies__RingHash__V3__RingHash *x =
        ARENA_NEW(a, Envoy__Extensions__LoadBalancingPolicies__RingHash__V3__RingHash);
    envoy__extensions__load_balancing_policies__ring_hash__v3__ring_hash__init(x);
    if (m->lb_config_case == ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_RING_HASH_LB_CONFIG) {
        x->minimum_ring_size = m->ring_hash_lb_config->minimum_ring_size;
        x->maximum_ring_size = m->ring_hash_lb_config->maximum_ring_size;
        bool murmur =
            m->ring_hash_lb_config->hash_function ==
            ENVOY__CONFIG__CLUSTER__V3__CLUSTER__RING_HASH_LB_CONFIG__HASH_FUNCTION__MURMUR_HASH_2;
        x->hash_function =
            murmur
                ? ENVOY__EXTENSIONS__LOAD_BALANCING_POLICIES__RING_HASH__V3__RING_HASH__HASH_FUNCTION__MURMUR_HASH_2
                : ENVOY__EXTENSIONS__LOAD_BALANCING_POLICIES__RING_HASH__V3__RING_HASH__HASH_FUNCTION__XX_HASH;
    }
    const Envoy__Config__Cluster__V3__Cluster__CommonLbConfig *common = m->common_lb_config;
    if (common && common->consistent_hashing_lb_config) {
        x->use_hostname_for_hashing =
            common->consistent_hashing_lb_config->use_hostname_for_hashing;
        x->hash_balance_factor = common->consistent_hashing_lb_config->hash_balance_factor;
    }
    return &x->base;
}

static const ProtobufCMessage *maglev_of(struct arena *a,
                                         const Envoy__Config__Cluster__V3__Cluster *m)
{
    Envoy__Extensions__LoadBalancingPolicies__Maglev__V3__Maglev *x =
        ARENA_NEW(a, Envoy__Extensions__LoadBalancingPolicies__Maglev__V3__Maglev);
    envoy__extensions__load_balancing_policies__maglev__v3__maglev__init(x);
    if (m->lb_config_case == ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_MAGLEV_LB_CONFIG)
        x->table_size = m->maglev_lb_config->table_size;
    const Envoy__Config__Cluster__V3__Cluster__CommonLbConfig *common = m->common_lb_config;
    if (common && common->consistent_hashing_lb_config) {
        Envoy__Extensions__LoadBalancingPolicies__Common__V3__ConsistentHashingLbConfig *h =
            ARENA_NEW(
                a, Envoy__Extensions__LoadBalancingPolicies__Common__V3__ConsistentHashingLbConfig);
        envoy__extensions__load_balancing_policies__common__v3__consistent_hashing_lb_config__init(
            h);
        h->use_hostname_for_hashing =
            common->consistent_hashing_lb_config->use_hostname_for_hashing;
        h->hash_balance_factor = common->consistent_hashing_lb_config->hash_balance_factor;
        x->consistent_hashing_lb_config = h;
    }
    return &x->base;
}

static bool policy_named(const struct conf_at *at, const char *name, const ProtobufCMessage *msg,
                         struct cluster *c)
{
    const struct extension *e =
        registry_find(at->cx->registry, EXTENSION_LB_POLICY, STR_NONE, str_of(name));
    if (!e) return conf_fail(at, "the balancing policy \"%s\" is not supported", name);
    c->lb = (const struct lb_policy_type *)e;
    if (!c->lb->conf_create) return true;
    c->lb_conf = c->lb->conf_create(at, msg);
    return c->lb_conf != NULL;
}

static void original_dst_metadata(struct arena *a, const Envoy__Type__Metadata__V3__MetadataKey *m,
                                  struct original_dst_conf *o)
{
    struct str *path = ARENA_ARRAY(a, struct str, m->n_path);
    for (size_t i = 0; i < m->n_path; i++)
        path[i] = str_dup(a, str_of(m->path[i]->key));
    o->metadata_ns = str_dup(a, str_of(m->key));
    o->metadata_path = path;
    o->metadata_count = m->n_path;
}

/* ORIGINAL_DST clusters choose for themselves (proxy/upstream/original_dst.c). */
static bool original_dst(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                         struct cluster *c)
{
    enum { CLEANUP_US = 5 * 1000 * 1000 };
    struct arena *a = conf_arena(at);
    struct original_dst_conf *o = ARENA_NEW(a, struct original_dst_conf);
    struct conf_at cleanup = conf_field(at, "cleanup_interval"),
                   config = conf_field(at, "original_dst_lb_config");
    c->original_dst = o;
    bool ok = conf_duration(&cleanup, m->cleanup_interval, CLEANUP_US, &o->cleanup_us);
    if (m->lb_config_case != ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_CONFIG_ORIGINAL_DST_LB_CONFIG)
        return ok;
    const Envoy__Config__Cluster__V3__Cluster__OriginalDstLbConfig *x = m->original_dst_lb_config;
    struct str name = str_of(x->http_header_name);
    if (x->use_http_header)
        o->header = name.len ? str_dup_lower(a, name) : STR("x-envoy-original-dst-host");
    else if (name.len) {
        struct conf_at here = conf_field(&config, "http_header_name");
        ok = conf_fail(
            &here,
            "ORIGINAL_DST cluster: invalid config http_header_name=%.*s and use_http_header is false. Set use_http_header to true "
            "if http_header_name is desired",
            STR_ARG(name));
    }
    o->has_port = x->upstream_port_override != NULL;
    if (o->has_port) o->port = (uint16_t)x->upstream_port_override->value;
    if (x->metadata_key) original_dst_metadata(a, x->metadata_key, o);
    return ok;
}

static bool policy_enum(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                        struct cluster *c)
{
    struct arena *a = conf_arena(at);
    struct conf_at here = conf_field(at, "lb_policy");
    switch (m->lb_policy) {
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__ROUND_ROBIN:
        return policy_named(&here, "envoy.load_balancing_policies.round_robin", NULL, c);
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__LEAST_REQUEST:
        return policy_named(&here, "envoy.load_balancing_policies.least_request",
                            least_request_of(a, m), c);
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__RING_HASH:
        return policy_named(&here, "envoy.load_balancing_policies.ring_hash", ring_hash_of(a, m),
                            c);
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__RANDOM:
        return policy_named(&here, "envoy.load_balancing_policies.random", NULL, c);
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__MAGLEV:
        return policy_named(&here, "envoy.load_balancing_policies.maglev", maglev_of(a, m), c);
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__CLUSTER_PROVIDED:
        if (c->discovery != CLUSTER_CUSTOM && c->discovery != CLUSTER_ORIGINAL_DST)
            return conf_fail(
                &here,
                "cluster: LB policy CLUSTER_PROVIDED needs a cluster type that provides one");
        if (c->discovery == CLUSTER_ORIGINAL_DST) return original_dst(at, m, c);
        if (c->custom->lb) {
            c->lb = c->custom->lb;
            return true;
        }
        return policy_named(&here, "envoy.load_balancing_policies.cluster_provided", NULL, c);
    case ENVOY__CONFIG__CLUSTER__V3__CLUSTER__LB_POLICY__LOAD_BALANCING_POLICY_CONFIG:
        return conf_fail(&here, "cluster: field load_balancing_policy need to be set");
    }
    return conf_fail(&here, "unknown policy %d", (int)m->lb_policy);
}

static bool common_lb(const struct conf_at *at,
                      const Envoy__Config__Cluster__V3__Cluster__CommonLbConfig *m,
                      struct cluster *c)
{
    enum { PANIC_PERCENT = 50 };
    c->panic_percent = PANIC_PERCENT;
    if (!m) return true;
    if (m->healthy_panic_threshold) c->panic_percent = m->healthy_panic_threshold->value;
    if (m->locality_config_specifier_case ==
        ENVOY__CONFIG__CLUSTER__V3__CLUSTER__COMMON_LB_CONFIG__LOCALITY_CONFIG_SPECIFIER_LOCALITY_WEIGHTED_LB_CONFIG)
        c->locality_weighted = true;
    else if (m->zone_aware_lb_config)
        c->fail_on_panic = m->zone_aware_lb_config->fail_traffic_on_panic;
    c->ignore_new_hosts_until_first_hc = m->ignore_new_hosts_until_first_hc;
    for (size_t i = 0; m->override_host_status && i < m->override_host_status->n_statuses; i++)
        c->override_host_status |= 1u << m->override_host_status->statuses[i];
    (void)at;
    return true;
}

/* Envoy: a subset configuration without selectors changes nothing. */
static bool subset_check(const struct conf_at *at,
                         const Envoy__Config__Cluster__V3__Cluster__LbSubsetConfig *m)
{
    if (!m || m->n_subset_selectors == 0) return true;
    struct conf_at here = conf_field(at, "lb_subset_config");
    return conf_fail(&here, "subset load balancing is not supported yet");
}

bool translate_cluster_lb(const struct conf_at *at, const Envoy__Config__Cluster__V3__Cluster *m,
                          struct cluster *c)
{
    struct conf_at common = conf_field(at, "common_lb_config"),
                   policy = conf_field(at, "load_balancing_policy");
    bool ok = common_lb(&common, m->common_lb_config, c) && subset_check(at, m->lb_subset_config);
    if (!m->load_balancing_policy) return policy_enum(at, m, c) && ok;
    /* Envoy: common_lb_config's locality settings belong to the enum's policies only. */
    c->locality_weighted = false;
    return policy_list(&policy, m->load_balancing_policy, c, 0) && ok;
}
