/* What the cluster and the filters for dynamic forwarding share: whom a request or connection
 * means.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/str.h"

struct addr;
struct arena;
struct conn_info;
struct filter_state;
struct headers;
struct stream_info;

/* The port where none is named, of plain and of TLS clusters. */
enum { DFP_PORT = 80, DFP_TLS_PORT = 443 };

struct dfp_target {
    struct str host; /* with its port, or not; empty: not known */
    uint16_t port;   /* where host names none */
};
/* Filter state "envoy.upstream.dynamic_host" and "…port" go first, then the request's authority,
 * then the connection's server name. Any may be NULL. */
struct dfp_target dfp_target(const struct stream_info *s, const struct conn_info *c,
                             const struct headers *h, struct arena *scratch, uint16_t port);
/* What a name was resolved to, in filter state: a struct addr without a text, for RBAC. */
#define DFP_UPSTREAM_ADDRESS STR("envoy.stream.upstream_address")
void dfp_save_address(struct filter_state **s, struct arena *a, const struct addr *x);
