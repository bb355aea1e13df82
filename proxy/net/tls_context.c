/* From a filled tls_conf to an OpenSSL context. Main thread. */
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/log_file.h"
#include "proxy/net/tls_internal.h"
#include "proxy/net/tls_list.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

enum { SESSION_TIMEOUT_S = 7200, SESSIONS_MOST = 2048, ALPN_MOST = 255, ALPN_WIRE_MOST = 65535 };

static void free_ctx(void *p)
{
    SSL_CTX_free(p);
}

static void free_stats(void *p)
{
    struct stat_group *g = p;
    stat_group_unref(&g);
}

static int version_number(enum tls_version v, int automatic)
{
    switch (v) {
    case TLS_VERSION_AUTO: return automatic;
    case TLS_VERSION_10: return TLS1_VERSION;
    case TLS_VERSION_11: return TLS1_1_VERSION;
    case TLS_VERSION_12: return TLS1_2_VERSION;
    case TLS_VERSION_13: return TLS1_3_VERSION;
    }
    return automatic;
}

/* Envoy: servers speak 1.2 and 1.3 by default, clients 1.2. */
static bool set_versions(SSL_CTX *ctx, const struct tls_conf *c)
{
    int least = version_number(c->min_version, TLS1_2_VERSION);
    int most = version_number(c->max_version, c->server ? TLS1_3_VERSION : TLS1_2_VERSION);
    /* OpenSSL refuses what is older than 1.2 (SHA-1 signatures) above level 0. */
    SSL_CTX_set_security_level(ctx, least < TLS1_2_VERSION ? 0 : 1);
    return SSL_CTX_set_min_proto_version(ctx, least) == 1 &&
           SSL_CTX_set_max_proto_version(ctx, most) == 1;
}

/* Envoy's default (BoringSSL build). */
static const char ciphers_default[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

static const char ciphers_chacha_first[] =
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384";

static bool set_ciphers(const struct conf_at *at, SSL_CTX *ctx, const struct tls_conf *c)
{
    struct str list = STR(ciphers_default);
    if (c->cipher_count && !tls_cipher_list(at, c->ciphers, c->cipher_count, &list)) return false;
    if (SSL_CTX_set_cipher_list(ctx, list.ptr) == 1) return true;
    ERR_clear_error();
    struct conf_at field = conf_field(at, "cipher_suites");
    return conf_fail(&field, "Failed to initialize cipher suites %.*s", STR_ARG(list));
}

/* Groups that OpenSSL 3.0 does not have, but BoringSSL does: skipped while others remain. */
static bool group_skipped(struct str name)
{
    return str_eq(name, STR("X25519MLKEM768")) || str_eq(name, STR("X25519Kyber768Draft00"));
}

static bool set_curves(const struct conf_at *at, SSL_CTX *ctx, const struct tls_conf *c)
{
    struct sb said = {0}, list = {0};
    for (size_t i = 0; i < c->curve_count; i++) {
        if (said.len) sb_char(&said, ':');
        sb_add(&said, c->curves[i]);
        if (group_skipped(c->curves[i])) continue;
        if (list.len) sb_char(&list, ':');
        sb_add(&list, c->curves[i]);
    }
    struct str groups =
        c->curve_count ? str_dup(conf_arena(at), sb_str(&list)) : STR("X25519:P-256");
    bool ok = groups.len && SSL_CTX_set1_groups_list(ctx, groups.ptr) == 1;
    if (!ok) {
        ERR_clear_error();
        struct conf_at field = conf_field(at, "ecdh_curves");
        (void)conf_fail(&field, "Failed to initialize ECDH curves %.*s", STR_ARG(sb_str(&said)));
    }
    sb_release(&said);
    sb_release(&list);
    return ok;
}

static bool set_sigalgs(const struct conf_at *at, SSL_CTX *ctx, const struct tls_conf *c)
{
    if (!c->sigalg_count) return true;
    struct sb list = {0};
    for (size_t i = 0; i < c->sigalg_count; i++) {
        if (i) sb_char(&list, ':');
        sb_add(&list, c->sigalgs[i]);
    }
    struct str names = str_dup(conf_arena(at), sb_str(&list));
    sb_release(&list);
    if (SSL_CTX_set1_sigalgs_list(ctx, names.ptr) == 1) return true;
    ERR_clear_error();
    struct conf_at field = conf_field(at, "signature_algorithms");
    return conf_fail(&field, "Failed to initialize TLS signature algorithms %.*s", STR_ARG(names));
}

static bool make_alpn(const struct conf_at *at, struct tls_conf *c)
{
    size_t total = 0;
    for (size_t i = 0; i < c->alpn_count; i++) {
        struct conf_at field = conf_index(at, "alpn_protocols", i);
        if (c->alpn[i].len > ALPN_MOST) return conf_fail(&field, "Invalid ALPN protocol string");
        if (c->alpn[i].len) total += 1 + c->alpn[i].len;
    }
    if (total > ALPN_WIRE_MOST) return conf_fail(at, "Invalid ALPN protocol string");
    char *wire = arena_alloc(conf_arena(at), total);
    size_t at_byte = 0;
    for (size_t i = 0; i < c->alpn_count; i++) {
        if (!c->alpn[i].len) continue;
        wire[at_byte++] = (char)c->alpn[i].len;
        memcpy(wire + at_byte, c->alpn[i].ptr, c->alpn[i].len);
        at_byte += c->alpn[i].len;
    }
    c->alpn_wire = str_make(wire, total);
    return true;
}

/* The server's order decides; without a common protocol the handshake goes on without one. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    (void)arg;
    struct str wire = tls_conn_of(ssl)->conf->alpn_wire;
    unsigned char *chosen;
    if (!wire.len) return SSL_TLSEXT_ERR_NOACK;
    int r = SSL_select_next_proto(&chosen, out_len, (const unsigned char *)wire.ptr,
                                  (unsigned)wire.len, in, in_len);
    *out = chosen;
    return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

/* The SNI as the client sent it: name list, one host name. Empty: none. */
static struct str hello_sni(SSL *ssl)
{
    const unsigned char *p;
    size_t len;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &len) != 1 || len < 5 ||
        p[2] != TLSEXT_NAMETYPE_host_name)
        return STR_NONE;
    size_t name = (size_t)p[3] << 8 | p[4];
    return name <= len - 5 ? str_make((const char *)p + 5, name) : STR_NONE;
}

