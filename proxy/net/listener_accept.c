/* From a readable listening socket to a connection with a filter chain: limits, listener filters
 * that peek at the first bytes, the choice of the chain. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "proxy/api/extension_slot.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/network_filter.h"
#include "proxy/net/listener_internal.h"
#include "proxy/runtime/values.h"

enum {
    PAUSE_US = 100 * 1000, /* out of descriptors: how long accepting rests */
    ACCEPT_MOST = 256,     /* of one event: other sockets want their turn */
    PEEK_FIRST = 2048,
    PEEK_MOST = 65536
};

/* A connection in its listener filters. */
struct accept_step {
    struct loop_io io;
    struct loop_timer timer;
    struct loop_later later; /* frees it */
    struct list link;        /* worker_listener.accepting */
    struct worker_listener *listener;
    struct worker_base *base;
    struct accepting a;
    const struct listener_filter_conf *filters; /* the base's, or (discovered) our own */
    struct pin **pins;                          /* with our own filters */
    size_t at;                                  /* the filter that is asked */
    size_t wanted;                              /* bytes that the peek must exceed */
    void **selves;
    bool low_water; /* SO_RCVLOWAT was raised */
    char *peek;
    size_t peek_size;
    bool done;
    bool handed; /* by the listener that accepted it: it is handed on no further */
};

/* --- choosing the chain
 * ---------------------------------------------------------------------------------- */

static struct worker_listener *listener_at(struct worker *w, const struct addr *to, bool any_ip)
{
    size_t it = 0;
    struct str name;
    void *value;
    while (map_next(&net_worker(w)->listeners, &it, &name, &value)) {
        struct worker_listener *l = value;
        if (l->udp) continue;
        for (size_t i = 0; i < l->base->conf->address_count; i++) {
            const struct addr *a = &l->base->conf->addresses[i].addr;
            if (addr_eq(a, to)) return l;
            if (any_ip && addr_is_ip(a) && addr_is_any(a) && addr_port(a) == addr_port(to) &&
                addr_is_v4(a) == addr_is_v4(to))
                return l;
        }
    }
    return NULL;
}

/* use_original_dst: the listener of the original destination takes over; without one this listener
 * serves it itself. */
static struct worker_listener *hand_over(struct worker_listener *l, const struct conn_info *info)
{
    if (!l->base->conf->use_original_dst || addr_eq(&info->local, &info->direct_local) ||
        !addr_is_ip(&info->local))
        return l;
    struct worker_listener *to = listener_at(l->worker, &info->local, false);
    if (!to) to = listener_at(l->worker, &info->local, true);
    return to ? to : l;
}

static void refuse(struct worker_base *b, int fd, struct conn_info *info, struct arena *arena)
{
    stat_inc(b->stats, LISTENER_NO_CHAIN);
    struct stream_info end = {.flags = (uint64_t)1 << RF_NR,
                              .code_details = STR("filter_chain_not_found")};
    listener_log(b, info, &end);
    (void)close(fd);
    mem_free(info);
    arena_free(&arena);
}

static size_t choose_chain(const struct worker_listener *l, const struct net_facts *f,
                           const struct conn_info *info)
{
    if (!l->conf->matcher) return filter_chain_find(l->conf, f);
    struct match_ask ask = {.worker = l->worker,
                            .scratch = l->worker->scratch,
                            .conn = info,
                            .transport_protocol = f->transport_protocol,
                            .alpn = f->alpn,
                            .alpn_count = f->alpn_count};
    return filter_chain_find_by_tree(l->conf, &ask);
}

/* What the listener filters found out chooses the chain. */
static void start_chain(struct worker_listener *l, int fd, struct conn_info *info,
                        const struct accepting *a)
{
    struct net_facts facts = {
        .local = &info->local,
        .remote = &info->remote,
        .direct_remote = &info->direct_remote,
        .sni = info->sni,
        .transport_protocol =
            a && a->transport_protocol.len ? a->transport_protocol : STR("raw_buffer"),
        .alpn = a ? a->alpn : NULL,
        .alpn_count = a ? a->alpn_count : 0,
    };
    struct arena *arena = a ? a->arena : NULL;
    info->listener_name = l->base->conf->obj.name;
    info->traffic_direction = l->base->conf->traffic_direction;
    size_t i = choose_chain(l, &facts, info);
    if (i == SIZE_MAX) {
        refuse(l->base, fd, info, arena);
        return;
    }
    network_chain_start(l->base, l->chains[i], fd, info, arena);
}

