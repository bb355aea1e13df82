/* Fuzz target: bytes of an xDS resource through scan, decoding, validation and translation. The
 * first byte chooses the type. */
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/loop.h"
#include "envoy/config/cluster/v3/cluster.pb-c.h"
#include "envoy/config/endpoint/v3/endpoint.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "filters/registry.h"
#include "proto/decode.h"
#include "proxy/api/conf.h"
#include "proxy/config/cluster.h"
#include "proxy/config/listener.h"
#include "proxy/config/route.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { KINDS = 4 };

/* The translated object, or NULL; it owns cx->arena then. */
static struct obj *translate(struct conf_cx *cx, unsigned kind, const ProtobufCMessage *m)
{
    switch (kind) {
    case 0: {
        struct cluster *c = translate_cluster(cx, (const Envoy__Config__Cluster__V3__Cluster *)m);
        return c ? &c->obj : NULL;
    }
    case 1: {
        struct load_assignment *l = translate_load_assignment(
            cx, (const Envoy__Config__Endpoint__V3__ClusterLoadAssignment *)m);
        return l ? &l->obj : NULL;
    }
    case 2: {
        struct route_config *r =
            translate_route_config(cx, (const Envoy__Config__Route__V3__RouteConfiguration *)m);
        return r ? &r->obj : NULL;
    }
    default: {
        struct listener_conf *l =
            translate_listener(cx, (const Envoy__Config__Listener__V3__Listener *)m);
        return l ? &l->obj : NULL;
    }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const ProtobufCMessageDescriptor *const types[KINDS] = {
        &envoy__config__cluster__v3__cluster__descriptor,
        &envoy__config__endpoint__v3__cluster_load_assignment__descriptor,
        &envoy__config__route__v3__route_configuration__descriptor,
        &envoy__config__listener__v3__listener__descriptor,
    };
    if (size == 0) return 0;
    unsigned kind = data[0] % KINDS;
    struct loop *loop = loop_new();
    struct stats *stats = stats_new(2);
    stats_thread_enter(stats, 0);
    struct runtime *rt = runtime_new(loop, stats, 1);
    struct arena *decode = arena_new("decode", 0);
    struct errors errors = {.arena = decode};
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct str bytes = {(const char *)data + 1, size - 1};
    const ProtobufCMessage *m = proto_decode(decode, types[kind], bytes, &lenient, NULL, &errors);
    if (m) {
        struct conf_cx cx = {.arena = arena_new("object", 0),
                             .errors = &errors,
                             .registry = &filters_registry,
                             .rt = rt,
                             .validate_only = true,
                             .opts = &lenient};
        struct obj *o = translate(&cx, kind, m);
        if (o)
            obj_unref(&o);
        else
            arena_free(&cx.arena);
    }
    arena_free(&decode);
    runtime_free(&rt);
    stats_free(&stats);
    loop_free(&loop);
    return 0;
}
