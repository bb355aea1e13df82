/* One GenericXdsConfig a resource, static ones too. Without a client that was told something, what
 * is a control plane's view in the API (ConfigStatus) is said from here: SYNCED is in use, NOT_SENT
 * has not come, ERROR was refused, STALE is served from the config cache. */
#include "xds/client_status.h"

#include <stdlib.h>

#include "base/arena.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/extensions/transport_sockets/tls/v3/secret.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "proto/redact.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/metadata.h"
#include "xds/cache.h"
#include "xds/xds_internal.h"

#define CSDS(name) Envoy__Service__Status__V3__##name
#define CONFIG_STATUS(name) ENVOY__SERVICE__STATUS__V3__CONFIG_STATUS__##name
#define CLIENT_STATUS(name) ENVOY__ADMIN__V3__CLIENT_RESOURCE_STATUS__##name
typedef CSDS(ClientConfig__GenericXdsConfig) Item;

/* --- does it mean us?
 * -----------------------------------------------------------------------------------------------
 */

/* One path and one matcher into the metadata of the node. */
static bool status_metadata_fits(const struct conf_at *at, const struct value *metadata,
                                 const Envoy__Type__Matcher__V3__StructMatcher *m, bool *fits)
{
    struct value_matcher matcher;
    struct conf_at value_at = conf_field(at, "value");
    const struct value *v = metadata;
    if (!conf_value_matcher(&value_at, m->value, &matcher)) return false;
    for (size_t i = 0; v && i < m->n_path; i++)
        v = value_field(v, str_of(m->path[i]->key));
    *fits = *fits && value_match(&matcher, v);
    return true;
}

static bool status_matcher_fits(const struct conf_at *at, const struct xds *x,
                                const Envoy__Type__Matcher__V3__NodeMatcher *m, bool *fits)
{
    struct arena *a = conf_arena(at);
    struct value *metadata = x->node->metadata ? conf_struct(a, x->node->metadata) : NULL;
    struct conf_at id_at = conf_field(at, "node_id");
    struct string_matcher id;
    *fits = true;
    if (m->node_id) {
        if (!conf_string_matcher(&id_at, m->node_id, &id)) return false;
        *fits = string_match(&id, str_of(x->node->id));
    }
    for (size_t i = 0; i < m->n_node_metadatas; i++) {
        struct conf_at one = conf_index(at, "node_metadatas", i);
        if (!status_metadata_fits(&one, metadata, m->node_metadatas[i], fits)) return false;
    }
    return true;
}

/* Any of the matchers will do; none at all means everybody. False: told. */
static bool status_means_us(const struct xds *x, const CSDS(ClientStatusRequest) * q,
                            struct arena *a, struct errors *errors, bool *us)
{
    struct conf_cx cx = {.arena = a,
                         .errors = errors,
                         .registry = x->env.registry,
                         .rt = x->env.rt,
                         .opts = &x->env.dynamic_opts};
    struct conf_at root = conf_root(&cx);
    *us = q->n_node_matchers == 0;
    for (size_t i = 0; i < q->n_node_matchers; i++) {
        struct conf_at at = conf_index(&root, "node_matchers", i);
        bool fits = false;
        if (!status_matcher_fits(&at, x, q->node_matchers[i], &fits)) return false;
        *us = *us || fits;
    }
    return true;
}

/* --- resources
 * ---------------------------------------------------------------------------------------------- */

static Google__Protobuf__Timestamp *status_time(struct arena *a, uint64_t wall_us)
{
    enum { SECOND_US = 1000000, MS_US = 1000, MS_NANOS = 1000000 };
    Google__Protobuf__Timestamp *t = ARENA_NEW(a, Google__Protobuf__Timestamp);
    google__protobuf__timestamp__init(t);
    t->seconds = (int64_t)(wall_us / SECOND_US);
    t->nanos = (int32_t)(wall_us % SECOND_US / MS_US) * MS_NANOS;
    return t;
}

static Google__Protobuf__Any *status_any(struct arena *a, const char *type_url, struct str bytes)
{
    Google__Protobuf__Any *any = ARENA_NEW(a, Google__Protobuf__Any);
    google__protobuf__any__init(any);
    any->type_url = (char *)(uintptr_t)type_url;
    any->value.data = (uint8_t *)(uintptr_t)bytes.ptr;
    any->value.len = bytes.len;
    return any;
}

struct status_list {
    struct arena *arena;
    bool contents;
    Item **v;
    size_t count;
};

static Item *status_item(struct status_list *l, enum xds_kind kind, struct str name)
{
    Item *item = ARENA_NEW(l->arena, Item);
    envoy__service__status__v3__client_config__generic_xds_config__init(item);
    item->type_url = (char *)(uintptr_t)kind_of(kind)->type_url;
    item->name = str_z(l->arena, name);
    l->v[l->count++] = item;
    return item;
}

