/* GrpcService.GoogleGrpc: a peer by its address. Skiff makes a cluster of it, so that its own
 * client serves it as any other. Main thread. */
#pragma once
#include <stdbool.h>
#include "proxy/api/conf.h"

struct side_target;
struct Envoy__Config__Core__V3__GrpcService__GoogleGrpc;

/* Fills the target's cluster and authority; the cluster lives as long as the arena. What reaches
 * the peer with each call (a token) is put into *token (ptr NULL: nothing). False: told. */
bool conf_grpc_client(const struct conf_at *at,
                      const struct Envoy__Config__Core__V3__GrpcService__GoogleGrpc *m,
                      struct side_target *t, struct str *token);
