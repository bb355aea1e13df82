/* /config_dump: which sections, and which of their parts; the text is written in steps. */
#include "base/arena.h"
#include "base/regex.h"
#include "proto/decode.h"
#include "proto/print.h"
#include "server/admin_dump.h"
#include "server/admin_internal.h"

/* --- writing: {"configs": [ each message with its @type ]}
 * ---------------------------------------------------------------------- */

enum {
    STEP_BYTES = 64 * 1024, /* a step ends when its piece has as many */
    FIELD_DEPTH = 3         /* of a message's fields in the text */
};

/* A page under way, in the request's arena. */
struct dump_page {
    ProtobufCMessage *const *messages;
    size_t count;
    size_t message, field, element; /* what comes next; field 0 of an open message: its first */
    bool open, in_list;             /* the message has its head, the list its bracket */
};

static struct print_opts opts_at(unsigned depth)
{
    struct print_opts opts = admin_print_opts;
    opts.depth = depth;
    return opts;
}

static void new_line(struct sb *out, unsigned depth)
{
    sb_char(out, '\n');
    for (unsigned i = 0; i < depth; i++)
        sb_char(out, ' ');
}

/* The next element of a list of messages, or its end. */
static void write_element(struct dump_page *p, struct sb *out, const ProtobufCMessage *m)
{
    const ProtobufCFieldDescriptor *f = &m->descriptor->fields[p->field];
    struct print_opts opts = opts_at(FIELD_DEPTH + 1);
    if (!p->in_list) sb_fmt(out, "\"%s\": [", f->name);
    p->in_list = p->element < proto_field_count(m, f);
    if (p->in_list) {
        if (p->element) sb_char(out, ',');
        new_line(out, FIELD_DEPTH + 1);
        print_json(out, proto_field_message(m, f, p->element++), &opts);
        return;
    }
    new_line(out, FIELD_DEPTH);
    sb_char(out, ']');
    p->element = 0;
    p->field++;
}

static bool is_message_list(const ProtobufCMessage *m, size_t field)
{
    const struct proto_type *type = proto_type_of(m->descriptor);
    const ProtobufCFieldDescriptor *f = &m->descriptor->fields[field];
    return f->label == PROTOBUF_C_LABEL_REPEATED && f->type == PROTOBUF_C_TYPE_MESSAGE &&
           !type->fields[field].map && !type->fields[field].sensitive;
}

/* The next field of a message, element of its list, or its end. */
static void write_part(struct dump_page *p, struct sb *out, const ProtobufCMessage *m)
{
    const struct proto_type *type = proto_type_of(m->descriptor);
    struct print_opts opts = opts_at(FIELD_DEPTH);
    while (p->field < m->descriptor->n_fields && !proto_field_set(m, type, p->field))
        p->field++;
    if (p->field == m->descriptor->n_fields) {
        new_line(out, FIELD_DEPTH - 1);
        sb_char(out, '}');
        p->open = false;
        p->field = 0;
        p->message++;
        return;
    }
    if (!p->in_list) {
        sb_char(out, ',');
        new_line(out, FIELD_DEPTH);
    }
    if (is_message_list(m, p->field))
        write_element(p, out, m);
    else
        print_json_field(out, m, p->field++, &opts);
}

static void write_head(struct dump_page *p, struct sb *out, const ProtobufCMessage *m)
{
    if (p->message) sb_char(out, ',');
    new_line(out, FIELD_DEPTH - 1);
    sb_char(out, '{');
    new_line(out, FIELD_DEPTH);
    sb_fmt(out, "\"@type\": \"type.googleapis.com/%s\"", m->descriptor->name);
    p->open = true;
}

static bool page_more(struct admin_request *r)
{
    struct dump_page *p = r->cursor;
    while (p->message < p->count && r->out.len < STEP_BYTES) {
        const ProtobufCMessage *m = p->messages[p->message];
        if (p->open)
            write_part(p, &r->out, m);
        else
            write_head(p, &r->out, m);
    }
    if (p->message < p->count) return true;
    sb_add(&r->out, STR("\n ]\n}\n"));
    return false;
}

