/* A downstream connection and the network filters of its chain: the connection's events walk
 * through the filters in order. It pins the chain and the listener's base, counts the listener's
 * statistics and writes its access log. */
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/access_logger.h"
#include "proxy/api/extension_slot.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/side_call.h"
#include "proxy/net/listener_internal.h"

struct network_chain {
    struct conn *conn; /* NULL once ended */
    struct worker_base *base;
    struct worker_chain *chain;
    struct list link;        /* chain->conns */
    struct loop_later later; /* frees it; or goes on after a resume */
    uint16_t count;
    uint16_t ready; /* filters whose on_new was called */
    uint16_t first; /* where the next bytes begin: after a resume, behind the filter that resumed */
    struct side_owner calls; /* of the filters */
    bool held;               /* on_new of v[ready - 1] said HOLD */
    bool in_filters;         /* inside a filter: a resume waits */
    bool resumed, ended;
    uint8_t rounds;    /* before the filters are freed */
    uint8_t holders;   /* the connection's memory and the filters */
    struct pin **pins; /* of discovered filters, by place; NULL: there are none */
    struct network_filter *v[];
};

/* --- access log and statistics
 * ------------------------------------------------------------------------- */

void listener_log(struct worker_base *b, struct conn_info *info, struct stream_info *end)
{
    const struct access_log_list *list = b->conf->access_log;
    if (!list || access_log_empty(list)) return;
    struct worker *w = b->worker;
    end->arena = w->scratch;
    end->worker = w;
    end->conn = info;
    end->start_us = info->start_us;
    end->start_wall_us = info->start_wall_us;
    end->end_us = loop_now_us(w->loop);
    end->remote = info->remote;
    end->random = rng_next(&w->rng);
    if (info->code_details.len) end->code_details = info->code_details;
    end->dynamic = info->metadata;
    access_log_run(w, list, end, ACCESS_LOG_TYPE_NONE);
}

static void chain_count_open(struct worker_base *b, int by)
{
    struct net_worker *n = net_worker(b->worker);
    uint64_t now = atomic_load_explicit(&n->open, memory_order_relaxed) + (uint64_t)(int64_t)by;
    atomic_store_explicit(&n->open, now, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->conf->open, (uint32_t)by, memory_order_relaxed);
}

static void chain_count_begin(struct worker_base *b)
{
    chain_count_open(b, 1);
    balance_add(b);
    stat_inc(b->stats, LISTENER_CX_TOTAL);
    stat_inc(b->stats, LISTENER_CX_ACTIVE);
    stat_inc(b->worker_stats, LISTENER_WORKER_CX_TOTAL);
    stat_inc(b->worker_stats, LISTENER_WORKER_CX_ACTIVE);
}

static void chain_count_end(struct worker_base *b, const struct conn_info *info)
{
    chain_count_open(b, -1);
    balance_drop(b);
    stat_inc(b->stats, LISTENER_CX_DESTROY);
    stat_dec(b->stats, LISTENER_CX_ACTIVE);
    stat_dec(b->worker_stats, LISTENER_WORKER_CX_ACTIVE);
    stat_record(b->stats, LISTENER_CX_LENGTH_MS,
                (loop_now_us(b->worker->loop) - info->start_us) / 1000);
}

/* --- the walk
 * -------------------------------------------------------------------------------------------- */

/* Calls on_new of the filters that have not had it, until one holds. */
static void chain_advance(struct network_chain *n)
{
    n->in_filters = true;
    while (!n->ended && !n->held && n->ready < n->count) {
        struct network_filter *f = n->v[n->ready++];
        if (f->type->on_new && f->type->on_new(f) == NET_HOLD) n->held = true;
    }
    n->in_filters = false;
}

static void chain_on_connected(struct conn *c, void *owner)
{
    (void)c;
    struct network_chain *n = owner;
    chain_advance(n);
}

static void chain_walk(struct network_chain *n, struct buf *in, bool end)
{
    uint16_t i = n->first;
    n->first = 0;
    n->in_filters = true;
    for (; !n->ended && i < n->ready; i++) {
        struct network_filter *f = n->v[i];
        if (f->type->on_read && f->type->on_read(f, in, end) == NET_HOLD) break;
    }
    n->in_filters = false;
    /* Envoy: the peer's end closes a connection that some filter holds back, unless its last filter
     * wants half-closes. */
    bool held = i < n->ready ? i + 1 < n->count : n->ready < n->count;
    if (end && held && !n->ended && !conn_half_close(n->conn)) conn_close(n->conn, CONN_CLOSE_NOW);
}

static void chain_on_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    (void)c;
    chain_walk(owner, in, end);
}

static void chain_on_watermark(struct conn *c, void *owner, bool above)
{
    (void)c;
    struct network_chain *n = owner;
    for (uint16_t i = 0; !n->ended && i < n->ready; i++) {
        if (n->v[i]->type->on_watermark) n->v[i]->type->on_watermark(n->v[i], above);
    }
}

