/* envoy.filters.http.match_delegate (ExtensionWithMatcher): stands before another filter, which a
 * matcher tree may leave out of a request or a response. */
#include "base/arena.h"
#include "envoy/config/common/matcher/v3/matcher.pb-c.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/extensions/common/matching/v3/extension_matcher.pb-c.h"
#include "envoy/extensions/filters/common/matcher/action/v3/skip_action.pb-c.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/match_tree.h"
#include "xds/type/matcher/v3/matcher.pb-c.h"

/* The one action that there is: the filter is left out. */
static const void *delegate_action(const struct conf_at *at, struct str name,
                                   const struct Google__Protobuf__Any *any, void *arg)
{
    (void)arg;
    return conf_match_action(
        at, name, any,
        &envoy__extensions__filters__common__matcher__action__v3__skip_filter__descriptor);
}

static const struct match_tree_use delegate_use = {.place = MATCH_IN_HTTP,
                                                   .action = delegate_action};

static bool delegate_filter(const struct conf_at *at,
                            const Envoy__Config__Core__V3__TypedExtensionConfig *m,
                            struct str stat_prefix, struct http_filter_delegate *out)
{
    struct conf_at config = conf_field(at, "typed_config");
    const struct ProtobufCMessage *msg;
    const struct extension *e =
        conf_extension(at, EXTENSION_HTTP_FILTER, str_of(m->name), m->typed_config, &msg);
    if (!e) return false;
    out->type = (const struct http_filter_type *)e;
    if (out->type->terminal || out->type->delegate)
        return conf_fail(&config, "a filter of this type cannot be left out");
    if (!out->type->conf_create) return true;
    out->conf = out->type->conf_create(&config, msg, stat_prefix);
    return out->conf != NULL;
}

static const void *delegate_conf_create(const struct conf_at *at,
                                        const struct ProtobufCMessage *msg, struct str stat_prefix)
{
    const Envoy__Extensions__Common__Matching__V3__ExtensionWithMatcher *m = (const void *)msg;
    struct http_filter_delegate *d = ARENA_NEW(conf_arena(at), struct http_filter_delegate);
    struct conf_at inner = conf_field(at, "extension_config"), tree = conf_field(at, "xds_matcher"),
                   old = conf_field(at, "matcher");
    if (!m->extension_config) {
        (void)conf_fail(&inner, "value is required");
        return NULL;
    }
    bool ok = delegate_filter(&inner, m->extension_config, stat_prefix, d);
    if (m->xds_matcher)
        ok = (d->tree = conf_match_tree(&tree, m->xds_matcher, &delegate_use)) != NULL && ok;
    else if (m->matcher)
        ok = (d->tree = conf_match_tree_old(&old, m->matcher, &delegate_use)) != NULL && ok;
    return ok ? d : NULL;
}

static const void *delegate_route_create(const struct conf_at *at,
                                         const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Common__Matching__V3__ExtensionWithMatcherPerRoute *m =
        (const void *)msg;
    struct conf_at tree = conf_field(at, "xds_matcher");
    if (m->xds_matcher) return conf_match_tree(&tree, m->xds_matcher, &delegate_use);
    (void)conf_fail(&tree, "value is required");
    return NULL;
}

const struct http_filter_type http_match_delegate = {
    .ext = {.name = "envoy.filters.http.match_delegate",
            .config = &envoy__extensions__common__matching__v3__extension_with_matcher__descriptor},
    .route_config =
        &envoy__extensions__common__matching__v3__extension_with_matcher_per_route__descriptor,
    .delegate = true,
    .conf_create = delegate_conf_create,
    .route_conf_create = delegate_route_create,
};
