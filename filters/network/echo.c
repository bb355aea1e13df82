/* envoy.filters.network.echo: sends back what it gets. */
#include "envoy/extensions/filters/network/echo/v3/echo.pb-c.h"
#include "proxy/api/network_filter.h"
#include "proxy/net/conn.h"

static enum net_flow echo_on_read(struct network_filter *f, struct buf *data, bool end)
{
    conn_write(f->conn, data, end);
    if (end) conn_close(f->conn, CONN_CLOSE_FLUSH);
    return NET_HOLD;
}

/* A client that does not read its echo is not read either. */
static void echo_on_watermark(struct network_filter *f, bool above)
{
    conn_pause_read(f->conn, above);
}

const struct network_filter_type network_echo = {
    .ext = {.name = "envoy.filters.network.echo",
            .config = &envoy__extensions__filters__network__echo__v3__echo__descriptor},
    .instance_size = sizeof(struct network_filter),
    .terminal = true,
    .on_read = echo_on_read,
    .on_watermark = echo_on_watermark,
};
