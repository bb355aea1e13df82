/* Runtime layers: static, disk, admin and RTDS, merged in order (later wins) into the values that
 * workers see. */
#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "proxy/runtime/values.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/layers_read.h"
#include "xds/xds_internal.h"

enum layer_kind { LAYER_STATIC, LAYER_DISK, LAYER_ADMIN, LAYER_RTDS };
struct layer {
    enum layer_kind kind;
    struct str name;
    struct str resource; /* RTDS: name of the resource */
    struct arena *arena; /* of the values; replaced as a whole */
    struct map values;   /* struct runtime_value * */
    const Envoy__Config__Bootstrap__V3__RuntimeLayer *conf;
};
struct layers {
    struct layer *v;
    size_t count;
    struct stat_group *stats;
    struct arena *arena;
};

enum runtime_stat {
    RUNTIME_LOAD_ERROR,
    RUNTIME_LOAD_SUCCESS,
    RUNTIME_DEPRECATED_USE,
    RUNTIME_DIR_EXISTS,
    RUNTIME_DIR_MISSING,
    RUNTIME_ADMIN_ACTIVE,
    RUNTIME_DEPRECATED_SEEN,
    RUNTIME_NUM_KEYS,
    RUNTIME_NUM_LAYERS,
    RUNTIME_STAT_COUNT
};
static const struct stat_def runtime_stat_defs[RUNTIME_STAT_COUNT] = {
    [RUNTIME_LOAD_ERROR] = {"load_error", STAT_COUNTER, 0},
    [RUNTIME_LOAD_SUCCESS] = {"load_success", STAT_COUNTER, 0},
    [RUNTIME_DEPRECATED_USE] = {"deprecated_feature_use", STAT_COUNTER, 0},
    [RUNTIME_DIR_EXISTS] = {"override_dir_exists", STAT_COUNTER, 0},
    [RUNTIME_DIR_MISSING] = {"override_dir_not_exists", STAT_COUNTER, 0},
    [RUNTIME_ADMIN_ACTIVE] = {"admin_overrides_active", STAT_GAUGE, 0},
    [RUNTIME_DEPRECATED_SEEN] = {"deprecated_feature_seen_since_process_start", STAT_GAUGE, 0},
    [RUNTIME_NUM_KEYS] = {"num_keys", STAT_GAUGE, 0},
    [RUNTIME_NUM_LAYERS] = {"num_layers", STAT_GAUGE, 0},
};

static void layer_clear(struct layer *l, const char *what)
{
    map_release(&l->values);
    arena_free(&l->arena);
    l->arena = arena_new(what, 512);
}

static bool layer_load(struct xds *x, struct layer *l, const struct conf_at *at)
{
    const Envoy__Config__Bootstrap__V3__RuntimeLayer *m = l->conf;
    switch (m->layer_specifier_case) {
    case ENVOY__CONFIG__BOOTSTRAP__V3__RUNTIME_LAYER__LAYER_SPECIFIER_STATIC_LAYER:
        l->kind = LAYER_STATIC;
        layer_read_struct(l->arena, m->static_layer, &l->values);
        return true;
    case ENVOY__CONFIG__BOOTSTRAP__V3__RUNTIME_LAYER__LAYER_SPECIFIER_DISK_LAYER: {
        l->kind = LAYER_DISK;
        struct str cluster =
            m->disk_layer->append_service_cluster ? x->env.rt->service_cluster : STR_NONE;
        struct str dir =
            str_fmt(l->arena, "%s/%s%s%.*s", m->disk_layer->symlink_root,
                    m->disk_layer->subdirectory, cluster.len ? "/" : "", STR_ARG(cluster));
        if (!layer_read_directory(l->arena, dir, &l->values))
            stat_inc(x->layers->stats, RUNTIME_DIR_MISSING);
        else
            stat_inc(x->layers->stats, RUNTIME_DIR_EXISTS);
        return true;
    }
    case ENVOY__CONFIG__BOOTSTRAP__V3__RUNTIME_LAYER__LAYER_SPECIFIER_ADMIN_LAYER:
        l->kind = LAYER_ADMIN;
        return true;
    case ENVOY__CONFIG__BOOTSTRAP__V3__RUNTIME_LAYER__LAYER_SPECIFIER_RTDS_LAYER:
        l->kind = LAYER_RTDS;
        l->resource = str_of(m->rtds_layer->name[0] ? m->rtds_layer->name : m->name);
        return true;
    case ENVOY__CONFIG__BOOTSTRAP__V3__RUNTIME_LAYER__LAYER_SPECIFIER__NOT_SET:
    default: return conf_fail(at, "needs one of static_layer, disk_layer, admin_layer, rtds_layer");
    }
}

