/* Writes compiled formats. */
#include <stdint.h>

#include "base/arena.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/http/format_internal.h"
#include "proxy/http/format_json.h"
#include "proxy/runtime/runtime.h"

static struct format_cx format_context(const struct stream_info *info, enum access_log_type type)
{
    return (struct format_cx){
        .info = info, .type = type, .scratch = info->worker ? info->worker->scratch : info->arena};
}

/* Text of peers must not end or colour a line: control bytes are written as \xNN. */
static void add_visible(struct sb *out, struct str s)
{
    size_t from = 0;
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if ((c >= 0x20 && c != 0x7f) || c == '\t') continue;
        sb_add(out, str_make(s.ptr + from, i - from));
        sb_fmt(out, "\\x%02x", c);
        from = i + 1;
    }
    sb_add(out, str_make(s.ptr + from, s.len - from));
}

static bool trusted_text(const struct format_part *p)
{
    return p->op->eval == eval_reply_body ||
           p->op->eval == eval_constant; /* configuration, may have lines */
}

/* Appends the text of one part; false when it had no value (nothing was written). */
static bool write_part(const struct format_part *p, const struct format_cx *cx, struct sb *out)
{
    struct format_result r;
    format_eval(p, cx, &r);
    switch (r.kind) {
    case FORMAT_NOTHING: return false;
    case FORMAT_STRING:
        if (trusted_text(p))
            sb_add(out, r.text);
        else
            add_visible(out, r.text);
        return true;
    case FORMAT_NUMBER: sb_u64(out, r.number); return true;
    case FORMAT_BOOL: sb_add(out, r.boolean ? STR("true") : STR("false")); return true;
    case FORMAT_VALUE: value_json(r.value, out); return true;
    }
    return false;
}

static void write_text(const struct format_part *v, size_t count, bool omit_empty,
                       const struct format_cx *cx, struct sb *out)
{
    for (size_t i = 0; i < count; i++) {
        if (!v[i].op)
            sb_add(out, v[i].literal);
        else if (!write_part(&v[i], cx, out) && !omit_empty)
            sb_char(out, '-');
    }
}

/* A lone operator keeps its type. False: no value. */
static bool write_typed(const struct format_part *p, const struct format_cx *cx, struct sb *out)
{
    struct format_result r;
    format_eval(p, cx, &r);
    switch (r.kind) {
    case FORMAT_NOTHING: return false;
    case FORMAT_STRING: json_string(out, r.text); return true;
    case FORMAT_NUMBER: json_number(out, (double)r.number); return true;
    case FORMAT_BOOL: sb_add(out, r.boolean ? STR("true") : STR("false")); return true;
    case FORMAT_VALUE: value_json(r.value, out); return true;
    }
    return false;
}

/* Mixed text: built behind the end of `out`, then moved into its escaped form. */
static void write_mixed(const struct format *f, const struct format_node *n,
                        const struct format_cx *cx, struct sb *out)
{
    struct sb text = {0};
    for (size_t i = 0; i < n->part_count; i++) {
        const struct format_part *p = &n->parts[i];
        struct format_result r;
        if (!p->op) {
            sb_add(&text, p->literal);
            continue;
        }
        format_eval(p, cx, &r);
        if (r.kind == FORMAT_STRING)
            sb_add(&text, r.text);
        else if (!write_part(p, cx, &text) && !f->omit_empty)
            sb_char(&text, '-');
    }
    json_string(out, sb_str(&text));
    sb_release(&text);
}

/* Nesting is bounded by the depth limit of configuration messages. False: nothing to show
 * (omit_empty). */
static bool write_node(const struct format *f, const struct format_node *n,
                       const struct format_cx *cx, struct sb *out)
{
    switch (n->kind) {
    case FORMAT_NODE_RAW: sb_add(out, n->raw); return true;
    case FORMAT_NODE_TEXT:
        if (n->part_count != 1 || !n->parts[0].op) {
            write_mixed(f, n, cx, out);
            return true;
        }
        if (write_typed(&n->parts[0], cx, out)) return true;
        if (f->omit_empty) return false;
        sb_add(out, STR("null"));
        return true;
    case FORMAT_NODE_OBJECT:
    case FORMAT_NODE_LIST: break;
    }
    size_t start = out->len;
    bool object = n->kind == FORMAT_NODE_OBJECT, any = false;
    sb_char(out, object ? '{' : '[');
    for (size_t i = 0; i < n->count; i++) {
        size_t before = out->len;
        if (any) sb_char(out, ',');
        sb_add(out, n->children[i].key);
        if (write_node(f, &n->children[i], cx, out))
            any = true;
        else
            out->len = before;
    }
    if (!any && f->omit_empty && object && n != &f->root && n->count) {
        out->len = start;
        return false;
    }
    sb_char(out, object ? '}' : ']');
    return true;
}

void format_write(const struct format *f, const struct stream_info *info, enum access_log_type type,
                  struct sb *out)
{
    struct format_cx cx = format_context(info, type);
    if (!f->json) {
        write_text(f->parts, f->count, f->omit_empty, &cx, out);
        return;
    }
    (void)write_node(f, &f->root, &cx, out);
    sb_char(out, '\n');
}

void format_text(const struct format *f, const struct stream_info *info, struct sb *out)
{
    format_write(f, info, ACCESS_LOG_TYPE_NONE, out);
}

struct str format_dup(const struct format *f, const struct stream_info *info, struct arena *a)
{
    if (f->literal.ptr) return f->literal;
    if (!f->json && f->count == 1) { /* a lone operator: no buffer needed */
        struct format_cx cx = format_context(info, ACCESS_LOG_TYPE_NONE);
        struct format_result r;
        cx.scratch = a;
        format_eval(&f->parts[0], &cx, &r);
        if (r.kind == FORMAT_STRING) return str_dup(a, r.text);
        if (r.kind == FORMAT_NOTHING) return f->omit_empty ? STR_NONE : STR("-");
    }
    struct sb out = {0};
    format_text(f, info, &out);
    struct str s = str_dup(a, sb_str(&out));
    sb_release(&out);
    return s;
}

struct str format_literal(const struct format *f)
{
    return f->literal;
}

struct str format_content_type(const struct format *f)
{
    return f->content_type;
}
