/* The application log: Envoy's levels and line format, any thread may write. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include "base/str.h"

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_CRITICAL, LOG_OFF };
/* Component loggers, named as Envoy's (admin /logging, --component-log-level). */
enum log_component {
    LOG_C_ADMIN,
    LOG_C_CONFIG,
    LOG_C_CONNECTION,
    LOG_C_CONN_HANDLER,
    LOG_C_DNS,
    LOG_C_FILE,
    LOG_C_FILTER,
    LOG_C_GRPC,
    LOG_C_HC,
    LOG_C_HTTP,
    LOG_C_HTTP2,
    LOG_C_INIT,
    LOG_C_IO,
    LOG_C_MAIN,
    LOG_C_MISC,
    LOG_C_POOL,
    LOG_C_ROUTER,
    LOG_C_RUNTIME,
    LOG_C_SECRET,
    LOG_C_STATS,
    LOG_C_TESTING,
    LOG_C_UPSTREAM,
    LOG_COMPONENTS
};

/* Writes one line to stderr (or the log file): "[date time][tid][level][component] [file:line]
 * text". Control bytes from peers in the text are escaped. */
void log_write(enum log_component c, enum log_level level, const char *file, int line,
               const char *fmt, ...) __attribute__((format(printf, 5, 6)));
bool log_enabled(enum log_component c, enum log_level level);
#define log_at(c, level, ...)                                                                    \
    do {                                                                                         \
        if (log_enabled((c), (level))) log_write((c), (level), __FILE__, __LINE__, __VA_ARGS__); \
    } while (0)
#define log_error(c, ...) log_at((c), LOG_ERROR, __VA_ARGS__)
#define log_warn(c, ...) log_at((c), LOG_WARN, __VA_ARGS__)
#define log_info(c, ...) log_at((c), LOG_INFO, __VA_ARGS__)
#define log_debug(c, ...) log_at((c), LOG_DEBUG, __VA_ARGS__)
#define log_trace(c, ...) log_at((c), LOG_TRACE, __VA_ARGS__)

/* Main thread. Levels are atomics; the level names are Envoy's (trace debug info warning|warn error
 * critical off). */
bool log_level_parse(struct str name, enum log_level *out);
const char *log_level_name(enum log_level l);
void log_set_level(enum log_level l); /* all components */
void log_set_component(enum log_component c, enum log_level l);
enum log_level log_get_component(enum log_component c);
bool log_component_parse(struct str name, enum log_component *out);
const char *log_component_name(enum log_component c);
/* Opens the file for appending and logs there from now on; negative errno on failure. NULL path:
 * stderr. */
int log_open(const char *path);
/* SIGUSR1: opens the same path again. */
int log_reopen(void);
