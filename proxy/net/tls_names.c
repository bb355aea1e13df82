/* Names: BoringSSL's cipher lists in OpenSSL's words, groups, statistics, error texts in
 * BoringSSL's numbering (what operators of Envoy know). */
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/net/tls_internal.h"
#include "proxy/stats/stats.h"

/* --- ciphers
 * ---------------------------------------------------------------------------------------------- */

/* What BoringSSL knows below TLS 1.3. */
static const char *const ciphers_known[] = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-ECDSA-AES128-SHA256",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
    "DES-CBC3-SHA",
    "ALL",
};

/* OpenSSL's name of one configured name ("ECDHE-RSA-...", or the IANA form); NULL: unknown. */
static const char *cipher_name(struct str s)
{
    char text[80];
    if (s.len >= sizeof(text)) return NULL;
    memcpy(text, s.ptr ? s.ptr : "", s.len);
    text[s.len] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(ciphers_known); i++) {
        if (strcmp(ciphers_known[i], text) == 0) return ciphers_known[i];
    }
    if (!str_starts(s, STR("TLS_"))) return NULL;
    const char *name = OPENSSL_cipher_name(text);
    for (size_t i = 0; name && i < ARRAY_LEN(ciphers_known); i++) {
        if (strcmp(ciphers_known[i], name) == 0) return ciphers_known[i];
    }
    return NULL;
}

static void join(struct sb *all, const char *name)
{
    if (all->len) sb_char(all, ':');
    sb_add(all, str_of(name));
}

/* One entry: a name, or names of equal preference "[A|B]". Unknown ones are collected. */
static void cipher_entry(struct str entry, struct sb *all, struct sb *bad)
{
    struct str rest = entry, one;
    bool group = rest.len >= 2 && rest.ptr[0] == '[' && rest.ptr[rest.len - 1] == ']';
    if (group) rest = str_sub(rest, 1, rest.len - 2);
    while (str_next(&rest, group ? '|' : ':', &one)) {
        const char *name = cipher_name(one);
        if (name) {
            join(all, name);
            continue;
        }
        if (bad->len) sb_add(bad, STR(", "));
        sb_add(bad, one);
    }
}

bool tls_cipher_list(const struct conf_at *at, const struct str *v, size_t count, struct str *out)
{
    struct sb all = {0}, bad = {0}, said = {0};
    for (size_t i = 0; i < count; i++) {
        cipher_entry(v[i], &all, &bad);
        if (i) sb_char(&said, ':');
        sb_add(&said, v[i]);
    }
    bool ok = bad.len == 0;
    if (!ok) {
        struct conf_at field = conf_field(at, "cipher_suites");
        (void)conf_fail(
            &field,
            "Failed to initialize cipher suites %.*s. The following ciphers were rejected when tried individually: %.*s",
            STR_ARG(sb_str(&said)), STR_ARG(sb_str(&bad)));
    }
    *out = str_dup(conf_arena(at), sb_str(&all));
    sb_release(&all);
    sb_release(&bad);
    sb_release(&said);
    return ok;
}

const char *tls_group_name(int nid)
{
    switch (nid) {
    case NID_X25519: return "X25519";
    case NID_X9_62_prime256v1: return "P-256";
    case NID_secp384r1: return "P-384";
    case NID_secp521r1: return "P-521";
    case NID_X448: return "X448";
    default: return "";
    }
}

/* --- statistics
 * ------------------------------------------------------------------------------------------------
 */

#define NAMED(text)                   \
    {                                 \
        text, STAT_COUNTER, STAT_LAZY \
    }
