/* The JSON printer. Walks by descriptor; fields in the order of their numbers, map entries sorted
 * by key, as Envoy. */
#include "proto/print.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/text.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/field_mask.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"

struct printer {
    struct sb *out;
    struct arena *scratch;
    struct print_opts opts;
    unsigned depth;
    bool hide; /* inside a sensitive field */
};

static const char redacted[] = "[redacted]", redacted_base64[] = "W3JlZGFjdGVkXQ==";

static void print_any_message(struct printer *p,
                              const ProtobufCMessage *m); /* recursion: messages nest */

static void new_line(struct printer *p)
{
    if (!p->opts.pretty) return;
    sb_char(p->out, '\n');
    for (unsigned i = 0; i < p->depth; i++)
        sb_char(p->out, ' ');
}

static void open(struct printer *p, char bracket)
{
    sb_char(p->out, bracket);
    p->depth++;
}

/* A comma except before the first, and the line break. */
static void next(struct printer *p, bool *first)
{
    if (!*first) sb_char(p->out, ',');
    *first = false;
    new_line(p);
}

static void close(struct printer *p, char bracket, bool empty)
{
    p->depth--;
    if (!empty) new_line(p);
    sb_char(p->out, bracket);
}

/* As protobuf prints strings: <, > and what browsers or terminals trip over are escaped, too. */
static void print_string(struct printer *p, struct str s)
{
    size_t from = 0;
    sb_char(p->out, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        const char *escape = c == '<' ? "\\u003c" : c == '>' ? "\\u003e" : NULL;
        size_t len = 1;
        if (c == 0xe2 && i + 2 < s.len && (unsigned char)s.ptr[i + 1] == 0x80) {
            unsigned char last = (unsigned char)s.ptr[i + 2];
            escape = last == 0xa8 ? "\\u2028" : last == 0xa9 ? "\\u2029" : NULL;
            len = 3;
        }
        if (!escape) continue;
        sb_json_escaped(p->out, str_sub(s, from, i - from));
        sb_add(p->out, str_of(escape));
        i += len - 1;
        from = i + 1;
    }
    sb_json_escaped(p->out, str_sub(s, from, s.len));
    sb_char(p->out, '"');
}

static void print_key(struct printer *p, struct str name)
{
    print_string(p, name);
    sb_add(p->out, p->opts.pretty ? STR(": ") : STR(":"));
}

static void print_text(struct printer *p, const char *text)
{
    sb_char(p->out, '"');
    sb_add(p->out, str_of(text));
    sb_char(p->out, '"');
}

/* The shortest text that reads back as the same number. */
static void print_double(struct printer *p, double value, bool single)
{
    char text[40];
    if (isnan(value)) {
        print_text(p, "NaN");
        return;
    }
    if (isinf(value)) {
        print_text(p, value < 0 ? "-Infinity" : "Infinity");
        return;
    }
    if (value == rint(value) && fabs(value) < 1e15) {
        sb_fmt(p->out, "%.0f", value);
        return;
    }
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (single ? (float)back == (float)value : back == value) break;
    }
    sb_add(p->out, str_of(text));
}

static void print_base64(struct printer *p, const uint8_t *data, size_t len)
{
    sb_char(p->out, '"');
    sb_add(p->out, base64_encode(p->scratch, str_make((const char *)data, len)));
    sb_char(p->out, '"');
}

static void print_enum(struct printer *p, const ProtobufCEnumDescriptor *desc, int value)
{
    const char *name = proto_enum_name(desc, value);
    if (strcmp(desc->name, "google.protobuf.NullValue") == 0)
        sb_add(p->out, STR("null"));
    else if (name)
        print_text(p, name);
    else
        sb_fmt(p->out, "%d", value);
}

/* Sensitive scalars keep their type. */
static void print_hidden(struct printer *p, const ProtobufCFieldDescriptor *f)
{
    if (f->type == PROTOBUF_C_TYPE_STRING)
        print_text(p, redacted);
    else if (f->type == PROTOBUF_C_TYPE_BYTES)
        print_text(p, redacted_base64);
    else if (f->type == PROTOBUF_C_TYPE_BOOL)
        sb_add(p->out, STR("false"));
    else if (f->type == PROTOBUF_C_TYPE_ENUM)
        print_enum(p, f->descriptor, 0);
    else
        sb_add(p->out, STR("0"));
}

