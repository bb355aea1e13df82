/* envoy.service.status.v3.ClientStatusDiscoveryService: what POST /v3/discovery:client_status says,
 * for tools that speak gRPC. */
#include "server/status_service.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/arena.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/must.h"
#include "proto/decode.h"
#include "proxy/net/socket.h"
#include "server/server.h"
#include "xds/client_status.h"
#include "xds/grpc_server.h"

enum {
    STATUS_QUESTION_MOST = 64 * 1024,
    STATUS_ANSWER_MOST = 64 * 1024 * 1024, /* bytes; a client's own limit is 4 MiB as a rule */
    STATUS_CALLS_MOST = 16,
    STATUS_PAUSE_US = 100 * 1000 /* no descriptors left: look again after this */
};

struct status_service {
    struct server *server;
    struct grpc_service *grpc;
    struct loop_io io;
    struct loop_timer pause;
    struct addr addr;
};

static enum grpc_code status_answer(void *arg, struct arena *a, struct str question,
                                    struct str *answer)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    const struct status_service *t = arg;
    struct errors errors = {.arena = a};
    const ProtobufCMessage *q =
        proto_decode(a, &envoy__service__status__v3__client_status_request__descriptor, question,
                     &lenient, NULL, &errors);
    Envoy__Service__Status__V3__ClientStatusResponse *m =
        q ? client_status(t->server->xds, (const void *)q, a, &errors) : NULL;
    if (!m) {
        *answer = errors_text(&errors, a, STR("ClientStatusRequest"));
        return GRPC_CODE_INVALID_ARGUMENT;
    }
    client_status_redact(m, a);
    if (protobuf_c_message_get_packed_size(&m->base) > STATUS_ANSWER_MOST) {
        *answer = STR("the answer is over 64 MiB; ask with exclude_resource_contents");
        return GRPC_CODE_RESOURCE_EXHAUSTED;
    }
    *answer = proto_pack(a, &m->base);
    return GRPC_CODE_OK;
}

static const struct grpc_method status_methods[] = {
    {"/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus", false},
    {"/envoy.service.status.v3.ClientStatusDiscoveryService/StreamClientStatus", true},
};
static const struct grpc_service_def status_def = {.methods = status_methods,
                                                   .method_count = ARRAY_LEN(status_methods),
                                                   .question_most = STATUS_QUESTION_MOST,
                                                   .calls_most = STATUS_CALLS_MOST,
                                                   .answer = status_answer};

static void status_on_pause(struct loop_timer *t)
{
    loop_io_want(&CONTAINER_OF(t, struct status_service, pause)->io, LOOP_READ);
}

static void status_on_accept(struct loop_io *io, int ready)
{
    struct status_service *t = CONTAINER_OF(io, struct status_service, io);
    (void)ready;
    for (;;) {
        int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && errno == EINTR) continue;
        if (fd < 0 && errno != EAGAIN && errno != ECONNABORTED) {
            log_warn(LOG_C_ADMIN, "client status: accept: %s", strerror(errno));
            loop_io_want(io, 0);
            loop_timer_start(t->server->loop, &t->pause, STATUS_PAUSE_US, status_on_pause);
        }
        if (fd < 0) return;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* Unix: none */
        grpc_service_take(t->grpc, fd);
    }
}

bool status_service_start(struct server *s, struct status_service **out, struct errors *errors)
{
    const struct socket_listen how = {.addr = &s->options.client_status_address};
    char text[ADDR_TEXT_MAX];
    *out = NULL;
    if (!how.addr->len) return true;
    (void)addr_format(how.addr, text);
    int fd = socket_listen(&how);
    if (fd < 0)
        return errors_add(errors, STR_NONE, "--client-status-address: cannot bind '%s': %s", text,
                          strerror(-fd));
    struct status_service *t = mem_alloc(sizeof *t);
    t->server = s;
    t->addr = *how.addr;
    (void)socket_local(fd, &t->addr); /* the real port; else as given */
    t->grpc = grpc_service_new(s->loop, &status_def, t);
    loop_io_init(&t->io, s->loop, fd, status_on_accept);
    loop_io_want(&t->io, LOOP_READ);
    *out = t;
    (void)addr_format(&t->addr, text);
    log_info(LOG_C_ADMIN, "client status address: %s", text);
    return true;
}

void status_service_stop(struct status_service **service)
{
    struct status_service *t = *service;
    *service = NULL;
    if (!t) return;
    loop_timer_stop(&t->pause);
    loop_io_want(&t->io, 0);
    (void)close(t->io.fd);
    grpc_service_free(&t->grpc);
    if (t->addr.sa.any.sa_family == AF_UNIX && t->addr.sa.un.sun_path[0])
        (void)unlink(t->addr.sa.un.sun_path); /* gone already is fine */
    mem_free(t);
}
