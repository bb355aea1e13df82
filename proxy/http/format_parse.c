/* Compiles text formats: finds operators, checks what follows their names, merges literals. */
#include <stdint.h>

#include "base/arena.h"
#include "proxy/http/format_internal.h"

static const struct format_op ops[] = {
#define O(name, flags, parse, eval, n) {#name, flags, parse, eval, n},
#include "proxy/http/format_ops.def"
#undef O
};
/* Operators that only a formatter extension brings. */
static const struct format_op req_without_query = {"REQ_WITHOUT_QUERY",
                                                   FORMAT_PARAMS_MUST | FORMAT_LENGTH, parse_header,
                                                   eval_header_no_query, N_REQ};

const struct format_op *format_op_find(struct str name)
{
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (str_eq(str_of(ops[i].name), name)) return &ops[i];
    }
    return NULL;
}

/* Says why, with the text that is wrong. False. */
static bool fail(struct arena *a, struct str *why, const char *before, struct str text,
                 const char *after)
{
    *why = str_fmt(a, "%s%.*s%s", before, STR_ARG(text), after);
    return false;
}

static bool unknown(struct arena *a, struct str *why, struct str name)
{
    struct str best = STR_NONE;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        str_nearer(name, str_of(ops[i].name), &best);
    *why = str_fmt(a, "Not supported field in StreamInfo: %.*s", STR_ARG(name));
    if (best.len) *why = str_fmt(a, "%.*s; did you mean %.*s?", STR_ARG(*why), STR_ARG(best));
    return false;
}

/* Envoy's words for what is wrong around the name. */
bool format_part_set(struct arena *a, struct format_part *p, struct str name, struct str arg,
                     struct str length, unsigned extra, struct str *why)
{
    const struct format_op *op = format_op_find(name);
    if (!op && (extra & FORMAT_EXTRA_REQ_WITHOUT_QUERY) && str_eq(name, STR("REQ_WITHOUT_QUERY")))
        op = &req_without_query;
    if (!op) return unknown(a, why, name);
    if (!op->flags && (arg.len || length.ptr))
        return fail(a, why, "", name, " does not take any parameters or length");
    if ((op->flags & FORMAT_PARAMS_MUST) && !arg.len)
        return fail(a, why, "", name, " requires parameters");
    if (!(op->flags & FORMAT_LENGTH) && length.ptr) {
        return fail(a, why, "", name, " does not allow length to be specified.");
    }
    *p = (struct format_part){.op = op, .most = SIZE_MAX};
    uint64_t most = 0;
    if (length.ptr) {
        if (!str_to_u64(length, &most)) return fail(a, why, "length of ", name, " is too large");
        p->most = (size_t)most;
    }
    return !op->parse || op->parse(a, p, arg, why);
}

static bool name_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* After a ")" or a name: an optional ":digits" and the closing "%". Gives back the index behind it,
 * 0 when it is not there. */
static size_t command_end(struct str s, size_t at, struct str *length)
{
    *length = STR_NONE;
    if (at < s.len && s.ptr[at] == ':') {
        size_t from = ++at;
        while (at < s.len && s.ptr[at] >= '0' && s.ptr[at] <= '9')
            at++;
        if (at == from || at - from > 19) return 0;
        *length = str_make(s.ptr + from, at - from);
    }
    return at < s.len && s.ptr[at] == '%' ? at + 1 : 0;
}

/* An operator that begins at s.ptr[at] == '%'. Gives back the index behind it, 0 when there is
 * none. The argument ends at the first ")" that a length or "%" follows, so that it may contain
 * both. */
static size_t command_at(struct str s, size_t at, struct str *name, struct str *arg,
                         struct str *length)
{
    size_t i = at + 1, end;
    while (i < s.len && name_char(s.ptr[i]))
        i++;
    *name = str_make(s.ptr + at + 1, i - at - 1);
    *arg = STR_NONE;
    if (!name->len) return 0;
    if (i >= s.len || s.ptr[i] != '(') return command_end(s, i, length);
    size_t from = ++i;
    for (; i < s.len; i++) {
        if (s.ptr[i] != ')') continue;
        if ((end = command_end(s, i + 1, length)) != 0) {
            *arg = str_make(s.ptr + from, i - from);
            return end;
        }
    }
    return 0;
}

struct parts {
    struct format_part *v;
    size_t count;
    struct sb literal;
};

static void flush_literal(struct arena *a, struct parts *p)
{
    if (!p->literal.len) return;
    p->v[p->count++] =
        (struct format_part){.literal = str_dup(a, sb_str(&p->literal)), .most = SIZE_MAX};
    sb_clear(&p->literal);
}

