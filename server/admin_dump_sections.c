/* The sections of /config_dump, in Envoy's messages: the bootstrap and each resource as it came. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/regex.h"
#include "proto/decode.h"
#include "proxy/api/extension.h"
#include "proxy/runtime/runtime.h"
#include "server/admin_dump.h"
#include "server/admin_internal.h"
#include "server/server.h"

static void view_count(void *arg, const struct xds_view *v)
{
    (void)v;
    ((struct dump_views *)arg)->cap++;
}

static void view_add(void *arg, const struct xds_view *v)
{
    struct dump_views *all = arg;
    if (all->count == all->cap || (all->filter && !regex_full(all->filter, v->name))) return;
    struct xds_view *copy = &all->v[all->count++];
    *copy = *v; /* what it borrows may go before the page is written */
    copy->name = str_dup(all->arena, v->name);
    copy->version = str_dup(all->arena, v->version);
    copy->type_url = str_dup(all->arena, v->type_url);
    copy->bytes = str_dup(all->arena, v->bytes);
    copy->error = str_dup(all->arena, v->error);
    copy->error_version = str_dup(all->arena, v->error_version);
    copy->failed_bytes = str_dup(all->arena, v->failed_bytes);
}

static int view_order(const void *x, const void *y)
{
    return str_cmp(((const struct xds_view *)x)->name, ((const struct xds_view *)y)->name);
}

struct dump_views dump_views_of(struct admin_request *r, const struct regex *filter,
                                enum xds_kind kind)
{
    struct dump_views all = {.arena = r->arena, .filter = filter};
    xds_each(r->server->xds, kind, view_count, &all);
    all.v = ARENA_ARRAY(r->arena, struct xds_view, all.cap);
    xds_each(r->server->xds, kind, view_add, &all);
    qsort(all.v, all.count, sizeof *all.v, view_order);
    return all;
}

Google__Protobuf__Timestamp *dump_time(struct arena *a, uint64_t wall_us)
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

Envoy__Admin__V3__UpdateFailureState *dump_failure(struct arena *a, const struct xds_view *v)
{
    if (v->error.len == 0) return NULL;
    Envoy__Admin__V3__UpdateFailureState *f = ARENA_NEW(a, Envoy__Admin__V3__UpdateFailureState);
    envoy__admin__v3__update_failure_state__init(f);
    if (v->failed_bytes.len) f->failed_configuration = any_of(a, v->type_url, v->failed_bytes);
    f->last_update_attempt = dump_time(a, v->error_wall_us);
    f->details = str_z(a, v->error);
    f->version_info = str_z(a, v->error_version);
    return f;
}

Google__Protobuf__Any *dump_config(struct arena *a, const struct xds_view *v)
{
    return v->bytes.len ? any_of(a, v->type_url, v->bytes) : NULL;
}

const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *dump_statics(
    const struct admin_request *r)
{
    static const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources none;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        r->server->config.bootstrap->static_resources;
    return s ? s : &none;
}

bool dump_named(const struct regex *filter, const char *name)
{
    return !filter || regex_full(filter, str_of(name));
}

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
    d->last_updated = dump_time(a, s->rt->start_wall_us);
    return &d->base;
}

static void dump_static_clusters(struct admin_request *r, const struct regex *filter,
                                 Envoy__Admin__V3__ClustersConfigDump *d)
{
    struct arena *a = r->arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = dump_statics(r);
    d->static_clusters =
        ARENA_ARRAY(a, Envoy__Admin__V3__ClustersConfigDump__StaticCluster *, s->n_clusters);
    for (size_t i = 0; i < s->n_clusters; i++) {
        if (!dump_named(filter, s->clusters[i]->name)) continue;
        Envoy__Admin__V3__ClustersConfigDump__StaticCluster *c =
            ARENA_NEW(a, Envoy__Admin__V3__ClustersConfigDump__StaticCluster);
        envoy__admin__v3__clusters_config_dump__static_cluster__init(c);
        c->cluster = proto_any_pack(a, &s->clusters[i]->base);
        c->last_updated = dump_time(a, r->server->rt->start_wall_us);
        d->static_clusters[d->n_static_clusters++] = c;
    }
}

static ProtobufCMessage *dump_clusters(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct dump_views all = dump_views_of(r, filter, XDS_CLUSTER);
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
        c->cluster = dump_config(a, v);
        if (c->cluster) c->last_updated = dump_time(a, v->updated_wall_us);
        c->error_state = dump_failure(a, v);
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
    struct dump_views all = dump_views_of(r, filter, XDS_ENDPOINT);
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
        c->endpoint_config = dump_config(a, v);
        if (c->endpoint_config) c->last_updated = dump_time(a, v->updated_wall_us);
        c->error_state = dump_failure(a, v);
        d->dynamic_endpoint_configs[d->n_dynamic_endpoint_configs++] = c;
    }
    return &d->base;
}

