/* Socket addresses (IPv4, IPv6, Unix paths, abstract) and CIDR ranges. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/str.h"

struct arena;

struct addr {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    } sa;
    socklen_t len; /* 0: unset */
};

/* An IP address text ("10.0.0.1", "::1", "[::1]") and port. False if it is none. */
bool addr_parse_ip(struct str ip, uint16_t port, struct addr *out);
/* "ip:port" or "[v6]:port". */
bool addr_parse(struct str text, struct addr *out);
/* Unix path; a leading '@' means abstract. False when too long. */
bool addr_unix(struct str path, struct addr *out);
/* Envoy's text: "1.2.3.4:80", "[::1]:80", path of a pipe. */
struct str addr_text(const struct addr *x, struct arena *a);
/* Writes into out (NUL-ended, needs ADDR_TEXT_MAX); gives back its length. */
enum { ADDR_TEXT_MAX = 128 };
size_t addr_format(const struct addr *x, char *out);
/* The IP alone without port or brackets ("::1"); for a pipe its path. */
size_t addr_format_ip(const struct addr *x, char *out);
uint16_t addr_port(const struct addr *x);
void addr_set_port(struct addr *x, uint16_t port);
bool addr_eq(const struct addr *a, const struct addr *b);
bool addr_is_ip(const struct addr *x);
bool addr_is_v4(const struct addr *x);
bool addr_is_loopback(const struct addr *x);
bool addr_is_any(const struct addr *x);
/* RFC 1918, loopback, link-local, fc00::/7: "internal" in Envoy's x-forwarded-for rules. */
bool addr_is_internal(const struct addr *x);
/* v4-mapped v6 becomes plain v4. */
void addr_unmap(struct addr *x);

struct cidr {
    struct addr base;
    uint8_t bits;
};
/* ip text + prefix length; bits beyond the prefix are cleared. False: bad ip or length. */
bool cidr_make(struct str ip, uint32_t bits, struct cidr *out);
bool cidr_contains(const struct cidr *c, const struct addr *x);
struct str cidr_text(const struct cidr *c, struct arena *a); /* "10.0.0.0/8" */
