/* Strings by value: comparison, searching, cutting, numbers and copies into arenas. The growing
 * text is in sb.c. */
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/must.h"

enum { DOUBLE_TEXT_MAX = 400, DISTANCE_MAX = 128 };

bool str_case_eq(struct str a, struct str b)
{
    return a.len == b.len && str_case_starts(a, b);
}

int str_cmp(struct str a, struct str b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;
    if (order) return order;
    return (a.len > b.len) - (a.len < b.len);
}

bool str_starts(struct str s, struct str prefix)
{
    if (s.len < prefix.len) return false;
    return prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0;
}

bool str_ends(struct str s, struct str suffix)
{
    if (s.len < suffix.len) return false;
    return suffix.len == 0 || memcmp(s.ptr + (s.len - suffix.len), suffix.ptr, suffix.len) == 0;
}

bool str_case_starts(struct str s, struct str prefix)
{
    if (s.len < prefix.len) return false;
    for (size_t i = 0; i < prefix.len; i++) {
        if (str_lower_char(s.ptr[i]) != str_lower_char(prefix.ptr[i])) return false;
    }
    return true;
}

size_t str_find_char(struct str s, char c)
{
    const char *at = s.len ? memchr(s.ptr, c, s.len) : NULL;
    return at ? (size_t)(at - s.ptr) : SIZE_MAX;
}

size_t str_find(struct str s, struct str needle)
{
    if (needle.len == 0) return 0;
    const char *at = s.len ? memmem(s.ptr, s.len, needle.ptr, needle.len) : NULL;
    return at ? (size_t)(at - s.ptr) : SIZE_MAX;
}

size_t str_rfind_char(struct str s, char c)
{
    const char *at = s.len ? memrchr(s.ptr, c, s.len) : NULL;
    return at ? (size_t)(at - s.ptr) : SIZE_MAX;
}

struct str str_sub(struct str s, size_t from, size_t len)
{
    if (from > s.len) from = s.len;
    if (len > s.len - from) len = s.len - from;
    return (struct str){s.ptr ? s.ptr + from : NULL, len};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str s)
{
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    while (s.len && is_blank(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    return s;
}

static bool cut_at(struct str s, size_t at, struct str *left, struct str *right)
{
    if (at == SIZE_MAX) return false;
    *left = (struct str){s.ptr, at};
    *right = (struct str){s.ptr + at + 1, s.len - at - 1};
    return true;
}

bool str_cut(struct str s, char c, struct str *left, struct str *right)
{
    return cut_at(s, str_find_char(s, c), left, right);
}

bool str_cut_last(struct str s, char c, struct str *left, struct str *right)
{
    return cut_at(s, str_rfind_char(s, c), left, right);
}

bool str_next(struct str *rest, char c, struct str *token)
{
    if (!rest->ptr) return false;
    if (str_cut(*rest, c, token, rest)) return true;
    *token = *rest;
    *rest = STR_NONE;
    return true;
}

static bool to_unsigned(struct str s, uint64_t most, uint64_t *out)
{
    uint64_t value = 0;
    if (s.len == 0) return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c < '0' || c > '9') return false;
        if (__builtin_mul_overflow(value, 10u, &value)) return false;
        if (__builtin_add_overflow(value, (uint64_t)(c - '0'), &value)) return false;
        if (value > most) return false;
    }
    *out = value;
    return true;
}

bool str_to_u64(struct str s, uint64_t *out)
{
    return to_unsigned(s, UINT64_MAX, out);
}

bool str_to_u32(struct str s, uint32_t *out)
{
    uint64_t value;
    if (!to_unsigned(s, UINT32_MAX, &value)) return false;
    *out = (uint32_t)value;
    return true;
}

bool str_to_u16(struct str s, uint16_t *out)
{
    uint64_t value;
    if (!to_unsigned(s, UINT16_MAX, &value)) return false;
    *out = (uint16_t)value;
    return true;
}

