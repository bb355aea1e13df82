/* The TCP proxy's upstream side as an HTTP request: CONNECT (or POST) to the cluster; after a 200
 * the bodies are the connection's bytes. */
#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "filters/network/tcp_proxy.h"
#include "proxy/api/format.h"
#include "proxy/api/header_change.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/transport_socket.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster.h" /* is its transport secure? */

struct tcp_tunnel {
    struct upstream_attempt a;
    struct tcp_link *link;
    struct arena *arena;
    const struct tls_info *tls;
    bool live; /* the attempt has begun and not ended */
    bool end_sent;
    struct loop_later later; /* frees it: pools and codecs up the stack may still look */
};

static struct tcp_tunnel *tunnel_of(struct upstream_attempt *a)
{
    return CONTAINER_OF(a, struct tcp_tunnel, a);
}

/* --- the request
 * ---------------------------------------------------------------------------------------------------------------
 */

/* Envoy: a new one for each attempt, also told in dynamic metadata. */
static void tunnel_request_id(struct tcp_tunnel *t, struct tcp_proxy *p, struct headers *h)
{
    const struct tcp_tunnel_conf *c = p->conf->tunnel;
    struct conn_info *conn = network_filter_info(&p->base);
    char uuid[37];
    rng_uuid(&p->base.worker->rng, uuid);
    struct value v = {.kind = VALUE_STRING, .u.text = str_dup(t->arena, str_of(uuid))};
    headers_add(h, c->id_header, v.u.text);
    metadata_set(&conn->metadata, network_filter_arena(&p->base),
                 STR("envoy.filters.network.tcp_proxy"), c->id_key, &v);
}

static struct headers *tunnel_request(struct tcp_tunnel *t, struct tcp_proxy *p)
{
    const struct tcp_tunnel_conf *c = p->conf->tunnel;
    struct headers *h = headers_new(t->arena);
    struct stream_info *info = &p->info;
    info->arena = t->arena;
    headers_add_id(h, HDR_METHOD, c->post ? STR("POST") : STR("CONNECT"));
    headers_add_id(h, HDR_AUTHORITY, format_dup(c->hostname, info, t->arena));
    if (c->post) {
        const struct transport_socket *socket = upstream_conf(p->uc)->socket;
        headers_add_id(h, HDR_PATH, c->path);
        headers_add_id(h, HDR_SCHEME, socket && socket->secure ? STR("https") : STR("http"));
    }
    if (c->request_id) tunnel_request_id(t, p, h);
    header_change_apply(c->headers, h, info);
    info->arena = p->base.worker->scratch; /* the tunnel may end before the connection */
    return h;
}

static void tunnel_on_ready(struct upstream_attempt *a)
{
    struct tcp_tunnel *t = tunnel_of(a);
    struct tcp_proxy *p = t->link->proxy;
    tcp_link_host_facts(p, a->host);
    tcp_link_conn_facts(p, a->conn_info);
    p->info.up.cx_begin_us = a->connect_begin_us;
    p->info.up.cx_end_us = a->connect_end_us;
    p->info.up.pool_ready_us = a->ready_us;
    t->tls = a->conn_info ? a->conn_info->tls : NULL;
    upstream_send_headers(a, tunnel_request(t, p), false);
}

/* --- the response
 * --------------------------------------------------------------------------------------------------------------
 */

/* The attempt is over or given up; the link goes, the proxy is told. */
static void tunnel_over(struct tcp_tunnel *t, enum upstream_failure why, struct str detail)
{
    struct tcp_link *l = t->link;
    struct tcp_proxy *p = l->proxy;
    t->live = false;
    if (p && !l->up) {
        tcp_link_failed(l, why, detail);
        return;
    }
    if (p) p->link = NULL;
    tcp_link_free(l);
    if (p) tcp_proxy_upstream_closed(p, false);
}

static void tunnel_on_failure(struct upstream_attempt *a, enum upstream_failure why,
                              struct str detail)
{
    struct tcp_tunnel *t = tunnel_of(a);
    if (why != UPSTREAM_OVERFLOW) tcp_link_host_facts(t->link->proxy, a->host);
    tunnel_over(t, why, detail);
}

/* One header as {key, value}. */
static void header_value(struct arena *a, const struct header *x, struct value *out)
{
    struct value_field *f = ARENA_ARRAY(a, struct value_field, 2);
    f[0] = (struct value_field){.name = STR("key"),
                                .value = {.kind = VALUE_STRING, .u.text = str_dup(a, x->name)}};
    f[1] = (struct value_field){.name = STR("value"),
                                .value = {.kind = VALUE_STRING, .u.text = str_dup(a, x->value)}};
    *out = (struct value){.kind = VALUE_STRUCT, .u.fields = {.fields = f, .count = 2}};
}

/* What the tunnel's end answered, as filter state of the client's connection (a core.v3.HeaderMap).
 */
