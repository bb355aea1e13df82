/* Names of the statistics of a connection manager. */
#pragma once
#include "proxy/stats/stats.h"

/* Under "http.<stat_prefix>.". */
enum hcm_stat {
#define S(id, name, type, flags) HCM_STAT_##id,
#include "proxy/http/hcm_stats.def"
#undef S
    HCM_STAT_COUNT
};
extern const struct stat_def hcm_stat_defs[HCM_STAT_COUNT];

/* Under "listener.<address>.http.<stat_prefix>.". */
enum hcm_listener_stat {
    HCM_LISTENER_STAT_COMPLETED,
    HCM_LISTENER_STAT_1XX,
    HCM_LISTENER_STAT_2XX,
    HCM_LISTENER_STAT_3XX,
    HCM_LISTENER_STAT_4XX,
    HCM_LISTENER_STAT_5XX,
    HCM_LISTENER_STAT_COUNT
};
extern const struct stat_def hcm_listener_stat_defs[HCM_LISTENER_STAT_COUNT];

/* Under "http.<stat_prefix>.tracing.". */
enum hcm_tracing_stat {
    HCM_TRACING_STAT_CLIENT_ENABLED,
    HCM_TRACING_STAT_HEALTH_CHECK,
    HCM_TRACING_STAT_NOT_TRACEABLE,
    HCM_TRACING_STAT_RANDOM_SAMPLING,
    HCM_TRACING_STAT_SERVICE_FORCED,
    HCM_TRACING_STAT_COUNT
};
extern const struct stat_def hcm_tracing_stat_defs[HCM_TRACING_STAT_COUNT];
