/* UTF-8, percent encoding, hex and the HTTP date. Base64 is in base64.c. */
#include "base/text.h"

#include <time.h>

#include "base/arena.h"
#include "base/must.h"
#include "base/utf8_internal.h"

static bool is_continuation(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

size_t utf8_sequence(struct str s, size_t at)
{
    const unsigned char *p = (const unsigned char *)s.ptr + at;
    size_t left = s.len - at;
    unsigned char c = p[0];
    if (c < 0x80) return 1;
    if (c < 0xc2) return 0; /* continuation or overlong */
    if (left < 2 || !is_continuation(p[1])) return 0;
    if (c < 0xe0) return 2;
    if (c < 0xf0) {
        if (c == 0xe0 && p[1] < 0xa0) return 0;  /* overlong */
        if (c == 0xed && p[1] >= 0xa0) return 0; /* surrogate */
        return left >= 3 && is_continuation(p[2]) ? 3 : 0;
    }
    if (c > 0xf4 || (c == 0xf0 && p[1] < 0x90) || (c == 0xf4 && p[1] >= 0x90)) return 0;
    return left >= 4 && is_continuation(p[2]) && is_continuation(p[3]) ? 4 : 0;
}

bool utf8_valid(struct str s)
{
    size_t i = 0;
    while (i < s.len) {
        size_t len = utf8_sequence(s, i);
        if (len == 0) return false;
        i += len;
    }
    return true;
}

struct str utf8_clean(struct arena *a, struct str s, char instead)
{
    if (utf8_valid(s)) return s;
    char *to = arena_alloc_raw(a, s.len);
    memcpy(to, s.ptr, s.len);
    for (size_t i = 0, len; i < s.len; i += len ? len : 1) {
        len = utf8_sequence(s, i);
        if (len == 0) to[i] = instead;
    }
    return str_make(to, s.len);
}

/* 0..15, or -1. */
static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

struct str hex_encode(struct arena *a, struct str in)
{
    static const char digits[] = "0123456789abcdef";
    char *to = arena_array(a, in.len + 1, 2);
    for (size_t i = 0; i < in.len; i++) {
        unsigned char c = (unsigned char)in.ptr[i];
        to[i * 2] = digits[c >> 4];
        to[i * 2 + 1] = digits[c & 15];
    }
    return (struct str){to, in.len * 2};
}

struct str percent_decode(struct arena *a, struct str in)
{
    char *to = arena_alloc_raw(a, in.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        int high = -1, low = -1;
        if (in.ptr[i] == '%' && in.len - i > 2) {
            high = hex_value(in.ptr[i + 1]);
            low = hex_value(in.ptr[i + 2]);
        }
        if (high < 0 || low < 0) {
            to[len++] = in.ptr[i];
            continue;
        }
        to[len++] = (char)(high << 4 | low);
        i += 2;
    }
    to[len] = '\0';
    return (struct str){to, len};
}

/* RFC 3986, section 2.3. */
static bool is_unreserved(char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
    return c == '-' || c == '.' || c == '_' || c == '~';
}

struct str percent_encode(struct arena *a, struct str in, struct str keep)
{
    static const char digits[] = "0123456789ABCDEF";
    char *to = arena_array(a, in.len + 1, 3);
    size_t len = 0;
    for (size_t i = 0; i < in.len; i++) {
        unsigned char c = (unsigned char)in.ptr[i];
        if (is_unreserved(in.ptr[i]) || str_find_char(keep, in.ptr[i]) != SIZE_MAX) {
            to[len++] = in.ptr[i];
            continue;
        }
        to[len++] = '%';
        to[len++] = digits[c >> 4];
        to[len++] = digits[c & 15];
    }
    return (struct str){to, len};
}

static void two_digits(char *to, int value)
{
    to[0] = (char)('0' + value / 10 % 10);
    to[1] = (char)('0' + value % 10);
}

void date_http(uint64_t wall_us, char *out)
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t seconds = (time_t)(wall_us / 1000000);
    struct tm t;
    must(gmtime_r(&seconds, &t));
    memcpy(out, "Sun, 06 Nov 1994 08:49:37 GMT", 30);
    memcpy(out, days + t.tm_wday * 3, 3);
    two_digits(out + 5, t.tm_mday);
    memcpy(out + 8, months + t.tm_mon * 3, 3);
    two_digits(out + 12, (t.tm_year + 1900) / 100);
    two_digits(out + 14, t.tm_year + 1900);
    two_digits(out + 17, t.tm_hour);
    two_digits(out + 20, t.tm_min);
    two_digits(out + 23, t.tm_sec);
}
