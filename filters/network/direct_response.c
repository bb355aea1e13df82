/* envoy.filters.network.direct_response: says a fixed text to every connection and closes it. */
#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/extensions/filters/network/direct_response/v3/config.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/network_filter.h"
#include "proxy/net/conn.h"

static const void *direct_response_conf(const struct conf_at *at,
                                        const struct ProtobufCMessage *msg,
                                        const struct network_filter_place *place)
{
    (void)place;
    const Envoy__Extensions__Filters__Network__DirectResponse__V3__Config *m = (const void *)msg;
    struct str *text = ARENA_NEW(conf_arena(at), struct str);
    struct conf_at field = conf_field(at, "response");
    if (m->response && !conf_data_source(&field, m->response, 0, text)) return NULL;
    return text;
}

static enum net_flow direct_response_on_new(struct network_filter *f)
{
    const struct str *text = f->conf;
    if (text->len) conn_write_str(f->conn, *text);
    conn_close(f->conn, CONN_CLOSE_FLUSH);
    return NET_HOLD;
}

const struct network_filter_type network_direct_response = {
    .ext = {.name = "envoy.filters.network.direct_response",
            .config =
                &envoy__extensions__filters__network__direct_response__v3__config__descriptor},
    .instance_size = sizeof(struct network_filter),
    .terminal = true,
    .conf_create = direct_response_conf,
    .on_new = direct_response_on_new,
};
