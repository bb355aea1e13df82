/* TLS on OpenSSL, shared by tls_*.c only. */
#pragma once
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include "proxy/api/on_demand.h"
#include "proxy/api/tls.h"
#include "proxy/net/conn_internal.h"

enum tls_stat {
    TLS_STAT_CONNECTION_ERROR,
    TLS_STAT_FAIL_HASH,
    TLS_STAT_FAIL_ERROR,
    TLS_STAT_FAIL_NO_CERT,
    TLS_STAT_FAIL_SAN,
    TLS_STAT_HANDSHAKE,
    TLS_STAT_NO_CERTIFICATE,
    TLS_STAT_OCSP_FAILED,
    TLS_STAT_OCSP_OMITTED,
    TLS_STAT_OCSP_REQUESTS,
    TLS_STAT_OCSP_RESPONSES,
    TLS_STAT_SESSION_REUSED,
    TLS_STAT_WAS_KEY_USAGE_INVALID,
    TLS_STAT_NAMED /* ciphers, curves, versions, signature algorithms follow, each listed when first
                      seen */
};
enum tls_factory_stat {
    TLS_FACTORY_DOWNSTREAM_NOT_READY,
    TLS_FACTORY_UPDATED,
    TLS_FACTORY_UPSTREAM_NOT_READY,
    TLS_FACTORY_COUNT
};
/* The statistics' tables. */
struct stat_group *tls_stats_get(struct stats *s, struct str prefix);
struct stat_group *tls_factory_stats_get(struct stats *s, struct str prefix, bool server);
/* Counts "ciphers.X" and the like; unknown names count as "other". */
void tls_stat_named(struct stat_group *g, const char *kind, const char *name);

struct tls_cert {
    X509 *x509;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;  /* without the leaf; may be NULL */
    const struct str *names; /* lower-case DNS names of the SAN, or the CN without one */
    size_t name_count;
    struct str ocsp;      /* DER; empty: none */
    int64_t ocsp_until_s; /* nextUpdate */
    bool must_staple;     /* the certificate demands it */
    int curve;            /* OpenSSL's number of an ECDSA key's curve; 0: another kind of key */
    struct tls_cert_info info;
    uint8_t digest[TLS_HASH_SIZE];
    struct str stat_name; /* of its statistics, as Envoy names them */
    struct str path;      /* where it came from, for admin */
};
struct tls_domain {
    struct str name;
    X509_STORE *store;
};
struct tls_validation {
    X509_STORE *store; /* NULL: no CA */
    STACK_OF(X509_NAME) * ca_names;
    struct tls_validation_source c;   /* ca and crl texts are dropped */
    const struct tls_domain *domains; /* of c.domains, which has their count */
    struct str stat_name;
    int64_t ca_until_s; /* the CA that expires first; 0: none */
    uint8_t digest[TLS_HASH_SIZE];
};
struct tls_tickets {
    const struct str *keys;
    size_t count;
};

/* What is known of a connection, with references of its own. */
struct tls_facts {
    struct tls_info info;
    uint32_t refs;          /* of one worker */
    struct arena *arena;    /* the texts; made when asked */
    X509 *peer, *issuer;    /* references; issuer: the certificate that vouched for the peer's */
    STACK_OF(X509) * chain; /* what came with the peer's; NULL: nothing */
};
struct arena *tls_facts_arena(struct tls_facts *f);

