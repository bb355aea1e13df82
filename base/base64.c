/* Base64 in both alphabets (RFC 4648, sections 4 and 5). */
#include "base/arena.h"
#include "base/text.h"

static const char standard_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* 0..63, or -1. */
static int digit_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+' || c == '-') return 62;
    if (c == '/' || c == '_') return 63;
    return -1;
}

bool base64_decode(struct arena *a, struct str in, struct str *out)
{
    if (in.len % 4 == 0 && str_ends(in, STR("==")))
        in.len -= 2;
    else if (in.len % 4 == 0 && str_ends(in, STR("=")))
        in.len -= 1;
    if (in.len % 4 == 1) return false;
    char *to = arena_alloc_raw(a, in.len / 4 * 3 + 4);
    size_t len = 0;
    uint32_t bits = 0;
    unsigned count = 0;
    for (size_t i = 0; i < in.len; i++) {
        int value = digit_value(in.ptr[i]);
        if (value < 0) return false;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count < 8) continue;
        count -= 8;
        to[len++] = (char)(bits >> count & 0xff);
        bits &= (1u << count) - 1;
    }
    if (bits) return false; /* left-over bits must be zero: one text, one value */
    to[len] = '\0';
    *out = (struct str){to, len};
    return true;
}

static struct str encode(struct arena *a, struct str in, const char *digits, bool pad)
{
    char *to = arena_array(a, in.len / 3 + 2, 4);
    size_t len = 0;
    for (size_t i = 0; i < in.len; i += 3) {
        size_t left = in.len - i;
        uint32_t bits = (uint32_t)(unsigned char)in.ptr[i] << 16;
        if (left > 1) bits |= (uint32_t)(unsigned char)in.ptr[i + 1] << 8;
        if (left > 2) bits |= (unsigned char)in.ptr[i + 2];
        to[len++] = digits[bits >> 18];
        to[len++] = digits[bits >> 12 & 63];
        if (left > 1)
            to[len++] = digits[bits >> 6 & 63];
        else if (pad)
            to[len++] = '=';
        if (left > 2)
            to[len++] = digits[bits & 63];
        else if (pad)
            to[len++] = '=';
    }
    return (struct str){to, len};
}

struct str base64_encode(struct arena *a, struct str in)
{
    return encode(a, in, standard_digits, true);
}

struct str base64url_encode(struct arena *a, struct str in)
{
    return encode(a, in, url_digits, false);
}