static bool hello_offers_13(SSL *ssl)
{
    const unsigned char *p;
    size_t len;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &p, &len) != 1) return false;
    for (size_t i = 1; i + 1 < len; i += 2) {
        if (p[i] == 3 && p[i + 1] == 4) return true;
    }
    return false;
}

static bool version_is(const char *a, const char *b)
{
    return a && strcmp(a, b) == 0;
}

/* What the handshake will speak, before OpenSSL tells. NULL: nothing in common. */
static const char *hello_version(SSL *ssl, const struct tls_conf *c)
{
    unsigned offered = SSL_client_hello_get0_legacy_version(ssl);
    if (hello_offers_13(ssl) && version_number(c->max_version, TLS1_3_VERSION) == TLS1_3_VERSION)
        return "TLSv1.3";
    if ((int)offered < version_number(c->min_version, TLS1_2_VERSION)) return NULL;
    if (offered == TLS1_VERSION) return "TLSv1";
    return offered == TLS1_1_VERSION ? "TLSv1.1" : "TLSv1.2";
}

/* Does the client name ChaCha20 before AES-128, as ones without AES instructions do? */
static bool hello_likes_chacha(SSL *ssl)
{
    const unsigned char *p;
    size_t len = SSL_client_hello_get0_ciphers(ssl, &p);
    for (size_t i = 0; i + 1 < len; i += 2) {
        unsigned id = (unsigned)p[i] << 8 | p[i + 1];
        if (id == 0xCCA8 || id == 0xCCA9) return true;
        if (id == 0xC02B || id == 0xC02F) return false;
    }
    return false;
}

/* BoringSSL lets the client choose in TLS 1.3 and, in 1.2, between the members of a group
 * ("[A|B]"); OpenSSL knows no groups. */
static void hello_ciphers(SSL *ssl, const struct tls_conf *c)
{
    if (c->prefer_client_ciphers) return;
    if (version_is(tls_conn_of(ssl)->hello_version, "TLSv1.3")) {
        (void)SSL_clear_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE);
        return;
    }
    if (c->cipher_count == 0 && c->policy == TLS_POLICY_NONE && hello_likes_chacha(ssl))
        (void)SSL_set_cipher_list(ssl, ciphers_chacha_first);
}

