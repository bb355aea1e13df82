/* Answers that we make ourselves: status, body, gRPC form, local_reply_config; through the encode
 * filters, or a reset when it is too late. */
#include "proxy/http/local_reply.h"
#include "base/arena.h"
#include "base/must.h"
#include "base/text.h"
#include "proxy/api/headers.h"
#include "proxy/http/format.h"
#include "proxy/http/header_change.h"
#include "proxy/http/stream_internal.h"

int grpc_status_of_http(uint32_t status)
{
    switch (status) {
    case 400: return 13;
    case 401: return 16;
    case 403: return 7;
    case 404: return 12;
    case 429:
    case 502:
    case 503:
    case 504: return 14;
    default: return 2;
    }
}

static const struct local_reply_mapper *local_reply_mapper(struct http_stream *s)
{
    const struct local_reply_conf *c = s->m->conf->local_reply;
    for (size_t i = 0; i < c->mapper_count; i++) {
        const struct local_reply_mapper *m = &c->mappers[i];
        if (!m->filter || m->match(s->m->worker, m->filter, &s->info)) return m;
    }
    return NULL;
}

void local_reply_rewrite(struct http_stream *s, struct headers *h, uint32_t *status,
                         struct str *body, struct str *type)
{
    const struct local_reply_conf *c = s->m->conf->local_reply;
    if (!c) return;
    const struct local_reply_format *format = c->format;
    const struct local_reply_mapper *m = local_reply_mapper(s);
    s->info.local_reply_body = *body;
    if (m) {
        if (m->has_body) *body = s->info.local_reply_body = m->body;
        if (m->headers) header_change_apply(m->headers, h, &s->info);
        if (m->status && m->status != *status) {
            *status = s->info.response_code = m->status;
            headers_set_status(h, m->status);
        }
        if (m->format) format = m->format;
    }
    if (!format) return;
    if (format->format) {
        struct sb text = {0};
        format_text(format->format, &s->info, &text);
        *body = str_dup(s->arena, sb_str(&text));
        sb_release(&text);
    }
    *type = format->content_type.len ? format->content_type : *type;
}

static void local_reply_grpc(struct http_stream *s, struct headers *h, const struct local_reply *r,
                             uint32_t status, struct str body)
{
    headers_set_status(h, 200);
    headers_set_id(h, HDR_CONTENT_TYPE, STR("application/grpc"));
    int code = r->grpc_status >= 0 ? r->grpc_status : grpc_status_of_http(status);
    headers_set_id(h, HDR_GRPC_STATUS, str_fmt(s->arena, "%d", code));
    if (!body.len) return;
    /* gRPC: percent-encoding keeps visible ASCII but "%". */
    headers_set_id(h, HDR_GRPC_MESSAGE,
                   percent_encode(s->arena, body, STR(" !\"#$&'()*+,/:;<=>?@[\\]^`{|}")));
}

static void local_reply_send(struct http_stream *s, struct headers *h, struct str body)
{
    bool end = body.len == 0 || s->is_head;
    s->info.resp = h;
    s->header_end[HTTP_ENCODE] = end;
    struct buf data = {0};
    bool direct = s->encoding || !s->chain_made;
    s->encoding = true;
    if (!end) buf_append_str(&data, body);
    if (direct) {
        stream_send_headers(s, h, end);
        if (!end) stream_send_data(s, &data, true);
        buf_release(&data);
        return;
    }
    chain_headers(s, HTTP_ENCODE, s->slot_count - 1, h, end);
    /* A filter may have answered otherwise by then. */
    if (!end && !s->over && s->info.resp == h)
        chain_data(s, HTTP_ENCODE, s->slot_count - 1, &data, true);
    buf_release(&data);
}

static void local_reply_tell_filters(struct http_stream *s, uint32_t status)
{
    for (uint16_t i = 0; i < s->slot_count; i++) {
        struct http_filter *f = s->slots[i].f;
        if (f && f->type->on_local_reply) f->type->on_local_reply(f, status);
    }
}

static void local_reply_body(struct headers *h, struct str body, struct str type)
{
    if (!body.len) {
        headers_remove_id(h, HDR_CONTENT_LENGTH);
        headers_remove_id(h, HDR_CONTENT_TYPE);
        return;
    }
    headers_set_id(h, HDR_CONTENT_LENGTH, str_fmt(h->arena, "%zu", body.len));
    headers_set_id(h, HDR_CONTENT_TYPE, type.len ? type : STR("text/plain"));
}

void stream_reply(struct http_stream *s, struct filter_slot *by, const struct local_reply *r)
{
    (void)by;
    if (s->over) return;
    s->info.flags |= r->flags;
    if (r->details.len) s->info.code_details = r->details;
    s->decode_cut = true;
    if (s->response_started) {
        stream_reset(s, RESET_LOCAL);
        return;
    }
    s->local_reply = s->info.local_reply = true;
    uint32_t status = r->status;
    if (status == 400) edge_close_after(s); /* Envoy: a bad message, whoever says so */
    s->info.response_code = status;
    local_reply_tell_filters(s, status);
    struct headers *h = headers_new(s->arena);
    struct str body = str_dup(s->arena, r->body);
    headers_set_status(h, status);
    /* Envoy: whoever answers for a forwarding route, its response header changes apply. */
    const struct route *route = s->route_known ? s->info.route : NULL;
    if (route && route->action == ROUTE_FORWARD)
        route_finalize_response(route, &s->choice, h, &s->info);
    if (r->edit) r->edit(r->edit_arg, h);
    struct str type = headers_get(h, HDR_CONTENT_TYPE);
    s->info.resp = h;
    local_reply_rewrite(s, h, &status, &body, &type);
    s->info.local_reply_body = body;
    if (s->is_grpc) {
        local_reply_grpc(s, h, r, status, body);
        body = STR_NONE;
    } else {
        local_reply_body(h, body, type);
    }
    local_reply_send(s, h, body);
    if (!s->over) stream_touch(s);
}

void stream_edit_location(void *arg, struct headers *h)
{
    const struct str *location = arg;
    headers_set_id(h, HDR_LOCATION, *location);
}
