/* TLS: what the tls transport sockets configure and SDS delivers. Implemented in proxy/net/tls_*.c
 * on OpenSSL, which nobody else sees. Everything is made on main in the object's arena, is
 * immutable and fails closed. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proxy/api/matcher.h"
#include "proxy/api/tls_info.h"
#include "proxy/api/transport_socket.h"
#include "proxy/runtime/obj.h"

struct tls_cert;       /* a certificate, its chain and private key */
struct tls_validation; /* how a peer's certificate is judged */
struct tls_tickets;    /* session ticket keys */
struct arena;
struct stat_group;
struct stats;
struct runtime;
struct tls_conf;
struct log_file;
struct cidr;

/* --- parts
 * -----------------------------------------------------------------------------------------------------
 */
/* Texts of data sources; the names are for errors ("<inline>", a path). An empty text is "not set".
 */
struct tls_cert_source {
    struct str chain, key, pkcs12, password, ocsp;
    struct str chain_name, key_name;
    struct str
        chain_bytes; /* the chain, when it came as inline_bytes: Envoy names statistics by it */
    struct str name; /* of the secret; empty: none */
};
/* NULL: told at `at`, with Envoy's words. */
const struct tls_cert *tls_cert_new(const struct conf_at *at, const struct tls_cert_source *s);

enum tls_san_type {
    TLS_SAN_ANY = 0 /* the deprecated match_subject_alt_names */,
    TLS_SAN_EMAIL,
    TLS_SAN_DNS,
    TLS_SAN_URI,
    TLS_SAN_IP,
    TLS_SAN_OTHER
};
struct tls_san_matcher {
    enum tls_san_type type;
    struct str oid; /* OTHER */
    struct string_matcher matcher;
};
enum { TLS_HASH_SIZE = 32 };
/* SPIFFE: whom a trust domain's authorities may vouch for. */
struct tls_trust_domain {
    struct str name, bundle, bundle_name; /* bundle: PEM */
};
struct tls_validation_source {
    struct str ca, crl; /* PEM */
    struct str ca_name, crl_name;
    struct str ca_bytes, name; /* as of certificates */
    bool system_roots;
    bool spiffe;
    const struct tls_trust_domain *domains; /* spiffe; the names are kept */
    size_t domain_count;
    const uint8_t (*hashes)[TLS_HASH_SIZE]; /* SHA-256 of the certificate; copied */
    size_t hash_count;
    const uint8_t (*spkis)[TLS_HASH_SIZE]; /* SHA-256 of the public key info; copied */
    size_t spki_count;
    const struct tls_san_matcher *sans; /* kept */
    size_t san_count;
    bool allow_expired, accept_untrusted, only_leaf_crl;
    bool no_ca_names; /* clients are not told whose certificates are taken */
    bool has_depth;
    uint32_t max_depth;
};
/* partial: the default of a combined context, whose CA comes by SDS: SAN matchers without a CA are
 * no mistake there. */
const struct tls_validation *tls_validation_new(const struct conf_at *at,
                                                const struct tls_validation_source *s,
                                                bool partial);

enum { TLS_TICKET_KEY_SIZE = 80 };
/* Each 80 bytes; the first encrypts, all decrypt. */
const struct tls_tickets *tls_tickets_new(const struct conf_at *at, const struct str *keys,
                                          size_t count);

/* --- secrets (TABLE_SECRETS)
 * --------------------------------------------------------------------------------------- */
enum tls_secret_kind {
    TLS_SECRET_CERT,
    TLS_SECRET_VALIDATION,
    TLS_SECRET_TICKETS,
    TLS_SECRET_GENERIC
};
struct tls_secret {
    struct obj obj; /* name: the secret's */
    enum tls_secret_kind kind;
    const struct tls_cert *cert;
    const struct tls_validation *validation;
    const struct tls_tickets *tickets;
    struct str generic; /* GENERIC */
};
/* A secret by name, looked up at each handshake. */
struct tls_secret_name {
    struct str name;
    uint64_t hash; /* hash_str(name) */
};

/* --- a context
 * --------------------------------------------------------------------------------------------------------
 */
