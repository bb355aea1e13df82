/* envoy.access_loggers.file: one line an entry, to a file. */
#include "base/arena.h"
#include "envoy/extensions/access_loggers/file/v3/file.pb-c.h"
#include "filters/access_loggers/sink.h"

/* The deprecated forms of the format; NULL: told. */
static const struct format *file_format(
    const struct conf_at *at, const Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog *m)
{
    struct arena *a = conf_arena(at);
    const struct format *f = NULL;
    struct str why = STR_NONE;
    const char *field = "format";
    switch ((int)m->access_log_format_case) {
    case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_FORMAT:
        if (!m->format[0]) return format_default(a);
        f = format_parse(a, str_dup(a, str_of(m->format)), false, &why);
        break;
    case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_JSON_FORMAT:
        field = "json_format";
        f = format_parse_json(a, conf_struct(a, m->json_format), false, &why);
        break;
    case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_TYPED_JSON_FORMAT:
        field = "typed_json_format";
        f = format_parse_json(a, conf_struct(a, m->typed_json_format), false, &why);
        break;
    case ENVOY__EXTENSIONS__ACCESS_LOGGERS__FILE__V3__FILE_ACCESS_LOG__ACCESS_LOG_FORMAT_LOG_FORMAT: {
        struct conf_at here = conf_field(at, "log_format");
        return conf_format(&here, m->log_format);
    }
    default: return format_default(a);
    }
    struct conf_at here = conf_field(at, field);
    if (!f) (void)conf_fail(&here, "%.*s", STR_ARG(why));
    return f;
}

static const void *file_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog *m =
        (const Envoy__Extensions__AccessLoggers__File__V3__FileAccessLog *)msg;
    struct conf_at path = conf_field(at, "path");
    struct sink_conf *c = ARENA_NEW(conf_arena(at), struct sink_conf);
    c->format = file_format(at, m);
    c->file = c->format ? log_file_open(&path, str_of(m->path)) : NULL;
    return c->file ? c : NULL;
}

const struct access_logger_type file_access_logger = {
    .ext = {.name = "envoy.access_loggers.file",
            .config = &envoy__extensions__access_loggers__file__v3__file_access_log__descriptor},
    .conf_create = file_conf_create,
    .log = sink_log,
};
