/* The choice of HTTP version for upstream connections: fixed by the cluster, by the downstream
 * request, or by ALPN. */
#include "proxy/upstream/pool_codec.h"

#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/transport_socket.h"
#include "proxy/http/h1.h"
#include "proxy/http/h2.h"
#include "proxy/net/conn.h"
#include "proxy/stats/stats.h"

enum { OPTIONS_H1, OPTIONS_H2 };

static const struct codec_options *options_of(struct upstream_cluster *uc, int which)
{
    struct codec_options *o = &uc->codec_options[which];
    if (uc->codec_stats[which]) return o;
    struct sb name = {0};
    sb_fmt(&name, "cluster.%.*s.%s", STR_ARG(uc->conf->stat_name),
           which == OPTIONS_H2 ? "http2." : "http1.");
    uc->codec_stats[which] =
        which == OPTIONS_H2
            ? stat_group_get(uc->worker->rt->stats, sb_str(&name), h2_stat_defs, H2_STAT_COUNT)
            : stat_group_get(uc->worker->rt->stats, sb_str(&name), h1_stat_defs, H1_STAT_COUNT);
    sb_release(&name);
    *o = uc->conf->http->codec;
    o->stats = uc->codec_stats[which];
    return o;
}

struct codec *pool_codec_new(struct upstream_cluster *uc, enum http_protocol_kind protocol,
                             struct conn *c, const struct codec_events *events, void *owner)
{
    bool h2 = protocol == UPSTREAM_PROTO_H2 ||
              (protocol == UPSTREAM_PROTO_UNKNOWN && str_eq(conn_alpn(c), STR("h2")));
    return h2 ? h2_client_new(c, options_of(uc, OPTIONS_H2), events, owner)
              : h1_client_new(c, options_of(uc, OPTIONS_H1), events, owner);
}

void pool_codec_prepare(struct upstream_cluster *uc, enum http_protocol_kind protocol)
{
    (void)options_of(uc, protocol == UPSTREAM_PROTO_H2 ? OPTIONS_H2 : OPTIONS_H1);
}

void pool_codec_ask(const struct upstream_cluster *uc, enum http_protocol_kind protocol,
                    struct transport_ask *ask)
{
    static const struct str both[] = {{"h2", 2}, {"http/1.1", 8}};
    (void)uc;
    ask->alpn = protocol == UPSTREAM_PROTO_H1 ? both + 1 : both;
    ask->alpn_count = protocol == UPSTREAM_PROTO_UNKNOWN ? 2 : 1;
}

enum http_protocol_kind pool_protocol(const struct upstream_cluster *uc, const struct lb_ask *ask)
{
    switch (uc->conf->http->protocol) {
    case CLUSTER_HTTP1: return UPSTREAM_PROTO_H1;
    case CLUSTER_HTTP2: return UPSTREAM_PROTO_H2;
    case CLUSTER_HTTP_AUTO: return UPSTREAM_PROTO_UNKNOWN;
    case CLUSTER_HTTP_DOWNSTREAM:
        return ask->stream && ask->stream->protocol == HTTP_PROTOCOL_2 ? UPSTREAM_PROTO_H2
                                                                       : UPSTREAM_PROTO_H1;
    }
    return UPSTREAM_PROTO_H1;
}
