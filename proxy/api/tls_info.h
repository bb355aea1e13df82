/* What TLS knows about a connection, for access logs, formatters, matchers and XFCC. Lives as long
 * as the connection. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "base/str.h"

struct tls_names {
    struct str *v;
    size_t count;
};
struct tls_cert_info {
    bool present;
    struct str subject, issuer, serial, fingerprint_256, fingerprint_1;
    struct tls_names uri_san, dns_san, ip_san, email_san, othername_san;
    int64_t valid_from, valid_to; /* seconds since 1970 */
    struct str pem_url_encoded;   /* made on demand may be empty */
};
struct tls_info {
    struct str version, cipher, group, session_id, sni, alpn;
    struct tls_cert_info peer, local;
    bool peer_validated;
    struct str ja3, ja4;
    const void *ssl; /* SSL *: only for net/tls_*.c */
};
