/* The UDP proxy's access logs: what sessions and the proxy tell as dynamic metadata, under Envoy's
 * names. */
#include "base/arena.h"
#include "filters/udp/udp_proxy.h"
#include "proxy/api/metadata.h"
#include "proxy/runtime/runtime.h"

struct number {
    const char *name;
    uint64_t value;
};

static void numbers_set(struct metadata **m, struct arena *a, struct str ns, const struct number *v,
                        size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct value x = {.kind = VALUE_NUMBER, .u.number = (double)v[i].value};
        metadata_set(m, a, ns, str_of(v[i].name), &x);
    }
}

void udp_session_log(struct udp_session *s, enum access_log_type type)
{
    const struct access_log_list *list = s->proxy->conf->access_log;
    if (!list || access_log_empty(list)) return;
    struct worker *w = s->proxy->worker;
    const struct str ns = STR("udp.proxy.session");
    const struct number facts[] = {
        {"bytes_received", s->rx_bytes},         {"bytes_sent", s->tx_bytes},
        {"datagrams_received", s->rx_datagrams}, {"datagrams_sent", s->tx_datagrams},
        {"errors_sent", s->tx_errors},
    };
    if (!s->uuid[0]) rng_uuid(&w->rng, s->uuid);
    struct metadata *m = NULL;
    struct value name = {.kind = VALUE_STRING, .u.text = s->cluster};
    metadata_set(&m, w->scratch, ns, STR("cluster_name"), &name);
    numbers_set(&m, w->scratch, ns, facts, sizeof(facts) / sizeof(facts[0]));
    struct conn_info conn = {.id = s->id,
                             .remote = s->peer,
                             .direct_remote = s->peer,
                             .local = s->local,
                             .direct_local = s->local,
                             .listener_name = udp_listener_name(s->proxy->listener),
                             .traffic_direction = udp_listener_direction(s->proxy->listener)};
    struct stream_info info = {.arena = w->scratch,
                               .worker = w,
                               .conn = &conn,
                               .start_us = s->start_us,
                               .start_wall_us = s->start_wall_us,
                               .end_us = loop_now_us(w->loop),
                               .remote = s->peer,
                               .request_id = str_of(s->uuid),
                               .flags = s->flags,
                               .random = rng_next(&w->rng),
                               .bytes_received = s->rx_bytes,
                               .bytes_sent = s->tx_bytes,
                               .dynamic = m};
    if (s->up.open) {
        info.up.host = info.up.remote = *host_address(s->up.host);
        info.up.host_name = host_name(s->up.host);
        info.up.host_metadata = host_metadata(s->up.host);
        info.up.local = s->up.local;
    }
    access_log_run(w, list, &info, type);
}

/* Envoy writes one line a worker, with the numbers of the process so far. */
void udp_proxy_log(struct udp_proxy *p)
{
    const struct access_log_list *list = p->conf->proxy_log;
    uint64_t sum[UDP_STAT_COUNT];
    for (size_t i = 0; i < UDP_STAT_COUNT; i++) {
        sum[i] = p->counts[i] + atomic_fetch_add_explicit(&p->conf->totals->v[i], p->counts[i],
                                                          memory_order_relaxed);
    }
    if (!list || access_log_empty(list)) return;
    const struct number facts[] = {
        {"bytes_received", sum[UDP_SESS_RX_BYTES]},
        {"bytes_sent", sum[UDP_SESS_TX_BYTES]},
        {"datagrams_received", sum[UDP_SESS_RX_DATAGRAMS]},
        {"datagrams_sent", sum[UDP_SESS_TX_DATAGRAMS]},
        {"errors_received", sum[UDP_SESS_RX_ERRORS]},
        {"errors_sent", sum[UDP_SESS_TX_ERRORS]},
        {"idle_timeout", sum[UDP_IDLE_TIMEOUT]},
        {"no_route", sum[UDP_SESS_NO_ROUTE]},
        {"session_total", sum[UDP_SESS_TOTAL]},
    };
    struct worker *w = p->worker;
    struct metadata *m = NULL;
    numbers_set(&m, w->scratch, STR("udp.proxy.proxy"), facts, sizeof(facts) / sizeof(facts[0]));
    struct conn_info conn = {.listener_name = udp_listener_name(p->listener)};
    struct stream_info info = {.arena = w->scratch,
                               .worker = w,
                               .conn = &conn,
                               .start_us = loop_now_us(w->loop),
                               .start_wall_us = loop_wall_us(w->loop),
                               .end_us = loop_now_us(w->loop),
                               .random = rng_next(&w->rng),
                               .dynamic = m};
    access_log_run(w, list, &info, ACCESS_LOG_TYPE_NONE);
}
