/* Judging a peer's certificate: trust chain, revocation, subject alternative names, pins; with
 * Envoy's rules of which is "and" and which "or". tls_validation_new runs on main, the rest in
 * workers. */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "base/text.h"
#include "proxy/net/tls_internal.h"
#include "proxy/stats/stats.h"

/* --- making
 * -----------------------------------------------------------------------------------------------
 */

static void free_store(void *p)
{
    X509_STORE_free(p);
}
static void free_names(void *p)
{
    sk_X509_NAME_pop_free((STACK_OF(X509_NAME) *)p, X509_NAME_free);
}

static void add_ca_name(struct tls_validation *v, X509 *x)
{
    X509_NAME *name = X509_NAME_dup(X509_get_subject_name(x));
    must(name);
    for (int i = 0; i < sk_X509_NAME_num(v->ca_names); i++) {
        if (X509_NAME_cmp(sk_X509_NAME_value(v->ca_names, i), name) != 0) continue;
        X509_NAME_free(name);
        return;
    }
    (void)sk_X509_NAME_push(v->ca_names, name);
}

int tls_load_pem(struct tls_validation *v, X509_STORE *store, struct str pem, bool certs,
                 unsigned long crl_flags)
{
    BIO *b = BIO_new_mem_buf(pem.ptr ? pem.ptr : "", (int)pem.len);
    must(b);
    STACK_OF(X509_INFO) *list = PEM_X509_INFO_read_bio(b, NULL, NULL, NULL);
    BIO_free(b);
    if (!list) return -1;
    int count = 0;
    for (int i = 0; i < sk_X509_INFO_num(list); i++) {
        X509_INFO *item = sk_X509_INFO_value(list, i);
        if (item->x509 && certs) {
            if (X509_STORE_add_cert(store, item->x509) == 1) count++;
            int64_t until_s = tls_time_s(X509_get0_notAfter(item->x509));
            if (v->ca_until_s == 0 || until_s < v->ca_until_s) v->ca_until_s = until_s;
            add_ca_name(v, item->x509);
        }
        if (item->crl && X509_STORE_add_crl(store, item->crl) == 1) {
            (void)X509_STORE_set_flags(store, crl_flags);
            if (!certs) count++;
        }
    }
    sk_X509_INFO_pop_free(list, X509_INFO_free);
    ERR_clear_error();
    return count;
}

X509_STORE *tls_store_new(struct arena *a)
{
    X509_STORE *store = X509_STORE_new();
    must(store);
    arena_on_free(a, free_store, store);
    return store;
}

static bool load_trust(const struct conf_at *at, const struct tls_validation_source *s,
                       struct tls_validation *v)
{
    if (!s->ca.len && !s->system_roots) {
        if (!s->crl.len) return true;
        struct conf_at field = conf_field(at, "crl");
        return conf_fail(&field, "Failed to load CRL from %.*s without trusted CA",
                         STR_ARG(s->crl_name));
    }
    v->store = tls_store_new(conf_arena(at));
    if (s->system_roots && X509_STORE_set_default_paths(v->store) != 1) {
        struct conf_at field = conf_field(at, "system_root_certs");
        return conf_fail(&field, "no system root certificates");
    }
    unsigned long flags =
        X509_V_FLAG_CRL_CHECK | (s->only_leaf_crl ? 0UL : (unsigned long)X509_V_FLAG_CRL_CHECK_ALL);
    if (s->ca.len && tls_load_pem(v, v->store, s->ca, true, flags) <= 0) {
        struct conf_at field = conf_field(at, "trusted_ca");
        return conf_fail(&field, "Failed to load trusted CA certificates from %.*s",
                         STR_ARG(s->ca_name));
    }
    if (s->crl.len && tls_load_pem(v, v->store, s->crl, false, flags) < 0) {
        struct conf_at field = conf_field(at, "crl");
        return conf_fail(&field, "Failed to load CRL from %.*s", STR_ARG(s->crl_name));
    }
    (void)X509_STORE_set_flags(
        v->store, X509_V_FLAG_PARTIAL_CHAIN |
                      (s->allow_expired ? (unsigned long)X509_V_FLAG_NO_CHECK_TIME : 0UL));
    return true;
}

