/* The process's listeners: sockets by address, additions, updates, removals, drain. Main thread,
 * except where said. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/str.h"
#include "proxy/net/listener.h"

struct runtime;
struct errors;
struct listener_manager;

enum listener_drain_strategy { LISTENER_DRAIN_GRADUAL, LISTENER_DRAIN_IMMEDIATE };
/* Makes the manager and registers net's worker hooks: before runtime_start. */
struct listener_manager *listener_manager_new(struct runtime *rt);
void listener_manager_free(struct listener_manager **m); /* after runtime_stop */
/* --drain-time-s (default 600 s) and --drain-strategy (default gradual). */
uint64_t listener_manager_drain_us(const struct listener_manager *m);
void listener_manager_set_drain(struct listener_manager *m, uint64_t drain_us,
                                enum listener_drain_strategy how);

/* Adds or updates by name. Takes the caller's reference in every case. True: it is so now (or
 * nothing changed). False: told in `e`, e.g. "cannot bind '127.0.0.1:80': Address already in use",
 * and the old version serves on. Before listener_manager_start_workers sockets are bound but
 * nothing is accepted. */
bool listener_manager_set(struct listener_manager *m, struct listener_conf *conf, struct errors *e);
/* False: unknown. */
bool listener_manager_remove(struct listener_manager *m, struct str name);
/* Workers begin to accept on all listeners, present and future. */
void listener_manager_start_workers(struct listener_manager *m);
/* total_listeners_warming: xds/ tells how many wait for resources. */
void listener_manager_set_warming(struct listener_manager *m, size_t count);
/* Counts listener_create_failure (a listener that translation refused is counted by xds/ through
 * this). */
void listener_manager_count_failure(struct listener_manager *m);

/* What the drain of the whole process does. inbound_only: listeners with traffic_direction INBOUND
 * only. */
enum listener_stop { LISTENER_STOP_ALL, LISTENER_STOP_INBOUND };
/* Begins to drain the connections (Connection: close, GOAWAY): server drain,
 * /drain_listeners?graceful. done may be NULL; it is called when the drain time is over or no
 * connection is left. Accepting goes on. */
void listener_manager_drain(struct listener_manager *m, enum listener_stop which,
                            void (*done)(void *arg), void *arg);
/* Closes the listening sockets. */
void listener_manager_stop_listening(struct listener_manager *m, enum listener_stop which);
/* Open downstream connections of all listeners (sum of what the workers counted). */
uint64_t listener_manager_connections(const struct listener_manager *m);

/* For admin's /listeners: active listeners in order of addition, each of their addresses with the
 * real port. */
struct listener_view {
    struct str name;
    const struct addr *addr;
    const struct listener_conf *conf;
    size_t address_index; /* 0: the primary */
};
void listener_manager_each(const struct listener_manager *m,
                           void (*fn)(void *arg, const struct listener_view *v), void *arg);
