/* envoy.filters.http.buffer: waits for the whole request before it goes on, so that slow clients do
 * not occupy an upstream. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/filters/http/buffer/v3/buffer.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"

struct buffer_conf {
    uint32_t most;
    bool disabled;
};
struct buffer_filter {
    struct http_filter base;
    uint64_t seen;
};

static const void *buffer_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                      struct str stat_prefix)
{
    (void)stat_prefix;
    const Envoy__Extensions__Filters__Http__Buffer__V3__Buffer *m = (const void *)msg;
    struct buffer_conf *c = ARENA_NEW(conf_arena(at), struct buffer_conf);
    c->most = m->max_request_bytes->value;
    return c;
}

static const void *buffer_route_conf_create(const struct conf_at *at,
                                            const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__Buffer__V3__BufferPerRoute *m = (const void *)msg;
    struct buffer_conf *c = ARENA_NEW(conf_arena(at), struct buffer_conf);
    c->disabled = m->override_case ==
                  ENVOY__EXTENSIONS__FILTERS__HTTP__BUFFER__V3__BUFFER_PER_ROUTE__OVERRIDE_DISABLED;
    if (!c->disabled) c->most = m->buffer->max_request_bytes->value;
    return c;
}

static const struct buffer_conf *buffer_conf_of(const struct http_filter *f)
{
    return f->route_conf ? f->route_conf : f->conf;
}

static enum http_flow buffer_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)h;
    (void)http_filter_route(f); /* route_conf is that of the route from here on */
    return end || buffer_conf_of(f)->disabled ? HTTP_CONTINUE : HTTP_HOLD;
}

static enum http_flow buffer_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct buffer_filter *me = CONTAINER_OF(f, struct buffer_filter, base);
    const struct buffer_conf *c = buffer_conf_of(f);
    if (c->disabled) return HTTP_CONTINUE;
    me->seen += buf_len(data);
    if (me->seen > c->most) {
        struct local_reply reply = {.status = 413,
                                    .body = STR("Payload Too Large"),
                                    .details = STR("request_payload_too_large"),
                                    .grpc_status = -1};
        http_filter_reply(f, &reply);
        return HTTP_BUFFER;
    }
    if (!end) return HTTP_BUFFER;
    /* Envoy: the length is known now */
    struct headers *h = http_filter_info(f)->req;
    if (!headers_has(h, HDR_CONTENT_LENGTH)) {
        headers_set_id(h, HDR_CONTENT_LENGTH,
                       str_fmt(http_filter_arena(f), "%llu", (unsigned long long)me->seen));
    }
    return HTTP_CONTINUE;
}

const struct http_filter_type http_buffer = {
    .ext = {.name = "envoy.filters.http.buffer",
            .config = &envoy__extensions__filters__http__buffer__v3__buffer__descriptor},
    .route_config = &envoy__extensions__filters__http__buffer__v3__buffer_per_route__descriptor,
    .instance_size = sizeof(struct buffer_filter),
    .conf_create = buffer_conf_create,
    .route_conf_create = buffer_route_conf_create,
    .decode_headers = buffer_decode_headers,
    .decode_data = buffer_decode_data,
};