static void digest_add(EVP_MD_CTX *d, const void *bytes, size_t len)
{
    must(EVP_DigestUpdate(d, &len, sizeof(len)) == 1 && EVP_DigestUpdate(d, bytes, len) == 1);
}

/* Of everything that decides whom we trust. */
static void validation_digest(const struct tls_validation_source *s, uint8_t out[TLS_HASH_SIZE])
{
    EVP_MD_CTX *d = EVP_MD_CTX_new();
    must(d && EVP_DigestInit_ex(d, EVP_sha256(), NULL) == 1);
    const bool flags[] = {s->system_roots,  s->allow_expired, s->accept_untrusted,
                          s->only_leaf_crl, s->has_depth,     s->spiffe};
    digest_add(d, flags, sizeof(flags));
    digest_add(d, &s->max_depth, sizeof(s->max_depth));
    digest_add(d, s->ca.ptr, s->ca.len);
    digest_add(d, s->crl.ptr, s->crl.len);
    for (size_t i = 0; i < s->domain_count; i++) {
        digest_add(d, s->domains[i].name.ptr, s->domains[i].name.len);
        digest_add(d, s->domains[i].bundle.ptr, s->domains[i].bundle.len);
    }
    digest_add(d, s->hashes, s->hash_count * TLS_HASH_SIZE);
    digest_add(d, s->spkis, s->spki_count * TLS_HASH_SIZE);
    for (size_t i = 0; i < s->san_count; i++) {
        const struct tls_san_matcher *m = &s->sans[i];
        digest_add(d, &m->type, sizeof(m->type));
        digest_add(d, &m->matcher.kind, sizeof(m->matcher.kind));
        digest_add(d, &m->matcher.ignore_case, sizeof(m->matcher.ignore_case));
        digest_add(d, m->matcher.text.ptr, m->matcher.text.len);
        digest_add(d, m->oid.ptr, m->oid.len);
        /* A regular expression's text is not kept here: such a context binds sessions to itself
         * only. */
        digest_add(d, &m->matcher.regex, sizeof(m->matcher.regex));
    }
    unsigned size = TLS_HASH_SIZE;
    must(EVP_DigestFinal_ex(d, out, &size) == 1);
    EVP_MD_CTX_free(d);
}

const struct tls_validation *tls_validation_new(const struct conf_at *at,
                                                const struct tls_validation_source *s, bool partial)
{
    struct arena *a = conf_arena(at);
    struct tls_validation *v = ARENA_NEW(a, struct tls_validation);
    bool has_ca = s->ca.len || s->system_roots || s->spiffe;
    v->ca_names = sk_X509_NAME_new_null();
    must(v->ca_names);
    arena_on_free(a, free_names, v->ca_names);
    if (s->san_count && !has_ca && !partial) {
        (void)conf_fail(
            at,
            "SAN-based verification of peer certificates without trusted CA is insecure and not allowed");
        return NULL;
    }
    if (s->allow_expired && !has_ca && !partial) {
        (void)conf_fail(at, "Certificate validity period is always ignored without trusted CA");
        return NULL;
    }
    if (!load_trust(at, s, v) || !tls_load_domains(at, s, v)) return NULL;
    v->c = *s;
    v->stat_name = tls_stat_name(a, s->name, "ca_cert", s->ca_bytes);
    v->c.hashes = arena_copy(a, s->hashes, s->hash_count * TLS_HASH_SIZE);
    v->c.spkis = arena_copy(a, s->spkis, s->spki_count * TLS_HASH_SIZE);
    v->c.ca = v->c.crl = STR_NONE;
    v->c.ca_name = str_dup(a, s->ca_name);
    validation_digest(s, v->digest);
    return v;
}

/* --- names
 * --------------------------------------------------------------------------------------------------
 */

/* Envoy's dnsNameMatch: equal without case, or a pattern whose leftmost label is "*" and stands for
 * exactly one label. */
