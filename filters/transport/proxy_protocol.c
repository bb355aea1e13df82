/* envoy.transport_sockets.upstream_proxy_protocol: a PROXY header (version 1 or 2) tells the
 * upstream whom the connection serves, before anything else is sent. Connections are not shared by
 * clients with different addresses: the pools are told so by per_downstream. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/must.h"
#include "base/proxy_header.h"
#include "envoy/config/core/v3/proxy_protocol.pb-c.h"
#include "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.pb-c.h"
#include "filters/common/stats.h"
#include "filters/transport/wrapped.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/upstream.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

#define CORE(name) Envoy__Config__Core__V3__##name

enum { STAT_TOO_LONG, STAT_COUNT };
static const struct stat_def proxy_out_stats[STAT_COUNT] = {
    [STAT_TOO_LONG] = {"v2_tlvs_exceed_max_length", STAT_COUNTER, 0}};

struct proxy_out_tlv {
    uint8_t type;
    struct str value;
    const struct format *format; /* NULL: value */
};
struct proxy_out_socket {
    struct wrapped_socket w;
    struct stat_group *stats;
    bool v2, pass_all;
    bool pass[PROXY_TLV_TYPES]; /* by type */
    const struct proxy_out_tlv
        *added; /* they win over the client's, and the endpoint's over them */
    size_t added_count;
};
struct proxy_out {
    struct wrapped w;
    const struct proxy_out_socket *socket;
    struct worker *worker;
    struct host *host; /* counted; NULL: unknown, or the header is out */
    struct transport_proxied proxied;
    bool known; /* somebody is served */
    bool sent;
    struct sb header;
    size_t at;
    struct str failure;
};

/* --- configuration
 * ------------------------------------------------------------------------------------------
 */

static bool proxy_out_added(const struct conf_at *at, const CORE(ProxyProtocolConfig) * m,
                            struct proxy_out_socket *c)
{
    struct proxy_out_tlv *v = ARENA_ARRAY(conf_arena(at), struct proxy_out_tlv, m->n_added_tlvs);
    bool ok = true;
    size_t plain = 0, formats = 0; /* Envoy: formats come behind all plain values */
    for (size_t i = 0; i < m->n_added_tlvs; i++)
        formats += !m->added_tlvs[i]->format_string;
    for (size_t i = 0; i < m->n_added_tlvs; i++) {
        const CORE(TlvEntry) *e = m->added_tlvs[i];
        struct conf_at place = conf_index(at, "added_tlvs", i),
                       format = conf_field(&place, "format_string");
        struct str value = str_make((const char *)e->value.data, e->value.len);
        struct proxy_out_tlv *t = &v[e->format_string ? formats++ : plain++];
        *t = (struct proxy_out_tlv){.type = (uint8_t)e->type,
                                    .value = str_dup(conf_arena(at), value)};
        if (e->format_string && !(t->format = conf_format(&format, e->format_string))) ok = false;
        if (value.len > PROXY_TLV_MOST) ok = conf_fail(&place, "the value is too long");
        if (!value.len == !e->format_string) {
            ok = conf_fail(&place, "Invalid TLV configuration: %s",
                           value.len ? "only one of 'value' or 'format_string' may be set."
                                     : "one of 'value' or 'format_string' must be set.");
        }
    }
    c->added = v;
    c->added_count = m->n_added_tlvs;
    return ok;
}

extern const struct transport_socket_type proxy_protocol_upstream_type;

static const struct transport_socket *proxy_out_create(const struct conf_at *at,
                                                       const struct ProtobufCMessage *msg,
                                                       bool downstream)
{
    const Envoy__Extensions__TransportSockets__ProxyProtocol__V3__ProxyProtocolUpstreamTransport
        *m = (const void *)msg;
    struct proxy_out_socket *c = ARENA_NEW(conf_arena(at), struct proxy_out_socket);
    struct conf_at inner = conf_field(at, "transport_socket"), config = conf_field(at, "config");
    const CORE(ProxyProtocolConfig) *p = m->config;
    bool ok = wrapped_create(&inner, m->transport_socket, downstream, &c->w);
    if (p) {
        c->v2 = p->version == ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_CONFIG__VERSION__V2;
        const CORE(ProxyProtocolPassThroughTLVs) *pass = p->pass_through_tlvs;
        c->pass_all =
            pass &&
            pass->match_type ==
                ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_PASS_THROUGH_TLVS__PASS_TLVS_MATCH_TYPE__INCLUDE_ALL;
        for (size_t i = 0; pass && i < pass->n_tlv_type; i++)
            c->pass[pass->tlv_type[i] & 255] = true;
        ok = proxy_out_added(&config, p, c) && ok;
    }
    if (!ok) return NULL;
    c->stats = conf_stat_group(
        at, str_fmt(conf_arena(at), "%.*supstream.proxyprotocol.", STR_ARG(at->cx->scope)),
        proxy_out_stats, STAT_COUNT);
    c->w.ts = *c->w.inner;
    c->w.ts.type = &proxy_protocol_upstream_type;
    c->w.ts.per_downstream = true;
    c->w.ts.per_tlvs = m->tlv_as_pool_key;
    return &c->w.ts;
}

/* --- the header
 * ---------------------------------------------------------------------------------------------
 */

/* A format sees the upstream connection, as Envoy's does: its peer is the upstream. */
static struct str added_text(const struct proxy_out *t, const struct format *f,
                             const struct addr *own, const struct addr *peer)
{
    struct worker *w = t->worker;
    struct conn_info conn = {
        .remote = *peer, .direct_remote = *peer, .local = *own, .direct_local = *own};
    struct stream_info info = {.arena = w->scratch, .worker = w, .conn = &conn};
    info.start_us = loop_now_us(w->loop);
    info.start_wall_us = loop_wall_us(w->loop);
    if (t->host) {
        info.up.host = *host_address(t->host);
        info.up.host_name = host_name(t->host);
    }
    return format_dup(f, &info, w->scratch);
}

