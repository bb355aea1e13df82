/* /config_dump: the bootstrap and every resource as it came, in Envoy's sections. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/regex.h"
#include "envoy/admin/v3/config_dump.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.pb-c.h"
#include "proto/decode.h"
#include "proto/print.h"
#include "proxy/api/extension.h"
#include "proxy/runtime/runtime.h"
#include "server/admin_internal.h"
#include "server/server.h"
#include "xds/xds.h"

/* The views of a kind, copied and sorted by name. */
struct views {
    struct arena *arena;
    const struct regex *filter; /* of names; NULL: all */
    struct xds_view *v;
    size_t count, cap;
};

static void view_count(void *arg, const struct xds_view *v)
{
    (void)v;
    ((struct views *)arg)->cap++;
}

static void view_add(void *arg, const struct xds_view *v)
{
    struct views *all = arg;
    if (all->count == all->cap || (all->filter && !regex_full(all->filter, v->name))) return;
    all->v[all->count++] = *v; /* borrows: nothing changes while a page is made */
}

static int view_order(const void *x, const void *y)
{
    return str_cmp(((const struct xds_view *)x)->name, ((const struct xds_view *)y)->name);
}

static struct views views_of(struct admin_request *r, const struct regex *filter,
                             enum xds_kind kind)
{
    struct views all = {.arena = r->arena, .filter = filter};
    xds_each(r->server->xds, kind, view_count, &all);
    all.v = ARENA_ARRAY(r->arena, struct xds_view, all.cap);
    xds_each(r->server->xds, kind, view_add, &all);
    qsort(all.v, all.count, sizeof *all.v, view_order);
    return all;
}

static Google__Protobuf__Timestamp *time_of(struct arena *a, uint64_t wall_us)
{
    Google__Protobuf__Timestamp *t = ARENA_NEW(a, Google__Protobuf__Timestamp);
    google__protobuf__timestamp__init(t);
    t->seconds = (int64_t)(wall_us / 1000000);
    t->nanos = (int32_t)(wall_us % 1000000 / 1000) * 1000000; /* milliseconds, as Envoy */
    return t;
}

static Google__Protobuf__Any *any_of(struct arena *a, struct str type_url, struct str bytes)
{
    Google__Protobuf__Any *any = ARENA_NEW(a, Google__Protobuf__Any);
    google__protobuf__any__init(any);
    any->type_url = str_z(a, type_url);
    any->value.data = (uint8_t *)(uintptr_t)bytes.ptr;
    any->value.len = bytes.len;
    return any;
}

static Envoy__Admin__V3__UpdateFailureState *failure_of(struct arena *a, const struct xds_view *v)
{
    if (v->error.len == 0) return NULL;
    Envoy__Admin__V3__UpdateFailureState *f = ARENA_NEW(a, Envoy__Admin__V3__UpdateFailureState);
    envoy__admin__v3__update_failure_state__init(f);
    if (v->failed_bytes.len) f->failed_configuration = any_of(a, v->type_url, v->failed_bytes);
    f->last_update_attempt = time_of(a, v->error_wall_us);
    f->details = str_z(a, v->error);
    f->version_info = str_z(a, v->error_version);
    return f;
}

static Google__Protobuf__Any *config_of(struct arena *a, const struct xds_view *v)
{
    return v->bytes.len ? any_of(a, v->type_url, v->bytes) : NULL;
}

/* --- the sections
 * ----------------------------------------------------------------------------------------------------------
 */

static ProtobufCMessage *dump_bootstrap(struct admin_request *r)
{
    struct arena *a = r->arena;
    struct server *s = r->server;
    Envoy__Admin__V3__BootstrapConfigDump *d = ARENA_NEW(a, Envoy__Admin__V3__BootstrapConfigDump);
    Envoy__Config__Bootstrap__V3__Bootstrap *b = arena_copy(a, s->config.bootstrap, sizeof *b);
    envoy__admin__v3__bootstrap_config_dump__init(d);
    b->node =
        (Envoy__Config__Core__V3__Node *)(uintptr_t)xds_node(s->xds); /* as control planes see it */
    d->bootstrap = b;
    d->last_updated = time_of(a, s->rt->start_wall_us);
    return &d->base;
}

