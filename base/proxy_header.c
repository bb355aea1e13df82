/* PROXY protocol headers, written. */
#include "base/proxy_header.h"

#include <arpa/inet.h>
#include <sys/socket.h>

enum { TLV_HEADER = 3 };
static const struct str signature = {"\r\n\r\n\0\r\nQUIT\n", 12};

static void put_u16(struct sb *out, size_t n)
{
    sb_char(out, (char)(n >> 8));
    sb_char(out, (char)(n & 255));
}

bool proxy_tlv_add(struct sb *out, uint8_t type, struct str value)
{
    if (value.len > PROXY_TLV_MOST) return false;
    sb_char(out, (char)type);
    put_u16(out, value.len);
    sb_add(out, value);
    return true;
}

bool proxy_tlv_next(struct str *rest, uint8_t *type, struct str *value)
{
    if (rest->len < TLV_HEADER) return false;
    const unsigned char *p = (const unsigned char *)rest->ptr;
    size_t len = (size_t)p[1] << 8 | p[2];
    if (rest->len - TLV_HEADER < len) return false;
    *type = p[0];
    *value = str_sub(*rest, TLV_HEADER, len);
    *rest = str_sub(*rest, TLV_HEADER + len, SIZE_MAX);
    return true;
}

static bool same_family(const struct addr *a, const struct addr *b)
{
    return addr_is_ip(a) && addr_is_ip(b) && addr_is_v4(a) == addr_is_v4(b);
}

static const void *ip_bytes(const struct addr *a)
{
    return addr_is_v4(a) ? (const void *)&a->sa.v4.sin_addr : (const void *)&a->sa.v6.sin6_addr;
}

void proxy_header_v1(struct sb *out, const struct addr *from, const struct addr *to)
{
    char source[INET6_ADDRSTRLEN], target[INET6_ADDRSTRLEN];
    int family = addr_is_v4(from) ? AF_INET : AF_INET6;
    if (!same_family(from, to) || !inet_ntop(family, ip_bytes(from), source, sizeof(source)) ||
        !inet_ntop(family, ip_bytes(to), target, sizeof(target))) {
        sb_add(out, STR("PROXY UNKNOWN\r\n"));
        return;
    }
    sb_fmt(out, "PROXY %s %s %s %u %u\r\n", family == AF_INET ? "TCP4" : "TCP6", source, target,
           addr_port(from), addr_port(to));
}

void proxy_header_v2_local(struct sb *out)
{
    sb_add(out, signature);
    sb_add(out, str_make("\x20\0\0\0", 4));
}

bool proxy_header_v2(struct sb *out, const struct addr *from, const struct addr *to,
                     struct str tlvs)
{
    if (!same_family(from, to)) {
        proxy_header_v2_local(out);
        return true;
    }
    bool v4 = addr_is_v4(from);
    size_t size = v4 ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    size_t bare = 2 * (size + sizeof(uint16_t));
    bool fits = tlvs.len <= PROXY_TLV_MOST - bare;
    sb_add(out, signature);
    sb_char(out, 0x21);
    sb_char(out, v4 ? 0x11 : 0x21);
    put_u16(out, bare + (fits ? tlvs.len : 0));
    sb_add(out, str_make(ip_bytes(from), size));
    sb_add(out, str_make(ip_bytes(to), size));
    put_u16(out, addr_port(from));
    put_u16(out, addr_port(to));
    if (fits) sb_add(out, tlvs);
    return fits;
}
