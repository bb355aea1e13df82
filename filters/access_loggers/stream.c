/* envoy.access_loggers.stdout and stderr: one line an entry, to the process's own output. */
#include <unistd.h>

#include "base/arena.h"
#include "envoy/extensions/access_loggers/stream/v3/stream.pb-c.h"
#include "filters/access_loggers/sink.h"

static const void *stream_conf(
    const struct conf_at *at,
    const struct Envoy__Config__Core__V3__SubstitutionFormatString *format, int fd)
{
    struct sink_conf *c = ARENA_NEW(conf_arena(at), struct sink_conf);
    struct conf_at here = conf_field(at, "log_format");
    c->format = format ? conf_format(&here, format) : format_default(conf_arena(at));
    c->file = c->format ? log_file_standard(at, fd) : NULL;
    return c->file ? c : NULL;
}

static const void *stdout_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__AccessLoggers__Stream__V3__StdoutAccessLog *m =
        (const Envoy__Extensions__AccessLoggers__Stream__V3__StdoutAccessLog *)msg;
    return stream_conf(at, m && m->access_log_format_case ? m->log_format : NULL, STDOUT_FILENO);
}

static const void *stderr_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__AccessLoggers__Stream__V3__StderrAccessLog *m =
        (const Envoy__Extensions__AccessLoggers__Stream__V3__StderrAccessLog *)msg;
    return stream_conf(at, m && m->access_log_format_case ? m->log_format : NULL, STDERR_FILENO);
}

const struct access_logger_type stdout_access_logger = {
    .ext = {.name = "envoy.access_loggers.stdout",
            .config =
                &envoy__extensions__access_loggers__stream__v3__stdout_access_log__descriptor},
    .conf_create = stdout_conf_create,
    .log = sink_log,
};
const struct access_logger_type stderr_access_logger = {
    .ext = {.name = "envoy.access_loggers.stderr",
            .config =
                &envoy__extensions__access_loggers__stream__v3__stderr_access_log__descriptor},
    .conf_create = stderr_conf_create,
    .log = sink_log,
};
