/* Times in formats: strftime with Envoy's additions (%s, %f, %1f..%9f) and those of the library
 * under it (%E3S, %E*f ...). */
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "proxy/http/format_internal.h"

/* Reads one conversion behind "%". Gives back how many bytes it takes. */
static size_t time_conversion(struct arena *a, struct str s, struct time_part *p)
{
    char c = s.ptr[0], next = s.len > 1 ? s.ptr[1] : '\0', after = s.len > 2 ? s.ptr[2] : '\0';
    if (c == 's' || c == 'f') {
        *p = (struct time_part){.kind = c == 's' ? TIME_EPOCH : TIME_FRACTION, .digits = 9};
        return 1;
    }
    if (c >= '1' && c <= '9' && next == 'f') {
        *p = (struct time_part){.kind = TIME_FRACTION, .digits = c - '0'};
        return 2;
    }
    bool digit = next >= '0' && next <= '9', star = next == '*';
    if (c == 'E' && (digit || star) && (after == 'S' || after == 'f')) {
        if (star)
            p->kind = after == 'S' ? TIME_SECONDS_TRIM : TIME_FRACTION_TRIM;
        else
            p->kind = after == 'S' ? TIME_SECONDS_FRACTION : TIME_FRACTION;
        p->digits = star ? 9 : next - '0';
        return 3;
    }
    size_t len = (c == 'E' || c == 'O') && next ? 2 : 1;
    if (c == '%')
        *p = (struct time_part){.kind = TIME_LITERAL, .text = STR("%")};
    else
        *p = (struct time_part){.kind = TIME_STRFTIME,
                                .text = str_fmt(a, "%%%.*s", (int)len, s.ptr)};
    return len;
}

const struct time_format *time_format_parse(struct arena *a, struct str text, bool local)
{
    struct time_format *f = ARENA_NEW(a, struct time_format);
    f->local = local;
    if (!text.len && !local) {
        f->is_default = true;
        return f;
    }
    if (!text.len) text = STR("%Y-%m-%dT%H:%M:%E3S%Ez");
    struct time_part *v = ARENA_ARRAY(a, struct time_part, text.len);
    for (size_t i = 0; i < text.len;) {
        size_t from = i;
        while (i < text.len && text.ptr[i] != '%')
            i++;
        if (i > from)
            v[f->count++] = (struct time_part){.kind = TIME_LITERAL,
                                               .text = str_dup(a, str_sub(text, from, i - from))};
        if (i >= text.len) break;
        if (i + 1 == text.len) {
            v[f->count++] = (struct time_part){.kind = TIME_LITERAL, .text = STR("%")};
            break;
        }
        i += 1 + time_conversion(a, str_sub(text, i + 1, text.len), &v[f->count++]);
    }
    f->parts = v;
    return f;
}

static void write_digits(struct sb *out, uint64_t value, int digits)
{
    char text[20];
    for (int i = digits - 1; i >= 0; i--) {
        text[i] = (char)('0' + value % 10);
        value /= 10;
    }
    sb_add(out, str_make(text, (size_t)digits));
}

/* Nanoseconds to so many digits, trailing zeros cut when `trim`. */
static void write_fraction(struct sb *out, uint64_t us, int digits, bool trim)
{
    uint64_t ns = us * 1000;
    for (int i = digits; i < 9; i++)
        ns /= 10;
    while (trim && digits > 1 && ns % 10 == 0) {
        ns /= 10;
        digits--;
    }
    if (digits > 0) write_digits(out, ns, digits);
}

static void write_strftime(struct sb *out, const char *conversion, const struct tm *tm)
{
    char text[128];
    if (strcmp(conversion, "%Ez") == 0) { /* "+01:00" */
        long minutes = tm->tm_gmtoff / 60;
        sb_fmt(out, "%c%02ld:%02ld", minutes < 0 ? '-' : '+', labs(minutes) / 60,
               labs(minutes) % 60);
        return;
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \
    "-Wformat-nonliteral" /* the conversion is configuration; strftime reads no memory by it */
    size_t n = strftime(text, sizeof text, conversion, tm);
#pragma GCC diagnostic pop
    sb_add(out, str_make(text, n));
}

static void write_part(struct sb *out, const struct time_part *p, const struct tm *tm,
                       uint64_t wall_us)
{
    uint64_t us = wall_us % 1000000;
    switch (p->kind) {
    case TIME_LITERAL: sb_add(out, p->text); return;
    case TIME_STRFTIME: write_strftime(out, p->text.ptr, tm); return;
    case TIME_EPOCH: sb_u64(out, wall_us / 1000000); return;
    case TIME_FRACTION: write_fraction(out, us, p->digits, false); return;
    case TIME_FRACTION_TRIM: write_fraction(out, us, p->digits, true); return;
    case TIME_SECONDS_FRACTION:
    case TIME_SECONDS_TRIM:
        write_digits(out, (uint64_t)tm->tm_sec, 2);
        if (!p->digits || (p->kind == TIME_SECONDS_TRIM && !us)) return;
        sb_char(out, '.');
        write_fraction(out, us, p->digits, p->kind == TIME_SECONDS_TRIM);
        return;
    }
}

/* "2026-11-23T05:12:16.131Z" by hand: it is in nearly every line. */
static void write_default(struct sb *out, uint64_t wall_us)
{
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;
    (void)gmtime_r(&t, &tm);
    write_digits(out, (uint64_t)tm.tm_year + 1900, 4);
    sb_char(out, '-');
    write_digits(out, (uint64_t)tm.tm_mon + 1, 2);
    sb_char(out, '-');
    write_digits(out, (uint64_t)tm.tm_mday, 2);
    sb_char(out, 'T');
    write_digits(out, (uint64_t)tm.tm_hour, 2);
    sb_char(out, ':');
    write_digits(out, (uint64_t)tm.tm_min, 2);
    sb_char(out, ':');
    write_digits(out, (uint64_t)tm.tm_sec, 2);
    sb_char(out, '.');
    write_digits(out, wall_us % 1000000 / 1000, 3);
    sb_char(out, 'Z');
}

void time_format_write(const struct time_format *f, uint64_t wall_us, struct sb *out)
{
    if (f->is_default) {
        write_default(out, wall_us);
        return;
    }
    time_t t = (time_t)(wall_us / 1000000);
    struct tm tm;
    if (f->local)
        (void)localtime_r(&t, &tm);
    else
        (void)gmtime_r(&t, &tm);
    for (size_t i = 0; i < f->count; i++)
        write_part(out, &f->parts[i], &tm, wall_us);
}

struct str time_format_dup(const struct time_format *f, uint64_t wall_us, struct arena *a)
{
    struct sb out = {0};
    time_format_write(f, wall_us, &out);
    struct str s = str_dup(a, sb_str(&out));
    sb_release(&out);
    return s;
}