static int on_hello(SSL *ssl, int *alert, void *arg)
{
    (void)arg;
    struct tls_conn *t = tls_conn_of(ssl);
    struct str sni = hello_sni(ssl);
    if (t->conf->require_sni && !sni.len) {
        *alert = SSL_AD_UNRECOGNIZED_NAME;
        return SSL_CLIENT_HELLO_ERROR;
    }
    t->hello_version = hello_version(ssl, t->conf);
    hello_ciphers(ssl, t->conf);
    tls_bind_session(t, str_dup_lower(t->worker->scratch, sni));
    return SSL_CLIENT_HELLO_SUCCESS;
}

static void server_setup(SSL_CTX *ctx, const struct tls_conf *c)
{
    uint64_t options = SSL_OP_NO_RENEGOTIATION;
    if (!c->prefer_client_ciphers)
        options |= SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
    if (c->no_tickets) {
        options |= SSL_OP_NO_TICKET;
        (void)SSL_CTX_set_num_tickets(ctx, 0);
    }
    (void)SSL_CTX_set_options(ctx, options);
    /* The cache serves clients of TLS 1.2 without tickets; OpenSSL takes a lock at their handshakes
     * only. */
    (void)SSL_CTX_set_session_cache_mode(ctx,
                                         c->no_cache ? SSL_SESS_CACHE_OFF : SSL_SESS_CACHE_SERVER);
    (void)SSL_CTX_sess_set_cache_size(ctx, SESSIONS_MOST);
    uint64_t timeout_s = c->session_timeout_s ? c->session_timeout_s : SESSION_TIMEOUT_S;
    (void)SSL_CTX_set_timeout(ctx, timeout_s > INT32_MAX ? INT32_MAX : (long)timeout_s);
    SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL);
    SSL_CTX_set_cert_cb(ctx, tls_on_cert, NULL);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    (void)SSL_CTX_set_tlsext_status_cb(ctx, tls_on_status);
    if (c->tickets || c->ticket_secret.name.len)
        (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tls_on_ticket);
}

static void client_setup(SSL_CTX *ctx, const struct tls_conf *c)
{
    if (!c->allow_renegotiation) (void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, tls_on_new_session);
}

static bool in_ranges(const struct cidr *v, size_t count, const struct addr *x)
{
    for (size_t i = 0; i < count; i++) {
        if (cidr_contains(&v[i], x)) return true;
    }
    return count == 0;
}

/* One line of a key log; the log's own thread writes it. */
static void on_keys(const SSL *ssl, const char *line)
{
    const struct tls_conn *t = tls_conn_of(ssl);
    const struct tls_key_log *log = t->conf->key_log;
    const struct conn_info *i = conn_info_of(t->conn);
    if (!in_ranges(log->local, log->local_count, &i->local) ||
        !in_ranges(log->remote, log->remote_count, &i->remote))
        return;
    struct sb *to = log_file_begin(t->worker, log->file);
    if (!to) return;
    sb_add(to, str_of(line));
    sb_char(to, '\n');
    log_file_end(t->worker, log->file);
}

static void make_digest(struct tls_conf *c)
{
    EVP_MD_CTX *d = EVP_MD_CTX_new();
    must(d && EVP_DigestInit_ex(d, EVP_sha256(), NULL) == 1);
    const bool flags[] = {c->server, c->require_client, c->require_sni};
    must(EVP_DigestUpdate(d, flags, sizeof(flags)) == 1);
    if (c->validation) must(EVP_DigestUpdate(d, c->validation->digest, TLS_HASH_SIZE) == 1);
    if (c->validation_secret.name.len)
        must(EVP_DigestUpdate(d, c->validation_secret.name.ptr, c->validation_secret.name.len) ==
             1);
    unsigned size = TLS_HASH_SIZE;
    must(EVP_DigestFinal_ex(d, c->digest, &size) == 1);
    EVP_MD_CTX_free(d);
}

static bool check_certs(const struct conf_at *at, const struct tls_conf *c)
{
    if (c->server && !c->cert_count && !c->cert_secret_count && !c->on_demand)
        return conf_fail(at, "No TLS certificates found for server context");
    if (!c->server && c->cert_count + c->cert_secret_count > 1) {
        return conf_fail(at, "Multiple TLS certificates are not supported for client contexts");
    }
    for (size_t i = 0; c->server && c->ocsp == TLS_OCSP_MUST && i < c->cert_count; i++) {
        if (!c->certs[i]->ocsp.len)
            return conf_fail(at, "Required OCSP response is missing from TLS context");
    }
    for (size_t i = 0; c->server && i < c->cert_count; i++) {
        if (c->certs[i]->must_staple && !c->certs[i]->ocsp.len)
            return conf_fail(at, "OCSP response is required for must-staple certificate");
    }
    return true;
}

