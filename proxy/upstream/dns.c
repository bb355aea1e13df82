/* c-ares on main's loop: its sockets are watched, its timeouts kept by one timer a channel. One
 * channel for each set of resolvers. */
#include <ares.h>
#include <netdb.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/must.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/dns_internal.h"

enum dns_stat {
    DNS_GET_ADDR_FAILURE,
    DNS_NOT_FOUND,
    DNS_REINITS,
    DNS_RESOLVE_TOTAL,
    DNS_TIMEOUTS,
    DNS_PENDING,
    DNS_STATS
};
static const struct stat_def dns_defs[DNS_STATS] = {
    [DNS_GET_ADDR_FAILURE] = {"get_addr_failure", STAT_COUNTER, 0},
    [DNS_NOT_FOUND] = {"not_found", STAT_COUNTER, 0},
    [DNS_REINITS] = {"reinits", STAT_COUNTER, 0},
    [DNS_RESOLVE_TOTAL] = {"resolve_total", STAT_COUNTER, 0},
    [DNS_TIMEOUTS] = {"timeouts", STAT_COUNTER, 0},
    [DNS_PENDING] = {"pending_resolutions", STAT_GAUGE, 0},
};

struct dns {
    struct runtime *rt;
    struct stat_group *stats;
    struct list channels;
};
struct dns_channel {
    struct list link;
    struct dns *dns;
    ares_channel ares;
    struct str key; /* of its settings; behind the struct */
    struct list sockets;
    struct loop_timer timer;
};
struct dns_socket {
    struct list link;
    struct loop_io io;
    struct dns_channel *channel;
};
struct dns_query {
    struct dns *dns;
    int family;
    void (*done)(void *arg, const struct dns_result *r); /* NULL: cancelled */
    void *arg;
};

enum { FAMILY_AUTO, FAMILY_V4_ONLY, FAMILY_V6_ONLY, FAMILY_V4_PREFERRED, FAMILY_ALL };

/* --- the loop's side of a channel
 * ---------------------------------------------------------------------------------------------------------
 */
static void channel_timer(struct dns_channel *ch);