static const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *statics(
    const struct admin_request *r)
{
    static const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources none;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        r->server->config.bootstrap->static_resources;
    return s ? s : &none;
}

static bool named(const struct regex *filter, const char *name)
{
    return !filter || regex_full(filter, str_of(name));
}

static void dump_static_clusters(struct admin_request *r, const struct regex *filter,
                                 Envoy__Admin__V3__ClustersConfigDump *d)
{
    struct arena *a = r->arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = statics(r);
    d->static_clusters =
        ARENA_ARRAY(a, Envoy__Admin__V3__ClustersConfigDump__StaticCluster *, s->n_clusters);
    for (size_t i = 0; i < s->n_clusters; i++) {
        if (!named(filter, s->clusters[i]->name)) continue;
        Envoy__Admin__V3__ClustersConfigDump__StaticCluster *c =
            ARENA_NEW(a, Envoy__Admin__V3__ClustersConfigDump__StaticCluster);
        envoy__admin__v3__clusters_config_dump__static_cluster__init(c);
        c->cluster = proto_any_pack(a, &s->clusters[i]->base);
        c->last_updated = time_of(a, r->server->rt->start_wall_us);
        d->static_clusters[d->n_static_clusters++] = c;
    }
}

static ProtobufCMessage *dump_clusters(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct views all = views_of(r, filter, XDS_CLUSTER);
    Envoy__Admin__V3__ClustersConfigDump *d = ARENA_NEW(a, Envoy__Admin__V3__ClustersConfigDump);
    envoy__admin__v3__clusters_config_dump__init(d);
    d->version_info = str_z(a, xds_version(r->server->xds, XDS_CLUSTER));
    dump_static_clusters(r, filter, d);
    d->dynamic_active_clusters =
        ARENA_ARRAY(a, Envoy__Admin__V3__ClustersConfigDump__DynamicCluster *, all.count);
    d->dynamic_warming_clusters =
        ARENA_ARRAY(a, Envoy__Admin__V3__ClustersConfigDump__DynamicCluster *, all.count);
    for (size_t i = 0; i < all.count; i++) {
        const struct xds_view *v = &all.v[i];
        if (v->is_static) continue;
        Envoy__Admin__V3__ClustersConfigDump__DynamicCluster *c =
            ARENA_NEW(a, Envoy__Admin__V3__ClustersConfigDump__DynamicCluster);
        envoy__admin__v3__clusters_config_dump__dynamic_cluster__init(c);
        c->version_info = str_z(a, v->version);
        c->cluster = config_of(a, v);
        if (c->cluster) c->last_updated = time_of(a, v->updated_wall_us);
        c->error_state = failure_of(a, v);
        if (v->warming)
            d->dynamic_warming_clusters[d->n_dynamic_warming_clusters++] = c;
        else
            d->dynamic_active_clusters[d->n_dynamic_active_clusters++] = c;
    }
    return &d->base;
}

static ProtobufCMessage *dump_endpoints(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct views all = views_of(r, filter, XDS_ENDPOINT);
    Envoy__Admin__V3__EndpointsConfigDump *d = ARENA_NEW(a, Envoy__Admin__V3__EndpointsConfigDump);
    envoy__admin__v3__endpoints_config_dump__init(d);
    d->dynamic_endpoint_configs =
        ARENA_ARRAY(a, Envoy__Admin__V3__EndpointsConfigDump__DynamicEndpointConfig *, all.count);
    for (size_t i = 0; i < all.count; i++) {
        const struct xds_view *v = &all.v[i];
        Envoy__Admin__V3__EndpointsConfigDump__DynamicEndpointConfig *c =
            ARENA_NEW(a, Envoy__Admin__V3__EndpointsConfigDump__DynamicEndpointConfig);
        envoy__admin__v3__endpoints_config_dump__dynamic_endpoint_config__init(c);
        c->version_info = str_z(a, v->version);
        c->endpoint_config = config_of(a, v);
        if (c->endpoint_config) c->last_updated = time_of(a, v->updated_wall_us);
        c->error_state = failure_of(a, v);
        d->dynamic_endpoint_configs[d->n_dynamic_endpoint_configs++] = c;
    }
    return &d->base;
}

