/* How to reach a control plane: from a static cluster of the bootstrap to what gRPC needs. */
#pragma once
#include <stdbool.h>
#include "xds/grpc_stream.h"
#include "xds/xds_internal.h"

/* Fills address, authority (unless set) and TLS of *t from the cluster; texts in `a`. False: *why
 * says what is missing now (an endpoint, a secret that has not come, a file). Keys and certificates
 * are read at each call, so that the next connection sees new ones. */
bool target_of_cluster(struct xds *x, struct str cluster, struct arena *a, struct grpc_target *t,
                       struct str *why);
