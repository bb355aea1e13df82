/* /config_dump: the sections of routes and scopes. Envoy calls what stands inside of connection
 * managers "static" or "inline", wherever the listener came from. */
#include "base/arena.h"
#include "base/errors.h"
#include "base/regex.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "proto/decode.h"
#include "proxy/runtime/runtime.h"
#include "server/admin_dump.h"
#include "server/admin_internal.h"
#include "server/server.h"

typedef Envoy__Admin__V3__ScopedRoutesConfigDump__InlineScopedRouteConfigs InlineScopes;
typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpConnectionManager
    ConnectionManager;
#define HCM_ROUTES_CASE(name) \
    ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__HTTP_CONNECTION_MANAGER__ROUTE_SPECIFIER_##name
#define SCOPES_CASE(name) \
    ENVOY__EXTENSIONS__FILTERS__NETWORK__HTTP_CONNECTION_MANAGER__V3__SCOPED_ROUTES__CONFIG_SPECIFIER_##name

/* What stands inside of connection managers: tables, and sets of scopes. */
struct static_routes {
    Envoy__Admin__V3__RoutesConfigDump__StaticRouteConfig **v;
    size_t count, cap;
    InlineScopes **scopes;
    size_t scope_count;
};

static void scopes_of_filter(struct admin_request *r, const struct regex *filter,
                             const ConnectionManager *m, uint64_t updated,
                             struct static_routes *out)
{
    struct arena *a = r->arena;
    if (m->scoped_routes->config_specifier_case != SCOPES_CASE(SCOPED_ROUTE_CONFIGURATIONS_LIST))
        return;
    const Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ScopedRouteConfigurationsList
        *list = m->scoped_routes->scoped_route_configurations_list;
    InlineScopes *c = ARENA_NEW(a, InlineScopes);
    envoy__admin__v3__scoped_routes_config_dump__inline_scoped_route_configs__init(c);
    c->name = m->scoped_routes->name;
    c->last_updated = dump_time(a, updated);
    c->scoped_route_configs =
        ARENA_ARRAY(a, Google__Protobuf__Any *, list->n_scoped_route_configurations);
    for (size_t i = 0; i < list->n_scoped_route_configurations; i++)
        if (dump_named(filter, list->scoped_route_configurations[i]->name))
            c->scoped_route_configs[c->n_scoped_route_configs++] =
                proto_any_pack(a, &list->scoped_route_configurations[i]->base);
    out->scopes[out->scope_count++] = c;
}

static void routes_of_filter(struct admin_request *r, const struct regex *filter,
                             const Google__Protobuf__Any *any, uint64_t updated,
                             struct static_routes *out)
{
    static const ProtobufCMessageDescriptor *const desc =
        &envoy__extensions__filters__network__http_connection_manager__v3__http_connection_manager__descriptor;
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors unused = {.arena = r->arena};
    if (!any || out->count == out->cap || out->scope_count == out->cap ||
        proto_type_find_url(str_of(any->type_url)) != proto_type_of(desc))
        return;
    const ConnectionManager *m = (const void *)proto_unpack(
        r->arena, desc, str_make((const char *)any->value.data, any->value.len), &lenient, NULL,
        &unused);
    if (m && m->route_specifier_case == HCM_ROUTES_CASE(SCOPED_ROUTES))
        scopes_of_filter(r, filter, m, updated, out);
    if (!m || m->route_specifier_case != HCM_ROUTES_CASE(ROUTE_CONFIG)) return;
    if (filter && !regex_full(filter, str_of(m->route_config->name))) return;
    Envoy__Admin__V3__RoutesConfigDump__StaticRouteConfig *c =
        ARENA_NEW(r->arena, Envoy__Admin__V3__RoutesConfigDump__StaticRouteConfig);
    envoy__admin__v3__routes_config_dump__static_route_config__init(c);
    c->route_config = proto_any_pack(r->arena, &m->route_config->base);
    c->last_updated = dump_time(r->arena, updated);
    out->v[out->count++] = c;
}

static void routes_of_chain(struct admin_request *r, const struct regex *filter,
                            const Envoy__Config__Listener__V3__FilterChain *chain, uint64_t updated,
                            struct static_routes *out)
{
    for (size_t i = 0; chain && i < chain->n_filters; i++) {
        const Envoy__Config__Listener__V3__Filter *f = chain->filters[i];
        if (f->config_type_case == ENVOY__CONFIG__LISTENER__V3__FILTER__CONFIG_TYPE_TYPED_CONFIG)
            routes_of_filter(r, filter, f->typed_config, updated, out);
    }
}

static size_t filters_of(const Envoy__Config__Listener__V3__Listener *l)
{
    size_t count = l->default_filter_chain ? l->default_filter_chain->n_filters : 0;
    for (size_t k = 0; k < l->n_filter_chains; k++)
        count += l->filter_chains[k]->n_filters;
    return count;
}

