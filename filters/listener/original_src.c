/* envoy.filters.listener.original_src: known, and refused: upstream connections that do not come
 * from the client's address would reach servers that trust addresses under a wrong one. */
#include "envoy/extensions/filters/listener/original_src/v3/original_src.pb-c.h"
#include "proxy/api/network_filter.h"

static const void *original_src_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    (void)msg;
    (void)conf_fail(
        at, "binding upstream connections to the client's address is not supported"); /* NULL tells
                                                                                         it on */
    return NULL;
}

const struct listener_filter_type original_src = {
    .ext = {.name = "envoy.filters.listener.original_src",
            .config =
                &envoy__extensions__filters__listener__original_src__v3__original_src__descriptor},
    .conf_create = original_src_create,
};
