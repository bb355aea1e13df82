/* Reading the bootstrap: a file, a FIFO, inline YAML, or a file with YAML merged over it. */
#pragma once
#include <stdbool.h>
#include "envoy/config/bootstrap/v3/bootstrap.pb-c.h"
#include "server/options.h"

struct arena;
struct errors;
struct source;
struct proto_opts;

struct config {
    struct arena *arena; /* of the message and texts; borrowed */
    Envoy__Config__Bootstrap__V3__Bootstrap *bootstrap;
    struct source *sources[2]; /* file, inline YAML: to locate errors; owned */
    size_t source_count;
    const char *name; /* for messages: the path, or "<inline>" */
};

/* Reads, merges, validates. False: told in errors (each with its place). opts: how strict. */
bool config_read(struct config *c, const struct options *o, const struct proto_opts *opts,
                 struct arena *a, struct errors *errors);
/* Gives errors that have a path but no place their file:line:column. */
void config_locate(struct config *c, struct errors *errors);
/* Frees the kept texts; the message stays in its arena. */
void config_release(struct config *c);
