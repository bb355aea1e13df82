/* ORIGINAL_DST clusters: the host of a connection or request is the address that the client meant
 * (before an iptables REDIRECT, or what a PROXY header, a header, metadata or filter state says).
 * Each worker makes its hosts when they are asked for and forgets those that nobody has used for
 * one to two cleanup intervals. */
#include "base/map.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/upstream_internal.h"

enum { HOSTS_MOST = 65536 }; /* of a worker and cluster: with use_http_header the peer chooses */

struct od_host {
    struct host *host; /* a reference; its text is the map's key */
    bool used;
};
struct original_dst {
    struct upstream_cluster *uc;
    struct map hosts; /* "1.2.3.4:80" -> struct od_host */
    struct loop_timer timer;
};

static void od_forget(struct original_dst *od, struct od_host *x)
{
    (void)map_remove(&od->hosts, x->host->text);
    host_unref(&x->host);
    mem_free(x);
}

static bool od_busy(const struct host *h)
{
    return atomic_load_explicit(&h->cells.cx_active, memory_order_relaxed) ||
           atomic_load_explicit(&h->cells.rq_active, memory_order_relaxed);
}

static void od_cleanup(struct loop_timer *t)
{
    struct original_dst *od = CONTAINER_OF(t, struct original_dst, timer);
    struct str key;
    void *value;
    for (size_t it = 0; map_next(&od->hosts, &it, &key, &value);) {
        struct od_host *x = value;
        if (x->used || od_busy(x->host))
            x->used = false;
        else
            od_forget(od, x);
    }
    if (od->hosts.count)
        loop_timer_start(od->uc->worker->loop, t, od->uc->conf->original_dst->cleanup_us,
                         od_cleanup);
}

void original_dst_release(struct upstream_cluster *uc)
{
    struct original_dst *od = uc->original_dst;
    uc->original_dst = NULL;
    if (!od) return;
    loop_timer_stop(&od->timer);
    struct str key;
    void *value;
    for (size_t it = 0; map_next(&od->hosts, &it, &key, &value);)
        od_forget(od, value);
    map_release(&od->hosts);
    mem_free(od);
}

/* --- which address
 * -------------------------------------------------------------------------------------------------------------
 */

static bool od_from_state(const struct lb_ask *ask, struct addr *out)
{
    const struct str key = STR("envoy.network.transport_socket.original_dst_address");
    const struct filter_state_entry *e =
        ask->stream ? filter_state_find(ask->stream->state, key) : NULL;
    if (!e && ask->downstream) e = filter_state_find(ask->downstream->state, key);
    return e && e->text && addr_parse(e->text(e->object, ask->worker->scratch), out) &&
           addr_is_ip(out);
}

static bool od_parse(struct upstream_cluster *uc, struct str text, struct addr *out)
{
    if (addr_parse(text, out) && addr_is_ip(out)) return true;
    stat_inc(upstream_stats(uc), CLUSTER_STAT_ORIGINAL_DST_HOST_INVALID);
    return false;
}

static bool od_from_header(struct upstream_cluster *uc, const struct lb_ask *ask, struct addr *out)
{
    const struct original_dst_conf *c = uc->conf->original_dst;
    if (!c->header.len || !ask->headers) return false;
    struct str text = headers_find(ask->headers, c->header);
    return text.len && od_parse(uc, text, out);
}

static bool od_from_metadata(struct upstream_cluster *uc, const struct lb_ask *ask,
                             struct addr *out)
{
    const struct original_dst_conf *c = uc->conf->original_dst;
    if (!c->metadata_count) return false;
    const struct metadata *m = ask->stream ? ask->stream->dynamic : NULL;
    const struct value *v =
        m ? metadata_find(m, c->metadata_ns, c->metadata_path, c->metadata_count) : NULL;
    if (!v && ask->downstream && ask->downstream->metadata) {
        v = metadata_find(ask->downstream->metadata, c->metadata_ns, c->metadata_path,
                          c->metadata_count);
    }
    return v && v->kind == VALUE_STRING && od_parse(uc, v->u.text, out);
}

/* Envoy: only a local address that something restored is a destination; the listener's own would be
 * a loop. */
static bool od_from_connection(struct upstream_cluster *uc, const struct lb_ask *ask,
                               struct addr *out)
{
    const struct conn_info *i = ask->downstream;
    if (!i || !addr_is_ip(&i->local) || addr_eq(&i->local, &i->direct_local)) return false;
    *out = i->local;
    if (uc->conf->original_dst->has_port) addr_set_port(out, uc->conf->original_dst->port);
    return true;
}

/* --- hosts
 * ---------------------------------------------------------------------------------------------------------------------
 */

static struct host *od_host(struct upstream_cluster *uc, const struct addr *to)
{
    struct original_dst *od = uc->original_dst;
    char text[ADDR_TEXT_MAX];
    struct str key = str_make(text, addr_format(to, text));
    struct od_host *x = map_get(&od->hosts, key);
    if (!x) {
        if (od->hosts.count >= HOSTS_MOST) return NULL;
        struct str name = str_fmt(uc->worker->scratch, "%.*s%.*s", STR_ARG(uc->name), STR_ARG(key));
        struct endpoint e = {.hostname = name, .weight = 1};
        struct host_locality nowhere = {0};
        x = mem_alloc(sizeof(*x));
        x->host = host_new(&e, to, &nowhere, 0, 0);
        (void)map_put(&od->hosts, x->host->text, x);
        if (!loop_timer_running(&od->timer)) {
            loop_timer_start(uc->worker->loop, &od->timer, uc->conf->original_dst->cleanup_us,
                             od_cleanup);
        }
    }
    x->used = true;
    return x->host;
}

struct host *original_dst_pick(struct upstream_cluster *uc, const struct lb_ask *ask)
{
    struct addr to;
    bool found = od_from_state(ask, &to) || od_from_header(uc, ask, &to) ||
                 od_from_metadata(uc, ask, &to) || od_from_connection(uc, ask, &to);
    if (!found) return NULL;
    if (!uc->original_dst) {
        uc->original_dst = mem_alloc(sizeof(*uc->original_dst));
        uc->original_dst->uc = uc;
    }
    return od_host(uc, &to);
}
