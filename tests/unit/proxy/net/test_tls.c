/* TLS between two connections of one worker: choice of certificates, verification and its refusals,
 * ALPN, resumption, missing secrets, bytes in both directions. Certificates are made on the fly. */
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
#include "proxy/api/tls.h"
#include "proxy/net/conn_internal.h"
#include "proxy/net/socket.h"
#include "proxy/net/tls_internal.h"

/* --- certificates
 * -------------------------------------------------------------------------------------- */

struct issued {
    X509 *x509;
    EVP_PKEY *key;
    struct str chain_pem, key_pem;
};

static struct arena *arena; /* of the test program */
static struct issued ca, server, other, client, stranger;

static struct str bio_str(BIO *b)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    struct str s = str_dup(arena, str_make(p, (size_t)n));
    BIO_free(b);
    return s;
}

static void add_ext(X509 *x, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* by NULL: self-signed, a CA. */
static struct issued issue(const char *cn, const char *sans, const struct issued *by)
{
    static long serial = 1;
    struct issued c = {.x509 = X509_new(), .key = EVP_EC_gen("P-256")};
    X509_NAME *name = X509_NAME_new();
    (void)X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1,
                                     0);
    (void)X509_set_version(c.x509, X509_VERSION_3);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(c.x509), serial++);
    (void)X509_set_subject_name(c.x509, name);
    (void)X509_set_issuer_name(c.x509, by ? X509_get_subject_name(by->x509) : name);
    (void)X509_gmtime_adj(X509_getm_notBefore(c.x509), -1000);
    (void)X509_gmtime_adj(X509_getm_notAfter(c.x509), 100000);
    (void)X509_set_pubkey(c.x509, c.key);
    if (!by) add_ext(c.x509, NID_basic_constraints, "critical,CA:TRUE");
    if (sans) add_ext(c.x509, NID_subject_alt_name, sans);
    assert_true(X509_sign(c.x509, by ? by->key : c.key, EVP_sha256()) > 0);
    X509_NAME_free(name);
    BIO *b = BIO_new(BIO_s_mem());
    (void)PEM_write_bio_X509(b, c.x509);
    c.chain_pem = bio_str(b);
    b = BIO_new(BIO_s_mem());
    (void)PEM_write_bio_PrivateKey(b, c.key, NULL, NULL, 0, NULL, NULL);
    c.key_pem = bio_str(b);
    return c;
}

/* --- the world: a worker without a thread, two connected ends
 * ------------------------------------------------ */

static const struct transport_socket_type type = {
    .open = tls_open,
    .handshake = tls_handshake,
    .read = tls_read,
    .writev = tls_writev,
    .shutdown = tls_shutdown,
    .info = tls_info_get,
    .alpn = tls_alpn,
    .failure = tls_failure,
    .close = tls_close,
    .pending = tls_pending,
};

struct end {
    struct conn *conn;
    bool up, closed, ended;
    enum conn_end why;
    struct buf got;
    char failure[400], alpn[16], subject[64];
    bool reused, validated;
};
struct world {
    struct runtime rt;
    struct worker w;
    struct errors errors;
    struct conf_cx cx;
    struct tls_conf down, up;
    struct end s, c;
    struct transport_ask ask;
};

static void on_connected(struct conn *c, void *owner)
{
    struct end *e = owner;
    const struct tls_info *i = c->type->info(c->transport);
    e->up = true;
    e->validated = i->peer_validated;
    e->reused = SSL_session_reused(((struct tls_conn *)c->transport)->ssl);
    memcpy(e->alpn, conn_alpn(c).ptr ? conn_alpn(c).ptr : "", conn_alpn(c).len);
    if (i->peer.present) memcpy(e->subject, i->peer.subject.ptr, i->peer.subject.len);
}
static void on_read(struct conn *c, void *owner, struct buf *in, bool end)
{
    (void)c;
    struct end *e = owner;
    buf_move(&e->got, in);
    e->ended |= end;
}
static void on_close(struct conn *c, void *owner, enum conn_end why)
{
    struct end *e = owner;
    struct str f = conn_failure(c);
    e->closed = true;
    e->why = why;
    memcpy(e->failure, f.ptr ? f.ptr : "",
           f.len < sizeof(e->failure) ? f.len : sizeof(e->failure) - 1);
}
static const struct conn_events events = {
    .on_connected = on_connected, .on_read = on_read, .on_close = on_close};

