/* envoy.filters.udp_listener.udp_proxy: sessions. The first datagram of a client's address opens
 * one: a host is chosen and a socket connected to it; what comes back goes to the client. A session
 * ends when it was idle, its host left or its cluster changed. The configuration is in
 * udp_proxy_conf.c, logs in udp_proxy_log.c. */
#include "filters/udp/udp_proxy.h"

#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy.pb-c.h"
#include "proxy/api/match_tree.h"
#include "proxy/net/datagram.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster.h" /* the cluster's names */

static void count(struct udp_proxy *p, enum udp_stat s, uint64_t n)
{
    p->counts[s] += n;
    stat_add(p->conf->stats, s, n);
}

/* --- the end of a session
 * ----------------------------------------------------------------------------------- */

static void session_bury(struct loop_later *later)
{
    mem_free(CONTAINER_OF(later, struct udp_session, later));
}

static void session_end(struct udp_session *s)
{
    struct udp_proxy *p = s->proxy;
    if (s->over) return;
    s->over = true;
    loop_timer_stop(&s->idle);
    loop_timer_stop(&s->log_timer);
    (void)map_remove(&p->sessions, str_make((const char *)&s->key, sizeof(s->key)));
    udp_session_log(s, ACCESS_LOG_TYPE_UDP_SESSION_END);
    stat_dec(p->conf->stats, UDP_SESS_ACTIVE);
    upstream_udp_end(&s->up);
    upstream_unpin(p->worker, &s->uc);
    /* Its socket's callback may be up the stack. */
    loop_later(p->worker->loop, &s->later, session_bury);
}

static void session_idle(struct loop_timer *t)
{
    struct udp_session *s = CONTAINER_OF(t, struct udp_session, idle);
    struct loop *loop = s->proxy->worker->loop;
    uint64_t quiet = loop_now_us(loop) - s->active_us, most = s->proxy->conf->idle_us;
    if (quiet < most) { /* datagrams only note the time: restarting for each would cost more */
        loop_timer_start(loop, t, most - quiet, session_idle);
        return;
    }
    count(s->proxy, UDP_IDLE_TIMEOUT, 1);
    session_end(s);
}

static void session_log_fire(struct loop_timer *t)
{
    struct udp_session *s = CONTAINER_OF(t, struct udp_session, log_timer);
    udp_session_log(s, ACCESS_LOG_TYPE_UDP_PERIODIC);
    loop_timer_start(s->proxy->worker->loop, t, s->proxy->conf->log_interval_us, session_log_fire);
}

/* --- what comes back
 * ---------------------------------------------------------------------------------------- */

static void session_on_datagrams(struct upstream_udp *u, const struct datagram_batch *b)
{
    struct udp_session *s = CONTAINER_OF(u, struct udp_session, up);
    struct udp_proxy *p = s->proxy;
    struct str out[DATAGRAM_BATCH];
    size_t some = 0, done = 0;
    s->active_us = loop_now_us(p->worker->loop);
    for (size_t i = 0; i < b->count; i++) {
        if (b->v[i].cut)
            stat_inc(s->cluster_stats, UDP_CLUSTER_RX_DROPPED);
        else
            out[some++] = b->v[i].bytes;
    }
    stat_add(s->cluster_stats, UDP_CLUSTER_RX_DATAGRAMS, some);
    while (done < some) {
        size_t sent = udp_listener_send(p->listener, &s->peer, &s->local, out + done, some - done);
        for (size_t i = 0; i < sent; i++) {
            s->tx_bytes += out[done + i].len;
            count(p, UDP_SESS_TX_BYTES, out[done + i].len);
        }
        s->tx_datagrams += sent;
        count(p, UDP_SESS_TX_DATAGRAMS, sent);
        done += sent;
        if (done == some) break;
        done++; /* the one that was not taken is lost */
        s->tx_errors++;
        count(p, UDP_SESS_TX_ERRORS, 1);
    }
}

static void session_on_error(struct upstream_udp *u, int error)
{
    (void)error;
    stat_inc(CONTAINER_OF(u, struct udp_session, up)->cluster_stats, UDP_CLUSTER_RX_ERRORS);
}

static void session_on_gone(struct upstream_udp *u)
{
    session_end(CONTAINER_OF(u, struct udp_session, up));
}

