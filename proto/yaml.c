/* YAML by libyaml's events, as a value tree. Plain scalars are typed as Envoy (yaml-cpp) types
 * them: booleans in all YAML 1.1 spellings, 32-bit integers, null; everything else, floating point
 * included, stays a string. */
#include <yaml.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "proto/json_internal.h"

struct yaml_text {
    struct arena *arena;
    struct str text;
    struct json_fault *fault;
    struct map anchors; /* name → struct jval *, complete ones only */
    yaml_parser_t parser;
    size_t alias_nodes;
    uint32_t depth;
};

static struct jval *fail(struct yaml_text *t, const yaml_mark_t *mark, const char *text)
{
    if (t->fault->text.len == 0)
        *t->fault = (struct json_fault){str_dup(t->arena, str_of(text)), (uint32_t)mark->line + 1,
                                        (uint32_t)mark->column + 1};
    return NULL;
}

/* What to do about the slips that a reader of Envoy's documents makes most. */
static const char *hint(const yaml_parser_t *p)
{
    const char *problem = p->problem ? p->problem : "", *context = p->context ? p->context : "";
    if (strstr(context, "scanning an alias"))
        return "; a value that begins with * is quoted: \"*\"";
    bool no_token = strstr(problem, "cannot start any token"),
         tab = p->buffer.pointer < p->buffer.last && *p->buffer.pointer == '\t';
    if (strstr(problem, "tab character") || (no_token && tab))
        return "; YAML is indented by spaces, not tabs";
    if (no_token) return "; what begins with @, ` or % is quoted: \"@type\"";
    return "";
}

/* libyaml tells of bytes that are no UTF-8 by their offset alone. */
static yaml_mark_t problem_mark(const struct yaml_text *t)
{
    yaml_mark_t mark = t->parser.problem_mark;
    size_t offset = t->parser.problem_offset;
    if (t->parser.error != YAML_READER_ERROR) return mark;
    mark = (yaml_mark_t){0};
    for (size_t i = 0; i < offset && i < t->text.len; i++) {
        mark.column++;
        if (t->text.ptr[i] != '\n') continue;
        mark.line++;
        mark.column = 0;
    }
    return mark;
}

static bool next_event(struct yaml_text *t, yaml_event_t *event)
{
    if (yaml_parser_parse(&t->parser, event)) return true;
    const yaml_parser_t *p = &t->parser;
    struct str problem = str_of(p->problem ? p->problem : "cannot be read");
    struct str text = p->context
                          ? str_fmt(t->arena, "%.*s (%s)%s", STR_ARG(problem), p->context, hint(p))
                          : problem;
    yaml_mark_t mark = problem_mark(t);
    (void)fail(t, &mark, str_z(t->arena, text));
    return false;
}

/* yaml-cpp: one word in lower, UPPER or Capital letters. */
static bool flexible_case(struct str s, struct str word)
{
    if (!str_case_eq(s, word)) return false;
    size_t upper = 0;
    for (size_t i = 0; i < s.len; i++)
        upper += s.ptr[i] >= 'A' && s.ptr[i] <= 'Z';
    return upper == 0 || upper == s.len || (upper == 1 && s.ptr[0] >= 'A' && s.ptr[0] <= 'Z');
}

static bool plain_bool(struct str s, bool *out)
{
    static const char *const yes[] = {"y", "yes", "true", "on"}, *const no[] = {"n", "no", "false",
                                                                                "off"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        *out = flexible_case(s, str_of(yes[i]));
        if (*out || flexible_case(s, str_of(no[i]))) return true;
    }
    return false;
}

/* A C-like integer (0x1f and 017 too) that fits 32 bits; Envoy leaves larger ones as strings. */
static bool plain_integer(struct str s, int64_t *out)
{
    bool negative = s.len && s.ptr[0] == '-';
    uint64_t base = 10, value = 0;
    size_t i = s.len && (s.ptr[0] == '-' || s.ptr[0] == '+');
    if (s.len - i > 2 && s.ptr[i] == '0' && str_lower_char(s.ptr[i + 1]) == 'x')
        base = 16, i += 2;
    else if (s.len - i > 1 && s.ptr[i] == '0')
        base = 8, i++;
    if (i == s.len || s.len - i > 20) return false;
    for (; i < s.len; i++) {
        char c = str_lower_char(s.ptr[i]);
        uint64_t digit = c >= '0' && c <= '9'   ? (uint64_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint64_t)(c - 'a' + 10)
                                                : 99;
        if (digit >= base) return false;
        value = value * base + digit;
        if (value > (uint64_t)INT32_MAX + negative) return false;
    }
    *out = negative ? -(int64_t)value : (int64_t)value;
    return true;
}

