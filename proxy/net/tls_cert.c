/* Certificates with their keys: PEM or PKCS#12 to OpenSSL's objects, with Envoy's checks and words.
 * Main thread. */
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/net/tls_internal.h"

enum { RSA_LEAST_BITS = 2048 };

static BIO *bio_of(struct str s)
{
    BIO *b = BIO_new_mem_buf(s.ptr ? s.ptr : "", (int)s.len);
    must(b);
    return b;
}

/* Never asks at a terminal. */
static int password_of(char *to, int size, int writing, void *arg)
{
    (void)writing;
    const struct str *password = arg;
    if (!password->ptr || password->len > (size_t)size) return -1;
    memcpy(to, password->ptr, password->len);
    return (int)password->len;
}

static void free_x509(void *p)
{
    X509_free(p);
}
static void free_key(void *p)
{
    EVP_PKEY_free(p);
}
static void free_chain(void *p)
{
    sk_X509_pop_free((STACK_OF(X509) *)p, X509_free);
}

/* "error:0b000074:X.509 certificate routines:..." in OpenSSL's numbering. */
static struct str cause(struct arena *a)
{
    char text[256] = "unknown";
    unsigned long e = ERR_peek_last_error();
    if (e) ERR_error_string_n(e, text, sizeof(text));
    ERR_clear_error();
    return str_dup(a, str_of(text));
}

/* --- loading
 * ------------------------------------------------------------------------------------------- */

static bool load_chain(const struct conf_at *at, const struct tls_cert_source *s,
                       struct tls_cert *c)
{
    BIO *b = bio_of(s->chain);
    c->x509 = PEM_read_bio_X509_AUX(b, NULL, NULL, NULL);
    bool ok = c->x509 != NULL;
    c->chain = sk_X509_new_null();
    must(c->chain);
    for (X509 *x; ok && (x = PEM_read_bio_X509(b, NULL, NULL, NULL));)
        (void)sk_X509_push(c->chain, x);
    BIO_free(b);
    /* The end of the text is the only good reason to stop. */
    unsigned long e = ERR_peek_last_error();
    if (ok && e && !(ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE))
        ok = false;
    ERR_clear_error();
    if (ok) return true;
    struct conf_at field = conf_field(at, "certificate_chain");
    return conf_fail(&field, "Failed to load certificate chain from %.*s", STR_ARG(s->chain_name));
}

static bool load_key(const struct conf_at *at, const struct tls_cert_source *s, struct tls_cert *c)
{
    struct str password = s->password;
    BIO *b = bio_of(s->key);
    c->key = PEM_read_bio_PrivateKey(b, NULL, password_of, &password);
    BIO_free(b);
    struct conf_at field = conf_field(at, "private_key");
    if (!c->key) {
        struct str why = cause(conf_arena(at));
        return conf_fail(&field, "Failed to load private key from %.*s, Cause: %.*s",
                         STR_ARG(s->key_name), STR_ARG(why));
    }
    if (X509_check_private_key(c->x509, c->key) == 1) return true;
    ERR_clear_error();
    return conf_fail(
        &field,
        "Failed to load private key from %.*s: it is not the certificate's key, Cause: "
        "error:0b000074:X.509 certificate routines:OPENSSL_internal:KEY_VALUES_MISMATCH",
        STR_ARG(s->key_name));
}

static bool load_pkcs12(const struct conf_at *at, const struct tls_cert_source *s,
                        struct tls_cert *c)
{
    struct conf_at field = conf_field(at, "pkcs12");
    BIO *b = bio_of(s->pkcs12);
    PKCS12 *p = d2i_PKCS12_bio(b, NULL);
    BIO_free(b);
    char *password = s->password.ptr ? str_z(conf_arena(at), s->password) : NULL;
    bool ok =
        p && PKCS12_parse(p, password, &c->key, &c->x509, &c->chain) == 1 && c->x509 && c->key;
    PKCS12_free(p);
    if (ok) return true;
    struct str why = cause(conf_arena(at));
    return conf_fail(&field, "Failed to load pkcs12 from %.*s, Cause: %.*s", STR_ARG(s->chain_name),
                     STR_ARG(why));
}

static bool check_key_kind(const struct conf_at *at, const struct tls_cert_source *s,
                           const struct tls_cert *c)
{
    struct conf_at field = conf_field(at, "certificate_chain");
    EVP_PKEY *public = X509_get0_pubkey(c->x509);
    int kind = public ? EVP_PKEY_get_base_id(public) : 0;
    if (kind == EVP_PKEY_RSA && EVP_PKEY_get_bits(public) < RSA_LEAST_BITS) {
        return conf_fail(
            &field,
            "Failed to load certificate chain from %.*s, only RSA certificates with 2048-bit or larger keys are supported",
            STR_ARG(s->chain_name));
    }
    if (kind == EVP_PKEY_EC && EVP_PKEY_get_bits(public) != 256 &&
        EVP_PKEY_get_bits(public) != 384 && EVP_PKEY_get_bits(public) != 521) {
        return conf_fail(
            &field,
            "Failed to load certificate chain from %.*s, only P-256, P-384 or P-521 ECDSA certificates are supported",
            STR_ARG(s->chain_name));
    }
    return true;
}

