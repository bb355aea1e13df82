/* Runtime layers over xDS (RTDS). */
#include "base/arena.h"
#include "envoy/service/runtime/v3/rtds.pb-c.h"
#include "xds/xds_internal.h"

static bool kind_runtime_accept(struct resource *r, const ProtobufCMessage *msg, struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx);
    if (!layers_update(r->x, r->name, msg)) return conf_fail(&root, "no rtds_layer has this name");
    arena_free(&cx->arena); /* layers copy */
    return true;
}

static void kind_runtime_remove(struct resource *r)
{
    (void)layers_update(r->x, r->name, NULL); /* the layer is there: it was accepted */
}

static bool kind_runtime_ready(struct resource *r)
{
    (void)r; /* layers wait for nothing */
    return true;
}

static void kind_runtime_missing(struct resource *r)
{
    (void)r; /* the layer stays empty */
}

const struct kind_ops kind_runtime = {
    .type_url = "type.googleapis.com/envoy.service.runtime.v3.Runtime",
    .label = "Runtime",
    .desc = &envoy__service__runtime__v3__runtime__descriptor,
    .accept = kind_runtime_accept,
    .remove = kind_runtime_remove,
    .ready = kind_runtime_ready,
    .missing = kind_runtime_missing,
};