const struct format_part *format_parts(struct arena *a, struct str text, unsigned extra,
                                       size_t *count, struct str *why)
{
    size_t percents = 0;
    for (size_t i = 0; i < text.len; i++)
        percents += text.ptr[i] == '%';
    struct parts p = {.v = ARENA_ARRAY(a, struct format_part, percents + 2)};
    bool ok = true;
    for (size_t i = 0; ok && i < text.len;) {
        if (text.ptr[i] != '%') {
            sb_char(&p.literal, text.ptr[i++]);
            continue;
        }
        if (i + 1 < text.len && text.ptr[i + 1] == '%') {
            sb_char(&p.literal, '%');
            i += 2;
            continue;
        }
        struct str name, arg, length;
        size_t end = command_at(text, i, &name, &arg, &length);
        if (!end) {
            *why = str_fmt(
                a, "Incorrect configuration: %.*s. Couldn't find valid command at position %zu",
                STR_ARG(text), i);
            ok = false;
            break;
        }
        flush_literal(a, &p);
        ok = format_part_set(a, &p.v[p.count++], name, arg, length, extra, why);
        i = end;
    }
    if (ok) flush_literal(a, &p);
    sb_release(&p.literal);
    *count = p.count;
    return ok ? p.v : NULL;
}

struct format *format_new_text(struct arena *a, struct str text, unsigned extra, bool omit_empty,
                               struct str *why)
{
    struct format *f = ARENA_NEW(a, struct format);
    f->omit_empty = omit_empty;
    f->content_type = STR("text/plain");
    f->parts = format_parts(a, text, extra, &f->count, why);
    if (!f->parts) return NULL;
    if (f->count == 0)
        f->literal = STR("");
    else if (f->count == 1 && !f->parts[0].op)
        f->literal = f->parts[0].literal;
    return f;
}

const struct format *format_parse(struct arena *a, struct str text, bool omit_empty,
                                  struct str *why)
{
    return format_new_text(a, text, 0, omit_empty, why);
}

struct format *format_new_header(struct arena *a, struct str text, unsigned extra, struct str *why)
{
    return format_new_text(a, format_legacy_header(a, text), extra, true, why);
}

const struct format *format_parse_header(struct arena *a, struct str text, struct str *why)
{
    return format_new_header(a, text, 0, why);
}

const struct format *format_default(struct arena *a)
{
    static const char text[] =
        "[%START_TIME%] \"%REQUEST_HEADER(:METHOD)% %REQUEST_HEADER(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
        "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
        "%RESPONSE_HEADER(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQUEST_HEADER(X-FORWARDED-FOR)%\" "
        "\"%REQUEST_HEADER(USER-AGENT)%\" \"%REQUEST_HEADER(X-REQUEST-ID)%\" \"%REQUEST_HEADER(:AUTHORITY)%\" "
        "\"%UPSTREAM_HOST%\"\n";
    struct str why;
    return format_parse(a, STR(text), false, &why);
}

/* The old form of one operator: NAME(["a","b"]) becomes NAME(a:b). False: it is not of that form.
 */
static bool legacy_list(struct str arg, struct sb *out)
{
    arg = str_trim(arg);
    if (arg.len < 2 || arg.ptr[0] != '[' || arg.ptr[arg.len - 1] != ']') return false;
    struct str rest = str_sub(arg, 1, arg.len - 2), item;
    bool first = true;
    while (str_next(&rest, ',', &item)) {
        item = str_trim(item);
        if (item.len < 2 || item.ptr[0] != '"' || item.ptr[item.len - 1] != '"') return false;
        if (!first) sb_char(out, ':');
        first = false;
        sb_add(out, str_sub(item, 1, item.len - 2));
    }
    return !first;
}

static bool legacy_rewrite(struct str name, struct str arg, struct sb *out)
{
    if (str_eq(name, STR("PER_REQUEST_STATE"))) {
        sb_fmt(out, "%%FILTER_STATE(%.*s:PLAIN)%%", STR_ARG(arg));
        return true;
    }
    if (!str_eq(name, STR("UPSTREAM_METADATA")) && !str_eq(name, STR("DYNAMIC_METADATA")) &&
        !str_eq(name, STR("CLUSTER_METADATA"))) {
        return false;
    }
    struct sb list = {0};
    bool ok = legacy_list(arg, &list);
    if (ok) sb_fmt(out, "%%%.*s(%.*s)%%", STR_ARG(name), (int)list.len, list.ptr);
    sb_release(&list);
    return ok;
}

struct str format_legacy_header(struct arena *a, struct str text)
{
    struct sb out = {0};
    bool changed = false;
    for (size_t i = 0; i < text.len;) {
        struct str name, arg, length;
        size_t end = 0;
        if (text.ptr[i] == '%' && i + 1 < text.len && text.ptr[i + 1] == '%') {
            sb_add(&out, STR("%%"));
            i += 2;
            continue;
        }
        if (text.ptr[i] == '%') end = command_at(text, i, &name, &arg, &length);
        if (!end) {
            sb_char(&out, text.ptr[i++]);
            continue;
        }
        if (legacy_rewrite(name, arg, &out))
            changed = true;
        else
            sb_add(&out, str_make(text.ptr + i, end - i));
        i = end;
    }
    struct str result = changed ? str_dup(a, sb_str(&out)) : text;
    sb_release(&out);
    return result;
}
