/* envoy.filters.network.sni_cluster: the TLS server name is the name of the cluster that tcp_proxy
 * connects to. */
#include "envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.pb-c.h"
#include "proxy/api/metadata.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"

static enum net_flow sni_cluster_on_new(struct network_filter *f)
{
    struct conn_info *info = network_filter_info(f);
    /* An entry that is there already stays: nobody may be sent elsewhere by a name that the client
     * chose. */
    if (info->sni.len)
        (void)filter_state_set_text(&info->state, network_filter_arena(f),
                                    STR("envoy.tcp_proxy.cluster"), info->sni);
    return NET_CONTINUE;
}

const struct network_filter_type network_sni_cluster = {
    .ext = {.name = "envoy.filters.network.sni_cluster",
            .config =
                &envoy__extensions__filters__network__sni_cluster__v3__sni_cluster__descriptor},
    .instance_size = sizeof(struct network_filter),
    .on_new = sni_cluster_on_new,
};
