/* The config cache. A source that fails, or is silent for a while, before its first answer is
 * served from the file: through the same door as a response (store_update), so each resource is
 * checked again; what is subscribed to only later (endpoints, routes) is served when it is. The
 * first answer ends it. */
#include "xds/cache.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "proto/equal.h"
#include "proto/proto.h"
#include "xds/cache_file.h"
#include "xds/source.h"

#define section_message Envoy__Service__Discovery__V3__DeltaDiscoveryResponse /* 45 characters */

enum { WRITE_AFTER_US = 1000000, SILENCE_US = 3000000, KEY_TEXT = 24 };

enum cache_stat {
    CACHE_STALE,
    CACHE_SERVED,
    CACHE_REJECTED,
    CACHE_WRITE_SUCCESS,
    CACHE_WRITE_FAILURE,
    CACHE_STATS
};
static const struct stat_def cache_stat_defs[CACHE_STATS] = {
    [CACHE_STALE] = {"stale", STAT_GAUGE, 0},
    [CACHE_SERVED] = {"resources_served", STAT_COUNTER, 0},
    [CACHE_REJECTED] = {"rejected", STAT_COUNTER, 0},
    [CACHE_WRITE_SUCCESS] = {"write_success", STAT_COUNTER, 0},
    [CACHE_WRITE_FAILURE] = {"write_failure", STAT_COUNTER, 0},
};

struct cache {
    struct xds *x;
    struct arena *arena; /* of the path and of what was read */
    const char *path;
    uint64_t identity;
    struct cache_sections sections;
    struct loop_later feed;
    struct loop_timer write, silence;
    struct stat_group *stats;
    bool dirty;
};

/* Whose file: the node, and where configuration comes from. */
static uint64_t cache_identity(const struct xds *x)
{
    const Envoy__Config__Bootstrap__V3__Bootstrap__DynamicResources *d =
        x->bootstrap->dynamic_resources;
    uint64_t id = hash_str(str_of(x->node->id)), cluster = hash_str(str_of(x->node->cluster));
    return id * 31 + cluster * 17 + (d ? proto_hash(&d->base) : 0);
}

struct cache *cache_new(struct xds *x, const char *directory)
{
    struct str why;
    struct arena *a = arena_new("config cache", 0);
    struct cache *c = ARENA_NEW(a, struct cache);
    c->x = x;
    c->arena = a;
    c->path = str_fmt(a, "%s/config-cache", directory).ptr;
    c->identity = cache_identity(x);
    c->stats = stat_group_get(x->env.rt->stats, STR("config_cache."), cache_stat_defs, CACHE_STATS);
    if (mkdir(directory, 0700) < 0 && errno != EEXIST)
        log_warn(LOG_C_CONFIG, "cannot make the directory %s of the config cache: %s", directory,
                 strerror(errno));
    if (cache_file_read(a, c->path, c->identity, &c->sections, &why)) return c;
    c->sections.count = 0;
    if (!why.len) return c;
    stat_inc(c->stats, CACHE_REJECTED);
    log_warn(LOG_C_CONFIG, "the config cache %s is not used: %.*s", c->path, STR_ARG(why));
    return c;
}

void cache_free(struct cache **cache)
{
    struct cache *c = *cache;
    *cache = NULL;
    if (!c) return;
    loop_timer_stop(&c->write);
    loop_timer_stop(&c->silence);
    loop_later_cancel(&c->feed);
    stat_group_unref(&c->stats);
    struct arena *a = c->arena;
    arena_free(&a);
}

/* --- writing
 * ---------------------------------------------------------------------------------------------- */

static void source_key_text(const struct source *s, char out[KEY_TEXT])
{
    int n = snprintf(out, KEY_TEXT, "%llx", (unsigned long long)s->key);
    must(n > 0 && n < KEY_TEXT);
}