/* One value at its place. */
static void print_value(struct printer *p, const ProtobufCFieldDescriptor *f, const void *at)
{
    if (p->hide && f->type != PROTOBUF_C_TYPE_MESSAGE) {
        print_hidden(p, f);
        return;
    }
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32: sb_fmt(p->out, "%d", *(const int32_t *)at); return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: sb_fmt(p->out, "%u", *(const uint32_t *)at); return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        sb_fmt(p->out, "\"%lld\"", (long long)*(const int64_t *)at);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        sb_fmt(p->out, "\"%llu\"", (unsigned long long)*(const uint64_t *)at);
        return;
    case PROTOBUF_C_TYPE_FLOAT: print_double(p, (double)*(const float *)at, true); return;
    case PROTOBUF_C_TYPE_DOUBLE: print_double(p, *(const double *)at, false); return;
    case PROTOBUF_C_TYPE_BOOL:
        sb_add(p->out, *(const protobuf_c_boolean *)at ? STR("true") : STR("false"));
        return;
    case PROTOBUF_C_TYPE_ENUM: print_enum(p, f->descriptor, *(const int *)at); return;
    case PROTOBUF_C_TYPE_STRING: print_string(p, str_of(*(char *const *)at)); return;
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *bytes = at;
        print_base64(p, bytes->data, bytes->len);
        return;
    }
    case PROTOBUF_C_TYPE_MESSAGE: print_any_message(p, *(ProtobufCMessage *const *)at); return;
    }
}

static void print_list(struct printer *p, const ProtobufCMessage *m,
                       const ProtobufCFieldDescriptor *f)
{
    const char *items = *(const char *const *)proto_field_at(m, f);
    size_t size = proto_element_size(f->type), count = proto_field_count(m, f);
    bool first = true;
    open(p, '[');
    for (size_t i = 0; i < count; i++) {
        next(p, &first);
        print_value(p, f, items + i * size);
    }
    close(p, ']', first);
}

/* The key of a map entry as text. */
static struct str key_of(struct printer *p, const ProtobufCMessage *entry)
{
    const ProtobufCFieldDescriptor *f = &entry->descriptor->fields[0];
    if (f->type == PROTOBUF_C_TYPE_STRING) return str_of(*(char *const *)proto_field_at(entry, f));
    struct sb text = {0};
    struct printer plain = {.out = &text, .scratch = p->scratch};
    print_value(&plain, f, proto_field_at(entry, f));
    struct str key = str_dup(p->scratch, sb_str(&text));
    sb_release(&text);
    if (key.len > 1 && key.ptr[0] == '"') key = str_sub(key, 1, key.len - 2);
    return key;
}

struct sorted_entry {
    struct str key;
    const ProtobufCMessage *entry;
};

static int entry_order(const void *x, const void *y)
{
    return str_cmp(((const struct sorted_entry *)x)->key, ((const struct sorted_entry *)y)->key);
}

static void print_map(struct printer *p, const ProtobufCMessage *m,
                      const ProtobufCFieldDescriptor *f)
{
    size_t count = proto_field_count(m, f);
    struct sorted_entry *entries = ARENA_ARRAY(p->scratch, struct sorted_entry, count);
    bool first = true;
    for (size_t i = 0; i < count; i++) {
        const ProtobufCMessage *entry = proto_field_message(m, f, i);
        entries[i] = (struct sorted_entry){key_of(p, entry), entry};
    }
    qsort(entries, count, sizeof *entries, entry_order);
    open(p, '{');
    for (size_t i = 0; i < count; i++) {
        const ProtobufCFieldDescriptor *value = &entries[i].entry->descriptor->fields[1];
        const void *at = proto_field_at(entries[i].entry, value);
        if (value->type == PROTOBUF_C_TYPE_MESSAGE && !*(ProtobufCMessage *const *)at) continue;
        next(p, &first);
        print_key(p, entries[i].key);
        print_value(p, value, at);
    }
    close(p, '}', first);
}

static bool wanted(struct printer *p, const ProtobufCMessage *m, const struct proto_type *type,
                   unsigned i)
{
    if (proto_field_set(m, type, i)) return true;
    return p->opts.always_primitive && !type->fields[i].presence;
}

