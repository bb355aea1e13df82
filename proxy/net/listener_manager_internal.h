/* What main's files of listeners share: listener_manager.c (which there are, their sockets, drains)
 * and listener_orders.c (what the workers are told). Main thread. */
#pragma once
#include "proxy/net/listener_internal.h"
#include "proxy/net/listener_manager.h"

enum manager_stat {
    MANAGER_ADDED,
    MANAGER_CREATE_FAILURE,
    MANAGER_CREATE_SUCCESS,
    MANAGER_IN_PLACE,
    MANAGER_MODIFIED,
    MANAGER_REMOVED,
    MANAGER_STOPPED,
    MANAGER_CHAINS_DRAINING,
    MANAGER_ACTIVE,
    MANAGER_DRAINING,
    MANAGER_WARMING,
    MANAGER_PINNED,
    MANAGER_STARTED,
    MANAGER_STAT_COUNT
};

/* A listener of main's. */
struct managed {
    struct list link;           /* manager.order */
    struct listener_conf *conf; /* a reference */
    struct bound **bound;       /* by index in base->addresses; NULL entries: not bound */
    size_t bound_count;
    struct stat_group *stats; /* keeps the counters over updates */
};
/* What was replaced or removed, until its drain time is over: only its gauge and its statistics'
 * life. */
struct draining {
    struct list link;
    struct loop_timer timer;
    struct listener_manager *manager;
    enum manager_stat gauge;
    uint64_t count;
    struct stat_group *stats;
};
/* The drain of the process. */
struct process_drain {
    struct loop_timer timer;
    uint64_t until_us;
    void (*done)(void *arg);
    void *arg;
    bool running;
};
struct listener_manager {
    struct runtime *rt;
    struct map by_name; /* struct managed * */
    struct list order;
    struct list drains;
    struct stat_group *stats;
    uint64_t drain_us;
    bool immediate, started;
    struct process_drain drain;
};

/* --- listener_orders.c: done by each worker in its own time */
/* The listener as it is now. */
void order_set(struct listener_manager *m, const struct managed *l);
void order_remove(struct listener_manager *m, struct str name);
void order_start(struct listener_manager *m);
void order_stop(struct listener_manager *m, bool inbound_only);
void order_drain(struct listener_manager *m, bool inbound_only);
