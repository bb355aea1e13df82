/* From endpoints to hosts: finds the hosts that stay and makes the new ones. Main thread only. */
#pragma once
#include "proxy/upstream/host_set.h"

/* The set for these endpoints. old may be NULL. *changed: hosts came or went; *updated: anything
 * that balancing sees changed. */
struct host_set *membership_build(const struct cluster *c, const struct load_assignment *la,
                                  const struct host_set *old, bool *changed, bool *updated);
