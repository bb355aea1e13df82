/* envoy.filters.http.compressor: taken, and does nothing: responses go as they are, which is
 * understood by every client that would have understood them compressed. */
#include "base/arena.h"
#include "envoy/extensions/filters/http/compressor/v3/compressor.pb-c.h"
#include "proxy/api/http_filter.h"

static const void *compressor_conf_create(const struct conf_at *at,
                                          const struct ProtobufCMessage *msg,
                                          struct str stat_prefix)
{
    (void)at, (void)stat_prefix;
    return msg;
}

static const void *compressor_route_conf_create(const struct conf_at *at,
                                                const struct ProtobufCMessage *msg)
{
    (void)at;
    return msg;
}

static enum http_init compressor_init(struct http_filter *f)
{
    (void)f;
    return HTTP_FILTER_SKIP;
}

const struct http_filter_type http_compressor = {
    .ext = {.name = "envoy.filters.http.compressor",
            .config = &envoy__extensions__filters__http__compressor__v3__compressor__descriptor},
    .route_config =
        &envoy__extensions__filters__http__compressor__v3__compressor_per_route__descriptor,
    .instance_size = sizeof(struct http_filter),
    .conf_create = compressor_conf_create,
    .route_conf_create = compressor_route_conf_create,
    .init = compressor_init,
};
