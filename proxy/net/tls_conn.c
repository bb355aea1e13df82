/* TLS on one connection: the transport socket's callbacks. Worker thread. */
#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/upstream.h"
#include "proxy/net/tls_internal.h"
#include "proxy/stats/stats.h"

enum { CHUNK = 16384 /* a record's most */ };

/* --- secrets
 * ------------------------------------------------------------------------------------------------
 */

static const struct tls_secret *secret_pin(struct tls_conn *t, const struct tls_secret_name *n,
                                           enum tls_secret_kind kind)
{
    struct pin *p = worker_find(t->worker, TABLE_SECRETS, n->name, n->hash);
    if (!p) return NULL;
    const struct tls_secret *s = (const struct tls_secret *)(const void *)p->obj;
    if (s->kind != kind) return NULL;
    t->pins[t->pin_count++] = pin_hold(p);
    return s;
}

static void secrets_drop(struct tls_conn *t)
{
    for (size_t i = 0; i < t->pin_count; i++)
        pin_drop(t->worker, &t->pins[i]);
    t->pin_count = 0;
}

/* All that the context needs, or nothing: a missing secret fails closed. */
static bool secrets_take(struct tls_conn *t)
{
    const struct tls_conf *c = t->conf;
    for (size_t i = 0; i < c->cert_count; i++)
        t->certs[t->cert_count++] = c->certs[i];
    for (size_t i = 0; i < c->cert_secret_count; i++) {
        const struct tls_secret *s = secret_pin(t, &c->cert_secrets[i], TLS_SECRET_CERT);
        if (!s) return false;
        t->certs[t->cert_count++] = s->cert;
    }
    if (c->validation_secret.name.len) {
        const struct tls_secret *s = secret_pin(t, &c->validation_secret, TLS_SECRET_VALIDATION);
        if (!s) return false;
        t->dynamic = s->validation;
    }
    t->tickets = c->tickets;
    if (!c->ticket_secret.name.len) return true;
    const struct tls_secret *s = secret_pin(t, &c->ticket_secret, TLS_SECRET_TICKETS);
    if (s) t->tickets = s->tickets;
    return s != NULL;
}

/* --- opening
 * --------------------------------------------------------------------------------------------------
 */

static void open_server(struct tls_conn *t)
{
    int mode = SSL_VERIFY_NONE;
    const struct tls_conf *c = t->conf;
    if (tls_wants_peer_cert(c->validation, t->dynamic)) mode = SSL_VERIFY_PEER;
    if (c->require_client || tls_needs_peer_cert(c->validation, t->dynamic))
        mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_set_verify(t->ssl, mode, NULL);
    const struct tls_validation *v =
        t->dynamic && t->dynamic->ca_names ? t->dynamic : c->validation;
    bool told = !(t->dynamic && t->dynamic->c.no_ca_names) &&
                !(c->validation && c->validation->c.no_ca_names);
    if (mode != SSL_VERIFY_NONE && v && v->ca_names && told)
        SSL_set_client_CA_list(t->ssl, SSL_dup_CA_list(v->ca_names));
    SSL_set_accept_state(t->ssl);
}

static void copy_wanted_names(struct tls_conn *t, const struct transport_ask *ask)
{
    struct arena *a = conn_arena(t->conn);
    size_t count = ask ? ask->verify_san_count : 0;
    if (!count && t->conf->auto_sni_san && t->sni.len) count = 1;
    if (!count) return;
    struct str *v = ARENA_ARRAY(a, struct str, count);
    for (size_t i = 0; i < count; i++)
        v[i] = ask && ask->verify_san_count ? str_dup(a, ask->verify_sans[i]) : t->sni;
    t->verify_sans = v;
    t->verify_san_count = count;
}

static void set_client_alpn(struct tls_conn *t, const struct transport_ask *ask)
{
    struct str wire = t->conf->alpn_wire;
    if (ask && ask->alpn_count) {
        struct sb b = {0};
        for (size_t i = 0; i < ask->alpn_count; i++) {
            if (ask->alpn[i].len == 0 || ask->alpn[i].len > 255) continue;
            sb_char(&b, (char)ask->alpn[i].len);
            sb_add(&b, ask->alpn[i]);
        }
        wire = str_dup(t->worker->scratch, sb_str(&b));
        sb_release(&b);
    }
    if (wire.len)
        (void)SSL_set_alpn_protos(t->ssl, (const unsigned char *)wire.ptr, (unsigned)wire.len);
}

