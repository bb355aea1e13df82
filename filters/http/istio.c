/* Istio's HTTP filters istio.stats, peer metadata and istio.alpn: in the chain, without effect.
 * Traffic, authentication and authorization do not depend on them. */
#include "filters/common/istio.h"
#include "istio/alpn.pb-c.h"
#include "istio/peer_metadata.pb-c.h"
#include "istio/stats.pb-c.h"
#include "proxy/api/http_filter.h"

static const void *stats_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                     struct str stat_prefix)
{
    (void)msg, (void)stat_prefix;
    return istio_conf_noted(at, "istio.stats: Istio's own metrics are not kept");
}

static const void *peer_metadata_conf_create(const struct conf_at *at,
                                             const struct ProtobufCMessage *msg,
                                             struct str stat_prefix)
{
    (void)msg, (void)stat_prefix;
    return istio_conf_noted(at, "peer metadata is neither sent nor looked up");
}

static const void *alpn_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                    struct str stat_prefix)
{
    (void)msg, (void)stat_prefix;
    return istio_conf_noted(at,
                            "istio.alpn: the cluster's own alpn_protocols are offered upstream");
}

const struct http_filter_type istio_stats = {
    .ext = {.name = "istio.stats", .config = &stats__plugin_config__descriptor},
    .instance_size = sizeof(struct http_filter),
    .conf_create = stats_conf_create,
};
const struct http_filter_type istio_peer_metadata = {
    .ext = {.name = "envoy.filters.http.peer_metadata",
            .config = &io__istio__http__peer_metadata__config__descriptor},
    .instance_size = sizeof(struct http_filter),
    .conf_create = peer_metadata_conf_create,
};
const struct http_filter_type istio_alpn = {
    .ext = {.name = "istio.alpn",
            .config =
                &istio__envoy__config__filter__http__alpn__v2alpha1__filter_config__descriptor},
    .instance_size = sizeof(struct http_filter),
    .conf_create = alpn_conf_create,
};
