/* gRPC core behind a small face. Each operation in flight has a tag of its own in the stream; the
 * queue's thread posts the tag to main as a mail, so that all state is touched by main alone. A
 * stream's memory lives until its last tag came back. */
#include "xds/grpc_stream.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/string_util.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/must.h"

enum op_kind { OP_START, OP_METADATA, OP_RECEIVE, OP_SEND, OP_STATUS, OP_KINDS };

struct grpc_op_tag {
    struct mail mail;
    struct grpc_stream *stream;
    enum op_kind kind;
    bool ok, busy;
    atomic_bool given; /* main's writes before the batch are seen by the queue's thread: gRPC orders
                          them, too, but a checker cannot know */
};

struct grpc_client {
    struct loop *main;
    grpc_completion_queue *queue;
    pthread_t thread;
    size_t streams; /* whose memory is still alive */
};

struct grpc_stream {
    struct grpc_client *client;
    const struct grpc_stream_events *events;
    void *arg;
    grpc_channel *channel;
    grpc_call *call;
    struct grpc_op_tag ops[OP_KINDS];
    unsigned busy;
    bool closed;   /* by the owner: no events any more */
    bool in_event; /* the owner may close inside an event; memory goes after it */
    bool ended;    /* the status came */
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *received;
    grpc_status_code status;
    grpc_slice status_text;
    grpc_metadata *headers;
    size_t header_count;
};

static void *grpc_queue_thread(void *arg)
{
    struct grpc_client *c = arg;
    for (;;) {
        grpc_event e =
            grpc_completion_queue_next(c->queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
        if (e.type == GRPC_QUEUE_SHUTDOWN) return NULL;
        if (e.type != GRPC_OP_COMPLETE) continue;
        struct grpc_op_tag *op = e.tag;
        (void)atomic_load_explicit(&op->given, memory_order_acquire);
        op->ok = e.success != 0;
        loop_post(c->main, &op->mail);
    }
}

struct grpc_client *grpc_client_new(struct loop *main)
{
    struct grpc_client *c = mem_alloc(sizeof *c);
    grpc_init();
    c->main = main;
    c->queue = grpc_completion_queue_create_for_next(NULL);
    must(pthread_create(&c->thread, NULL, grpc_queue_thread, c) == 0);
    return c;
}

void grpc_client_free(struct grpc_client **client)
{
    struct grpc_client *c = *client;
    *client = NULL;
    if (!c) return;
    while (c->streams)
        loop_turn(c->main, true); /* the last tags of cancelled calls come back soon */
    grpc_completion_queue_shutdown(c->queue);
    pthread_join(c->thread, NULL);
    grpc_completion_queue_destroy(c->queue);
    grpc_shutdown();
    mem_free(c);
}

static void grpc_stream_destroy(struct grpc_stream *s)
{
    s->client->streams--;
    grpc_call_unref(s->call);
    grpc_channel_destroy(s->channel);
    grpc_metadata_array_destroy(&s->initial);
    grpc_metadata_array_destroy(&s->trailing);
    if (s->received) grpc_byte_buffer_destroy(s->received);
    grpc_slice_unref(s->status_text);
    for (size_t i = 0; i < s->header_count; i++) {
        grpc_slice_unref(s->headers[i].key);
        grpc_slice_unref(s->headers[i].value);
    }
    mem_free(s->headers);
    mem_free(s);
}

/* Starts a batch of one operation under its tag. */
static void grpc_stream_batch(struct grpc_stream *s, enum op_kind kind, const grpc_op *op)
{
    struct grpc_op_tag *tag = &s->ops[kind];
    must(!tag->busy);
    tag->busy = true;
    s->busy++;
    atomic_store_explicit(&tag->given, true, memory_order_release);
    grpc_call_error e = grpc_call_start_batch(s->call, op, 1, tag, NULL);
    must(e == GRPC_CALL_OK);
}

void grpc_stream_read(struct grpc_stream *s)
{
    if (s->closed || s->ended) return;
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &s->received};
    grpc_stream_batch(s, OP_RECEIVE, &op);
}

static void grpc_stream_received(struct grpc_stream *s)
{
    grpc_byte_buffer *message = s->received;
    s->received = NULL;
    if (!message) return; /* the end; the status tells */
    grpc_byte_buffer_reader reader;
    bool ok = grpc_byte_buffer_reader_init(&reader, message);
    grpc_slice all = ok ? grpc_byte_buffer_reader_readall(&reader) : grpc_empty_slice();
    if (ok) grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(message); /* before the message is read: it may be of many megabytes */
    if (ok && !s->closed) {
        struct str bytes = {(const char *)GRPC_SLICE_START_PTR(all), GRPC_SLICE_LENGTH(all)};
        s->events->on_message(s->arg, bytes);
    }
    grpc_slice_unref(all);
}

