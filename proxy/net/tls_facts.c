/* What is known of a TLS connection and of certificates, as text: for logs, header formats and
 * matchers. */
#include <arpa/inet.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "base/text.h"
#include "proxy/net/tls_internal.h"

enum { FACTS_BLOCK = 512 };

/* --- alternative names
 * ------------------------------------------------------------------------------------- */

static struct str asn1_text(struct arena *a, const ASN1_STRING *s)
{
    return str_dup(a,
                   str_make((const char *)ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s)));
}

static struct str ip_text(struct arena *a, const ASN1_OCTET_STRING *s)
{
    char text[INET6_ADDRSTRLEN];
    int len = ASN1_STRING_length(s);
    int family = len == 4 ? AF_INET : AF_INET6;
    if ((len != 4 && len != 16) || !inet_ntop(family, ASN1_STRING_get0_data(s), text, sizeof(text)))
        return STR_NONE;
    return str_dup(a, str_of(text));
}

static struct str other_text(struct arena *a, const OTHERNAME *o, const char *oid)
{
    char text[128];
    int n = OBJ_obj2txt(text, sizeof(text), o->type_id, 1);
    if (n <= 0 || (oid && strcmp(text, oid) != 0)) return STR_NONE;
    unsigned char *utf8 = NULL;
    int len = o->value->type == V_ASN1_SEQUENCE || !o->value->value.asn1_string
                  ? -1
                  : ASN1_STRING_to_UTF8(&utf8, o->value->value.asn1_string);
    if (len < 0) return STR_NONE;
    struct str s = str_dup(a, str_make((const char *)utf8, (size_t)len));
    OPENSSL_free(utf8);
    return s;
}

/* Length-aware: a name with an embedded NUL keeps it, so that it equals nothing that was
 * configured. */
static struct str san_text(struct arena *a, const GENERAL_NAME *g, const char *oid)
{
    switch (g->type) {
    case GEN_DNS: return asn1_text(a, g->d.dNSName);
    case GEN_URI: return asn1_text(a, g->d.uniformResourceIdentifier);
    case GEN_EMAIL: return asn1_text(a, g->d.rfc822Name);
    case GEN_IPADD: return ip_text(a, g->d.iPAddress);
    case GEN_OTHERNAME: return other_text(a, g->d.otherName, oid);
    default: return STR_NONE;
    }
}

struct tls_names tls_san_texts(struct arena *a, X509 *x, int gen_type, const char *oid)
{
    struct tls_names out = {0};
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    if (!names) return out;
    out.v = ARENA_ARRAY(a, struct str, (size_t)sk_GENERAL_NAME_num(names));
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
        if (g->type != gen_type) continue;
        struct str text = san_text(a, g, oid);
        if (text.ptr) out.v[out.count++] = text;
    }
    GENERAL_NAMES_free(names);
    return out;
}

/* --- one certificate
 * --------------------------------------------------------------------------------------------- */

static struct str bio_text(struct arena *a, BIO *b)
{
    char *ptr;
    long len = BIO_get_mem_data(b, &ptr);
    struct str s = str_dup(a, str_make(ptr, len > 0 ? (size_t)len : 0));
    BIO_free(b);
    return s;
}

static struct str name_text(struct arena *a, X509_NAME *n)
{
    BIO *b = BIO_new(BIO_s_mem());
    must(b);
    (void)X509_NAME_print_ex(b, n, 0,
                             XN_FLAG_RFC2253); /* an empty text when it cannot be printed */
    return bio_text(a, b);
}

static struct str serial_text(struct arena *a, X509 *x)
{
    BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    char *hex = n ? BN_bn2hex(n) : NULL;
    struct str s = hex ? str_dup_lower(a, str_of(hex)) : STR_NONE;
    OPENSSL_free(hex);
    BN_free(n);
    return s;
}

static struct str fingerprint(struct arena *a, X509 *x, const EVP_MD *md)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned size = sizeof(hash);
    if (X509_digest(x, md, hash, &size) != 1) return STR_NONE;
    return hex_encode(a, str_make((const char *)hash, size));
}

