/* Raw upstream connections (tcp_proxy, tunnels of its own): host choice, breakers and statistics as
 * pools have them, no reuse. */
#include "base/must.h"
#include "proxy/api/transport_socket.h"
#include "proxy/net/conn.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/upstream_internal.h"

struct tcp_priv {
    struct conn *conn;
    struct choice *choice; /* its host is not known yet; NULL: it is */
    uint64_t begin_us;
    bool connected, counted;
};
_Static_assert(sizeof(struct tcp_priv) <= sizeof(((struct upstream_tcp *)NULL)->priv),
               "priv is too small");

static struct tcp_priv *tcp_priv(struct upstream_tcp *t)
{
    return (struct tcp_priv *)(void *)t->priv;
}

static void tcp_count(struct upstream_tcp *t, bool begin)
{
    struct stat_group *g = upstream_stats(t->uc);
    if (begin) {
        breaker_take(t->uc->conf, t->priority, BREAKER_RQ);
        atomic_fetch_add_explicit(&t->host->cells.rq_active, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&t->host->cells.rq_total, 1, memory_order_relaxed);
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_TOTAL);
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_ACTIVE);
    } else {
        breaker_give(t->uc->conf, t->priority, BREAKER_RQ);
        atomic_fetch_sub_explicit(&t->host->cells.rq_active, 1, memory_order_relaxed);
        stat_dec(g, CLUSTER_STAT_UPSTREAM_RQ_ACTIVE);
    }
}

static void tcp_pending(struct upstream_tcp *t, bool begin)
{
    struct stat_group *g = upstream_stats(t->uc);
    if (begin) {
        breaker_take(t->uc->conf, t->priority, BREAKER_PENDING);
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_PENDING_TOTAL);
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_PENDING_ACTIVE);
    } else {
        breaker_give(t->uc->conf, t->priority, BREAKER_PENDING);
        stat_dec(g, CLUSTER_STAT_UPSTREAM_RQ_PENDING_ACTIVE);
    }
}

/* The attempt is over: what it holds goes. */
static void tcp_release(struct upstream_tcp *t)
{
    struct worker *w = t->uc->worker;
    host_unref(&t->host);
    upstream_unpin(w, &t->uc);
}

static void tcp_fail(struct upstream_tcp *t, enum upstream_failure why, struct str detail)
{
    struct host *h = t->host;
    struct upstream_cluster *uc = t->uc;
    t->events->on_failure(t, why, detail);
    host_unref(&h);
    upstream_unpin(uc->worker, &uc);
}

static void tcp_on_connected(struct conn *c, void *owner)
{
    struct upstream_tcp *t = owner;
    struct tcp_priv *v = tcp_priv(t);
    v->connected = true;
    tcp_pending(t, false);
    tcp_count(t, true);
    t->ready_us = loop_now_us(t->uc->worker->loop);
    stat_record(upstream_stats(t->uc), CLUSTER_STAT_UPSTREAM_CX_CONNECT_MS,
                (t->ready_us - v->begin_us) / 1000);
    t->conn = c;
    t->events->on_ready(t);
}

static void tcp_on_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    (void)c, (void)owner, (void)in,
        (void)end; /* the bytes wait in the connection until its new owner reads */
}

static void tcp_on_watermark(struct conn *c, void *owner, bool above)
{
    (void)c, (void)owner, (void)above;
}

static void tcp_on_close(struct conn *c, void *owner, enum conn_end why)
{
    struct upstream_tcp *t = owner;
    struct tcp_priv *v = tcp_priv(t);
    struct stat_group *g = upstream_stats(t->uc);
    struct upstream_conn_end end = {t->priority, v->begin_us, false,
                                    why == CONN_END_LOCAL || why == CONN_END_CONNECT_TIMEOUT, 0};
    v->conn = NULL;
    upstream_connect_end(t->uc, t->host, &end);
    tcp_pending(t, false);
    if (why == CONN_END_LOCAL) return; /* upstream_tcp_cancel */
    if (why == CONN_END_CONNECT_TIMEOUT) stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_CONNECT_TIMEOUT);
    stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_PENDING_FAILURE_EJECT);
    tcp_fail(t, upstream_connect_failure(why), conn_failure(c));
}

static const struct conn_events tcp_events = {
    .on_connected = tcp_on_connected,
    .on_read = tcp_on_read,
    .on_watermark = tcp_on_watermark,
    .on_close = tcp_on_close,
};

static void tcp_chosen(void *arg, const struct lb_ask *ask, struct host *h)
{
    struct upstream_tcp *t = arg;
    struct upstream_cluster *uc = t->uc;
    struct stat_group *g = upstream_stats(uc);
    struct tcp_priv *v = tcp_priv(t);
    v->choice = NULL;
    t->host = h;
    if (!h) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_NONE_HEALTHY);
        tcp_fail(t, UPSTREAM_NO_HOST, STR_NONE);
        return;
    }
    host_ref(t->host);
    if (!breaker_room(uc->conf, t->priority, BREAKER_CX)) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_OVERFLOW);
        tcp_fail(t, UPSTREAM_OVERFLOW, STR_NONE);
        return;
    }
    if (!breaker_room(uc->conf, t->priority, BREAKER_PENDING) ||
        !breaker_room(uc->conf, t->priority, BREAKER_RQ)) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_RQ_PENDING_OVERFLOW);
        tcp_fail(t, UPSTREAM_OVERFLOW, STR_NONE);
        return;
    }
    v->begin_us = loop_now_us(uc->worker->loop);
    tcp_pending(t, true);
    struct transport_proxied proxied;
    struct transport_ask transport = {.host = t->host, .proxied = upstream_proxied(ask, &proxied)};
    transport.source = upstream_source(ask);
    struct upstream_names names = upstream_names_of(ask);
    upstream_names_ask(&names, uc->worker->scratch, &transport);
    v->conn = upstream_connect(uc, t->host, t->priority, &transport, &tcp_events, t);
}

void upstream_tcp_start(struct worker *w, struct upstream_cluster *uc, struct upstream_tcp *t,
                        const struct lb_ask *ask)
{
    const struct choice how = {.done = tcp_chosen, .arg = t};
    struct host *h;
    t->uc = uc;
    upstream_pin(uc);
    t->start_us = loop_now_us(w->loop);
    enum lb_answer answer = choice_start(uc, ask, &how, &h, &tcp_priv(t)->choice);
    if (answer != LB_LATER) tcp_chosen(t, ask, h);
}

void upstream_tcp_cancel(struct upstream_tcp *t)
{
    struct tcp_priv *v = tcp_priv(t);
    if (v->choice) {
        choice_cancel(&v->choice);
        tcp_release(t);
        return;
    }
    if (!t->uc || !v->conn || v->connected) return;
    stat_inc(upstream_stats(t->uc), CLUSTER_STAT_UPSTREAM_RQ_CANCELLED);
    conn_close(v->conn, CONN_CLOSE_NOW);
    tcp_release(t);
}

void upstream_tcp_end(struct upstream_tcp *t, bool local)
{
    struct tcp_priv *v = tcp_priv(t);
    if (!t->uc || !v->connected) return;
    struct upstream_conn_end end = {t->priority, v->begin_us, true, local, 1};
    upstream_connect_end(t->uc, t->host, &end);
    tcp_count(t, false);
    v->connected = false;
    v->conn = NULL;
    t->conn = NULL;
    tcp_release(t);
}
