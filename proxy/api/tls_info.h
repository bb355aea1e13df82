/* What TLS knows about a connection, for access logs, formatters, matchers and XFCC. Lives as long
 * as the connection. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

struct arena;

struct tls_names {
    struct str *v;
    size_t count;
};
struct tls_cert_info {
    bool present;
    struct str subject, issuer, serial, fingerprint_256, fingerprint_1;
    struct tls_names uri_san, dns_san, ip_san, email_san, othername_san;
    int64_t valid_from, valid_to; /* seconds since 1970 */
};
struct tls_info {
    struct str version, cipher, group, session_id, sni, alpn;
    struct tls_cert_info peer, local;
    bool peer_validated;
    void *facts; /* what tls_info_text and references need, for net/tls_*.c; NULL: none */
};
/* It lives as long as its connection; a reference keeps it longer. Both take NULL. Worker thread.
 */
const struct tls_info *tls_info_ref(const struct tls_info *t);
void tls_info_unref(const struct tls_info **t);

/* What is told rarely, made when asked. */
enum tls_text {
    TLS_TEXT_PEER_PEM,  /* URL-encoded */
    TLS_TEXT_CHAIN_PEM, /* of the leaf and what came with it; URL-encoded */
    TLS_TEXT_CHAIN_FINGERPRINTS_256,
    TLS_TEXT_CHAIN_FINGERPRINTS_1,
    TLS_TEXT_CHAIN_SERIALS,
    TLS_TEXT_ISSUER_FINGERPRINT_256, /* of the certificate that vouched for the leaf */
    TLS_TEXT_ISSUER_SERIAL
};
/* In arena a; empty without a peer's certificate. */
struct str tls_info_text(const struct tls_info *t, enum tls_text which, struct arena *a);
