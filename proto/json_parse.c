/* A strict JSON tokenizer (RFC 8259; a comma before a closing bracket is let through, as Envoy
 * does) that makes the tree. */
#include "base/arena.h"
#include "base/map.h"
#include "base/text.h"
#include "proto/json_internal.h"

struct json_text {
    struct arena *arena;
    const char *at, *end, *line_start;
    struct json_fault *fault;
    uint32_t line;
    uint32_t depth;
    bool yaml_numbers;
};

static uint32_t column_of(const struct json_text *t, const char *at)
{
    size_t column = (size_t)(at - t->line_start) + 1;
    return column > UINT32_MAX ? UINT32_MAX : (uint32_t)column;
}

static struct jval *fail(struct json_text *t, const char *text)
{
    if (t->fault->text.len == 0)
        *t->fault = (struct json_fault){str_of(text), t->line, column_of(t, t->at)};
    return NULL;
}

static void skip_space(struct json_text *t)
{
    for (; t->at < t->end; t->at++) {
        switch (*t->at) {
        case ' ':
        case '\t':
        case '\r': break;
        case '\n':
            t->line++;
            t->line_start = t->at + 1;
            break;
        default: return;
        }
    }
}

static bool next_is(struct json_text *t, char c)
{
    if (t->at >= t->end || *t->at != c) return false;
    t->at++;
    return true;
}