static const struct tls_cert *cert_of(struct world *x, const struct issued *i)
{
    struct conf_at at = conf_root(&x->cx);
    struct tls_cert_source s = {.chain = i->chain_pem, .key = i->key_pem};
    const struct tls_cert *c = tls_cert_new(&at, &s);
    assert_non_null(c);
    return c;
}

static const struct tls_validation *trust(struct world *x, const struct issued *i,
                                          const struct tls_san_matcher *sans, size_t count)
{
    struct conf_at at = conf_root(&x->cx);
    struct tls_validation_source s = {.ca = i->chain_pem, .sans = sans, .san_count = count};
    const struct tls_validation *v = tls_validation_new(&at, &s, false);
    assert_non_null(v);
    return v;
}

static void use_certs(struct world *x, struct tls_conf *c, const struct issued *first,
                      const struct issued *second)
{
    const struct tls_cert **v = ARENA_ARRAY(x->cx.arena, const struct tls_cert *, 2);
    v[0] = cert_of(x, first);
    if (second) v[1] = cert_of(x, second);
    c->certs = v;
    c->cert_count = second ? 2 : 1;
}

static void world_init(struct world *x)
{
    *x = (struct world){0};
    x->rt.concurrency = 1;
    x->w.rt = &x->rt;
    x->w.loop = loop_new();
    x->w.scratch = arena_new("scratch", 0);
    x->cx.arena = arena_new("object", 0);
    x->errors.arena = x->cx.arena;
    x->cx.errors = &x->errors;
    x->down.server = true;
    x->up.max_sessions = 1;
    x->down.ts.type = x->up.ts.type = &type;
    use_certs(x, &x->down, &server, NULL);
}

static void ready(struct world *x)
{
    struct conf_at at = conf_root(&x->cx);
    assert_true(tls_conf_ready(&at, &x->down));
    assert_true(tls_conf_ready(&at, &x->up));
}

static void turns(struct world *x, int n)
{
    for (int i = 0; i < n; i++)
        loop_turn(x->w.loop, false);
}

/* Connects the two ends and lets the handshake run. */
static void meet(struct world *x)
{
    struct addr a;
    assert_true(addr_parse(STR("127.0.0.1:0"), &a));
    struct socket_listen how = {.addr = &a};
    int listener = socket_listen(&how);
    assert_true(socket_local(listener, &a));
    x->s = x->c = (struct end){0};
    x->c.conn = conn_connect(&x->w, &a, NULL, NULL, &x->up.ts, &x->ask, 0, NULL, &events, &x->c);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    assert_true(fd >= 0);
    (void)close(listener);
    x->s.conn = conn_accept(&x->w, fd, mem_alloc(sizeof(struct conn_info)), &x->down.ts, 0, NULL,
                            &events, &x->s);
    turns(x, 40);
}

static void part(struct world *x)
{
    if (!x->c.closed) conn_close(x->c.conn, CONN_CLOSE_NOW);
    turns(x, 10);
    if (!x->s.closed) conn_close(x->s.conn, CONN_CLOSE_NOW);
    turns(x, 10);
    buf_release(&x->s.got);
    buf_release(&x->c.got);
}

static void world_release(struct world *x)
{
    part(x);
    struct net_worker *n = net_worker(&x->w);
    tls_worker_release(n);
    mem_free(n);
    loop_free(&x->w.loop);
    arena_free(&x->w.scratch);
    arena_free(&x->cx.arena);
    arena_thread_release();
    buf_thread_release();
}

/* --- tests
 * ------------------------------------------------------------------------------------------------------
 */

static void bytes_pass_and_ends_are_told(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    ready(&x);
    meet(&x);
    assert_true(x.c.up && x.s.up);
    conn_write_str(x.c.conn, STR("to the server"));
    conn_write_str(x.s.conn, STR("to the client"));
    turns(&x, 10);
    assert_int_equal(buf_len(&x.s.got), 13);
    assert_int_equal(buf_len(&x.c.got), 13);
    struct buf last = {0};
    conn_write(x.c.conn, &last, true);
    turns(&x, 10);
    assert_true(x.s.ended);
    world_release(&x);
}

static void large_bodies_pass(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    ready(&x);
    meet(&x);
    enum { CHUNK = 50000, CHUNKS = 100 };
    char *chunk = mem_alloc(CHUNK);
    for (int i = 0; i < CHUNKS; i++) {
        memset(chunk, i, CHUNK);
        conn_write_str(x.c.conn, str_make(chunk, CHUNK));
        turns(&x, 1);
    }
    for (int i = 0; i < 2000 && buf_len(&x.s.got) < (size_t)CHUNK * CHUNKS; i++)
        turns(&x, 1);
    assert_int_equal(buf_len(&x.s.got), CHUNK * CHUNKS);
    for (size_t i = 0; i < CHUNKS; i++) {
        char c;
        assert_int_equal(buf_copy_out(&x.s.got, i * CHUNK + 7, &c, 1), 1);
        assert_int_equal((unsigned char)c, i);
    }
    mem_free(chunk);
    world_release(&x);
}

