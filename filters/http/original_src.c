/* envoy.filters.http.original_src: the request's upstream connection comes from the client's
 * (trusted) address. */
#include "base/arena.h"
#include "envoy/extensions/filters/http/original_src/v3/original_src.pb-c.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"

struct source_conf {
    uint32_t mark;
};

static const void *original_src_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                       struct str stat_prefix)
{
    (void)stat_prefix;
    const Envoy__Extensions__Filters__Http__OriginalSrc__V3__OriginalSrc *m = (const void *)msg;
    struct source_conf *c = ARENA_NEW(conf_arena(at), struct source_conf);
    c->mark = m->mark;
    return c;
}

static enum http_flow original_src_decode(struct http_filter *f, struct headers *h, bool end)
{
    (void)h, (void)end;
    const struct source_conf *c = f->conf;
    struct stream_info *info = http_filter_info(f);
    if (!addr_is_ip(&info->remote)) return HTTP_CONTINUE;
    struct original_src *s = ARENA_NEW(http_filter_arena(f), struct original_src);
    s->from = info->remote;
    s->mark = c->mark;
    addr_set_port(&s->from, 0);
    info->original_src = s;
    return HTTP_CONTINUE;
}

const struct http_filter_type http_original_src = {
    .ext = {.name = "envoy.filters.http.original_src",
            .config =
                &envoy__extensions__filters__http__original_src__v3__original_src__descriptor},
    .instance_size = sizeof(struct http_filter),
    .conf_create = original_src_create,
    .decode_headers = original_src_decode,
};