bool str_to_i64(struct str s, int64_t *out)
{
    uint64_t value;
    bool negative = s.len && s.ptr[0] == '-';
    if (negative) s = str_sub(s, 1, SIZE_MAX);
    if (!to_unsigned(s, (uint64_t)INT64_MAX + negative, &value)) return false;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* Only [+-]digits[.digits][e[+-]digits]: strtod also takes hex, inf, nan and leading blanks. */
static bool is_decimal(struct str s)
{
    size_t i = 0, digits = 0;
    if (i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+')) i++;
    for (; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++)
        digits++;
    if (i < s.len && s.ptr[i] == '.') i++;
    for (; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++)
        digits++;
    if (digits == 0) return false;
    if (i == s.len) return true;
    if (s.ptr[i] != 'e' && s.ptr[i] != 'E') return false;
    i++;
    if (i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+')) i++;
    if (i == s.len) return false;
    for (; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return false;
    }
    return true;
}

bool str_to_double(struct str s, double *out)
{
    char text[DOUBLE_TEXT_MAX];
    if (s.len >= sizeof(text) || !is_decimal(s)) return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    /* The process never calls setlocale, so strtod reads the C locale. */
    double value = strtod(text, NULL);
    if (__builtin_isinf(value)) return false;
    *out = value;
    return true;
}

struct str str_dup(struct arena *a, struct str s)
{
    char *to = arena_alloc_raw(a, s.len + 1);
    if (s.len) memcpy(to, s.ptr, s.len);
    to[s.len] = '\0';
    return (struct str){to, s.len};
}

struct str str_dup_lower(struct arena *a, struct str s)
{
    char *to = arena_alloc_raw(a, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        to[i] = str_lower_char(s.ptr[i]);
    to[s.len] = '\0';
    return (struct str){to, s.len};
}

char *str_z(struct arena *a, struct str s)
{
    char *to = arena_alloc_raw(a, s.len + 1);
    if (s.len) memcpy(to, s.ptr, s.len);
    to[s.len] = '\0';
    return to;
}

struct str str_vfmt(struct arena *a, const char *fmt, va_list ap)
{
    char small[256];
    va_list again;
    va_copy(again, ap);
    int len = vsnprintf(small, sizeof(small), fmt, ap);
    must(len >= 0);
    struct str out;
    if ((size_t)len < sizeof(small)) {
        out = str_dup(a, (struct str){small, (size_t)len});
    } else {
        char *to = arena_alloc_raw(a, (size_t)len + 1);
        must(vsnprintf(to, (size_t)len + 1, fmt, again) == len);
        out = (struct str){to, (size_t)len};
    }
    va_end(again);
    return out;
}

struct str str_from_u64(struct arena *a, uint64_t n)
{
    char text[20];
    size_t at = sizeof text;
    do
        text[--at] = (char)('0' + n % 10);
    while (n /= 10);
    return str_dup(a, str_make(text + at, sizeof text - at));
}

struct str str_fmt(struct arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct str out = str_vfmt(a, fmt, ap);
    va_end(ap);
    return out;
}

struct str str_cat(struct arena *a, struct str x, struct str y)
{
    char *to = arena_alloc_raw(a, x.len + y.len + 1);
    if (x.len) memcpy(to, x.ptr, x.len);
    if (y.len) memcpy(to + x.len, y.ptr, y.len);
    to[x.len + y.len] = '\0';
    return (struct str){to, x.len + y.len};
}

size_t str_distance(struct str a, struct str b, size_t most)
{
    size_t row[DISTANCE_MAX + 1];
    size_t apart = a.len > b.len ? a.len - b.len : b.len - a.len;
    if (apart > most || a.len > DISTANCE_MAX || b.len > DISTANCE_MAX) return most + 1;
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t best = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b.len] > most ? most + 1 : row[b.len];
}

void str_nearer(struct str wanted, struct str known, struct str *best)
{
    enum { SLIPS_MOST = 3 };
    size_t most = wanted.len < 2 ? 0 : wanted.len < SLIPS_MOST ? 1 : wanted.len / 3;
    if (most > SLIPS_MOST) most = SLIPS_MOST;
    if (best->len) most = str_distance(wanted, *best, most);
    size_t d = str_distance(wanted, known, most);
    if (d < most || (d == most && !best->len)) *best = known;
}