/* The endpoints that static and DNS clusters have in their own configuration. */
static void dump_static_endpoints(struct admin_request *r, const struct regex *filter,
                                  Envoy__Admin__V3__EndpointsConfigDump *d)
{
    struct arena *a = r->arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = dump_statics(r);
    d->static_endpoint_configs = ARENA_ARRAY(
        a, Envoy__Admin__V3__EndpointsConfigDump__StaticEndpointConfig *, s->n_clusters);
    for (size_t i = 0; i < s->n_clusters; i++) {
        const Envoy__Config__Cluster__V3__Cluster *c = s->clusters[i];
        if (!c->load_assignment || !dump_named(filter, c->load_assignment->cluster_name)) continue;
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
    state->listener = dump_config(a, v);
    state->last_updated = dump_time(a, v->updated_wall_us);
    return state;
}

static void dump_static_listeners(struct admin_request *r, const struct regex *filter,
                                  Envoy__Admin__V3__ListenersConfigDump *d)
{
    struct arena *a = r->arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = dump_statics(r);
    d->static_listeners =
        ARENA_ARRAY(a, Envoy__Admin__V3__ListenersConfigDump__StaticListener *, s->n_listeners);
    for (size_t i = 0; i < s->n_listeners; i++) {
        if (!dump_named(filter, s->listeners[i]->name)) continue;
        Envoy__Admin__V3__ListenersConfigDump__StaticListener *l =
            ARENA_NEW(a, Envoy__Admin__V3__ListenersConfigDump__StaticListener);
        envoy__admin__v3__listeners_config_dump__static_listener__init(l);
        l->listener = proto_any_pack(a, &s->listeners[i]->base);
        l->last_updated = dump_time(a, r->server->rt->start_wall_us);
        d->static_listeners[d->n_static_listeners++] = l;
    }
}

static ProtobufCMessage *dump_listeners(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct dump_views all = dump_views_of(r, filter, XDS_LISTENER);
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
        l->error_state = dump_failure(a, v);
        d->dynamic_listeners[d->n_dynamic_listeners++] = l;
    }
    return &d->base;
}

/* Envoy: one section for each kind of filter, and none for a kind that nothing discovers. */
static ProtobufCMessage *dump_extensions(struct admin_request *r, const struct regex *filter,
                                         enum extension_kind kind)
{
    struct arena *a = r->arena;
    struct dump_views all = dump_views_of(r, filter, XDS_EXTENSION);
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
        c->ecds_filter = dump_config(a, v);
        if (c->ecds_filter) c->last_updated = dump_time(a, v->updated_wall_us);
        c->error_state = dump_failure(a, v);
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

static void dump_static_secrets(struct admin_request *r, const struct regex *filter,
                                Envoy__Admin__V3__SecretsConfigDump *d)
{
    struct arena *a = r->arena;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s = dump_statics(r);
    d->static_secrets =
        ARENA_ARRAY(a, Envoy__Admin__V3__SecretsConfigDump__StaticSecret *, s->n_secrets);
    for (size_t i = 0; i < s->n_secrets; i++) {
        if (!dump_named(filter, s->secrets[i]->name)) continue;
        Envoy__Admin__V3__SecretsConfigDump__StaticSecret *c =
            ARENA_NEW(a, Envoy__Admin__V3__SecretsConfigDump__StaticSecret);
        envoy__admin__v3__secrets_config_dump__static_secret__init(c);
        c->name = s->secrets[i]->name;
        c->secret = proto_any_pack(a, &s->secrets[i]->base);
        c->last_updated = dump_time(a, r->server->rt->start_wall_us);
        d->static_secrets[d->n_static_secrets++] = c;
    }
}

static ProtobufCMessage *dump_secrets(struct admin_request *r, const struct regex *filter)
{
    struct arena *a = r->arena;
    struct dump_views all = dump_views_of(r, filter, XDS_SECRET);
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
        c->secret = dump_config(a, v);
        c->last_updated = dump_time(a, v->updated_wall_us);
        c->error_state = dump_failure(a, v);
        if (v->bytes.len && !v->warming)
            d->dynamic_active_secrets[d->n_dynamic_active_secrets++] = c;
        else
            d->dynamic_warming_secrets[d->n_dynamic_warming_secrets++] = c;
    }
    return &d->base;
}

size_t dump_sections(struct admin_request *r, const struct regex *filter,
                     ProtobufCMessage *out[DUMP_SECTIONS_MOST])
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
