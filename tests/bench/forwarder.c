/* The floor beside which `./dev bench tcp` shows the proxies: a forwarder of raw bytes with nothing
 * that is not a system call, so no routes, limits, timeouts, logs or statistics. What it costs is
 * the kernel's part, which any proxy pays that copies through user space.
 *
 * forwarder PORT ORIGIN_PORT; listens on 127.0.0.1. Not fit for anything but this: its sockets
 * block, and either side's end ends both. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FD_MOST = 4096, CHUNK = 128 * 1024, EVENTS = 64 };

struct forwarder {
    int epoll, listening;
    struct sockaddr_in origin;
    int other[FD_MOST]; /* by descriptor; 0: closed */
    char bytes[CHUNK];
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static struct sockaddr_in loopback(const char *port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_addr = {htonl(INADDR_LOOPBACK)},
                                .sin_port = htons((uint16_t)strtoul(port, NULL, 10))};
}

static void watch(struct forwarder *f, int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &e) != 0) fail("epoll_ctl");
}

/* Connects at once: the origin is on this machine. */
static void take(struct forwarder *f, int down)
{
    int up = socket(AF_INET, SOCK_STREAM, 0);
    if (up < 0 || up >= FD_MOST || down >= FD_MOST) fail("socket");
    if (connect(up, (struct sockaddr *)&f->origin, sizeof f->origin) != 0) fail("connect");
    f->other[down] = up;
    f->other[up] = down;
    watch(f, down);
    watch(f, up);
}

static void end(struct forwarder *f, int fd)
{
    int other = f->other[fd];
    f->other[fd] = f->other[other] = 0;
    (void)close(fd);
    (void)close(other);
}

static void forward(struct forwarder *f, int fd)
{
    if (f->other[fd] == 0) return; /* closed by an earlier event of this turn */
    ssize_t n = recv(fd, f->bytes, sizeof f->bytes, 0);
    if (n <= 0) {
        end(f, fd);
        return;
    }
    for (ssize_t sent = 0; sent < n;) {
        ssize_t w = send(f->other[fd], f->bytes + sent, (size_t)(n - sent), MSG_NOSIGNAL);
        if (w < 0) {
            end(f, fd);
            return;
        }
        sent += w;
    }
}

int main(int argc, char **argv)
{
    static struct forwarder f;
    if (argc != 3) fail("forwarder PORT ORIGIN_PORT");
    struct sockaddr_in address = loopback(argv[1]);
    f.origin = loopback(argv[2]);
    f.epoll = epoll_create1(0);
    f.listening = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    (void)setsockopt(f.listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(f.listening, (struct sockaddr *)&address, sizeof address) != 0) fail("bind");
    if (listen(f.listening, FD_MOST) != 0) fail("listen");
    watch(&f, f.listening);
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(f.epoll, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != f.listening) {
                forward(&f, events[i].data.fd);
                continue;
            }
            int down = accept(f.listening, NULL, NULL);
            if (down >= 0) take(&f, down);
        }
    }
}