static const struct upstream_udp_events session_events = {
    .on_datagrams = session_on_datagrams,
    .on_error = session_on_error,
    .on_gone = session_on_gone,
};

/* --- where to
 * -----------------------------------------------------------------------------------------------
 */

static struct upstream_cluster *route(struct udp_proxy *p, const struct udp_datagram *d)
{
    const struct udp_conf *c = p->conf;
    const struct udp_target *t = c->target;
    if (c->tree) {
        struct conn_info conn = {.remote = *d->peer,
                                 .direct_remote = *d->peer,
                                 .local = *d->local,
                                 .direct_local = *d->local};
        struct match_ask ask = {.worker = p->worker, .scratch = p->worker->scratch, .conn = &conn};
        const void *found = NULL;
        if (match_tree_find(c->tree, &ask, &found) == MATCH_FOUND) t = found;
    }
    struct upstream_cluster *uc = t ? upstream_find(p->worker, t->cluster, t->hash) : NULL;
    if (!uc) count(p, UDP_SESS_NO_ROUTE, 1);
    return uc;
}

static struct host *host_pick(struct udp_proxy *p, struct upstream_cluster *uc,
                              const struct udp_datagram *d)
{
    struct conn_info conn = {.remote = *d->peer,
                             .direct_remote = *d->peer,
                             .local = *d->local,
                             .direct_local = *d->local};
    struct lb_ask ask = {.worker = p->worker, .downstream = &conn};
    char ip[ADDR_TEXT_MAX];
    switch (p->conf->hash) {
    case UDP_HASH_NONE: break;
    case UDP_HASH_SOURCE_IP:
        ask.hash = hash_xxh64(str_make(ip, addr_format_ip(d->peer, ip)), 0);
        ask.has_hash = true;
        break;
    case UDP_HASH_KEY:
        ask.hash = p->conf->hash_key;
        ask.has_hash = true;
        break;
    }
    return upstream_udp_pick(uc, &ask);
}

static struct stat_group *cluster_stats(struct udp_proxy *p, struct upstream_cluster *uc)
{
    struct str prefix =
        str_fmt(p->worker->scratch, "cluster.%.*s.udp.", STR_ARG(upstream_conf(uc)->stat_name));
    return upstream_named_stats(p->worker, prefix, 0, udp_cluster_stat_defs,
                                UDP_CLUSTER_STAT_COUNT);
}

/* --- sessions
 * -----------------------------------------------------------------------------------------------
 */

static void key_address(const struct addr *x, uint8_t *ip, uint16_t *port, uint16_t *family)
{
    *port = addr_port(x);
    *family = x->sa.any.sa_family;
    if (addr_is_v4(x))
        memcpy(ip, &x->sa.v4.sin_addr, sizeof(x->sa.v4.sin_addr));
    else
        memcpy(ip, &x->sa.v6.sin6_addr, sizeof(x->sa.v6.sin6_addr));
}

static struct udp_key key_of(const struct udp_datagram *d, const struct host *host)
{
    struct udp_key k;
    memset(&k, 0, sizeof(k));
    key_address(d->peer, k.peer.ip, &k.peer.port, &k.peer.family);
    key_address(d->local, k.local.ip, &k.local.port, &k.local.family);
    k.host = host;
    return k;
}

static void session_start_timers(struct udp_session *s)
{
    const struct udp_conf *c = s->proxy->conf;
    struct loop *loop = s->proxy->worker->loop;
    loop_timer_start(loop, &s->idle, c->idle_us, session_idle);
    if (c->log_interval_us)
        loop_timer_start(loop, &s->log_timer, c->log_interval_us, session_log_fire);
}

