/* Configurations of filters (ECDS): translated for each place that uses one, and published under
 * the key of its slot. New streams and connections take what is published; running ones keep what
 * they have. */
#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "proto/decode.h"
#include "proxy/config/extension_slot.h"
#include "xds/xds_internal.h"

struct extension_use {
    struct extension_slot *slot; /* a reference */
    unsigned links;              /* needs that refer to it */
    struct need_link *needs;     /* of what is published */
    struct extension_use *next;
};

/* A translated configuration on its way into a slot. */
struct filling {
    struct extension_conf *conf; /* NULL: nothing */
    struct need_link *needs;
};

static bool filling_make(struct filling *f, struct resource *r, const struct extension_slot *slot,
                         const struct conf_cx *outer, const Google__Protobuf__Any *config)
{
    struct conf_cx cx = *outer;
    cx.arena = arena_new("extension", 512);
    cx.needs = NULL;
    struct conf_at root = conf_root(&cx);
    f->conf = translate_extension_conf(&cx, slot, config);
    if (!f->conf) {
        arena_free(&cx.arena);
        return false;
    }
    if (store_link_needs(r, cx.needs, &f->needs, &root)) return true;
    struct obj *o = &f->conf->obj;
    f->conf = NULL;
    obj_unref(&o);
    return false;
}

static void filling_drop(struct filling *f)
{
    struct obj *o = f->conf ? &f->conf->obj : NULL;
    f->conf = NULL;
    obj_unref(&o);
    store_drop_needs(&f->needs);
}

/* Takes what `f` holds. */
static void filling_use(struct filling *f, struct resource *r, struct extension_use *u)
{
    struct obj *o = f->conf ? &f->conf->obj : NULL;
    struct need_link *before = u->needs;
    f->conf = NULL;
    u->needs = f->needs;
    f->needs = NULL;
    runtime_publish(r->x->env.rt, TABLE_EXTENSIONS, u->slot->key, o);
    obj_unref(&o);
    store_drop_needs(&before);
}

static struct conf_cx extension_cx(struct resource *r, struct errors *errors)
{
    struct xds *x = r->x;
    return (struct conf_cx){.errors = errors,
                            .registry = x->env.registry,
                            .rt = x->env.rt,
                            .added_via_api = true,
                            .opts = &x->env.dynamic_opts};
}

/* The default, or nothing: then requests are answered with 500, connections closed. */
static void extension_fall_back(struct resource *r, struct extension_use *u)
{
    struct filling f = {.conf = NULL};
    struct errors errors = {.arena = arena_new("errors", 0)};
    struct conf_cx cx = extension_cx(r, &errors);
    if (u->slot->default_config &&
        !filling_make(&f, r, u->slot, &cx, u->slot->default_config)) /* it was checked before */
        log_warn(LOG_C_CONFIG, "the default configuration of filter \"%.*s\" is refused",
                 STR_ARG(r->name));
    filling_use(&f, r, u);
    arena_free(&errors.arena);
}

/* A place that comes to a resource that is there already. */
static void extension_fill_late(struct resource *r, struct extension_use *u)
{
    struct errors errors = {.arena = arena_new("decode", 0)};
    struct conf_cx cx = extension_cx(r, &errors);
    struct filling f = {.conf = NULL};
    const Envoy__Config__Core__V3__TypedExtensionConfig *m = (const void *)proto_decode(
        errors.arena, kind_extension.desc, r->bytes, &r->x->env.dynamic_opts, NULL, &errors);
    if (m && filling_make(&f, r, u->slot, &cx, m->typed_config)) {
        filling_use(&f, r, u);
    } else {
        struct str why = errors_text(&errors, errors.arena, STR_NONE);
        log_warn(LOG_C_CONFIG, "the known configuration of filter \"%.*s\" does not fit here: %.*s",
                 STR_ARG(r->name), STR_ARG(why));
        if (r->stats) stat_inc(r->stats, EXTENSION_CONFIG_FAIL);
        extension_fall_back(r, u);
    }
    arena_free(&errors.arena);
}

