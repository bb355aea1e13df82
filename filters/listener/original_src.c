/* envoy.filters.listener.original_src: upstream connections come from the client's address (the
 * routes of the host must bring the answers back). */
#include "base/arena.h"
#include "envoy/extensions/filters/listener/original_src/v3/original_src.pb-c.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"

struct source_conf {
    uint32_t mark;
};

static const void *original_src_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Listener__OriginalSrc__V3__OriginalSrc *m = (const void *)msg;
    struct source_conf *c = ARENA_NEW(conf_arena(at), struct source_conf);
    *c = (struct source_conf){.mark = m->mark};
    return c;
}

static enum accept_flow original_src_accept(void *self, const void *conf, struct accepting *a)
{
    const struct source_conf *c = conf;
    (void)self;
    if (!addr_is_ip(&a->info->remote)) return ACCEPT_CONTINUE;
    struct original_src *s = ARENA_NEW(a->arena, struct original_src);
    s->from = a->info->remote;
    s->mark = c->mark;
    addr_set_port(&s->from, 0);
    a->info->original_src = s;
    return ACCEPT_CONTINUE;
}

const struct listener_filter_type original_src = {
    .ext = {.name = "envoy.filters.listener.original_src",
            .config =
                &envoy__extensions__filters__listener__original_src__v3__original_src__descriptor},
    .conf_create = original_src_create,
    .on_accept = original_src_accept,
};
