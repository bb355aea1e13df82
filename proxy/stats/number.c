/* Numbers as Envoy prints them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/stats/render_internal.h"

/* Decimal digits and exponent of the shortest text that reads back as x: 0.digits times 10^point.
 */
static size_t shortest_digits(double x, char digits[24], int *point)
{
    char text[40];
    for (int precision = 0; precision < 17; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision, x);
        double back = strtod(text, NULL);
        if (back >= x && back <= x) break;
    }
    size_t count = 0;
    const char *at = text;
    for (; *at && *at != 'e'; at++) {
        if (*at != '.') digits[count++] = *at;
    }
    *point = (int)strtol(at + 1, NULL, 10) + 1;
    while (count > 1 && digits[count - 1] == '0')
        count--;
    return count;
}

static void add_fixed(struct sb *b, struct str digits, int point)
{
    if (point <= 0) {
        sb_add(b, STR("0."));
        for (int i = point; i < 0; i++)
            sb_char(b, '0');
        sb_add(b, digits);
        return;
    }
    size_t whole = (size_t)point;
    sb_add(b, str_sub(digits, 0, whole));
    for (size_t i = digits.len; i < whole; i++)
        sb_char(b, '0');
    if (digits.len > whole) {
        sb_char(b, '.');
        sb_add(b, str_sub(digits, whole, SIZE_MAX));
    }
}

static void add_scientific(struct sb *b, struct str digits, int point)
{
    sb_char(b, digits.ptr[0]);
    if (digits.len > 1) {
        sb_char(b, '.');
        sb_add(b, str_sub(digits, 1, SIZE_MAX));
    }
    sb_fmt(b, "e%+03d", point - 1);
}

void sb_number(struct sb *b, double x, enum number_style style)
{
    char bytes[24];
    int point;
    if (isnan(x)) {
        sb_add(b, STR("nan"));
        return;
    }
    if (x < 0) {
        sb_char(b, '-');
        x = -x;
    }
    struct str digits = {bytes, shortest_digits(x, bytes, &point)};
    struct sb fixed = {0}, scientific = {0};
    add_fixed(&fixed, digits, point);
    add_scientific(&scientific, digits, point);
    bool as_fixed = style == NUMBER_FIXED ? point > -4 && point <= 16 : fixed.len <= scientific.len;
    sb_add(b, as_fixed ? sb_str(&fixed) : sb_str(&scientific));
    sb_release(&fixed);
    sb_release(&scientific);
}