bool tls_dns_name_match(struct str name, struct str pattern)
{
    if (str_case_eq(name, pattern)) return true;
    if (!str_starts(pattern, STR("*."))) return false;
    size_t dot = str_find_char(name, '.');
    if (dot == SIZE_MAX || dot == 0) return false;
    struct str rest = str_sub(pattern, 1, SIZE_MAX);
    return rest.len > 1 && str_case_eq(str_sub(name, dot, SIZE_MAX), rest);
}

static bool san_fits_as(struct arena *a, X509 *x, const struct tls_san_matcher *m, int gen_type)
{
    char *oid = m->oid.len ? str_z(a, m->oid) : NULL;
    struct tls_names names = tls_san_texts(a, x, gen_type, oid);
    /* An exact DNS name is covered by a wildcard certificate. */
    bool dns_exact = m->type == TLS_SAN_DNS && m->matcher.kind == STRING_MATCH_EXACT;
    for (size_t i = 0; i < names.count; i++) {
        if (dns_exact ? tls_dns_name_match(m->matcher.text, names.v[i])
                      : string_match(&m->matcher, names.v[i]))
            return true;
    }
    return false;
}

static bool san_fits(struct arena *a, X509 *x, const struct tls_san_matcher *m)
{
    switch (m->type) {
    case TLS_SAN_ANY:
        return san_fits_as(a, x, m, GEN_DNS) || san_fits_as(a, x, m, GEN_URI) ||
               san_fits_as(a, x, m, GEN_EMAIL) || san_fits_as(a, x, m, GEN_IPADD);
    case TLS_SAN_EMAIL: return san_fits_as(a, x, m, GEN_EMAIL);
    case TLS_SAN_DNS: return san_fits_as(a, x, m, GEN_DNS);
    case TLS_SAN_URI: return san_fits_as(a, x, m, GEN_URI);
    case TLS_SAN_IP: return san_fits_as(a, x, m, GEN_IPADD);
    case TLS_SAN_OTHER: return san_fits_as(a, x, m, GEN_OTHERNAME);
    }
    return false;
}

static bool sans_fit(struct arena *a, X509 *x, const struct tls_validation *v)
{
    for (size_t i = 0; v && i < v->c.san_count; i++) {
        if (san_fits(a, x, &v->c.sans[i])) return true;
    }
    return false;
}

/* Names that the connection's maker wants (auto_sni_san_validation): DNS with wildcards, URI and IP
 * as they are. */
static bool wanted_names_fit(struct arena *a, X509 *x, const struct tls_conn *t)
{
    struct tls_names dns = tls_san_texts(a, x, GEN_DNS, NULL);
    struct tls_names uri = tls_san_texts(a, x, GEN_URI, NULL),
                     ip = tls_san_texts(a, x, GEN_IPADD, NULL);
    for (size_t i = 0; i < t->verify_san_count; i++) {
        struct str want = t->verify_sans[i];
        for (size_t k = 0; k < dns.count; k++) {
            if (tls_dns_name_match(want, dns.v[k])) return true;
        }
        for (size_t k = 0; k < uri.count; k++) {
            if (str_eq(want, uri.v[k])) return true;
        }
        for (size_t k = 0; k < ip.count; k++) {
            if (str_eq(want, ip.v[k])) return true;
        }
    }
    return false;
}

/* --- pins
 * -----------------------------------------------------------------------------------------------------
 */

static bool in_hashes(const uint8_t (*v)[TLS_HASH_SIZE], size_t count, const uint8_t *hash)
{
    for (size_t i = 0; i < count; i++) {
        if (memcmp(v[i], hash, TLS_HASH_SIZE) == 0) return true;
    }
    return false;
}

static bool pins_fit(X509 *x, const struct tls_validation *v)
{
    if (!v) return false;
    uint8_t hash[TLS_HASH_SIZE];
    unsigned size = sizeof(hash);
    if (v->c.hash_count && X509_digest(x, EVP_sha256(), hash, &size) == 1 &&
        in_hashes(v->c.hashes, v->c.hash_count, hash))
        return true;
    if (!v->c.spki_count) return false;
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
    bool fits = len > 0 && EVP_Digest(der, (size_t)len, hash, &size, EVP_sha256(), NULL) == 1 &&
                in_hashes(v->c.spkis, v->c.spki_count, hash);
    OPENSSL_free(der);
    return fits;
}

