/* The command line, as Envoy 1.40 has it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/log.h"
#include "base/str.h"

struct arena;

enum options_mode { MODE_SERVE, MODE_VALIDATE };
struct options {
    const char *config_path, *config_yaml;
    enum options_mode mode;
    uint32_t concurrency; /* at least 1 */
    bool concurrency_set, cpuset_threads;
    enum log_level log_level;
    const char *component_log_level, *log_path, *log_format;
    const char *service_node, *service_cluster, *service_zone;
    const char *admin_address_path;
    struct addr client_status_address; /* of the gRPC service; len 0: none */
    const char *config_cache;          /* directory; NULL: none */
    bool ipv6;                         /* --local-address-ip-version v6 */
    bool allow_unknown_static, reject_unknown_dynamic, ignore_unknown_dynamic, skip_deprecated_logs;
    uint32_t drain_time_s, parent_shutdown_time_s;
    bool drain_immediate;
    bool disable_hot_restart;
    uint32_t restart_epoch, base_id;
    const char *base_id_path, *socket_path;
    uint32_t socket_mode;
    uint32_t file_flush_ms, file_flush_min_kb;
    struct str stats_tags[32]; /* "tag:value" */
    size_t stats_tag_count;
    const char *disable_extensions;
    bool mutex_tracing, core_dump;
    /* asked for instead of running */
    bool help, version, hot_restart_version;
};

/* Reads argv into o (defaults included). False: *why says what is wrong, in `a`. */
bool options_parse(int argc, char **argv, struct options *o, struct arena *a, struct str *why);
/* The text of --help. */
void options_usage(struct sb *out);
/* --component-log-level "a:debug,b:trace" applied; false: *why. */
bool options_apply_components(const char *list, struct arena *a, struct str *why);
