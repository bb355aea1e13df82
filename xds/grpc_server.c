/* The server's half of gRPC core. As in grpc_stream.c each batch in flight has a tag of its own,
 * which the queue's thread posts to main as a mail; a call's memory lives until its last tag came
 * back. One unborn call always waits for the next client. */
#include "xds/grpc_server.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/arena.h"
#include "base/loop.h"
#include "base/must.h"

enum {
    CALLS_PER_CONN_MOST = 32,
    KEEPALIVE_MS = 60 * 1000,      /* a client that vanished gives its calls back */
    KEEPALIVE_WAIT_MS = 20 * 1000, /* for the answer to a ping */
    IDLE_MS = 300 * 1000,          /* a connection without calls */
    STATUS_TEXT_MOST = 1024        /* bytes: it goes as a header */
};

enum call_op { CALL_NEW, CALL_CLOSE, CALL_READ, CALL_SEND, CALL_STATUS, CALL_OPS };

struct service_tag {
    struct mail mail;
    void *owner; /* the call; the service for its end */
    enum call_op op;
    bool ok;
    atomic_bool given; /* as grpc_op_tag */
};

struct grpc_service {
    struct loop *main;
    const struct grpc_service_def *def;
    void *arg;
    grpc_server *server;
    grpc_server_credentials *creds;
    grpc_completion_queue *queue;
    pthread_t thread;
    struct service_tag end;
    size_t calls;  /* whose memory is alive, the unborn one included */
    size_t served; /* of those that were not refused */
    bool stopping, ended;
};

struct service_call {
    struct grpc_service *service;
    const struct grpc_method *method; /* NULL: refused */
    grpc_call *call;
    grpc_call_details details;
    grpc_metadata_array metadata;
    struct service_tag tags[CALL_OPS];
    unsigned busy;
    bool begun, finished; /* our headers, our status were given to gRPC */
    grpc_byte_buffer *received;
    grpc_slice text;
    int cancelled;
};

static void *service_queue_thread(void *arg)
{
    struct grpc_service *s = arg;
    for (;;) {
        grpc_event e =
            grpc_completion_queue_next(s->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN) return NULL;
        if (e.type != GRPC_OP_COMPLETE) continue;
        struct service_tag *tag = e.tag;
        (void)atomic_load_explicit(&tag->given, memory_order_acquire);
        tag->ok = e.success != 0;
        loop_post(s->main, &tag->mail);
    }
}

/* --- a call
 * --------------------------------------------------------------------------------------------------
 */

static struct service_tag *call_tag(struct service_call *c, enum call_op op)
{
    struct service_tag *tag = &c->tags[op];
    c->busy++;
    atomic_store_explicit(&tag->given, true, memory_order_release);
    return tag;
}

static void call_batch(struct service_call *c, enum call_op op, const grpc_op *ops, size_t count)
{
    grpc_call_error e = grpc_call_start_batch(c->call, ops, count, call_tag(c, op), NULL);
    must(e == GRPC_CALL_OK);
}

static void call_read(struct service_call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->received};
    call_batch(c, CALL_READ, &op, 1);
}

/* Headers go with what is sent first. */
static size_t call_begin(struct service_call *c, grpc_op *ops)
{
    if (c->begun) return 0;
    c->begun = true;
    ops[0] = (grpc_op){.op = GRPC_OP_SEND_INITIAL_METADATA};
    return 1;
}

static void call_finish(struct service_call *c, enum grpc_code code, struct str text)
{
    grpc_op ops[2];
    size_t n = call_begin(c, ops);
    if (text.len > STATUS_TEXT_MOST) text.len = STATUS_TEXT_MOST;
    c->finished = true;
    c->text = grpc_slice_from_copied_buffer(text.ptr ? text.ptr : "", text.len);
    ops[n++] = (grpc_op){.op = GRPC_OP_SEND_STATUS_FROM_SERVER,
                         .data.send_status_from_server = {.status = (grpc_status_code)code,
                                                          .status_details = &c->text}};
    call_batch(c, CALL_STATUS, ops, n);
}

