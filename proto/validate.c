/* Constraint rules, checked by walking a message along its generated tables. */
#include "proto/validate.h"

#include <inttypes.h>
#include "base/arena.h"
#include "base/errors.h"
#include "base/regex.h"
#include "base/text.h"
#include "proto/path.h"
#include "proto/proto.h"
#include "proto/rules.h"

/* One value under check: where it lies, what it is. */
struct value {
    const ProtobufCFieldDescriptor
        *field; /* of the value itself: type and descriptor count, the label does not */
    const struct proto_field *facts;
    const void *at; /* storage of one element */
    const struct proto_path *path;
    struct errors *errors;
};

static bool fail(const struct value *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(const struct value *v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    errors_vadd(v->errors, proto_path_text(v->errors->arena, v->path), fmt, ap);
    va_end(ap);
    return false;
}

/* --- numbers and durations --- */

/* Order of a number and a bound: <0, 0, >0. */
struct number {
    enum { NUMBER_I, NUMBER_U, NUMBER_D } kind;
    union proto_number n;
};

static int number_compare(const struct number *x, union proto_number bound)
{
    switch (x->kind) {
    case NUMBER_I: return (x->n.i > bound.i) - (x->n.i < bound.i);
    case NUMBER_U: return (x->n.u > bound.u) - (x->n.u < bound.u);
    case NUMBER_D: return (x->n.d > bound.d) - (x->n.d < bound.d);
    }
    return 0;
}

static struct str bound_text(const struct value *v, const struct number *x, union proto_number b,
                             bool duration)
{
    struct arena *a = v->errors->arena;
    if (duration && b.i % 1000000000 == 0) return str_fmt(a, "%" PRId64 "s", b.i / 1000000000);
    if (duration) return str_fmt(a, "%gs", (double)b.i / 1e9);
    if (x->kind == NUMBER_I) return str_fmt(a, "%" PRId64, b.i);
    if (x->kind == NUMBER_U) return str_fmt(a, "%" PRIu64, b.u);
    return str_fmt(a, "%g", b.d);
}

/* NaN satisfies no bound. */
static bool check_range(const struct value *v, const struct proto_rules *r, const struct number *x,
                        bool duration)
{
    bool nan = x->kind == NUMBER_D && x->n.d != x->n.d;
    int low = number_compare(x, r->low), high = number_compare(x, r->high);
    struct str low_text = bound_text(v, x, r->low, duration),
               high_text = bound_text(v, x, r->high, duration);
    if (r->flags & RULE_GT && (nan || low <= 0))
        return fail(v, "value must be greater than %.*s", STR_ARG(low_text));
    if (r->flags & RULE_GTE && (nan || low < 0))
        return fail(v, "value must be greater than or equal to %.*s", STR_ARG(low_text));
    if (r->flags & RULE_LT && (nan || high >= 0))
        return fail(v, "value must be less than %.*s", STR_ARG(high_text));
    if (r->flags & RULE_LTE && (nan || high > 0))
        return fail(v, "value must be less than or equal to %.*s", STR_ARG(high_text));
    return true;
}

static struct number read_number(ProtobufCType type, const void *at)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_ENUM: return (struct number){NUMBER_I, {.i = *(const int32_t *)at}};
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64: return (struct number){NUMBER_I, {.i = *(const int64_t *)at}};
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32: return (struct number){NUMBER_U, {.u = *(const uint32_t *)at}};
    case PROTOBUF_C_TYPE_BOOL:
        return (struct number){NUMBER_U, {.u = *(const protobuf_c_boolean *)at != 0}};
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64: return (struct number){NUMBER_U, {.u = *(const uint64_t *)at}};
    case PROTOBUF_C_TYPE_FLOAT: return (struct number){NUMBER_D, {.d = (double)*(const float *)at}};
    case PROTOBUF_C_TYPE_DOUBLE: return (struct number){NUMBER_D, {.d = *(const double *)at}};
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE: break;
    }
    return (struct number){NUMBER_I, {0}};
}