static const struct stat_def tls_stat_defs[] = {
    [TLS_STAT_CONNECTION_ERROR] = {"connection_error", STAT_COUNTER, 0},
    [TLS_STAT_FAIL_HASH] = {"fail_verify_cert_hash", STAT_COUNTER, 0},
    [TLS_STAT_FAIL_ERROR] = {"fail_verify_error", STAT_COUNTER, 0},
    [TLS_STAT_FAIL_NO_CERT] = {"fail_verify_no_cert", STAT_COUNTER, 0},
    [TLS_STAT_FAIL_SAN] = {"fail_verify_san", STAT_COUNTER, 0},
    [TLS_STAT_HANDSHAKE] = {"handshake", STAT_COUNTER, 0},
    [TLS_STAT_NO_CERTIFICATE] = {"no_certificate", STAT_COUNTER, 0},
    [TLS_STAT_OCSP_FAILED] = {"ocsp_staple_failed", STAT_COUNTER, 0},
    [TLS_STAT_OCSP_OMITTED] = {"ocsp_staple_omitted", STAT_COUNTER, 0},
    [TLS_STAT_OCSP_REQUESTS] = {"ocsp_staple_requests", STAT_COUNTER, 0},
    [TLS_STAT_OCSP_RESPONSES] = {"ocsp_staple_responses", STAT_COUNTER, 0},
    [TLS_STAT_SESSION_REUSED] = {"session_reused", STAT_COUNTER, 0},
    [TLS_STAT_WAS_KEY_USAGE_INVALID] = {"was_key_usage_invalid", STAT_COUNTER, STAT_LAZY},
    NAMED("ciphers.TLS_AES_128_GCM_SHA256"),
    NAMED("ciphers.TLS_AES_256_GCM_SHA384"),
    NAMED("ciphers.TLS_CHACHA20_POLY1305_SHA256"),
    NAMED("ciphers.ECDHE-ECDSA-AES128-GCM-SHA256"),
    NAMED("ciphers.ECDHE-RSA-AES128-GCM-SHA256"),
    NAMED("ciphers.ECDHE-ECDSA-AES256-GCM-SHA384"),
    NAMED("ciphers.ECDHE-RSA-AES256-GCM-SHA384"),
    NAMED("ciphers.ECDHE-ECDSA-CHACHA20-POLY1305"),
    NAMED("ciphers.ECDHE-RSA-CHACHA20-POLY1305"),
    NAMED("ciphers.ECDHE-ECDSA-AES128-SHA"),
    NAMED("ciphers.ECDHE-RSA-AES128-SHA"),
    NAMED("ciphers.ECDHE-ECDSA-AES256-SHA"),
    NAMED("ciphers.ECDHE-RSA-AES256-SHA"),
    NAMED("ciphers.ECDHE-RSA-AES128-SHA256"),
    NAMED("ciphers.ECDHE-ECDSA-AES128-SHA256"),
    NAMED("ciphers.AES128-GCM-SHA256"),
    NAMED("ciphers.AES256-GCM-SHA384"),
    NAMED("ciphers.AES128-SHA"),
    NAMED("ciphers.AES256-SHA"),
    NAMED("curves.X25519"),
    NAMED("curves.P-256"),
    NAMED("curves.P-384"),
    NAMED("curves.P-521"),
    NAMED("versions.TLSv1"),
    NAMED("versions.TLSv1.1"),
    NAMED("versions.TLSv1.2"),
    NAMED("versions.TLSv1.3"),
    NAMED("sigalgs.rsa_pss_rsae_sha256"),
    NAMED("sigalgs.rsa_pss_rsae_sha384"),
    NAMED("sigalgs.rsa_pss_rsae_sha512"),
    NAMED("sigalgs.rsa_pkcs1_sha1"),
    NAMED("sigalgs.rsa_pkcs1_sha256"),
    NAMED("sigalgs.rsa_pkcs1_sha384"),
    NAMED("sigalgs.rsa_pkcs1_sha512"),
    NAMED("sigalgs.ecdsa_sha1"),
    NAMED("sigalgs.ecdsa_secp256r1_sha256"),
    NAMED("sigalgs.ecdsa_secp384r1_sha384"),
    NAMED("sigalgs.ecdsa_secp521r1_sha512"),
    NAMED("sigalgs.ed25519"),
    NAMED("other"),
};
static const struct stat_def downstream_factory_defs[TLS_FACTORY_COUNT] = {
    [TLS_FACTORY_DOWNSTREAM_NOT_READY] = {"downstream_context_secrets_not_ready", STAT_COUNTER, 0},
    [TLS_FACTORY_UPDATED] = {"ssl_context_update_by_sds", STAT_COUNTER, 0},
    [TLS_FACTORY_UPSTREAM_NOT_READY] = {"upstream_context_secrets_not_ready", STAT_COUNTER, 0},
};