static Envoy__Service__Discovery__V3__Resource *cache_resource(struct arena *a,
                                                               const struct resource *r)
{
    Envoy__Service__Discovery__V3__Resource *out =
        ARENA_NEW(a, Envoy__Service__Discovery__V3__Resource);
    envoy__service__discovery__v3__resource__init(out);
    Google__Protobuf__Any *any = ARENA_NEW(a, Google__Protobuf__Any);
    google__protobuf__any__init(any);
    out->name = str_z(a, r->name);
    out->version = str_z(a, r->version);
    any->type_url = str_z(a, r->type_url);
    any->value.data = (uint8_t *)(uintptr_t)r->bytes.ptr;
    any->value.len = r->bytes.len;
    out->resource = any;
    return out;
}

/* What a source told of a kind; what lives only for a time is left out. */
static void cache_add_section(const struct cache *c, const struct source *s, enum xds_kind kind,
                              struct sb *body)
{
    const struct map *store = &c->x->store[kind];
    const struct top *top = xds_top(c->x, kind);
    struct arena *a = arena_new("cache", 0);
    section_message section = ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_RESPONSE__INIT;
    char key[KEY_TEXT];
    size_t it = 0;
    struct str name;
    void *value;
    section.resources = ARENA_ARRAY(a, Envoy__Service__Discovery__V3__Resource *, store->count + 1);
    while (map_next(store, &it, &name, &value)) {
        const struct resource *r = value;
        if (!r->present || r->is_static || r->source != s || loop_timer_running(&r->ttl)) continue;
        section.resources[section.n_resources++] = cache_resource(a, r);
    }
    source_key_text(s, key);
    section.type_url = (char *)(uintptr_t)kind_of(kind)->type_url;
    section.nonce = key;
    if (top) section.system_version_info = str_z(a, top->version);
    if (section.n_resources) cache_file_add(body, &section);
    arena_free(&a);
}

static void cache_write(struct cache *c)
{
    struct sb body = {0};
    struct arena *a = arena_new("cache", 0);
    LIST_FOREACH (&c->x->sources, it) {
        const struct source *s = CONTAINER_OF(it, struct source, link);
        for (int k = 0; s->is_remote && k < XDS_SCOPE_SET; k++) /* sets are of our own making */
            cache_add_section(c, s, (enum xds_kind)k, &body);
    }
    int err = cache_file_write(a, c->path, c->identity, sb_str(&body));
    stat_inc(c->stats, err ? CACHE_WRITE_FAILURE : CACHE_WRITE_SUCCESS);
    if (err)
        log_warn(LOG_C_CONFIG, "cannot write the config cache %s: %s", c->path, strerror(-err));
    sb_release(&body);
    arena_free(&a);
    c->dirty = false;
}

static size_t cache_stale_sources(const struct cache *c)
{
    size_t n = 0;
    LIST_FOREACH (&c->x->sources, it)
        n += CONTAINER_OF(it, struct source, link)->stale;
    return n;
}

/* Half a configuration would be worse than the last whole one. */
static bool cache_is_whole(const struct cache *c)
{
    return c->x->phase == XDS_READY && cache_stale_sources(c) == 0;
}

static void cache_write_now(struct loop_timer *t)
{
    struct cache *c = CONTAINER_OF(t, struct cache, write);
    if (cache_is_whole(c))
        cache_write(c);
    else
        loop_timer_start(xds_loop(c->x), &c->write, WRITE_AFTER_US, cache_write_now);
}

void cache_changed(struct cache *c)
{
    if (!c || c->dirty) return;
    c->dirty = true;
    loop_timer_start(xds_loop(c->x), &c->write, WRITE_AFTER_US, cache_write_now);
}

void cache_flush(struct cache *c)
{
    if (c && c->dirty && cache_is_whole(c)) cache_write(c);
}

/* --- serving
 * ---------------------------------------------------------------------------------------------- */

static bool cache_wants(const struct cache *c, enum xds_kind kind, const char *name)
{
    const struct top *top = xds_top(c->x, kind);
    const struct resource *r = resource_find(c->x, kind, str_of(name));
    if (r && (r->present || r->error.len)) return false;
    const struct kind_ops *ops = kind_of(kind);
    if (!r && ops->wants) return ops->wants(c->x, str_of(name));
    return top ? top->watched : r && r->watchers;
}