static void grpc_op_done(struct mail *mail)
{
    struct grpc_op_tag *op = CONTAINER_OF(mail, struct grpc_op_tag, mail);
    struct grpc_stream *s = op->stream;
    op->busy = false;
    s->busy--;
    s->in_event = true;
    switch (op->kind) {
    case OP_START:
        if (!s->closed && op->ok) s->events->on_open(s->arg);
        break;
    case OP_METADATA: break;
    case OP_RECEIVE: grpc_stream_received(s); break;
    case OP_SEND:
        if (!s->closed && op->ok) s->events->on_sent(s->arg);
        break;
    case OP_STATUS: {
        s->ended = true;
        struct str text = {(const char *)GRPC_SLICE_START_PTR(s->status_text),
                           GRPC_SLICE_LENGTH(s->status_text)};
        if (!s->closed) s->events->on_closed(s->arg, (int)s->status, text);
        break;
    }
    case OP_KINDS: must(false);
    }
    s->in_event = false;
    if (s->closed && s->busy == 0) grpc_stream_destroy(s);
}

/* --- TLS
 * -------------------------------------------------------------------------------------------------------
 */

struct grpc_judging {
    grpc_tls_certificate_verifier_external external;
    struct grpc_judge *judge;
};

static int grpc_judge_check(void *user, grpc_tls_custom_verification_check_request *request,
                            grpc_tls_on_custom_verification_check_done_cb done, void *done_arg,
                            grpc_status_code *status, char **details)
{
    const struct grpc_judging *g = user;
    const struct grpc_peer peer = {
        .uri = {request->peer_info.san_names.uri_names,
                request->peer_info.san_names.uri_names_size},
        .dns = {request->peer_info.san_names.dns_names,
                request->peer_info.san_names.dns_names_size},
        .email = {request->peer_info.san_names.email_names,
                  request->peer_info.san_names.email_names_size},
        .ip = {request->peer_info.san_names.ip_names, request->peer_info.san_names.ip_names_size},
    };
    (void)done;
    (void)done_arg;
    bool ok = !g->judge || g->judge->check(g->judge, &peer);
    *status = ok ? GRPC_STATUS_OK : GRPC_STATUS_UNAUTHENTICATED;
    if (!ok)
        *details = gpr_strdup("no subject alternative name of the server's certificate matches");
    return 1; /* decided at once */
}

static void grpc_judge_cancel(void *user, grpc_tls_custom_verification_check_request *request)
{
    (void)user;
    (void)request; /* nothing is ever pending */
}

static void grpc_judge_destroy(void *user)
{
    struct grpc_judging *g = user;
    if (g->judge) g->judge->free(g->judge);
    mem_free(g);
}

static void grpc_set_judge(grpc_tls_credentials_options *options, struct grpc_judge *judge)
{
    struct grpc_judging *g = mem_alloc(sizeof *g);
    g->judge = judge;
    g->external = (grpc_tls_certificate_verifier_external){.user_data = g,
                                                           .verify = grpc_judge_check,
                                                           .cancel = grpc_judge_cancel,
                                                           .destruct = grpc_judge_destroy};
    grpc_tls_certificate_verifier *v = grpc_tls_certificate_verifier_external_create(&g->external);
    grpc_tls_credentials_options_set_certificate_verifier(options, v);
    grpc_tls_certificate_verifier_release(v);
}

static grpc_channel_credentials *grpc_credentials(const struct grpc_target *t)
{
    if (!t->tls) return grpc_insecure_credentials_create();
    if (t->tls_by_name) {
        grpc_ssl_pem_key_cert_pair pair = {t->key_pem, t->cert_chain_pem};
        bool own = t->key_pem && t->cert_chain_pem;
        return grpc_ssl_credentials_create(t->roots_pem, own ? &pair : NULL, NULL, NULL);
    }
    grpc_tls_credentials_options *options = grpc_tls_credentials_options_create();
    grpc_tls_identity_pairs *pairs = NULL;
    if (t->key_pem && t->cert_chain_pem) {
        pairs = grpc_tls_identity_pairs_create();
        grpc_tls_identity_pairs_add_pair(pairs, t->key_pem, t->cert_chain_pem);
    }
    bool identity = pairs != NULL;
    if (identity || t->roots_pem) {
        grpc_tls_certificate_provider *p =
            grpc_tls_certificate_provider_static_data_create(t->roots_pem, pairs);
        grpc_tls_credentials_options_set_certificate_provider(options, p);
        grpc_tls_certificate_provider_release(p);
    }
    if (t->roots_pem) grpc_tls_credentials_options_watch_root_certs(options);
    if (identity) grpc_tls_credentials_options_watch_identity_key_cert_pairs(options);
    grpc_tls_credentials_options_set_verify_server_cert(options, t->roots_pem != NULL);
    grpc_tls_credentials_options_set_check_call_host(options,
                                                     0); /* Envoy judges by SAN matchers alone */
    grpc_set_judge(options, t->judge);
    return grpc_tls_credentials_create(options);
}