/* --- listener filters
 * -------------------------------------------------------------------------------------- */

static bool predicate_fits(const struct listener_predicate *p, const struct conn_info *info)
{
    bool any = false;
    switch (p->kind) {
    case PREDICATE_OR:
        for (size_t i = 0; i < p->count && !any; i++)
            any = predicate_fits(&p->v[i], info);
        return any;
    case PREDICATE_AND:
        for (size_t i = 0; i < p->count; i++) {
            if (!predicate_fits(&p->v[i], info)) return false;
        }
        return true;
    case PREDICATE_NOT: return !predicate_fits(p->v, info);
    case PREDICATE_ANY: return true;
    case PREDICATE_PORT_RANGE:
        return addr_is_ip(&info->local) && addr_port(&info->local) >= p->from &&
               addr_port(&info->local) < p->to;
    }
    return false;
}

static void step_free(struct loop_later *later)
{
    struct accept_step *s = CONTAINER_OF(later, struct accept_step, later);
    worker_base_drop(&s->base);
    mem_free(s);
}

/* Leaves the descriptor, info and arena to the caller. */
static void step_end(struct accept_step *s)
{
    s->done = true;
    loop_timer_stop(&s->timer);
    loop_io_want(&s->io, 0);
    list_remove(&s->link);
    stat_dec(s->base->stats, LISTENER_PRE_CX_ACTIVE);
    balance_drop(s->base);
    for (size_t i = 0; i < s->base->conf->filter_count; i++) {
        const struct listener_filter_type *t = s->filters[i].type;
        if (s->selves[i] && t->destroy) t->destroy(s->selves[i]);
        mem_free(s->selves[i]);
        if (s->pins) pin_drop(s->a.worker, &s->pins[i]);
    }
    if (s->pins) mem_free((void *)(uintptr_t)s->filters);
    mem_free(s->pins);
    s->pins = NULL;
    mem_free(s->selves);
    mem_free(s->peek);
    s->selves = NULL;
    s->peek = NULL;
    loop_later(s->base->worker->loop, &s->later, step_free);
}

/* Envoy: the listener's log tells of connections that its filters refuse, too. */
static void step_close(struct accept_step *s, struct str details)
{
    struct stream_info end = {.code_details = STR_NONE};
    step_end(s);
    s->a.info->termination_details = details;
    listener_log(s->base, s->a.info, &end);
    (void)close(s->a.fd);
    mem_free(s->a.info);
    arena_free(&s->a.arena);
}

static void step_low_water(struct accept_step *s, size_t bytes)
{
    int value = bytes > INT_MAX ? INT_MAX : (int)bytes;
    (void)setsockopt(s->a.fd, SOL_SOCKET, SO_RCVLOWAT, &value,
                     sizeof(value)); /* only wakes us more often if it fails */
    s->low_water = value > 1;
}

/* A PROXY header's bytes are not the connection's. False: gone. */
static bool step_consume(struct accept_step *s)
{
    char drop[4096];
    while (s->a.consume) {
        size_t most = s->a.consume < sizeof(drop) ? s->a.consume : sizeof(drop);
        ssize_t n = recv(s->a.fd, drop, most, 0);
        if (n <= 0) return false;
        s->a.consume -= (size_t)n;
    }
    return true;
}

static void step_start(struct worker_listener *l, int fd, struct conn_info *info,
                       const struct accepting *before);

static void step_pass(struct accept_step *s)
{
    struct worker_listener *l = s->listener;
    struct worker_listener *to = s->handed ? l : hand_over(l, s->a.info);
    if (s->low_water) step_low_water(s, 1);
    step_end(s);
    if (to != l && to->base->conf->filter_count)
        step_start(to, s->a.fd, s->a.info, &s->a);
    else
        start_chain(to, s->a.fd, s->a.info, &s->a);
}

