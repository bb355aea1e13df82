/* The server's choice of certificate by SNI and what the client can verify; OCSP stapling. Worker
 * thread. */
#include <openssl/err.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/net/tls_internal.h"
#include "proxy/stats/stats.h"

enum { GROUPS_MOST = 64 };

bool tls_use_cert(SSL *ssl, const struct tls_cert *c)
{
    bool ok = SSL_use_cert_and_key(ssl, c->x509, c->key, c->chain, 1) == 1;
    if (!ok) ERR_clear_error();
    return ok;
}

/* 2: the name itself; 1: by its wildcard; 0: not. */
static int cert_fits(const struct tls_cert *c, struct str sni)
{
    int best = 0;
    for (size_t i = 0; i < c->name_count; i++) {
        if (str_eq(c->names[i], sni)) return 2;
        if (tls_dns_name_match(sni, c->names[i])) best = 1;
    }
    return best;
}

/* --- OCSP
 * ------------------------------------------------------------------------------------------------
 */

static bool staple_valid(const struct tls_conn *t, const struct tls_cert *c)
{
    return c->ocsp.len && c->ocsp_until_s > (int64_t)(loop_wall_us(t->worker->loop) / 1000000);
}

/* Envoy: whoever does not ask for a staple is served without. For those who ask, strict stapling
 * refuses a certificate whose response is stale, and a certificate that demands a staple needs a
 * good one. */
static bool staple_allows(const struct tls_conn *t, const struct tls_cert *c)
{
    if (SSL_get_tlsext_status_type(t->ssl) != TLSEXT_STATUSTYPE_ocsp) return true;
    switch (t->conf->ocsp) {
    case TLS_OCSP_LENIENT: return !c->must_staple || staple_valid(t, c);
    case TLS_OCSP_STRICT: return !c->ocsp.len || staple_valid(t, c);
    case TLS_OCSP_MUST: return staple_valid(t, c);
    }
    return false;
}

/* --- the choice
 * ------------------------------------------------------------------------------------------------
 */

/* TLS 1.3: a curve of keys is named by its signature algorithm. */
static bool client_signs(SSL *ssl, int curve)
{
    enum { ECDSA = 3, SHA256 = 4, SHA384 = 5, SHA512 = 6 };
    unsigned char wanted = curve == NID_secp384r1   ? SHA384
                           : curve == NID_secp521r1 ? SHA512
                                                    : SHA256;
    int count = SSL_get_sigalgs(ssl, -1, NULL, NULL, NULL, NULL, NULL);
    for (int i = 0; i < count; i++) {
        unsigned char sign = 0, hash = 0;
        (void)SSL_get_sigalgs(ssl, i, NULL, NULL, NULL, &sign, &hash);
        if (sign == ECDSA && hash == wanted) return true;
    }
    return false;
}

/* TLS 1.2: ciphers say which kinds of keys a client takes. */
static bool client_takes_ecdsa(SSL *ssl)
{
    const STACK_OF(SSL_CIPHER) *offered = SSL_get_client_ciphers(ssl);
    for (int i = 0; i < sk_SSL_CIPHER_num(offered); i++) {
        if (SSL_CIPHER_get_auth_nid(sk_SSL_CIPHER_value(offered, i)) == NID_auth_ecdsa) return true;
    }
    return false;
}

/* May the client know the curve of the key? One that lists no curves knows all. */
static bool client_knows(const struct tls_conn *t, const struct tls_cert *c)
{
    if (c->curve && SSL_version(t->ssl) >= TLS1_3_VERSION) return client_signs(t->ssl, c->curve);
    if (c->curve && !client_takes_ecdsa(t->ssl)) return false;
    int curves[GROUPS_MOST];
    long count = SSL_get1_groups(t->ssl, NULL);
    if (!c->curve || count <= 0 || count > GROUPS_MOST) return true;
    (void)SSL_get1_groups(t->ssl, curves);
    for (long i = 0; i < count; i++) {
        if (curves[i] == c->curve) return true;
    }
    return false;
}