/* Begins the answer; the array is copied. */
static void answer(struct admin_request *r, ProtobufCMessage *const *messages, size_t count)
{
    struct dump_page *p = ARENA_NEW(r->arena, struct dump_page);
    r->content_type = ADMIN_JSON;
    if (count == 0) {
        sb_add(&r->out, STR("{}\n"));
        return;
    }
    p->messages = arena_copy(r->arena, messages, count * sizeof(*messages));
    p->count = count;
    r->cursor = p;
    r->more = page_more;
    sb_add(&r->out, STR("{\n \"configs\": ["));
}

/* --- the page
 * ------------------------------------------------------------------------------------------------------------------
 */

static void refuse(struct admin_request *r, uint32_t status, struct str text)
{
    admin_error(r, status, "%.*s", STR_ARG(text));
    r->content_type = "text/plain";
    r->nosniff_twice = true;
}

/* ?mask= alone: the sections in which all of its paths exist. */
static void masked_sections(struct admin_request *r, ProtobufCMessage **sections, size_t count,
                            struct str mask_text)
{
    struct admin_mask mask = admin_mask_parse(r->arena, mask_text);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        ProtobufCMessage *copy =
            proto_dup(r->arena, sections[i]); /* the bootstrap's own message must not be cut */
        if (admin_mask_trim(r->arena, copy, &mask)) sections[kept++] = copy;
    }
    if (kept == 0) {
        refuse(r, 400,
               str_fmt(r->arena, "FieldMask %.*s could not be successfully applied to any configs.",
                       STR_ARG(mask_text)));
        return;
    }
    answer(r, sections, kept);
}

static struct str mask_words(struct arena *a, const struct admin_mask *mask)
{
    struct str out = STR("FieldMask ");
    for (size_t i = 0; i < mask->count; i++)
        out = str_fmt(a, "%.*spaths: \"%.*s\"\n", STR_ARG(out), STR_ARG(mask->paths[i]));
    return str_cat(a, out, STR(" could not be successfully used."));
}

/* ?resource=: the elements of that repeated field. True: the section has it, and the answer is
 * made. */
static bool resource_of(struct admin_request *r, const ProtobufCMessage *section,
                        struct str resource, struct str mask_text)
{
    const struct proto_type *type = proto_type_of(section->descriptor);
    size_t idx = proto_field_by_name(type, resource);
    if (idx == SIZE_MAX) return false;
    const ProtobufCFieldDescriptor *f = &section->descriptor->fields[idx];
    if (f->label != PROTOBUF_C_LABEL_REPEATED) {
        refuse(r, 400,
               str_fmt(r->arena,
                       "%.*s is not a repeated field. Use ?mask=%.*s to get only this field",
                       STR_ARG(resource), STR_ARG(resource)));
        return true;
    }
    struct admin_mask mask = admin_mask_parse(r->arena, mask_text);
    size_t count = proto_field_count(section, f);
    ProtobufCMessage **elements = ARENA_ARRAY(r->arena, ProtobufCMessage *, count);
    for (size_t i = 0; i < count; i++) {
        elements[i] = (ProtobufCMessage *)(uintptr_t)proto_field_message(section, f, i);
        if (mask.count && !admin_mask_trim(r->arena, elements[i], &mask)) {
            refuse(r, 400, mask_words(r->arena, &mask));
            return true;
        }
    }
    answer(r, elements, count);
    return true;
}

void admin_page_config_dump(struct admin_request *r)
{
    struct str resource = admin_param(r, "resource"), mask = admin_param(r, "mask"),
               pattern = admin_param(r, "name_regex"), why;
    const struct regex *filter = NULL;
    ProtobufCMessage *sections[DUMP_SECTIONS_MOST];
    if (pattern.len) {
        filter = regex_new(r->arena, pattern, &why);
        if (!filter) {
            refuse(r, 400,
                   str_fmt(r->arena,
                           "INVALID_ARGUMENT: Error while parsing name_regex from %.*s: %.*s",
                           STR_ARG(pattern), STR_ARG(why)));
            r->nosniff_twice = false;
            return;
        }
    }
    size_t count = dump_sections(r, filter, sections);
    if (resource.len) {
        for (size_t i = 0; i < count; i++)
            if (resource_of(r, sections[i], resource, mask)) return;
        refuse(r, 404, str_fmt(r->arena, "%.*s not found in config dump", STR_ARG(resource)));
        return;
    }
    if (mask.len)
        masked_sections(r, sections, count, mask);
    else
        answer(r, sections, count);
}
