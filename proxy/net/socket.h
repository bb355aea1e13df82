/* Sockets: opening, options by state, binding and listening. Any thread; nothing blocks. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/addr.h"
#include "base/str.h"

/* When an option is set: before bind(), after it, after listen(). The numbers are
 * envoy.config.core.v3.SocketOption.SocketState's. */
enum socket_state { SOCKET_PREBIND = 0, SOCKET_BOUND = 1, SOCKET_LISTENING = 2 };
/* One setsockopt() of a configured SocketOption. */
struct arena;

struct socket_option {
    int level, name;
    bool is_int;
    int value;        /* is_int */
    struct str bytes; /* else */
    enum socket_state state;
    struct str text; /* its description, for errors */
};
/* All options of a socket; zero is "none". The texts and arrays live with the configuration. */
struct socket_options {
    const struct socket_option *v;
    size_t count;
    bool keepalive; /* SO_KEEPALIVE with the three below (0: the system's) */
    int keepalive_probes, keepalive_time_s, keepalive_interval_s;
    bool datagram; /* options for datagram sockets are meant, those for streams are not */
    bool freebind, transparent, v6_only_off; /* v6_only_off: "::" takes IPv4, too */
    int mark;                                /* SO_MARK; 0: none */
    int fast_open;                           /* TCP_FASTOPEN queue; 0: off */
};

/* A non-blocking, close-on-exec stream socket for addresses like `like`; negative errno. */
int socket_open(const struct addr *like);
/* Sets the options of that state; negative errno of the first that fails, its text in *which (may
 * be NULL). opts may be NULL. */
int socket_apply(int fd, const struct socket_options *opts, enum socket_state state,
                 struct str *which);
/* What a listening socket needs. */
struct socket_listen {
    const struct addr *addr;
    const struct socket_options *opts; /* may be NULL */
    bool reuse_port;
    bool datagram;      /* UDP: nothing to listen on */
    int backlog;        /* 0: the system's limit */
    uint32_t pipe_mode; /* chmod of a Unix socket's path; 0: as it comes */
};
/* Binds and listens; gives back the descriptor or a negative errno. A stale Unix path is removed
 * first. */
int socket_listen(const struct socket_listen *how);
/* The bound address (port 0 resolved); false on failure. */
bool socket_local(int fd, struct addr *out);
bool socket_peer(int fd, struct addr *out);
/* The destination before an iptables REDIRECT (SO_ORIGINAL_DST); false when there is none. */
bool socket_original_dst(int fd, const struct addr *local, struct addr *out);
/* The machine's first IPv4 address that is no loopback one, copied to the arena; empty: none. Asked
 * when configuration is made. */
struct str socket_machine_ip(struct arena *a);