static void tunnel_keep(struct tcp_proxy *p, const struct headers *h, struct str name)
{
    struct arena *a = network_filter_arena(&p->base);
    struct conn_info *conn = network_filter_info(&p->base);
    struct value *items = ARENA_ARRAY(a, struct value, h->live), *all = ARENA_NEW(a, struct value);
    struct value_field *field = ARENA_NEW(a, struct value_field);
    size_t count = 0;
    const struct header *x;
    for (uint32_t it = 0; count < h->live && (x = headers_next(h, &it));)
        header_value(a, x, &items[count++]);
    *field = (struct value_field){
        .name = STR("headers"),
        .value = {.kind = VALUE_LIST, .u.list = {.items = items, .count = count}}};
    *all = (struct value){.kind = VALUE_STRUCT, .u.fields = {.fields = field, .count = 1}};
    struct filter_state_entry e = {.name = name, .object = all, .value = all, .read_only = true};
    (void)filter_state_set(&conn->state, a, &e);
}

/* Envoy: only 200 opens the tunnel. */
static void tunnel_on_headers(struct upstream_attempt *a, struct headers *h, bool end)
{
    enum { STATUS_OK = 200 };
    struct tcp_tunnel *t = tunnel_of(a);
    struct tcp_link *l = t->link;
    if (!l->proxy) return;
    if (l->proxy->conf->tunnel->keep_headers)
        tunnel_keep(l->proxy, h, STR("envoy.tcp_proxy.propagate_response_headers"));
    if (headers_status(h) == STATUS_OK && !end) {
        l->up = true;
        tcp_proxy_connected(l->proxy);
        return;
    }
    struct str detail =
        str_fmt(l->worker->scratch, "tunnel_response:%u", headers_status(h)); /* Envoy's text */
    upstream_cancel(a);
    tunnel_over(t, UPSTREAM_CONNECT_FAILED, detail);
}

static void tunnel_on_data(struct upstream_attempt *a, struct buf *data, bool end)
{
    struct tcp_link *l = tunnel_of(a)->link;
    if (l->proxy)
        tcp_proxy_upstream_read(l->proxy, data, end);
    else
        buf_release(data);
}

static void tunnel_on_trailers(struct upstream_attempt *a, struct headers *trailers)
{
    struct buf none = {0};
    struct tcp_link *l = tunnel_of(a)->link;
    if (l->proxy && l->proxy->conf->tunnel->keep_trailers)
        tunnel_keep(l->proxy, trailers, STR("envoy.tcp_proxy.propagate_response_trailers"));
    if (l->proxy) tcp_proxy_upstream_read(l->proxy, &none, true);
}

static void tunnel_on_reset(struct upstream_attempt *a, enum stream_reset why, struct str details)
{
    (void)why;
    tunnel_over(tunnel_of(a), UPSTREAM_CONNECT_FAILED, details);
}

static void tunnel_on_complete(struct upstream_attempt *a)
{
    tunnel_over(tunnel_of(a), UPSTREAM_CONNECT_FAILED, STR_NONE);
}

static void tunnel_on_watermark(struct upstream_attempt *a, bool above)
{
    struct tcp_proxy *p = tunnel_of(a)->link->proxy;
    if (!p || p->ended) return;
    stat_inc(p->conf->stats, above ? TCP_FLOW_PAUSED : TCP_FLOW_RESUMED);
    conn_pause_read(p->base.conn, above);
}

static const struct upstream_events tunnel_events = {
    .on_ready = tunnel_on_ready,
    .on_failure = tunnel_on_failure,
    .on_headers = tunnel_on_headers,
    .on_data = tunnel_on_data,
    .on_trailers = tunnel_on_trailers,
    .on_reset = tunnel_on_reset,
    .on_complete = tunnel_on_complete,
    .on_watermark = tunnel_on_watermark,
};

/* --- what the link does with it
 * ------------------------------------------------------------------------------------------------
 */

void tcp_tunnel_start(struct tcp_link *l, struct upstream_cluster *uc, const struct lb_ask *ask)
{
    struct tcp_tunnel *t = mem_alloc(sizeof(*t));
    l->tunnel = t;
    t->link = l;
    t->live = true;
    t->arena = arena_new("tunnel", 2048);
    t->a.events = &tunnel_events;
    t->a.owner = t;
    t->a.arena = t->arena;
    upstream_start(l->worker, uc, &t->a, ask); /* all may be gone now */
}

void tcp_tunnel_write(struct tcp_tunnel *t, struct buf *data, bool end)
{
    if (t->end_sent) {
        buf_release(data);
        return;
    }
    t->end_sent = end;
    upstream_send_data(&t->a, data, end); /* t may be gone now */
}

void tcp_tunnel_pause(struct tcp_tunnel *t, bool pause)
{
    upstream_pause(&t->a, pause);
}

const struct tls_info *tcp_tunnel_tls(const struct tcp_tunnel *t)
{
    return t->live ? t->tls : NULL;
}

void tcp_tunnel_drop(struct tcp_link *l, bool complete)
{
    struct tcp_tunnel *t = l->tunnel;
    l->proxy = NULL;
    if (complete && t->live) return; /* on_complete frees it */
    if (t->live) upstream_cancel(&t->a);
    tcp_link_free(l);
}

static void tunnel_bury(struct loop_later *later)
{
    struct tcp_tunnel *t = CONTAINER_OF(later, struct tcp_tunnel, later);
    arena_free(&t->arena);
    mem_free(t);
}

void tcp_tunnel_free(struct tcp_tunnel **tp)
{
    struct tcp_tunnel *t = *tp;
    *tp = NULL;
    if (t) loop_later(t->link->worker->loop, &t->later, tunnel_bury);
}