/* The endpoints that static and DNS clusters have in their own configuration. */
static void dump_static_endpoints(struct admin_request *r, const struct regex *filter,
                                  Envoy__Admin__V3__EndpointsConfigDump *d)
{
    struct arena *a = r->arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = statics(r);
    d->static_endpoint_configs = ARENA_ARRAY(
        a, Envoy__Admin__V3__EndpointsConfigDump__StaticEndpointConfig *, s->n_clusters);
    for (size_t i = 0; i < s->n_clusters; i++) {
        const Envoy__Config__Cluster__V3__Cluster *c = s->clusters[i];
        if (!c->load_assignment || !named(filter, c->load_assignment->cluster_name)) continue;
        Envoy__Admin__V3__EndpointsConfigDump__StaticEndpointConfig *e =
            ARENA_NEW(a, Envoy__Admin__V3__EndpointsConfigDump__StaticEndpointConfig);
        envoy__admin__v3__endpoints_config_dump__static_endpoint_config__init(e);
        e->endpoint_config = proto_any_pack(a, &c->load_assignment->base);
        d->static_endpoint_configs[d->n_static_endpoint_configs++] = e;
    }
}

static Envoy__Admin__V3__ListenersConfigDump__DynamicListenerState *listener_state(
    struct arena *a, const struct xds_view *v)
{
    Envoy__Admin__V3__ListenersConfigDump__DynamicListenerState *state =
        ARENA_NEW(a, Envoy__Admin__V3__ListenersConfigDump__DynamicListenerState);
    envoy__admin__v3__listeners_config_dump__dynamic_listener_state__init(state);
    state->version_info = str_z(a, v->version);
    state->listener = config_of(a, v);
    state->last_updated = time_of(a, v->updated_wall_us);
    return state;
}

static void dump_static_listeners(struct admin_request *r, const struct regex *filter,
                                  Envoy__Admin__V3__ListenersConfigDump *d)
{
    struct arena *a = r->arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = statics(r);
    d->static_listeners =
        ARENA_ARRAY(a, Envoy__Admin__V3__ListenersConfigDump__StaticListener *, s->n_listeners);
    for (size_t i = 0; i < s->n_listeners; i++) {
        if (!named(filter, s->listeners[i]->name)) continue;
        Envoy__Admin__V3__ListenersConfigDump__StaticListener *l =
            ARENA_NEW(a, Envoy__Admin__V3__ListenersConfigDump__StaticListener);
        envoy__admin__v3__listeners_config_dump__static_listener__init(l);
        l->listener = proto_any_pack(a, &s->listeners[i]->base);
        l->last_updated = time_of(a, r->server->rt->start_wall_us);
        d->static_listeners[d->n_static_listeners++] = l;
    }
}

static ProtobufCMessage *dump_listeners(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct views all = views_of(r, filter, XDS_LISTENER);
    Envoy__Admin__V3__ListenersConfigDump *d = ARENA_NEW(a, Envoy__Admin__V3__ListenersConfigDump);
    envoy__admin__v3__listeners_config_dump__init(d);
    d->version_info = str_z(a, xds_version(r->server->xds, XDS_LISTENER));
    dump_static_listeners(r, filter, d);
    d->dynamic_listeners =
        ARENA_ARRAY(a, Envoy__Admin__V3__ListenersConfigDump__DynamicListener *, all.count);
    for (size_t i = 0; i < all.count; i++) {
        const struct xds_view *v = &all.v[i];
        if (v->is_static) continue;
        Envoy__Admin__V3__ListenersConfigDump__DynamicListener *l =
            ARENA_NEW(a, Envoy__Admin__V3__ListenersConfigDump__DynamicListener);
        envoy__admin__v3__listeners_config_dump__dynamic_listener__init(l);
        l->name = str_z(a, v->name);
        if (v->bytes.len && v->warming)
            l->warming_state = listener_state(a, v);
        else if (v->bytes.len)
            l->active_state = listener_state(a, v);
        l->error_state = failure_of(a, v);
        d->dynamic_listeners[d->n_dynamic_listeners++] = l;
    }
    return &d->base;
}

