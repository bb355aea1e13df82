/* A small gRPC service on gRPC core: one question, one answer, once or many times a call. Main
 * thread; one more thread drains the completion queue and posts results to main's loop. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

struct arena;
struct loop;
struct grpc_service;

/* The status codes that we give ourselves. */
enum grpc_code {
    GRPC_CODE_OK = 0,
    GRPC_CODE_INVALID_ARGUMENT = 3,
    GRPC_CODE_RESOURCE_EXHAUSTED = 8,
    GRPC_CODE_UNIMPLEMENTED = 12,
    GRPC_CODE_UNAVAILABLE = 14
};

struct grpc_method {
    const char *path; /* "/package.Service/Method" */
    bool streams;     /* each message gets an answer; false: one message, then the call ends */
};

/* Static data of whoever serves. */
struct grpc_service_def {
    const struct grpc_method *methods;
    size_t method_count;
    int question_most; /* bytes of a message; the call of a longer one ends */
    size_t calls_most; /* at once, over all connections; one more is refused */
    /* Answers one message, on main: OK, and *answer is a message in `a`; else it is the text of the
     * status. The call ends with any code but OK. */
    enum grpc_code (*answer)(void *arg, struct arena *a, struct str question, struct str *answer);
};

/* Starts the queue's thread; connections come by grpc_service_take. Without encryption. */
struct grpc_service *grpc_service_new(struct loop *main, const struct grpc_service_def *def,
                                      void *arg);
/* Takes over an accepted, non-blocking socket. */
void grpc_service_take(struct grpc_service *s, int fd);
/* Ends all calls and connections, turns the loop until they are gone, joins the thread. NULL is
 * fine. */
void grpc_service_free(struct grpc_service **s);