struct stat_group *tls_stats_get(struct stats *s, struct str prefix)
{
    char name[512];
    int n = snprintf(name, sizeof(name), "%.*sssl.", STR_ARG(prefix));
    return stat_group_get(s,
                          str_make(name, n < 0                      ? 0
                                         : (size_t)n < sizeof(name) ? (size_t)n
                                                                    : sizeof(name) - 1),
                          tls_stat_defs, ARRAY_LEN(tls_stat_defs));
}

struct stat_group *tls_factory_stats_get(struct stats *s, struct str prefix, bool server)
{
    char name[512];
    int n = snprintf(name, sizeof(name), "%.*s%s_ssl_socket_factory.", STR_ARG(prefix),
                     server ? "server" : "client");
    return stat_group_get(s,
                          str_make(name, n < 0                      ? 0
                                         : (size_t)n < sizeof(name) ? (size_t)n
                                                                    : sizeof(name) - 1),
                          downstream_factory_defs, TLS_FACTORY_COUNT);
}

struct str tls_stat_name(struct arena *a, struct str name, const char *kind, struct str bytes)
{
    uint8_t hash[TLS_HASH_SIZE];
    unsigned size = sizeof(hash);
    if (name.len) return str_dup(a, name);
    must(EVP_Digest(bytes.ptr ? bytes.ptr : "", bytes.len, hash, &size, EVP_sha256(), NULL) == 1);
    return str_fmt(a, "unnamed_%s_%02x%02x%02x%02x", kind, hash[0], hash[1], hash[2], hash[3]);
}

void tls_stat_named(struct stat_group *g, const char *kind, const char *name)
{
    size_t kind_len = strlen(kind);
    for (size_t i = TLS_STAT_NAMED; i < ARRAY_LEN(tls_stat_defs); i++) {
        const char *have = tls_stat_defs[i].name;
        if (strncmp(have, kind, kind_len) == 0 && have[kind_len] == '.' &&
            strcmp(have + kind_len + 1, name) == 0) {
            stat_inc(g, i);
            return;
        }
    }
    stat_inc(g, ARRAY_LEN(tls_stat_defs) - 1);
}

/* --- errors
 * --------------------------------------------------------------------------------------------------------
 */

/* OpenSSL's reasons that occur, as BoringSSL numbers and spells them. Alerts are 1000 + the alert
 * in both. */
