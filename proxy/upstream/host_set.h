/* The hosts of a cluster at one time, sorted into priorities, localities and health, with the load
 * of each priority computed: immutable, published in TABLE_HOSTS under the cluster's name. */
#pragma once
#include "proxy/upstream/cluster.h"
#include "proxy/upstream/host.h"

/* One list that a policy may pick from. `ordinal` numbers the lists of a set, so that a worker
 * keeps a cursor for each. */
struct lb_source {
    struct lb_hosts hosts;
    const void *table; /* of the policy */
    uint32_t ordinal;
};
struct locality_set {
    struct host_locality name;
    uint32_t weight; /* 0: takes no traffic (locality weighted) */
    uint32_t total;  /* hosts of all health */
    struct lb_source healthy, degraded;
    double healthy_weight, degraded_weight; /* effective */
};
struct priority_set {
    struct lb_source all, healthy, degraded;
    uint32_t excluded;
    struct locality_set *localities;
    uint32_t locality_count;
    bool by_locality_healthy, by_locality_degraded; /* locality weighted choice is possible */
    uint32_t healthy_load, degraded_load; /* per cent; all loads of the set add up to 100 */
    bool panic;
};
struct host_set {
    struct obj obj;
    struct priority_set *priorities;
    uint32_t priority_count;
    uint32_t source_count; /* ordinals */
    struct host **hosts;   /* all, by priority; the set holds a reference on each */
    uint32_t host_count, healthy_count, degraded_count, excluded_count;
    uint32_t max_weight;
    struct drop_overload *drops;
    uint32_t drop_count;
};

/* Input: the hosts of one locality and priority. */
struct host_group {
    struct host_locality locality;
    uint32_t priority;
    bool has_weight;
    uint32_t weight;
    struct host **hosts;
    uint32_t count;
};
/* Main. Builds a set for the cluster's balancing settings; takes one reference on each host. */
struct host_set_input {
    const struct host_group *groups;
    size_t count;
    uint32_t overprovisioning;
    bool weighted_priority_health;
    const struct drop_overload *drops;
    size_t drop_count;
};
struct host_set *host_set_new(const struct cluster *c, const struct host_set_input *in);
