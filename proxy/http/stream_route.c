/* A stream's routes: the table that it keeps, the route in it, and what the route says of the
 * stream's limits. */
#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/http/scopes.h"
#include "proxy/http/stream_internal.h"
#include "proxy/runtime/runtime.h"

static void stream_pin_table(struct http_stream *s, struct str name, uint64_t hash)
{
    struct pin *p = worker_find(s->m->worker, TABLE_ROUTES, name, hash);
    if (!p) return;
    s->route_pin = pin_hold(p);
    s->info.route_config = (const struct route_config *)(const void *)p->obj;
}

/* Scoped routes: the request's key says which table. */
static void stream_pin_scope(struct http_stream *s)
{
    const struct hcm_conf *conf = s->m->conf;
    struct worker *w = s->m->worker;
    struct str key = scope_key(conf->scope_builder, s->info.req, s->arena);
    struct pin *p = NULL;
    const struct scope_set *set = conf->scopes;
    s->scope_name = STR_NONE;
    if (!key.ptr) return;
    if (!set) p = worker_find(w, TABLE_SCOPES, conf->scopes_name, conf->scopes_hash);
    if (p) set = (const struct scope_set *)(const void *)p->obj;
    const struct scope *found = set ? map_get(&set->by_key, key) : NULL;
    if (!found) return;
    if (found->routes) {
        s->info.route_config = found->routes;
        if (p) s->route_pin = pin_hold(p);
        return;
    }
    stream_pin_table(s, found->table, found->table_hash);
    if (!s->info.route_config) s->scope_name = str_dup(s->arena, found->name);
}

void stream_pin_routes(struct http_stream *s)
{
    const struct hcm_conf *conf = s->m->conf;
    if (conf->routes) {
        s->info.route_config = conf->routes;
        return;
    }
    if (conf->scope_builder)
        stream_pin_scope(s);
    else
        stream_pin_table(s, conf->rds_name, conf->rds_hash);
}

const struct route *stream_route(struct http_stream *s)
{
    if (s->route_known) return s->info.route;
    s->route_known = true;
    s->info.route = NULL;
    s->info.vhost = NULL;
    s->choice = (struct route_choice){0};
    if (!s->info.route_config || !s->info.req) return NULL;
    const struct route *r = route_find(s->info.route_config, s->m->worker, s->info.req, &s->info);
    if (r && r->action == ROUTE_FORWARD) s->choice = route_choose_cluster(r, s->info.req, &s->info);
    return r;
}

void stream_forget_route(struct http_stream *s)
{
    s->route_known = false;
}

/* Envoy: grpc-timeout, capped, less the route's offset, takes the place of the longest life. */
static uint64_t stream_grpc_deadline(struct http_stream *s, const struct route *r,
                                     uint64_t fallback)
{
    enum { MS_MOST = 99999999 }; /* eight digits */
    uint64_t us;
    if (!headers_grpc_timeout(s->info.req, &us)) return fallback;
    if (r->grpc_timeout_max_us && us > r->grpc_timeout_max_us) us = r->grpc_timeout_max_us;
    if (r->has_grpc_timeout_offset && r->grpc_timeout_offset_us < us)
        us -= r->grpc_timeout_offset_us;
    uint64_t ms = us / 1000;
    headers_set_id(s->info.req, HDR_GRPC_TIMEOUT,
                   ms <= MS_MOST ? str_fmt(s->arena, "%llum", (unsigned long long)ms)
                                 : str_fmt(s->arena, "%lluS", (unsigned long long)(ms / 1000)));
    return us;
}

uint64_t stream_longest_life(struct http_stream *s, const struct route *r)
{
    uint64_t most = s->m->conf->max_stream_us;
    if (r && r->has_max_stream_duration) most = r->max_stream_duration_us;
    return r && r->has_grpc_timeout_max ? stream_grpc_deadline(s, r, most) : most;
}

void stream_route_limit(struct http_stream *s, const struct route *r)
{
    uint32_t limit;
    if (!r || !(r->has_buffer_limit || r->vhost->has_buffer_limit)) return;
    limit = r->has_buffer_limit ? r->per_request_buffer_limit : r->vhost->per_request_buffer_limit;
    if (limit < s->buffer_limit) s->buffer_limit = limit;
}
