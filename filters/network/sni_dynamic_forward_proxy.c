/* envoy.filters.network.sni_dynamic_forward_proxy: holds a connection until the server name that
 * its client asked for is resolved. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/filters/network/sni_dynamic_forward_proxy/v3/sni_dynamic_forward_proxy.pb-c.h"
#include "filters/common/dynamic_forward_proxy.h"
#include "proxy/api/dns_cache.h"
#include "proxy/api/metadata.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

struct sni_dfp_conf {
    struct dns_cache *cache;
    uint16_t port;
    bool save_address;
};
struct sni_dfp {
    struct network_filter base;
    struct dns_wait wait;
};

static const void *sni_dfp_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                       const struct network_filter_place *place)
{
    (void)place;
    const Envoy__Extensions__Filters__Network__SniDynamicForwardProxy__V3__FilterConfig *m =
        (const void *)msg;
    struct sni_dfp_conf *c = ARENA_NEW(conf_arena(at), struct sni_dfp_conf);
    struct conf_at here = conf_field(at, "dns_cache_config");
    c->port = m->port_value ? (uint16_t)m->port_value : DFP_TLS_PORT;
    c->save_address = m->save_upstream_address;
    c->cache = conf_dns_cache(&here, m->dns_cache_config);
    return c->cache ? c : NULL;
}

static void sni_dfp_resolved(struct sni_dfp *s)
{
    const struct sni_dfp_conf *c = s->base.conf;
    if (c->save_address)
        dfp_save_address(&network_filter_info(&s->base)->state, network_filter_arena(&s->base),
                         s->wait.address);
}

static void sni_dfp_done(struct dns_wait *w, enum dns_answer a)
{
    struct sni_dfp *s = CONTAINER_OF(w, struct sni_dfp, wait);
    if (a == DNS_TOO_MANY) {
        conn_close(s->base.conn, CONN_CLOSE_NOW);
        return;
    }
    if (a == DNS_RESOLVED) sni_dfp_resolved(s);
    network_filter_resume(&s->base); /* Envoy: without an address the cluster has no host */
}

static enum net_flow sni_dfp_on_new(struct network_filter *f)
{
    const struct sni_dfp_conf *c = f->conf;
    struct sni_dfp *s = CONTAINER_OF(f, struct sni_dfp, base);
    struct conn_info *info = network_filter_info(f);
    struct dfp_target to = dfp_target(NULL, info, NULL, f->worker->scratch, c->port);
    if (!to.host.len) return NET_CONTINUE;
    s->wait.done = sni_dfp_done;
    /* The cluster must mean the same host. */
    (void)filter_state_set_text(&info->state, network_filter_arena(f),
                                STR("envoy.upstream.dynamic_port"),
                                str_fmt(network_filter_arena(f), "%u", (unsigned)to.port));
    switch (dns_cache_ask(f->worker, c->cache, to.host, to.port, &s->wait)) {
    case DNS_RESOLVED: sni_dfp_resolved(s); return NET_CONTINUE;
    case DNS_FAILED: return NET_CONTINUE;
    case DNS_LATER: return NET_HOLD;
    case DNS_PENDING:
    case DNS_TOO_MANY: break;
    }
    conn_close(f->conn, CONN_CLOSE_NOW);
    return NET_HOLD;
}

static void sni_dfp_on_close(struct network_filter *f)
{
    dns_cache_forget(&CONTAINER_OF(f, struct sni_dfp, base)->wait);
}

const struct network_filter_type network_sni_dynamic_forward_proxy = {
    .ext =
        {.name = "envoy.filters.network.sni_dynamic_forward_proxy",
         .config =
             &envoy__extensions__filters__network__sni_dynamic_forward_proxy__v3__filter_config__descriptor},
    .instance_size = sizeof(struct sni_dfp),
    .conf_create = sni_dfp_conf_create,
    .on_new = sni_dfp_on_new,
    .on_close = sni_dfp_on_close,
};
