/* Sockets: opening, options by state, binding and listening. */
#include "proxy/net/socket.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "proxy/net/datagram.h"

int socket_open(const struct addr *like)
{
    int fd = socket(like->sa.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (addr_is_ip(like)) {
        int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
                         sizeof(on)); /* a TCP socket always has it */
    }
    return fd;
}

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

static int apply_one(int fd, const struct socket_option *o)
{
    if (o->is_int) return set_int(fd, o->level, o->name, o->value);
    return setsockopt(fd, o->level, o->name, o->bytes.ptr, (socklen_t)o->bytes.len) == 0 ? 0
                                                                                         : -errno;
}

static int apply_keepalive(int fd, const struct socket_options *o)
{
    if (!o->keepalive) return 0;
    int r = set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (r == 0 && o->keepalive_probes)
        r = set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, o->keepalive_probes);
    if (r == 0 && o->keepalive_time_s)
        r = set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, o->keepalive_time_s);
    if (r == 0 && o->keepalive_interval_s)
        r = set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, o->keepalive_interval_s);
    return r;
}

static int socket_family(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0) return AF_UNSPEC;
    return a.ss_family;
}

static int apply_transparent(int fd, const struct socket_options *o)
{
    bool v6 = (o->freebind || o->transparent) && socket_family(fd) == AF_INET6;
    int r = 0;
    if (o->freebind)
        r = v6 ? set_int(fd, IPPROTO_IPV6, IPV6_FREEBIND, 1)
               : set_int(fd, IPPROTO_IP, IP_FREEBIND, 1);
    if (r == 0 && o->transparent) {
        r = v6 ? set_int(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1)
               : set_int(fd, IPPROTO_IP, IP_TRANSPARENT, 1);
    }
    return r;
}

static int apply_prebind(int fd, const struct socket_options *o, struct str *which)
{
    int r = apply_keepalive(fd, o);
    if (r) *which = STR("tcp_keepalive");
    if (r == 0) {
        r = apply_transparent(fd, o);
        if (r) *which = o->freebind ? STR("freebind") : STR("transparent");
    }
    if (r == 0 && o->mark) {
        r = set_int(fd, SOL_SOCKET, SO_MARK, o->mark);
        if (r) *which = STR("mark");
    }
    return r;
}

int socket_apply(int fd, const struct socket_options *opts, enum socket_state state,
                 struct str *which)
{
    struct str ignored = STR_NONE;
    if (!which) which = &ignored;
    if (!opts) return 0;
    if (state == SOCKET_PREBIND) {
        int r = apply_prebind(fd, opts, which);
        if (r) return r;
    }
    for (size_t i = 0; i < opts->count; i++) {
        if (opts->v[i].state != state) continue;
        int r = apply_one(fd, &opts->v[i]);
        if (r == 0) continue;
        *which = opts->v[i].text;
        return r;
    }
    if (state == SOCKET_LISTENING && opts->fast_open) {
        int r = set_int(fd, IPPROTO_TCP, TCP_FASTOPEN, opts->fast_open);
        if (r) *which = STR("tcp_fast_open_queue_length");
        return r;
    }
    return 0;
}

/* A path that a dead process left is removed; one that somebody listens on stays, so that bind()
 * fails as for a port. */
static void remove_stale_path(const struct addr *a)
{
    const char *path = a->sa.un.sun_path;
    struct stat st;
    if (path[0] == '\0' || stat(path, &st) != 0 || !S_ISSOCK(st.st_mode)) return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    bool dead = connect(fd, &a->sa.any, a->len) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    if (dead) (void)unlink(path); /* bind() tells if that did not work */
}

static int bind_and_listen(int fd, const struct socket_listen *how)
{
    int r = 0;
    bool ip = addr_is_ip(how->addr);
    if (ip && !how->datagram) r = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    /* The kernel may choose the port of another datagram socket that has the option already. */
    bool late = how->datagram && ip && addr_port(how->addr) == 0;
    if (r == 0 && ip && how->reuse_port && !late) r = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (r == 0 && how->addr->sa.any.sa_family == AF_INET6) {
        r = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !(how->opts && how->opts->v6_only_off));
    }
    if (r == 0) r = socket_apply(fd, how->opts, SOCKET_PREBIND, NULL);
    if (!ip) remove_stale_path(how->addr);
    if (r == 0 && bind(fd, &how->addr->sa.any, how->addr->len) != 0) r = -errno;
    if (r == 0 && !ip && how->pipe_mode && how->addr->sa.un.sun_path[0] &&
        chmod(how->addr->sa.un.sun_path, (mode_t)how->pipe_mode) != 0) {
        r = -errno;
    }
    if (r == 0) r = socket_apply(fd, how->opts, SOCKET_BOUND, NULL);
    if (r == 0 && how->reuse_port && late) r = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (r == 0 && how->datagram) return datagram_want_facts(fd, how->addr, addr_is_any(how->addr));
    if (r == 0 && listen(fd, how->backlog ? how->backlog : SOMAXCONN) != 0) r = -errno;
    if (r == 0) r = socket_apply(fd, how->opts, SOCKET_LISTENING, NULL);
    return r;
}

int socket_listen(const struct socket_listen *how)
{
    int fd = how->datagram ? datagram_open(how->addr) : socket_open(how->addr);
    if (fd < 0) return fd;
    int r = bind_and_listen(fd, how);
    if (r == 0) return fd;
    (void)close(fd);
    return r;
}

bool socket_local(int fd, struct addr *out)
{
    out->len = sizeof(out->sa);
    if (getsockname(fd, &out->sa.any, &out->len) == 0) return true;
    out->len = 0;
    return false;
}

bool socket_peer(int fd, struct addr *out)
{
    out->len = sizeof(out->sa);
    if (getpeername(fd, &out->sa.any, &out->len) == 0) return true;
    out->len = 0;
    return false;
}

bool socket_original_dst(int fd, const struct addr *local, struct addr *out)
{
    enum {
        IP6T_ORIGINAL_DST = 80
    }; /* linux/netfilter_ipv6/ip6_tables.h, which does not compile with netinet/in.h */
    if (!addr_is_ip(local)) return false;
    out->len = sizeof(out->sa);
    int r = addr_is_v4(local)
                ? getsockopt(fd, IPPROTO_IP, SO_ORIGINAL_DST, &out->sa, &out->len)
                : getsockopt(fd, IPPROTO_IPV6, IP6T_ORIGINAL_DST, &out->sa, &out->len);
    if (r == 0) return true;
    out->len = 0;
    return false;
}

struct str socket_machine_ip(struct arena *a)
{
    struct ifaddrs *all = NULL;
    struct str found = STR_NONE;
    if (getifaddrs(&all) != 0) return found;
    for (const struct ifaddrs *i = all; i && found.len == 0; i = i->ifa_next) {
        if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET) continue;
        struct addr x = {.len = sizeof(x.sa.v4)};
        char text[ADDR_TEXT_MAX];
        memcpy(&x.sa.v4, i->ifa_addr, sizeof(x.sa.v4));
        if (!addr_is_loopback(&x)) found = str_dup(a, str_make(text, addr_format_ip(&x, text)));
    }
    freeifaddrs(all);
    return found;
}