static void channel_fire(struct loop_timer *t)
{
    struct dns_channel *ch = CONTAINER_OF(t, struct dns_channel, timer);
    ares_process_fd(ch->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    channel_timer(ch);
}

static void channel_timer(struct dns_channel *ch)
{
    struct timeval tv, *next = ares_timeout(ch->ares, NULL, &tv);
    if (!next) {
        loop_timer_stop(&ch->timer);
        return;
    }
    loop_timer_start(ch->dns->rt->main, &ch->timer,
                     (uint64_t)next->tv_sec * 1000000 + (uint64_t)next->tv_usec, channel_fire);
}

static void socket_fire(struct loop_io *io, int ready)
{
    struct dns_socket *s = CONTAINER_OF(io, struct dns_socket, io);
    struct dns_channel *ch = s->channel;
    int fd = io->fd;
    ares_process_fd(ch->ares, ready & LOOP_READ ? fd : ARES_SOCKET_BAD,
                    ready & LOOP_WRITE ? fd : ARES_SOCKET_BAD);
    channel_timer(ch);
}

static void channel_socket(void *data, ares_socket_t fd, int readable, int writable)
{
    struct dns_channel *ch = data;
    struct dns_socket *found = NULL;
    LIST_FOREACH (&ch->sockets, it) {
        struct dns_socket *s = CONTAINER_OF(it, struct dns_socket, link);
        if (s->io.fd == fd) found = s;
    }
    if (!readable && !writable) {
        if (!found) return;
        loop_io_want(&found->io, 0);
        list_remove(&found->link);
        mem_free(found);
        return;
    }
    if (!found) {
        found = mem_alloc(sizeof(*found));
        found->channel = ch;
        loop_io_init(&found->io, ch->dns->rt->main, fd, socket_fire);
        list_push_back(&ch->sockets, &found->link);
    }
    loop_io_want(&found->io, (readable ? LOOP_READ : 0) | (writable ? LOOP_WRITE : 0));
}

/* --- channels
 * ------------------------------------------------------------------------------------------------------------------------------
 */
static void channel_servers(struct dns_channel *ch, const struct dns_settings *s)
{
    struct sb list = {0};
    for (size_t i = 0; i < s->resolver_count; i++) {
        char text[ADDR_TEXT_MAX];
        sb_fmt(&list, "%s%.*s", i ? "," : "", (int)addr_format(&s->resolvers[i], text), text);
    }
    sb_char(&list, '\0');
    int rc = ares_set_servers_ports_csv(ch->ares, list.ptr);
    if (rc != ARES_SUCCESS)
        log_error(LOG_C_DNS, "cannot use the DNS resolvers %s: %s", list.ptr, ares_strerror(rc));
    sb_release(&list);
}

static struct dns_channel *channel_new(struct dns *d, const struct dns_settings *s, struct str key)
{
    struct dns_channel *ch = mem_alloc(sizeof(*ch) + key.len + 1);
    memcpy(ch + 1, key.ptr, key.len);
    ch->key = str_make((char *)(ch + 1), key.len);
    ch->dns = d;
    list_init(&ch->sockets);
    struct ares_options opts = {.sock_state_cb = channel_socket, .sock_state_cb_data = ch};
    int mask = ARES_OPT_SOCK_STATE_CB;
    if (s->use_tcp) opts.flags |= ARES_FLAG_USEVC;
    if (s->no_default_search) opts.flags |= ARES_FLAG_NOSEARCH;
    if (opts.flags) mask |= ARES_OPT_FLAGS;
    int rc = ares_init_options(&ch->ares, &opts, mask);
    must(rc == ARES_SUCCESS);
    if (s->resolver_count > 0) channel_servers(ch, s);
    list_push_back(&d->channels, &ch->link);
    return ch;
}

static struct dns_channel *channel_for(struct dns *d, const struct dns_settings *s)
{
    struct sb key = {0};
    sb_fmt(&key, "%d%d", s->use_tcp, s->no_default_search);
    for (size_t i = 0; i < s->resolver_count; i++) {
        char text[ADDR_TEXT_MAX];
        sb_fmt(&key, ",%.*s", (int)addr_format(&s->resolvers[i], text), text);
    }
    struct dns_channel *found = NULL;
    LIST_FOREACH (&d->channels, it) {
        struct dns_channel *ch = CONTAINER_OF(it, struct dns_channel, link);
        if (str_eq(ch->key, sb_str(&key))) found = ch;
    }
    if (!found) found = channel_new(d, s, sb_str(&key));
    sb_release(&key);
    return found;
}

struct dns *dns_new(struct runtime *rt)
{
    struct dns *d = mem_alloc(sizeof(*d));
    d->rt = rt;
    d->stats = stat_group_get(rt->stats, STR("dns.cares."), dns_defs, DNS_STATS);
    list_init(&d->channels);
    return d;
}

void dns_free(struct dns **dp)
{
    struct dns *d = *dp;
    *dp = NULL;
    if (!d) return;
    LIST_FOREACH_SAFE (&d->channels, it, next) {
        struct dns_channel *ch = CONTAINER_OF(it, struct dns_channel, link);
        loop_timer_stop(&ch->timer);
        ares_destroy(ch->ares);
        mem_free(ch);
    }
    stat_group_unref(&d->stats);
    mem_free(d);
}

struct runtime *dns_runtime(const struct dns *d)
{
    return d->rt;
}

/* --- queries
 * ---------------------------------------------------------------------------------------------------------------------------------
 */
static bool family_wanted(int family, bool v6, bool any_v4, bool any_v6)
{
    switch (family) {
    case FAMILY_V4_ONLY: return !v6;
    case FAMILY_V6_ONLY: return v6;
    case FAMILY_V4_PREFERRED: return any_v4 ? !v6 : v6;
    case FAMILY_ALL: return true;
    default: return any_v6 ? v6 : !v6; /* AUTO: IPv6 first */
    }
}

static void result_collect(const struct ares_addrinfo *info, int family, struct addr *out,
                           struct dns_result *r)
{
    bool any_v4 = false, any_v6 = false;
    for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next) {
        any_v4 |= n->ai_family == AF_INET;
        any_v6 |= n->ai_family == AF_INET6;
    }
    for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next) {
        bool v6 = n->ai_family == AF_INET6;
        if (!v6 && n->ai_family != AF_INET) continue;
        if (!family_wanted(family, v6, any_v4, any_v6)) continue;
        struct addr *a = &out[r->count++];
        memset(a, 0, sizeof(*a));
        memcpy(&a->sa, n->ai_addr, (size_t)n->ai_addrlen);
        a->len = (socklen_t)n->ai_addrlen;
        uint32_t ttl = n->ai_ttl > 0 ? (uint32_t)n->ai_ttl : 0;
        if (r->count == 1 || ttl < r->ttl_s) r->ttl_s = ttl;
    }
}

