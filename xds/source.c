/* Which source a ConfigSource means; sources with the same meaning are shared. */
#include "xds/source.h"

#include <unistd.h>

#include "base/arena.h"
#include "proto/equal.h"
#include "xds/cache.h"

void source_watch(struct source *s, enum xds_kind kind, struct str name)
{
    s->ops->watch(s, kind, name);
    cache_source_watched(s->x->cache, s);
}

void source_unwatch(struct source *s, enum xds_kind kind, struct str name)
{
    s->ops->unwatch(s, kind, name);
}

void source_start(struct source *s)
{
    if (s->started) return;
    s->started = true;
    cache_source_started(s->x->cache, s);
    s->ops->start(s);
}

static struct source *source_add(struct xds *x, struct source *s, uint64_t key)
{
    s->key = key;
    list_push_back(&x->sources, &s->link);
    if (x->phase != XDS_IDLE) source_start(s);
    return s;
}

struct source *source_ads(struct xds *x, const Envoy__Config__Core__V3__ApiConfigSource *api,
                          const struct conf_at *at)
{
    struct source *s = source_grpc_new(x, api, XDS_KINDS, at);
    if (!s) return NULL;
    s->is_ads = true;
    return source_add(x, s, 0);
}

/* Envoy: the file must be there when the subscription is made. */
static struct source *source_file(struct xds *x, enum xds_kind kind,
                                  const Envoy__Config__Core__V3__ConfigSource *cs,
                                  const struct conf_at *at)
{
    bool old = cs->config_source_specifier_case ==
               ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_PATH;
    const char *path = old ? cs->path : cs->path_config_source->path;
    struct conf_at path_at = conf_field(at, old ? "path" : "path_config_source.path");
    /* Envoy: validation makes no LDS subscription, so its file need not be there. */
    bool looked_at = !(x->env.validate_only && kind == XDS_LISTENER);
    if (looked_at && access(path, F_OK) != 0) {
        conf_fail(&path_at, "the file %s does not exist", path);
        return NULL;
    }
    if (old) return source_file_new(x, str_of(path), STR_NONE, kind);
    const Envoy__Config__Core__V3__PathConfigSource *p = cs->path_config_source;
    return source_file_new(x, str_of(p->path),
                           p->watched_directory ? str_of(p->watched_directory->path) : STR_NONE,
                           kind);
}

static struct source *source_make(struct xds *x, enum xds_kind kind,
                                  const Envoy__Config__Core__V3__ConfigSource *cs,
                                  const struct conf_at *at)
{
    switch (cs->config_source_specifier_case) {
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_PATH:
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_PATH_CONFIG_SOURCE:
        return source_file(x, kind, cs, at);
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE: {
        struct conf_at api_at = conf_field(at, "api_config_source");
        return cs->api_config_source->api_type ==
                       ENVOY__CONFIG__CORE__V3__API_CONFIG_SOURCE__API_TYPE__REST
                   ? source_rest_new(x, cs->api_config_source, kind, &api_at)
                   : source_grpc_new(x, cs->api_config_source, kind, &api_at);
    }
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS:
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_SELF:
    case ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER__NOT_SET:
    default: conf_fail(at, "needs one of path_config_source, api_config_source, ads"); return NULL;
    }
}

struct source *source_get(struct xds *x, enum xds_kind kind,
                          const Envoy__Config__Core__V3__ConfigSource *cs, const struct conf_at *at)
{
    if (!cs) {
        conf_fail(at, "is required");
        return NULL;
    }
    /* `self` inside a resource means where that came from; all that we have of the kind is ADS. */
    if (cs->config_source_specifier_case ==
            ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_ADS ||
        cs->config_source_specifier_case ==
            ENVOY__CONFIG__CORE__V3__CONFIG_SOURCE__CONFIG_SOURCE_SPECIFIER_SELF) {
        if (x->ads) return x->ads;
        const Envoy__Config__Bootstrap__V3__Bootstrap__DynamicResources *d =
            x->bootstrap->dynamic_resources;
        conf_fail(at, d && d->ads_config
                          ? "ads: dynamic_resources.ads_config is wrong or comes later"
                          : "ads: the bootstrap has no dynamic_resources.ads_config");
        return NULL;
    }
    uint64_t key = proto_hash(&cs->base) ^ ((uint64_t)kind + 1) * 0x9e3779b97f4a7c15ull;
    LIST_FOREACH (&x->sources, it) {
        struct source *s = CONTAINER_OF(it, struct source, link);
        if (!s->is_ads && s->key == key) return s;
    }
    struct source *s = source_make(x, kind, cs, at);
    return s ? source_add(x, s, key) : NULL;
}

void sources_stop(struct xds *x)
{
    LIST_FOREACH (&x->sources, it) {
        struct source *s = CONTAINER_OF(it, struct source, link);
        s->ops->stop(s);
    }
}

void sources_free(struct xds *x)
{
    LIST_FOREACH_SAFE (&x->sources, it, next) {
        struct source *s = CONTAINER_OF(it, struct source, link);
        list_remove(it);
        for (int k = 0; k < XDS_KINDS; k++)
            known_release(&s->known[k]);
        s->ops->free(s);
    }
}
