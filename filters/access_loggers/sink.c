/* Loggers that write lines. */
#include "filters/access_loggers/sink.h"

void sink_log(struct worker *w, const void *conf, const struct stream_info *info,
              enum access_log_type type)
{
    const struct sink_conf *c = conf;
    struct sb *out = log_file_begin(w, c->file);
    if (!out) return;
    format_write(c->format, info, type, out);
    log_file_end(w, c->file);
}
