/* Values, metadata and filter state: look-up, merging and printing. */
#include "proxy/api/metadata.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/arena.h"
#include "proxy/http/format_json.h"

const struct value *value_field(const struct value *v, struct str name)
{
    if (!v || v->kind != VALUE_STRUCT) return NULL;
    for (size_t i = 0; i < v->u.fields.count; i++) {
        if (str_eq(v->u.fields.fields[i].name, name)) return &v->u.fields.fields[i].value;
    }
    return NULL;
}

const struct value *metadata_find(const struct metadata *m, struct str ns, const struct str *path,
                                  size_t count)
{
    if (!m) return NULL;
    const struct value *v = value_field(&m->root, ns);
    for (size_t i = 0; v && i < count; i++)
        v = value_field(v, path[i]);
    return v;
}

static void value_copy(struct arena *a, const struct value *from, struct value *to)
{
    *to = *from;
    if (from->kind == VALUE_STRING) {
        to->u.text = str_dup(a, from->u.text);
    } else if (from->kind == VALUE_LIST) {
        to->u.list.items = ARENA_ARRAY(a, struct value, from->u.list.count);
        for (size_t i = 0; i < from->u.list.count; i++)
            value_copy(a, &from->u.list.items[i], &to->u.list.items[i]);
    } else if (from->kind == VALUE_STRUCT) {
        to->u.fields.fields = ARENA_ARRAY(a, struct value_field, from->u.fields.count);
        for (size_t i = 0; i < from->u.fields.count; i++) {
            to->u.fields.fields[i].name = str_dup(a, from->u.fields.fields[i].name);
            value_copy(a, &from->u.fields.fields[i].value, &to->u.fields.fields[i].value);
        }
    }
}

/* The place of a field, added in order of names when absent. */
static struct value *value_field_make(struct arena *a, struct value *v, struct str name)
{
    struct value_field *f = v->u.fields.fields;
    size_t count = v->u.fields.count, at = 0;
    while (at < count && str_cmp(f[at].name, name) < 0)
        at++;
    if (at < count && str_eq(f[at].name, name)) return &f[at].value;
    struct value_field *grown = ARENA_ARRAY(a, struct value_field, count + 1);
    if (count) {
        memcpy(grown, f, at * sizeof *f);
        memcpy(grown + at + 1, f + at, (count - at) * sizeof *f);
    }
    grown[at].name = str_dup(a, name);
    v->u.fields.fields = grown;
    v->u.fields.count = count + 1;
    return &grown[at].value;
}

/* Envoy merges structs field by field, concatenates nothing, and replaces anything else. */
static void value_merge(struct arena *a, struct value *to, const struct value *from)
{
    if (to->kind != VALUE_STRUCT || from->kind != VALUE_STRUCT) {
        value_copy(a, from, to);
        return;
    }
    for (size_t i = 0; i < from->u.fields.count; i++) {
        const struct value_field *f = &from->u.fields.fields[i];
        value_merge(a, value_field_make(a, to, f->name), &f->value);
    }
}

void metadata_set(struct metadata **m, struct arena *a, struct str ns, struct str key,
                  const struct value *v)
{
    if (!*m) {
        *m = ARENA_NEW(a, struct metadata);
        (*m)->root.kind = VALUE_STRUCT;
    }
    struct value *space = value_field_make(a, &(*m)->root, ns);
    if (space->kind != VALUE_STRUCT) *space = (struct value){.kind = VALUE_STRUCT};
    value_merge(a, value_field_make(a, space, key), v);
}

bool value_equal(const struct value *a, const struct value *b)
{
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case VALUE_NULL: return true;
    case VALUE_BOOL: return a->u.boolean == b->u.boolean;
    case VALUE_NUMBER: return a->u.number <= b->u.number && a->u.number >= b->u.number;
    case VALUE_STRING: return str_eq(a->u.text, b->u.text);
    case VALUE_LIST:
        if (a->u.list.count != b->u.list.count) return false;
        for (size_t i = 0; i < a->u.list.count; i++) {
            if (!value_equal(&a->u.list.items[i], &b->u.list.items[i])) return false;
        }
        return true;
    case VALUE_STRUCT:
        if (a->u.fields.count != b->u.fields.count) return false;
        for (size_t i = 0; i < a->u.fields.count; i++) {
            const struct value_field *x = &a->u.fields.fields[i], *y = &b->u.fields.fields[i];
            if (!str_eq(x->name, y->name) || !value_equal(&x->value, &y->value)) return false;
        }
        return true;
    }
    return false;
}

/* Shortest digits that read back as the same number; gives back the power of ten of the last digit.
 */
