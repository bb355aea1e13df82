/* One upstream endpoint. Its identity (counters, breakers, pools) survives updates of the cluster
 * and of the endpoints: main finds it again by address. Shared by all threads: fixed facts are
 * never written after host_new, moving ones are relaxed atomics. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/str.h"

struct metadata;
struct transport_socket;

/* Why a host is not used, as Envoy's health flags. */
enum host_health {
    HOST_FAILED_ACTIVE_HC = 1 << 0,
    HOST_FAILED_OUTLIER = 1 << 1,
    HOST_FAILED_EDS = 1 << 2,
    HOST_DEGRADED_ACTIVE_HC = 1 << 3,
    HOST_DEGRADED_EDS = 1 << 4,
    HOST_PENDING_REMOVAL = 1 << 5,
    HOST_PENDING_ACTIVE_HC = 1 << 6,
    HOST_EXCLUDED_IMMEDIATE_HC = 1 << 7,
    HOST_ACTIVE_HC_TIMEOUT = 1 << 8,
    HOST_EDS_DRAINING = 1 << 9,
    HOST_UNHEALTHY_ANY =
        HOST_FAILED_ACTIVE_HC | HOST_FAILED_OUTLIER | HOST_FAILED_EDS | HOST_EDS_DRAINING,
    HOST_DEGRADED_ANY = HOST_DEGRADED_ACTIVE_HC | HOST_DEGRADED_EDS
};

struct host_locality {
    struct str region, zone, sub_zone;
};

/* The moving part, on a cache line of its own: written by workers (relaxed), read by balancing and
 * by main. */
struct host_cells {
    _Alignas(64) _Atomic uint32_t rq_active;
    _Atomic uint32_t cx_active;
    _Atomic uint64_t cx_total, cx_connect_fail, rq_total, rq_success, rq_error, rq_timeout;
};

struct host {
    struct host_cells cells;
    _Atomic uint32_t refs;
    _Atomic uint32_t weight;     /* 1.. ; written by main on updates */
    _Atomic uint32_t health;     /* enum host_health; written by main */
    _Atomic uint32_t eds_status; /* envoy.config.core.v3.HealthStatus as configured */
    /* fixed */
    uint64_t meaning; /* hash of what makes it another host: locality, metadata, hostname */
    uint32_t priority;
    bool canary;
    struct addr addr;
    const struct addr *health_addr; /* NULL: as addr; behind the struct */
    struct str name;                /* endpoint hostname (or DNS name), may be empty */
    struct str text;                /* "ip:port" */
    struct str health_name;         /* hostname of health checks, may be empty */
    struct host_locality locality;
    const struct metadata *metadata;          /* NULL: none; in arena */
    const struct metadata *locality_metadata; /* the same */
    struct arena *arena;                      /* of the metadata; NULL: none */
    /* main only */
    uint32_t mark; /* generation in which an update saw it */
};

/* What a new host is made from; everything is copied. */
struct endpoint;
struct host *host_new(const struct endpoint *e, const struct addr *addr,
                      const struct host_locality *l, uint32_t priority, uint64_t meaning);
/* Any thread. */
struct host *host_ref(struct host *h);
void host_unref(struct host **h);

/* Flags that an EDS health status means. */
uint32_t host_health_of_status(int status);

static inline uint32_t host_health_get(const struct host *h)
{
    return atomic_load_explicit(&h->health, memory_order_relaxed);
}
static inline uint32_t host_weight_get(const struct host *h)
{
    return atomic_load_explicit(&h->weight, memory_order_relaxed);
}
static inline bool host_is_healthy(const struct host *h)
{
    return (host_health_get(h) & (HOST_UNHEALTHY_ANY | HOST_DEGRADED_ANY)) == 0;
}
static inline bool host_is_degraded(const struct host *h)
{
    uint32_t f = host_health_get(h);
    return (f & HOST_UNHEALTHY_ANY) == 0 && (f & HOST_DEGRADED_ANY) != 0;
}
/* Main: sets and clears flags; true when the whole changed. */
bool host_health_change(struct host *h, uint32_t set, uint32_t clear);
/* "healthy" or "/failed_active_hc/failed_eds_health", as admin /clusters prints it. In the arena.
 */
struct str host_health_text(const struct host *h, struct arena *a);