/* Envoy's words for a failure, without spaces. */
static struct str failure_text(int status, char *to, size_t room)
{
    bool none = status == ARES_ENOTFOUND || status == ARES_ENODATA;
    int n = snprintf(to, room, "%s:%s", none ? "cares_norecords" : "cares_failure",
                     ares_strerror(status));
    size_t len = n > 0 && (size_t)n < room ? (size_t)n : room - 1;
    for (size_t i = 0; i < len; i++) {
        if (to[i] == ' ') to[i] = '_';
    }
    return str_make(to, len);
}

static void query_done(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
    enum { ADDRESSES_MOST = 4096 };
    struct dns_query *q = arg;
    struct stat_group *g = q->dns->stats;
    if (status != ARES_EDESTRUCTION) {
        stat_dec(g, DNS_PENDING);
        stat_add(g, DNS_TIMEOUTS, (uint64_t)timeouts);
        if (status == ARES_ENOTFOUND || status == ARES_ENODATA)
            stat_inc(g, DNS_NOT_FOUND);
        else if (status != ARES_SUCCESS)
            stat_inc(g, DNS_GET_ADDR_FAILURE);
    }
    size_t n = 0;
    for (const struct ares_addrinfo_node *x = info ? info->nodes : NULL; x && n < ADDRESSES_MOST;
         x = x->ai_next)
        n++;
    struct addr *v = mem_array(n + 1, sizeof(*v));
    /* Envoy: "no such name" and "no such record" are good answers without addresses. */
    struct dns_result r = {
        .ok = status == ARES_SUCCESS || status == ARES_ENODATA || status == ARES_ENOTFOUND, .v = v};
    if (info && n < ADDRESSES_MOST) result_collect(info, q->family, v, &r);
    if (info) ares_freeaddrinfo(info);
    char why[80];
    if (status != ARES_SUCCESS) r.why = failure_text(status, why, sizeof(why));
    if (q->done) q->done(q->arg, &r);
    mem_free(v);
    mem_free(q);
}

struct dns_query *dns_resolve(struct dns *d, const struct dns_settings *s, struct str name,
                              void (*done)(void *arg, const struct dns_result *r), void *arg)
{
    struct dns_channel *ch = channel_for(d, s);
    struct dns_query *q = mem_alloc(sizeof(*q));
    q->dns = d;
    q->family = s->family;
    q->done = done;
    q->arg = arg;
    struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC, .ai_flags = ARES_AI_NOSORT, .ai_socktype = SOCK_STREAM};
    if (s->family == FAMILY_V4_ONLY) hints.ai_family = AF_INET;
    if (s->family == FAMILY_V6_ONLY) hints.ai_family = AF_INET6;
    stat_inc(d->stats, DNS_RESOLVE_TOTAL);
    stat_inc(d->stats, DNS_PENDING);
    struct sb z = {0};
    sb_add(&z, name);
    sb_char(&z, '\0');
    ares_getaddrinfo(ch->ares, z.ptr, NULL, &hints, query_done, q);
    sb_release(&z);
    channel_timer(ch);
    return q;
}

void dns_cancel(struct dns_query **qp)
{
    struct dns_query *q = *qp;
    *qp = NULL;
    if (q) q->done = NULL;
}