/* --- routes
 * ------------------------------------------------------------------------------------------------------------------
 */

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
    c->last_updated = time_of(a, updated);
    c->scoped_route_configs =
        ARENA_ARRAY(a, Google__Protobuf__Any *, list->n_scoped_route_configurations);
    for (size_t i = 0; i < list->n_scoped_route_configurations; i++)
        if (named(filter, list->scoped_route_configurations[i]->name))
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
    c->last_updated = time_of(r->arena, updated);
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
                                                                   const struct views *views,
                                                                   size_t *count)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = statics(r);
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
    struct views views = views_of(r, NULL, XDS_LISTENER);
    struct static_routes out = {.cap = 0};
    size_t count, fixed = statics(r)->n_listeners;
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

static ProtobufCMessage *dump_routes(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct views all = views_of(r, filter, XDS_ROUTE);
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
        c->route_config = config_of(a, v);
        if (c->route_config) c->last_updated = time_of(a, v->updated_wall_us);
        c->error_state = failure_of(a, v);
        d->dynamic_route_configs[d->n_dynamic_route_configs++] = c;
    }
    return &d->base;
}

/* --- configurations of filters
 * ------------------------------------------------------------------------------------------------
 */

/* Envoy: one section for each kind of filter, and none for a kind that nothing discovers. */
static ProtobufCMessage *dump_extensions(struct admin_request *r, const struct regex *filter,
                                         enum extension_kind kind)
{
    struct arena *a = r->arena;
    struct views all = views_of(r, filter, XDS_EXTENSION);
    Envoy__Admin__V3__EcdsConfigDump *d = ARENA_NEW(a, Envoy__Admin__V3__EcdsConfigDump);
    bool any = false;
    envoy__admin__v3__ecds_config_dump__init(d);
    d->ecds_filters =
        ARENA_ARRAY(a, Envoy__Admin__V3__EcdsConfigDump__EcdsFilterConfig *, all.count);
    for (size_t i = 0; i < all.count; i++) {
        const struct xds_view *v = &all.v[i];
        if (!(v->places & 1u << kind)) continue;
        any = true;
        Envoy__Admin__V3__EcdsConfigDump__EcdsFilterConfig *c =
            ARENA_NEW(a, Envoy__Admin__V3__EcdsConfigDump__EcdsFilterConfig);
        envoy__admin__v3__ecds_config_dump__ecds_filter_config__init(c);
        c->version_info = str_z(a, v->version);
        c->ecds_filter = config_of(a, v);
        if (c->ecds_filter) c->last_updated = time_of(a, v->updated_wall_us);
        c->error_state = failure_of(a, v);
        d->ecds_filters[d->n_ecds_filters++] = c;
    }
    return any ? &d->base : NULL;
}

static size_t extension_sections(struct admin_request *r, const struct regex *filter,
                                 ProtobufCMessage **out)
{
    static const enum extension_kind kinds[] = {EXTENSION_HTTP_FILTER, EXTENSION_NETWORK_FILTER,
                                                EXTENSION_LISTENER_FILTER};
    size_t count = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        ProtobufCMessage *section = dump_extensions(r, filter, kinds[i]);
        if (section) out[count++] = section;
    }
    return count;
}

typedef Envoy__Admin__V3__ScopedRoutesConfigDump ScopesDump;
typedef Envoy__Admin__V3__ScopedRoutesConfigDump__DynamicScopedRouteConfigs DynamicScopes;

/* Envoy: every set is shown; name_regex is for its scopes. */
static void dump_scope_set(struct admin_request *r, const struct xds_view *set,
                           const struct views *scopes, ScopesDump *d)
{
    struct arena *a = r->arena;
    DynamicScopes *c = ARENA_NEW(a, DynamicScopes);
    envoy__admin__v3__scoped_routes_config_dump__dynamic_scoped_route_configs__init(c);
    c->name = str_z(a, set->name);
    c->version_info = str_z(a, set->version);
    if (set->updated_wall_us) c->last_updated = time_of(a, set->updated_wall_us);
    c->scoped_route_configs = ARENA_ARRAY(a, Google__Protobuf__Any *, scopes->count);
    for (size_t i = 0; i < scopes->count; i++)
        if (scopes->v[i].source == set->source && scopes->v[i].bytes.len)
            c->scoped_route_configs[c->n_scoped_route_configs++] = config_of(a, &scopes->v[i]);
    d->dynamic_scoped_route_configs[d->n_dynamic_scoped_route_configs++] = c;
}

