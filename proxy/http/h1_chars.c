/* Tables of the bytes that may stand in targets, authorities, values and names. */
#include "proxy/http/h1_chars.h"
#include <stdint.h>

enum { CHAR_TOKEN = 1, CHAR_AUTHORITY = 2, CHAR_TARGET = 4, CHAR_VALUE = 8 };

static uint8_t char_class(unsigned char c)
{
    static const char token[] = "!#$%&'*+-.^_`|~";
    static const char authority[] = "-._~!$&'()*+,;=:[]%";
    bool word = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    uint8_t mask = 0;
    if (word || (c && strchr(token, c))) mask |= CHAR_TOKEN;
    if (word || (c && strchr(authority, c))) mask |= CHAR_AUTHORITY;
    if (c > ' ' && c < 0x7f) mask |= CHAR_TARGET;
    if ((c >= ' ' && c != 0x7f) || c == '\t') mask |= CHAR_VALUE;
    return mask;
}

static bool chars_all(struct str s, uint8_t mask)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!(char_class((unsigned char)s.ptr[i]) & mask)) return false;
    }
    return true;
}

bool h1_target_valid(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)(s.ptr[i] - '!') > '~' - '!') return false;
    }
    return s.len > 0;
}

bool h1_authority_valid(struct str s)
{
    return chars_all(s, CHAR_AUTHORITY);
}

bool h1_value_valid(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) return false;
    }
    return true;
}

bool h1_token_valid(struct str s)
{
    return s.len > 0 && chars_all(s, CHAR_TOKEN);
}