static bool use_one(struct tls_conn *t, const struct tls_cert *c)
{
    return client_knows(t, c) && tls_use_cert(t->ssl, c);
}

/* Loads all that fit equally well: OpenSSL then picks by key type what the client can verify. */
static bool use_fitting(struct tls_conn *t, struct str sni, int wanted)
{
    bool used_rsa = false, used_ec = false;
    for (size_t i = 0; i < t->cert_count; i++) {
        const struct tls_cert *c = t->certs[i];
        bool *used = c->curve ? &used_ec : &used_rsa;
        if (*used || (wanted && cert_fits(c, sni) != wanted)) continue;
        *used = use_one(t, c);
    }
    return used_rsa || used_ec;
}

const struct tls_cert *tls_cert_for(const struct tls_conn *t, struct str sni)
{
    for (int wanted = 2; wanted > 0 && sni.len; wanted--) {
        for (size_t i = 0; i < t->cert_count; i++) {
            if (cert_fits(t->certs[i], sni) == wanted) return t->certs[i];
        }
    }
    return t->cert_count ? t->certs[0] : NULL;
}

static bool choose(struct tls_conn *t, struct str sni)
{
    if (sni.len && (use_fitting(t, sni, 2) || use_fitting(t, sni, 1))) return true;
    if (!sni.len || t->conf->full_scan) return use_fitting(t, sni, 0);
    return t->cert_count && tls_use_cert(t->ssl, t->certs[0]);
}

/* The certificate whose staple counts is the one that OpenSSL will take, which is known only later;
 * all that are loaded stand for the same names. */
static bool staples_allow(struct tls_conn *t)
{
    bool any = false;
    for (size_t i = 0; i < t->cert_count; i++) {
        (void)SSL_set_current_cert(t->ssl, SSL_CERT_SET_FIRST);
        bool loaded = false;
        do {
            X509 *x = SSL_get_certificate(t->ssl);
            loaded = x && X509_cmp(x, t->certs[i]->x509) == 0;
        } while (!loaded && SSL_set_current_cert(t->ssl, SSL_CERT_SET_NEXT) == 1);
        if (loaded && staple_allows(t, t->certs[i])) any = true;
    }
    return any;
}

int tls_on_cert(SSL *ssl, void *arg)
{
    (void)arg;
    struct tls_conn *t = tls_conn_of(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    struct str sni = name ? str_dup_lower(t->worker->scratch, str_of(name)) : STR_NONE;
    if (t->conf->on_demand) {
        int r = tls_on_demand_take(t);
        if (r < 0) return r;
        /* OpenSSL, left without a certificate, says what Envoy says: no handshake. */
        if (r == 0) return 1;
    }
    tls_session_lifetime(t);
    if (!choose(t, sni)) return 0;
    if (staples_allow(t)) return 1;
    t->hello_version = NULL; /* Envoy refuses before a version is agreed on */
    stat_inc(t->conf->stats, TLS_STAT_OCSP_REQUESTS);
    stat_inc(t->conf->stats, TLS_STAT_OCSP_FAILED);
    return 0;
}

int tls_on_status(SSL *ssl, void *arg)
{
    (void)arg;
    struct tls_conn *t = tls_conn_of(ssl);
    X509 *x = SSL_get_certificate(ssl);
    stat_inc(t->conf->stats, TLS_STAT_OCSP_REQUESTS);
    for (size_t i = 0; x && i < t->cert_count; i++) {
        const struct tls_cert *c = t->certs[i];
        if (X509_cmp(c->x509, x) != 0) continue;
        if (!staple_valid(t, c)) break;
        unsigned char *copy = OPENSSL_memdup(c->ocsp.ptr, c->ocsp.len); /* OpenSSL frees it */
        must(copy);
        (void)SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)c->ocsp.len);
        stat_inc(t->conf->stats, TLS_STAT_OCSP_RESPONSES);
        return SSL_TLSEXT_ERR_OK;
    }
    stat_inc(t->conf->stats, TLS_STAT_OCSP_OMITTED);
    return SSL_TLSEXT_ERR_NOACK;
}