/* gRPC's argument structs want writable strings but only read them. */
static grpc_arg grpc_int_arg(const char *key, int value)
{
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER, .key = (char *)(uintptr_t)key, .value.integer = value};
}

static grpc_arg grpc_text_arg(const char *key, const char *value)
{
    return (grpc_arg){.type = GRPC_ARG_STRING,
                      .key = (char *)(uintptr_t)key,
                      .value.string = (char *)(uintptr_t)value};
}

static grpc_channel *grpc_connect(const struct grpc_target *t)
{
    grpc_arg args[12];
    size_t n = 0;
    /* A channel lives for one stream: our own jittered back-off decides when to try again, so
     * connections are not shared. */
    args[n++] = grpc_int_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args[n++] = grpc_int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, -1);
    args[n++] = grpc_int_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1);
    args[n++] = grpc_int_arg(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    args[n++] = grpc_int_arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
    args[n++] = grpc_int_arg(GRPC_ARG_ENABLE_RETRIES, 0);
    if (t->authority) args[n++] = grpc_text_arg(GRPC_ARG_DEFAULT_AUTHORITY, t->authority);
    if (t->sni) args[n++] = grpc_text_arg(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, t->sni);
    if (t->keepalive_ms) args[n++] = grpc_int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, (int)t->keepalive_ms);
    grpc_channel_args all = {.num_args = n, .args = args};
    grpc_channel_credentials *creds = grpc_credentials(t);
    grpc_channel *channel = grpc_channel_create(t->address, creds, &all);
    grpc_channel_credentials_release(creds);
    return channel;
}

static void grpc_stream_headers(struct grpc_stream *s, const struct grpc_target *t)
{
    if (!t->header_count) return;
    s->headers = mem_array(t->header_count, sizeof *s->headers);
    s->header_count = t->header_count;
    for (size_t i = 0; i < t->header_count; i++) {
        s->headers[i].key = grpc_slice_from_copied_string(t->headers[i].name);
        s->headers[i].value = grpc_slice_from_copied_string(t->headers[i].value);
    }
}

struct grpc_stream *grpc_stream_open(struct grpc_client *c, const struct grpc_target *t,
                                     const char *method, const struct grpc_stream_events *events,
                                     void *arg)
{
    struct grpc_stream *s = mem_alloc(sizeof *s);
    s->client = c;
    s->events = events;
    s->arg = arg;
    c->streams++;
    for (int k = 0; k < OP_KINDS; k++) {
        s->ops[k].mail.deliver = grpc_op_done;
        s->ops[k].stream = s;
        s->ops[k].kind = (enum op_kind)k;
    }
    s->status_text = grpc_empty_slice();
    grpc_metadata_array_init(&s->initial);
    grpc_metadata_array_init(&s->trailing);
    grpc_stream_headers(s, t);
    s->channel = grpc_connect(t);
    grpc_slice path = grpc_slice_from_copied_string(method);
    s->call = grpc_channel_create_call(s->channel, NULL, GRPC_PROPAGATE_DEFAULTS, c->queue, path,
                                       NULL, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    grpc_slice_unref(path);
    grpc_op start = {
        .op = GRPC_OP_SEND_INITIAL_METADATA,
        .data.send_initial_metadata = {.count = s->header_count, .metadata = s->headers}};
    grpc_op initial = {.op = GRPC_OP_RECV_INITIAL_METADATA,
                       .data.recv_initial_metadata.recv_initial_metadata = &s->initial};
    grpc_op status = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                      .data.recv_status_on_client = {.trailing_metadata = &s->trailing,
                                                     .status = &s->status,
                                                     .status_details = &s->status_text}};
    grpc_stream_batch(s, OP_START, &start);
    grpc_stream_batch(s, OP_METADATA, &initial);
    grpc_stream_batch(s, OP_STATUS, &status);
    grpc_stream_read(s);
    return s;
}

void grpc_stream_send(struct grpc_stream *s, struct str bytes)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(bytes.ptr ? bytes.ptr : "", bytes.len);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = message};
    grpc_stream_batch(s, OP_SEND, &op);
    grpc_byte_buffer_destroy(message);
    grpc_slice_unref(slice);
}

void grpc_stream_close(struct grpc_stream **stream)
{
    struct grpc_stream *s = *stream;
    *stream = NULL;
    if (!s) return;
    s->closed = true;
    grpc_call_cancel(s->call, NULL);
    if (s->busy == 0 && !s->in_event) grpc_stream_destroy(s);
}