/* Nanoseconds, saturating: a protobuf duration spans 10,000 years. */
static bool check_duration(const struct value *v, const struct proto_rules *r,
                           const ProtobufCMessage *m)
{
    int64_t seconds, nanos, total;
    memcpy(&seconds, proto_field_at(m, &m->descriptor->fields[0]), sizeof seconds);
    nanos = *(const int32_t *)proto_field_at(m, &m->descriptor->fields[1]);
    if (__builtin_mul_overflow(seconds, 1000000000, &total) ||
        __builtin_add_overflow(total, nanos, &total))
        total = seconds < 0 ? INT64_MIN : INT64_MAX;
    return check_range(v, r, &(struct number){NUMBER_I, {.i = total}}, true);
}

/* --- strings --- */

static size_t utf8_length(struct str s)
{
    size_t count = 0;
    for (size_t i = 0; i < s.len; i++)
        count += ((unsigned char)s.ptr[i] & 0xc0) != 0x80;
    return count;
}

static bool header_name_char(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+,-.^_|~`", c));
}

/* The three expressions that protoc-gen-validate uses for headers. */
static bool header_ok(struct str s, uint32_t flags)
{
    bool name = flags & RULE_HEADER_NAME, loose = flags & RULE_LOOSE;
    if (!loose && name && s.len > 0 && s.ptr[0] == ':') s = str_sub(s, 1, s.len);
    if (!loose && name && s.len == 0) return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '\0' || c == '\n' || c == '\r') return false;
        if (loose) continue;
        if (name ? !header_name_char(c) : ((unsigned char)c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool in_list(struct str s, const char *const *in)
{
    for (; *in; in++)
        if (str_eq(s, str_of(*in))) return true;
    return false;
}

/* The few patterns of the slices are cheap to compile; a cache would need a global. */
static bool check_pattern(const struct value *v, const char *pattern, struct str s)
{
    struct str why;
    struct regex *regex = regex_new(v->errors->arena, str_of(pattern), &why);
    if (!regex) return fail(v, "the rule's own pattern does not compile: %.*s", STR_ARG(why));
    return regex_partial(regex, s) || fail(v, "value does not match regex pattern %s", pattern);
}

static bool check_string(const struct value *v, const struct proto_rules *r, struct str s)
{
    if (r->flags & RULE_IGNORE_EMPTY && s.len == 0) return true;
    if (r->flags & RULE_MIN_LEN && utf8_length(s) < r->min_len)
        return fail(v, "value length must be at least %" PRIu64 " characters", r->min_len);
    if (r->flags & RULE_MAX_LEN && utf8_length(s) > r->max_len)
        return fail(v, "value length must be at most %" PRIu64 " characters", r->max_len);
    if (r->flags & RULE_MAX_BYTES && s.len > r->max_bytes)
        return fail(v, "value length must be at most %" PRIu64 " bytes", r->max_bytes);
    if (r->prefix && !str_starts(s, str_of(r->prefix)))
        return fail(v, "value must begin with %s", r->prefix);
    if (r->suffix && !str_ends(s, str_of(r->suffix)))
        return fail(v, "value must end with %s", r->suffix);
    if (r->in && !in_list(s, r->in))
        return fail(v, "value \"%.*s\" is not in the list of allowed values", STR_ARG(s));
    if (r->flags & (RULE_HEADER_NAME | RULE_HEADER_VALUE) && !header_ok(s, r->flags))
        return fail(v, "value is not a valid HTTP header %s",
                    r->flags & RULE_HEADER_NAME ? "name" : "value");
    return !r->pattern || check_pattern(v, r->pattern, s);
}

static bool check_bytes(const struct value *v, const struct proto_rules *r, size_t len)
{
    if (r->flags & RULE_MIN_LEN && len < r->min_len)
        return fail(v, "value length must be at least %" PRIu64 " bytes", r->min_len);
    if (r->flags & RULE_MAX_LEN && len > r->max_len)
        return fail(v, "value length must be at most %" PRIu64 " bytes", r->max_len);
    return true;
}

/* --- one value --- */

static bool check_enum(const struct value *v, const struct proto_rules *r, int32_t value)
{
    if (r->flags & RULE_DEFINED_ONLY && !proto_enum_name(v->field->descriptor, value))
        return fail(v, "%" PRId32 " is not one of the defined values", value);
    for (uint32_t i = 0; i < r->not_in_count; i++)
        if (r->not_in[i] == value) {
            const char *name = proto_enum_name(v->field->descriptor, value);
            return fail(v, "value must not be %s", name ? name : "this number");
        }
    return true;
}

static bool check_scalar(const struct value *v, const struct proto_rules *r)
{
    ProtobufCType type = v->field->type;
    if (type == PROTOBUF_C_TYPE_STRING)
        return check_string(v, r, str_of(*(const char *const *)v->at));
    if (type == PROTOBUF_C_TYPE_BYTES)
        return check_bytes(v, r, ((const ProtobufCBinaryData *)v->at)->len);
    if (type == PROTOBUF_C_TYPE_ENUM) return check_enum(v, r, *(const int32_t *)v->at);
    if (r->flags & RULE_CONST && *(const protobuf_c_boolean *)v->at != (int)r->low.u)
        return fail(v, "value must be %s", r->low.u ? "true" : "false");
    if (!(r->flags & (RULE_GT | RULE_GTE | RULE_LT | RULE_LTE))) return true;
    struct number number = read_number(type, v->at);
    if (r->flags & RULE_IGNORE_EMPTY && number.n.u == 0) return true;
    return check_range(v, r, &number, false);
}

static bool check_message(const ProtobufCMessage *m, const struct proto_type *type,
                          const struct proto_path *path, struct errors *errors);

/* A message value: rules of wrappers count for what they wrap. */
static bool check_sub(const struct value *v, const struct proto_rules *r, const ProtobufCMessage *m)
{
    const struct proto_type *type = v->facts->type;
    if (!m) return true;
    if (r && type->kind == PROTO_KIND_WRAPPER) {
        struct value inner = *v;
        inner.field = &type->desc->fields[0];
        inner.at = proto_field_at(m, inner.field);
        return check_scalar(&inner, r);
    }
    if (r && type->kind == PROTO_KIND_DURATION) return check_duration(v, r, m);
    if (r && r->flags & RULE_SKIP) return true;
    return check_message(m, type, v->path, v->errors);
}

static bool check_value(const struct value *v, const struct proto_rules *r)
{
    if (v->field->type == PROTOBUF_C_TYPE_MESSAGE)
        return check_sub(v, r, *(ProtobufCMessage *const *)v->at);
    return !r || check_scalar(v, r);
}

/* --- fields --- */

static bool check_count(const struct value *v, const struct proto_rules *r, size_t count)
{
    const char *what = v->facts->map ? "pairs" : "items";
    if (r->flags & RULE_MIN_ITEMS && count < r->min_len)
        return fail(v, "value must contain at least %" PRIu64 " %s", r->min_len, what);
    if (r->flags & RULE_MAX_ITEMS && count > r->max_len)
        return fail(v, "value must contain no more than %" PRIu64 " %s", r->max_len, what);
    return true;
}

static bool same_scalar(const ProtobufCFieldDescriptor *f, const char *x, const char *y)
{
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return strcmp(*(const char *const *)(const void *)x,
                      *(const char *const *)(const void *)y) == 0;
    return memcmp(x, y, proto_element_size(f->type)) == 0;
}

/* Only short lists of scalars carry this rule. */
static bool check_unique(const struct value *v, const char *items, size_t count)
{
    size_t size = proto_element_size(v->field->type);
    for (size_t i = 1; i < count; i++)
        for (size_t j = 0; j < i; j++)
            if (same_scalar(v->field, items + i * size, items + j * size))
                return fail(v, "repeated value must contain unique items");
    return true;
}

/* One entry of a map: its key, then its value, both at the path of the key. */
static bool check_entry(const struct value *v, const struct proto_rules *r,
                        const ProtobufCMessage *entry, const struct proto_path *up)
{
    const struct proto_type *type = v->facts->type;
    const ProtobufCFieldDescriptor *key = &type->desc->fields[0];
    struct str name = key->type == PROTOBUF_C_TYPE_STRING
                          ? str_of(*(const char *const *)proto_field_at(entry, key))
                          : STR("");
    if (!name.ptr) name = STR("");
    const struct proto_path path = proto_path_key(up, v->field->name, name);
    struct value part = {.field = key,
                         .facts = &type->fields[0],
                         .at = proto_field_at(entry, key),
                         .path = &path,
                         .errors = v->errors};
    bool good = check_value(&part, r ? r->keys : NULL);
    part.field = &type->desc->fields[1];
    part.facts = &type->fields[1];
    part.at = proto_field_at(entry, part.field);
    return check_value(&part, r ? r->items : NULL) && good;
}

static bool check_repeated(const struct value *v, const ProtobufCMessage *m,
                           const struct proto_path *up)
{
    const struct proto_rules *r = v->facts->rules;
    size_t count = proto_field_count(m, v->field), size = proto_element_size(v->field->type);
    const char *items = *(const char *const *)proto_field_at(m, v->field);
    if (r && !check_count(v, r, count)) return false;
    if (r && r->flags & RULE_UNIQUE && !check_unique(v, items, count)) return false;
    if (v->facts->type ? !v->facts->type->has_rules && !(r && (r->items || r->keys))
                       : !(r && r->items))
        return true;
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        const void *at = items + i * size;
        if (v->facts->map) {
            good = check_entry(v, r, *(ProtobufCMessage *const *)at, up) && good;
            continue;
        }
        const struct proto_path path = proto_path_item(up, v->field->name, i);
        struct value item = {
            .field = v->field, .facts = v->facts, .at = at, .path = &path, .errors = v->errors};
        good = check_value(&item, r ? r->items : NULL) && good;
    }
    return good;
}

static bool check_field(const ProtobufCMessage *m, const struct proto_type *type, size_t idx,
                        const struct proto_path *up, struct errors *errors)
{
    const ProtobufCFieldDescriptor *f = &type->desc->fields[idx];
    const struct proto_field *facts = &type->fields[idx];
    if (!facts->rules && !(facts->type && facts->type->has_rules)) return true;
    const struct proto_path path = proto_path_field(up, f->name);
    struct value v = {
        .field = f, .facts = facts, .at = proto_field_at(m, f), .path = &path, .errors = errors};
    if (f->label == PROTOBUF_C_LABEL_REPEATED) return check_repeated(&v, m, up);
    if (facts->presence && !proto_field_set(m, type, idx)) {
        /* A member of a oneof that is not chosen owes nothing. */
        bool owed = facts->rules && facts->rules->flags & RULE_REQUIRED &&
                    !(f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF);
        return !owed || fail(&v, "value is required");
    }
    return check_value(&v, facts->rules);
}

static bool check_required(const ProtobufCMessage *m, const struct proto_type *type,
                           const struct proto_path *path, struct errors *errors)
{
    bool good = true;
    for (size_t i = 0; i < type->required_count; i++) {
        const ProtobufCFieldDescriptor *first = &type->desc->fields[type->required[i].first];
        uint32_t number;
        memcpy(&number, (const char *)m + first->quantifier_offset, sizeof number);
        if (number) continue;
        struct sb names = {0};
        for (size_t k = 0; k < type->desc->n_fields; k++) {
            const ProtobufCFieldDescriptor *f = &type->desc->fields[k];
            bool member = f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF &&
                          f->quantifier_offset == first->quantifier_offset;
            if (member) sb_fmt(&names, "%s%s", names.len ? ", " : "", f->name);
        }
        good = errors_add(errors, proto_path_text(errors->arena, path),
                          "%s is required: set one of %.*s", type->required[i].name,
                          STR_ARG(sb_str(&names)));
        sb_release(&names);
    }
    return good;
}

static bool check_message(const ProtobufCMessage *m, const struct proto_type *type,
                          const struct proto_path *path, struct errors *errors)
{
    if (!type->has_rules) return true;
    bool good = check_required(m, type, path, errors);
    for (size_t i = 0; i < type->desc->n_fields; i++) {
        good = check_field(m, type, i, path, errors) && good;
        if (errors->count > ERRORS_MOST) return false; /* enough is known */
    }
    return good;
}

bool proto_validate(const ProtobufCMessage *m, const struct proto_path *path, struct errors *errors)
{
    const struct proto_path root = proto_path_root(STR(""));
    return check_message(m, proto_type_of(m->descriptor), path ? path : &root, errors);
}
