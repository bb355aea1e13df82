/* Translation of `access_log` fields. Main thread only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "proxy/api/access_logger.h"

struct Envoy__Config__Accesslog__V3__AccessLog;

/* `field` is the repeated field of the message at `at` ("access_log"). In conf_arena(at); NULL with
 * *ok true when there are none, NULL with *ok false when a mistake was told. */
const struct access_log_list *translate_access_logs(
    const struct conf_at *at, const char *field, size_t n,
    struct Envoy__Config__Accesslog__V3__AccessLog *const *v, bool *ok);
struct access_filter;
struct Envoy__Config__Accesslog__V3__AccessLogFilter;
/* A filter by itself (the mappers of local_reply_config); NULL: told. */
const struct access_filter *translate_access_log_filter(
    const struct conf_at *at, const struct Envoy__Config__Accesslog__V3__AccessLogFilter *m);
