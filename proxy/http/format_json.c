/* JSON strings. */
#include "proxy/http/format_json.h"

#include "base/text.h"

static void escape_byte(struct sb *out, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
    sb_add(out, str_make(text, sizeof text));
}

static void escape_valid(struct sb *out, unsigned char c)
{
    switch (c) {
    case '"': sb_add(out, STR("\\\"")); return;
    case '\\': sb_add(out, STR("\\\\")); return;
    case '\n': sb_add(out, STR("\\n")); return;
    case '\r': sb_add(out, STR("\\r")); return;
    case '\t': sb_add(out, STR("\\t")); return;
    case '\b': sb_add(out, STR("\\b")); return;
    case '\f': sb_add(out, STR("\\f")); return;
    default: escape_byte(out, c);
    }
}

static bool needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\' || c == 0x7f;
}

void json_string_content(struct sb *out, struct str s)
{
    size_t from = 0;
    bool high = false;
    for (size_t i = 0; i < s.len && !high; i++)
        high = (unsigned char)s.ptr[i] >= 0x80;
    bool valid = !high || utf8_valid(s);
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (!needs_escape(c) && (valid || c < 0x80)) continue;
        sb_add(out, str_make(s.ptr + from, i - from));
        from = i + 1;
        if (valid)
            escape_valid(out, c);
        else
            escape_byte(out, c);
    }
    sb_add(out, str_make(s.ptr + from, s.len - from));
}

void json_string(struct sb *out, struct str s)
{
    sb_char(out, '"');
    if (s.len) json_string_content(out, s);
    sb_char(out, '"');
}