/* The endpoint's own TLVs, ours of other types, then the client's of types that neither has. */
static struct str header_tlvs(const struct proxy_out *t, const struct addr *own,
                              const struct addr *peer)
{
    const struct proxy_out_socket *c = t->socket;
    const struct metadata *m = t->host ? host_metadata(t->host) : NULL;
    bool of_host[PROXY_TLV_TYPES] = {false}, taken[PROXY_TLV_TYPES] = {false};
    struct sb all = {0};
    struct str value, rest = m ? m->proxy_tlvs : STR_NONE;
    uint8_t type;
    while (proxy_tlv_next(&rest, &type, &value)) {
        of_host[type] = taken[type] = true;
        (void)proxy_tlv_add(&all, type, value); /* it was one */
    }
    for (size_t i = 0; i < c->added_count; i++) {
        const struct proxy_out_tlv *x = &c->added[i];
        if (of_host[x->type]) continue;
        taken[x->type] = true;
        value = x->format ? added_text(t, x->format, own, peer) : x->value;
        if (!proxy_tlv_add(&all, x->type, value)) stat_inc(c->stats, STAT_TOO_LONG);
    }
    rest = t->proxied.tlvs;
    while (proxy_tlv_next(&rest, &type, &value)) {
        if ((c->pass_all || c->pass[type]) && !taken[type]) (void)proxy_tlv_add(&all, type, value);
    }
    struct str out = str_dup(t->worker->scratch, sb_str(&all));
    sb_release(&all);
    return out;
}

/* A connection that serves nobody (a health check) speaks for itself. */
static void header_make(struct proxy_out *t)
{
    struct addr own = {.len = sizeof(own.sa)}, peer = {.len = sizeof(peer.sa)};
    if (getsockname(t->w.fd, &own.sa.any, &own.len) != 0) own.len = 0;
    if (getpeername(t->w.fd, &peer.sa.any, &peer.len) != 0) peer.len = 0;
    if (!t->socket->v2) {
        proxy_header_v1(&t->header, t->known ? &t->proxied.from : &own,
                        t->known ? &t->proxied.to : &peer);
    } else if (!t->known) {
        proxy_header_v2_local(&t->header);
    } else if (!proxy_header_v2(&t->header, &t->proxied.from, &t->proxied.to,
                                header_tlvs(t, &own, &peer))) {
        stat_inc(t->socket->stats, STAT_TOO_LONG);
    }
}

static int header_send(struct proxy_out *t)
{
    if (!t->header.len) header_make(t);
    struct str all = sb_str(&t->header);
    while (t->at < all.len) {
        ssize_t n = send(t->w.fd, all.ptr + t->at, all.len - t->at, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return TRANSPORT_WANT_WRITE;
        if (n < 0) {
            t->failure = STR("the PROXY header could not be sent");
            return TRANSPORT_ERROR;
        }
        t->at += (size_t)n;
    }
    t->sent = true;
    t->socket = NULL; /* the configuration may go before the connection does */
    if (t->host) host_unref(&t->host);
    sb_release(&t->header);
    return 0;
}

/* --- the transport
 * ------------------------------------------------------------------------------------------
 */

static void *proxy_out_open(const struct transport_socket *ts, struct conn *c, int fd, bool server,
                            const struct transport_ask *ask)
{
    const struct proxy_out_socket *socket = (const struct proxy_out_socket *)(const void *)ts;
    const struct transport_proxied *p = ask ? ask->proxied : NULL;
    struct proxy_out *t = mem_alloc(sizeof(*t) + (p ? p->tlvs.len : 0));
    wrapped_open(&t->w, socket->w.inner, c, fd, server, ask);
    t->socket = socket;
    t->worker = conn_worker(c);
    if (ask && ask->host) t->host = host_ref((struct host *)(uintptr_t)ask->host);
    if (!p) return t;
    t->known = true;
    t->proxied = *p;
    if (p->tlvs.len) memcpy(t + 1, p->tlvs.ptr, p->tlvs.len);
    t->proxied.tlvs = str_make((const char *)(t + 1), p->tlvs.len);
    return t;
}

static int proxy_out_handshake(void *arg)
{
    struct proxy_out *t = arg;
    int r = t->sent ? 0 : header_send(t);
    return r == 0 ? wrapped_handshake(t) : r;
}

static struct str proxy_out_failure(void *arg)
{
    struct proxy_out *t = arg;
    return t->failure.len ? t->failure : wrapped_failure(t);
}

static void proxy_out_close(void *arg)
{
    struct proxy_out *t = arg;
    sb_release(&t->header);
    if (t->host) host_unref(&t->host);
    wrapped_close(t);
}

const struct transport_socket_type proxy_protocol_upstream_type = {
    .ext =
        {.name = "envoy.transport_sockets.upstream_proxy_protocol",
         .config =
             &envoy__extensions__transport_sockets__proxy_protocol__v3__proxy_protocol_upstream_transport__descriptor},
    .conf_create = proxy_out_create,
    .open = proxy_out_open,
    .handshake = proxy_out_handshake,
    .read = wrapped_read,
    .writev = wrapped_writev,
    .shutdown = wrapped_shutdown,
    .info = wrapped_info,
    .alpn = wrapped_alpn,
    .failure = proxy_out_failure,
    .close = proxy_out_close,
    .pending = wrapped_pending,
};
