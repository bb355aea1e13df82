/* Delta (incremental): DeltaDiscoveryRequest and DeltaDiscoveryResponse. */
#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "xds/mux_internal.h"
#include "xds/mux_wire.h"

/* After a reconnect the server learns what we have, so that it sends only what differs. */
static void mux_delta_initial(const struct mux_type *t, struct arena *a,
                              Envoy__Service__Discovery__V3__DeltaDiscoveryRequest *r)
{
    r->initial_resource_versions = ARENA_ARRAY(
        a, Envoy__Service__Discovery__V3__DeltaDiscoveryRequest__InitialResourceVersionsEntry *,
        t->names.count);
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&t->names, &it, &key, &value)) {
        const struct mux_name *n = value;
        if (!n->version.len || (!n->users && !t->wildcard)) continue;
        Envoy__Service__Discovery__V3__DeltaDiscoveryRequest__InitialResourceVersionsEntry *e =
            ARENA_NEW(
                a,
                Envoy__Service__Discovery__V3__DeltaDiscoveryRequest__InitialResourceVersionsEntry);
        envoy__service__discovery__v3__delta_discovery_request__initial_resource_versions_entry__init(
            e);
        e->key = str_z(a, n->name);
        e->value = str_z(a, n->version);
        r->initial_resource_versions[r->n_initial_resource_versions++] = e;
    }
}

/* Names not yet said on this stream; names that are no longer wanted are said and forgotten. */
static void mux_delta_changes(struct mux_type *t, struct arena *a,
                              Envoy__Service__Discovery__V3__DeltaDiscoveryRequest *r)
{
    r->resource_names_subscribe = ARENA_ARRAY(a, char *, t->names.count + 1);
    r->resource_names_unsubscribe = ARENA_ARRAY(a, char *, t->names.count + 1);
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&t->names, &it, &key, &value)) {
        struct mux_name *n = value;
        if (n->users && !n->sent) {
            r->resource_names_subscribe[r->n_resource_names_subscribe++] = str_z(a, n->name);
            n->sent = true;
        } else if (!n->users && n->sent) {
            r->resource_names_unsubscribe[r->n_resource_names_unsubscribe++] = str_z(a, n->name);
            n->sent = false;
            if (t->wildcard) continue; /* its version is still of use */
            map_remove(&t->names, key);
            mux_name_free(n);
        }
    }
}

struct str mux_delta_request(struct mux *m, struct mux_type *t, const struct mux_answer *answer,
                             struct arena *a)
{
    Envoy__Service__Discovery__V3__DeltaDiscoveryRequest r =
        ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_REQUEST__INIT;
    r.type_url = (char *)(uintptr_t)t->type_url;
    r.node = mux_node_due(m);
    if (answer) {
        r.response_nonce = str_z(a, answer->nonce);
        r.error_detail = mux_error_detail(a, answer->error);
    }
    if (!t->begun) mux_delta_initial(t, a, &r);
    if (t->changed || !t->begun) mux_delta_changes(t, a, &r);
    /* A wildcard beside names is said as "*"; alone, an empty first request means it. Virtual hosts
     * have no "*": those of a table may be very many. */
    bool star = !str_ends(str_of(t->type_url), STR(".VirtualHost"));
    if (star && !t->begun && t->wildcard && r.n_resource_names_subscribe)
        r.resource_names_subscribe[r.n_resource_names_subscribe++] = str_z(a, STR("*"));
    return proto_pack(a, &r.base);
}

bool mux_delta_decode(struct str bytes, struct arena *a, struct mux_update *u, struct str *why)
{
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors errors = {.arena = a};
    const Envoy__Service__Discovery__V3__DeltaDiscoveryResponse *r = (const void *)proto_unpack(
        a, &envoy__service__discovery__v3__delta_discovery_response__descriptor, bytes, &lenient,
        NULL, &errors);
    if (!r) {
        *why = errors_text(&errors, a, STR("DeltaDiscoveryResponse"));
        return false;
    }
    struct mux_resource *v = ARENA_ARRAY(a, struct mux_resource, r->n_resources);
    for (size_t i = 0; i < r->n_resources; i++)
        mux_resource_of(r->resources[i], &v[i]);
    struct str *removed =
        ARENA_ARRAY(a, struct str, r->n_removed_resources + r->n_removed_resource_names);
    size_t n = 0;
    for (size_t i = 0; i < r->n_removed_resources; i++)
        removed[n++] = str_of(r->removed_resources[i]);
    for (size_t i = 0; i < r->n_removed_resource_names; i++)
        removed[n++] = str_of(r->removed_resource_names[i]->name);
    *u = (struct mux_update){.type_url = str_of(r->type_url),
                             .version = str_of(r->system_version_info),
                             .nonce = str_of(r->nonce),
                             .resources = v,
                             .count = r->n_resources,
                             .removed = removed,
                             .removed_count = n};
    if (r->control_plane) u->control_plane = str_of(r->control_plane->identifier);
    return true;
}