enum tls_version {
    TLS_VERSION_AUTO,
    TLS_VERSION_10,
    TLS_VERSION_11,
    TLS_VERSION_12,
    TLS_VERSION_13
};
/* In the order of TlsParameters.CompliancePolicy. */
enum tls_policy { TLS_POLICY_NONE, TLS_POLICY_FIPS, TLS_POLICY_CNSA2, TLS_POLICY_CNSA1 };
enum tls_ocsp { TLS_OCSP_LENIENT, TLS_OCSP_STRICT, TLS_OCSP_MUST };
/* Who of the connections has its keys written to a file, for tools that look into traffic. */
struct tls_key_log {
    struct log_file *file;
    const struct cidr *local, *remote; /* both must hold; none: all */
    size_t local_count, remote_count;
};
/* Certificates that handshakes ask for by name (on_demand_secret). */
struct tls_mapper {
    struct str name; /* the secret's; by_sni: of clients without one */
    bool by_sni;
};
struct tls_on_demand {
    const void *source; /* Envoy__Config__Core__V3__ConfigSource * */
    struct tls_mapper mapper;
    struct runtime *rt;       /* NULL: only validated */
    struct stat_group *stats; /* enum tls_on_demand_stat; main. NULL: only validated */
};
enum tls_on_demand_stat {
    TLS_ON_DEMAND_ACTIVE,
    TLS_ON_DEMAND_REQUESTED,
    TLS_ON_DEMAND_UPDATED,
    TLS_ON_DEMAND_COUNT
};
struct stat_group *tls_on_demand_stats_get(struct stats *s, struct str scope);
/* Its name in TABLE_ASKED_SECRETS: each context sees only what its own handshakes asked for. */
struct str tls_on_demand_key(struct arena *a, const struct tls_on_demand *who, struct str name);
/* custom_tls_certificate_selector: there is one. */
struct tls_selector_type {
    struct extension ext;
};
/* How a handshake finds the secret's name. */
struct tls_mapper_type {
    struct extension ext;
    /* Main; texts in conf_arena(at). */
    struct tls_mapper (*conf_create)(const struct conf_at *at, const struct ProtobufCMessage *msg);
};
struct Envoy__Config__Core__V3__TypedExtensionConfig;
/* Main. False: told (filters/transport/tls_selector.c). m NULL: none. */
bool tls_selector_create(const struct conf_at *at,
                         const struct Envoy__Config__Core__V3__TypedExtensionConfig *m,
                         struct tls_conf *c);

/* A DownstreamTlsContext or UpstreamTlsContext. The extension fills it; tls_conf_ready makes the
 * rest. */
struct tls_conf {
    struct transport_socket ts;
    bool server;
    const struct tls_cert *const *certs;
    size_t cert_count;
    const struct tls_secret_name *cert_secrets;
    size_t cert_secret_count;
    const struct tls_validation *validation;  /* static, or the default of a combined context */
    struct tls_secret_name validation_secret; /* name empty: none */
    const struct tls_tickets *tickets;
    struct tls_secret_name ticket_secret;
    enum tls_version min_version, max_version;
    const struct str *ciphers, *curves, *sigalgs, *alpn;
    size_t cipher_count, curve_count, sigalg_count, alpn_count;
    const struct tls_key_log *key_log; /* NULL: none */
    enum tls_policy policy;            /* overrules the parameters above */
    /* server */
    bool require_client, require_sni, no_tickets, no_cache, full_scan, prefer_client_ciphers;
    uint64_t session_timeout_s;
    enum tls_ocsp ocsp;
    const struct tls_on_demand *on_demand; /* instead of certificates; NULL: none */
    /* client */
    struct str sni;
    bool auto_host_sni, auto_sni_san, allow_renegotiation;
    uint32_t max_sessions;
    /* made by tls_conf_ready */
    struct stat_group *stats, *factory_stats;
    struct str scope; /* of its statistics */
    struct str alpn_wire;
    uint64_t id;                   /* unique in the process */
    uint8_t digest[TLS_HASH_SIZE]; /* of what decides whom we trust: sessions are bound to it */
    void *ctx;
};
/* Builds the OpenSSL context. False: told. */
bool tls_conf_ready(const struct conf_at *at, struct tls_conf *c);

/* Lower-case hexadecimal digits of a hash; in arena a. */
enum tls_digest { TLS_DIGEST_MD5, TLS_DIGEST_SHA256 };
struct str tls_digest_hex(struct arena *a, enum tls_digest which, struct str bytes);

/* --- the transport: callbacks of struct transport_socket_type
 * ------------------------------------------------------------ */
void *tls_open(const struct transport_socket *ts, struct conn *c, int fd, bool server,
               const struct transport_ask *ask);
int tls_handshake(void *t);
ssize_t tls_read(void *t, void *to, size_t len);
ssize_t tls_writev(void *t, const struct iovec *iov, int count);
int tls_shutdown(void *t);
const struct tls_info *tls_info_get(void *t);
struct str tls_alpn(void *t);
struct str tls_failure(void *t);
void tls_close(void *t);
bool tls_pending(void *t);

/* --- translation of messages that contexts and SDS share (proxy/config/secret.c)
 * ------------------------------------------ */
struct Envoy__Extensions__TransportSockets__Tls__V3__TlsCertificate;
struct Envoy__Extensions__TransportSockets__Tls__V3__CertificateValidationContext;
struct Envoy__Extensions__TransportSockets__Tls__V3__TlsSessionTicketKeys;
const struct tls_cert *conf_tls_cert(
    const struct conf_at *at,
    const struct Envoy__Extensions__TransportSockets__Tls__V3__TlsCertificate *m);
const struct tls_validation *conf_tls_validation(
    const struct conf_at *at,
    const struct Envoy__Extensions__TransportSockets__Tls__V3__CertificateValidationContext *m,
    bool partial);
const struct tls_tickets *conf_tls_tickets(
    const struct conf_at *at,
    const struct Envoy__Extensions__TransportSockets__Tls__V3__TlsSessionTicketKeys *m);
struct Envoy__Extensions__TransportSockets__Tls__V3__TlsKeyLog;
/* m NULL: none. False: told (proxy/config/tls_parts.c). */
bool conf_tls_key_log(const struct conf_at *at,
                      const struct Envoy__Extensions__TransportSockets__Tls__V3__TlsKeyLog *m,
                      const struct tls_key_log **out);
