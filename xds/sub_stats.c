/* Statistics of subscriptions and of the control plane connection. */
#include "base/must.h"
#include "xds/xds_internal.h"

#define SUB_STATS(reload_time_flags)                                                     \
    [SUB_CONFIG_RELOAD] = {"config_reload", STAT_COUNTER, 0},                            \
    [SUB_INIT_FETCH_TIMEOUT] = {"init_fetch_timeout", STAT_COUNTER, 0},                  \
    [SUB_UPDATE_ATTEMPT] = {"update_attempt", STAT_COUNTER, 0},                          \
    [SUB_UPDATE_FAILURE] = {"update_failure", STAT_COUNTER, 0},                          \
    [SUB_UPDATE_REJECTED] = {"update_rejected", STAT_COUNTER, 0},                        \
    [SUB_UPDATE_SUCCESS] = {"update_success", STAT_COUNTER, 0},                          \
    [SUB_CONFIG_RELOAD_TIME] = {"config_reload_time_ms", STAT_GAUGE, reload_time_flags}, \
    [SUB_UPDATE_TIME] = {"update_time", STAT_GAUGE, 0},                                  \
    [SUB_VERSION] = {"version", STAT_GAUGE, 0},                                          \
    [SUB_UPDATE_DURATION] = {"update_duration", STAT_HISTOGRAM, 0},                      \
    [SUB_VERSION_TEXT] = {"version_text", STAT_TEXT, 0}

const struct stat_def sub_stat_defs[SUB_COUNT] = {SUB_STATS(0)};
/* Envoy has no config_reload_time_ms for filters and virtual hosts, and says "config_fail" beside
 * "update_rejected" of filters. */
const struct stat_def extension_stat_defs[EXTENSION_STAT_COUNT] = {
    SUB_STATS(STAT_LAZY),
    [EXTENSION_CONFIG_CONFLICT] = {"config_conflict", STAT_COUNTER, 0},
    [EXTENSION_CONFIG_FAIL] = {"config_fail", STAT_COUNTER, 0},
};
const struct stat_def route_stat_defs[ROUTE_STAT_COUNT] = {
    SUB_STATS(0), [ROUTE_UPDATE_EMPTY] = {"update_empty", STAT_COUNTER, 0}};
const struct stat_def vhds_stat_defs[ROUTE_STAT_COUNT] = {
    SUB_STATS(STAT_LAZY), [ROUTE_UPDATE_EMPTY] = {"update_empty", STAT_COUNTER, 0}};
/* Envoy counts no reloads of secrets. */
const struct stat_def secret_stat_defs[SECRET_STAT_COUNT] = {
    [SUB_CONFIG_RELOAD] = {"config_reload", STAT_COUNTER, STAT_LAZY},
    [SUB_INIT_FETCH_TIMEOUT] = {"init_fetch_timeout", STAT_COUNTER, 0},
    [SUB_UPDATE_ATTEMPT] = {"update_attempt", STAT_COUNTER, 0},
    [SUB_UPDATE_FAILURE] = {"update_failure", STAT_COUNTER, 0},
    [SUB_UPDATE_REJECTED] = {"update_rejected", STAT_COUNTER, 0},
    [SUB_UPDATE_SUCCESS] = {"update_success", STAT_COUNTER, 0},
    [SUB_CONFIG_RELOAD_TIME] = {"config_reload_time_ms", STAT_GAUGE, STAT_LAZY},
    [SUB_UPDATE_TIME] = {"update_time", STAT_GAUGE, 0},
    [SUB_VERSION] = {"version", STAT_GAUGE, 0},
    [SUB_UPDATE_DURATION] = {"update_duration", STAT_HISTOGRAM, 0},
    [SUB_VERSION_TEXT] = {"version_text", STAT_TEXT, 0},
    [SECRET_ROTATION_FAILED] = {"key_rotation_failed", STAT_COUNTER, 0},
};
const struct stat_def scope_stat_defs[SCOPE_STAT_COUNT] = {
    SUB_STATS(0),
    [SCOPE_ALL] = {"all_scopes", STAT_GAUGE, 0},
    [SCOPE_ACTIVE] = {"active_scopes", STAT_GAUGE, 0},
    [SCOPE_ON_DEMAND] = {"on_demand_scopes", STAT_GAUGE, 0},
    [SCOPE_UPDATE_EMPTY] = {"update_empty", STAT_COUNTER, 0},
};
const struct stat_def control_plane_stat_defs[CONTROL_PLANE_COUNT] = {
    [CONTROL_PLANE_CONNECTED] = {"connected_state", STAT_GAUGE, 0},
    [CONTROL_PLANE_PENDING] = {"pending_requests", STAT_GAUGE, 0},
    [CONTROL_PLANE_RATE_LIMITED] = {"rate_limit_enforced", STAT_COUNTER, 0},
    [CONTROL_PLANE_ID] = {"identifier", STAT_TEXT, 0},
};

void sub_updated(struct stat_group *g, struct str version, uint64_t wall_us, uint64_t took_us)
{
    if (!g) return;
    stat_inc(g, SUB_UPDATE_ATTEMPT);
    stat_inc(g, SUB_UPDATE_SUCCESS);
    stat_set(g, SUB_UPDATE_TIME, wall_us / 1000);
    stat_set(g, SUB_VERSION, hash_xxh64(version, 0));
    stat_set_text(g, SUB_VERSION_TEXT, version);
    stat_record(g, SUB_UPDATE_DURATION, took_us / 1000);
}

void sub_count(struct stat_group *g, enum sub_stat what)
{
    if (!g) return;
    stat_inc(g, SUB_UPDATE_ATTEMPT);
    if (what != SUB_UPDATE_ATTEMPT) stat_inc(g, what);
}
