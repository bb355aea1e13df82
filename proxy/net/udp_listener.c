/* A worker's side of a UDP listener: datagrams from its sockets to the filter, and back. A new
 * version of the listener begins with a new filter; the old one's sessions end at once (Envoy ends
 * them so, too). */
#include <string.h>

#include "base/must.h"
#include "proxy/api/udp.h"
#include "proxy/net/datagram.h"
#include "proxy/net/listener_internal.h"

enum { BATCHES_MOST = 4 }; /* of one event: other sockets want their turn */

enum udp_listener_stat { UDP_LISTENER_DROPPED, UDP_LISTENER_STAT_COUNT };
static const struct stat_def udp_listener_stat_defs[UDP_LISTENER_STAT_COUNT] = {
    [UDP_LISTENER_DROPPED] = {"downstream_rx_datagram_dropped", STAT_COUNTER, 0},
};

struct udp_listener {
    struct worker_listener *listener;
    struct worker_base *base; /* a use */
    void *filter;
    struct stat_group *stats;
};

struct worker *udp_listener_worker(const struct udp_listener *l)
{
    return l->base->worker;
}

struct str udp_listener_name(const struct udp_listener *l)
{
    return l->base->conf->obj.name;
}

int udp_listener_direction(const struct udp_listener *l)
{
    return l->base->conf->traffic_direction;
}

uint64_t udp_listener_next_id(const struct udp_listener *l)
{
    return net_next_id(l->base->worker);
}

/* --- life
 * ----------------------------------------------------------------------------------------- */

static struct udp_listener *udp_new(struct worker_listener *l)
{
    struct worker *w = l->worker;
    struct worker_base *b = l->base;
    struct udp_listener *u = mem_alloc(sizeof(*u));
    u->listener = l;
    u->base = b;
    b->users++;
    struct str prefix = str_fmt(w->scratch, "%.*sudp.", STR_ARG(b->conf->stat_prefix));
    u->stats =
        stat_group_get(w->rt->stats, prefix, udp_listener_stat_defs, UDP_LISTENER_STAT_COUNT);
    if (b->conf->udp->type) u->filter = b->conf->udp->type->start(u, b->conf->udp->conf);
    return u;
}

static void udp_free(struct udp_listener *u)
{
    if (u->filter) u->base->conf->udp->type->stop(u->filter);
    stat_group_unref(&u->stats);
    worker_base_drop(&u->base);
    mem_free(u);
}

void udp_replace(struct worker_listener *l)
{
    struct udp_listener *old = l->udp;
    l->udp = l->base->conf->udp ? udp_new(l) : NULL;
    if (old) udp_free(old);
}

void udp_end(struct worker_listener *l)
{
    if (l->udp) udp_free(l->udp);
    l->udp = NULL;
}

/* --- datagrams
 * ------------------------------------------------------------------------------------ */

/* What the kernel had no room for since the last look. */
static void count_lost(struct accept_socket *s, const struct datagram_batch *b)
{
    if (!b->has_lost || b->lost == s->lost) return;
    stat_add(s->listener->udp->stats, UDP_LISTENER_DROPPED, b->lost - s->lost);
    s->lost = b->lost;
}

static void batch_deliver(struct accept_socket *s, struct datagram_batch *b)
{
    const struct addr *bound = &s->bound->addr;
    for (size_t i = 0; i < b->count; i++) {
        struct udp_listener *u = s->listener->udp;
        struct datagram *d = &b->v[i];
        if (d->cut) {
            stat_inc(u->stats, UDP_LISTENER_DROPPED);
            continue;
        }
        if (!u->filter) continue;
        if (d->to.len) addr_set_port(&d->to, addr_port(bound));
        addr_unmap(&d->from);
        addr_unmap(&d->to);
        struct udp_datagram told = {
            .peer = &d->from, .local = d->to.len ? &d->to : bound, .bytes = d->bytes};
        u->base->conf->udp->type->on_datagram(u->filter, &told);
    }
}

void udp_ready(struct loop_io *io, int ready)
{
    (void)ready;
    struct accept_socket *s = CONTAINER_OF(io, struct accept_socket, io);
    struct worker_listener *l = s->listener;
    struct datagram_batch batch;
    for (int i = 0; i < BATCHES_MOST && l->udp; i++) {
        int r = datagram_read(l->worker, s->io.fd, l->base->conf->udp->datagram_most, &batch);
        if (r != 0) return;
        count_lost(s, &batch);
        batch_deliver(s, &batch);
        if (!batch.full) return;
    }
}

/* The socket that `from` belongs to; NULL: closed meanwhile. */
static const struct accept_socket *socket_of(const struct worker_listener *l,
                                             const struct addr *from)
{
    for (size_t i = 0; i < l->socket_count; i++) {
        const struct addr *bound = &l->sockets[i]->bound->addr;
        if (addr_eq(bound, from)) return l->sockets[i];
        if (addr_is_any(bound) && addr_port(bound) == addr_port(from)) return l->sockets[i];
    }
    return NULL;
}

/* A dual-stack socket wants IPv4 addresses in their mapped form. */
static struct addr as_mapped(const struct addr *x)
{
    struct addr out = {.len = sizeof(out.sa.v6)};
    out.sa.v6.sin6_family = AF_INET6;
    out.sa.v6.sin6_port = x->sa.v4.sin_port;
    uint8_t *to = out.sa.v6.sin6_addr.s6_addr;
    to[10] = to[11] = 0xff;
    memcpy(to + 12, &x->sa.v4.sin_addr, sizeof(x->sa.v4.sin_addr));
    return out;
}

size_t udp_listener_send(struct udp_listener *l, const struct addr *to, const struct addr *from,
                         const struct str *v, size_t count)
{
    const struct accept_socket *s = socket_of(l->listener, from);
    if (!s) return 0;
    const struct addr *bound = &s->bound->addr;
    bool any = addr_is_any(bound);
    if (addr_is_v4(to) == addr_is_v4(bound))
        return datagram_send(s->io.fd, to, any ? from : NULL, v, count);
    struct addr mapped_to = as_mapped(to), mapped_from = as_mapped(from);
    return datagram_send(s->io.fd, &mapped_to, any ? &mapped_from : NULL, v, count);
}