static ProtobufCMessage *dump_scoped_routes(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct views sets = views_of(r, NULL, XDS_SCOPE_SET),
                 scopes = views_of(r, filter, XDS_SCOPED_ROUTE);
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

static void dump_static_secrets(struct admin_request *r, const struct regex *filter,
                                Envoy__Admin__V3__SecretsConfigDump *d)
{
    struct arena *a = r->arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = statics(r);
    d->static_secrets =
        ARENA_ARRAY(a, Envoy__Admin__V3__SecretsConfigDump__StaticSecret *, s->n_secrets);
    for (size_t i = 0; i < s->n_secrets; i++) {
        if (!named(filter, s->secrets[i]->name)) continue;
        Envoy__Admin__V3__SecretsConfigDump__StaticSecret *c =
            ARENA_NEW(a, Envoy__Admin__V3__SecretsConfigDump__StaticSecret);
        envoy__admin__v3__secrets_config_dump__static_secret__init(c);
        c->name = s->secrets[i]->name;
        c->secret = proto_any_pack(a, &s->secrets[i]->base);
        c->last_updated = time_of(a, r->server->rt->start_wall_us);
        d->static_secrets[d->n_static_secrets++] = c;
    }
}

static ProtobufCMessage *dump_secrets(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct views all = views_of(r, filter, XDS_SECRET);
    Envoy__Admin__V3__SecretsConfigDump *d = ARENA_NEW(a, Envoy__Admin__V3__SecretsConfigDump);
    envoy__admin__v3__secrets_config_dump__init(d);
    dump_static_secrets(r, filter, d);
    d->dynamic_active_secrets =
        ARENA_ARRAY(a, Envoy__Admin__V3__SecretsConfigDump__DynamicSecret *, all.count);
    d->dynamic_warming_secrets =
        ARENA_ARRAY(a, Envoy__Admin__V3__SecretsConfigDump__DynamicSecret *, all.count);
    for (size_t i = 0; i < all.count; i++) {
        const struct xds_view *v = &all.v[i];
        if (v->is_static) continue;
        Envoy__Admin__V3__SecretsConfigDump__DynamicSecret *c =
            ARENA_NEW(a, Envoy__Admin__V3__SecretsConfigDump__DynamicSecret);
        envoy__admin__v3__secrets_config_dump__dynamic_secret__init(c);
        c->name = str_z(a, v->name);
        c->version_info = str_z(a, v->version);
        c->secret = config_of(a, v);
        c->last_updated = time_of(a, v->updated_wall_us);
        c->error_state = failure_of(a, v);
        if (v->bytes.len && !v->warming)
            d->dynamic_active_secrets[d->n_dynamic_active_secrets++] = c;
        else
            d->dynamic_warming_secrets[d->n_dynamic_warming_secrets++] = c;
    }
    return &d->base;
}

/* --- the page
 * ------------------------------------------------------------------------------------------------------------------
 */

enum { SECTIONS_MOST = 12 };

static size_t all_sections(struct admin_request *r, const struct regex *filter,
                           ProtobufCMessage *out[SECTIONS_MOST])
{
    size_t count = 0;
    out[count++] = dump_bootstrap(r);
    out[count++] = dump_clusters(r, filter);
    count += extension_sections(r, filter, &out[count]);
    if (admin_param(r, "include_eds").ptr) {
        ProtobufCMessage *endpoints = dump_endpoints(r, filter);
        dump_static_endpoints(r, filter, (Envoy__Admin__V3__EndpointsConfigDump *)endpoints);
        out[count++] = endpoints;
    }
    out[count++] = dump_listeners(r, filter);
    out[count++] = dump_scoped_routes(r, filter);
    out[count++] = dump_routes(r, filter);
    out[count++] = dump_secrets(r, filter);
    return count;
}

static void answer(struct admin_request *r, ProtobufCMessage *const *messages, size_t count)
{
    Envoy__Admin__V3__ConfigDump dump = ENVOY__ADMIN__V3__CONFIG_DUMP__INIT;
    dump.configs = ARENA_ARRAY(r->arena, Google__Protobuf__Any *, count);
    for (size_t i = 0; i < count; i++)
        dump.configs[dump.n_configs++] = proto_any_pack(r->arena, messages[i]);
    admin_json(r, &dump.base, false);
}

static void refuse(struct admin_request *r, uint32_t status, struct str text)
{
    admin_error(r, status, "%.*s", STR_ARG(text));
    r->content_type = "text/plain";
    r->nosniff_twice = true;
}

/* ?mask= alone: the sections in which all of its paths exist. */
static void masked_sections(struct admin_request *r, ProtobufCMessage **sections, size_t count,
                            struct str mask_text)
{
    struct admin_mask mask = admin_mask_parse(r->arena, mask_text);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        ProtobufCMessage *copy =
            proto_dup(r->arena, sections[i]); /* the bootstrap's own message must not be cut */
        if (admin_mask_trim(r->arena, copy, &mask)) sections[kept++] = copy;
    }
    if (kept == 0) {
        refuse(r, 400,
               str_fmt(r->arena, "FieldMask %.*s could not be successfully applied to any configs.",
                       STR_ARG(mask_text)));
        return;
    }
    answer(r, sections, kept);
}