static void open_client(struct tls_conn *t, const struct transport_ask *ask)
{
    const struct tls_conf *c = t->conf;
    struct str sni = ask && ask->sni.len ? ask->sni : c->sni;
    if (!(ask && ask->sni.len) && c->auto_host_sni && ask && ask->host && host_name(ask->host).len)
        sni = host_name(ask->host);
    t->sni = str_dup(conn_arena(t->conn), sni);
    if (t->sni.len) (void)SSL_set_tlsext_host_name(t->ssl, t->sni.ptr);
    copy_wanted_names(t, ask);
    set_client_alpn(t, ask);
    bool verify = tls_wants_peer_cert(c->validation, t->dynamic) || t->verify_san_count;
    SSL_set_verify(t->ssl, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
    if (t->cert_count) (void)tls_use_cert(t->ssl, t->certs[0]);
    SSL_set_connect_state(t->ssl);
    tls_resume(t);
}

void *tls_open(const struct transport_socket *ts, struct conn *c, int fd, bool server,
               const struct transport_ask *ask)
{
    const struct tls_conf *conf = (const struct tls_conf *)(const void *)ts;
    size_t asked = conf->on_demand ? 1 : 0; /* a certificate by name */
    size_t certs = conf->cert_count + conf->cert_secret_count + asked;
    size_t pins = conf->cert_secret_count + 2 + asked;
    struct tls_conn *t =
        mem_alloc(sizeof(*t) + certs * sizeof(*t->certs) + pins * sizeof(*t->pins));
    t->certs = (const struct tls_cert **)(void *)(t + 1);
    t->pins = (struct pin **)(void *)(t->certs + certs);
    t->conf = conf;
    t->conn = c;
    t->worker = conn_worker(c);
    t->facts = mem_alloc(sizeof(*t->facts));
    t->facts->refs = 1;
    t->facts->info.facts = t->facts;
    if (!secrets_take(t)) {
        stat_inc(conf->factory_stats,
                 server ? TLS_FACTORY_DOWNSTREAM_NOT_READY : TLS_FACTORY_UPSTREAM_NOT_READY);
        t->failure = STR("TLS error: Secret is not supplied by SDS");
        return t;
    }
    t->ssl = SSL_new(conf->ctx);
    must(t->ssl);
    (void)SSL_set_app_data(t->ssl, t);
    must(SSL_set_fd(t->ssl, fd) == 1);
    if (server)
        open_server(t);
    else
        open_client(t, ask);
    return t;
}

/* --- errors
 * ------------------------------------------------------------------------------------------------------
 */

/* OpenSSL wants an empty queue before each call; emptying an empty one costs 1.5 % of a request. */
static void clear_errors(void)
{
    if (ERR_peek_error()) ERR_clear_error();
}

static int tls_fail(struct tls_conn *t)
{
    bool saw, no_cert, verify;
    struct arena *a = conn_arena(t->conn);
    struct str text = tls_error_text(a, &saw, &no_cert, &verify);
    if (no_cert && !t->counted && conn_is_open(t->conn)) {
        stat_inc(t->conf->stats, TLS_STAT_FAIL_NO_CERT);
        t->counted = true;
    }
    /* A connection that was closed may outlive its configuration. */
    if (saw && !t->counted && conn_is_open(t->conn))
        stat_inc(t->conf->stats, TLS_STAT_CONNECTION_ERROR);
    t->counted = true;
    if (!t->conf->server && SSL_get_state(t->ssl) == TLS_ST_CW_CLNT_HELLO)
        text = tls_error_on_hello(a, text);
    if (!text.len && !t->up)
        text = STR("TLS_error:|connection closed during the handshake:TLS_error_end");
    if (no_cert) t->verify_text = STR("peer did not provide required client certificate");
    if ((verify || no_cert) && t->verify_text.len) {
        struct str head = str_sub(text, 0, text.len - (sizeof(":TLS_error_end") - 1));
        text = str_fmt(a, "%.*s:%.*s:TLS_error_end", STR_ARG(head), STR_ARG(t->verify_text));
    }
    t->failure = text;
    /* Envoy's logs name a version for failed handshakes, too. */
    if (!t->up)
        t->facts->info.version = str_of(t->hello_version                 ? t->hello_version
                                        : SSL_get_current_cipher(t->ssl) ? SSL_get_version(t->ssl)
                                                                         : "TLSv1.2");
    return TRANSPORT_ERROR;
}

/* --- handshake
 * ------------------------------------------------------------------------------------------------------
 */

static const char *sigalg_name(SSL *ssl)
{
    int type = NID_undef, hash = NID_undef;
    if (SSL_get_peer_signature_type_nid(ssl, &type) != 1) return NULL;
    (void)SSL_get_peer_signature_nid(ssl, &hash); /* none for ed25519 */
    static const struct {
        int type, hash;
        const char *name;
    } names[] = {
        {EVP_PKEY_RSA_PSS, NID_sha256, "rsa_pss_rsae_sha256"},
        {EVP_PKEY_RSA_PSS, NID_sha384, "rsa_pss_rsae_sha384"},
        {EVP_PKEY_RSA_PSS, NID_sha512, "rsa_pss_rsae_sha512"},
        {EVP_PKEY_RSA, NID_sha256, "rsa_pkcs1_sha256"},
        {EVP_PKEY_RSA, NID_sha384, "rsa_pkcs1_sha384"},
        {EVP_PKEY_RSA, NID_sha512, "rsa_pkcs1_sha512"},
        {EVP_PKEY_RSA, NID_sha1, "rsa_pkcs1_sha1"},
        {EVP_PKEY_EC, NID_sha256, "ecdsa_secp256r1_sha256"},
        {EVP_PKEY_EC, NID_sha384, "ecdsa_secp384r1_sha384"},
        {EVP_PKEY_EC, NID_sha512, "ecdsa_secp521r1_sha512"},
        {EVP_PKEY_EC, NID_sha1, "ecdsa_sha1"},
        {EVP_PKEY_ED25519, NID_undef, "ed25519"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (names[i].type == type && (names[i].hash == hash || names[i].hash == NID_undef))
            return names[i].name;
    }
    return NULL;
}

static void count_handshake(struct tls_conn *t)
{
    struct stat_group *g = t->conf->stats;
    stat_inc(g, TLS_STAT_HANDSHAKE);
    if (SSL_session_reused(t->ssl)) stat_inc(g, TLS_STAT_SESSION_REUSED);
    tls_stat_named(g, "ciphers", SSL_get_cipher_name(t->ssl));
    tls_stat_named(g, "versions", SSL_get_version(t->ssl));
    if (t->facts->info.group.len) tls_stat_named(g, "curves", t->facts->info.group.ptr);
    const char *sigalg = SSL_session_reused(t->ssl) ? NULL : sigalg_name(t->ssl);
    if (sigalg) tls_stat_named(g, "sigalgs", sigalg);
    if (!t->facts->info.peer.present) stat_inc(g, TLS_STAT_NO_CERTIFICATE);
}

/* An RSA certificate of the server says what it is for; OpenSSL does not ask. Envoy 1.40 enforces
 * it whatever enforce_rsa_key_usage says. */
static bool key_usage_fits(const struct tls_conn *t)
{
    X509 *peer = SSL_get0_peer_certificate(t->ssl);
    if (t->conf->server || !peer || EVP_PKEY_get_base_id(X509_get0_pubkey(peer)) != EVP_PKEY_RSA)
        return true;
    bool signs = SSL_CIPHER_get_kx_nid(SSL_get_current_cipher(t->ssl)) != NID_kx_rsa;
    uint32_t wanted = signs ? X509v3_KU_DIGITAL_SIGNATURE : X509v3_KU_KEY_ENCIPHERMENT;
    return (X509_get_key_usage(peer) & wanted) != 0;
}

/* What a session remembers of its client is worth nothing once the certificate has expired. */
static bool session_expired(const struct tls_conn *t)
{
    X509 *peer = SSL_get0_peer_certificate(t->ssl);
    const struct tls_validation *v = t->dynamic ? t->dynamic : t->conf->validation;
    return t->conf->server && SSL_session_reused(t->ssl) && peer && v && v->store &&
           !v->c.allow_expired && !v->c.accept_untrusted &&
           X509_cmp_current_time(X509_get0_notAfter(peer)) < 0;
}

static int handshake_end(struct tls_conn *t)
{
    if (session_expired(t)) {
        t->failure =
            STR("TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:"
                "certificate has expired:TLS_error_end");
        stat_inc(t->conf->stats, TLS_STAT_FAIL_ERROR);
        t->counted = true;
        return TRANSPORT_ERROR;
    }
    if (!key_usage_fits(t)) {
        t->failure = STR(
            "TLS_error:|268435758:SSL routines:OPENSSL_internal:KEY_USAGE_BIT_INCORRECT:TLS_error_end");
        stat_inc(t->conf->stats, TLS_STAT_CONNECTION_ERROR);
        t->counted = true;
        return TRANSPORT_ERROR;
    }
    t->up = true;
    tls_fill_info(t);
    struct tls_info *info = &t->facts->info;
    if (SSL_session_reused(t->ssl))
        info->peer_validated = info->peer.present && SSL_get_verify_result(t->ssl) == X509_V_OK;
    count_handshake(t);
    secrets_drop(t);
    t->dynamic = NULL;
    t->cert_count = 0;
    return 0;
}

int tls_handshake(void *arg)
{
    struct tls_conn *t = arg;
    if (!t->ssl) return TRANSPORT_ERROR;
    clear_errors();
    int r = SSL_do_handshake(t->ssl);
    if (r == 1) return handshake_end(t);
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_READ: return TRANSPORT_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return TRANSPORT_WANT_WRITE;
    case SSL_ERROR_WANT_X509_LOOKUP: return TRANSPORT_WAIT;
    default: return tls_fail(t);
    }
}

/* --- bytes
 * --------------------------------------------------------------------------------------------------------------
 */

static ssize_t tls_result(struct tls_conn *t, int r)
{
    switch (SSL_get_error(t->ssl, r)) {
    case SSL_ERROR_WANT_READ: return TRANSPORT_WANT_READ;
    case SSL_ERROR_WANT_WRITE: return TRANSPORT_WANT_WRITE;
    case SSL_ERROR_ZERO_RETURN: return 0;
    default: return tls_fail(t);
    }
}

ssize_t tls_read(void *arg, void *to, size_t len)
{
    struct tls_conn *t = arg;
    size_t got = 0;
    clear_errors();
    int r = SSL_read_ex(t->ssl, to, len, &got);
    return r == 1 ? (ssize_t)got : tls_result(t, r);
}

/* Small pieces go out as one record: each record costs a system call and 29 bytes. */
static struct str join(struct tls_conn *t, const struct iovec *iov, int count)
{
    if (count == 1 || iov[0].iov_len >= CHUNK)
        return str_make(iov[0].iov_base, iov[0].iov_len < CHUNK ? iov[0].iov_len : CHUNK);
    struct net_worker *n = net_worker(t->worker);
    if (!n->tls_chunk) n->tls_chunk = mem_alloc(CHUNK);
    size_t len = 0;
    for (int i = 0; i < count && len < CHUNK; i++) {
        size_t take = iov[i].iov_len < CHUNK - len ? iov[i].iov_len : CHUNK - len;
        memcpy(n->tls_chunk + len, iov[i].iov_base, take);
        len += take;
    }
    return str_make(n->tls_chunk, len);
}

ssize_t tls_writev(void *arg, const struct iovec *iov, int count)
{
    struct tls_conn *t = arg;
    struct str bytes = join(t, iov, count);
    size_t put = 0;
    clear_errors();
    int r = SSL_write_ex(t->ssl, bytes.ptr, bytes.len, &put);
    if (r == 1) return (ssize_t)put;
    ssize_t result = tls_result(t, r);
    return result == 0 ? TRANSPORT_ERROR : result;
}

int tls_shutdown(void *arg)
{
    struct tls_conn *t = arg;
    if (!t->ssl || !t->up) return 0;
    clear_errors();
    int r = SSL_shutdown(t->ssl);
    if (r >= 0) return 0;
    int e = SSL_get_error(t->ssl, r);
    clear_errors();
    return e == SSL_ERROR_WANT_WRITE ? TRANSPORT_WANT_WRITE : 0;
}

bool tls_pending(void *arg)
{
    const struct tls_conn *t = arg;
    return t->ssl && SSL_has_pending(t->ssl);
}

/* --- facts
 * --------------------------------------------------------------------------------------------------------------
 */

const struct tls_info *tls_info_get(void *arg)
{
    const struct tls_conn *t = arg;
    return t->up || t->facts->info.version.len ? &t->facts->info : NULL;
}

struct str tls_alpn(void *arg)
{
    const struct tls_conn *t = arg;
    const unsigned char *p = NULL;
    unsigned len = 0;
    if (t->ssl) SSL_get0_alpn_selected(t->ssl, &p, &len);
    return str_make((const char *)p, len);
}

struct str tls_failure(void *arg)
{
    const struct tls_conn *t = arg;
    return t->failure;
}

void tls_close(void *arg)
{
    struct tls_conn *t = arg;
    on_demand_cancel(&t->question);
    secrets_drop(t);
    /* OpenSSL forbids to resume a session whose connection it did not see closed in order; ours end
     * as it suits HTTP. */
    if (t->up) SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(t->ssl);
    clear_errors();
    const struct tls_info *info = &t->facts->info;
    tls_info_unref(&info);
    mem_free(t);
}