int64_t tls_time_s(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

void tls_cert_facts(struct arena *a, X509 *x, struct tls_cert_info *out)
{
    out->present = true;
    out->subject = name_text(a, X509_get_subject_name(x));
    out->issuer = name_text(a, X509_get_issuer_name(x));
    out->serial = serial_text(a, x);
    out->fingerprint_256 = fingerprint(a, x, EVP_sha256());
    out->fingerprint_1 = fingerprint(a, x, EVP_sha1());
    out->uri_san = tls_san_texts(a, x, GEN_URI, NULL);
    out->dns_san = tls_san_texts(a, x, GEN_DNS, NULL);
    out->ip_san = tls_san_texts(a, x, GEN_IPADD, NULL);
    out->email_san = tls_san_texts(a, x, GEN_EMAIL, NULL);
    out->othername_san = tls_san_texts(a, x, GEN_OTHERNAME, NULL);
    out->valid_from = tls_time_s(X509_get0_notBefore(x));
    out->valid_to = tls_time_s(X509_get0_notAfter(x));
}

struct str tls_digest_hex(struct arena *a, enum tls_digest which, struct str bytes)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned size = sizeof(hash);
    const EVP_MD *md = which == TLS_DIGEST_MD5 ? EVP_md5() : EVP_sha256();
    if (EVP_Digest(bytes.ptr ? bytes.ptr : "", bytes.len, hash, &size, md, NULL) != 1)
        return STR_NONE; /* FIPS providers know no MD5 */
    return hex_encode(a, str_make((const char *)hash, size));
}

/* --- the connection
 * ----------------------------------------------------------------------------------------------------
 */

struct arena *tls_facts_arena(struct tls_facts *f)
{
    if (!f->arena) f->arena = arena_new("tls", FACTS_BLOCK);
    return f->arena;
}

static struct tls_facts *facts_of(const struct tls_info *t)
{
    return t ? t->facts : NULL;
}

const struct tls_info *tls_info_ref(const struct tls_info *t)
{
    struct tls_facts *f = facts_of(t);
    if (f) f->refs++;
    return t;
}

void tls_info_unref(const struct tls_info **t)
{
    struct tls_facts *f = facts_of(*t);
    *t = NULL;
    if (!f || --f->refs) return;
    X509_free(f->peer);
    X509_free(f->issuer);
    sk_X509_pop_free(f->chain, X509_free);
    arena_free(&f->arena);
    mem_free(f);
}

/* The certificate that we showed. A resumed session shows none; then the one it would be. */
static const struct tls_cert *own_cert(const struct tls_conn *t)
{
    X509 *x = SSL_get_certificate(t->ssl);
    if (!x && t->conf->server) return tls_cert_for(t, t->facts->info.sni);
    for (size_t i = 0; x && i < t->cert_count; i++) {
        if (X509_cmp(t->certs[i]->x509, x) == 0) return t->certs[i];
    }
    return NULL;
}

static void copy_local(struct arena *a, const struct tls_cert_info *from, struct tls_cert_info *to)
{
    /* The certificate may be rotated away while the connection lives. */
    *to = (struct tls_cert_info){
        .present = true, .valid_from = from->valid_from, .valid_to = from->valid_to};
    to->subject = str_dup(a, from->subject);
    to->issuer = str_dup(a, from->issuer);
    to->serial = str_dup(a, from->serial);
    const struct tls_names *lists[] = {&from->uri_san, &from->dns_san, &from->ip_san,
                                       &from->email_san, &from->othername_san};
    struct tls_names *copies[] = {&to->uri_san, &to->dns_san, &to->ip_san, &to->email_san,
                                  &to->othername_san};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        if (!lists[i]->count) continue;
        copies[i]->v = ARENA_ARRAY(a, struct str, lists[i]->count);
        copies[i]->count = lists[i]->count;
        for (size_t k = 0; k < lists[i]->count; k++)
            copies[i]->v[k] = str_dup(a, lists[i]->v[k]);
    }
}

void tls_fill_peer(struct tls_conn *t, X509 *peer)
{
    struct tls_facts *f = t->facts;
    if (!peer || f->peer) return;
    must(X509_up_ref(peer) == 1);
    f->peer = peer;
    tls_cert_facts(tls_facts_arena(f), peer, &f->info.peer);
}

