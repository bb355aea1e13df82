/* The growing text of str.h: appends, formatting and JSON escapes. */
#include <stdio.h>
#include <string.h>

#include "base/must.h"
#include "base/str.h"
#include "base/utf8_internal.h"

/* Room for n more bytes and a NUL. */
static char *sb_room(struct sb *b, size_t n)
{
    size_t need;
    must(size_add(b->len, n, &need) && size_add(need, 1, &need));
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < need)
            must(size_mul(cap, 2, &cap));
        b->ptr = mem_realloc(b->ptr, cap);
        b->cap = cap;
    }
    return b->ptr + b->len;
}

void sb_add(struct sb *b, struct str s)
{
    if (s.len == 0) return;
    memcpy(sb_room(b, s.len), s.ptr, s.len);
    b->len += s.len;
}

void sb_char(struct sb *b, char c)
{
    *sb_room(b, 1) = c;
    b->len++;
}

void sb_vfmt(struct sb *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    char *to = sb_room(b, 64);
    size_t room = b->cap - b->len;
    int len = vsnprintf(to, room, fmt, ap);
    must(len >= 0);
    if ((size_t)len >= room) {
        to = sb_room(b, (size_t)len);
        must(vsnprintf(to, (size_t)len + 1, fmt, again) == len);
    }
    va_end(again);
    b->len += (size_t)len;
}

void sb_fmt(struct sb *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    sb_vfmt(b, fmt, ap);
    va_end(ap);
}

void sb_u64(struct sb *b, uint64_t v)
{
    char text[20];
    size_t at = sizeof(text);
    do {
        text[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    sb_add(b, (struct str){text + at, sizeof(text) - at});
}

void sb_clear(struct sb *b)
{
    b->len = 0;
}

void sb_release(struct sb *b)
{
    mem_free(b->ptr);
    *b = (struct sb){0};
}

static void json_char(struct sb *b, char c)
{
    switch (c) {
    case '"': sb_add(b, STR("\\\"")); return;
    case '\\': sb_add(b, STR("\\\\")); return;
    case '\b': sb_add(b, STR("\\b")); return;
    case '\f': sb_add(b, STR("\\f")); return;
    case '\n': sb_add(b, STR("\\n")); return;
    case '\r': sb_add(b, STR("\\r")); return;
    case '\t': sb_add(b, STR("\\t")); return;
    default: break;
    }
    if ((unsigned char)c < 0x20 || c == 0x7f)
        sb_fmt(b, "\\u%04x", (unsigned)(unsigned char)c);
    else
        sb_char(b, c);
}

void sb_json_escaped(struct sb *b, struct str s)
{
    size_t i = 0;
    while (i < s.len) {
        if ((unsigned char)s.ptr[i] < 0x80) {
            json_char(b, s.ptr[i++]);
            continue;
        }
        size_t len = utf8_sequence(s, i);
        if (len)
            sb_add(b, str_sub(s, i, len));
        else
            sb_add(b, STR("\xef\xbf\xbd")); /* U+FFFD */
        i += len ? len : 1;
    }
}