static const struct {
    int reason, boring;
    const char *name;
} reasons[] = {
    {SSL_R_CERTIFICATE_VERIFY_FAILED, 125, "CERTIFICATE_VERIFY_FAILED"},
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, 192, "PEER_DID_NOT_RETURN_A_CERTIFICATE"},
    {SSL_R_NO_SHARED_CIPHER, 184, "NO_SHARED_CIPHER"},
    {SSL_R_UNSUPPORTED_PROTOCOL, 240, "UNSUPPORTED_PROTOCOL"},
    {SSL_R_WRONG_VERSION_NUMBER, 247, "WRONG_VERSION_NUMBER"},
    {SSL_R_HTTP_REQUEST, 156, "HTTP_REQUEST"},
    {SSL_R_HTTPS_PROXY_REQUEST, 157, "HTTPS_PROXY_REQUEST"},
    {SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, 253, "NO_COMMON_SIGNATURE_ALGORITHMS"},
    {SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, 253, "NO_COMMON_SIGNATURE_ALGORITHMS"},
    {SSL_R_NO_SUITABLE_KEY_SHARE, 266, "NO_SHARED_GROUP"},
    {SSL_R_NO_SUITABLE_GROUPS, 266, "NO_SHARED_GROUP"},
    {SSL_R_CERT_CB_ERROR, 133, "CONNECTION_REJECTED"},
    {SSL_R_CALLBACK_FAILED, 133, "CONNECTION_REJECTED"},
    {SSL_R_PACKET_LENGTH_TOO_LONG, 146, "ENCRYPTED_LENGTH_TOO_LONG"},
    {SSL_R_UNKNOWN_PROTOCOL, 247, "WRONG_VERSION_NUMBER"},
    {SSL_R_UNEXPECTED_MESSAGE, 223, "UNEXPECTED_MESSAGE"},
    {SSL_R_BAD_SIGNATURE, 123, "BAD_SIGNATURE"},
    {SSL_R_NO_APPLICATION_PROTOCOL, 307, "NO_APPLICATION_PROTOCOL"},
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, 136, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"},
    {SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, 1040, "SSLV3_ALERT_HANDSHAKE_FAILURE"},
    {SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, 1042, "SSLV3_ALERT_BAD_CERTIFICATE"},
    {SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, 1043, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, 1044, "SSLV3_ALERT_CERTIFICATE_REVOKED"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, 1045, "SSLV3_ALERT_CERTIFICATE_EXPIRED"},
    {SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, 1046, "SSLV3_ALERT_CERTIFICATE_UNKNOWN"},
    {SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER, 1047, "SSLV3_ALERT_ILLEGAL_PARAMETER"},
    {SSL_R_TLSV1_ALERT_UNKNOWN_CA, 1048, "TLSV1_ALERT_UNKNOWN_CA"},
    {SSL_R_TLSV1_ALERT_ACCESS_DENIED, 1049, "TLSV1_ALERT_ACCESS_DENIED"},
    {SSL_R_TLSV1_ALERT_DECRYPT_ERROR, 1051, "TLSV1_ALERT_DECRYPT_ERROR"},
    {SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, 1070, "TLSV1_ALERT_PROTOCOL_VERSION"},
    {SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY, 1071, "TLSV1_ALERT_INSUFFICIENT_SECURITY"},
    {SSL_R_TLSV1_ALERT_INTERNAL_ERROR, 1080, "TLSV1_ALERT_INTERNAL_ERROR"},
    {SSL_R_TLSV1_UNRECOGNIZED_NAME, 1112, "TLSV1_ALERT_UNRECOGNIZED_NAME"},
    {SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, 1116, "TLSV1_ALERT_CERTIFICATE_REQUIRED"},
};
enum { BORING_SSL_LIB = 16 << 24 };

static void error_one(struct sb *out, unsigned long e)
{
    int reason = ERR_GET_REASON(e);
    for (size_t i = 0; ERR_GET_LIB(e) == ERR_LIB_SSL && i < ARRAY_LEN(reasons); i++) {
        if (reasons[i].reason != reason) continue;
        sb_fmt(out, "|%d:SSL routines:OPENSSL_internal:%s", BORING_SSL_LIB + reasons[i].boring,
               reasons[i].name);
        return;
    }
    const char *lib = ERR_lib_error_string(e), *why = ERR_reason_error_string(e);
    sb_fmt(out, "|%lu:%s:OPENSSL_internal:%s", e, lib ? lib : "lib", why ? why : "unknown");
}

struct str tls_error_text(struct arena *a, bool *saw, bool *no_cert, bool *verify)
{
    struct sb out = {0};
    *saw = *no_cert = *verify = false;
    for (unsigned long e; (e = ERR_get_error()) != 0;) {
        if (!out.len) sb_add(&out, STR("TLS_error:"));
        *saw = true;
        if (ERR_GET_LIB(e) == ERR_LIB_SSL &&
            ERR_GET_REASON(e) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
            *no_cert = true;
        if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED)
            *verify = true;
        error_one(&out, e);
    }
    if (out.len) sb_add(&out, STR(":TLS_error_end"));
    struct str text = str_dup(a, sb_str(&out));
    sb_release(&out);
    return text;
}

struct str tls_error_on_hello(struct arena *a, struct str text)
{
    static const char end[] = ":TLS_error_end";
    struct str head = str_sub(text, 0, text.len - STR(end).len);
    if (!str_ends(head, STR("SSLV3_ALERT_HANDSHAKE_FAILURE"))) return text;
    return str_fmt(
        a, "%.*s|268435610:SSL routines:OPENSSL_internal:HANDSHAKE_FAILURE_ON_CLIENT_HELLO%s",
        STR_ARG(head), end);
}