static void status_error(struct status_list *l, Item *item, const struct resource *r)
{
    Envoy__Admin__V3__UpdateFailureState *e =
        ARENA_NEW(l->arena, Envoy__Admin__V3__UpdateFailureState);
    envoy__admin__v3__update_failure_state__init(e);
    if (r->failed_bytes.len && l->contents)
        e->failed_configuration = status_any(l->arena, item->type_url, r->failed_bytes);
    e->last_update_attempt = status_time(l->arena, r->error_wall_us);
    e->details = str_z(l->arena, r->error);
    e->version_info = str_z(l->arena, r->error_version);
    item->error_state = e;
}

static void status_resource(struct status_list *l, struct resource *r)
{
    if (!r->present && !r->error.len && !r->watchers) return;
    Item *item = status_item(l, r->kind, r->name);
    bool stale = cache_stale_text(r).len > 0;
    item->config_status = r->error.len  ? CONFIG_STATUS(ERROR)
                          : !r->present ? CONFIG_STATUS(NOT_SENT)
                          : stale       ? CONFIG_STATUS(STALE)
                                        : CONFIG_STATUS(SYNCED);
    item->client_status = r->error.len ? CLIENT_STATUS(NACKED)
                          : r->present ? CLIENT_STATUS(ACKED)
                          : !r->done   ? CLIENT_STATUS(REQUESTED)
                          : r->late    ? CLIENT_STATUS(TIMEOUT)
                                       : CLIENT_STATUS(DOES_NOT_EXIST);
    if (r->error.len) status_error(l, item, r);
    if (!r->present) return;
    item->version_info = str_z(l->arena, r->version);
    item->last_updated = status_time(l->arena, r->updated_wall_us);
    if (l->contents) item->xds_config = status_any(l->arena, item->type_url, r->bytes);
}

static void status_static(struct status_list *l, const struct xds *x, enum xds_kind kind,
                          const char *name, const ProtobufCMessage *m)
{
    Item *item = status_item(l, kind, str_of(name));
    item->is_static_resource = true;
    item->config_status = CONFIG_STATUS(SYNCED);
    item->last_updated = status_time(l->arena, x->env.rt->start_wall_us);
    if (l->contents) item->xds_config = proto_any_pack(l->arena, m);
}

static void status_statics(struct status_list *l, const struct xds *x)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    for (size_t i = 0; s && i < s->n_listeners; i++)
        status_static(l, x, XDS_LISTENER, s->listeners[i]->name, &s->listeners[i]->base);
    for (size_t i = 0; s && i < s->n_clusters; i++)
        status_static(l, x, XDS_CLUSTER, s->clusters[i]->name, &s->clusters[i]->base);
    for (size_t i = 0; s && i < s->n_secrets; i++)
        status_static(l, x, XDS_SECRET, s->secrets[i]->name, &s->secrets[i]->base);
}

static int status_order(const void *x, const void *y)
{
    const Item *a = *(Item *const *)x, *b = *(Item *const *)y;
    int by_type = strcmp(a->type_url, b->type_url);
    return by_type ? by_type : strcmp(a->name, b->name);
}

static size_t status_count(const struct xds *x)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    size_t n = s ? s->n_listeners + s->n_clusters + s->n_secrets : 0;
    for (int k = 0; k < XDS_SCOPE_SET; k++)
        n += x->store[k].count;
    return n;
}

Envoy__Service__Status__V3__ClientStatusResponse *client_status(
    struct xds *x, const Envoy__Service__Status__V3__ClientStatusRequest *q, struct arena *a,
    struct errors *errors)
{
    CSDS(ClientStatusResponse) *out = ARENA_NEW(a, CSDS(ClientStatusResponse));
    envoy__service__status__v3__client_status_response__init(out);
    bool us;
    if (!status_means_us(x, q, a, errors, &us)) return NULL;
    if (!us) return out;
    struct status_list l = {.arena = a,
                            .contents = !q->exclude_resource_contents,
                            .v = ARENA_ARRAY(a, Item *, status_count(x))};
    status_statics(&l, x);
    for (int k = 0; k < XDS_SCOPE_SET; k++) { /* sets are of our own making */
        size_t it = 0;
        void *value;
        while (map_next(&x->store[k], &it, NULL, &value))
            if (!((struct resource *)value)->is_static) status_resource(&l, value);
    }
    qsort(l.v, l.count, sizeof *l.v, status_order);
    CSDS(ClientConfig) *c = ARENA_NEW(a, CSDS(ClientConfig));
    envoy__service__status__v3__client_config__init(c);
    c->node = x->node;
    c->generic_xds_configs = l.v;
    c->n_generic_xds_configs = l.count;
    out->config = ARENA_ARRAY(a, CSDS(ClientConfig) *, 1);
    out->config[out->n_config++] = c;
    return out;
}

void client_status_redact(Envoy__Service__Status__V3__ClientStatusResponse *m, struct arena *a)
{
    for (size_t k = 0; k < m->n_config; k++) {
        const CSDS(ClientConfig) *c = m->config[k];
        for (size_t i = 0; i < c->n_generic_xds_configs; i++) {
            const Item *item = c->generic_xds_configs[i];
            Envoy__Admin__V3__UpdateFailureState *e = item->error_state;
            if (item->xds_config) proto_redact_any(a, item->xds_config);
            if (e && e->failed_configuration) proto_redact_any(a, e->failed_configuration);
        }
    }
}
