/* Socket addresses and CIDR ranges. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stddef.h>
#include <stdio.h>

#include "base/arena.h"

enum { IP_TEXT_MAX = INET6_ADDRSTRLEN };

bool addr_parse_ip(struct str ip, uint16_t port, struct addr *out)
{
    char text[IP_TEXT_MAX];
    struct addr x = {.len = sizeof(x.sa.v4)};
    bool bracket = ip.len > 2 && ip.ptr[0] == '[' && ip.ptr[ip.len - 1] == ']';
    if (bracket) ip = str_sub(ip, 1, ip.len - 2);
    if (ip.len == 0 || ip.len >= sizeof(text) || str_find_char(ip, '\0') != SIZE_MAX) return false;
    memcpy(text, ip.ptr, ip.len);
    text[ip.len] = '\0';
    if (!bracket && inet_pton(AF_INET, text, &x.sa.v4.sin_addr) == 1) {
        x.sa.v4.sin_family = AF_INET;
    } else if (inet_pton(AF_INET6, text, &x.sa.v6.sin6_addr) == 1) {
        x.sa.v6.sin6_family = AF_INET6;
        x.len = sizeof(x.sa.v6);
    } else {
        return false;
    }
    addr_set_port(&x, port);
    *out = x;
    return true;
}

bool addr_parse(struct str text, struct addr *out)
{
    struct str ip, port_text;
    uint16_t port;
    if (!str_cut_last(text, ':', &ip, &port_text) || !str_to_u16(port_text, &port)) return false;
    /* "::1:80" is ambiguous: IPv6 needs its brackets here. */
    if (str_find_char(ip, ':') != SIZE_MAX && ip.ptr[0] != '[') return false;
    return addr_parse_ip(ip, port, out);
}

bool addr_unix(struct str path, struct addr *out)
{
    struct addr x = {0};
    bool abstract = path.len && path.ptr[0] == '@';
    if (path.len == 0 || path.len >= sizeof(x.sa.un.sun_path)) return false;
    if (str_find_char(path, '\0') != SIZE_MAX) return false;
    x.sa.un.sun_family = AF_UNIX;
    memcpy(x.sa.un.sun_path, path.ptr, path.len);
    if (abstract) x.sa.un.sun_path[0] = '\0';
    /* The length of an abstract name counts exactly its bytes; that of a path its NUL, too. */
    x.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + !abstract);
    *out = x;
    return true;
}

/* Path or "@name". An unnamed peer of a Unix socket gives "". */
static size_t format_unix(const struct addr *x, char *out)
{
    size_t head = offsetof(struct sockaddr_un, sun_path);
    size_t len = x->len > head ? x->len - head : 0;
    if (len > sizeof(x->sa.un.sun_path)) len = sizeof(x->sa.un.sun_path);
    memcpy(out, x->sa.un.sun_path, len);
    if (len && out[0] == '\0')
        out[0] = '@';
    else
        len = strnlen(out, len);
    out[len] = '\0';
    return len;
}
static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) < ADDR_TEXT_MAX,
              "ADDR_TEXT_MAX is too small");

size_t addr_format_ip(const struct addr *x, char *out)
{
    out[0] = '\0';
    if (x->len == 0) return 0;
    if (x->sa.any.sa_family == AF_UNIX) return format_unix(x, out);
    if (x->sa.any.sa_family == AF_INET)
        (void)inet_ntop(AF_INET, &x->sa.v4.sin_addr, out, ADDR_TEXT_MAX);
    if (x->sa.any.sa_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &x->sa.v6.sin6_addr, out, ADDR_TEXT_MAX);
    return strlen(out);
}

size_t addr_format(const struct addr *x, char *out)
{
    char ip[ADDR_TEXT_MAX];
    if (!addr_is_ip(x)) return addr_format_ip(x, out);
    (void)addr_format_ip(x, ip);
    int len = addr_is_v4(x)
                  ? snprintf(out, ADDR_TEXT_MAX, "%.45s:%u", ip, (unsigned)addr_port(x))
                  : snprintf(out, ADDR_TEXT_MAX, "[%.45s]:%u", ip, (unsigned)addr_port(x));
    return (size_t)len;
}

struct str addr_text(const struct addr *x, struct arena *a)
{
    char text[ADDR_TEXT_MAX];
    size_t len = addr_format(x, text);
    return str_dup(a, (struct str){text, len});
}

uint16_t addr_port(const struct addr *x)
{
    if (x->len == 0) return 0;
    if (x->sa.any.sa_family == AF_INET) return ntohs(x->sa.v4.sin_port);
    if (x->sa.any.sa_family == AF_INET6) return ntohs(x->sa.v6.sin6_port);
    return 0;
}

