/* One upstream connection: its options, and what is counted when it begins and when it ends. */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/lb_policy.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/transport_socket.h"
#include "proxy/net/conn.h"
#include "proxy/net/socket.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/upstream_internal.h"

/* Envoy: the first match whose fields are all in the endpoint's metadata
 * ("envoy.transport_socket_match"), then the first in its locality's. */
static bool match_in(const struct value *want, const struct metadata *m)
{
    if (!want || want->u.fields.count == 0) return true;
    for (size_t i = 0; i < want->u.fields.count; i++) {
        const struct value_field *f = &want->u.fields.fields[i];
        const struct value *have =
            m ? metadata_find(m, STR("envoy.transport_socket_match"), &f->name, 1) : NULL;
        if (!have || !value_equal(have, &f->value)) return false;
    }
    return true;
}

const struct transport_match *upstream_socket_match(const struct cluster *c,
                                                    const struct metadata *endpoint,
                                                    const struct metadata *locality)
{
    const struct metadata *const from[] = {endpoint, locality};
    for (size_t k = 0; k < (locality ? 2 : 1); k++) {
        for (size_t i = 0; i < c->socket_match_count; i++) {
            if (match_in(c->socket_matches[i].match, from[k])) return &c->socket_matches[i];
        }
    }
    return NULL;
}

const struct transport_socket *upstream_socket(const struct upstream_cluster *uc,
                                               const struct host *h)
{
    const struct transport_match *m =
        upstream_socket_match(uc->conf, h->metadata, h->locality_metadata);
    return m ? m->socket : uc->conf->socket;
}

const struct transport_proxied *upstream_proxied(const struct lb_ask *ask,
                                                 struct transport_proxied *out)
{
    const struct conn_info *c = ask->downstream;
    if (!c && ask->stream) c = ask->stream->conn;
    if (!c) return NULL;
    *out = (struct transport_proxied){c->remote, c->local, c->proxy_tlvs};
    return out;
}

const struct original_src *upstream_source(const struct lb_ask *ask)
{
    const struct conn_info *c = ask->downstream;
    if (ask->stream && ask->stream->original_src) return ask->stream->original_src;
    if (!c && ask->stream) c = ask->stream->conn;
    return c ? c->original_src : NULL;
}

static struct str state_text(const struct lb_ask *ask, struct str name)
{
    const struct filter_state_entry *e =
        ask->stream ? filter_state_find(ask->stream->state, name) : NULL;
    if (!e && ask->downstream) e = filter_state_find(ask->downstream->state, name);
    return e && e->text ? e->text(e->object, ask->worker->scratch) : STR_NONE;
}

struct upstream_names upstream_names_of(const struct lb_ask *ask)
{
    bool stream = ask->stream && ask->stream->state;
    bool conn = ask->downstream && ask->downstream->state;
    if (!stream && !conn) return (struct upstream_names){0};
    return (struct upstream_names){
        .sni = state_text(ask, STR("envoy.network.upstream_server_name")),
        .sans = state_text(ask, STR("envoy.network.upstream_subject_alt_names")),
        .alpn = state_text(ask, STR("envoy.network.application_protocols")),
    };
}

static const struct str *split(struct str list, struct arena *a, size_t *count)
{
    size_t most = 1;
    for (size_t i = 0; i < list.len; i++)
        most += list.ptr[i] == ',';
    struct str *v = ARENA_ARRAY(a, struct str, most), rest = list;
    *count = 0;
    while (rest.len) {
        size_t at = str_find_char(rest, ',');
        v[(*count)++] = str_sub(rest, 0, at);
        rest = at == SIZE_MAX ? STR_NONE : str_sub(rest, at + 1, SIZE_MAX);
    }
    return v;
}

void upstream_names_ask(const struct upstream_names *n, struct arena *a, struct transport_ask *ask)
{
    if (n->sni.len) ask->sni = n->sni;
    if (n->sans.len) ask->verify_sans = split(n->sans, a, &ask->verify_san_count);
    if (n->alpn.len) ask->alpn = split(n->alpn, a, &ask->alpn_count);
}

struct conn *upstream_connect(struct upstream_cluster *uc, struct host *h, enum upstream_priority p,
                              const struct transport_ask *ask, const struct conn_events *events,
                              void *owner)
{
    const struct cluster *c = uc->conf;
    struct stat_group *g = c->shared->stats;
    breaker_take(c, p, BREAKER_CX);
    atomic_fetch_add_explicit(&h->cells.cx_active, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->cells.cx_total, 1, memory_order_relaxed);
    stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_TOTAL);
    stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_ACTIVE);
    struct conn_limits limits = {.buffer_limit = c->buffer_limit};
    const struct addr *bind =
        c->bind && addr_is_ip(&h->addr) && addr_is_v4(c->bind) == addr_is_v4(&h->addr) ? c->bind
                                                                                       : NULL;
    struct socket_options options, *from = NULL;
    if (ask->source) { /* goes before the cluster's, as in Envoy */
        options = c->socket_options ? *c->socket_options : (struct socket_options){0};
        options.transparent = true;
        if (ask->source->mark) options.mark = (int)ask->source->mark;
        bind = &ask->source->from;
        from = &options;
    }
    struct conn *conn =
        conn_connect(uc->worker, &h->addr, bind, from ? from : c->socket_options,
                     upstream_socket(uc, h), ask, c->connect_timeout_us, &limits, events, owner);
    conn_set_byte_stats(conn, &uc->bytes);
    return conn;
}

void upstream_connect_end(struct upstream_cluster *uc, struct host *h,
                          const struct upstream_conn_end *end)
{
    const struct cluster *c = uc->conf;
    struct stat_group *g = c->shared->stats;
    breaker_give(c, end->priority, BREAKER_CX);
    atomic_fetch_sub_explicit(&h->cells.cx_active, 1, memory_order_relaxed);
    stat_dec(g, CLUSTER_STAT_UPSTREAM_CX_ACTIVE);
    stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_DESTROY);
    stat_inc(g, end->local ? CLUSTER_STAT_UPSTREAM_CX_DESTROY_LOCAL
                           : CLUSTER_STAT_UPSTREAM_CX_DESTROY_REMOTE);
    if (end->active > 0) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_DESTROY_WITH_ACTIVE_RQ);
        stat_inc(g, end->local ? CLUSTER_STAT_UPSTREAM_CX_DESTROY_LOCAL_WITH_ACTIVE_RQ
                               : CLUSTER_STAT_UPSTREAM_CX_DESTROY_REMOTE_WITH_ACTIVE_RQ);
    }
    if (!end->connected) {
        stat_inc(g, CLUSTER_STAT_UPSTREAM_CX_CONNECT_FAIL);
        atomic_fetch_add_explicit(&h->cells.cx_connect_fail, 1, memory_order_relaxed);
    }
    stat_record(g, CLUSTER_STAT_UPSTREAM_CX_LENGTH_MS,
                (loop_now_us(uc->worker->loop) - end->begin_us) / 1000);
}

enum upstream_failure upstream_connect_failure(int conn_end)
{
    switch ((enum conn_end)conn_end) {
    case CONN_END_CONNECT_TIMEOUT: return UPSTREAM_CONNECT_TIMEOUT;
    case CONN_END_LOCAL: return UPSTREAM_LOCAL_FAILURE;
    case CONN_END_REMOTE:
    case CONN_END_RESET:
    case CONN_END_CONNECT_FAILED:
    case CONN_END_TRANSPORT: return UPSTREAM_CONNECT_FAILED;
    }
    return UPSTREAM_CONNECT_FAILED;
}
