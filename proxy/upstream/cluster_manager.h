/* Main's view of all clusters: adding, warming, updating, removing; endpoints; publication to
 * workers. Main thread only. */
#pragma once
#include "proxy/upstream/cluster.h"
#include "proxy/upstream/host_set.h"

struct cluster_manager;
struct runtime;

/* Registers the worker hooks of proxy/upstream: call before runtime_start. */
struct cluster_manager *cluster_manager_new(struct runtime *rt);
void cluster_manager_free(struct cluster_manager **cm);

enum cluster_set_result { CLUSTER_UNCHANGED, CLUSTER_ADDED, CLUSTER_UPDATED };
/* Adds or updates; takes the caller's reference. Equal obj.hash: nothing happens (the new one is
 * freed). The cluster is active (seen by workers) at once if it needs nothing, else when its
 * endpoints are there; until then its old version serves. A warming version is replaced by a newer
 * one. */
enum cluster_set_result cluster_manager_set(struct cluster_manager *cm, struct cluster *c);
/* Runtime values were published: limits that they override are read again. */
void cluster_manager_runtime_changed(struct cluster_manager *cm);
/* False: unknown. */
bool cluster_manager_remove(struct cluster_manager *cm, struct str name);

/* EDS. The endpoints of every EDS cluster with this service name; takes the caller's reference. */
void cluster_manager_endpoints(struct cluster_manager *cm, struct str service,
                               struct load_assignment *la);
/* initial_fetch_timeout passed, or the resource does not exist: clusters that still wait for it
 * become active without hosts. */
void cluster_manager_endpoints_missing(struct cluster_manager *cm, struct str service);
/* update_attempt, update_failure, update_rejected ... of the EDS subscription, told by xds/. */
enum cluster_eds_event {
    CLUSTER_EDS_ATTEMPT,
    CLUSTER_EDS_FAILURE,
    CLUSTER_EDS_REJECTED,
    CLUSTER_EDS_TIMEOUT
};
void cluster_manager_eds_stat(struct cluster_manager *cm, struct str service,
                              enum cluster_eds_event what);

/* A cluster type (DNS, custom ones) tells its endpoints, all with addresses; takes the caller's
 * reference. The first call makes the cluster active. Hosts whose address stays keep their
 * identity. */
void cluster_set_hosts(struct cluster *c, struct load_assignment *la);
/* It has failed for now: a cluster that still warms becomes active without hosts (Envoy: a failed
 * first resolution does not block). */
void cluster_set_failed(struct cluster *c);

/* Called whenever a cluster (version) becomes active. */
void cluster_manager_on_active(struct cluster_manager *cm, void (*fn)(void *arg, struct str name),
                               void *arg);
/* Called once, when no static (not added_via_api) cluster waits for its first endpoints any more;
 * at once if none does. */
void cluster_manager_on_static_ready(struct cluster_manager *cm, void (*fn)(void *arg), void *arg);

struct cluster_view {
    struct str name;
    const struct cluster *active, *warming; /* either may be NULL */
    const struct host_set *hosts;           /* of the active one; may be NULL */
};
/* Each cluster, in no order. Views are borrowed for the call. */
void cluster_manager_each(struct cluster_manager *cm,
                          void (*fn)(void *arg, const struct cluster_view *v), void *arg);
/* NULL: no such cluster (active or warming). */
const struct cluster *cluster_manager_find(struct cluster_manager *cm, struct str name);
const struct cluster *cluster_manager_active(struct cluster_manager *cm, struct str name);
bool cluster_manager_warming(struct cluster_manager *cm, struct str name);
/* Hosts of an active cluster; NULL: none. For the bootstrap's xDS cluster. */
const struct host_set *cluster_manager_hosts(struct cluster_manager *cm, struct str name);
