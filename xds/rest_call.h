/* One HTTP request of main's, made by a worker with its own client (cluster rules apply), and its
 * answer back on main. Main thread. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct runtime;
struct rest_call;

struct rest_ask {
    struct str cluster, path, body; /* POST; copied */
    uint64_t timeout_us;
    size_t answer_most; /* bytes */
};
struct rest_answer {
    uint32_t status; /* 0: no answer */
    struct str body;
    struct str why; /* no answer: the reason */
};

/* `done` is told once, in a later turn, with an answer that lives until it returns; the call is
 * dead then. *living counts calls whose memory is still in use; it must outlive them. */
struct rest_call *rest_call_new(struct runtime *rt, const struct rest_ask *ask, size_t *living,
                                void (*done)(void *arg, const struct rest_answer *answer),
                                void *arg);
/* `done` will not be told. Leaves NULL; NULL is fine. */
void rest_call_cancel(struct rest_call **call);