/* The write side: from the terminal filter back to the first. False: a filter holds the bytes (it
 * writes them itself later). */
static bool chain_on_write(void *owner, struct buf *data, bool end)
{
    struct network_chain *n = owner;
    for (uint16_t i = n->ready; i-- > 0;) {
        struct network_filter *f = n->v[i];
        if (f->type->on_write && f->type->on_write(f, data, end) == NET_HOLD) return false;
    }
    return true;
}

/* --- the end
 * ---------------------------------------------------------------------------------------------- */

/* The configuration stays pinned until the connection's memory is gone, too: a closed connection
 * may still flush and linger. */
static void chain_drop(void *arg)
{
    struct network_chain *n = arg;
    if (--n->holders > 0) return;
    for (size_t i = 0; n->pins && i < n->chain->conf->filter_count; i++)
        pin_drop(n->chain->worker, &n->pins[i]);
    mem_free(n->pins);
    worker_base_drop(&n->base);
    worker_chain_drop(&n->chain);
    mem_free(n);
}

static void chain_free_filters(struct network_chain *n)
{
    for (uint16_t i = 0; i < n->count; i++) {
        if (n->v[i]->type->destroy) n->v[i]->type->destroy(n->v[i]);
        mem_free(n->v[i]);
    }
    n->count = n->ready = 0;
}

static void chain_continue(struct network_chain *n)
{
    n->resumed = false;
    n->held = false;
    chain_advance(n);
    if (!n->ended) conn_read_again(n->conn);
}

/* Freed one round after the end, so that work of this turn still finds the filters. */
static void chain_on_later(struct loop_later *later)
{
    struct network_chain *n = CONTAINER_OF(later, struct network_chain, later);
    if (!n->ended) {
        if (n->resumed) chain_continue(n);
        return;
    }
    if (n->rounds++ == 0) {
        loop_later(n->base->worker->loop, &n->later, chain_on_later);
        return;
    }
    chain_free_filters(n);
    chain_drop(n);
}

static void chain_on_close(struct conn *c, void *owner, enum conn_end why)
{
    struct network_chain *n = owner;
    struct conn_info *info = conn_info_of(c);
    if (why == CONN_END_CONNECT_TIMEOUT) {
        stat_inc(n->base->stats, LISTENER_CX_TRANSPORT_TIMEOUT);
        info->transport_failure = STR("connect timeout");
        info->termination_details = STR("transport_socket_timeout");
    }
    n->ended = true;
    side_owner_release(&n->calls);
    for (uint16_t i = 0; i < n->count; i++) {
        const struct network_filter_type *t = n->v[i]->type;
        if (t->on_close && (i < n->ready || t->on_attach)) t->on_close(n->v[i]);
    }
    n->conn = NULL;
    list_remove(&n->link);
    struct stream_info end = {.bytes_received = conn_bytes_read(c),
                              .bytes_sent = conn_bytes_written(c)};
    listener_log(n->base, info, &end);
    chain_count_end(n->base, info);
    loop_later(n->base->worker->loop, &n->later, chain_on_later);
}

static const struct conn_events chain_events = {
    .on_connected = chain_on_connected,
    .on_read = chain_on_read,
    .on_watermark = chain_on_watermark,
    .on_close = chain_on_close,
};

/* --- the beginning
 * ------------------------------------------------------------------------------------------ */

static bool chain_add_filters(struct network_chain *n, const struct filter_chain_conf *conf)
{
    bool writes = false;
    for (size_t i = 0; i < conf->filter_count; i++) {
        const struct network_filter_type *t = conf->filters[i].type;
        const void *own = conf->filters[i].conf;
        if (conf->filters[i].slot) {
            const struct extension_conf *found =
                (const struct extension_conf *)(const void *)n->pins[i]->obj;
            t = (const struct network_filter_type *)found->type;
            own = found->conf;
        }
        struct network_filter *f =
            mem_alloc(t->instance_size < sizeof(*f) ? sizeof(*f) : t->instance_size);
        f->type = t;
        f->conf = own;
        f->worker = n->base->worker;
        f->chain = n;
        n->v[n->count++] = f;
        if (t->on_write) writes = true;
    }
    return writes;
}

/* The discovered filters as they are now. False: one is not there. */
static bool chain_pin(struct network_chain *n, const struct filter_chain_conf *conf)
{
    struct worker *w = n->chain->worker;
    if (!conf->has_slots) return true;
    n->pins = mem_array(conf->filter_count, sizeof(struct pin *));
    for (size_t i = 0; i < conf->filter_count; i++) {
        const struct extension_slot *s = conf->filters[i].slot;
        struct pin *p = s ? worker_find(w, TABLE_EXTENSIONS, s->key, s->hash) : NULL;
        if (s && !p) return false;
        if (p) n->pins[i] = pin_hold(p);
    }
    return true;
}

