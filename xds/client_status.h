/* What a tool that asks by the client status API (CSDS) is told: every resource with its version
 * and state. Main thread. */
#pragma once
#include "envoy/service/status/v3/csds.pb-c.h"

struct arena;
struct errors;
struct xds;

/* The answer, in `a`; contents are borrowed from the resources, so it lives for the turn. Without
 * node matchers, or if one fits our node: one client; else none. NULL: told in errors. */
Envoy__Service__Status__V3__ClientStatusResponse *client_status(
    struct xds *x, const Envoy__Service__Status__V3__ClientStatusRequest *q, struct arena *a,
    struct errors *errors);
/* Hides secrets in the resources of such an answer, which takes no text: see proto/redact.h. */
void client_status_redact(Envoy__Service__Status__V3__ClientStatusResponse *m, struct arena *a);
