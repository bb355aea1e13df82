/* Bytes as a format and as what peers said: "kind format NUL path NUL header". A JSON line must
 * stay JSON, a text line one line. */
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/must.h"
#include "google/protobuf/struct.pb-c.h"
#include "proto/json.h"
#include "proxy/api/format.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct str next_text(struct str *rest)
{
    struct str s = STR_NONE;
    (void)str_next(rest, '\0', &s);
    return s;
}

static struct str written(struct arena *a, const struct format *f, const struct stream_info *info)
{
    struct sb out = {0};
    format_write(f, info, ACCESS_LOG_TYPE_DOWNSTREAM_END, &out);
    struct str s = str_dup(a, sb_str(&out));
    sb_release(&out);
    return s;
}

static void as_json(struct arena *a, struct str text, const struct stream_info *info, bool omit)
{
    struct value item = {.kind = VALUE_STRING, .u.text = text};
    struct value_field fields[] = {{STR("a"), item},
                                   {STR("b"), {.kind = VALUE_LIST, .u.list = {&item, 1}}}};
    struct value object = {.kind = VALUE_STRUCT, .u.fields = {fields, 2}};
    struct errors errors = {.arena = a};
    struct str why;
    const struct format *f = format_parse_json(a, &object, omit, &why);
    if (!f) return;
    struct str line = written(a, f, info);
    must(line.len > 0 && str_find_char(line, '\n') == line.len - 1);
    if (str_find(line, STR("\\u0000")) != SIZE_MAX) return; /* JSON, but our reader takes no NUL */
    must(json_read(a, &google__protobuf__struct__descriptor, line, JSON_FORMAT_JSON, NULL, NULL,
                   &errors) != NULL);
}

static void as_text(struct arena *a, struct str text, const struct stream_info *info, bool header)
{
    struct str why;
    const struct format *f =
        header ? format_parse_header(a, text, &why) : format_parse(a, text, false, &why);
    if (!f) return;
    struct str line = written(a, f, info);
    bool own = false; /* line ends that the format has itself are fine */
    for (size_t i = 0; i < text.len; i++)
        own = own || (unsigned char)text.ptr[i] < 0x20 || text.ptr[i] == '%';
    for (size_t i = 0; !own && i < line.len; i++)
        must((unsigned char)line.ptr[i] >= 0x20);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct arena *a = arena_new("fuzz", 0);
    struct str rest = str_make((const char *)data + 1, size - 1);
    struct str text = next_text(&rest), path = next_text(&rest), value = next_text(&rest);
    struct conn_info conn = {.id = 1, .sni = value};
    struct stream_info info = {.arena = a,
                               .conn = &conn,
                               .start_us = 1,
                               .end_us = 5000,
                               .response_code = 200,
                               .code_details = value};
    info.start_wall_us = 1795972168639181;
    info.req = headers_new(a);
    headers_add(info.req, STR(":path"), path);
    headers_add(info.req, STR("x"), value);
    headers_add(info.req, STR("x-forwarded-client-cert"), value);
    struct value dynamic = {.kind = VALUE_STRING, .u.text = value};
    metadata_set(&info.dynamic, a, STR("n"), STR("k"), &dynamic);
    switch (data[0] % 4) {
    case 0: as_text(a, text, &info, false); break;
    case 1: as_text(a, text, &info, true); break;
    case 2: as_json(a, text, &info, false); break;
    default: as_json(a, text, &info, true); break;
    }
    arena_free(&a);
    return 0;
}
