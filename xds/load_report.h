/* Load reports (LRS): how many requests each locality of each cluster took, told to the server that
 * cluster_manager.load_stats_config names, for the clusters that it asks for. Main thread. */
#pragma once
#include "proxy/api/conf.h"
#include "xds/xds.h"

struct load_report;

/* NULL in *out: none configured. False: told in at (of the bootstrap). */
bool load_report_new(struct xds *x, const struct conf_at *at, struct load_report **out);
void load_report_start(struct load_report *r);
/* Stops and frees; NULL is fine. */
void load_report_free(struct load_report **r);
