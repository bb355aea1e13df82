/* What the files that translate routes share. Main thread only. */
#pragma once
#include "envoy/config/route/v3/route.pb-c.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/route.h"
#include "proxy/http/route_internal.h"

/* One route configuration on its way. */
struct route_build {
    struct arena *a;
    struct route_config *config;
    size_t body_most; /* direct response bodies */
    bool validate_clusters;
    struct map clusters; /* names of clusters referred to, each once (heap; released at the end) */
    const struct mirror_policy
        *mirrors; /* of the configuration: for hosts and routes without their own */
    size_t mirror_count;
};

/* Names a cluster that a route refers to; false: it has to be known and is not. `at` is the field
 * that names it. */
bool route_uses_cluster(struct route_build *b, const struct conf_at *at, struct str name);
bool translate_route_match(const struct conf_at *at, const Envoy__Config__Route__V3__RouteMatch *m,
                           struct route_entry *e);
/* RouteAction, RedirectAction, DirectResponseAction. */
bool translate_route_action(struct route_build *b, const struct conf_at *at,
                            const Envoy__Config__Route__V3__RouteAction *m, struct route *r);
bool translate_weighted_clusters(struct route_build *b, const struct conf_at *at,
                                 const Envoy__Config__Route__V3__WeightedCluster *m,
                                 struct route *r);
bool translate_redirect(const struct conf_at *at, const Envoy__Config__Route__V3__RedirectAction *m,
                        struct route *r);
bool translate_direct_response(struct route_build *b, const struct conf_at *at,
                               const Envoy__Config__Route__V3__DirectResponseAction *m,
                               struct route *r);
bool translate_hash_policies(const struct conf_at *at, size_t n,
                             Envoy__Config__Route__V3__RouteAction__HashPolicy *const *v,
                             const struct hash_policy **out, size_t *count);
/* By itself: whether its cluster exists is not asked. */
bool translate_mirror(const struct conf_at *at,
                      const Envoy__Config__Route__V3__RouteAction__RequestMirrorPolicy *m,
                      struct mirror_policy *out);
/* `field` is the repeated field of the message at `at`. */
const struct mirror_policy *translate_mirrors(
    struct route_build *b, const struct conf_at *at, const char *field, size_t n,
    Envoy__Config__Route__V3__RouteAction__RequestMirrorPolicy *const *v, bool *ok);
/* One entry of a typed_per_filter_config map, put in front of *list. `at` is the entry. */
bool translate_filter_override(const struct conf_at *at, const char *filter_name,
                               const struct Google__Protobuf__Any *any,
                               struct filter_override **list);