/* RTDS layers are subscriptions like any other need; they begin when the static clusters are ready.
 */
static bool layer_rtds_need(struct xds *x, struct layer *l, const struct conf_at *at)
{
    struct conf_at rtds_at = conf_field(at, "rtds_layer.rtds_config");
    struct resource *r = resource_get(x, XDS_RUNTIME, l->resource);
    if (r->source)
        return conf_fail(&rtds_at, "another layer has the same resource \"%.*s\"",
                         STR_ARG(l->resource));
    r->source = source_get(x, XDS_RUNTIME, l->conf->rtds_layer->rtds_config, &rtds_at);
    return r->source != NULL;
}

static bool layers_add(struct xds *x, size_t i, const struct conf_at *at, bool *admin)
{
    struct layer *l = &x->layers->v[x->layers->count++];
    l->conf = x->bootstrap->layered_runtime->layers[i];
    l->name = str_of(l->conf->name);
    l->arena = arena_new("runtime layer", 512);
    for (size_t k = 0; k < i; k++)
        if (str_eq(x->layers->v[k].name, l->name))
            return conf_fail(at, "the name \"%.*s\" stands twice", STR_ARG(l->name));
    if (!layer_load(x, l, at)) return false;
    if (l->kind == LAYER_ADMIN && *admin) return conf_fail(at, "there may be only one admin_layer");
    *admin |= l->kind == LAYER_ADMIN;
    return l->kind != LAYER_RTDS || layer_rtds_need(x, l, at);
}

bool layers_load(struct xds *x, struct errors *errors)
{
    const Envoy__Config__Bootstrap__V3__LayeredRuntime *m = x->bootstrap->layered_runtime;
    struct conf_cx cx = {
        .arena = x->arena, .errors = errors, .registry = x->env.registry, .rt = x->env.rt};
    struct conf_at root = conf_root(&cx);
    bool admin = false, ok = true;
    x->layers = ARENA_NEW(x->arena, struct layers);
    x->layers->arena = x->arena;
    x->layers->stats =
        stat_group_get(x->env.rt->stats, STR("runtime."), runtime_stat_defs, RUNTIME_STAT_COUNT);
    x->layers->v = ARENA_ARRAY(x->arena, struct layer, m ? m->n_layers : 0);
    for (size_t i = 0; m && i < m->n_layers; i++) {
        struct conf_at at = conf_index(&root, "layered_runtime.layers", i);
        ok = layers_add(x, i, &at, &admin) && ok;
    }
    if (ok) layers_publish(x);
    return ok;
}

void layers_start(struct xds *x)
{
    for (size_t i = 0; i < x->layers->count; i++) {
        struct layer *l = &x->layers->v[i];
        if (l->kind != LAYER_RTDS) continue;
        struct resource *r = resource_find(x, XDS_RUNTIME, l->resource);
        resource_subscribe(r, xds_fetch_timeout(l->conf->rtds_layer->rtds_config));
    }
}

