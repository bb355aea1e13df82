/* What loggers that write lines share. */
#pragma once
#include "proxy/api/access_logger.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/log_file.h"

struct sink_conf {
    const struct format *format;
    struct log_file *file;
};
/* Formats an entry straight into the file's buffer. Worker. */
void sink_log(struct worker *w, const void *conf, const struct stream_info *info,
              enum access_log_type type);
