/* envoy.transport_sockets.raw_buffer: plain bytes. A connection without a transport's own state
 * reads and writes its socket itself, so all that there is to do is to say so. */
#include "base/arena.h"
#include "envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.pb-c.h"
#include "proxy/api/transport_socket.h"

extern const struct transport_socket_type raw_buffer_type;

static const struct transport_socket *raw_buffer_create(const struct conf_at *at,
                                                        const struct ProtobufCMessage *msg,
                                                        bool downstream)
{
    (void)msg;
    (void)downstream;
    struct transport_socket *ts = ARENA_NEW(conf_arena(at), struct transport_socket);
    ts->type = &raw_buffer_type;
    ts->protocol = STR("raw_buffer");
    return ts;
}

const struct transport_socket_type raw_buffer_type = {
    .ext = {.name = "envoy.transport_sockets.raw_buffer",
            .config =
                &envoy__extensions__transport_sockets__raw_buffer__v3__raw_buffer__descriptor},
    .conf_create = raw_buffer_create,
};