static bool has_pins(const struct tls_validation *v)
{
    return v && (v->c.hash_count || v->c.spki_count);
}

static bool has_sans(const struct tls_validation *v)
{
    return v && v->c.san_count;
}

static bool has_domains(const struct tls_validation *v)
{
    return v && v->c.spiffe;
}

bool tls_wants_peer_cert(const struct tls_validation *a, const struct tls_validation *b)
{
    return has_domains(a) || has_domains(b) || (a && a->store) || (b && b->store) || has_pins(a) ||
           has_pins(b) || has_sans(a) || has_sans(b);
}

bool tls_needs_peer_cert(const struct tls_validation *a, const struct tls_validation *b)
{
    return has_domains(a) || has_domains(b) || has_pins(a) || has_pins(b) || has_sans(a) ||
           has_sans(b);
}

/* --- the judgement
 * -----------------------------------------------------------------------------------------------
 */

static bool refuse(struct tls_conn *t, enum tls_stat stat, struct str text)
{
    stat_inc(t->conf->stats, stat);
    t->counted = true;
    t->verify_text = text;
    return false;
}

static X509_STORE *store_of(const struct tls_conn *t)
{
    if (t->dynamic && t->dynamic->store) return t->dynamic->store;
    return t->conf->validation ? t->conf->validation->store : NULL;
}

static bool untrusted_is_fine(const struct tls_conn *t)
{
    return (t->dynamic && t->dynamic->c.accept_untrusted) ||
           (t->conf->validation && t->conf->validation->c.accept_untrusted);
}

static void set_depth(X509_STORE_CTX *x, const struct tls_validation *v)
{
    /* BoringSSL counts the anchor, too; OpenSSL counts what is between it and the leaf. */
    if (v && v->c.has_depth)
        X509_STORE_CTX_set_depth(x, v->c.max_depth ? (int)v->c.max_depth - 1 : 0);
}

/* BoringSSL's words. */
static const char *verify_error_text(int error)
{
    if (error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT) return "self signed certificate";
    if (error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN)
        return "self signed certificate in certificate chain";
    if (error == X509_V_ERR_INVALID_PURPOSE) return "unsupported certificate purpose";
    if (error == X509_V_ERR_CERT_CHAIN_TOO_LONG) return "unable to get local issuer certificate";
    return X509_verify_cert_error_string(error);
}

/* "verify cert failed: SAN matcher, certificate SANs are [a, b]". */
static struct str san_failure(struct tls_conn *t, X509 *x, bool wanted)
{
    static const int types[] = {GEN_DNS, GEN_URI, GEN_EMAIL, GEN_IPADD, GEN_OTHERNAME};
    struct sb text = {0};
    if (wanted) {
        sb_add(&text, STR("verify cert failed: verify SAN list, expected SANs: ["));
        for (size_t i = 0; i < t->verify_san_count; i++) {
            if (i) sb_add(&text, STR(", "));
            sb_add(&text, t->verify_sans[i]);
        }
        sb_add(&text, STR("], certificate SANs: ["));
    } else {
        sb_add(&text, STR("verify cert failed: SAN matcher, certificate SANs are ["));
    }
    size_t shown = 0;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct tls_names names = tls_san_texts(t->worker->scratch, x, types[i], NULL);
        for (size_t k = 0; k < names.count; k++) {
            if (shown++) sb_add(&text, STR(", "));
            sb_add(&text, names.v[k]);
        }
    }
    sb_char(&text, ']');
    struct str s = str_dup(conn_arena(t->conn), sb_str(&text));
    sb_release(&text);
    return s;
}

static const char *about_revocation(int error)
{
    bool crl = error == X509_V_ERR_CERT_REVOKED || error == X509_V_ERR_UNABLE_TO_GET_CRL ||
               error == X509_V_ERR_CRL_HAS_EXPIRED || error == X509_V_ERR_CRL_NOT_YET_VALID ||
               error == X509_V_ERR_CRL_SIGNATURE_FAILURE;
    return crl ? "certificate revocation check against provided CRLs failed: " : "";
}

