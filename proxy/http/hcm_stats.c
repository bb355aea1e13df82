/* Tables of a connection manager's statistics. */
#include "proxy/http/hcm_stats.h"

const struct stat_def hcm_stat_defs[HCM_STAT_COUNT] = {
#define S(id, name, type, flags) [HCM_STAT_##id] = {name, type, flags},
#include "proxy/http/hcm_stats.def"
#undef S
};

const struct stat_def hcm_listener_stat_defs[HCM_LISTENER_STAT_COUNT] = {
    [HCM_LISTENER_STAT_COMPLETED] = {"downstream_rq_completed", STAT_COUNTER, 0},
    [HCM_LISTENER_STAT_1XX] = {"downstream_rq_1xx", STAT_COUNTER, 0},
    [HCM_LISTENER_STAT_2XX] = {"downstream_rq_2xx", STAT_COUNTER, 0},
    [HCM_LISTENER_STAT_3XX] = {"downstream_rq_3xx", STAT_COUNTER, 0},
    [HCM_LISTENER_STAT_4XX] = {"downstream_rq_4xx", STAT_COUNTER, 0},
    [HCM_LISTENER_STAT_5XX] = {"downstream_rq_5xx", STAT_COUNTER, 0},
};

const struct stat_def hcm_tracing_stat_defs[HCM_TRACING_STAT_COUNT] = {
    [HCM_TRACING_STAT_CLIENT_ENABLED] = {"client_enabled", STAT_COUNTER, 0},
    [HCM_TRACING_STAT_HEALTH_CHECK] = {"health_check", STAT_COUNTER, 0},
    [HCM_TRACING_STAT_NOT_TRACEABLE] = {"not_traceable", STAT_COUNTER, 0},
    [HCM_TRACING_STAT_RANDOM_SAMPLING] = {"random_sampling", STAT_COUNTER, 0},
    [HCM_TRACING_STAT_SERVICE_FORCED] = {"service_forced", STAT_COUNTER, 0},
};
