/* State of the world: DiscoveryRequest and DiscoveryResponse. */
#include "base/arena.h"
#include "base/errors.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "xds/mux_internal.h"
#include "xds/mux_wire.h"

struct str mux_sotw_request(struct mux *m, struct mux_type *t, struct arena *a)
{
    Envoy__Service__Discovery__V3__DiscoveryRequest r =
        ENVOY__SERVICE__DISCOVERY__V3__DISCOVERY_REQUEST__INIT;
    r.type_url = (char *)(uintptr_t)t->type_url;
    r.version_info = str_z(a, t->version);
    r.response_nonce = str_z(a, t->nonce);
    r.node = mux_node_due(m);
    r.error_detail = mux_error_detail(a, t->error);
    /* A wildcard subscription beside named ones says "*". */
    r.resource_names = mux_names(t, a, t->wildcard && t->names.count, &r.n_resource_names);
    return proto_pack(a, &r.base);
}

/* A resource may come wrapped in envoy.service.discovery.v3.Resource, with a name, a version and a
 * TTL of its own. */
static bool mux_unwrap(struct mux_resource *r, struct arena *a, struct errors *errors)
{
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    if (!str_eq(proto_url_name(r->type_url), STR("envoy.service.discovery.v3.Resource")))
        return true;
    const Envoy__Service__Discovery__V3__Resource *w = (const void *)proto_unpack(
        a, &envoy__service__discovery__v3__resource__descriptor, r->bytes, &lenient, NULL, errors);
    if (!w) return false;
    mux_resource_of(w, r);
    return true;
}

bool mux_sotw_decode(struct str bytes, struct arena *a, struct mux_update *u, struct str *why)
{
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors errors = {.arena = a};
    const Envoy__Service__Discovery__V3__DiscoveryResponse *r = (const void *)proto_unpack(
        a, &envoy__service__discovery__v3__discovery_response__descriptor, bytes, &lenient, NULL,
        &errors);
    if (!r) {
        *why = errors_text(&errors, a, STR("DiscoveryResponse"));
        return false;
    }
    struct mux_resource *v = ARENA_ARRAY(a, struct mux_resource, r->n_resources);
    for (size_t i = 0; i < r->n_resources; i++) {
        const Google__Protobuf__Any *any = r->resources[i];
        v[i].version = str_of(r->version_info);
        v[i].type_url = str_of(any->type_url);
        v[i].bytes = str_make((const char *)any->value.data, any->value.len);
        if (!mux_unwrap(&v[i], a, &errors)) {
            *why = errors_text(&errors, a, STR("Resource"));
            return false;
        }
    }
    *u = (struct mux_update){.type_url = str_of(r->type_url),
                             .version = str_of(r->version_info),
                             .nonce = str_of(r->nonce),
                             .resources = v,
                             .count = r->n_resources,
                             .full = true};
    if (r->control_plane) u->control_plane = str_of(r->control_plane->identifier);
    return true;
}