static void a_client_checks_chain_names_and_pins(void **state)
{
    (void)state;
    const struct tls_san_matcher good = {
        TLS_SAN_DNS, STR_NONE, {.kind = STRING_MATCH_EXACT, .text = STR("a.wild.test")}};
    const struct tls_san_matcher bad = {
        TLS_SAN_DNS, STR_NONE, {.kind = STRING_MATCH_EXACT, .text = STR("a.b.wild.test")}};
    const struct {
        const struct issued *ca;
        const struct tls_san_matcher *san;
        bool fine;
        const char *text;
    } cases[] = {
        {&ca, NULL, true, ""},
        {&ca, &good, true, ""},
        {&stranger, NULL, false, "unable to get local issuer certificate"},
        {&ca, &bad, false, "SAN matcher, certificate SANs are [server.test, *.wild.test]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world x;
        world_init(&x);
        x.up.validation = trust(&x, cases[i].ca, cases[i].san, cases[i].san ? 1 : 0);
        ready(&x);
        meet(&x);
        assert_int_equal(x.c.up, cases[i].fine);
        assert_int_equal(x.c.validated, cases[i].fine);
        if (!cases[i].fine) {
            assert_int_equal(x.c.why, CONN_END_TRANSPORT);
            assert_non_null(strstr(x.c.failure, cases[i].text));
            assert_non_null(strstr(
                x.c.failure,
                "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:"));
        }
        world_release(&x);
    }
}

static void pins_decide_with_or(void **state)
{
    (void)state;
    uint8_t right[TLS_HASH_SIZE], wrong[TLS_HASH_SIZE] = {1};
    unsigned size = sizeof(right);
    assert_int_equal(X509_digest(server.x509, EVP_sha256(), right, &size), 1);
    for (int good = 0; good < 2; good++) {
        struct world x;
        world_init(&x);
        struct conf_at at = conf_root(&x.cx);
        struct tls_validation_source s = {.hashes = (const uint8_t(*)[TLS_HASH_SIZE]) & wrong,
                                          .hash_count = 1};
        if (good) s.hashes = (const uint8_t(*)[TLS_HASH_SIZE]) & right;
        x.up.validation = tls_validation_new(&at, &s, false);
        ready(&x);
        meet(&x);
        assert_int_equal(x.c.up, good);
        world_release(&x);
    }
}

static void a_server_demands_client_certificates(void **state)
{
    (void)state;
    const struct {
        const struct issued *cert;
        bool fine;
        const char *text;
    } cases[] = {
        {&client, true, ""},
        {NULL, false, "PEER_DID_NOT_RETURN_A_CERTIFICATE"},
        {&stranger, false, "CERTIFICATE_VERIFY_FAILED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world x;
        world_init(&x);
        x.down.validation = trust(&x, &ca, NULL, 0);
        x.down.require_client = true;
        if (cases[i].cert) use_certs(&x, &x.up, cases[i].cert, NULL);
        ready(&x);
        meet(&x);
        assert_int_equal(x.s.up, cases[i].fine);
        if (cases[i].fine)
            assert_string_equal(x.s.subject, "CN=client");
        else
            assert_non_null(strstr(x.s.failure, cases[i].text));
        world_release(&x);
    }
}

static void the_certificate_follows_the_name(void **state)
{
    (void)state;
    const struct {
        const char *sni, *subject;
    } cases[] = {
        {"server.test", "CN=server"}, {"OTHER.test", "CN=other"}, {"x.wild.test", "CN=server"},
        {"nobody.test", "CN=server"}, {"", "CN=server"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct world x;
        world_init(&x);
        use_certs(&x, &x.down, &server, &other);
        x.up.sni = str_of(cases[i].sni);
        ready(&x);
        meet(&x);
        assert_true(x.c.up);
        assert_string_equal(x.c.subject, cases[i].subject);
        world_release(&x);
    }
}

static void the_server_chooses_the_protocol(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    const struct str offer[] = {STR("http/1.1"), STR("h2")}, serve[] = {STR("h2"), STR("http/1.1")};
    x.up.alpn = offer;
    x.down.alpn = serve;
    x.up.alpn_count = x.down.alpn_count = 2;
    ready(&x);
    meet(&x);
    assert_string_equal(x.s.alpn, "h2");
    assert_string_equal(x.c.alpn, "h2");
    world_release(&x);
}

static void sessions_resume_only_for_the_same_name(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    x.up.validation = trust(&x, &ca, NULL, 0);
    ready(&x);
    x.ask.sni = STR("server.test");
    meet(&x);
    assert_false(x.c.reused);
    turns(&x, 10);
    part(&x);
    meet(&x);
    assert_true(x.c.up);
    assert_true(x.c.reused);
    assert_true(x.c.validated);
    part(&x);
    x.ask.sni = STR("a.wild.test");
    meet(&x);
    assert_true(x.c.up);
    assert_false(x.c.reused);
    world_release(&x);
}

static void a_missing_secret_fails_closed(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    x.up.validation_secret = (struct tls_secret_name){STR("ca"), hash_str(STR("ca"))};
    ready(&x);
    meet(&x);
    assert_false(x.c.up);
    assert_string_equal(x.c.failure, "TLS error: Secret is not supplied by SDS");
    world_release(&x);
}

static void mistakes_are_told(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    struct conf_at at = conf_root(&x.cx);
    struct tls_cert_source s = {.chain = server.chain_pem,
                                .key = other.key_pem,
                                .chain_name = STR("a"),
                                .key_name = STR("b")};
    assert_null(tls_cert_new(&at, &s));
    assert_non_null(strstr(x.errors.v[0].text.ptr, "KEY_VALUES_MISMATCH"));
    s.chain = STR("junk");
    assert_null(tls_cert_new(&at, &s));
    assert_string_equal(x.errors.v[1].text.ptr, "Failed to load certificate chain from a");
    const struct tls_san_matcher san = {
        TLS_SAN_DNS, STR_NONE, {.kind = STRING_MATCH_EXACT, .text = STR("a")}};
    struct tls_validation_source v = {.sans = &san, .san_count = 1};
    assert_null(tls_validation_new(&at, &v, false));
    struct str ciphers[] = {STR("[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-RSA-AES128-GCM-SHA256]"),
                            STR("TLS_AES_128_GCM_SHA256")},
               out;
    assert_true(tls_cipher_list(&at, ciphers, 1, &out));
    assert_string_equal(out.ptr, "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256");
    assert_false(tls_cipher_list(&at, ciphers, 2, &out));
    struct str short_key = STR("short");
    assert_null(tls_tickets_new(&at, &short_key, 1));
    struct tls_conf none = {.server = true};
    assert_false(tls_conf_ready(&at, &none));
    x.s.closed = x.c.closed = true;
    world_release(&x);
}

static void names_match_by_label(void **state)
{
    (void)state;
    assert_true(tls_dns_name_match(STR("a.example.com"), STR("*.example.com")));
    assert_true(tls_dns_name_match(STR("A.Example.com"), STR("a.example.COM")));
    assert_false(tls_dns_name_match(STR("a.b.example.com"), STR("*.example.com")));
    assert_false(tls_dns_name_match(STR("example.com"), STR("*.example.com")));
    assert_false(tls_dns_name_match(STR(".example.com"), STR("*.example.com")));
    assert_false(tls_dns_name_match(STR("a.com"), STR("*.")));
    assert_false(tls_dns_name_match(str_make("a.example.com\0.evil", 19), STR("a.example.com")));
}

int main(void)
{
    arena = arena_new("test", 0);
    ca = issue("ca", NULL, NULL);
    stranger = issue("stranger", NULL, NULL);
    server = issue("server", "DNS:server.test,DNS:*.wild.test", &ca);
    other = issue("other", "DNS:other.test", &ca);
    client = issue("client", "URI:spiffe://td/x", &ca);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_pass_and_ends_are_told),
        cmocka_unit_test(large_bodies_pass),
        cmocka_unit_test(a_client_checks_chain_names_and_pins),
        cmocka_unit_test(pins_decide_with_or),
        cmocka_unit_test(a_server_demands_client_certificates),
        cmocka_unit_test(the_certificate_follows_the_name),
        cmocka_unit_test(the_server_chooses_the_protocol),
        cmocka_unit_test(sessions_resume_only_for_the_same_name),
        cmocka_unit_test(a_missing_secret_fails_closed),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(names_match_by_label),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    struct issued *all[] = {&ca, &stranger, &server, &other, &client};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        X509_free(all[i]->x509);
        EVP_PKEY_free(all[i]->key);
    }
    arena_free(&arena);
    arena_thread_release();
    return failed;
}
