/* The making of a DNS cache (proxy/api/dns_cache.h), for its translation. Main thread only. */
#pragma once
#include "proxy/api/dns_cache.h"
#include "proxy/upstream/cluster.h"

struct dns_cache_conf {
    struct str name;
    uint64_t meaning; /* hash of the message */
    struct dns_settings dns;
    uint64_t host_ttl_us, min_refresh_us, query_timeout_us; /* query_timeout 0: none */
    uint32_t max_hosts, max_pending;
};
/* A reference on the cache of that name; NULL: it has other settings. Texts are copied. */
struct dns_cache *dns_cache_get(struct runtime *rt, const struct dns_cache_conf *conf);
void dns_cache_unref(struct dns_cache **c);
/* A name that is resolved before anybody asks. */
void dns_cache_preresolve(struct dns_cache *c, struct str key);