void addr_set_port(struct addr *x, uint16_t port)
{
    if (x->sa.any.sa_family == AF_INET) x->sa.v4.sin_port = htons(port);
    if (x->sa.any.sa_family == AF_INET6) x->sa.v6.sin6_port = htons(port);
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
    if (a->len == 0 || b->len == 0) return a->len == b->len;
    if (a->sa.any.sa_family != b->sa.any.sa_family) return false;
    if (a->sa.any.sa_family == AF_INET) {
        return a->sa.v4.sin_port == b->sa.v4.sin_port &&
               a->sa.v4.sin_addr.s_addr == b->sa.v4.sin_addr.s_addr;
    }
    if (a->sa.any.sa_family == AF_INET6) {
        return a->sa.v6.sin6_port == b->sa.v6.sin6_port &&
               a->sa.v6.sin6_scope_id == b->sa.v6.sin6_scope_id &&
               memcmp(&a->sa.v6.sin6_addr, &b->sa.v6.sin6_addr, sizeof(a->sa.v6.sin6_addr)) == 0;
    }
    return a->len == b->len && memcmp(&a->sa.un, &b->sa.un, a->len) == 0;
}

bool addr_is_ip(const struct addr *x)
{
    return x->len && (x->sa.any.sa_family == AF_INET || x->sa.any.sa_family == AF_INET6);
}

bool addr_is_v4(const struct addr *x)
{
    return x->len && x->sa.any.sa_family == AF_INET;
}

static uint32_t v4_bits(const struct addr *x)
{
    return ntohl(x->sa.v4.sin_addr.s_addr);
}

bool addr_is_loopback(const struct addr *x)
{
    if (!addr_is_ip(x)) return false;
    if (addr_is_v4(x)) return v4_bits(x) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&x->sa.v6.sin6_addr);
}

bool addr_is_any(const struct addr *x)
{
    if (!addr_is_ip(x)) return false;
    if (addr_is_v4(x)) return v4_bits(x) == INADDR_ANY;
    return IN6_IS_ADDR_UNSPECIFIED(&x->sa.v6.sin6_addr);
}

bool addr_is_internal(const struct addr *x)
{
    if (x->len && x->sa.any.sa_family == AF_UNIX) return true;
    if (!addr_is_ip(x)) return false;
    if (addr_is_loopback(x)) return true;
    if (addr_is_v4(x)) {
        uint32_t ip = v4_bits(x);
        return ip >> 24 == 10 || ip >> 20 == 0xac1 || ip >> 16 == 0xc0a8 || ip >> 16 == 0xa9fe;
    }
    const uint8_t *b = x->sa.v6.sin6_addr.s6_addr;
    return (b[0] & 0xfe) == 0xfc || (b[0] == 0xfe && (b[1] & 0xc0) == 0x80);
}

void addr_unmap(struct addr *x)
{
    if (!addr_is_ip(x) || addr_is_v4(x) || !IN6_IS_ADDR_V4MAPPED(&x->sa.v6.sin6_addr)) return;
    struct addr v4 = {.len = sizeof(v4.sa.v4)};
    v4.sa.v4.sin_family = AF_INET;
    v4.sa.v4.sin_port = x->sa.v6.sin6_port;
    memcpy(&v4.sa.v4.sin_addr, x->sa.v6.sin6_addr.s6_addr + 12, 4);
    *x = v4;
}

/* The address bytes (network order) and their number. */
static uint8_t *ip_bytes(struct addr *x, size_t *len)
{
    *len = addr_is_v4(x) ? 4 : 16;
    return addr_is_v4(x) ? (uint8_t *)&x->sa.v4.sin_addr : x->sa.v6.sin6_addr.s6_addr;
}

static void clear_host_bits(struct addr *x, uint32_t bits)
{
    size_t len;
    uint8_t *bytes = ip_bytes(x, &len);
    for (uint32_t i = 0; i < len; i++) {
        uint32_t kept = bits > i * 8 ? bits - i * 8 : 0;
        if (kept < 8) bytes[i] = (uint8_t)(bytes[i] & (0xff00u >> kept));
    }
}

bool cidr_make(struct str ip, uint32_t bits, struct cidr *out)
{
    struct cidr c = {0};
    if (!addr_parse_ip(ip, 0, &c.base)) return false;
    if (bits > (addr_is_v4(&c.base) ? 32u : 128u)) return false;
    clear_host_bits(&c.base, bits);
    c.bits = (uint8_t)bits;
    *out = c;
    return true;
}

bool cidr_contains(const struct cidr *c, const struct addr *x)
{
    if (!addr_is_ip(x) || !addr_is_ip(&c->base) || addr_is_v4(x) != addr_is_v4(&c->base))
        return false;
    struct addr masked = *x;
    struct addr base = c->base;
    size_t len;
    clear_host_bits(&masked, c->bits);
    const uint8_t *mine = ip_bytes(&base, &len);
    return memcmp(mine, ip_bytes(&masked, &len), len) == 0;
}

struct str cidr_text(const struct cidr *c, struct arena *a)
{
    char ip[ADDR_TEXT_MAX];
    (void)addr_format_ip(&c->base, ip);
    return str_fmt(a, "%s/%u", ip, (unsigned)c->bits);
}