static bool read_hex4(struct json_text *t, uint32_t *out)
{
    uint32_t code = 0;
    if (t->end - t->at < 4) return false;
    for (int i = 0; i < 4; i++) {
        char c = str_lower_char(*t->at++);
        if (c >= '0' && c <= '9')
            code = code * 16 + (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            code = code * 16 + (uint32_t)(c - 'a' + 10);
        else
            return false;
    }
    *out = code;
    return true;
}

static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* The four hex digits after \u, and the low half of a pair. */
static char *unicode_escape(struct json_text *t, char *to)
{
    uint32_t code, low;
    if (!read_hex4(t, &code)) return fail(t, "\\u needs four hexadecimal digits"), NULL;
    if (code >= 0xdc00 && code <= 0xdfff) return fail(t, "a lone low surrogate"), NULL;
    if (code >= 0xd800 && code <= 0xdbff) {
        if (!next_is(t, '\\') || !next_is(t, 'u') || !read_hex4(t, &low) || low < 0xdc00 ||
            low > 0xdfff)
            return fail(t, "a lone high surrogate"), NULL;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    return put_utf8(to, code);
}

static char *escape(struct json_text *t, char *to)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    if (t->at >= t->end) return fail(t, "the string does not end"), NULL;
    char c = *t->at++;
    if (c == 'u') return unicode_escape(t, to);
    const char *found = c ? strchr(from, c) : NULL;
    if (!found) return fail(t, "an unknown escape in a string"), NULL;
    *to = into[found - from];
    return to + 1;
}

/* A string with escapes, from its first byte on: never longer than its source. */
static bool escaped_string(struct json_text *t, const char *start, const char *close,
                           struct str *out)
{
    char *text = arena_alloc_raw(t->arena, (size_t)(close - start) + 1), *to = text;
    t->at = start;
    while (*t->at != '"') {
        if (*t->at != '\\') {
            *to++ = *t->at++;
            continue;
        }
        t->at++;
        to = escape(t, to);
        if (!to) return false;
        if (t->at > close) return fail(t, "the string does not end"), false;
    }
    *out = str_make(text, (size_t)(to - text));
    return true;
}

static bool string(struct json_text *t, struct str *out)
{
    const char *start = t->at;
    bool escapes = false, high = false;
    for (const char *p = start;; p++) {
        if (p >= t->end) return fail(t, "the string does not end"), false;
        unsigned char c = (unsigned char)*p;
        if (c == '"') {
            t->at = p;
            break;
        }
        if (c < 0x20)
            return t->at = p, fail(t, "a control character in a string: write it as \\u00XX"),
                   false;
        if (c == '\\') {
            escapes = true;
            if (++p >= t->end) return fail(t, "the string does not end"), false;
        }
        high |= c >= 0x80;
    }
    *out = str_make(start, (size_t)(t->at - start));
    if (high && !utf8_valid(*out))
        return t->at = start, fail(t, "invalid UTF-8 in a string"), false;
    if (escapes && !escaped_string(t, start, t->at, out)) return false;
    t->at++;
    return true;
}

static struct jval *value_new(struct json_text *t, enum jval_type type, const char *at)
{
    struct jval *v = ARENA_NEW(t->arena, struct jval);
    v->type = (uint8_t)type;
    v->line = t->line;
    v->column = column_of(t, at);
    v->nodes = 1;
    return v;
}

static void digits(struct json_text *t)
{
    while (t->at < t->end && *t->at >= '0' && *t->at <= '9')
        t->at++;
}

static struct jval *number(struct json_text *t)
{
    const char *start = t->at;
    (void)next_is(t, '-');
    const char *first = t->at;
    digits(t);
    if (t->at == first) return fail(t, "expected a value");
    if (*first == '0' && t->at - first > 1)
        return t->at = first, fail(t, "a number with a leading zero");
    bool whole = true;
    if (next_is(t, '.')) {
        const char *dot = t->at;
        whole = false;
        digits(t);
        if (t->at == dot) return fail(t, "expected digits after the point");
    }
    if (next_is(t, 'e') || next_is(t, 'E')) {
        whole = false;
        if (!next_is(t, '+')) (void)next_is(t, '-');
        const char *power = t->at;
        digits(t);
        if (t->at == power) return fail(t, "expected digits in the exponent");
    }
    struct jval *v = value_new(t, JVAL_NUMBER, start);
    v->text = str_make(start, (size_t)(t->at - start));
    int64_t integer;
    /* Envoy: what YAML does not read as a 32-bit integer stays a string. */
    if (t->yaml_numbers &&
        !(whole && str_to_i64(v->text, &integer) && integer >= INT32_MIN && integer <= INT32_MAX))
        v->type = JVAL_STRING;
    return v;
}

static struct jval *word(struct json_text *t)
{
    static const struct {
        struct str text;
        enum jval_type type;
    } words[] = {{{"true", 4}, JVAL_BOOL}, {{"false", 5}, JVAL_BOOL}, {{"null", 4}, JVAL_NULL}};
    for (size_t i = 0; i < 3; i++) {
        if (!str_starts(str_make(t->at, (size_t)(t->end - t->at)), words[i].text)) continue;
        struct jval *v = value_new(t, words[i].type, t->at);
        v->text = words[i].text;
        t->at += words[i].text.len;
        return v;
    }
    return fail(t, "expected a value");
}

static struct jval *value(struct json_text *t); /* recursion: lists and objects hold values */

static void adopt(struct jval *parent, struct jval ***tail, struct jval *child)
{
    **tail = child;
    *tail = &child->next;
    parent->nodes += child->nodes;
    if (child->height >= parent->height) parent->height = (uint8_t)(child->height + 1);
}

static struct jval *member(struct json_text *t)
{
    uint32_t column = column_of(t, t->at), line = t->line;
    struct str key;
    if (!next_is(t, '"')) return fail(t, "expected a name in quotes");
    if (!string(t, &key)) return NULL;
    skip_space(t);
    if (!next_is(t, ':')) return fail(t, "expected ':'");
    struct jval *v = value(t);
    if (!v) return NULL;
    v->key = key;
    v->key_line = line;
    v->key_column = column;
    return v;
}

/* The rest of an object or list behind its bracket. */
static struct jval *collection(struct json_text *t, enum jval_type type, char close)
{
    struct jval *v = value_new(t, type, t->at - 1), **tail = &v->first;
    size_t count = 0;
    if (++t->depth > JSON_DEPTH_MOST) return fail(t, "nested too deeply (more than 100 levels)");
    skip_space(t);
    while (!next_is(t, close)) {
        struct jval *child = type == JVAL_OBJECT ? member(t) : value(t);
        if (!child) return NULL;
        adopt(v, &tail, child);
        count++;
        skip_space(t);
        if (next_is(t, ',')) {
            skip_space(t);
            continue;
        }
        if (t->at >= t->end) return fail(t, "the text ends too early");
        if (*t->at != close)
            return fail(t, type == JVAL_OBJECT ? "expected ',' or '}'" : "expected ',' or ']'");
    }
    t->depth--;
    if (type == JVAL_OBJECT) jval_drop_doubles(v, count);
    return v;
}

static struct jval *value(struct json_text *t)
{
    skip_space(t);
    if (t->at >= t->end) return fail(t, "the text ends too early");
    switch (*t->at) {
    case '{': t->at++; return collection(t, JVAL_OBJECT, '}');
    case '[': t->at++; return collection(t, JVAL_ARRAY, ']');
    case '"': {
        struct jval *v = value_new(t, JVAL_STRING, t->at++);
        return string(t, &v->text) ? v : NULL;
    }
    case 't':
    case 'f':
    case 'n': return word(t);
    default: return number(t);
    }
}

struct jval *json_parse(struct arena *a, struct str text, bool yaml_numbers,
                        struct json_fault *fault)
{
    if (str_starts(text, STR("\xef\xbb\xbf")))
        text = str_sub(text, 3, text.len); /* a byte order mark */
    struct json_text t = {.arena = a, .fault = fault, .line = 1, .yaml_numbers = yaml_numbers};
    t.at = t.line_start = text.len ? text.ptr : "";
    t.end = t.at + text.len;
    *fault = (struct json_fault){0};
    struct jval *v = value(&t);
    if (!v) return NULL;
    skip_space(&t);
    return t.at == t.end ? v : fail(&t, "something follows the value");
}

enum { JVAL_FEW = 24 }; /* members that are compared with each other without a table */

static void drop_doubles_of_few(struct jval *object)
{
    for (struct jval **at = &object->first; *at;) {
        struct jval *later = (*at)->next;
        while (later && !str_eq(later->key, (*at)->key))
            later = later->next;
        if (later) {
            later->doubled = true;
            *at = (*at)->next;
        } else {
            at = &(*at)->next;
        }
    }
}

void jval_drop_doubles(struct jval *object, size_t count)
{
    if (count < 2) return;
    if (count <= JVAL_FEW) {
        drop_doubles_of_few(object);
        return;
    }
    struct map last = {0};
    size_t doubles = 0;
    for (struct jval *v = object->first; v; v = v->next) {
        if (!map_put(&last, v->key.ptr ? v->key : STR(""), v)) continue;
        v->doubled = true;
        doubles++;
    }
    for (struct jval **at = &object->first; *at && doubles;) {
        if (map_get(&last, (*at)->key.ptr ? (*at)->key : STR("")) == *at) {
            at = &(*at)->next;
        } else {
            *at = (*at)->next;
            doubles--;
        }
    }
    map_release(&last);
}

struct jval *jval_member(const struct jval *object, struct str key)
{
    struct jval *found = NULL;
    if (object->type != JVAL_OBJECT) return NULL;
    for (struct jval *v = object->first; v; v = v->next)
        if (str_eq(v->key, key)) found = v;
    return found;
}

struct jval *json_parse_any(struct arena *a, struct str text, enum json_format format,
                            struct json_fault *fault)
{
    if (format == JSON_FORMAT_JSON) return json_parse(a, text, false, fault);
    struct str start = str_trim(str_sub(text, 0, 4096));
    if (start.len && start.ptr[0] == '{') {
        struct jval *v = json_parse(a, text, true, fault);
        if (v) return v;
    }
    return yaml_parse(a, text, fault);
}

bool json_format_of(struct str file_name, enum json_format *out)
{
    if (str_ends(file_name, STR(".json")))
        *out = JSON_FORMAT_JSON;
    else if (str_ends(file_name, STR(".yaml")) || str_ends(file_name, STR(".yml")))
        *out = JSON_FORMAT_YAML;
    else
        return false;
    return true;
}
