/* What the tests of proxy/upstream share: a small server, and a process with one worker and a
 * cluster "c". */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/loop.h"
#include "base/must.h"
#include "proxy/api/cluster_stats.h"
#include "proxy/api/headers.h"
#include "proxy/api/upstream.h"
#include "proxy/net/listener_manager.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/cluster_manager.h"

/* --- a server that answers each request by its path
 * ------------------------------------------------------------------------------------- */
struct server {
    int fd;
    uint16_t port;
    pthread_t thread;
    _Atomic int accepted;
};

static inline void answer(int fd, const char *req)
{
    const char *out = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    if (strstr(req, "GET /close"))
        out = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    if (strstr(req, "GET /bad")) out = "HTTX/1.1 200 OK\r\n\r\n";
    if (strstr(req, "GET /extra")) out = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok_and_more";
    if (strstr(req, "GET /eof")) {
        close(fd);
        return;
    }
    if (strstr(req, "GET /silent")) return;
    (void)!write(fd, out, strlen(out));
}

static inline void *connection(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char buf[4096];
    for (ssize_t n; (n = read(fd, buf, sizeof(buf) - 1)) > 0;) {
        buf[n] = 0;
        answer(fd, buf);
        if (strstr(buf, "GET /eof")) return NULL;
    }
    close(fd);
    return NULL;
}

static inline void *serve(void *arg)
{
    struct server *s = arg;
    for (int fd; (fd = accept(s->fd, NULL, NULL)) >= 0;) {
        pthread_t t;
        s->accepted++;
        must(pthread_create(&t, NULL, connection, (void *)(intptr_t)fd) == 0);
        must(pthread_detach(t) == 0);
    }
    return NULL;
}

static inline void server_start(struct server *s)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(in);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(s->fd, (struct sockaddr *)&in, len) == 0 && listen(s->fd, 16) == 0);
    must(getsockname(s->fd, (struct sockaddr *)&in, &len) == 0);
    s->port = ntohs(in.sin_port);
    must(pthread_create(&s->thread, NULL, serve, s) == 0);
}

static inline void server_stop(struct server *s)
{
    shutdown(s->fd, SHUT_RDWR);
    must(pthread_join(s->thread, NULL) == 0);
    close(s->fd);
}

/* --- the world
 * -----------------------------------------------------------------------------------------------------------------------------
 */
static inline struct host *first_pick(void *cursor, const void *c, const void *table,
                                      const struct lb_hosts *hosts, const struct lb_ask *ask)
{
    (void)cursor, (void)c, (void)table, (void)ask;
    return hosts->v[0];
}
static const struct lb_policy_type first_policy = {.ext = {.name = "first"}, .pick = first_pick};

struct world {
    struct server server;
    struct loop *main;
    struct stats *stats;
    struct runtime *rt;
    struct cluster_manager *cm;
    struct listener_manager *lm; /* its worker hooks keep net's part of the workers */
};
struct world_limits {
    struct breaker_limits v[BREAKER_PRIORITIES];
};

static inline struct cluster *cluster_make(struct world *w, uint64_t hash, uint16_t port,
                                           uint32_t max_pending)
{
    struct cluster *c = obj_new(sizeof(*c), "cluster");
    struct arena *a = c->obj.arena;
    c->obj.name = c->stat_name = str_dup(a, STR("c"));
    c->obj.hash = hash;
    c->name_hash = hash_str(c->obj.name);
    c->connect_timeout_us = 1000000;
    c->buffer_limit = 65536;
    c->lb = &first_policy;
    c->preconnect_ratio = 1;
    c->panic_percent = 50;
    struct world_limits *l = ARENA_NEW(a, struct world_limits);
    for (size_t i = 0; i < BREAKER_PRIORITIES; i++)
        l->v[i] = (struct breaker_limits){1024,  max_pending, 1024, 3, UINT32_MAX,
                                          false, false,       0,    0, UINT32_MAX};
    c->limits = l->v;
    c->http = &upstream_http_default;
    c->endpoints = obj_new(sizeof(*c->endpoints), "endpoints");
    c->endpoints->overprovisioning = 140;
    c->endpoints->count = port ? 1 : 0;
    c->endpoints->v = ARENA_NEW(c->endpoints->obj.arena, struct locality_endpoints);
    c->endpoints->v[0].count = 1;
    c->endpoints->v[0].v = ARENA_NEW(c->endpoints->obj.arena, struct endpoint);
    c->endpoints->v[0].v[0].weight = 1;
    must(addr_parse_ip(STR("127.0.0.1"), port, &c->endpoints->v[0].v[0].addr));
    (void)w;
    return c;
}

static inline int setup(void **state)
{
    struct world *w = mem_alloc(sizeof(*w));
    server_start(&w->server);
    w->main = loop_new();
    w->stats = stats_new(2);
    stats_thread_enter(w->stats, 0);
    w->rt = runtime_new(w->main, w->stats, 1);
    w->cm = cluster_manager_new(w->rt);
    w->lm = listener_manager_new(w->rt);
    runtime_start(w->rt);
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    runtime_stop(w->rt);
    listener_manager_free(&w->lm);
    cluster_manager_free(&w->cm);
    runtime_free(&w->rt);
    stats_free(&w->stats);
    loop_free(&w->main);
    server_stop(&w->server);
    mem_free(w);
    return 0;
}

/* --- waiting
 * -----------------------------------------------------------------------------------------------
 */
static inline void nothing(struct worker *w, void *arg)
{
    (void)w, (void)arg;
}
static inline void set_flag(void *arg)
{
    *(bool *)arg = true;
}
static inline void settle(struct world *w)
{
    bool done = false;
    runtime_each_worker(w->rt, nothing, &done, set_flag);
    while (!done)
        loop_turn(w->main, true);
}