/* OpenSSL's server leaves the leaf out, its client does not. */
static void keep_chain(struct tls_facts *f, const STACK_OF(X509) * sent, bool server)
{
    for (int i = server ? 0 : 1; i < sk_X509_num(sent); i++) {
        X509 *x = sk_X509_value(sent, i);
        if (!f->chain) f->chain = sk_X509_new_null();
        must(f->chain && X509_up_ref(x) == 1);
        (void)sk_X509_push(f->chain, x);
    }
}

static struct str session_text(struct arena *a, const SSL *ssl)
{
    /* In TLS 1.3 it is a formality; with tickets it is the client's invention. */
    unsigned len = 0;
    const SSL_SESSION *session = SSL_get_session(ssl);
    if (!session || SSL_version(ssl) >= TLS1_3_VERSION) return STR_NONE;
    const unsigned char *id = SSL_SESSION_get_id(session, &len);
    return len ? hex_encode(a, str_make((const char *)id, len)) : STR_NONE;
}

void tls_fill_info(struct tls_conn *t)
{
    struct tls_facts *f = t->facts;
    struct arena *a = tls_facts_arena(f);
    struct tls_info *i = &f->info;
    i->version = str_of(SSL_get_version(t->ssl));
    i->cipher = str_of(SSL_get_cipher_name(t->ssl));
    i->group = str_of(tls_group_name((int)SSL_get_negotiated_group(t->ssl)));
    const char *sni =
        t->conf->server ? SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name) : NULL;
    i->sni = t->conf->server ? str_dup_lower(a, str_of(sni)) : str_dup(a, t->sni);
    i->alpn = str_dup(a, tls_alpn(t));
    i->session_id = session_text(a, t->ssl);
    tls_fill_peer(t, SSL_get0_peer_certificate(t->ssl));
    keep_chain(f, SSL_get_peer_cert_chain(t->ssl), t->conf->server);
    const struct tls_cert *own = own_cert(t);
    if (own) copy_local(a, &own->info, &i->local);
}

/* --- what is asked rarely
 * ------------------------------------------------------------------------------------------------
 */

static struct str text_pem(struct arena *a, X509 *x)
{
    BIO *b = BIO_new(BIO_s_mem());
    must(b);
    (void)PEM_write_bio_X509(b, x);
    return percent_encode(a, bio_text(a, b), STR(""));
}

static struct str text_of(struct arena *a, X509 *x, enum tls_text which)
{
    switch (which) {
    case TLS_TEXT_PEER_PEM:
    case TLS_TEXT_CHAIN_PEM: return text_pem(a, x);
    case TLS_TEXT_CHAIN_FINGERPRINTS_256:
    case TLS_TEXT_ISSUER_FINGERPRINT_256: return fingerprint(a, x, EVP_sha256());
    case TLS_TEXT_CHAIN_FINGERPRINTS_1: return fingerprint(a, x, EVP_sha1());
    case TLS_TEXT_CHAIN_SERIALS:
    case TLS_TEXT_ISSUER_SERIAL: return serial_text(a, x);
    }
    return STR_NONE;
}

struct str tls_info_text(const struct tls_info *t, enum tls_text which, struct arena *a)
{
    const struct tls_facts *f = facts_of(t);
    if (!f || !f->peer) return STR_NONE;
    if (which == TLS_TEXT_PEER_PEM) return text_of(a, f->peer, which);
    if (which == TLS_TEXT_ISSUER_FINGERPRINT_256 || which == TLS_TEXT_ISSUER_SERIAL)
        return f->issuer ? text_of(a, f->issuer, which) : STR_NONE;
    struct sb all = {0};
    sb_add(&all, text_of(a, f->peer, which));
    for (int i = 0; i < sk_X509_num(f->chain); i++) {
        if (which != TLS_TEXT_CHAIN_PEM) sb_char(&all, ',');
        sb_add(&all, text_of(a, sk_X509_value(f->chain, i), which));
    }
    struct str text = str_dup(a, sb_str(&all));
    sb_release(&all);
    return text;
}