static void print_field(struct printer *p, const ProtobufCMessage *m, const struct proto_type *type,
                        size_t i)
{
    const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
    bool was_hidden = p->hide;
    p->hide = was_hidden || (p->opts.redact && type->fields[i].sensitive);
    print_key(p, str_of(f->name));
    if (type->fields[i].map)
        print_map(p, m, f);
    else if (f->label == PROTOBUF_C_LABEL_REPEATED)
        print_list(p, m, f);
    else
        print_value(p, f, proto_field_at(m, f));
    p->hide = was_hidden;
}

static void print_fields(struct printer *p, const ProtobufCMessage *m,
                         const struct proto_type *type, bool *first)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        if (!wanted(p, m, type, i)) continue;
        next(p, first);
        print_field(p, m, type, i);
    }
}

/* ".250", ".000001": 3, 6 or 9 digits, as protobuf. */
static void print_nanos(struct printer *p, int32_t nanos)
{
    if (nanos < 0) nanos = -nanos;
    if (nanos == 0) return;
    if (nanos % 1000000 == 0)
        sb_fmt(p->out, ".%03d", nanos / 1000000);
    else if (nanos % 1000 == 0)
        sb_fmt(p->out, ".%06d", nanos / 1000);
    else
        sb_fmt(p->out, ".%09d", nanos);
}

static void print_duration(struct printer *p, const Google__Protobuf__Duration *d)
{
    sb_char(p->out, '"');
    if (d->nanos < 0 && d->seconds == 0) sb_char(p->out, '-');
    sb_fmt(p->out, "%lld", (long long)d->seconds);
    print_nanos(p, d->nanos);
    sb_add(p->out, STR("s\""));
}

static void print_timestamp(struct printer *p, const Google__Protobuf__Timestamp *t)
{
    int64_t days = t->seconds / 86400, rest = t->seconds % 86400;
    if (rest < 0) rest += 86400, days--;
    /* Civil date from days since 1970-01-01. */
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097, of_era = z - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100), m = (5 * of_year + 2) / 153;
    int64_t day = of_year - (153 * m + 2) / 5 + 1, month = m < 10 ? m + 3 : m - 9;
    year += era * 400 + (month <= 2);
    sb_fmt(p->out, "\"%04lld-%02lld-%02lldT%02lld:%02lld:%02lld", (long long)year, (long long)month,
           (long long)day, (long long)(rest / 3600), (long long)(rest / 60 % 60),
           (long long)(rest % 60));
    print_nanos(p, t->nanos);
    sb_add(p->out, STR("Z\""));
}

static void print_struct_value(struct printer *p,
                               const Google__Protobuf__Value *value); /* recursion: values nest */

static void print_struct(struct printer *p, const Google__Protobuf__Struct *s)
{
    bool first = true;
    open(p, '{');
    for (size_t i = 0; i < s->n_fields; i++) {
        next(p, &first);
        print_key(p, str_of(s->fields[i]->key));
        print_struct_value(p, s->fields[i]->value);
    }
    close(p, '}', first);
}

static void print_struct_list(struct printer *p, const Google__Protobuf__ListValue *list)
{
    bool first = true;
    open(p, '[');
    for (size_t i = 0; i < list->n_values; i++) {
        next(p, &first);
        print_struct_value(p, list->values[i]);
    }
    close(p, ']', first);
}

static void print_struct_value(struct printer *p, const Google__Protobuf__Value *value)
{
    switch (value ? value->kind_case : GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        if (p->hide)
            sb_add(p->out, STR("0"));
        else
            print_double(p, value->number_value, false);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        print_string(p, p->hide ? str_of(redacted) : str_of(value->string_value));
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        sb_add(p->out, value->bool_value && !p->hide ? STR("true") : STR("false"));
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE: print_struct(p, value->struct_value); return;
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE: print_struct_list(p, value->list_value); return;
    case GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET:
    case GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE: sb_add(p->out, STR("null")); return;
    }
}

/* paths: ["a.b", "c_d"] → "a.b,cD". */
static void print_field_mask(struct printer *p, const Google__Protobuf__FieldMask *mask)
{
    struct sb text = {0};
    for (size_t i = 0; i < mask->n_paths; i++) {
        if (i) sb_char(&text, ',');
        for (const char *c = mask->paths[i]; *c; c++) {
            if (*c == '_' && c[1] >= 'a' && c[1] <= 'z')
                sb_char(&text, (char)(*++c - 32));
            else
                sb_char(&text, *c);
        }
    }
    print_string(p, sb_str(&text));
    sb_release(&text);
}

/* Messages of the well-known types that print as something else than their fields. False: it is
 * none of them. */
