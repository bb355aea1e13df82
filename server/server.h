/* The process: everything wired together, from start to stop. Main thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/loop.h"
#include "base/map.h"
#include "server/config.h"
#include "server/options.h"

struct runtime;
struct stats;
struct tag_rules;
struct cluster_manager;
struct listener_manager;
struct xds;
struct watch_set;
struct admin;
struct status_service;

/* Envoy's server.state gauge. */
enum server_state { SERVER_LIVE, SERVER_DRAINING, SERVER_PRE_INITIALIZING, SERVER_INITIALIZING };

enum { SERVER_LOGGERS_MOST = 96 };

struct server {
    struct options options;
    struct config config;
    struct map notes; /* of ignored fields that the log has already */
    struct arena *arena;
    struct loop *loop;
    struct stats *stats;
    struct runtime *rt;
    struct watch_set *watches;
    struct cluster_manager *clusters;
    struct listener_manager *listeners;
    struct xds *xds;
    struct admin *admin;
    struct status_service *status; /* --client-status-address; NULL: none */
    enum server_state state;
    bool health_failed;    /* POST /healthcheck/fail */
    bool exiting, running; /* running: the workers' threads were started */
    struct stat_group *server_stats;
    struct tag_rules *tags;                     /* for Prometheus; process arena */
    uint64_t flush_interval_us, flushed_us;     /* of histograms */
    uint64_t early_unknown, early_ignored;      /* notes of before there were statistics */
    uint8_t other_loggers[SERVER_LOGGERS_MOST]; /* admin_actions.c: levels of Envoy's loggers that
                                                   we have not */
    struct loop_timer exit_timer;
};

/* Runs the process as the options say; gives back the exit code. */
int server_main(const struct options *o);
/* Asks the loop to end: SIGTERM. */
void server_exit(struct server *s);
/* The same after a moment in which answers go out: /quitquitquit. */
void server_exit_soon(struct server *s);
/* overload.c: limits of the overload manager; before the workers start. */
bool server_overload_configure(struct server *s, struct errors *errors);
