/* The bootstrap's own resources: the node, static clusters, secrets and listeners, and where the
 * dynamic ones come from. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "proto/equal.h"
#include "proto/proto.h"
#include "xds/load_report.h"
#include "xds/source.h"
#include "xds/xds_internal.h"

/* --- node
 * ----------------------------------------------------------------------------------------------------
 */

static void node_extension(void *arg, enum extension_kind kind, const struct extension *e)
{
    struct xds *x = arg;
    Envoy__Config__Core__V3__Extension *out =
        ARENA_NEW(x->arena, Envoy__Config__Core__V3__Extension);
    envoy__config__core__v3__extension__init(out);
    out->name = (char *)(uintptr_t)e->name;
    out->category = (char *)(uintptr_t)extension_kind_category(kind);
    if (e->config) {
        out->type_urls = ARENA_ARRAY(x->arena, char *, 1);
        out->type_urls[0] = (char *)(uintptr_t)e->config->name;
        out->n_type_urls = 1;
    }
    x->node->extensions[x->node->n_extensions++] = out;
}

/* The bootstrap's node with what the flags override, and what every Envoy says of itself. */
static void node_make(struct xds *x)
{
    const Envoy__Config__Core__V3__Node *given = x->bootstrap->node;
    struct arena *a = x->arena;
    x->node = given ? (Envoy__Config__Core__V3__Node *)proto_dup(a, &given->base) : NULL;
    if (!x->node) {
        x->node = ARENA_NEW(a, Envoy__Config__Core__V3__Node);
        envoy__config__core__v3__node__init(x->node);
    }
    const struct runtime *rt = x->env.rt;
    if (rt->service_node.len) x->node->id = str_z(a, rt->service_node);
    if (rt->service_cluster.len) x->node->cluster = str_z(a, rt->service_cluster);
    if (rt->service_zone.len) {
        if (!x->node->locality) {
            x->node->locality = ARENA_NEW(a, Envoy__Config__Core__V3__Locality);
            envoy__config__core__v3__locality__init(x->node->locality);
        }
        x->node->locality->zone = str_z(a, rt->service_zone);
    }
    Envoy__Type__V3__SemanticVersion *v = ARENA_NEW(a, Envoy__Type__V3__SemanticVersion);
    envoy__type__v3__semantic_version__init(v);
    v->major_number = 1;
    v->minor_number = 40;
    Envoy__Config__Core__V3__BuildVersion *b = ARENA_NEW(a, Envoy__Config__Core__V3__BuildVersion);
    envoy__config__core__v3__build_version__init(b);
    b->version = v;
    static char *features[] = {(char *)(uintptr_t) "envoy.lb.does_not_support_overprovisioning"};
    x->node->user_agent_name = (char *)(uintptr_t) "envoy";
    x->node->user_agent_version_type_case =
        ENVOY__CONFIG__CORE__V3__NODE__USER_AGENT_VERSION_TYPE_USER_AGENT_BUILD_VERSION;
    x->node->user_agent_build_version = b;
    x->node->client_features = features;
    x->node->n_client_features = ARRAY_LEN(features);
    x->node->extensions =
        ARENA_ARRAY(a, Envoy__Config__Core__V3__Extension *, x->env.registry->count);
    x->node->n_extensions = 0;
    registry_each(x->env.registry, node_extension, x);
}

/* --- static resources
 * ------------------------------------------------------------------------------------------ */

/* Errors of one resource, with its place in the bootstrap before their paths. */
static void bootstrap_add_errors(struct errors *to, const struct errors *from, const char *list,
                                 size_t index)
{
    for (size_t i = 0; i < from->count && i < ERRORS_MOST; i++) {
        struct str path = from->v[i].path;
        struct str full = str_fmt(to->arena, "static_resources.%s[%zu]%s%.*s", list, index,
                                  path.len ? "." : "", STR_ARG(path));
        (void)errors_add(to, full, "%.*s", STR_ARG(from->v[i].text));
    }
}

struct static_item {
    enum xds_kind kind;
    const char *list;
    size_t index;
    struct str name;
    const ProtobufCMessage *msg;
};

static void bootstrap_load_one(struct xds *x, const struct static_item *item, struct errors *errors)
{
    struct errors own = {.arena = errors->arena};
    if (resource_find(x, item->kind, item->name)) {
        (void)errors_add(&own, STR("name"), "%s \"%.*s\" stands twice", kind_of(item->kind)->label,
                         STR_ARG(item->name));
        bootstrap_add_errors(errors, &own, item->list, item->index);
        return;
    }
    struct resource *r = resource_get(x, item->kind, item->name);
    r->is_static = true;
    x->statics[item->kind]++;
    if (item->kind == XDS_SECRET)
        r->unread = item->msg;
    else if (!store_accept(r, item->msg, &own, &x->env.static_opts)) {
        bootstrap_add_errors(errors, &own, item->list, item->index);
        return;
    }
    r->present = r->done = true;
    r->updated_wall_us = loop_wall_us(xds_loop(x));
}

