/* Translation of what listeners and clusters share: addresses, CIDR ranges, socket options. Main
 * thread only. */
#pragma once
#include "base/addr.h"
#include "proxy/api/conf.h"
#include "proxy/net/socket.h"

struct Envoy__Config__Core__V3__Address;
struct Envoy__Config__Core__V3__SocketAddress;
struct Envoy__Config__Core__V3__SocketOption;
struct Envoy__Config__Core__V3__TcpKeepalive;
struct Envoy__Config__Core__V3__CidrRange;
struct Envoy__Config__Core__V3__UdpSocketConfig;

/* An IP address with its port or a pipe; names are refused ("malformed IP address"). pipe_mode may
 * be NULL. */
bool translate_address(const struct conf_at *at, const struct Envoy__Config__Core__V3__Address *m,
                       struct addr *out, uint32_t *pipe_mode);
bool translate_socket_address(const struct conf_at *at,
                              const struct Envoy__Config__Core__V3__SocketAddress *m,
                              struct addr *out);
/* Adds to out->v (in the object's arena). `at` is the place of the repeated field's owner, `field`
 * its name. */
bool translate_socket_options(const struct conf_at *at, const char *field,
                              struct Envoy__Config__Core__V3__SocketOption *const *v, size_t count,
                              struct socket_options *out);
void translate_keepalive(const struct Envoy__Config__Core__V3__TcpKeepalive *m,
                         struct socket_options *out);
/* The longest datagram that is taken; m may be NULL. prefers_gro: the default of prefer_gro. */
size_t translate_udp_most(const struct Envoy__Config__Core__V3__UdpSocketConfig *m,
                          bool prefers_gro);
bool translate_cidr(const struct conf_at *at, const struct Envoy__Config__Core__V3__CidrRange *m,
                    struct cidr *out);