struct extension_use *extension_use_add(struct resource *r, struct extension_slot *slot)
{
    for (struct extension_use *u = r->uses; u; u = u->next) {
        if (u->slot != slot) continue;
        u->links++;
        return u;
    }
    struct extension_use *u = mem_alloc(sizeof *u);
    *u = (struct extension_use){.slot = extension_slot_ref(slot), .links = 1, .next = r->uses};
    r->uses = u;
    if (r->present)
        extension_fill_late(r, u);
    else if (slot->no_wait || r->done)
        extension_fall_back(r, u);
    return u;
}

static void extension_use_free(struct extension_use *u)
{
    extension_slot_unref(&u->slot);
    mem_free(u);
}

void extension_use_drop(struct resource *r, struct extension_use *u)
{
    if (--u->links > 0) return;
    struct extension_use **at = &r->uses;
    while (*at != u)
        at = &(*at)->next;
    *at = u->next;
    store_drop_needs(&u->needs);
    extension_use_free(u);
}

bool extension_use_ready(const struct extension_use *u)
{
    return u && u->slot->no_wait;
}

unsigned extension_places(const struct resource *r)
{
    unsigned kinds = 0;
    if (r->kind != XDS_EXTENSION) return 0;
    for (const struct extension_use *u = r->uses; u; u = u->next)
        kinds |= 1u << u->slot->kind;
    return kinds;
}

void extension_uses_free(struct resource *r)
{
    while (r->uses) {
        struct extension_use *u = r->uses;
        r->uses = u->next;
        while (u->needs) {
            struct need_link *next = u->needs->next;
            mem_free(u->needs);
            u->needs = next;
        }
        extension_use_free(u);
    }
}

/* --- the kind
 * ------------------------------------------------------------------------------------------
 */

static size_t use_count(const struct resource *r)
{
    size_t n = 0;
    for (const struct extension_use *u = r->uses; u; u = u->next)
        n++;
    return n;
}

/* Good for all places, or refused. */
static bool kind_extension_accept(struct resource *r, const ProtobufCMessage *msg,
                                  struct conf_cx *cx)
{
    const Envoy__Config__Core__V3__TypedExtensionConfig *m =
        (const Envoy__Config__Core__V3__TypedExtensionConfig *)msg;
    size_t count = use_count(r), made = 0;
    struct filling *all = mem_array(count, sizeof *all);
    struct extension_use *u = r->uses;
    bool ok = true;
    for (; u && ok; u = u->next)
        ok = filling_make(&all[made++], r, u->slot, cx, m->typed_config);
    u = r->uses;
    for (size_t i = 0; i < made; i++, u = u->next) {
        if (ok)
            filling_use(&all[i], r, u);
        else
            filling_drop(&all[i]);
    }
    mem_free(all);
    if (ok) arena_free(&cx->arena); /* each place has an arena of its own */
    return ok;
}

static void extension_fall_back_all(struct resource *r)
{
    for (struct extension_use *u = r->uses; u; u = u->next)
        extension_fall_back(r, u);
}

static void kind_extension_remove(struct resource *r)
{
    if (r->stats) stat_inc(r->stats, SUB_CONFIG_RELOAD);
    extension_fall_back_all(r);
}

static bool kind_extension_ready(struct resource *r)
{
    (void)r; /* waits for nothing */
    return true;
}

static void kind_extension_missing(struct resource *r)
{
    if (!r->done && r->stats) stat_inc(r->stats, EXTENSION_CONFIG_FAIL); /* Envoy: in time */
    if (!r->present) extension_fall_back_all(r);
}

/* Envoy: whoever waits for the first version goes on with the default. */
static void kind_extension_refused(struct resource *r, const struct mux_resource *m)
{
    (void)m;
    if (r->stats) stat_inc(r->stats, EXTENSION_CONFIG_FAIL);
    if (r->present || r->done) return;
    extension_fall_back_all(r);
    store_done(r);
}

const struct kind_ops kind_extension = {
    .type_url = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
    .label = "TypedExtensionConfig",
    .desc = &envoy__config__core__v3__typed_extension_config__descriptor,
    .stats = extension_stat_defs,
    .stat_count = EXTENSION_STAT_COUNT,
    .accept = kind_extension_accept,
    .remove = kind_extension_remove,
    .ready = kind_extension_ready,
    .missing = kind_extension_missing,
    .refused = kind_extension_refused,
};
