/* Translation of Cluster and ClusterLoadAssignment. Main thread only. */
#pragma once
#include "proxy/api/conf.h"
#include "proxy/upstream/cluster.h"

struct Envoy__Config__Cluster__V3__Cluster;
struct Envoy__Config__Endpoint__V3__ClusterLoadAssignment;

/* The cluster in cx->arena (which it owns from then on), refs 1; NULL: told in cx->errors and the
 * arena stays the caller's. obj.hash is the hash of the message. An EDS cluster adds
 * NEED_ENDPOINTS. */
struct cluster *translate_cluster(struct conf_cx *cx,
                                  const struct Envoy__Config__Cluster__V3__Cluster *m);
/* An EDS resource; the same rules of ownership. */
struct load_assignment *translate_load_assignment(
    struct conf_cx *cx, const struct Envoy__Config__Endpoint__V3__ClusterLoadAssignment *m);
