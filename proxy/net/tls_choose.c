/* The server's choice of certificate by SNI and what the client can verify; OCSP stapling. Worker
 * thread. */
#include <openssl/err.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/net/tls_internal.h"
#include "proxy/stats/stats.h"

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

static bool staple_valid(const struct tls_conn *t, const struct tls_cert *c)
{
    return c->ocsp.len && c->ocsp_until_s > (int64_t)(loop_wall_us(t->worker->loop) / 1000000);
}

/* Envoy: with strict stapling a certificate whose response is stale is not used; must-staple ones
 * need a good response. */
static bool staple_allows(const struct tls_conn *t, const struct tls_cert *c)
{
    switch (t->conf->ocsp) {
    case TLS_OCSP_LENIENT: return !c->must_staple || staple_valid(t, c);
    case TLS_OCSP_STRICT: return !c->ocsp.len || staple_valid(t, c);
    case TLS_OCSP_MUST: return staple_valid(t, c);
    }
    return false;
}

/* Loads all that fit equally well: OpenSSL then picks by key type what the client can verify. */
static bool use_fitting(struct tls_conn *t, struct str sni, int wanted)
{
    bool used_rsa = false, used_ec = false, any = false;
    for (size_t i = 0; i < t->cert_count; i++) {
        const struct tls_cert *c = t->certs[i];
        if (wanted && cert_fits(c, sni) != wanted) continue;
        bool ec = EVP_PKEY_get_base_id(c->key) == EVP_PKEY_EC;
        if (ec ? used_ec : used_rsa) continue;
        if (!staple_allows(t, c) || !tls_use_cert(t->ssl, c)) continue;
        if (ec)
            used_ec = true;
        else
            used_rsa = true;
        any = true;
    }
    return any;
}

static bool use_first(struct tls_conn *t)
{
    return t->cert_count && staple_allows(t, t->certs[0]) && tls_use_cert(t->ssl, t->certs[0]);
}

int tls_on_cert(SSL *ssl, void *arg)
{
    (void)arg;
    struct tls_conn *t = tls_conn_of(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    struct str sni = name ? str_dup_lower(t->worker->scratch, str_of(name)) : STR_NONE;
    if (sni.len && (use_fitting(t, sni, 2) || use_fitting(t, sni, 1))) return 1;
    if (!sni.len || t->conf->full_scan) return use_fitting(t, sni, 0);
    return use_first(t);
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
