/* The choice of HTTP version for upstream connections: fixed by the cluster, by the downstream request, or by ALPN. */
#include "proxy/upstream/pool_codec.h"

#include "base/arena.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/transport_socket.h"
#include "proxy/http/h1.h"
#include "proxy/net/conn.h"
#include "proxy/stats/stats.h"

static struct stat_group *codec_stats(struct upstream_cluster *uc)
{
    struct sb name = {0};
    sb_fmt(&name, "cluster.%.*s.http1.", STR_ARG(uc->conf->stat_name));
    struct stat_group *g = stat_group_get(uc->worker->rt->stats, sb_str(&name), h1_stat_defs, H1_STAT_COUNT);
    sb_release(&name);
    return g;
}

struct codec *pool_codec_new(struct upstream_cluster *uc, enum http_protocol_kind protocol, struct conn *c, const struct codec_events *events,
                             void *owner)
{
    (void)protocol;
    struct codec_options *o = &uc->codec_options[0];
    if (!uc->codec_stats[0]) {
        uc->codec_stats[0] = codec_stats(uc);
        *o = uc->conf->http->codec;
        o->stats = uc->codec_stats[0];
    }
    return h1_client_new(c, o, events, owner);
}

void pool_codec_ask(const struct upstream_cluster *uc, enum http_protocol_kind protocol, struct transport_ask *ask)
{
    (void)uc;
    (void)protocol;
    static const struct str h1[] = {{"http/1.1", 8}};
    ask->alpn = h1;
    ask->alpn_count = 1;
}

enum http_protocol_kind pool_protocol(const struct upstream_cluster *uc, const struct lb_ask *ask)
{
    switch (uc->conf->http->protocol) {
    case CLUSTER_HTTP1: return UPSTREAM_PROTO_H1;
    case CLUSTER_HTTP2: return UPSTREAM_PROTO_H2;
    case CLUSTER_HTTP_AUTO: return UPSTREAM_PROTO_H1;
    case CLUSTER_HTTP_DOWNSTREAM:
        return ask->stream && ask->stream->protocol == HTTP_PROTOCOL_2 ? UPSTREAM_PROTO_H2 : UPSTREAM_PROTO_H1;
    }
    return UPSTREAM_PROTO_H1;
}

bool pool_protocol_spoken(enum http_protocol_kind protocol)
{
    return protocol == UPSTREAM_PROTO_H1;
}
