/* Weighted choice, earliest deadline first: a host with weight w comes up w times as often as one
 * with weight 1, evenly spread. */
#pragma once
#include "proxy/api/lb_policy.h"

struct edf_entry {
    double deadline;
    uint64_t order; /* equal deadlines: first in, first out */
    struct host *host;
};
/* A heap over one list of hosts. Zero-initialised is empty; worker-local. */
struct edf {
    struct edf_entry *heap;
    uint32_t count;
    double now;
    uint64_t next_order;
    uint64_t seed;
};
/* weight gives the present weight of a host (> 0). Fills itself at the first pick. */
struct host *edf_pick(struct edf *e, const struct lb_hosts *hosts,
                      double (*weight)(const void *arg, const struct host *h), const void *arg);
void edf_release(struct edf *e);
