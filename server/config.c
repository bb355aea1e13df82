/* Reading the bootstrap. */
#include "server/config.h"

#include "base/arena.h"
#include "base/errors.h"
#include "base/watch.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proto/source.h"

enum { CONFIG_MOST = 1 << 30 }; /* bytes of a bootstrap file */

static const ProtobufCMessageDescriptor *const desc =
    &envoy__config__bootstrap__v3__bootstrap__descriptor;

static ProtobufCMessage *config_text(struct config *c, struct str name, struct str text,
                                     enum json_format format, const struct proto_opts *opts,
                                     struct errors *errors)
{
    c->sources[c->source_count++] = source_new(name, text, format);
    return json_read(c->arena, desc, text, format, str_z(c->arena, name), opts, errors);
}

/* The suffix tells the format; what has none (a FIFO of a launcher) is YAML, of which JSON is a
 * part. */
static ProtobufCMessage *config_file_text(struct config *c, const char *path, struct str text,
                                          const struct proto_opts *opts, struct errors *errors)
{
    struct str name = str_of(path);
    if (str_ends(name, STR(".pb"))) return proto_unpack(c->arena, desc, text, opts, NULL, errors);
    if (str_ends(name, STR(".pb_text"))) {
        (void)errors_add(errors, STR_NONE,
                         "%s: the protobuf text format is not supported; use YAML, JSON or .pb",
                         path);
        return NULL;
    }
    enum json_format format = JSON_FORMAT_YAML;
    if (!json_format_of(name, &format)) {
        struct str start = str_trim(str_sub(text, 0, 256));
        format = start.len && start.ptr[0] == '{' ? JSON_FORMAT_JSON : JSON_FORMAT_YAML;
    }
    return config_text(c, name, text, format, opts, errors);
}

static ProtobufCMessage *config_file(struct config *c, const char *path,
                                     const struct proto_opts *opts, struct errors *errors)
{
    struct arena *scratch = arena_new("bootstrap text", 0);
    struct str text;
    ProtobufCMessage *m = NULL;
    int err = file_read(scratch, path, CONFIG_MOST, &text);
    if (err < 0)
        (void)errors_add(errors, STR_NONE, "unable to read file: %s: %s", path, strerror(-err));
    else
        m = config_file_text(c, path, text, opts, errors);
    arena_free(&scratch);
    return m;
}

bool config_read(struct config *c, const struct options *o, const struct proto_opts *opts,
                 struct arena *a, struct errors *errors)
{
    ProtobufCMessage *file = NULL, *inline_yaml = NULL;
    *c = (struct config){.arena = a, .name = o->config_path ? o->config_path : "<inline>"};
    if (!o->config_path && !o->config_yaml)
        return errors_add(errors, STR_NONE,
                          "no configuration: give --config-path FILE or --config-yaml YAML");
    if (o->config_path && !(file = config_file(c, o->config_path, opts, errors))) return false;
    if (o->config_yaml) {
        inline_yaml =
            config_text(c, STR("<inline>"), str_of(o->config_yaml), JSON_FORMAT_YAML, opts, errors);
        if (!inline_yaml) return false;
    }
    ProtobufCMessage *all = file && inline_yaml ? json_merge(a, file, inline_yaml)
                            : file              ? file
                                                : inline_yaml;
    c->bootstrap = (Envoy__Config__Bootstrap__V3__Bootstrap *)all;
    if (proto_check(all, opts, NULL, errors)) return true;
    config_locate(c, errors);
    return false;
}

void config_locate(struct config *c, struct errors *errors)
{
    if (c->source_count) source_locate_errors(c->sources, c->source_count, errors);
}

void config_release(struct config *c)
{
    for (size_t i = 0; i < c->source_count; i++)
        source_free(&c->sources[i]);
    c->source_count = 0;
}