static void cache_feed_section(struct cache *c, struct source *s, enum xds_kind kind,
                               const section_message *section)
{
    struct arena *a = arena_new("cache", 0);
    struct mux_resource *v = ARENA_ARRAY(a, struct mux_resource, section->n_resources + 1);
    struct mux_update u = {.type_url = str_of(section->type_url),
                           .version = str_of(section->system_version_info),
                           .resources = v};
    for (size_t i = 0; i < section->n_resources; i++) {
        const Envoy__Service__Discovery__V3__Resource *w = section->resources[i];
        if (!w->resource || !cache_wants(c, kind, w->name)) continue;
        v[u.count++] = (struct mux_resource){
            .name = str_of(w->name),
            .version = str_of(w->version),
            .type_url = str_of(w->resource->type_url),
            .bytes = str_make((const char *)w->resource->value.data, w->resource->value.len)};
    }
    if (u.count) {
        /* Refusals are told by store_update, each with its name. */
        (void)store_update(c->x, s, &u, a);
        stat_add(c->stats, CACHE_SERVED, u.count);
    }
    for (size_t i = 0; i < u.count; i++) {
        const struct resource *r = resource_find(c->x, kind, v[i].name);
        if (r && r->present && s->ops->have) s->ops->have(s, kind, v[i].name, v[i].version);
    }
    arena_free(&a);
}

/* Serving one thing makes others wanted: called again by cache_source_watched then. */
static void cache_feed(struct loop_later *later)
{
    struct cache *c = CONTAINER_OF(later, struct cache, feed);
    LIST_FOREACH (&c->x->sources, it) {
        struct source *s = CONTAINER_OF(it, struct source, link);
        char key[KEY_TEXT];
        source_key_text(s, key);
        for (size_t i = 0; s->stale && i < c->sections.count; i++) {
            const section_message *section = c->sections.v[i];
            enum xds_kind kind;
            if (strcmp(section->nonce, key) != 0) continue;
            if (kind_of_url(str_of(section->type_url), &kind))
                cache_feed_section(c, s, kind, section);
        }
    }
}

static bool cache_has(const struct cache *c, const struct source *s)
{
    char key[KEY_TEXT];
    source_key_text(s, key);
    for (size_t i = 0; i < c->sections.count; i++)
        if (strcmp(c->sections.v[i]->nonce, key) == 0) return true;
    return false;
}

void cache_source_failed(struct cache *c, struct source *s)
{
    if (!c || !s->is_remote || s->answered || s->stale || !cache_has(c, s)) return;
    s->stale = true;
    log_warn(LOG_C_CONFIG,
             "the control plane is away: serving from the config cache %s, stale until it answers",
             c->path);
    stat_set(c->stats, CACHE_STALE, cache_stale_sources(c));
    cache_source_watched(c, s);
}

void cache_source_watched(struct cache *c, struct source *s)
{
    if (c && s->stale) loop_later(xds_loop(c->x), &c->feed, cache_feed);
}

static void cache_silence(struct loop_timer *t)
{
    struct cache *c = CONTAINER_OF(t, struct cache, silence);
    LIST_FOREACH (&c->x->sources, it) {
        struct source *s = CONTAINER_OF(it, struct source, link);
        if (s->started) cache_source_failed(c, s);
    }
}

void cache_source_started(struct cache *c, struct source *s)
{
    if (!c || !cache_has(c, s) || loop_timer_running(&c->silence)) return;
    loop_timer_start(xds_loop(c->x), &c->silence, SILENCE_US, cache_silence);
}

void cache_source_answered(struct cache *c, struct source *s)
{
    if (s->answered) return;
    s->answered = true;
    if (!c || !s->stale) return;
    s->stale = false;
    size_t left = cache_stale_sources(c);
    stat_set(c->stats, CACHE_STALE, left);
    log_info(LOG_C_CONFIG, "the control plane answers: its configuration is no longer stale%s",
             left ? "; others are still away" : "");
}

struct str cache_stale_text(const struct resource *r)
{
    if (!r->cached || !r->source || !r->source->stale) return STR_NONE;
    return STR("stale: from the config cache, the control plane has not answered yet");
}
