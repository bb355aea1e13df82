/* What a worker may ask the control plane for while a request waits: a virtual host (VHDS), the
 * route table of a scope (SRDS), a cluster (ODCDS), a certificate (SDS). The question goes to main
 * by mail; xds/ answers when the thing is published, so that the worker sees it, or when there is
 * none. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

struct worker;
struct runtime;
struct on_demand_call;
struct tls_on_demand;

enum on_demand_kind {
    ON_DEMAND_VIRTUAL_HOST,
    ON_DEMAND_SCOPE,
    ON_DEMAND_CLUSTER,
    ON_DEMAND_SECRET
};
struct on_demand_question {
    enum on_demand_kind kind;
    struct str name; /* of the route table, set of scopes, cluster, secret; copied */
    struct str key;  /* host (lower case), scope's name; copied. Empty for the others */
    /* Clusters: Envoy__Config__Core__V3__ConfigSource *; secrets: struct tls_on_demand *. Alive as
     * long as the one who asks. */
    const void *source;
    uint64_t timeout_us; /* 0: as long as the one who asks likes to wait */
};

/* Embedded by the one who asks, in a worker; zero is idle. */
struct on_demand {
    struct on_demand_call *call; /* NULL: idle */
    /* In the worker, from its loop: the answer. Idle already; may ask again or be freed. */
    void (*done)(struct on_demand *d, bool found);
};
/* Worker. False: nobody can be asked; `done` will not be called. */
bool on_demand_ask(struct worker *w, struct on_demand *d, const struct on_demand_question *q,
                   void (*done)(struct on_demand *d, bool found));
/* Worker. `done` will not be called any more; idle is fine. */
void on_demand_cancel(struct on_demand *d);

/* --- the answering side: main
 * ---------------------------------------------------------------------------------------- */
struct on_demand_ops {
    /* Takes the call: it must be answered, sooner or later. */
    void (*asked)(void *arg, struct on_demand_call *call);
    /* A secret that handshakes may ask for is fetched before. */
    void (*prefetch)(void *arg, const struct tls_on_demand *who, struct str name);
    /* The source of questions for secrets is about to go. */
    void (*left)(void *arg, const struct tls_on_demand *who);
};
/* ops NULL: nobody answers any more; the workers have ended. */
void on_demand_serve(struct runtime *rt, const struct on_demand_ops *ops, void *arg);
/* Valid until the call is answered; source only inside of `asked`. */
const struct on_demand_question *on_demand_question(const struct on_demand_call *call);
/* Ends the call. What was published before is seen by the worker first. */
void on_demand_answer(struct on_demand_call *call, bool found);
/* Main. The secret is fetched before a handshake asks for it. */
void on_demand_prefetch(struct runtime *rt, const struct tls_on_demand *who, struct str name);
/* Whose handshakes asked for secrets will not ask again; main. */
void on_demand_left(struct runtime *rt, const struct tls_on_demand *who);