static struct str mask_words(struct arena *a, const struct admin_mask *mask)
{
    struct str out = STR("FieldMask ");
    for (size_t i = 0; i < mask->count; i++)
        out = str_fmt(a, "%.*spaths: \"%.*s\"\n", STR_ARG(out), STR_ARG(mask->paths[i]));
    return str_cat(a, out, STR(" could not be successfully used."));
}

/* ?resource=: the elements of that repeated field. True: the section has it, and the answer is
 * made. */
static bool resource_of(struct admin_request *r, const ProtobufCMessage *section,
                        struct str resource, struct str mask_text)
{
    const struct proto_type *type = proto_type_of(section->descriptor);
    size_t idx = proto_field_by_name(type, resource);
    if (idx == SIZE_MAX) return false;
    const ProtobufCFieldDescriptor *f = &section->descriptor->fields[idx];
    if (f->label != PROTOBUF_C_LABEL_REPEATED) {
        refuse(r, 400,
               str_fmt(r->arena,
                       "%.*s is not a repeated field. Use ?mask=%.*s to get only this field",
                       STR_ARG(resource), STR_ARG(resource)));
        return true;
    }
    struct admin_mask mask = admin_mask_parse(r->arena, mask_text);
    size_t count = proto_field_count(section, f);
    ProtobufCMessage **elements = ARENA_ARRAY(r->arena, ProtobufCMessage *, count);
    for (size_t i = 0; i < count; i++) {
        elements[i] = (ProtobufCMessage *)(uintptr_t)proto_field_message(section, f, i);
        if (mask.count && !admin_mask_trim(r->arena, elements[i], &mask)) {
            refuse(r, 400, mask_words(r->arena, &mask));
            return true;
        }
    }
    answer(r, elements, count);
    return true;
}

void admin_page_config_dump(struct admin_request *r)
{
    struct str resource = admin_param(r, "resource"), mask = admin_param(r, "mask"),
               pattern = admin_param(r, "name_regex"), why;
    const struct regex *filter = NULL;
    ProtobufCMessage *sections[SECTIONS_MOST];
    if (pattern.len) {
        filter = regex_new(r->arena, pattern, &why);
        if (!filter) {
            refuse(r, 400,
                   str_fmt(r->arena,
                           "INVALID_ARGUMENT: Error while parsing name_regex from %.*s: %.*s",
                           STR_ARG(pattern), STR_ARG(why)));
            r->nosniff_twice = false;
            return;
        }
    }
    size_t count = all_sections(r, filter, sections);
    if (resource.len) {
        for (size_t i = 0; i < count; i++)
            if (resource_of(r, sections[i], resource, mask)) return;
        refuse(r, 404, str_fmt(r->arena, "%.*s not found in config dump", STR_ARG(resource)));
        return;
    }
    if (mask.len)
        masked_sections(r, sections, count, mask);
    else
        answer(r, sections, count);
}
