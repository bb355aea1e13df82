/* Istio's network filters istio.stats and metadata exchange: in the chain, without effect. */
#include "filters/common/istio.h"
#include "istio/metadata_exchange.pb-c.h"
#include "istio/stats.pb-c.h"
#include "proxy/api/network_filter.h"

static const void *stats_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                     const struct network_filter_place *place)
{
    (void)msg, (void)place;
    return istio_conf_noted(at, "istio.stats: Istio's own metrics are not kept");
}

static const void *exchange_conf_create(const struct conf_at *at,
                                        const struct ProtobufCMessage *msg,
                                        const struct network_filter_place *place)
{
    (void)msg, (void)place;
    return istio_conf_noted(at, "no metadata is exchanged with the peer of a TCP connection");
}

const struct network_filter_type istio_tcp_stats = {
    .ext = {.name = "istio.stats", .config = &stats__plugin_config__descriptor},
    .instance_size = sizeof(struct network_filter),
    .conf_create = stats_conf_create,
};
const struct network_filter_type istio_metadata_exchange = {
    .ext = {.name = "envoy.filters.network.metadata_exchange",
            .config = &envoy__tcp__metadataexchange__config__metadata_exchange__descriptor},
    .instance_size = sizeof(struct network_filter),
    .conf_create = exchange_conf_create,
};