static bool plain_null(struct str s)
{
    return s.len == 0 || str_eq(s, STR("~")) || str_eq(s, STR("null")) || str_eq(s, STR("Null")) ||
           str_eq(s, STR("NULL"));
}

static void type_plain(struct yaml_text *t, struct jval *v)
{
    bool yes;
    int64_t integer;
    struct str as_written = v->text;
    if (plain_null(v->text)) {
        v->type = JVAL_NULL;
        return;
    }
    if (plain_bool(v->text, &yes)) {
        v->type = JVAL_BOOL;
        v->text = yes ? STR("true") : STR("false");
    } else if (plain_integer(v->text, &integer)) {
        v->type = JVAL_NUMBER;
        v->text = str_fmt(t->arena, "%lld", (long long)integer);
    } else {
        return;
    }
    v->plain = arena_copy(t->arena, &as_written, sizeof as_written);
}

static struct jval *value_new(struct yaml_text *t, enum jval_type type, const yaml_mark_t *mark)
{
    struct jval *v = ARENA_NEW(t->arena, struct jval);
    v->type = (uint8_t)type;
    v->line = (uint32_t)mark->line + 1;
    v->column = (uint32_t)mark->column + 1;
    v->nodes = 1;
    return v;
}

static struct jval *scalar(struct yaml_text *t, const yaml_event_t *event)
{
    struct jval *v = value_new(t, JVAL_STRING, &event->start_mark);
    v->text = str_dup(t->arena,
                      str_make((const char *)event->data.scalar.value, event->data.scalar.length));
    const char *tag = (const char *)event->data.scalar.tag;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (plain && !(tag && strcmp(tag, "!") == 0)) type_plain(t, v);
    return v;
}

/* The value behind *name, as a new value with shared insides. */
static struct jval *alias(struct yaml_text *t, const yaml_event_t *event)
{
    const char *name = (const char *)event->data.alias.anchor;
    const struct jval *target = map_get(&t->anchors, str_of(name));
    if (!target) return fail(t, &event->start_mark, "an alias to an unknown anchor");
    t->alias_nodes += target->nodes;
    if (t->alias_nodes > JSON_ALIAS_NODES_MOST || target->height + t->depth > JSON_DEPTH_MOST)
        return fail(t, &event->start_mark, "aliases make the document too large");
    struct jval *v = arena_copy(t->arena, target, sizeof *target);
    v->next = NULL;
    return v;
}

static void anchor_add(struct yaml_text *t, const yaml_char_t *name, struct jval *v)
{
    if (name) (void)map_put(&t->anchors, str_dup(t->arena, str_of((const char *)name)), v);
}

static struct jval *value_of(struct yaml_text *t,
                             yaml_event_t *event); /* recursion: collections hold values */

static struct jval *next_value(struct yaml_text *t)
{
    yaml_event_t event;
    if (!next_event(t, &event)) return NULL;
    struct jval *v = value_of(t, &event);
    yaml_event_delete(&event);
    return v;
}

/* Reads a key's event into a value with its name. */
static struct jval *member(struct yaml_text *t, const yaml_event_t *event)
{
    if (event->type == YAML_ALIAS_EVENT) {
        struct jval *target = map_get(&t->anchors, str_of((const char *)event->data.alias.anchor));
        if (!target || target->type > JVAL_STRING)
            return fail(t, &event->start_mark, "a key must be a scalar");
        return fail(t, &event->start_mark, "an alias as a key is not supported");
    }
    if (event->type != YAML_SCALAR_EVENT)
        return fail(t, &event->start_mark, "a key must be a scalar");
    struct str key = str_dup(
        t->arena, str_make((const char *)event->data.scalar.value, event->data.scalar.length));
    uint32_t line = (uint32_t)event->start_mark.line + 1,
             column = (uint32_t)event->start_mark.column + 1;
    struct jval *v = next_value(t);
    if (!v) return NULL;
    v->key = key;
    v->key_line = line;
    v->key_column = column;
    return v;
}

/* Envoy: a member whose key has the tag !ignore is a place for anchors only. */
static bool ignored_key(const yaml_event_t *event)
{
    const char *tag =
        event->type == YAML_SCALAR_EVENT ? (const char *)event->data.scalar.tag : NULL;
    return tag && strcmp(tag, "!ignore") == 0;
}

