/* Numbers, booleans, durations and times of the proto3 JSON mapping. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "proto/json_internal.h"

/* A number that is written as a fraction or with an exponent but is an integer ("1e3", "2.0"). */
static bool integral(struct str text, double *out, const char **why)
{
    if (!str_to_double(text, out)) {
        *why = "expected an integer";
        return false;
    }
    if (rint(*out) == *out && fabs(*out) < 9.3e18) return true;
    *why = "expected an integer";
    return false;
}

static bool is_number(const struct jval *v, const char **why)
{
    *why = "expected a number";
    return v->type == JVAL_NUMBER || v->type == JVAL_STRING;
}

bool json_to_i64(const struct jval *v, int64_t low, int64_t high, int64_t *out, const char **why)
{
    double number;
    if (!is_number(v, why)) return false;
    if (!str_to_i64(v->text, out)) {
        if (!integral(v->text, &number, why)) return false;
        if (number < -9223372036854775808.0 || number >= 9223372036854775808.0) {
            *why = "the number is out of range";
            return false;
        }
        *out = (int64_t)number;
    }
    *why = "the number is out of range";
    return *out >= low && *out <= high;
}

bool json_to_u64(const struct jval *v, uint64_t high, uint64_t *out, const char **why)
{
    double number;
    if (!is_number(v, why)) return false;
    if (!str_to_u64(v->text, out)) {
        if (!integral(v->text, &number, why)) return false;
        *why = "the number is out of range";
        if (number < 0 || number >= 18446744073709551616.0) return false;
        *out = (uint64_t)number;
    }
    *why = "the number is out of range";
    return *out <= high;
}

bool json_to_double(const struct jval *v, bool single, double *out, const char **why)
{
    if (!is_number(v, why)) return false;
    if (v->type == JVAL_STRING) {
        *out = NAN;
        if (str_eq(v->text, STR("NaN"))) return true;
        *out = INFINITY;
        if (str_eq(v->text, STR("Infinity"))) return true;
        *out = -INFINITY;
        if (str_eq(v->text, STR("-Infinity"))) return true;
    }
    if (!str_to_double(v->text, out)) return false;
    *why = "the number is out of range";
    return isfinite(*out) && (!single || fabs(*out) <= (double)FLT_MAX);
}

bool json_to_bool(const struct jval *v, bool *out, const char **why)
{
    static const struct str yes[] = {{"true", 4}, {"t", 1}, {"yes", 3}, {"y", 1}, {"1", 1}},
                            no[] = {{"false", 5}, {"f", 1}, {"no", 2}, {"n", 1}, {"0", 1}};
    *why = "expected true or false";
    if (v->type != JVAL_BOOL && v->type != JVAL_STRING) return false;
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        *out = str_case_eq(v->text, yes[i]); /* Envoy: quoted words are booleans, too */
        if (*out || str_case_eq(v->text, no[i])) return true;
    }
    return false;
}

/* ".5" with 1 to 9 digits, as nanoseconds; absent is 0. */
static bool fraction(struct str *text, int32_t *nanos)
{
    *nanos = 0;
    if (text->len == 0 || text->ptr[0] != '.') return true;
    size_t i = 1;
    int32_t scale = 100000000;
    for (; i < text->len && text->ptr[i] >= '0' && text->ptr[i] <= '9'; i++) {
        if (i > 9) return false;
        *nanos += (text->ptr[i] - '0') * scale;
        scale /= 10;
    }
    *text = str_sub(*text, i, text->len);
    return i > 1;
}

static size_t leading_digits(struct str text)
{
    size_t i = 0;
    while (i < text.len && text.ptr[i] >= '0' && text.ptr[i] <= '9')
        i++;
    return i;
}

bool json_to_duration(struct str text, int64_t *seconds, int32_t *nanos, const char **why)
{
    bool negative = text.len && text.ptr[0] == '-';
    if (negative) text = str_sub(text, 1, text.len);
    size_t whole = leading_digits(text);
    uint64_t value;
    *why = "expected a duration such as \"1.5s\"";
    if (!str_to_u64(str_sub(text, 0, whole), &value)) return false;
    struct str rest = str_sub(text, whole, text.len);
    if (!fraction(&rest, nanos) || !str_eq(rest, STR("s"))) return false;
    *why = "the duration is out of range";
    if (value > 315576000000ull) return false; /* 10,000 years, as protobuf */
    *seconds = negative ? -(int64_t)value : (int64_t)value;
    if (negative) *nanos = -*nanos;
    return true;
}

/* Exactly `len` digits at the front, then `then` (0: nothing asked). */
static bool take_digits(struct str *text, size_t len, char then, int64_t *out)
{
    if (leading_digits(*text) < len || !str_to_i64(str_sub(*text, 0, len), out)) return false;
    *text = str_sub(*text, len, text->len);
    if (!then) return true;
    if (text->len == 0 || text->ptr[0] != then) return false;
    *text = str_sub(*text, 1, text->len);
    return true;
}

/* Days since 1970-01-01 in the Gregorian calendar. */
static int64_t days_from(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static bool zone(struct str text, int64_t *offset)
{
    int64_t hours, minutes;
    *offset = 0;
    if (str_eq(text, STR("Z"))) return true;
    if (text.len != 6 || (text.ptr[0] != '+' && text.ptr[0] != '-')) return false;
    bool minus = text.ptr[0] == '-';
    text = str_sub(text, 1, text.len);
    if (!take_digits(&text, 2, ':', &hours) || !take_digits(&text, 2, 0, &minutes) || hours > 23 ||
        minutes > 59)
        return false;
    *offset = (hours * 60 + minutes) * (minus ? -60 : 60);
    return true;
}

bool json_to_timestamp(struct str text, int64_t *seconds, int32_t *nanos, const char **why)
{
    int64_t year, month, day, hour, minute, second, offset;
    *why = "expected a time such as \"2026-01-31T12:00:00Z\"";
    if (!take_digits(&text, 4, '-', &year) || !take_digits(&text, 2, '-', &month) ||
        !take_digits(&text, 2, 'T', &day))
        return false;
    if (!take_digits(&text, 2, ':', &hour) || !take_digits(&text, 2, ':', &minute) ||
        !take_digits(&text, 2, 0, &second))
        return false;
    if (!fraction(&text, nanos) || !zone(text, &offset)) return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 ||
        second > 59)
        return false;
    *seconds = ((days_from(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - offset;
    return true;
}
