/* Reading the values of one runtime layer: structs, text, files. */
#include "xds/layers_read.h"

#include <dirent.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/watch.h"
#include "envoy/service/runtime/v3/rtds.pb-c.h"
#include "google/protobuf/struct.pb-c.h"
#include "proxy/runtime/values.h"

enum { LAYER_DEPTH = 32, LAYER_FILE_MOST = 1 << 20 };

void layer_map_release(void *map)
{
    map_release(map);
}

static void layer_put(struct arena *a, struct str key, const struct runtime_value *v,
                      struct map *to)
{
    (void)map_put(to, str_dup(a, key),
                  arena_copy(a, v, sizeof *v)); /* what was there is the arena's */
}

void layer_read_text(struct arena *a, struct str key, struct str text, struct map *to)
{
    struct runtime_value v = {.text = str_dup(a, text)};
    v.has_number = str_to_double(text, &v.number);
    v.has_bool = str_case_eq(text, STR("true")) || str_case_eq(text, STR("false"));
    v.boolean = v.has_bool && str_case_eq(text, STR("true"));
    layer_put(a, key, &v, to);
}

static const Google__Protobuf__Value *struct_field(const Google__Protobuf__Struct *s,
                                                   const char *name)
{
    for (size_t i = 0; i < s->n_fields; i++)
        if (strcmp(s->fields[i]->key, name) == 0) return s->fields[i]->value;
    return NULL;
}

/* {numerator: 5, denominator: TEN_THOUSAND} */
static bool layer_fraction(struct arena *a, const Google__Protobuf__Struct *s,
                           struct runtime_value *v)
{
    const Google__Protobuf__Value *n = struct_field(s, "numerator"),
                                  *d = struct_field(s, "denominator");
    if (!n || n->kind_case != GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE || s->n_fields > 2 ||
        (s->n_fields == 2 && !d))
        return false;
    struct str name = d && d->kind_case == GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE
                          ? str_of(d->string_value)
                          : STR("HUNDRED");
    v->has_fraction = true;
    v->numerator = (uint32_t)n->number_value;
    v->denominator = str_eq(name, STR("MILLION"))        ? 1000000
                     : str_eq(name, STR("TEN_THOUSAND")) ? 10000
                                                         : 100;
    v->text =
        str_fmt(a, "{\"denominator\":\"%.*s\",\"numerator\":%u}", STR_ARG(name), v->numerator);
    return true;
}

static void layer_read_level(struct arena *a, struct str prefix, const Google__Protobuf__Struct *s,
                             struct map *to, int depth);

static void layer_read_value(struct arena *a, struct str key, const Google__Protobuf__Value *value,
                             struct map *to, int depth)
{
    struct runtime_value v = {0};
    switch (value->kind_case) {
    case GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE:
        v.has_number = true;
        v.number = value->number_value;
        v.text = str_fmt(a, "%.15g", value->number_value);
        layer_put(a, key, &v, to);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE:
        v.has_bool = true;
        v.boolean = value->bool_value;
        v.text = value->bool_value ? STR("true") : STR("false");
        layer_put(a, key, &v, to);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE:
        layer_read_text(a, key, str_of(value->string_value), to);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE:
        if (layer_fraction(a, value->struct_value, &v))
            layer_put(a, key, &v, to);
        else if (depth < LAYER_DEPTH)
            layer_read_level(a, str_fmt(a, "%.*s.", STR_ARG(key)), value->struct_value, to,
                             depth + 1);
        return;
    case GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE: /* lists and nulls have no meaning as runtime
                                                      values */
    case GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE:
    case GOOGLE__PROTOBUF__VALUE__KIND__NOT_SET:
    default: return;
    }
}

static void layer_read_level(struct arena *a, struct str prefix, const Google__Protobuf__Struct *s,
                             struct map *to, int depth)
{
    for (size_t i = 0; i < s->n_fields; i++)
        if (s->fields[i]->value)
            layer_read_value(a, str_cat(a, prefix, str_of(s->fields[i]->key)), s->fields[i]->value,
                             to, depth);
}

void layer_read_struct(struct arena *a, const struct Google__Protobuf__Struct *s, struct map *to)
{
    layer_read_level(a, STR(""), s, to, 0);
}

void layer_read_runtime(struct arena *a, const ProtobufCMessage *runtime, struct map *to)
{
    const Envoy__Service__Runtime__V3__Runtime *m =
        (const Envoy__Service__Runtime__V3__Runtime *)runtime;
    if (m && m->layer) layer_read_struct(a, m->layer, to);
}

static void layer_read_entry(struct arena *a, struct str path, struct str key, struct map *to,
                             int depth);

static bool layer_read_level_files(struct arena *a, struct str dir, struct str prefix,
                                   struct map *to, int depth)
{
    DIR *d = opendir(str_z(a, dir));
    if (!d) return false;
    for (const struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        struct str name = str_of(e->d_name);
        layer_read_entry(a, str_fmt(a, "%.*s/%.*s", STR_ARG(dir), STR_ARG(name)),
                         str_cat(a, prefix, name), to, depth);
    }
    closedir(d);
    return true;
}

static void layer_read_entry(struct arena *a, struct str path, struct str key, struct map *to,
                             int depth)
{
    struct stat st;
    struct str text;
    if (stat(str_z(a, path), &st) != 0) return; /* gone again: as if it had not been listed */
    if (S_ISDIR(st.st_mode)) {
        if (depth < LAYER_DEPTH)
            (void)layer_read_level_files(a, path, str_cat(a, key, STR(".")), to, depth + 1);
    } else if (file_read(a, str_z(a, path), LAYER_FILE_MOST, &text) == 0) {
        layer_read_text(a, key, str_trim(text), to);
    }
}

bool layer_read_directory(struct arena *a, struct str dir, struct map *to)
{
    return layer_read_level_files(a, dir, STR(""), to, 0);
}