/* The static listeners and those that came from a control plane; NULL where one cannot be read. */
static const Envoy__Config__Listener__V3__Listener **all_listeners(struct admin_request *r,
                                                                   const struct dump_views *views,
                                                                   size_t *count)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = dump_statics(r);
    struct errors unused = {.arena = r->arena};
    const Envoy__Config__Listener__V3__Listener **out = ARENA_ARRAY(
        r->arena, const Envoy__Config__Listener__V3__Listener *, s->n_listeners + views->count);
    *count = s->n_listeners + views->count;
    for (size_t i = 0; i < s->n_listeners; i++)
        out[i] = s->listeners[i];
    for (size_t i = 0; i < views->count; i++) {
        const struct xds_view *v = &views->v[i];
        if (v->is_static || !v->bytes.len) continue;
        out[s->n_listeners + i] =
            (const void *)proto_unpack(r->arena, &envoy__config__listener__v3__listener__descriptor,
                                       v->bytes, &lenient, NULL, &unused);
    }
    return out;
}

/* Envoy: route tables inside of listeners are "static", wherever the listener came from. */
static struct static_routes inline_routes(struct admin_request *r, const struct regex *filter)
{
    struct dump_views views = dump_views_of(r, NULL, XDS_LISTENER);
    struct static_routes out = {.cap = 0};
    size_t count, fixed = dump_statics(r)->n_listeners;
    const Envoy__Config__Listener__V3__Listener **listeners = all_listeners(r, &views, &count);
    for (size_t i = 0; i < count; i++)
        if (listeners[i]) out.cap += filters_of(listeners[i]);
    out.v = ARENA_ARRAY(r->arena, Envoy__Admin__V3__RoutesConfigDump__StaticRouteConfig *, out.cap);
    out.scopes = ARENA_ARRAY(r->arena, InlineScopes *, out.cap);
    for (size_t i = 0; i < count; i++) {
        const Envoy__Config__Listener__V3__Listener *l = listeners[i];
        uint64_t updated =
            i < fixed ? r->server->rt->start_wall_us : views.v[i - fixed].updated_wall_us;
        if (!l) continue;
        for (size_t k = 0; k < l->n_filter_chains; k++)
            routes_of_chain(r, filter, l->filter_chains[k], updated, &out);
        routes_of_chain(r, filter, l->default_filter_chain, updated, &out);
    }
    return out;
}

ProtobufCMessage *dump_routes(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct dump_views all = dump_views_of(r, filter, XDS_ROUTE);
    struct static_routes fixed = inline_routes(r, filter);
    Envoy__Admin__V3__RoutesConfigDump *d = ARENA_NEW(a, Envoy__Admin__V3__RoutesConfigDump);
    envoy__admin__v3__routes_config_dump__init(d);
    d->static_route_configs = fixed.v;
    d->n_static_route_configs = fixed.count;
    d->dynamic_route_configs =
        ARENA_ARRAY(a, Envoy__Admin__V3__RoutesConfigDump__DynamicRouteConfig *, all.count);
    for (size_t i = 0; i < all.count; i++) {
        const struct xds_view *v = &all.v[i];
        Envoy__Admin__V3__RoutesConfigDump__DynamicRouteConfig *c =
            ARENA_NEW(a, Envoy__Admin__V3__RoutesConfigDump__DynamicRouteConfig);
        envoy__admin__v3__routes_config_dump__dynamic_route_config__init(c);
        c->version_info = str_z(a, v->version);
        c->route_config = dump_config(a, v);
        if (c->route_config) c->last_updated = dump_time(a, v->updated_wall_us);
        c->error_state = dump_failure(a, v);
        d->dynamic_route_configs[d->n_dynamic_route_configs++] = c;
    }
    return &d->base;
}

typedef Envoy__Admin__V3__ScopedRoutesConfigDump ScopesDump;
typedef Envoy__Admin__V3__ScopedRoutesConfigDump__DynamicScopedRouteConfigs DynamicScopes;

/* Envoy: every set is shown; name_regex is for its scopes. */
static void dump_scope_set(struct admin_request *r, const struct xds_view *set,
                           const struct dump_views *scopes, ScopesDump *d)
{
    struct arena *a = r->arena;
    DynamicScopes *c = ARENA_NEW(a, DynamicScopes);
    envoy__admin__v3__scoped_routes_config_dump__dynamic_scoped_route_configs__init(c);
    c->name = str_z(a, set->name);
    c->version_info = str_z(a, set->version);
    if (set->updated_wall_us) c->last_updated = dump_time(a, set->updated_wall_us);
    c->scoped_route_configs = ARENA_ARRAY(a, Google__Protobuf__Any *, scopes->count);
    for (size_t i = 0; i < scopes->count; i++)
        if (scopes->v[i].source == set->source && scopes->v[i].bytes.len)
            c->scoped_route_configs[c->n_scoped_route_configs++] = dump_config(a, &scopes->v[i]);
    d->dynamic_scoped_route_configs[d->n_dynamic_scoped_route_configs++] = c;
}

ProtobufCMessage *dump_scoped_routes(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct dump_views sets = dump_views_of(r, NULL, XDS_SCOPE_SET),
                      scopes = dump_views_of(r, filter, XDS_SCOPED_ROUTE);
    ScopesDump *d = ARENA_NEW(a, ScopesDump);
    envoy__admin__v3__scoped_routes_config_dump__init(d);
    d->dynamic_scoped_route_configs = ARENA_ARRAY(a, DynamicScopes *, sets.count);
    for (size_t i = 0; i < sets.count; i++)
        dump_scope_set(r, &sets.v[i], &scopes, d);
    struct static_routes fixed = inline_routes(r, filter);
    d->inline_scoped_route_configs = fixed.scopes;
    d->n_inline_scoped_route_configs = fixed.scope_count;
    return &d->base;
}
