/* The process's spine: main loop, workers, and publication of objects from main to workers. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "base/rand.h"
#include "base/str.h"
#include "proxy/runtime/obj.h"

struct cluster_manager;
struct stats;
struct arena;
struct load_sink;
struct on_demand_ops;

/* What is published by name. Each table is a name -> object map in every worker. */
enum table {
    TABLE_CLUSTERS,      /* struct cluster (proxy/upstream) */
    TABLE_HOSTS,         /* struct host_set, by cluster name: changes without the cluster */
    TABLE_ROUTES,        /* struct route_config, by RDS name */
    TABLE_RUNTIME,       /* struct runtime_values, one entry named "" */
    TABLE_SECRETS,       /* TLS secrets */
    TABLE_ASKED_SECRETS, /* TLS secrets that handshakes asked for, by tls_on_demand_key */
    TABLE_EXTENSIONS,    /* struct extension_conf (proxy/api), by the key of its slot */
    TABLE_SCOPES,        /* struct scope_set (proxy/http/scopes.h) */
    TABLE_COUNT
};

/* Worker-local wrapper of a published object: whoever uses it longer than a call pins it with a
 * plain ++. */
struct pin {
    struct obj *obj;
    uint32_t users;
    bool current; /* still the one in the table */
};

/* Per-worker state of the modules above, by slot; each module allocates and frees its own through
 * its worker hooks. */
enum worker_slot {
    WORKER_NET,
    WORKER_HTTP,
    WORKER_UPSTREAM,
    WORKER_LOG,
    WORKER_FILTERS,
    WORKER_SLOTS
};

struct worker {
    struct runtime *rt;
    struct loop *loop;
    unsigned index; /* 0.. ; stats thread index is index + 1 */
    struct rng rng;
    struct arena *scratch; /* reset after each loop turn: for temporaries of one callback */
    struct map tables[TABLE_COUNT]; /* name -> struct pin * */
    void *slot[WORKER_SLOTS];
    char date[32]; /* HTTP date, refreshed once a second when asked */
    uint64_t date_at_us;
};

/* Hooks of the modules that need something per worker; called in the worker's thread. */
struct worker_hooks {
    void (*start)(struct worker *w); /* before the loop runs */
    void (*stop)(struct worker *w);  /* after the loop ended */
    /* An entry of a table changed; `old` or `now` may be NULL. After it the old pin lives while it
     * has users. */
    void (*changed)(struct worker *w, enum table t, struct str name, struct pin *old,
                    struct pin *now);
};
enum { RUNTIME_HOOKS_MOST = 8 };

struct runtime {
    struct loop *main;
    struct stats *stats;
    unsigned concurrency;
    struct worker **workers;
    const struct worker_hooks *hooks[RUNTIME_HOOKS_MOST];
    unsigned hook_count;
    struct map published[TABLE_COUNT]; /* main's own view: name -> struct obj * (holds a ref) */
    atomic_bool draining;              /* SIGTERM/drain: read relaxed by workers */
    atomic_bool health_failed;         /* POST /healthcheck/fail: read relaxed by workers */
    uint64_t connections_most; /* of all listeners together, as the overload manager says; 0: no
                                  limit. Set before the workers start */
    uint64_t start_wall_us, start_us;
    struct str service_node, service_cluster, service_zone; /* node identity; process arena */
    const struct value *node_metadata; /* of the bootstrap; NULL: none; process arena */
    struct arena *arena;               /* process lifetime */
    struct map extension_slots;        /* main: struct extension_slot * by key (proxy/config) */
    bool ended;   /* main: the tables are being freed; nothing is published more */
    void *server; /* struct server of server/, opaque here */
    /* Who answers what workers ask for (proxy/api/on_demand.h). Set before the workers start; NULL
     * ops: nobody. */
    const struct on_demand_ops *on_demand;
    void *on_demand_arg;
    const struct load_sink *load_sink; /* proxy/api/load_metrics.h; NULL: nobody asks */
    struct list tls_contexts; /* main: live TLS contexts (proxy/net/tls_list.c); zero is empty */
    struct map dns_caches;    /* main: by name (proxy/upstream/dns_cache.c) */
    struct cluster_manager *clusters; /* main; opaque here; NULL: not made yet, or gone */
    struct map grpc_clients;          /* main: by cluster name (proxy/config/grpc_client.c) */
    struct map shared_buckets;        /* main: by key (filters/common/shared_bucket.c) */
    void *access_logs;                /* log files of proxy/http/access_log_file.c, opaque here */
};

/* Main. Makes the workers' structs (threads start with runtime_start). */
struct runtime *runtime_new(struct loop *main, struct stats *stats, unsigned concurrency);
void runtime_add_hooks(struct runtime *rt, const struct worker_hooks *hooks);
/* Starts the threads; returns when each runs its loop. */
void runtime_start(struct runtime *rt);
/* Stops the workers' loops, joins them, frees what they held. */
void runtime_stop(struct runtime *rt);
void runtime_free(struct runtime **rt);

/* Main. Tells every worker that `name` in table t is now `o` (NULL: removed). Takes a reference for
 * itself and one for each worker. FIFO per table and across tables: what is published first is seen
 * first. Publications of one turn of main's loop travel as one message. */
void runtime_publish(struct runtime *rt, enum table t, struct str name, struct obj *o);
struct obj *runtime_published(const struct runtime *rt, enum table t, struct str name);
/* Main. Runs fn(worker, arg) in each worker's thread; then `done(arg)` on main after all ran (done
 * may be NULL). */
void runtime_each_worker(struct runtime *rt, void (*fn)(struct worker *w, void *arg), void *arg,
                         void (*done)(void *arg));
/* Any worker. Runs fn(arg) on main. */
void runtime_to_main(struct runtime *rt, void (*fn)(void *arg), void *arg);

/* Worker thread. NULL when absent. Not pinned yet. `hash` = hash_str(name). */
struct pin *worker_find(struct worker *w, enum table t, struct str name, uint64_t hash);
static inline struct pin *pin_hold(struct pin *p)
{
    p->users++;
    return p;
}
/* Leaves NULL. The last drop of a pin that is no longer current gives the object back to main. */
void pin_drop(struct worker *w, struct pin **p);
/* Cached IMF-fixdate for the Date header. */
struct str worker_date(struct worker *w);
/* The worker of the calling thread (thread-local), NULL on main. */
struct worker *worker_self(void);
