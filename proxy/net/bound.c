/* Listening sockets by address: bound on main, watched by workers, closed by main when nobody
 * watches them any more. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/must.h"
#include "proxy/net/listener_internal.h"

static void bound_close(struct bound *b)
{
    for (size_t i = 0; i < b->fd_count; i++) {
        if (b->fds[i] >= 0) (void)close(b->fds[i]);
    }
    if (b->addr.sa.any.sa_family == AF_UNIX && b->addr.sa.un.sun_path[0])
        (void)unlink(b->addr.sa.un.sun_path);
    mem_free(b->fds);
    mem_free(b);
}

struct bound *bound_new(struct runtime *rt, const struct listener_base *base,
                        const struct listener_address *a, int *err)
{
    struct bound *b = mem_alloc(sizeof(*b));
    b->rt = rt;
    b->holders = 1;
    b->addr = a->addr;
    b->reuse_port = base->reuse_port && addr_is_ip(&a->addr);
    size_t count = b->reuse_port ? rt->concurrency : 1;
    b->fds = mem_array(count, sizeof(*b->fds));
    for (size_t i = 0; i < count; i++) {
        /* From the second on b->addr has the port that the first one got. */
        struct socket_listen how = {.addr = &b->addr,
                                    .opts = &a->options,
                                    .reuse_port = b->reuse_port,
                                    .datagram = base->udp != NULL,
                                    .backlog = base->backlog,
                                    .pipe_mode = a->pipe_mode};
        int fd = socket_listen(&how);
        if (fd < 0) {
            *err = fd;
            if (i == 0)
                b->addr.len = 0, b->addr.sa.any.sa_family = AF_UNSPEC; /* not ours to unlink */
            bound_close(b);
            return NULL;
        }
        b->fds[b->fd_count++] = fd;
        if (i == 0 && addr_is_ip(&b->addr)) (void)socket_local(fd, &b->addr);
    }
    return b;
}

void bound_unref(struct bound **bp)
{
    struct bound *b = *bp;
    *bp = NULL;
    if (b && --b->holders == 0) bound_close(b);
}
