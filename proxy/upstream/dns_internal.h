/* Resolving one name (dns.c), used by DNS clusters (dns_cluster.c). Main thread only. */
#pragma once
#include "proxy/upstream/dns.h"

struct dns_query;
struct dns_result {
    bool ok;
    const struct addr *v; /* without port; valid during the call */
    size_t count;
    struct str why; /* without addresses: as Envoy names the failure, no spaces; during the call */
    uint32_t ttl_s; /* the shortest; 0 when none */
};
/* Begins; done may be called before it returns. The query ends with done or dns_cancel. */
struct dns_query *dns_resolve(struct dns *d, const struct dns_settings *s, struct str name,
                              void (*done)(void *arg, const struct dns_result *r), void *arg);
/* done will not be called. Leaves NULL. */
void dns_cancel(struct dns_query **q);
struct runtime *dns_runtime(const struct dns *d);
