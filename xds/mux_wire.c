/* What both encodings build alike. */
#include "xds/mux_wire.h"

#include "base/arena.h"
#include "base/errors.h"
#include "proto/decode.h"
#include "proto/proto.h"

Envoy__Config__Core__V3__Node *mux_node_due(const struct mux *m)
{
    if (m->node_first_only && m->node_sent) return NULL;
    return (Envoy__Config__Core__V3__Node *)(uintptr_t)m->node;
}

Google__Rpc__Status *mux_error_detail(struct arena *a, struct str text)
{
    enum { CODE_INTERNAL = 13 };
    if (!text.len) return NULL;
    Google__Rpc__Status *s = ARENA_NEW(a, Google__Rpc__Status);
    google__rpc__status__init(s);
    s->code = CODE_INTERNAL;
    s->message = str_z(a, text);
    return s;
}

void mux_resource_of(const Envoy__Service__Discovery__V3__Resource *w, struct mux_resource *r)
{
    r->name = str_of(w->resource_name ? w->resource_name->name : w->name);
    if (w->version && w->version[0]) r->version = str_of(w->version);
    r->type_url = w->resource ? str_of(w->resource->type_url) : STR_NONE;
    r->bytes = w->resource ? str_make((const char *)w->resource->value.data, w->resource->value.len)
                           : STR_NONE;
    r->aliases = w->aliases;
    r->alias_count = w->n_aliases;
    if (w->ttl) r->ttl_us = (uint64_t)w->ttl->seconds * 1000000 + (uint64_t)w->ttl->nanos / 1000;
}

bool mux_resource_unwrap(struct mux_resource *r, struct arena *a, struct errors *errors)
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