static void bootstrap_clusters(struct xds *x, struct errors *errors)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    for (size_t i = 0; s && i < s->n_clusters; i++) {
        struct static_item item = {XDS_CLUSTER, "clusters", i, str_of(s->clusters[i]->name),
                                   &s->clusters[i]->base};
        bootstrap_load_one(x, &item, errors);
    }
}

/* A listener without a name gets a unique one, as in Envoy. */
static const Envoy__Config__Listener__V3__Listener *bootstrap_named(
    struct xds *x, const Envoy__Config__Listener__V3__Listener *l)
{
    if (l->name[0]) return l;
    struct rng rng;
    char uuid[37];
    rng_init(&rng, 0);
    rng_uuid(&rng, uuid);
    Envoy__Config__Listener__V3__Listener *named = arena_copy(x->arena, l, sizeof *l);
    named->name = str_z(x->arena, str_of(uuid));
    return named;
}

static void bootstrap_listeners(struct xds *x, struct errors *errors)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    for (size_t i = 0; s && i < s->n_listeners; i++) {
        const Envoy__Config__Listener__V3__Listener *l = bootstrap_named(x, s->listeners[i]);
        struct static_item item = {XDS_LISTENER, "listeners", i, str_of(l->name), &l->base};
        bootstrap_load_one(x, &item, errors);
    }
}

static void bootstrap_secrets(struct xds *x, struct errors *errors)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    for (size_t i = 0; s && i < s->n_secrets; i++) {
        struct static_item item = {XDS_SECRET, "secrets", i, str_of(s->secrets[i]->name),
                                   &s->secrets[i]->base};
        bootstrap_load_one(x, &item, errors);
    }
}

/* --- dynamic resources
 * ------------------------------------------------------------------------------------------- */

static bool bootstrap_cluster_known(void *arg, struct str name)
{
    const struct xds *x = arg;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    for (size_t i = 0; s && i < s->n_clusters; i++)
        if (str_eq(str_of(s->clusters[i]->name), name)) return true;
    return false;
}

static struct str bootstrap_cluster_nearest(void *arg, struct str name)
{
    const struct xds *x = arg;
    const Envoy__Config__Bootstrap__V3__Bootstrap__StaticResources *s =
        x->bootstrap->static_resources;
    struct str best = STR_NONE;
    for (size_t i = 0; s && i < s->n_clusters; i++)
        str_nearer(name, str_of(s->clusters[i]->name), &best);
    return best;
}

static void bootstrap_top(struct xds *x, struct top *top, enum xds_kind kind,
                          const Envoy__Config__Core__V3__ConfigSource *cs, const struct conf_at *at)
{
    if (!cs) return;
    top->source = source_get(x, kind, cs, at);
    top->fetch_us = xds_fetch_timeout(cs);
    struct str prefix =
        kind == XDS_CLUSTER ? STR("cluster_manager.cds.") : STR("listener_manager.lds.");
    top->stats = stat_group_get(x->env.rt->stats, prefix, sub_stat_defs, SUB_COUNT);
}

/* Before the static clusters: an EDS cluster among them may take its endpoints from it. */
static void bootstrap_ads(struct xds *x, struct conf_cx *cx)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__DynamicResources *d =
        x->bootstrap->dynamic_resources;
    struct conf_at root = conf_root(cx), dynamic = conf_field(&root, "dynamic_resources");
    if (!d || !d->ads_config) return;
    struct conf_at at = conf_field(&dynamic, "ads_config");
    x->ads = source_ads(x, d->ads_config, &at);
}

static void bootstrap_dynamic(struct xds *x, struct conf_cx *cx)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__DynamicResources *d =
        x->bootstrap->dynamic_resources;
    struct conf_at root = conf_root(cx), dynamic = conf_field(&root, "dynamic_resources");
    if (!d) return;
    struct conf_at cds_at = conf_field(&dynamic, "cds_config"),
                   lds_at = conf_field(&dynamic, "lds_config");
    bootstrap_top(x, &x->cds, XDS_CLUSTER, d->cds_config, &cds_at);
    bootstrap_top(x, &x->lds, XDS_LISTENER, d->lds_config, &lds_at);
}

bool xds_load_bootstrap(struct xds *x, const struct ProtobufCMessage *bootstrap,
                        struct errors *errors)
{
    x->bootstrap = (const Envoy__Config__Bootstrap__V3__Bootstrap *)bootstrap;
    size_t before = errors->count;
    struct conf_cx cx = {.arena = x->arena,
                         .errors = errors,
                         .registry = x->env.registry,
                         .rt = x->env.rt,
                         .validate_only = x->env.validate_only,
                         .opts = &x->env.static_opts,
                         .cluster_known = bootstrap_cluster_known,
                         .cluster_nearest = bootstrap_cluster_nearest,
                         .cluster_known_arg = x};
    node_make(x);
    bootstrap_ads(x, &cx);        /* first: layers, clusters and listeners may follow it */
    (void)layers_load(x, errors); /* what is wrong is counted in errors */
    bootstrap_secrets(x, errors);
    bootstrap_clusters(x, errors);
    bootstrap_dynamic(x, &cx);
    bootstrap_listeners(x, errors);
    struct conf_at root = conf_root(&cx);
    (void)load_report_new(x, &root, &x->load_report); /* what is wrong is counted in errors */
    return errors->count == before;
}
