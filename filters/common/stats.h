/* Statistics of an extension: found once when its configuration is made, given back with it. */
#pragma once
#include "proxy/api/conf.h"
#include "proxy/stats/stats.h"

/* The group under `prefix`, held as long as the configuration's arena. NULL when there are no
 * statistics (--mode validate); writing to NULL does nothing. Main. */
struct stat_group *conf_stat_group(const struct conf_at *at, struct str prefix,
                                   const struct stat_def *defs, size_t count);
