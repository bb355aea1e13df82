/* What connection manager and router do with a matched route: cluster choice, rewrites, header
 * changes, redirects, hashes. Pure functions on headers and stream_info; implemented in
 * proxy/http/route_*.c. Worker. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "proxy/api/route.h"

struct arena;

/* The cluster of a forwarding route for this stream: plain name, cluster_header, or the weighted
 * choice (by info->random, header_name or runtime-changed weights). Name empty: none. Call once per
 * stream and keep the result. */
struct route_choice {
    struct str cluster;
    uint64_t hash;                           /* hash_str(cluster) */
    const struct weighted_cluster *weighted; /* the entry that was chosen; NULL: not weighted */
};
struct route_choice route_choose_cluster(const struct route *r, const struct headers *h,
                                         const struct stream_info *info);

/* What the router does to request headers before they go upstream: header changes of weighted
 * cluster, route, virtual host and table in their order, path rewrite (x-envoy-original-path when
 * `set_original_path`), host rewrite (x-forwarded-host when asked). auto_host_rewrite is the
 * router's own (it needs the host). choice may be NULL. */
void route_finalize_request(const struct route *r, const struct route_choice *choice,
                            struct headers *h, const struct stream_info *info,
                            bool set_original_path);
/* Sets :authority (empty `to`: nothing happens); the old host is appended to x-forwarded-host
 * unless it is the last there, and kept in x-envoy-original-host. For auto_host_rewrite, too. */
void route_rewrite_host(struct headers *h, struct str to, bool append_forwarded,
                        bool keep_original);
/* Header changes of the response side, same order. r may be NULL (then the table's of
 * info->route_config only when a route matched). */
void route_finalize_response(const struct route *r, const struct route_choice *choice,
                             struct headers *h, const struct stream_info *info);
/* The path after the route's rewrite; ptr NULL when the route does not rewrite. In `a`. */
struct str route_rewrite_path(const struct route *r, const struct headers *h,
                              const struct stream_info *info, struct arena *a);

/* --- answers without upstream
 * ----------------------------------------------------------------------------------------------------------
 */
/* The Location of a ROUTE_REDIRECT route, and of a ROUTE_DIRECT_RESPONSE with 201 or 3xx, in the
 * arena of the headers. Rewrites the path in the headers when the redirect does, as Envoy.
 * (require_tls: route_find gives such a route.) */
struct str route_redirect_location(const struct route *r, struct headers *h,
                                   const struct stream_info *info, bool set_original_path);
/* Body of a ROUTE_DIRECT_RESPONSE route: plain, or made by body_format; *content_type is empty when
 * the body is plain. */
struct str route_direct_body(const struct route *r, struct stream_info *info, struct arena *a,
                             struct str *content_type);
/* --- per-stream facts
 * -------------------------------------------------------------------------------------------------------------------
 */
/* Hash of the route's hash policies. False: none gave one. Cookies that have to be set are told
 * through *set_cookie (one value for a set-cookie header, in `a`); empty: none. */
bool route_hash(const struct hash_policy *v, size_t count, const struct headers *h,
                const struct stream_info *info, struct arena *a, uint64_t *hash,
                struct str *set_cookie);
/* Name of the first virtual cluster that matches; empty: none ("other" counts then). */
struct str route_virtual_cluster(const struct virtual_host *v, const struct headers *h,
                                 struct arena *scratch);
/* envoy.lb criteria of the route with those of the weighted cluster merged in. */
const struct metadata *route_metadata_match(const struct route *r,
                                            const struct route_choice *choice);
/* The most specific override of a filter, looking from weighted cluster to table; NULL: none. */
const struct filter_override *route_override(const struct route *r,
                                             const struct route_choice *choice,
                                             struct str filter_name);
/* All levels, outermost first (table, virtual host, route, weighted cluster), for merging; gives
 * back how many (at most 4). */
size_t route_overrides(const struct route *r, const struct route_choice *choice,
                       struct str filter_name, const struct filter_override *out[4]);
/* May this route be upgraded to `type`? upgrades of the connection manager are the fallback of the
 * caller: false = the route says nothing. */
bool route_upgrade(const struct route *r, struct str type, bool *enabled,
                   const struct upgrade_conf **conf);

/* A RouteMatch by itself, for filters that have rules of their own. */
struct route_match;
struct conf_at;
struct Envoy__Config__Route__V3__RouteMatch;
/* Main; lives in conf_arena(at). NULL: told. */
const struct route_match *conf_route_match(const struct conf_at *at,
                                           const struct Envoy__Config__Route__V3__RouteMatch *m);
bool route_match_fits(const struct route_match *m, struct worker *w, const struct headers *h,
                      const struct stream_info *info);
