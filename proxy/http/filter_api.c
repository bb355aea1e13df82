/* What a filter may do to its stream (proxy/api/http_filter.h). */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/headers.h"
#include "proxy/api/on_demand.h"
#include "proxy/http/stream_internal.h"
#include "proxy/runtime/runtime.h"

struct filter_slot *stream_slot(struct http_filter *f)
{
    return &f->stream->slots[f->position];
}

struct stream_info *http_filter_info(struct http_filter *f)
{
    return &f->stream->info;
}

struct side_owner *http_filter_calls(struct http_filter *f)
{
    return &f->stream->calls;
}

struct arena *http_filter_arena(struct http_filter *f)
{
    return f->stream->arena;
}

void http_filter_resume(struct http_filter *f, enum http_dir dir)
{
    chain_resume(f->stream, stream_slot(f), dir);
}

void http_filter_inject(struct http_filter *f, enum http_dir dir, struct buf *data, bool end)
{
    struct http_stream *s = f->stream;
    int next = f->position + (dir == HTTP_DECODE ? 1 : -1);
    if (chain_stopped(s, dir)) {
        buf_release(data);
        return;
    }
    chain_data(s, dir, next, data, end);
}

struct buf *http_filter_buffered(struct http_filter *f, enum http_dir dir)
{
    struct buf *held = &stream_slot(f)->side[dir].held;
    return held->len ? held : NULL;
}

struct headers *http_filter_add_trailers(struct http_filter *f, enum http_dir dir)
{
    struct http_stream *s = f->stream;
    if (!s->add_trailers[dir]) s->add_trailers[dir] = headers_new(s->arena);
    return s->add_trailers[dir];
}

void http_filter_reply(struct http_filter *f, const struct local_reply *r)
{
    struct http_stream *s = f->stream;
    struct filter_slot *slot = stream_slot(f);
    if (s->over) return;
    if (!slot->in_call) {
        stream_reply(s, slot, r);
        return;
    }
    if (s->reply_wanted) return; /* the first one counts */
    struct local_reply *copy = arena_copy(s->arena, r, sizeof *r);
    copy->body = str_dup(s->arena, r->body);
    s->reply_wanted = copy;
    s->reply_by = slot;
}

void http_filter_reset(struct http_filter *f)
{
    stream_reset(f->stream, RESET_LOCAL);
}

/* --- the response of a terminal filter
 * -------------------------------------------------------------------------- */

void http_filter_respond_1xx(struct http_filter *f, struct headers *h)
{
    struct http_stream *s = f->stream;
    if (s->over || s->response_started || s->local_reply) return;
    chain_1xx(s, f->position - 1, h);
}

void http_filter_respond_metadata(struct http_filter *f, struct buf *block)
{
    struct http_stream *s = f->stream;
    if (!s->over && s->codec && !s->response_done && !s->local_reply)
        s->codec->codec->ops->send_metadata(s->codec, block);
    buf_release(block);
}

/* Envoy: an upstream that does not take a WebSocket, and does not refuse it either, answers with
 * its status alone. */
static bool filter_websocket_refused(struct http_stream *s, const struct headers *h)
{
    if (!s->upgrade_wanted || headers_status(h) == 101 || headers_status(h) >= 400) return false;
    if (!str_case_eq(headers_get(s->info.req, HDR_UPGRADE), STR("websocket"))) return false;
    struct local_reply r = {.status = headers_status(h),
                            .details = STR("websocket_handshake_unsuccessful"),
                            .grpc_status = -1};
    stream_reply(s, NULL, &r);
    return true;
}

void http_filter_respond_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct http_stream *s = f->stream;
    if (s->over || s->encoding || filter_websocket_refused(s, h)) return;
    s->encoding = true;
    s->info.resp = h;
    s->header_end[HTTP_ENCODE] = end;
    stream_touch(s);
    chain_headers(s, HTTP_ENCODE, f->position - 1, h, end);
}

void http_filter_respond_data(struct http_filter *f, struct buf *data, bool end)
{
    struct http_stream *s = f->stream;
    if (s->over || s->local_reply) {
        buf_release(data);
        return;
    }
    stream_touch(s);
    chain_data(s, HTTP_ENCODE, f->position - 1, data, end);
}

void http_filter_respond_trailers(struct http_filter *f, struct headers *t)
{
    struct http_stream *s = f->stream;
    if (s->over || s->local_reply) return;
    stream_touch(s);
    chain_trailers(s, HTTP_ENCODE, f->position - 1, t);
}

void http_filter_respond_reset(struct http_filter *f, struct str details, uint64_t flags)
{
    struct http_stream *s = f->stream;
    if (s->over) return;
    s->info.code_details = details;
    s->info.flags |= flags;
    stream_reset(s, RESET_LOCAL);
}

void http_filter_pause_request(struct http_filter *f, bool pause)
{
    stream_pause_request(f->stream, pause);
}

/* --- route
 * ------------------------------------------------------------------------------------------------------------
 */

const struct route *http_filter_route(struct http_filter *f)
{
    struct http_stream *s = f->stream;
    bool known = s->route_known;
    const struct route *r = stream_route(s);
    if (!known) chain_route_confs(s);
    return r;
}

void http_filter_clear_route(struct http_filter *f)
{
    stream_forget_route(f->stream);
}

/* Asks for the table of the request's scope, or for a host that no virtual host is for. */
bool http_filter_ask_route(struct http_filter *f, struct on_demand *d,
                           void (*done)(struct on_demand *d, bool found))
{
    struct http_stream *s = f->stream;
    const struct route_config *c = s->info.route_config;
    if (!c && s->scope_name.len) {
        struct on_demand_question scope = {
            .kind = ON_DEMAND_SCOPE, .name = s->m->conf->scopes_name, .key = s->scope_name};
        return on_demand_ask(s->m->worker, d, &scope, done);
    }
    if (!c || !c->on_demand || s->info.vhost || !c->obj.name.len) return false;
    struct on_demand_question q = {
        .kind = ON_DEMAND_VIRTUAL_HOST,
        .name = c->obj.name,
        .key = str_dup_lower(s->arena, headers_get(s->info.req, HDR_AUTHORITY))};
    return q.key.len && on_demand_ask(s->m->worker, d, &q, done);
}

void http_filter_restart(struct http_filter *f)
{
    stream_restart(f->stream, stream_slot(f));
}

struct str http_filter_cluster(struct http_filter *f)
{
    (void)http_filter_route(f);
    return f->stream->choice.cluster;
}

const struct route_choice *http_filter_choice(struct http_filter *f)
{
    (void)http_filter_route(f);
    return &f->stream->choice;
}

uint64_t http_filter_buffer_limit(const struct http_filter *f)
{
    return f->stream->buffer_limit;
}

/* --- timers
 * -------------------------------------------------------------------------------------------------------------
 */

static void filter_timer_fire(struct loop_timer *t)
{
    struct filter_timer *timer = CONTAINER_OF(t, struct filter_timer, timer);
    if (!timer->f->stream->over) timer->fire(timer->f, timer);
}

void filter_timer_start(struct http_filter *f, struct filter_timer *t, uint64_t delay_us,
                        void (*fire)(struct http_filter *f, struct filter_timer *t))
{
    t->fire = fire;
    t->f = f;
    if (f->stream->over) return;
    loop_timer_start(f->worker->loop, &t->timer, delay_us, filter_timer_fire);
}

void filter_timer_stop(struct filter_timer *t)
{
    loop_timer_stop(&t->timer);
}
