/* What the consistent hashing policies share: the key of a host and normalised weights. */
#pragma once
#include "proxy/api/lb_policy.h"

struct hashed_host {
    struct host *host;
    struct str key;
    double weight; /* share of 1 */
};
/* In the arena, in the order of the list. min and max are of the shares. */
struct hashed_host *hashing_hosts(struct arena *a, const struct lb_hosts *hosts, bool by_hostname,
                                  double *min, double *max);
/* The hash that a pick uses: the request's, or a random one. */
uint64_t hashing_of(const struct lb_ask *ask);
