/* Arguments of operators. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/text.h"
#include "proxy/http/format_internal.h"

/* Says why, with the text that is wrong. False. */
static bool fail(struct arena *a, struct str *why, const char *before, struct str text,
                 const char *after)
{
    *why = str_fmt(a, "%s%.*s%s", before, STR_ARG(text), after);
    return false;
}

bool parse_time(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)why;
    bool local = p->op->n == N_START_LOCAL || p->op->n == N_EMIT_LOCAL;
    p->time = time_format_parse(a, arg, local);
    return true;
}

bool parse_cert_time(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)why;
    p->time = time_format_parse(a, arg.len ? arg : STR("%Y-%m-%dT%H:%M:%S.000Z"), false);
    return true;
}

static bool header_name_ok(struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool token = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c && strchr("!#$%&'*+-.^_`|~:", c));
        if (!token) return false;
    }
    return true;
}

bool parse_header(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    struct str name = arg, other = STR_NONE;
    if (str_cut(arg, '?', &name, &other) && str_find_char(other, '?') != SIZE_MAX) {
        return fail(a, why, "More than 1 alternative header specified in token: ", arg, "");
    }
    if (!header_name_ok(name) || !header_name_ok(other)) {
        return fail(a, why,
                    "Invalid header configuration. Format string contains invalid characters.",
                    STR_NONE, "");
    }
    p->name = str_dup_lower(a, name);
    p->other = str_dup_lower(a, other);
    if (str_eq(p->name, STR("host"))) p->name = STR(":authority");
    if (str_eq(p->other, STR("host"))) p->other = STR(":authority");
    p->id = (uint16_t)header_id_of(p->name);
    p->other_id = (uint16_t)header_id_of(p->other);
    return true;
}

bool parse_details(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)a;
    (void)why;
    p->choice = str_eq(arg, STR("ALLOW_WHITESPACES"));
    return true;
}

/* Envoy takes any text here; one that is no number masks nothing. */
bool parse_bits(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)a;
    (void)why;
    p->bits = UINT32_MAX;
    if (arg.len && !str_to_u32(arg, &p->bits)) p->bits = UINT32_MAX;
    return true;
}

bool parse_name(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)why;
    p->name = str_dup(a, arg);
    return true;
}

bool parse_query_params(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    p->choice = str_eq(arg, STR("DECODED"));
    if (!arg.len || p->choice || str_eq(arg, STR("ORIG"))) return true;
    return fail(a, why, "Invalid QUERY_PARAMS option: '", arg,
                "', only 'ORIG'/'DECODED' are allowed");
}

/* choice: without the query; choice2: 0 original or path, 1 original, 2 path. */
bool parse_path(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    struct str query = STR_NONE, which = STR_NONE, rest = arg;
    (void)str_next(&rest, ':', &query);
    (void)str_next(&rest, ':', &which);
    if (str_eq(query, STR("NQ")))
        p->choice = 1;
    else if (query.len && !str_eq(query, STR("WQ"))) {
        return fail(a, why, "Invalid PATH option: '", query, "', only 'WQ'/'NQ' are allowed");
    }
    if (str_eq(which, STR("ORIG")))
        p->choice2 = 1;
    else if (str_eq(which, STR("PATH")))
        p->choice2 = 2;
    else if (which.len && !str_eq(which, STR("ORIG_OR_PATH"))) {
        return fail(a, why, "Invalid PATH option: '", which,
                    "', only 'ORIG'/'PATH'/'ORIG_OR_PATH' are allowed");
    }
    return true;
}

bool parse_grpc(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    if (!arg.len || str_eq(arg, STR("CAMEL_STRING")))
        p->choice = 0;
    else if (str_eq(arg, STR("SNAKE_STRING")))
        p->choice = 1;
    else if (str_eq(arg, STR("NUMBER")))
        p->choice = 2;
    else
        return fail(a, why,
                    "GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: ",
                    arg, "");
    return true;
}

bool parse_metadata_path(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)why;
    size_t colons = 0;
    for (size_t i = 0; i < arg.len; i++)
        colons += arg.ptr[i] == ':';
    struct str *path = ARENA_ARRAY(a, struct str, colons + 1);
    struct str rest = arg, part;
    if (str_next(&rest, ':', &part)) p->name = str_dup(a, part);
    while (str_next(&rest, ':', &part))
        path[p->path_count++] = str_dup(a, part);
    p->path = path;
    if (p->op) p->choice = p->op->n;
    return true;
}

bool parse_metadata(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    static const char *const types[] = {"DYNAMIC",       "CLUSTER",  "ROUTE",
                                        "UPSTREAM_HOST", "LISTENER", "LISTENER_FILTER_CHAIN",
                                        "VIRTUAL_HOST"};
    struct str type = arg, rest = STR_NONE;
    (void)str_cut(arg, ':', &type, &rest);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (!str_eq(type, str_of(types[i]))) continue;
        (void)parse_metadata_path(a, p, rest, why);
        p->choice = (int)i;
        return true;
    }
    return fail(a, why, "", type, " is not supported type of metadata");
}