static bool print_well_known(struct printer *p, const ProtobufCMessage *m, enum proto_kind kind)
{
    switch (kind) {
    case PROTO_KIND_DURATION: print_duration(p, (const Google__Protobuf__Duration *)m); return true;
    case PROTO_KIND_TIMESTAMP:
        print_timestamp(p, (const Google__Protobuf__Timestamp *)m);
        return true;
    case PROTO_KIND_STRUCT: print_struct(p, (const Google__Protobuf__Struct *)m); return true;
    case PROTO_KIND_VALUE: print_struct_value(p, (const Google__Protobuf__Value *)m); return true;
    case PROTO_KIND_LIST_VALUE:
        print_struct_list(p, (const Google__Protobuf__ListValue *)m);
        return true;
    case PROTO_KIND_FIELD_MASK:
        print_field_mask(p, (const Google__Protobuf__FieldMask *)m);
        return true;
    case PROTO_KIND_WRAPPER:
        print_value(p, &m->descriptor->fields[0], proto_field_at(m, &m->descriptor->fields[0]));
        return true;
    case PROTO_KIND_PLAIN:
    case PROTO_KIND_ANY:
    case PROTO_KIND_EMPTY:
    case PROTO_KIND_TYPED_STRUCT:
    case PROTO_KIND_UNSUPPORTED:
    case PROTO_KIND_MAP_ENTRY: return false;
    }
    return false;
}

/* What is inside an Any, or NULL when we cannot read it. */
static const ProtobufCMessage *any_inside(struct printer *p, const Google__Protobuf__Any *any,
                                          const struct proto_type *type)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors unused = {.arena = p->scratch}; /* broken bytes are printed as bytes */
    if (!type) return NULL;
    return proto_unpack(p->scratch, type->desc,
                        str_make((const char *)any->value.data, any->value.len), &lenient, NULL,
                        &unused);
}

static void print_any(struct printer *p, const Google__Protobuf__Any *any)
{
    const struct proto_type *type = proto_type_find_url(str_of(any->type_url));
    const ProtobufCMessage *inside = p->depth < 200 ? any_inside(p, any, type) : NULL;
    bool first = true;
    open(p, '{');
    if (any->type_url[0]) {
        next(p, &first);
        print_key(p, STR("@type"));
        print_string(p, str_of(any->type_url));
    }
    if (inside && (type->kind == PROTO_KIND_PLAIN || type->kind == PROTO_KIND_TYPED_STRUCT ||
                   type->kind == PROTO_KIND_UNSUPPORTED)) {
        print_fields(p, inside, type, &first);
    } else if (inside) {
        next(p, &first);
        print_key(p, STR("value"));
        print_any_message(p, inside);
    } else if (any->value.len) {
        next(p, &first);
        print_key(p, STR("value"));
        if (p->hide || p->opts.redact) /* what cannot be read may be a broken secret */
            print_text(p, redacted_base64);
        else
            print_base64(p, any->value.data, any->value.len);
    }
    close(p, '}', first);
}

static void print_any_message(struct printer *p, const ProtobufCMessage *m)
{
    const struct proto_type *type = proto_type_of(m->descriptor);
    if (print_well_known(p, m, (enum proto_kind)type->kind)) return;
    if (type->kind == PROTO_KIND_ANY) {
        print_any(p, (const Google__Protobuf__Any *)m);
        return;
    }
    bool first = true;
    open(p, '{');
    print_fields(p, m, type, &first);
    close(p, '}', first);
}

void print_json(struct sb *out, const ProtobufCMessage *m, const struct print_opts *opts)
{
    struct arena *scratch = arena_new("print", 0);
    struct printer p = {.out = out, .scratch = scratch, .opts = *opts, .depth = opts->depth};
    print_any_message(&p, m);
    arena_free(&scratch);
}

void print_json_field(struct sb *out, const ProtobufCMessage *m, size_t field,
                      const struct print_opts *opts)
{
    struct arena *scratch = arena_new("print", 0);
    struct printer p = {.out = out, .scratch = scratch, .opts = *opts, .depth = opts->depth};
    print_field(&p, m, proto_type_of(m->descriptor), field);
    arena_free(&scratch);
}

struct str print_to(struct arena *a, const ProtobufCMessage *m, const struct print_opts *opts)
{
    struct sb text = {0};
    print_json(&text, m, opts);
    struct str out = str_dup(a, sb_str(&text));
    sb_release(&text);
    return out;
}
