/* Addresses as messages have them. */
#include "proxy/config/address_message.h"

#include "base/arena.h"

Envoy__Config__Core__V3__Address *address_message(struct arena *a, const struct addr *addr)
{
    char text[ADDR_TEXT_MAX];
    Envoy__Config__Core__V3__Address *m = ARENA_NEW(a, Envoy__Config__Core__V3__Address);
    envoy__config__core__v3__address__init(m);
    size_t len = addr_format_ip(addr, text);
    if (!addr_is_ip(addr)) {
        Envoy__Config__Core__V3__Pipe *pipe = ARENA_NEW(a, Envoy__Config__Core__V3__Pipe);
        envoy__config__core__v3__pipe__init(pipe);
        pipe->path = str_z(a, str_make(text, len));
        m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE;
        m->pipe = pipe;
        return m;
    }
    Envoy__Config__Core__V3__SocketAddress *s =
        ARENA_NEW(a, Envoy__Config__Core__V3__SocketAddress);
    envoy__config__core__v3__socket_address__init(s);
    s->address = str_z(a, str_make(text, len));
    s->port_specifier_case = ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_PORT_VALUE;
    s->port_value = addr_port(addr);
    m->address_case = ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS;
    m->socket_address = s;
    return m;
}
