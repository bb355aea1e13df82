/* Names that are resolved when somebody asks for them (dynamic forward proxy): shared by the
 * filters and the clusters that name the same cache. Main resolves and keeps names fresh; each
 * worker knows what was answered. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/list.h"
#include "base/str.h"
#include "proxy/api/conf.h"

struct addr;
struct cluster;
struct dns_cache;
struct host;
struct worker;
struct Envoy__Extensions__Common__DynamicForwardProxy__V3__DnsCacheConfig;

/* Main. The cache of that name, made if there is none; it lives as long as the arena. NULL: told
 * (another one has that name and other settings). */
struct dns_cache *conf_dns_cache(
    const struct conf_at *at,
    const struct Envoy__Extensions__Common__DynamicForwardProxy__V3__DnsCacheConfig *m);

/* --- asking: worker
 * --------------------------------------------------------------------------------------------- */
enum dns_answer {
    DNS_RESOLVED,
    DNS_FAILED,   /* no address */
    DNS_LATER,    /* done comes, from the loop, unless dns_cache_forget was called */
    DNS_PENDING,  /* too many wait already */
    DNS_TOO_MANY, /* more names than max_hosts */
};
/* Embedded by the asker, zeroed. */
struct dns_wait {
    void (*done)(struct dns_wait *w, enum dns_answer a); /* set by the asker */
    struct str why;             /* of DNS_FAILED, as Envoy names it; borrowed for the call */
    const struct addr *address; /* of DNS_RESOLVED; likewise */
    struct list link;
    struct dns_cache *cache;
};
/* host: a name or an address, with or without a port. */
enum dns_answer dns_cache_ask(struct worker *w, struct dns_cache *c, struct str host,
                              uint16_t default_port, struct dns_wait *wait);
/* done will not be called. Fine on one that does not wait. */
void dns_cache_forget(struct dns_wait *w);
/* "name:port" in the arena: how caches and clusters call a host. */
struct str dns_cache_key(struct arena *a, struct str host, uint16_t default_port);

/* --- clusters: main
 * ------------------------------------------------------------------------------------------- */
/* From now on the cluster's hosts are the names that were resolved (each host's name is its key);
 * sets c->feed. */
void dns_cache_feed(struct dns_cache *c, struct cluster *to);
void dns_cache_unfeed(struct cluster *c);