bool layers_update(struct xds *x, struct str name, const ProtobufCMessage *runtime)
{
    for (size_t i = 0; i < x->layers->count; i++) {
        struct layer *l = &x->layers->v[i];
        if (l->kind != LAYER_RTDS || !str_eq(l->resource, name)) continue;
        layer_clear(l, "runtime layer");
        layer_read_runtime(l->arena, runtime, &l->values);
        layers_publish(x);
        return true;
    }
    return false;
}

/* The merged values as a new object; later layers win. */
void layers_publish(struct xds *x)
{
    struct runtime_values *all = obj_new(sizeof *all, "runtime");
    size_t admin = 0;
    for (size_t i = 0; i < x->layers->count; i++) {
        const struct layer *l = &x->layers->v[i];
        size_t it = 0;
        struct str key;
        void *value;
        while (map_next(&l->values, &it, &key, &value)) {
            struct runtime_value *copy = arena_copy(all->obj.arena, value, sizeof *copy);
            copy->text = str_dup(all->obj.arena, copy->text);
            (void)map_put(&all->by_key, str_dup(all->obj.arena, key),
                          copy); /* an earlier layer's value is the arena's */
        }
        if (l->kind == LAYER_ADMIN) admin = l->values.count;
    }
    arena_on_free(all->obj.arena, layer_map_release, &all->by_key);
    struct layers *ls = x->layers;
    stat_inc(ls->stats, RUNTIME_LOAD_SUCCESS);
    stat_set(ls->stats, RUNTIME_NUM_KEYS, all->by_key.count);
    stat_set(ls->stats, RUNTIME_NUM_LAYERS, ls->count);
    stat_set(ls->stats, RUNTIME_ADMIN_ACTIVE, admin);
    runtime_publish(x->env.rt, TABLE_RUNTIME, STR(""), &all->obj);
    cluster_manager_runtime_changed(x->env.clusters);
    struct obj *o = &all->obj;
    obj_unref(&o);
}

void layers_free(struct xds *x)
{
    if (!x->layers) return;
    for (size_t i = 0; i < x->layers->count; i++) {
        map_release(&x->layers->v[i].values);
        arena_free(&x->layers->v[i].arena);
    }
    stat_group_unref(&x->layers->stats);
}

/* --- admin
 * -------------------------------------------------------------------------------------------------------
 */

size_t xds_runtime_layers(const struct xds *x)
{
    return x->layers->count;
}

struct str xds_runtime_layer_name(const struct xds *x, size_t layer)
{
    return x->layers->v[layer].name;
}

static bool layers_seen_before(const struct layers *ls, size_t layer, struct str key)
{
    for (size_t i = 0; i < layer; i++)
        if (map_get(&ls->v[i].values, key)) return true;
    return false;
}

void xds_runtime_each(const struct xds *x,
                      void (*fn)(void *arg, struct str key, const struct str *values,
                                 struct str final),
                      void *arg)
{
    const struct layers *ls = x->layers;
    struct str *values = mem_array(ls->count + 1, sizeof *values);
    for (size_t i = 0; i < ls->count; i++) {
        size_t it = 0;
        struct str key;
        void *value;
        while (map_next(&ls->v[i].values, &it, &key, &value)) {
            if (layers_seen_before(ls, i, key)) continue;
            struct str final = STR("");
            for (size_t k = 0; k < ls->count; k++) {
                const struct runtime_value *v = map_get(&ls->v[k].values, key);
                values[k] = v ? v->text : STR("");
                if (v) final = v->text;
            }
            fn(arg, key, values, final);
        }
    }
    mem_free(values);
}

bool xds_runtime_set(struct xds *x, struct str key, struct str value)
{
    for (size_t i = 0; i < x->layers->count; i++) {
        struct layer *l = &x->layers->v[i];
        if (l->kind != LAYER_ADMIN) continue;
        if (value.len)
            layer_read_text(l->arena, key, value, &l->values);
        else
            (void)map_remove(&l->values, key); /* removing what is not there is fine */
        layers_publish(x);
        return true;
    }
    return false;
}