/* Envoy: a connection without its filters is closed at once. */
static void chain_refuse(struct network_chain *n, int fd, struct conn_info *info,
                         struct arena *arena)
{
    struct worker_base *b = n->base;
    struct stream_info end = {.code_details = STR_NONE};
    stat_inc(b->stats, LISTENER_NETWORK_EXTENSION_MISSING);
    info->local_close = true;
    info->termination_details = STR("no_filters");
    listener_log(b, info, &end);
    chain_count_end(b, info);
    list_remove(&n->link);
    (void)close(fd);
    mem_free(info);
    arena_free(&arena);
    n->holders = 1;
    chain_drop(n);
}

void network_chain_start(struct worker_base *b, struct worker_chain *chain, int fd,
                         struct conn_info *info, struct arena *arena)
{
    const struct filter_chain_conf *conf = chain->conf;
    struct network_chain *n = mem_alloc(sizeof(*n) + conf->filter_count * sizeof(n->v[0]));
    n->base = b;
    n->chain = chain;
    b->users++;
    chain->users++;
    list_push_back(&chain->conns, &n->link);
    info->filter_chain_name = conf->obj.name;
    chain_count_begin(b);
    if (!chain_pin(n, conf)) {
        chain_refuse(n, fd, info, arena);
        return;
    }
    bool writes = chain_add_filters(n, conf);
    n->conn = conn_accept(b->worker, fd, info, conf->transport, conf->transport_timeout_us,
                          &b->conf->limits, &chain_events, n);
    n->conn->arena = arena;
    n->conn->on_free = chain_drop;
    n->conn->free_arg = n;
    n->holders = 2;
    if (writes) n->conn->on_write = chain_on_write;
    for (uint16_t i = 0; i < n->count; i++) {
        n->v[i]->conn = n->conn;
        if (n->v[i]->type->on_attach) n->v[i]->type->on_attach(n->v[i]);
    }
}

/* --- what filters ask
 * ---------------------------------------------------------------------------------------- */

void network_filter_resume(struct network_filter *f)
{
    struct network_chain *n = f->chain;
    if (n->ended) return;
    uint16_t at = 0;
    while (at < n->count && n->v[at] != f)
        at++;
    if (bug_if(at == n->count)) return;
    n->first = (uint16_t)(at + 1);
    n->resumed = true;
    if (n->in_filters)
        loop_later(n->base->worker->loop, &n->later, chain_on_later);
    else
        chain_continue(n);
}

struct conn_info *network_filter_info(struct network_filter *f)
{
    return conn_info_of(f->conn);
}

struct side_owner *network_filter_calls(struct network_filter *f)
{
    struct network_chain *n = f->chain;
    return &n->calls;
}

struct arena *network_filter_arena(struct network_filter *f)
{
    return conn_arena(f->conn);
}

bool network_filter_alone(const struct network_filter *f)
{
    const struct network_chain *n = f->chain;
    for (uint16_t i = 0; i < n->count; i++) {
        const struct network_filter_type *t = n->v[i]->type;
        if (n->v[i] != f && (t->on_read || t->on_write)) return false;
    }
    return true;
}

/* Envoy's gradual strategy: the chance to close grows from 0 to 1 over the drain time. */
bool network_filter_draining(const struct network_filter *f)
{
    const struct network_chain *n = f->chain;
    const struct worker_chain *c = n->chain;
    /* Envoy: a process that fails its health checks sends its clients elsewhere. */
    if (!n->base->conf->drain_modify_only &&
        atomic_load_explicit(&c->worker->rt->health_failed, memory_order_relaxed))
        return true;
    if (!c->draining) return false;
    if (c->immediate || c->drain_us == 0) return true;
    uint64_t gone_us = loop_now_us(c->worker->loop) - c->drain_from_us;
    return gone_us >= c->drain_us || rng_below(&c->worker->rng, c->drain_us) < gone_us;
}

void network_chain_drain(struct worker_chain *c)
{
    LIST_FOREACH_SAFE (&c->conns, it, next) {
        struct network_chain *n = CONTAINER_OF(it, struct network_chain, link);
        for (uint16_t i = 0; !n->ended && i < n->ready; i++) {
            if (n->v[i]->type->on_drain) n->v[i]->type->on_drain(n->v[i]);
        }
    }
}

void network_chain_close_all(struct worker_chain *c)
{
    LIST_FOREACH_SAFE (&c->conns, it, next) {
        struct network_chain *n = CONTAINER_OF(it, struct network_chain, link);
        if (n->conn) {
            conn_info_of(n->conn)->termination_details = STR("drain_time_completed");
            conn_close(n->conn, CONN_CLOSE_NOW);
        }
    }
}