/* What is there now, without taking it. >= 0 bytes; negative: nothing yet. *end: the peer left. */
static ssize_t step_peek(struct accept_step *s, size_t most, bool *end)
{
    if (most > PEEK_MOST) most = PEEK_MOST;
    ssize_t n;
    for (size_t size = s->peek_size ? s->peek_size : PEEK_FIRST;; size *= 2) {
        if (size > most) size = most;
        if (s->peek_size < size) {
            s->peek = mem_realloc(s->peek, size);
            s->peek_size = size;
        }
        n = recv(s->a.fd, s->peek, size, MSG_PEEK);
        if (n < (ssize_t)size || size == most) break;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return -1;
    *end = n <= 0;
    return n < 0 ? 0 : n;
}

/* Bytes before what an earlier filter consumes are not shown to the next one: it would see a PROXY
 * header as data. */
static enum accept_flow step_show(struct accept_step *s, const struct listener_filter_conf *f)
{
    if (s->a.consume && !step_consume(s)) return ACCEPT_CLOSE;
    bool end = false;
    ssize_t n = step_peek(s, f->type->max_peek, &end);
    if (n < 0) {
        s->wanted = 1;
        return ACCEPT_WAIT;
    }
    /* A peer that sent something and left: no more will come. */
    if (!end && s->wanted && (size_t)n < s->wanted && n > 0) end = true;
    enum accept_flow flow =
        f->type->on_data(s->selves[s->at], f->conf, &s->a, str_make(s->peek, (size_t)n), end);
    if (flow == ACCEPT_WAIT && end) {
        stat_inc(s->base->stats, LISTENER_FILTER_REMOTE_CLOSE);
        return ACCEPT_CLOSE;
    }
    s->wanted = (size_t)n + 1;
    return flow;
}

static enum accept_flow step_filter(struct accept_step *s)
{
    const struct listener_filter_conf *f = &s->filters[s->at];
    if (f->disabled && predicate_fits(f->disabled, s->a.info)) return ACCEPT_CONTINUE;
    if (!s->selves[s->at]) {
        s->selves[s->at] = mem_alloc(f->type->instance_size ? f->type->instance_size : 1);
        s->wanted = 0;
        if (f->type->on_accept) {
            enum accept_flow flow = f->type->on_accept(s->selves[s->at], f->conf, &s->a);
            if (flow != ACCEPT_WAIT) return flow;
        }
    }
    if (f->type->max_peek == 0 || !f->type->on_data) return ACCEPT_CONTINUE;
    return step_show(s, f);
}

static void step_run(struct accept_step *s)
{
    while (s->at < s->base->conf->filter_count) {
        switch (step_filter(s)) {
        case ACCEPT_CONTINUE: s->at++; break;
        case ACCEPT_WAIT:
            step_low_water(s, s->wanted ? s->wanted : 1);
            loop_io_want(&s->io, LOOP_READ);
            return;
        case ACCEPT_CLOSE:
            stat_inc(s->base->stats, LISTENER_FILTER_ERROR);
            step_close(s, STR("listener_filter_close"));
            return;
        case ACCEPT_DROP: step_close(s, STR_NONE); return;
        }
    }
    if (s->a.consume && !step_consume(s))
        step_close(s, STR_NONE);
    else
        step_pass(s);
}

static void step_on_ready(struct loop_io *io, int ready)
{
    (void)ready;
    struct accept_step *s = CONTAINER_OF(io, struct accept_step, io);
    if (!s->done) step_run(s);
}

static void step_on_timeout(struct loop_timer *t)
{
    struct accept_step *s = CONTAINER_OF(t, struct accept_step, timer);
    stat_inc(s->base->stats, LISTENER_PRE_CX_TIMEOUT);
    if (s->base->conf->continue_on_timeout)
        step_pass(s);
    else
        step_close(s, STR("listener_filter_timeout"));
}

void accepting_restore_destination(struct accepting *a)
{
    struct addr to;
    if (!socket_original_dst(a->fd, &a->info->local, &to)) return;
    addr_unmap(&to);
    a->info->local = to;
}

/* The filters as they are now: discovered ones are looked up and pinned. False: one is missing. */
static bool step_filters(struct accept_step *s)
{
    const struct listener_base *b = s->base->conf;
    s->filters = b->filters;
    if (!b->has_slots) return true;
    struct listener_filter_conf *own = mem_array(b->filter_count, sizeof(*own));
    bool all = true;
    s->filters = own;
    s->pins = mem_array(b->filter_count, sizeof(struct pin *));
    memcpy(own, b->filters, b->filter_count * sizeof(*own));
    for (size_t i = 0; i < b->filter_count; i++) {
        const struct extension_slot *slot = own[i].slot;
        if (!slot) continue;
        struct pin *p = worker_find(s->a.worker, TABLE_EXTENSIONS, slot->key, slot->hash);
        all &= p != NULL;
        if (!p) continue;
        s->pins[i] = pin_hold(p);
        const struct extension_conf *found = (const struct extension_conf *)(const void *)p->obj;
        own[i].type = (const struct listener_filter_type *)found->type;
        own[i].conf = found->conf;
    }
    return all;
}

/* `before`: what the filters of the listener that hands it over found; NULL: just accepted. */
static void step_start(struct worker_listener *l, int fd, struct conn_info *info,
                       const struct accepting *before)
{
    struct accept_step *s = mem_alloc(sizeof(*s));
    s->listener = l;
    s->base = l->base;
    s->base->users++;
    s->handed = before != NULL;
    s->a = before ? *before
                  : (struct accepting){.worker = l->worker,
                                       .fd = fd,
                                       .info = info,
                                       .arena = arena_new("connection", 1024)};
    s->selves = mem_array(l->base->conf->filter_count, sizeof(void *));
    list_push_back(&l->accepting, &s->link);
    loop_io_init(&s->io, l->worker->loop, fd, step_on_ready);
    stat_inc(l->base->stats, LISTENER_PRE_CX_ACTIVE);
    balance_add(l->base);
    info->listener_name = l->base->conf->obj.name;
    if (!step_filters(s)) {
        stat_inc(l->base->stats, LISTENER_EXTENSION_MISSING);
        step_close(s, STR_NONE);
        return;
    }
    if (l->base->conf->filters_timeout_us)
        loop_timer_start(l->worker->loop, &s->timer, l->base->conf->filters_timeout_us,
                         step_on_timeout);
    step_run(s);
}

void accept_steps_end(struct worker_listener *l)
{
    LIST_FOREACH_SAFE (&l->accepting, it, next) {
        step_close(CONTAINER_OF(it, struct accept_step, link), STR("listener_removed"));
    }
}

/* --- accepting
 * ------------------------------------------------------------------------------------------------
 */

/* Envoy: runtime keys envoy.resource_limits.listener.<name>.connection_limit and
 * overload.global_downstream_max_connections; the overload manager's monitor counts instead of the
 * latter. */
static bool over_global_limit(const struct worker_base *b)
{
    struct worker *w = b->worker;
    uint64_t most = b->conf->bypass_overload ? 0 : w->rt->connections_most;
    if (!most) most = runtime_u64(w, STR("overload.global_downstream_max_connections"), UINT64_MAX);
    if (most == UINT64_MAX) return false;
    uint64_t open = 0;
    for (unsigned i = 0; i < w->rt->concurrency; i++) {
        const struct net_worker *n = w->rt->workers[i]->slot[WORKER_NET];
        if (n) open += atomic_load_explicit(&n->open, memory_order_relaxed);
    }
    return open >= most;
}

static bool over_limit(struct worker_base *b)
{
    uint64_t most = runtime_u64(b->worker, b->conf->limit_key, UINT64_MAX);
    if (most != UINT64_MAX && atomic_load_explicit(&b->conf->open, memory_order_relaxed) >= most) {
        stat_inc(b->stats, LISTENER_CX_OVERFLOW);
        return true;
    }
    if (b->conf->ignore_global_limit || !over_global_limit(b)) return false;
    stat_inc(b->stats, LISTENER_GLOBAL_CX_OVERFLOW);
    return true;
}

static struct conn_info *info_for(struct worker_listener *l, const struct addr *bound, int fd,
                                  const struct addr *peer)
{
    struct loop *loop = l->worker->loop;
    struct conn_info *i = mem_alloc(sizeof(*i));
    i->id = net_next_id(l->worker);
    i->start_us = loop_now_us(loop);
    i->start_wall_us = loop_wall_us(loop);
    i->remote = *peer;
    /* The kernel need only be asked when the socket takes any address. */
    if (addr_is_ip(bound) && !addr_is_any(bound) && !l->base->conf->use_original_dst)
        i->local = *bound;
    else if (!addr_is_ip(bound) || !socket_local(fd, &i->local))
        i->local = *bound;
    addr_unmap(&i->remote);
    addr_unmap(&i->local);
    i->direct_remote = i->remote;
    i->direct_local = i->local;
    return i;
}

void accept_given(struct worker_listener *l, int fd, const struct addr *peer,
                  const struct addr *bound)
{
    struct conn_info *info = info_for(l, bound, fd, peer);
    if (l->base->conf->filter_count)
        step_start(l, fd, info, NULL);
    else
        start_chain(l, fd, info, NULL);
}

static void accepted(struct accept_socket *s, int fd, struct addr *peer)
{
    struct worker_listener *l = s->listener;
    if (over_limit(l->base)) {
        (void)close(fd);
        return;
    }
    if (l->base->conf->balance)
        balance_give(l, s->bound, fd, peer);
    else
        accept_given(l, fd, peer, &s->bound->addr);
}

/* The number that the next descriptor would have. */
static int next_fd(int like)
{
    int fd = fcntl(like, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) (void)close(fd);
    return fd < 0 ? INT_MAX : fd;
}

static void accept_resume(struct loop_timer *t)
{
    struct accept_socket *s = CONTAINER_OF(t, struct accept_socket, timer);
    struct net_worker *n = net_worker(s->listener->worker);
    n->fd_most = net_fd_most();
    if (next_fd(s->io.fd) >= n->fd_most) {
        loop_timer_start(s->listener->worker->loop, &s->timer, PAUSE_US, accept_resume);
        return;
    }
    s->paused = false;
    loop_io_want(&s->io, LOOP_READ);
}

/* Descriptors or memory ran out: resting beats spinning; the backlog keeps the clients. */
static void accept_pause(struct accept_socket *s, int error)
{
    struct str name = s->listener->name;
    if (!s->warned)
        log_warn(LOG_C_CONN_HANDLER, "listener '%.*s': accept failed: %s; pausing", STR_ARG(name),
                 strerrordesc_np(error));
    s->warned = true;
    s->paused = true;
    loop_io_want(&s->io, 0);
    loop_timer_start(s->listener->worker->loop, &s->timer, PAUSE_US, accept_resume);
}

/* Gives back how many; *error: why it stopped early. */
static uint32_t accept_some(struct accept_socket *s, uint32_t most, int *error)
{
    uint32_t count = 0;
    *error = 0;
    while (count < most) {
        struct addr peer = {.len = sizeof(peer.sa)};
        int fd = accept4(s->io.fd, &peer.sa.any, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == ECONNABORTED || errno == EINTR || errno == EPROTO) continue;
            if (errno != EAGAIN) *error = errno;
            break;
        }
        count++;
        accepted(s, fd, &peer);
        if (fd < net_worker(s->listener->worker)->fd_most) continue;
        *error = EMFILE;
        break;
    }
    return count;
}

void accept_ready(struct loop_io *io, int ready)
{
    (void)ready;
    struct accept_socket *s = CONTAINER_OF(io, struct accept_socket, io);
    if (s->paused) return;
    struct worker_base *b = s->listener->base;
    uint32_t most = b->conf->accept_most ? b->conf->accept_most : ACCEPT_MOST;
    int error;
    uint32_t count = accept_some(s, most, &error);
    if (count) stat_record(b->stats, LISTENER_ACCEPTED_PER_EVENT, count);
    if (error)
        accept_pause(s, error);
    else
        s->warned = false;
}

void accept_rest(struct accept_socket *s)
{
    int error;
    (void)accept_some(s, UINT32_MAX,
                      &error); /* what cannot be accepted now is lost with the socket */
}
