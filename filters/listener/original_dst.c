/* envoy.filters.listener.original_dst: the destination before an iptables REDIRECT becomes the
 * connection's local address. */
#include "base/arena.h"
#include "envoy/extensions/filters/listener/original_dst/v3/original_dst.pb-c.h"
#include "proxy/api/network_filter.h"

static const void *original_dst_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    (void)msg;
    return arena_alloc(conf_arena(at), 0);
}

static enum accept_flow original_dst_accept(void *self, const void *conf, struct accepting *a)
{
    (void)self;
    (void)conf;
    accepting_restore_destination(a);
    return ACCEPT_CONTINUE;
}

const struct listener_filter_type original_dst = {
    .ext = {.name = "envoy.filters.listener.original_dst",
            .config =
                &envoy__extensions__filters__listener__original_dst__v3__original_dst__descriptor},
    .conf_create = original_dst_create,
    .on_accept = original_dst_accept,
};
