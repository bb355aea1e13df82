/* What both encodings build alike. */
#pragma once
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "xds/mux_internal.h"

struct errors;

/* The node if this request carries it, else NULL. */
Envoy__Config__Core__V3__Node *mux_node_due(const struct mux *m);
/* NULL for an empty text. Code 13 (INTERNAL), as Envoy. */
Google__Rpc__Status *mux_error_detail(struct arena *a, struct str text);
/* Fills r from a wrapper. */
void mux_resource_of(const Envoy__Service__Discovery__V3__Resource *w, struct mux_resource *r);
/* A resource of the state of the world may come wrapped in a Resource, with a name, a version and a
 * TTL of its own. False: told in errors. */
bool mux_resource_unwrap(struct mux_resource *r, struct arena *a, struct errors *errors);
