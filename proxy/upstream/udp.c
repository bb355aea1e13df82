/* Datagrams to hosts: one connected socket a session, so that the kernel tells what comes back of
 * unreachable ports. Counted against the cluster's max_connections, as Envoy does. */
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include "base/must.h"
#include "proxy/net/conn.h"
#include "proxy/net/datagram.h"
#include "proxy/net/socket.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/upstream_internal.h"

enum { BATCHES_MOST = 4 };

static void pick_late(struct lb_later *l, enum lb_answer a, struct host *h)
{
    (void)l, (void)a, (void)h; /* cancelled before */
}

/* Envoy: a datagram does not wait for a host. */
struct host *upstream_udp_pick(struct upstream_cluster *uc, const struct lb_ask *ask)
{
    struct lb_later later = {.done = pick_late};
    struct host *h = NULL;
    enum lb_answer a = balance_choose(uc, ask, &later, &h);
    if (a == LB_HOST && h) return host_ref(h);
    if (a == LB_LATER && later.cancel) later.cancel(&later);
    stat_inc(upstream_stats(uc), CLUSTER_STAT_UPSTREAM_CX_NONE_HEALTHY);
    return NULL;
}

bool upstream_host_usable(const struct host *h)
{
    return (host_health_get(h) & HOST_UNHEALTHY_ANY) == 0;
}

static void udp_ready(struct loop_io *io, int ready)
{
    (void)ready;
    struct upstream_udp *u = CONTAINER_OF(io, struct upstream_udp, io);
    struct datagram_batch batch;
    for (int i = 0; i < BATCHES_MOST; i++) {
        int r = datagram_read(u->uc->worker, io->fd, u->datagram_most, &batch);
        if (r == -EAGAIN) return;
        if (r != 0) {
            u->events->on_error(u, -r);
            return; /* the owner may have ended it */
        }
        uint64_t bytes = 0;
        for (size_t k = 0; k < batch.count; k++)
            bytes += batch.v[k].cut ? 0 : batch.v[k].bytes.len;
        stat_add(upstream_stats(u->uc), CLUSTER_STAT_UPSTREAM_CX_RX_BYTES_TOTAL, bytes);
        u->events->on_datagrams(u, &batch);
        if (!batch.full || !u->open) return;
    }
}

/* From the client's address: the kernel lets that only with IP_TRANSPARENT. */
static int udp_bind_source(int fd, const struct addr *source)
{
    struct socket_options transparent = {.transparent = true};
    struct addr any_port = *source;
    addr_set_port(&any_port, 0);
    int r = socket_apply(fd, &transparent, SOCKET_PREBIND, NULL);
    if (r == 0 && bind(fd, &any_port.sa.any, any_port.len) != 0) r = -errno;
    return r;
}

static int udp_open(struct worker *w, const struct upstream_udp *u, const struct host *h)
{
    int fd = net_spare_fd(w, datagram_open(&h->addr));
    if (fd < 0) return fd;
    int r = datagram_want_facts(fd, &h->addr, false);
    if (r == 0 && u->source.len && addr_is_v4(&u->source) == addr_is_v4(&h->addr))
        r = udp_bind_source(fd, &u->source);
    if (r == 0 && connect(fd, &h->addr.sa.any, h->addr.len) != 0) r = -errno;
    if (r == 0) return fd;
    (void)close(fd);
    return r;
}

enum upstream_udp_result upstream_udp_start(struct worker *w, struct upstream_cluster *uc,
                                            struct upstream_udp *u, struct host *h)
{
    if (!breaker_room(uc->conf, UPSTREAM_DEFAULT, BREAKER_CX)) {
        stat_inc(upstream_stats(uc), CLUSTER_STAT_UPSTREAM_CX_OVERFLOW);
        return UPSTREAM_UDP_OVERFLOW;
    }
    int fd = udp_open(w, u, h);
    if (fd < 0) return UPSTREAM_UDP_FAILED;
    breaker_take(uc->conf, UPSTREAM_DEFAULT, BREAKER_CX);
    upstream_pin(uc);
    u->uc = uc;
    u->host = host_ref(h);
    u->open = true;
    (void)socket_local(fd, &u->local);
    list_push_back(&uc->udps, &u->link);
    loop_io_init(&u->io, w->loop, fd, udp_ready);
    loop_io_want(&u->io, LOOP_READ);
    return UPSTREAM_UDP_OK;
}

bool upstream_udp_send(struct upstream_udp *u, struct str datagram)
{
    if (datagram_send(u->io.fd, NULL, NULL, &datagram, 1) == 0) return false;
    stat_add(upstream_stats(u->uc), CLUSTER_STAT_UPSTREAM_CX_TX_BYTES_TOTAL, datagram.len);
    return true;
}

void upstream_udp_end(struct upstream_udp *u)
{
    if (!u->open) return;
    u->open = false;
    loop_io_want(&u->io, 0);
    (void)close(u->io.fd);
    list_remove(&u->link);
    breaker_give(u->uc->conf, UPSTREAM_DEFAULT, BREAKER_CX);
    host_unref(&u->host);
    struct worker *w = u->uc->worker;
    upstream_unpin(w, &u->uc);
}

static bool host_there(const struct host_set *set, const struct host *h)
{
    for (uint32_t i = 0; set && i < set->host_count; i++) {
        if (set->hosts[i] == h) return true;
    }
    return false;
}

/* What is told may end any of the others: from the front again each time would cost too much, so
 * they are taken off the list first. */
static void udps_gone(struct upstream_cluster *uc, bool all)
{
    struct list left;
    list_init(&left);
    LIST_FOREACH_SAFE (&uc->udps, it, next) {
        struct upstream_udp *u = CONTAINER_OF(it, struct upstream_udp, link);
        if (!all && host_there(uc->hosts, u->host)) continue;
        list_remove(it);
        list_push_back(&left, it);
    }
    while (!list_empty(&left)) {
        struct upstream_udp *u = CONTAINER_OF(list_first(&left), struct upstream_udp, link);
        list_remove(&u->link);
        u->events->on_gone(u);
    }
}

void udps_follow_hosts(struct upstream_cluster *uc)
{
    if (!list_empty(&uc->udps) && uc->conf->discovery != CLUSTER_ORIGINAL_DST) udps_gone(uc, false);
}

void udps_end_all(struct upstream_cluster *uc)
{
    udps_gone(uc, true);
}