static int shortest_digits(double v, char *digits, size_t *count)
{
    char text[40];
    for (int precision = 0; precision < 17; precision++) {
        (void)snprintf(text, sizeof text, "%.*e", precision, v);
        double back = strtod(text, NULL);
        if (back <= v && back >= v) break;
    }
    size_t n = 0, i = 0;
    int exponent = 0;
    for (; text[i] && text[i] != 'e'; i++) {
        if (text[i] != '.') digits[n++] = text[i];
    }
    if (text[i] == 'e') exponent = (int)strtol(text + i + 1, NULL, 10);
    while (n > 1 && digits[n - 1] == '0')
        n--;
    *count = n;
    return exponent - (int)n + 1;
}

/* Envoy: numbers are written as C++ std::to_chars does, i.e. fixed unless the scientific form is
 * shorter. */
void json_number(struct sb *out, double v)
{
    if (isnan(v) || isinf(v)) {
        sb_add(out, STR("null"));
        return;
    }
    if (signbit(v)) sb_char(out, '-');
    v = fabs(v);
    if (v <= 0) {
        sb_char(out, '0');
        return;
    }
    char digits[24];
    size_t n = 0;
    int exponent = shortest_digits(v, digits, &n); /* v = digits * 10^exponent */
    int lower = n == 1 ? -3 : -(int)(n + 3), upper = n == 1 ? 4 : 5;
    if (exponent < lower || exponent > upper) {
        sb_char(out, digits[0]);
        if (n > 1) {
            sb_char(out, '.');
            sb_add(out, str_make(digits + 1, n - 1));
        }
        int e = exponent + (int)n - 1;
        sb_fmt(out, "e%c%02d", e < 0 ? '-' : '+', e < 0 ? -e : e);
    } else if (exponent >= 0) {
        sb_fmt(out, "%.0f", v);
    } else if ((int)n + exponent > 0) {
        sb_add(out, str_make(digits, (size_t)((int)n + exponent)));
        sb_char(out, '.');
        sb_add(out, str_make(digits + n + exponent, (size_t)-exponent));
    } else {
        sb_add(out, STR("0."));
        for (int i = (int)n + exponent; i < 0; i++)
            sb_char(out, '0');
        sb_add(out, str_make(digits, n));
    }
}

void value_json(const struct value *v, struct sb *out)
{
    switch (v->kind) {
    case VALUE_NULL: sb_add(out, STR("null")); return;
    case VALUE_BOOL: sb_add(out, v->u.boolean ? STR("true") : STR("false")); return;
    case VALUE_NUMBER: json_number(out, v->u.number); return;
    case VALUE_STRING: json_string(out, v->u.text); return;
    case VALUE_LIST:
        sb_char(out, '[');
        for (size_t i = 0; i < v->u.list.count; i++) {
            if (i) sb_char(out, ',');
            value_json(&v->u.list.items[i], out);
        }
        sb_char(out, ']');
        return;
    case VALUE_STRUCT:
        sb_char(out, '{');
        for (size_t i = 0; i < v->u.fields.count; i++) {
            if (i) sb_char(out, ',');
            json_string(out, v->u.fields.fields[i].name);
            sb_char(out, ':');
            value_json(&v->u.fields.fields[i].value, out);
        }
        sb_char(out, '}');
        return;
    }
}

struct str value_text(const void *v, struct arena *a)
{
    struct sb out = {0};
    value_json(v, &out);
    struct str text = str_dup(a, sb_str(&out));
    sb_release(&out);
    return text;
}

const struct filter_state_entry *filter_state_find(const struct filter_state *s, struct str name)
{
    if (!s) return NULL;
    for (const struct filter_state_entry *e = s->first; e; e = e->next) {
        if (str_eq(e->name, name)) return e;
    }
    return NULL;
}

bool filter_state_set(struct filter_state **s, struct arena *a, const struct filter_state_entry *e)
{
    if (!*s) {
        *s = ARENA_NEW(a, struct filter_state);
        (*s)->arena = a;
    }
    for (struct filter_state_entry *x = (*s)->first; x; x = x->next) {
        if (!str_eq(x->name, e->name)) continue;
        if (x->read_only) return false;
        struct filter_state_entry *next = x->next;
        struct str name = x->name;
        *x = *e;
        x->next = next;
        x->name = name;
        return true;
    }
    struct filter_state_entry *n = arena_copy((*s)->arena, e, sizeof *e);
    n->name = str_dup((*s)->arena, e->name);
    n->next = (*s)->first;
    (*s)->first = n;
    return true;
}

static struct str text_object(const void *object, struct arena *a)
{
    (void)a;
    const struct str *s = object;
    return *s;
}

bool filter_state_set_text(struct filter_state **s, struct arena *a, struct str name,
                           struct str text)
{
    struct arena *own = *s ? (*s)->arena : a;
    struct str *copy = ARENA_NEW(own, struct str);
    *copy = str_dup(own, text);
    struct filter_state_entry e = {.name = name, .object = copy, .text = text_object};
    return filter_state_set(s, a, &e);
}
