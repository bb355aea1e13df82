/* Strings by value: a pointer and a length that never own their bytes and need not end in NUL. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

struct arena;

/* Borrowed bytes. ptr may be NULL when len is 0. */
struct str {
    const char *ptr;
    size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_NONE ((struct str){NULL, 0})
/* For "%.*s". */
#define STR_ARG(s) (int)(s).len, ((s).ptr ? (s).ptr : "")

/* A str over a NUL-terminated string (borrowed); NULL gives the empty str. */
static inline struct str str_of(const char *z)
{
    return z ? (struct str){z, strlen(z)} : STR_NONE;
}

static inline struct str str_make(const char *ptr, size_t len)
{
    return (struct str){ptr, len};
}

/* Byte-wise equality. */
static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* Equality that ignores the case of ASCII letters only. */
bool str_case_eq(struct str a, struct str b);
/* Order as memcmp, shorter first on a common prefix: <0, 0, >0. */
int str_cmp(struct str a, struct str b);
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
bool str_case_starts(struct str s, struct str prefix);
/* Index of the first occurrence of c or needle, or SIZE_MAX. */
size_t str_find_char(struct str s, char c);
size_t str_find(struct str s, struct str needle);
size_t str_rfind_char(struct str s, char c);
/* The part from `from` (clamped) of at most `len` bytes (clamped). */
struct str str_sub(struct str s, size_t from, size_t len);
/* Without spaces and tabs (and CR, LF) at both ends. */
struct str str_trim(struct str s);
/* Cuts at the first (last) c: both parts borrow. False, outputs untouched, when c is absent. */
bool str_cut(struct str s, char c, struct str *left, struct str *right);
bool str_cut_last(struct str s, char c, struct str *left, struct str *right);
/* Takes the next token up to c from *rest (which moves on). False when *rest is used up (ptr NULL).
 */
bool str_next(struct str *rest, char c, struct str *token);

/* Whole-string decimal numbers; false on empty, sign, junk or overflow (the i64 form allows '-').
 */
bool str_to_u64(struct str s, uint64_t *out);
bool str_to_u32(struct str s, uint32_t *out);
bool str_to_u16(struct str s, uint16_t *out);
bool str_to_i64(struct str s, int64_t *out);
/* Whole-string C-locale floating point number; no hex, inf or nan. */
bool str_to_double(struct str s, double *out);

/* Copies into the arena; a NUL follows the copy (not counted), so ptr serves as a C string. */
struct str str_dup(struct arena *a, struct str s);
struct str str_dup_lower(struct arena *a, struct str s);
char *str_z(struct arena *a, struct str s);
/* Formatted copy in the arena, NUL behind it. */
/* The number in decimal. */
struct str str_from_u64(struct arena *a, uint64_t n);
struct str str_fmt(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct str str_vfmt(struct arena *a, const char *fmt, va_list ap);
/* a + b in the arena. */
struct str str_cat(struct arena *a, struct str x, struct str y);
static inline char str_lower_char(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}
/* Levenshtein distance, capped at `most` + 1: for did-you-mean. */
size_t str_distance(struct str a, struct str b, size_t most);
/* Of several words the one that was meant: `best` (begin with an empty one) becomes `known` if that
 * is nearer to `wanted`, and near enough to be a slip: a third of its letters, three at most. */
void str_nearer(struct str wanted, struct str known, struct str *best);

/* A growing text (heap; sb_release frees). Zero-initialised is empty and valid. */
struct sb {
    char *ptr;
    size_t len, cap;
};
void sb_add(struct sb *b, struct str s);
void sb_char(struct sb *b, char c);
void sb_fmt(struct sb *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sb_vfmt(struct sb *b, const char *fmt, va_list ap);
void sb_u64(struct sb *b, uint64_t v);
/* Borrowed view; valid until the next change. */
static inline struct str sb_str(const struct sb *b)
{
    return (struct str){b->ptr, b->len};
}
void sb_clear(struct sb *b);
void sb_release(struct sb *b);
/* Text with JSON string escapes, without the quotes around it. Invalid UTF-8 becomes U+FFFD. */
void sb_json_escaped(struct sb *b, struct str s);

#ifdef __cplusplus
}
#endif