/* choice: 0 as it is, 1 PLAIN, 2 TYPED, 3 FIELD (its name in `other`). */
bool parse_filter_state(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    struct str key = STR_NONE, how = STR_NONE, field = STR_NONE, rest = arg;
    (void)str_next(&rest, ':', &key);
    (void)str_next(&rest, ':', &how);
    (void)str_next(&rest, ':', &field);
    if (!key.len)
        return fail(a, why, "Invalid filter state configuration, key cannot be empty.", STR_NONE,
                    "");
    if (str_eq(how, STR("PLAIN")))
        p->choice = 1;
    else if (str_eq(how, STR("FIELD")))
        p->choice = 3;
    else if (how.len && !str_eq(how, STR("TYPED"))) {
        return fail(a, why, "Invalid filter state serialize type, only support PLAIN/TYPED/FIELD.",
                    STR_NONE, "");
    } else {
        p->choice = 2;
    }
    if (p->choice == 3 && !field.len) {
        return fail(
            a, why,
            "Invalid filter state serialize type, FIELD should be used with the field name.",
            STR_NONE, "");
    }
    p->name = str_dup(a, key);
    p->other = str_dup(a, field);
    return true;
}

/* choice: 0 SNI_ONLY, 1 SNI_FIRST, 2 HOST_FIRST; choice2: 0 original or host, 1 host, 2 original.
 */
bool parse_server_name(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    struct str how = STR_NONE, host = STR_NONE, rest = arg;
    (void)str_next(&rest, ':', &how);
    (void)str_next(&rest, ':', &host);
    if (str_eq(how, STR("SNI_FIRST")))
        p->choice = 1;
    else if (str_eq(how, STR("HOST_FIRST")))
        p->choice = 2;
    else if (how.len && !str_eq(how, STR("SNI_ONLY"))) {
        return fail(a, why, "Invalid REQUESTED_SERVER_NAME option: '", how,
                    "', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed");
    }
    if (str_eq(host, STR("HOST")))
        p->choice2 = 1;
    else if (str_eq(host, STR("ORIG")))
        p->choice2 = 2;
    else if (host.len && !str_eq(host, STR("ORIG_OR_HOST"))) {
        return fail(a, why, "Invalid REQUESTED_SERVER_NAME option: '", host,
                    "', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed");
    }
    return true;
}

/* name, other: the two points; choice: 0 ms, 1 us, 2 ns. */
bool parse_duration(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    struct str v[3], rest = arg, extra;
    size_t n = 0;
    while (n < 3 && str_next(&rest, ':', &v[n]))
        n++;
    if (n < 2 || str_next(&rest, ':', &extra))
        return fail(a, why, "Invalid common duration configuration: ", arg, ".");
    struct str unit = n == 3 ? v[2] : STR("ms");
    if (str_eq(unit, STR("ms")))
        p->choice = 0;
    else if (str_eq(unit, STR("us")))
        p->choice = 1;
    else if (str_eq(unit, STR("ns")))
        p->choice = 2;
    else
        return fail(a, why, "Invalid common duration precision: ", unit, ".");
    p->name = str_dup(a, v[0]);
    p->other = str_dup(a, v[1]);
    return true;
}

bool parse_environment(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)why;
    const char *v = getenv(str_z(a, arg));
    p->name = v ? str_dup(a, str_of(v)) : STR("-");
    return true;
}

bool parse_hostname(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)arg;
    (void)why;
    char name[256];
    if (gethostname(name, sizeof name) != 0) name[0] = '\0';
    name[sizeof name - 1] = '\0';
    p->name = name[0] ? str_dup(a, str_of(name)) : STR("-");
    return true;
}

bool parse_cel(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    (void)p;
    return fail(a, why, "CEL expressions are not supported: \"", arg, "\"");
}

/* One element of COALESCE: "NAME" or {"command": "NAME", "param": "...", "max_length": n}. */
static bool coalesce_item(struct arena *a, struct format_part *p, const json_t *item, size_t index,
                          struct str *why)
{
    struct str name = STR_NONE, param = STR_NONE, length = STR_NONE;
    if (json_is_string(item)) {
        name = str_of(json_string_value(item));
    } else if (json_is_object(item)) {
        name = str_of(json_string_value(json_object_get(item, "command")));
        param = str_of(json_string_value(json_object_get(item, "param")));
        const json_t *most = json_object_get(item, "max_length");
        if (json_is_integer(most) && json_integer_value(most) > 0) {
            length = str_fmt(a, "%llu", (unsigned long long)json_integer_value(most));
        }
    }
    if (!format_op_find(name) || str_eq(name, STR("COALESCE"))) {
        *why =
            str_fmt(a, "COALESCE: failed to parse operator at index %zu: unknown command: '%.*s'",
                    index, STR_ARG(name));
        return false;
    }
    return format_part_set(a, p, str_dup(a, name), str_dup(a, param), length, 0, why);
}

bool parse_coalesce(struct arena *a, struct format_part *p, struct str arg, struct str *why)
{
    json_t *root = json_loadb(arg.ptr, arg.len, 0, NULL);
    const json_t *list = json_object_get(root, "operators");
    size_t count = json_array_size(list);
    bool ok = false;
    if (!root) {
        *why = STR("COALESCE: failed to parse JSON configuration");
    } else if (!json_is_array(list)) {
        *why = STR("COALESCE: JSON configuration must contain 'operators' array");
    } else if (!count) {
        *why = STR("COALESCE: 'operators' array must not be empty");
    } else {
        struct format_part *v = ARENA_ARRAY(a, struct format_part, count);
        ok = true;
        for (size_t i = 0; ok && i < count; i++)
            ok = coalesce_item(a, &v[i], json_array_get(list, i), i, why);
        p->alternatives = v;
        p->alternative_count = count;
    }
    json_decref(root);
    return ok;
}
