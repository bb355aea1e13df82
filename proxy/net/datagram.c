/* Datagrams: sockets, reading and writing in batches. */
#include "proxy/net/datagram.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/must.h"
#include "proxy/net/conn_internal.h"

enum {
    BUFFER_SIZE = 1024 * 1024, /* of a worker, for one batch; only what is used becomes memory */
    CONTROL_SIZE = 256,
    DATAGRAM_MOST = 65535
};

int datagram_open(const struct addr *like)
{
    int fd = socket(like->sa.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int set_on(int fd, int level, int name)
{
    int on = 1;
    return setsockopt(fd, level, name, &on, sizeof(on)) == 0 ? 0 : -errno;
}

int datagram_want_facts(int fd, const struct addr *like, bool destination)
{
    int r = set_on(fd, SOL_SOCKET, SO_RXQ_OVFL);
    if (r || !destination) return r;
    if (addr_is_v4(like)) return set_on(fd, IPPROTO_IP, IP_PKTINFO);
    return set_on(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO);
}

/* --- reading
 * -------------------------------------------------------------------------------------- */

static void facts_of(struct msghdr *m, struct datagram *d, struct datagram_batch *out)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
            memcpy(&out->lost, CMSG_DATA(c), sizeof(out->lost));
            out->has_lost = true;
        } else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            d->to.sa.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = info.ipi_addr};
            d->to.len = sizeof(d->to.sa.v4);
        } else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(c), sizeof(info));
            d->to.sa.v6 =
                (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = info.ipi6_addr};
            d->to.len = sizeof(d->to.sa.v6);
        }
    }
}

struct read_space {
    struct mmsghdr m[DATAGRAM_BATCH];
    struct iovec iov[DATAGRAM_BATCH];
    _Alignas(struct cmsghdr) char control[DATAGRAM_BATCH][CONTROL_SIZE];
};

int datagram_read(struct worker *w, int fd, size_t most, struct datagram_batch *out)
{
    struct net_worker *n = net_worker(w);
    struct read_space s;
    if (!n->datagrams) n->datagrams = mem_alloc(BUFFER_SIZE);
    if (most > DATAGRAM_MOST) most = DATAGRAM_MOST;
    size_t room = BUFFER_SIZE / most < DATAGRAM_BATCH ? BUFFER_SIZE / most : DATAGRAM_BATCH;
    out->count = 0;
    out->has_lost = false;
    memset(s.m, 0, sizeof(s.m));
    for (size_t i = 0; i < room; i++) {
        s.iov[i] = (struct iovec){.iov_base = n->datagrams + i * most, .iov_len = most};
        s.m[i].msg_hdr = (struct msghdr){.msg_name = &out->v[i].from.sa,
                                         .msg_namelen = sizeof(out->v[i].from.sa),
                                         .msg_iov = &s.iov[i],
                                         .msg_iovlen = 1,
                                         .msg_control = s.control[i],
                                         .msg_controllen = CONTROL_SIZE};
    }
    int got;
    do
        got = recvmmsg(fd, s.m, (unsigned)room, MSG_DONTWAIT, NULL);
    while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    for (size_t i = 0; i < (size_t)got; i++) {
        struct datagram *d = &out->v[i];
        struct msghdr *m = &s.m[i].msg_hdr;
        d->from.len = m->msg_namelen;
        d->to.len = 0;
        d->bytes = str_make(n->datagrams + i * most, s.m[i].msg_len);
        d->cut = (m->msg_flags & MSG_TRUNC) != 0;
        facts_of(m, d, out);
    }
    out->count = (size_t)got;
    out->full = out->count == room;
    return 0;
}

/* --- writing
 * -------------------------------------------------------------------------------------- */

/* The source address as control data. */
static size_t source_control(const struct addr *from, char *control)
{
    struct cmsghdr *c = (struct cmsghdr *)(void *)control;
    if (from->sa.any.sa_family == AF_INET6) {
        struct in6_pktinfo info = {.ipi6_addr = from->sa.v6.sin6_addr};
        *c = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6,
                              .cmsg_type = IPV6_PKTINFO,
                              .cmsg_len = CMSG_LEN(sizeof(info))};
        memcpy(CMSG_DATA(c), &info, sizeof(info));
        return CMSG_SPACE(sizeof(info));
    }
    struct in_pktinfo info = {.ipi_spec_dst = from->sa.v4.sin_addr};
    *c = (struct cmsghdr){
        .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof(info))};
    memcpy(CMSG_DATA(c), &info, sizeof(info));
    return CMSG_SPACE(sizeof(info));
}

static size_t send_some(int fd, const struct addr *to, void *control, size_t control_len,
                        const struct str *v, size_t count)
{
    struct mmsghdr m[DATAGRAM_BATCH] = {0};
    struct iovec iov[DATAGRAM_BATCH];
    for (size_t i = 0; i < count; i++) {
        iov[i] = (struct iovec){.iov_base = (void *)(uintptr_t)v[i].ptr, .iov_len = v[i].len};
        m[i].msg_hdr = (struct msghdr){.msg_name = to ? (void *)(uintptr_t)&to->sa : NULL,
                                       .msg_namelen = to ? to->len : 0,
                                       .msg_iov = &iov[i],
                                       .msg_iovlen = 1,
                                       .msg_control = control_len ? control : NULL,
                                       .msg_controllen = control_len};
    }
    int sent;
    do
        sent = sendmmsg(fd, m, (unsigned)count, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? 0 : (size_t)sent;
}

size_t datagram_send(int fd, const struct addr *to, const struct addr *from, const struct str *v,
                     size_t count)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in6_pktinfo))] = {0};
    size_t control_len = from ? source_control(from, control) : 0, done = 0;
    while (done < count) {
        size_t some = count - done < DATAGRAM_BATCH ? count - done : DATAGRAM_BATCH;
        size_t sent = send_some(fd, to, control, control_len, v + done, some);
        done += sent;
        if (sent < some) break;
    }
    return done;
}