static uint32_t nodes_sum(uint32_t x, uint32_t y)
{
    return x > UINT32_MAX - y ? UINT32_MAX : x + y;
}

static struct jval *collection(struct yaml_text *t, const yaml_event_t *start, enum jval_type type,
                               yaml_event_type_t close)
{
    struct jval *v = value_new(t, type, &start->start_mark), **tail = &v->first;
    size_t count = 0;
    if (++t->depth > JSON_DEPTH_MOST)
        return fail(t, &start->start_mark, "nested too deeply (more than 100 levels)");
    for (;;) {
        yaml_event_t event;
        if (!next_event(t, &event)) return NULL;
        if (event.type == close) {
            yaml_event_delete(&event);
            break;
        }
        bool ignored = type == JVAL_OBJECT && ignored_key(&event);
        struct jval *child = type == JVAL_OBJECT ? member(t, &event) : value_of(t, &event);
        yaml_event_delete(&event);
        if (!child) return NULL;
        if (ignored) continue;
        count++;
        *tail = child;
        tail = &child->next;
        v->nodes = nodes_sum(v->nodes, child->nodes);
        if (child->height >= v->height) v->height = (uint8_t)(child->height + 1);
    }
    t->depth--;
    if (type == JVAL_OBJECT) jval_drop_doubles(v, count);
    return v;
}

static struct jval *value_of(struct yaml_text *t, yaml_event_t *event)
{
    struct jval *v;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        v = scalar(t, event);
        anchor_add(t, event->data.scalar.anchor, v);
        return v;
    case YAML_ALIAS_EVENT: return alias(t, event);
    case YAML_SEQUENCE_START_EVENT:
        v = collection(t, event, JVAL_ARRAY, YAML_SEQUENCE_END_EVENT);
        if (v) anchor_add(t, event->data.sequence_start.anchor, v);
        return v;
    case YAML_MAPPING_START_EVENT:
        v = collection(t, event, JVAL_OBJECT, YAML_MAPPING_END_EVENT);
        if (v) anchor_add(t, event->data.mapping_start.anchor, v);
        return v;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: break;
    }
    return fail(t, &event->start_mark, "expected a value");
}

static struct jval *document(struct yaml_text *t)
{
    yaml_event_t event;
    for (;;) {
        if (!next_event(t, &event)) return NULL;
        yaml_event_type_t type = event.type;
        if (type == YAML_STREAM_END_EVENT) {
            struct jval *empty = value_new(t, JVAL_NULL, &event.start_mark);
            yaml_event_delete(&event);
            return empty;
        }
        yaml_event_delete(&event);
        if (type == YAML_DOCUMENT_START_EVENT) break;
    }
    struct jval *v = next_value(t);
    if (!v) return NULL;
    /* What follows the first document is not read, but its end must be sound. */
    if (!next_event(t, &event)) return NULL;
    yaml_event_delete(&event);
    return v;
}

static struct jval *parse(struct arena *a, struct str text, struct json_fault *fault)
{
    struct yaml_text t = {.arena = a, .text = text, .fault = fault};
    *fault = (struct json_fault){0};
    must(yaml_parser_initialize(&t.parser));
    yaml_parser_set_encoding(&t.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&t.parser, (const unsigned char *)(text.len ? text.ptr : ""),
                                 text.len);
    struct jval *v = document(&t);
    yaml_parser_delete(&t.parser);
    map_release(&t.anchors);
    return v;
}

/* A copy with spaces for the tabs in front of comments, which libyaml refuses and yaml-cpp lets
 * through. False: there are none. */
static bool without_comment_tabs(struct arena *a, struct str text, struct str *out)
{
    char *copy = NULL;
    for (size_t i = 0; i < text.len;) {
        size_t start = i, tabs = 0;
        for (; i < text.len && (text.ptr[i] == ' ' || text.ptr[i] == '\t'); i++)
            tabs += text.ptr[i] == '\t';
        if (tabs && i < text.len && text.ptr[i] == '#') {
            if (!copy) copy = str_z(a, text);
            memset(copy + start, ' ', i - start);
        }
        size_t line = str_find_char(str_sub(text, i, text.len), '\n');
        i = line == SIZE_MAX ? text.len : i + line + 1;
    }
    *out = str_make(copy, text.len);
    return copy != NULL;
}

struct jval *yaml_parse(struct arena *a, struct str text, struct json_fault *fault)
{
    struct str again;
    struct jval *v = parse(a, text, fault);
    if (!v && without_comment_tabs(a, text, &again)) v = parse(a, again, fault);
    return v;
}