/* NULL: it ended at once (logged). */
static struct udp_session *session_new(struct udp_proxy *p, const struct udp_datagram *d,
                                       struct upstream_cluster *uc, struct host *h)
{
    struct worker *w = p->worker;
    struct udp_session *s = mem_alloc(sizeof(*s));
    s->proxy = p;
    s->key = key_of(d, p->conf->per_packet ? h : NULL);
    s->peer = *d->peer;
    s->local = *d->local;
    s->id = udp_listener_next_id(p->listener);
    s->start_us = s->active_us = loop_now_us(w->loop);
    s->start_wall_us = loop_wall_us(w->loop);
    s->uc = uc;
    upstream_pin(uc);
    s->cluster = upstream_conf(uc)->obj.name;
    s->cluster_stats = cluster_stats(p, uc);
    s->up.events = &session_events;
    s->up.datagram_most = p->conf->datagram_most;
    if (p->conf->original_source) s->up.source = *d->peer;
    count(p, UDP_SESS_TOTAL, 1);
    stat_inc(p->conf->stats, UDP_SESS_ACTIVE);
    (void)map_put(&p->sessions, str_make((const char *)&s->key, sizeof(s->key)), s);
    switch (upstream_udp_start(w, uc, &s->up, h)) {
    case UPSTREAM_UDP_OK: session_start_timers(s); return s;
    case UPSTREAM_UDP_OVERFLOW: s->flags |= (uint64_t)1 << RF_UO; break;
    case UPSTREAM_UDP_FAILED: s->flags |= (uint64_t)1 << RF_UF; break;
    }
    session_end(s);
    return NULL;
}

static struct udp_session *session_find(const struct udp_proxy *p, const struct udp_datagram *d,
                                        const struct host *h)
{
    struct udp_key key = key_of(d, h);
    return map_get(&p->sessions, str_make((const char *)&key, sizeof(key)));
}

/* Envoy: a session whose host became unhealthy goes to a healthy one, if there is one. */
static struct udp_session *session_healthy(struct udp_proxy *p, const struct udp_datagram *d,
                                           struct udp_session *s)
{
    if (upstream_host_usable(s->up.host)) return s;
    struct upstream_cluster *uc = s->uc;
    struct host *h = host_pick(p, uc, d);
    if (h && h != s->up.host) {
        upstream_pin(uc);
        session_end(s);
        s = session_new(p, d, uc, h);
        upstream_unpin(p->worker, &uc);
    }
    host_unref(&h);
    return s;
}

static struct udp_session *session_for(struct udp_proxy *p, const struct udp_datagram *d)
{
    if (!p->conf->per_packet) {
        struct udp_session *s = session_find(p, d, NULL);
        if (s) return session_healthy(p, d, s);
    }
    struct upstream_cluster *uc = route(p, d);
    struct host *h = uc ? host_pick(p, uc, d) : NULL;
    if (!h) return NULL;
    struct udp_session *s = p->conf->per_packet ? session_find(p, d, h) : NULL;
    if (!s) s = session_new(p, d, uc, h);
    host_unref(&h);
    return s;
}

static void udp_proxy_on_datagram(void *self, const struct udp_datagram *d)
{
    struct udp_proxy *p = self;
    struct udp_session *s = session_for(p, d);
    if (!s) return;
    s->active_us = loop_now_us(p->worker->loop);
    s->rx_bytes += d->bytes.len;
    s->rx_datagrams++;
    count(p, UDP_SESS_RX_BYTES, d->bytes.len);
    count(p, UDP_SESS_RX_DATAGRAMS, 1);
    bool sent = upstream_udp_send(&s->up, d->bytes);
    stat_inc(s->cluster_stats, sent ? UDP_CLUSTER_TX_DATAGRAMS : UDP_CLUSTER_TX_ERRORS);
}

/* --- the filter
 * --------------------------------------------------------------------------------------------- */

static void *udp_proxy_start(struct udp_listener *l, const void *conf)
{
    struct udp_proxy *p = mem_alloc(sizeof(*p));
    p->conf = conf;
    p->listener = l;
    p->worker = udp_listener_worker(l);
    for (const struct udp_target *t = p->conf->targets; t; t = t->next) {
        struct upstream_cluster *uc = upstream_find(p->worker, t->cluster, t->hash);
        if (uc) (void)cluster_stats(p, uc); /* Envoy: its statistics are there from the beginning */
    }
    return p;
}

static void udp_proxy_stop(void *self)
{
    struct udp_proxy *p = self;
    struct str key;
    void *value;
    for (size_t it = 0; map_next(&p->sessions, &it, &key, &value);)
        session_end(value);
    udp_proxy_log(p);
    map_release(&p->sessions);
    mem_free(p);
}

const struct udp_filter_type udp_proxy_filter = {
    .ext = {.name = "envoy.filters.udp_listener.udp_proxy",
            .config =
                &envoy__extensions__filters__udp__udp_proxy__v3__udp_proxy_config__descriptor},
    .conf_create = udp_conf_create,
    .start = udp_proxy_start,
    .on_datagram = udp_proxy_on_datagram,
    .stop = udp_proxy_stop,
};