static void call_send(struct service_call *c, struct str bytes)
{
    grpc_op ops[2];
    size_t n = call_begin(c, ops);
    grpc_slice slice = grpc_slice_from_copied_buffer(bytes.ptr ? bytes.ptr : "", bytes.len);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    ops[n++] = (grpc_op){.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message};
    call_batch(c, CALL_SEND, ops, n);
    grpc_byte_buffer_destroy(message);
    grpc_slice_unref(slice);
}

static void call_answer(struct service_call *c, struct str question)
{
    struct arena *a = arena_new("grpc answer", 0);
    struct str answer = STR_NONE;
    enum grpc_code code = c->service->def->answer(c->service->arg, a, question, &answer);
    if (code == GRPC_CODE_OK)
        call_send(c, answer);
    else
        call_finish(c, code, answer);
    arena_free(&a);
}

static void call_received(struct service_call *c)
{
    grpc_byte_buffer *message = c->received;
    grpc_byte_buffer_reader reader;
    c->received = NULL;
    if (!message) { /* the client's end, or the call's */
        if (c->method->streams)
            call_finish(c, GRPC_CODE_OK, STR_NONE);
        else
            call_finish(c, GRPC_CODE_INVALID_ARGUMENT, STR("a message was expected"));
        return;
    }
    bool ok = grpc_byte_buffer_reader_init(&reader, message);
    grpc_slice all = ok ? grpc_byte_buffer_reader_readall(&reader) : grpc_empty_slice();
    if (ok) grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(message);
    struct str bytes = {(const char *)GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all)};
    if (!ok)
        call_finish(c, GRPC_CODE_INVALID_ARGUMENT, STR("the message cannot be read"));
    else if (c->service->stopping)
        call_finish(c, GRPC_CODE_UNAVAILABLE, STR("shutting down"));
    else
        call_answer(c, bytes);
    grpc_slice_unref(all);
}

static void call_sent(struct service_call *c, bool ok)
{
    if (ok && c->method->streams)
        call_read(c);
    else
        call_finish(c, GRPC_CODE_OK, STR_NONE); /* not ok: the client is gone, nobody sees it */
}

static void call_free(struct service_call *c)
{
    c->service->calls--;
    if (c->method) c->service->served--;
    if (c->call) grpc_call_unref(c->call);
    if (c->received) grpc_byte_buffer_destroy(c->received);
    grpc_slice_unref(c->text);
    grpc_call_details_destroy(&c->details);
    grpc_metadata_array_destroy(&c->metadata);
    mem_free(c);
}

static const struct grpc_method *service_method(const struct grpc_service *s, grpc_slice path)
{
    struct str wanted = {(const char *)GRPC_SLICE_START_PTR(path), GRPC_SLICE_LENGTH(path)};
    for (size_t i = 0; i < s->def->method_count; i++)
        if (str_eq(str_of(s->def->methods[i].path), wanted)) return &s->def->methods[i];
    return NULL;
}

static void call_open(struct service_call *c)
{
    struct grpc_service *s = c->service;
    grpc_op close = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                     .data.recv_close_on_server.cancelled = &c->cancelled};
    const struct grpc_method *method = service_method(s, c->details.method);
    call_batch(c, CALL_CLOSE, &close, 1);
    if (!method) {
        call_finish(c, GRPC_CODE_UNIMPLEMENTED, STR("no such method"));
    } else if (s->served >= s->def->calls_most) {
        call_finish(c, GRPC_CODE_RESOURCE_EXHAUSTED, STR("too many calls at once"));
    } else {
        c->method = method;
        s->served++;
        call_read(c);
    }
}

static void service_expect(struct grpc_service *s);

