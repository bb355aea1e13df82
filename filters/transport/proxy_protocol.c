/* envoy.transport_sockets.upstream_proxy_protocol: a PROXY header (version 1 or 2) tells the
 * upstream whom the connection serves, before anything else is sent. Connections are not shared by
 * clients with different addresses: the pools are told so by per_downstream. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/core/v3/proxy_protocol.pb-c.h"
#include "envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.pb-c.h"
#include "filters/common/stats.h"
#include "filters/transport/wrapped.h"
#include "proxy/api/conf_types.h"
#include "proxy/stats/stats.h"

#define CORE(name) Envoy__Config__Core__V3__##name

enum { TLV_TYPES = 256, TLV_HEADER = 3, V2_HEADER = 16, V2_LEN_AT = 14, V2_MOST = 65535 };
enum { STAT_TOO_LONG, STAT_COUNT };
static const struct stat_def proxy_out_stats[STAT_COUNT] = {
    [STAT_TOO_LONG] = {"v2_tlvs_exceed_max_length", STAT_COUNTER, 0}};

struct proxy_out_socket {
    struct wrapped_socket w;
    struct stat_group *stats;
    bool v2, pass_all;
    bool pass[TLV_TYPES];  /* by type */
    bool added[TLV_TYPES]; /* types of added_tlvs: ours win over the client's */
    struct str added_tlvs; /* encoded */
};
struct proxy_out {
    struct wrapped w;
    const struct proxy_out_socket *socket;
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

static void tlv_add(struct sb *out, unsigned type, struct str value)
{
    sb_char(out, (char)type);
    sb_char(out, (char)(value.len >> 8));
    sb_char(out, (char)(value.len & 255));
    sb_add(out, value);
}

static bool proxy_out_added(const struct conf_at *at, const CORE(ProxyProtocolConfig) * m,
                            struct proxy_out_socket *c)
{
    struct sb all = {0};
    bool ok = true;
    for (size_t i = 0; i < m->n_added_tlvs; i++) {
        const CORE(TlvEntry) *e = m->added_tlvs[i];
        struct conf_at place = conf_index(at, "added_tlvs", i);
        if (e->value.len > V2_MOST) ok = conf_fail(&place, "the value is too long");
        struct conf_at format = conf_field(&place, "format_string");
        if (e->format_string)
            ok = conf_fail(&format, "not supported here: only tcp_proxy's TLVs have formats");
        if (!e->value.len && !e->format_string)
            ok = conf_fail(
                &place,
                "Invalid TLV configuration: one of 'value' or 'format_string' must be set.");
        c->added[e->type & 255] = true;
        tlv_add(&all, e->type, str_make((const char *)e->value.data, e->value.len));
    }
    c->added_tlvs = str_dup(conf_arena(at), sb_str(&all));
    sb_release(&all);
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

static bool same_family(const struct addr *a, const struct addr *b)
{
    return addr_is_ip(a) && addr_is_ip(b) && addr_is_v4(a) == addr_is_v4(b);
}

static const void *ip_bytes(const struct addr *a)
{
    return addr_is_v4(a) ? (const void *)&a->sa.v4.sin_addr : (const void *)&a->sa.v6.sin6_addr;
}

static void header_v1(struct proxy_out *t, const struct addr *from, const struct addr *to)
{
    char source[INET6_ADDRSTRLEN], target[INET6_ADDRSTRLEN];
    int family = addr_is_v4(from) ? AF_INET : AF_INET6;
    if (!same_family(from, to) || !inet_ntop(family, ip_bytes(from), source, sizeof(source)) ||
        !inet_ntop(family, ip_bytes(to), target, sizeof(target))) {
        sb_add(&t->header, STR("PROXY UNKNOWN\r\n"));
        return;
    }
    sb_fmt(&t->header, "PROXY %s %s %s %u %u\r\n", family == AF_INET ? "TCP4" : "TCP6", source,
           target, addr_port(from), addr_port(to));
}

static void put_port(struct sb *out, uint16_t port)
{
    sb_char(out, (char)(port >> 8));
    sb_char(out, (char)(port & 255));
}

/* The client's TLVs that pass, behind ours. */
static void add_passed(struct proxy_out *t, struct sb *out)
{
    const struct proxy_out_socket *c = t->socket;
    struct str rest = t->proxied.tlvs;
    while (rest.len >= TLV_HEADER) {
        const unsigned char *p = (const unsigned char *)rest.ptr;
        size_t len = (size_t)p[1] << 8 | p[2];
        struct str value = str_sub(rest, TLV_HEADER, len);
        if ((c->pass_all || c->pass[p[0]]) && !c->added[p[0]]) tlv_add(out, p[0], value);
        rest = str_sub(rest, TLV_HEADER + len, SIZE_MAX);
    }
}

static void header_v2(struct proxy_out *t, const struct addr *from, const struct addr *to)
{
    static const struct str signature = {"\r\n\r\n\0\r\nQUIT\n", 12};
    struct sb body = {0}, *out = &t->header;
    bool local = !t->known || !same_family(from, to), v4 = addr_is_v4(from);
    sb_add(out, signature);
    if (local) {
        sb_add(out, str_make("\x20\0\0\0", 4));
        return;
    }
    size_t size = v4 ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    sb_add(&body, str_make(ip_bytes(from), size));
    sb_add(&body, str_make(ip_bytes(to), size));
    put_port(&body, addr_port(from));
    put_port(&body, addr_port(to));
    size_t bare = body.len;
    sb_add(&body, t->socket->added_tlvs);
    add_passed(t, &body);
    struct str all = sb_str(&body);
    if (all.len > V2_MOST) { /* Envoy: then without any */
        stat_inc(t->socket->stats, STAT_TOO_LONG);
        all = str_sub(all, 0, bare);
    }
    sb_char(out, 0x21);
    sb_char(out, v4 ? 0x11 : 0x21);
    put_port(out, (uint16_t)all.len);
    sb_add(out, all);
    sb_release(&body);
}

/* A connection that serves nobody (a health check) speaks for itself. */
static void header_make(struct proxy_out *t)
{
    struct addr from = t->proxied.from, to = t->proxied.to;
    if (!t->known) {
        from.len = sizeof(from.sa);
        to.len = sizeof(to.sa);
        if (getsockname(t->w.fd, &from.sa.any, &from.len) != 0) from.len = 0;
        if (getpeername(t->w.fd, &to.sa.any, &to.len) != 0) to.len = 0;
    }
    if (t->socket->v2)
        header_v2(t, &from, &to);
    else
        header_v1(t, &from, &to);
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