static void keep_issuer(struct tls_facts *f, X509 *issuer)
{
    must(X509_up_ref(issuer) == 1);
    X509_free(f->issuer);
    f->issuer = issuer;
}

/* The chain to a trusted CA, valid in time, of the right purpose, not revoked. *error: OpenSSL's
 * code. */
static bool chain_trusted(struct tls_conn *t, X509_STORE *store, X509_STORE_CTX *outer, int *error)
{
    X509_STORE_CTX *x = X509_STORE_CTX_new();
    must(x);
    bool ok = X509_STORE_CTX_init(x, store, X509_STORE_CTX_get0_cert(outer),
                                  X509_STORE_CTX_get0_untrusted(outer)) == 1;
    (void)X509_STORE_CTX_set_default(x, t->conf->server ? "ssl_client" : "ssl_server");
    set_depth(x, t->conf->validation);
    set_depth(x, t->dynamic);
    ok = ok && X509_verify_cert(x) == 1;
    *error = ok ? X509_V_OK : X509_STORE_CTX_get_error(x);
    int depth = X509_STORE_CTX_get_error_depth(x);
    if (!ok) {
        t->verify_text = str_fmt(
            conn_arena(t->conn),
            "verify cert failed: X509_verify_cert: certificate verification error at depth %d: %s%s",
            depth, about_revocation(*error), verify_error_text(*error));
    }
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(x);
    if (ok && sk_X509_num(chain) > 1) keep_issuer(t->facts, sk_X509_value(chain, 1));
    X509_STORE_CTX_free(x);
    return ok;
}

static bool judge(struct tls_conn *t, X509_STORE_CTX *outer, int *error)
{
    X509 *leaf = X509_STORE_CTX_get0_cert(outer);
    struct arena *scratch = t->worker->scratch;
    const struct tls_validation *a = t->conf->validation, *b = t->dynamic;
    const struct tls_validation *spiffe = has_domains(b) ? b : has_domains(a) ? a : NULL;
    X509_STORE *store = store_of(t);
    *error = X509_V_ERR_CERT_REJECTED;
    if (spiffe) {
        struct str why;
        store = tls_domain_store(scratch, leaf, spiffe, &why);
        if (!store) return refuse(t, TLS_STAT_FAIL_ERROR, why);
    }
    if (store && !chain_trusted(t, store, outer, error)) {
        stat_inc(t->conf->stats, TLS_STAT_FAIL_ERROR);
        t->counted = true;
        return untrusted_is_fine(t);
    }
    *error = X509_V_ERR_APPLICATION_VERIFICATION;
    bool ok = true;
    if (t->verify_san_count && !wanted_names_fit(scratch, leaf, t)) {
        ok = refuse(t, TLS_STAT_FAIL_SAN, san_failure(t, leaf, !t->conf->auto_sni_san));
    } else if ((has_sans(a) || has_sans(b)) &&
               (!store || (!sans_fit(scratch, leaf, a) && !sans_fit(scratch, leaf, b)))) {
        /* Names of a certificate that nobody vouches for prove nothing (SDS may deliver matchers
         * without a CA). */
        ok = refuse(t, TLS_STAT_FAIL_SAN, san_failure(t, leaf, false));
    } else if ((has_pins(a) || has_pins(b)) && !pins_fit(leaf, a) && !pins_fit(leaf, b)) {
        ok = refuse(t, TLS_STAT_FAIL_HASH, STR("verify cert failed: cert hash and spki"));
    } else {
        t->facts->info.peer_validated = store || has_pins(a) || has_pins(b);
    }
    return ok || untrusted_is_fine(t);
}

int tls_on_verify(X509_STORE_CTX *outer, void *arg)
{
    (void)arg;
    SSL *ssl = X509_STORE_CTX_get_ex_data(outer, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_conn *t = tls_conn_of(ssl);
    int error = X509_V_OK;
    bool ok = judge(t, outer, &error);
    if (!ok) tls_fill_peer(t, X509_STORE_CTX_get0_cert(outer)); /* logs name who was refused */
    X509_STORE_CTX_set_error(outer, ok ? X509_V_OK : error);
    return ok;
}
