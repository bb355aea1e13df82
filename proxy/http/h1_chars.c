/* Tables of the bytes that may stand in targets, authorities, values and names. */
#include "proxy/http/h1_chars.h"
#include <stdint.h>

enum { CHAR_TOKEN = 1, CHAR_AUTHORITY = 2, CHAR_TARGET = 4, CHAR_VALUE = 8 };

/* Sums of the above for each byte. token: RFC 9110 5.6.2; authority: RFC 3986 without userinfo;
 * target: visible ASCII; value: all but control bytes, tab allowed. */
static const uint8_t char_classes[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  8,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
    0,  0,  0,  0,  0,  0,  0,  0,  8,  15, 12, 13, 15, 15, 15, 15, 14, 14, 15, 15, 14, 15, 15, 12,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 12, 14, 12, 12, 12, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 12, 14, 13, 15,
    13, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,
    15, 15, 15, 12, 13, 12, 15, 0,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,
};

static bool chars_all(struct str s, uint8_t mask)
{
    uint8_t all = mask;
    for (size_t i = 0; i < s.len; i++)
        all &= char_classes[(unsigned char)s.ptr[i]];
    return all & mask;
}

bool h1_target_valid(struct str s)
{
    return s.len > 0 && chars_all(s, CHAR_TARGET);
}

bool h1_authority_valid(struct str s)
{
    return chars_all(s, CHAR_AUTHORITY);
}

bool h1_value_valid(struct str s)
{
    return chars_all(s, CHAR_VALUE);
}

bool h1_token_lower(char *at, size_t len)
{
    uint8_t all = CHAR_TOKEN;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)at[i];
        all &= char_classes[c];
        at[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    return len > 0 && all;
}

bool h1_token_valid(struct str s)
{
    return s.len > 0 && chars_all(s, CHAR_TOKEN);
}
