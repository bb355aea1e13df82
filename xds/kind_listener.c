/* Listeners (LDS): one that needs routes or secrets waits for them (warms) while its old version
 * serves. */
#include "base/arena.h"
#include "base/log.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "proxy/config/listener.h"
#include "proxy/net/listener_manager.h"
#include "xds/xds_internal.h"

static void listener_count_warming(struct xds *x)
{
    size_t warming = 0;
    LIST_FOREACH (&x->waiting, it)
        warming += CONTAINER_OF(it, struct resource, waiting)->kind == XDS_LISTENER;
    listener_manager_set_warming(x->env.listeners, warming);
}

static bool listener_needs_done(const struct resource *r)
{
    for (const struct need_link *l = r->pending_needs; l; l = l->next)
        if ((!l->resource->done || l->resource->pending) && !extension_use_ready(l->use))
            return false;
    return true;
}

/* Hands the pending version over. False: told in e; the old version serves on. */
static bool listener_use(struct resource *r, struct errors *e)
{
    struct listener_conf *conf = (struct listener_conf *)r->pending;
    r->pending = NULL;
    bool ok = listener_manager_set(r->x->env.listeners, conf, e);
    if (ok) {
        store_drop_needs(&r->needs);
        r->needs = r->pending_needs;
        r->pending_needs = NULL;
    } else {
        store_drop_needs(&r->pending_needs);
    }
    return ok;
}

static bool kind_listener_accept(struct resource *r, const ProtobufCMessage *msg,
                                 struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx);
    struct listener_conf *conf =
        translate_listener(cx, (const Envoy__Config__Listener__V3__Listener *)msg);
    if (!conf) {
        listener_manager_count_failure(r->x->env.listeners);
        return false;
    }
    struct obj *o = &conf->obj;
    if (cx->validate_only) {
        obj_unref(&o);
        return true;
    }
    if (!store_link_needs(r, cx->needs, &r->pending_needs, &root)) {
        /* The listener owns the arena from translation on; a new one is left for the caller to
         * free. */
        obj_unref(&o);
        cx->arena = NULL;
        return false;
    }
    obj_unref(&r->pending);
    r->pending = o;
    if (listener_needs_done(r)) {
        list_remove(&r->waiting);
        bool ok = listener_use(r, cx->errors);
        if (!ok) cx->arena = NULL;
        return ok;
    }
    store_wait(r);
    listener_count_warming(r->x);
    return true;
}

static void kind_listener_remove(struct resource *r)
{
    list_remove(&r->waiting);
    obj_unref(&r->pending);
    (void)listener_manager_remove(r->x->env.listeners,
                                  r->name); /* a warming one is unknown there */
    store_drop_needs(&r->pending_needs);
    store_drop_needs(&r->needs);
    listener_count_warming(r->x);
}

static bool kind_listener_ready(struct resource *r)
{
    if (!listener_needs_done(r)) return false;
    struct errors e = {.arena = arena_new("errors", 0)};
    if (!listener_use(r, &e)) {
        struct str why = errors_text(&e, e.arena, STR_NONE);
        resource_keep(&r->error, why);
        r->error_wall_us = loop_wall_us(xds_loop(r->x));
        log_error(LOG_C_CONFIG, "Listener \"%.*s\" cannot be used: %.*s", STR_ARG(r->name),
                  STR_ARG(why));
    }
    arena_free(&e.arena);
    list_remove(&r->waiting);
    listener_count_warming(r->x);
    return true;
}

static void kind_listener_missing(struct resource *r)
{
    (void)r; /* listeners are not waited for by name */
}

const struct kind_ops kind_listener = {
    .type_url = "type.googleapis.com/envoy.config.listener.v3.Listener",
    .label = "Listener",
    .desc = &envoy__config__listener__v3__listener__descriptor,
    .full = true,
    .accept = kind_listener_accept,
    .remove = kind_listener_remove,
    .ready = kind_listener_ready,
    .missing = kind_listener_missing,
};