/* --- OCSP
 * ------------------------------------------------------------------------------------------------
 */

static bool load_ocsp(const struct conf_at *at, const struct tls_cert_source *s, struct tls_cert *c)
{
    struct conf_at field = conf_field(at, "ocsp_staple");
    if (!s->ocsp.len) return true;
    const unsigned char *p = (const unsigned char *)s->ocsp.ptr;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &p, (long)s->ocsp.len);
    OCSP_BASICRESP *basic = r ? OCSP_response_get1_basic(r) : NULL;
    ASN1_GENERALIZEDTIME *next = NULL;
    bool ok = basic && OCSP_resp_count(basic) == 1;
    if (ok) (void)OCSP_single_get0_status(OCSP_resp_get0(basic, 0), NULL, NULL, NULL, &next);
    struct tm tm;
    c->ocsp_until_s = INT64_MAX;
    if (ok && next && ASN1_TIME_to_tm(next, &tm) == 1) c->ocsp_until_s = (int64_t)timegm(&tm);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(r);
    ERR_clear_error();
    c->ocsp = str_dup(conf_arena(at), s->ocsp);
    return ok || conf_fail(&field, "OCSP response is malformed");
}

static int key_curve(EVP_PKEY *key)
{
    char name[80];
    size_t len = 0;
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC ||
        EVP_PKEY_get_group_name(key, name, sizeof(name), &len) != 1)
        return 0;
    int nid = OBJ_txt2nid(name);
    return nid != NID_undef ? nid : EC_curve_nist2nid(name);
}

static bool wants_staple(X509 *x)
{
    return X509_get_ext_by_NID(x, NID_tlsfeature, -1) >= 0;
}

/* --- names
 * --------------------------------------------------------------------------------------------------
 */

static void cert_names(struct arena *a, struct tls_cert *c)
{
    struct tls_names dns = tls_san_texts(a, c->x509, GEN_DNS, NULL);
    if (!dns.count) {
        char cn[256];
        int n = X509_NAME_get_text_by_NID(X509_get_subject_name(c->x509), NID_commonName, cn,
                                          sizeof(cn));
        if (n > 0) {
            dns.v = ARENA_NEW(a, struct str);
            dns.v[0] = str_dup(a, str_make(cn, (size_t)n));
            dns.count = 1;
        }
    }
    for (size_t i = 0; i < dns.count; i++)
        dns.v[i] = str_dup_lower(a, dns.v[i]);
    c->names = dns.v;
    c->name_count = dns.count;
}

static bool source_complete(const struct conf_at *at, const struct tls_cert_source *s)
{
    if (s->pkcs12.len) return true;
    if (!s->chain.len) {
        struct conf_at field = conf_field(at, "certificate_chain");
        return conf_fail(
            &field, "Failed to load incomplete certificate from %.*s: certificate chain not set",
            STR_ARG(s->chain_name));
    }
    if (s->key.len) return true;
    struct conf_at field = conf_field(at, "private_key");
    return conf_fail(&field, "Failed to load incomplete private key from path: %.*s",
                     STR_ARG(s->key_name));
}

const struct tls_cert *tls_cert_new(const struct conf_at *at, const struct tls_cert_source *s)
{
    if (!source_complete(at, s)) return NULL;
    struct arena *a = conf_arena(at);
    struct tls_cert *c = ARENA_NEW(a, struct tls_cert);
    bool ok = s->pkcs12.len
                  ? load_pkcs12(at, s, c)
                  : load_chain(at, s, c) && check_key_kind(at, s, c) && load_key(at, s, c);
    arena_on_free(a, free_x509, c->x509);
    arena_on_free(a, free_key, c->key);
    arena_on_free(a, free_chain, c->chain);
    if (!ok || !check_key_kind(at, s, c) || !load_ocsp(at, s, c)) return NULL;
    unsigned size = TLS_HASH_SIZE;
    must(X509_digest(c->x509, EVP_sha256(), c->digest, &size) == 1);
    c->stat_name = tls_stat_name(a, s->name, "cert", s->chain_bytes);
    c->path = str_dup(a, s->chain_name);
    c->must_staple = wants_staple(c->x509);
    c->curve = key_curve(c->key);
    cert_names(a, c);
    tls_cert_facts(a, c->x509, &c->info);
    return c;
}
