/* The process: everything wired together, from start to stop. Main thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/config.h"
#include "server/options.h"

struct runtime;
struct stats;
struct loop;
struct cluster_manager;
struct listener_manager;
struct xds;
struct watch_set;
struct admin;

/* Envoy's server.state gauge. */
enum server_state { SERVER_LIVE, SERVER_DRAINING, SERVER_PRE_INITIALIZING, SERVER_INITIALIZING };

struct server {
    struct options options;
    struct config config;
    struct arena *arena;
    struct loop *loop;
    struct stats *stats;
    struct runtime *rt;
    struct watch_set *watches;
    struct cluster_manager *clusters;
    struct listener_manager *listeners;
    struct xds *xds;
    struct admin *admin;
    enum server_state state;
    bool health_failed; /* POST /healthcheck/fail */
    bool exiting, running; /* running: the workers' threads were started */
    struct stat_group *server_stats;
};

/* Runs the process as the options say; gives back the exit code. */
int server_main(const struct options *o);
/* Asks the loop to end: SIGTERM, /quitquitquit. */
void server_exit(struct server *s);
