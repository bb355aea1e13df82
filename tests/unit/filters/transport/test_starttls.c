/* StartTLS: plain bytes both ways, then both ends start TLS and go on; what was read before it and
 * not used is dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/transport_sockets/starttls/v3/starttls.pb-c.h"
#include "proto/json.h"
#include "proxy/api/conf.h"
#include "proxy/net/conn_internal.h"
#include "proxy/net/socket.h"

extern const struct transport_socket_type starttls_downstream_type, starttls_upstream_type;

struct end {
    struct conn *conn;
    int ups;
    struct buf got;
    bool closed, hold; /* hold: what came stays unread */
};
struct world {
    struct runtime rt;
    struct worker w;
    struct errors errors;
    struct conf_cx cx;
    const struct transport_socket *down, *up;
    struct end s, c;
};

static void on_connected(struct conn *c, void *owner)
{
    (void)c;
    ((struct end *)owner)->ups++;
}
static void on_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    struct end *e = owner;
    (void)c;
    (void)end;
    if (!e->hold) buf_move(&e->got, in);
}
static void on_close(struct conn *c, void *owner, enum conn_end why)
{
    (void)c;
    (void)why;
    ((struct end *)owner)->closed = true;
}
static const struct conn_events events = {
    .on_connected = on_connected, .on_read = on_read, .on_close = on_close};

/* PEM with "\n" for line ends, as JSON wants it. */
static void add_json_pem(struct sb *out, BIO *b)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    for (long i = 0; i < n; i++) {
        if (p[i] == '\n')
            sb_add(out, STR("\\n"));
        else
            sb_char(out, p[i]);
    }
    BIO_free(b);
}

static struct str downstream_json(struct arena *a)
{
    X509 *x = X509_new();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_NAME *name = X509_NAME_new();
    BIO *cert = BIO_new(BIO_s_mem()), *private = BIO_new(BIO_s_mem());
    (void)X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"x", -1, -1,
                                     0);
    (void)X509_set_version(x, X509_VERSION_3);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    (void)X509_set_subject_name(x, name);
    (void)X509_set_issuer_name(x, name);
    (void)X509_gmtime_adj(X509_getm_notBefore(x), -60);
    (void)X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    (void)X509_set_pubkey(x, key);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    (void)PEM_write_bio_X509(cert, x);
    (void)PEM_write_bio_PrivateKey(private, key, NULL, NULL, 0, NULL, NULL);
    struct sb text = {0};
    sb_add(&text, STR("{\"tls_socket_config\":{\"common_tls_context\":{\"tls_certificates\":[{"
                      "\"certificate_chain\":{\"inline_string\":\""));
    add_json_pem(&text, cert);
    sb_add(&text, STR("\"},\"private_key\":{\"inline_string\":\""));
    add_json_pem(&text, private);
    sb_add(&text, STR("\"}}]}}}"));
    struct str out = str_dup(a, sb_str(&text));
    sb_release(&text);
    X509_free(x);
    EVP_PKEY_free(key);
    X509_NAME_free(name);
    return out;
}

static const struct transport_socket *socket_of(struct world *x,
                                                const struct transport_socket_type *type,
                                                struct str json, bool downstream)
{
    struct conf_at at = conf_root(&x->cx);
    const ProtobufCMessage *m =
        json_read(x->cx.arena, type->ext.config, json, JSON_FORMAT_JSON, NULL, NULL, &x->errors);
    assert_non_null(m);
    const struct transport_socket *ts =
        type->conf_create(&at, (const struct ProtobufCMessage *)m, downstream);
    assert_non_null(ts);
    return ts;
}

static void turns(struct world *x, int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(x->w.loop, false);
}

static void world_init(struct world *x)
{
    struct addr a;
    *x = (struct world){0};
    x->rt.concurrency = 1;
    x->w.rt = &x->rt;
    x->w.loop = loop_new();
    x->w.scratch = arena_new("scratch", 0);
    x->cx.arena = arena_new("object", 0);
    x->errors.arena = x->cx.arena;
    x->cx.errors = &x->errors;
    x->down = socket_of(x, &starttls_downstream_type, downstream_json(x->cx.arena), true);
    x->up = socket_of(x, &starttls_upstream_type, STR("{\"tls_socket_config\":{}}"), false);
    assert_true(addr_parse(STR("127.0.0.1:0"), &a));
    struct socket_listen how = {.addr = &a};
    int listener = socket_listen(&how);
    assert_true(socket_local(listener, &a));
    x->c.conn = conn_connect(&x->w, &a, NULL, NULL, x->up, NULL, 0, NULL, &events, &x->c);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(fd >= 0);
    (void)close(listener);
    x->s.conn = conn_accept(&x->w, fd, mem_alloc(sizeof(struct conn_info)), x->down, 0, NULL,
                            &events, &x->s);
    turns(x, 10);
}

static void world_release(struct world *x)
{
    if (!x->c.closed) conn_close(x->c.conn, CONN_CLOSE_NOW);
    turns(x, 10);
    if (!x->s.closed) conn_close(x->s.conn, CONN_CLOSE_NOW);
    turns(x, 10);
    buf_release(&x->s.got);
    buf_release(&x->c.got);
    struct net_worker *n = net_worker(&x->w);
    tls_worker_release(n);
    mem_free(n);
    loop_free(&x->w.loop);
    arena_free(&x->w.scratch);
    arena_free(&x->cx.arena);
    arena_thread_release();
    buf_thread_release();
}

static void plain_then_secure(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    assert_int_equal(x.c.ups, 1);
    assert_null(x.s.conn->type->info(x.s.conn->transport));
    conn_write_str(x.c.conn, STR("STARTTLS"));
    turns(&x, 10);
    assert_int_equal(buf_len(&x.s.got), 8);
    conn_write_str(x.s.conn, STR("go"));
    assert_true(conn_start_secure(x.s.conn));
    turns(&x, 10);
    assert_int_equal(buf_len(&x.c.got), 2);
    assert_true(conn_start_secure(x.c.conn));
    turns(&x, 40);
    assert_int_equal(x.c.ups + x.s.ups, 2); /* told once each */
    assert_non_null(x.s.conn->type->info(x.s.conn->transport));
    conn_write_str(x.c.conn, STR("secret"));
    turns(&x, 10);
    assert_int_equal(buf_len(&x.s.got), 14);
    assert_false(conn_start_secure(x.c.conn)); /* it is already */
    world_release(&x);
}

/* Command injection: what came in the clear behind the command is nobody's word. */
static void early_bytes_are_dropped(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    x.s.hold = true;
    conn_write_str(x.c.conn, STR("STARTTLS\r\nINJECTED"));
    turns(&x, 10);
    x.s.hold = false;
    assert_true(conn_start_secure(x.s.conn));
    assert_true(conn_start_secure(x.c.conn));
    turns(&x, 40);
    conn_write_str(x.c.conn, STR("after"));
    turns(&x, 10);
    char got[8];
    assert_int_equal(buf_len(&x.s.got), 5);
    assert_int_equal(buf_copy_out(&x.s.got, 0, got, 5), 5);
    assert_memory_equal(got, "after", 5);
    world_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_then_secure),
        cmocka_unit_test(early_bytes_are_dropped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