/* One connection. */
struct tls_conn {
    SSL *ssl; /* NULL: secrets are missing, the handshake fails */
    const struct tls_conf *conf;
    struct conn *conn;
    struct worker *worker;
    struct pin **pins; /* secrets, until the handshake is over */
    size_t pin_count;
    const struct tls_cert **certs; /* what may be chosen: static and SDS */
    size_t cert_count;
    const struct tls_validation *dynamic; /* by SDS */
    const struct tls_tickets *tickets;
    struct str sni;                /* client: what we ask for */
    const struct str *verify_sans; /* client: the peer must have one of these */
    size_t verify_san_count;
    bool up, counted;       /* handshake is over; its error was counted */
    struct str verify_text; /* why verification failed */
    struct str failure;
    const char *hello_version; /* server: what the hello and our range agree on; NULL: no hello */
    struct tls_facts *facts;
    struct on_demand question; /* for the certificate */
    bool asked, taken;         /* it was answered; it is the one of `certs` */
};
static inline struct tls_conn *tls_conn_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* The secret's name, or "unnamed_cert_" and eight hex digits of the SHA-256 of what came as
 * inline_bytes (Envoy: of nothing else). */
struct str tls_stat_name(struct arena *a, struct str name, const char *kind, struct str bytes);
/* tls_choose.c: which certificate. */
/* tls_on_demand.c: the one certificate of a conf with on_demand becomes what may be chosen. 1: it
 * is so, 0: there is none, -1: the handshake waits for it. */
int tls_on_demand_take(struct tls_conn *t);
int tls_on_cert(SSL *ssl, void *arg);
int tls_on_status(SSL *ssl, void *arg);
bool tls_use_cert(SSL *ssl, const struct tls_cert *c);
/* The first certificate that a name would be given; NULL: none. */
const struct tls_cert *tls_cert_for(const struct tls_conn *t, struct str sni);
/* tls_verify.c */
int tls_on_verify(X509_STORE_CTX *outer, void *arg);
bool tls_wants_peer_cert(const struct tls_validation *a, const struct tls_validation *b);
/* Envoy: names or pins to match make a client's certificate mandatory. */
bool tls_needs_peer_cert(const struct tls_validation *a, const struct tls_validation *b);
/* Certificates (with certs) and, as Envoy, CRLs among them into a store of v. Gives back how many;
 * negative: malformed. */
int tls_load_pem(struct tls_validation *v, X509_STORE *store, struct str pem, bool certs,
                 unsigned long crl_flags);
X509_STORE *tls_store_new(struct arena *a);
/* tls_spiffe.c: false: told. */
bool tls_load_domains(const struct conf_at *at, const struct tls_validation_source *s,
                      struct tls_validation *v);
/* The store of the leaf's trust domain; NULL: *why is told. */
X509_STORE *tls_domain_store(struct arena *a, X509 *leaf, const struct tls_validation *v,
                             struct str *why);
bool tls_dns_name_match(struct str name, struct str pattern);
/* tls_session.c */
int tls_on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                  EVP_MAC_CTX *mac, int enc);
int tls_on_new_session(SSL *ssl, SSL_SESSION *session);
void tls_resume(struct tls_conn *t);
void tls_session_lifetime(struct tls_conn *t); /* of the server's session that begins */
void tls_bind_session(struct tls_conn *t, struct str sni);
/* tls_facts.c: into arena a. */
void tls_cert_facts(struct arena *a, X509 *x, struct tls_cert_info *out);
void tls_fill_info(struct tls_conn *t);
void tls_fill_peer(struct tls_conn *t, X509 *peer);
int64_t tls_time_s(const ASN1_TIME *t); /* seconds since 1970; 0 when malformed */
/* General names of a type (GEN_DNS ...) as texts; oid only for GEN_OTHERNAME. */
struct tls_names tls_san_texts(struct arena *a, X509 *x, int gen_type, const char *oid);
/* tls_names.c */
bool tls_cipher_list(const struct conf_at *at, const struct str *v, size_t count, struct str *out);
const char *tls_group_name(int nid);
/* "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:TLS_error_end" from
 * OpenSSL's queue, which it empties. *counted: some of the errors were counted by verification
 * already. */
/* BoringSSL adds a word to a refusal that answers the hello. */
struct str tls_error_on_hello(struct arena *a, struct str text);
struct str tls_error_text(struct arena *a, bool *saw, bool *no_cert, bool *verify);