static void call_done(struct mail *mail)
{
    struct service_tag *tag = CONTAINER_OF(mail, struct service_tag, mail);
    struct service_call *c = tag->owner;
    c->busy--;
    switch (tag->op) {
    case CALL_NEW:
        if (!c->service->stopping) service_expect(c->service);
        if (tag->ok) call_open(c);
        break;
    case CALL_READ: call_received(c); break;
    case CALL_SEND: call_sent(c, tag->ok); break;
    case CALL_CLOSE: /* whatever is under way fails and ends the call */
    case CALL_STATUS: break;
    case CALL_OPS: must(false);
    }
    if (c->busy == 0) call_free(c);
}

/* --- the service
 * ---------------------------------------------------------------------------------------------
 */

static void service_expect(struct grpc_service *s)
{
    struct service_call *c = mem_alloc(sizeof *c);
    c->service = s;
    c->text = grpc_empty_slice();
    grpc_call_details_init(&c->details);
    grpc_metadata_array_init(&c->metadata);
    for (int op = 0; op < CALL_OPS; op++) {
        c->tags[op].mail.deliver = call_done;
        c->tags[op].owner = c;
        c->tags[op].op = (enum call_op)op;
    }
    s->calls++;
    grpc_call_error e = grpc_server_request_call(s->server, &c->call, &c->details, &c->metadata,
                                                 s->queue, s->queue, call_tag(c, CALL_NEW));
    must(e == GRPC_CALL_OK);
}

/* gRPC's argument structs want writable strings but only read them. */
static grpc_arg service_arg(const char *key, int value)
{
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_server *service_server(const struct grpc_service_def *def)
{
    grpc_arg args[] = {
        service_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, def->question_most),
        service_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1), /* the service's own limit is there */
        service_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, CALLS_PER_CONN_MOST),
        service_arg(GRPC_ARG_KEEPALIVE_TIME_MS, KEEPALIVE_MS),
        service_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, KEEPALIVE_WAIT_MS),
        service_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        service_arg(GRPC_ARG_MAX_CONNECTION_IDLE_MS, IDLE_MS),
        /* Identity only: a small message must not unpack to a large one. */
        service_arg(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1 << GRPC_COMPRESS_NONE),
    };
    grpc_channel_args all = {.num_args = ARRAY_LEN(args), .args = args};
    return grpc_server_create(&all, NULL);
}

static void service_ended(struct mail *mail)
{
    struct grpc_service *s = CONTAINER_OF(mail, struct service_tag, mail)->owner;
    s->ended = true;
}

struct grpc_service *grpc_service_new(struct loop *main, const struct grpc_service_def *def,
                                      void *arg)
{
    struct grpc_service *s = mem_alloc(sizeof *s);
    grpc_init();
    s->main = main;
    s->def = def;
    s->arg = arg;
    s->end.mail.deliver = service_ended;
    s->end.owner = s;
    s->queue = grpc_completion_queue_create_for_next(NULL);
    s->creds = grpc_insecure_server_credentials_create();
    s->server = service_server(def);
    grpc_server_register_completion_queue(s->server, s->queue, NULL);
    grpc_server_start(s->server);
    must(pthread_create(&s->thread, NULL, service_queue_thread, s) == 0);
    service_expect(s);
    return s;
}

void grpc_service_take(struct grpc_service *s, int fd)
{
    grpc_server_add_channel_from_fd(s->server, fd, s->creds);
}

void grpc_service_free(struct grpc_service **service)
{
    struct grpc_service *s = *service;
    *service = NULL;
    if (!s) return;
    s->stopping = true;
    atomic_store_explicit(&s->end.given, true, memory_order_release);
    grpc_server_shutdown_and_notify(s->server, s->queue, &s->end);
    grpc_server_cancel_all_calls(s->server);
    while (s->calls || !s->ended)
        loop_turn(s->main, true); /* the last tags of cancelled calls come back soon */
    grpc_server_destroy(s->server);
    grpc_completion_queue_shutdown(s->queue);
    pthread_join(s->thread, NULL);
    grpc_completion_queue_destroy(s->queue);
    grpc_server_credentials_release(s->creds);
    grpc_shutdown();
    mem_free(s);
}
