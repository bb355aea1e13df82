/* Addresses, CIDR ranges and socket options: what listeners and clusters share. */
#include "proxy/api/conf_types.h"
#include "proxy/config/socket.h"

#include <limits.h>

#include "base/arena.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/config/core/v3/socket_option.pb-c.h"

enum { PIPE_PATH_MOST = 107 };

bool translate_socket_address(const struct conf_at *at,
                              const Envoy__Config__Core__V3__SocketAddress *m, struct addr *out)
{
    struct str text = str_of(m->address);
    if (m->resolver_name && m->resolver_name[0]) {
        struct conf_at field = conf_field(at, "resolver_name");
        return conf_fail(&field, "Unknown address resolver: %s", m->resolver_name);
    }
    if (m->port_specifier_case ==
        ENVOY__CONFIG__CORE__V3__SOCKET_ADDRESS__PORT_SPECIFIER_NAMED_PORT) {
        struct conf_at field = conf_field(at, "named_port");
        return conf_fail(&field, "an IP address needs a port number (port_value)");
    }
    if (!addr_parse_ip(text, (uint16_t)m->port_value, out)) {
        struct conf_at field = conf_field(at, "address");
        return conf_fail(&field, "malformed IP address: %.*s", STR_ARG(text));
    }
    if (m->ipv4_compat && (addr_is_v4(out) || !addr_is_any(out))) {
        struct conf_at field = conf_field(at, "ipv4_compat");
        return conf_fail(&field, "only the IPv6 address '::' can set ipv4_compat: %.*s",
                         STR_ARG(text));
    }
    if (m->network_namespace_filepath && m->network_namespace_filepath[0]) {
        struct conf_at field = conf_field(at, "network_namespace_filepath");
        return conf_fail(&field, "network namespaces are not supported");
    }
    return true;
}

static bool translate_pipe(const struct conf_at *at, const Envoy__Config__Core__V3__Pipe *m,
                           struct addr *out, uint32_t *mode)
{
    struct str path = str_of(m->path);
    if (path.len > PIPE_PATH_MOST || !addr_unix(path, out)) {
        struct conf_at field = conf_field(at, "path");
        return conf_fail(&field,
                         "Path \"%.*s\" exceeds maximum UNIX domain socket path size of 108.",
                         STR_ARG(path));
    }
    if (m->mode && path.len && path.ptr[0] == '@') {
        struct conf_at field = conf_field(at, "mode");
        return conf_fail(&field, "Cannot set mode for Abstract AF_UNIX sockets");
    }
    if (mode) *mode = m->mode;
    return true;
}

bool translate_address(const struct conf_at *at, const Envoy__Config__Core__V3__Address *m,
                       struct addr *out, uint32_t *pipe_mode)
{
    if (pipe_mode) *pipe_mode = 0;
    switch (m->address_case) {
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_SOCKET_ADDRESS: {
        struct conf_at field = conf_field(at, "socket_address");
        return translate_socket_address(&field, m->socket_address, out);
    }
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_PIPE: {
        struct conf_at field = conf_field(at, "pipe");
        return translate_pipe(&field, m->pipe, out, pipe_mode);
    }
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS_ENVOY_INTERNAL_ADDRESS: {
        struct conf_at field = conf_field(at, "envoy_internal_address");
        return conf_fail(&field, "internal addresses are not supported");
    }
    case ENVOY__CONFIG__CORE__V3__ADDRESS__ADDRESS__NOT_SET:
    default: return conf_fail(at, "an address is required");
    }
}

static bool int_in_range(const struct conf_at *at, const char *field, int64_t v)
{
    if (v >= INT_MIN && v <= INT_MAX) return true;
    struct conf_at place = conf_field(at, field);
    return conf_fail(&place, "must fit in an int");
}

static bool translate_option(const struct conf_at *at,
                             const Envoy__Config__Core__V3__SocketOption *m,
                             struct socket_option *out)
{
    bool is_int = m->value_case == ENVOY__CONFIG__CORE__V3__SOCKET_OPTION__VALUE_INT_VALUE;
    if (!int_in_range(at, "level", m->level) || !int_in_range(at, "name", m->name)) return false;
    if (is_int && !int_in_range(at, "int_value", m->int_value)) return false;
    out->level = (int)m->level;
    out->name = (int)m->name;
    out->state = (enum socket_state)m->state;
    out->is_int = is_int;
    if (is_int)
        out->value = (int)m->int_value;
    else
        out->bytes =
            str_dup(conf_arena(at), str_make((const char *)m->buf_value.data, m->buf_value.len));
    out->text = str_fmt(conf_arena(at), "socket option %d/%d", out->level, out->name);
    return true;
}

bool translate_socket_options(const struct conf_at *at, const char *field,
                              Envoy__Config__Core__V3__SocketOption *const *v, size_t count,
                              struct socket_options *out)
{
    struct socket_option *options = ARENA_ARRAY(conf_arena(at), struct socket_option, count);
    size_t used = 0;
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        struct conf_at place = conf_index(at, field, i);
        /* An option for the other kind of sockets only is none of ours. */
        const Envoy__Config__Core__V3__SocketOption__SocketType *type = v[i]->type;
        if (type && (type->datagram || type->stream) &&
            !(out->datagram ? (void *)type->datagram : (void *)type->stream))
            continue;
        if (translate_option(&place, v[i], &options[used]))
            used++;
        else
            ok = false;
    }
    out->v = options;
    out->count = used;
    return ok;
}

void translate_keepalive(const Envoy__Config__Core__V3__TcpKeepalive *m, struct socket_options *out)
{
    if (!m) return;
    out->keepalive = true;
    if (m->keepalive_probes) out->keepalive_probes = (int)(m->keepalive_probes->value & INT_MAX);
    if (m->keepalive_time) out->keepalive_time_s = (int)(m->keepalive_time->value & INT_MAX);
    if (m->keepalive_interval)
        out->keepalive_interval_s = (int)(m->keepalive_interval->value & INT_MAX);
}

bool conf_cidr(const struct conf_at *at, struct str ip, uint32_t bits, struct cidr *out)
{
    enum { V4_BITS = 32, V6_BITS = 128 };
    struct addr a;
    if (!addr_parse_ip(ip, 0, &a)) return conf_fail(at, "malformed IP address: %.*s", STR_ARG(ip));
    uint32_t most = addr_is_v4(&a) ? V4_BITS : V6_BITS;
    return cidr_make(ip, bits > most ? most : bits, out) || conf_fail(at, "bad range");
}

bool translate_cidr(const struct conf_at *at, const Envoy__Config__Core__V3__CidrRange *m,
                    struct cidr *out)
{
    struct conf_at field = conf_field(at, "address_prefix");
    return conf_cidr(&field, str_of(m->address_prefix), m->prefix_len ? m->prefix_len->value : 0,
                     out);
}
