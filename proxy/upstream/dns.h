/* Name resolution for STRICT_DNS and LOGICAL_DNS clusters with c-ares on main's loop. Main thread
 * only. */
#pragma once
#include "proxy/upstream/cluster.h"

struct dns;
struct runtime;

struct dns *dns_new(struct runtime *rt);
/* All clusters must have been stopped. */
void dns_free(struct dns **d);
/* Resolves the cluster's endpoints from now on, tells them through cluster_set_hosts(); sets
 * c->feed. */
void dns_cluster_start(struct dns *d, struct cluster *c);
/* Nothing fires for it any more. */
void dns_cluster_stop(struct cluster *c);