struct policy {
    const char *name, *ciphers, *suites, *groups, *sigalgs;
};

/* What BoringSSL's policies of these names leave, with TLS 1.2 and 1.3. CNSA2 wants ML-KEM, which
 * OpenSSL 3.0 does not have. */
static const struct policy policies[] = {
    [TLS_POLICY_FIPS] = {"FIPS_202205",
                         "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                         "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384",
                         "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384", "P-256:P-384",
                         "rsa_pkcs1_sha256:rsa_pkcs1_sha384:rsa_pkcs1_sha512:"
                         "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:rsa_pss_rsae_sha256:"
                         "rsa_pss_rsae_sha384:rsa_pss_rsae_sha512"},
    [TLS_POLICY_CNSA2] = {"CNSA2_202603", NULL, NULL, NULL, NULL},
    [TLS_POLICY_CNSA1] = {"CNSA1_202603",
                          "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                          "AES256-GCM-SHA384",
                          "TLS_AES_256_GCM_SHA384", "P-384",
                          "ecdsa_secp384r1_sha384:rsa_pss_rsae_sha384:rsa_pkcs1_sha384"},
};

/* A policy overrules the other parameters. */
static bool set_policy(const struct conf_at *at, SSL_CTX *ctx, enum tls_policy which)
{
    const struct policy *p = &policies[which];
    struct conf_at field = conf_field(at, "compliance_policies");
    if (!p->ciphers)
        return conf_fail(&field, "the compliance policy %s is not supported by this OpenSSL",
                         p->name);
    bool ok = SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
              SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
              SSL_CTX_set_cipher_list(ctx, p->ciphers) == 1 &&
              SSL_CTX_set_ciphersuites(ctx, p->suites) == 1 &&
              SSL_CTX_set1_groups_list(ctx, p->groups) == 1 &&
              SSL_CTX_set1_sigalgs_list(ctx, p->sigalgs) == 1;
    if (!ok) ERR_clear_error();
    return ok || conf_fail(&field, "Failed to apply %s compliance policy", p->name);
}

bool tls_conf_ready(const struct conf_at *at, struct tls_conf *c)
{
    struct conf_at params = conf_field(at, "tls_params");
    SSL_CTX *ctx = SSL_CTX_new(c->server ? TLS_server_method() : TLS_client_method());
    must(ctx);
    arena_on_free(conf_arena(at), free_ctx, ctx);
    c->ctx = ctx;
    c->ts.secure = true;
    c->ts.protocol = STR("tls");
    must(RAND_bytes((unsigned char *)&c->id, sizeof(c->id)) == 1);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS |
                                    SSL_MODE_NO_AUTO_CHAIN);
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_cert_verify_callback(ctx, tls_on_verify, NULL);
    bool ok = check_certs(at, c) && make_alpn(at, c);
    if (!set_versions(ctx, c)) ok = conf_fail(&params, "bad range of TLS versions");
    ok = set_ciphers(&params, ctx, c) && ok;
    ok = set_curves(&params, ctx, c) && ok;
    ok = set_sigalgs(&params, ctx, c) && ok;
    if (c->policy) ok = set_policy(&params, ctx, c->policy) && ok;
    if (c->server)
        server_setup(ctx, c);
    else
        client_setup(ctx, c);
    make_digest(c);
    if (c->key_log) SSL_CTX_set_keylog_callback(ctx, on_keys);
    if (!ok) return false;
    if (at->cx->rt && at->cx->rt->stats && !at->cx->validate_only) {
        c->scope = str_dup(conf_arena(at), at->cx->scope);
        c->stats = tls_stats_get(at->cx->rt->stats, at->cx->scope);
        c->factory_stats = tls_factory_stats_get(at->cx->rt->stats, at->cx->scope, c->server);
        arena_on_free(conf_arena(at), free_stats, c->stats);
        arena_on_free(conf_arena(at), free_stats, c->factory_stats);
        tls_list_add(at->cx->rt, conf_arena(at), c);
    }
    return true;
}
