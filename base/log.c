/* The application log. Process-wide state on purpose: any thread may log before and after any
 * server exists. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/must.h"

enum { LOG_PATH_MAX = 4096, LOG_FILE_MODE = 0644 };

/* One name for each component, in the order of the enum. */
static const char *const component_names[LOG_COMPONENTS] = {
    [LOG_C_ADMIN] = "admin",
    [LOG_C_CONFIG] = "config",
    [LOG_C_CONNECTION] = "connection",
    [LOG_C_CONN_HANDLER] = "conn_handler",
    [LOG_C_DNS] = "dns",
    [LOG_C_FILE] = "file",
    [LOG_C_FILTER] = "filter",
    [LOG_C_GRPC] = "grpc",
    [LOG_C_HC] = "hc",
    [LOG_C_HTTP] = "http",
    [LOG_C_HTTP2] = "http2",
    [LOG_C_INIT] = "init",
    [LOG_C_IO] = "io",
    [LOG_C_MAIN] = "main",
    [LOG_C_MISC] = "misc",
    [LOG_C_POOL] = "pool",
    [LOG_C_ROUTER] = "router",
    [LOG_C_RUNTIME] = "runtime",
    [LOG_C_SECRET] = "secret",
    [LOG_C_STATS] = "stats",
    [LOG_C_TESTING] = "testing",
    [LOG_C_UPSTREAM] = "upstream",
};
static const char *const level_names[] = {"trace", "debug",    "info", "warning",
                                          "error", "critical", "off"};

/* Stored level minus LOG_INFO, so that zero is the default. */
static atomic_int log_levels[LOG_COMPONENTS];
/* 0: stderr. A file's descriptor never changes once it is open (reopening replaces what it refers
 * to). */
static atomic_int log_file;
static char log_path[LOG_PATH_MAX]; /* main thread only */

bool log_enabled(enum log_component c, enum log_level level)
{
    return (int)level >= atomic_load_explicit(&log_levels[c], memory_order_relaxed) + LOG_INFO;
}

bool log_level_parse(struct str name, enum log_level *out)
{
    if (str_case_eq(name, STR("warn"))) name = STR("warning");
    for (size_t i = 0; i < ARRAY_LEN(level_names); i++) {
        if (!str_case_eq(name, str_of(level_names[i]))) continue;
        *out = (enum log_level)i;
        return true;
    }
    return false;
}

const char *log_level_name(enum log_level l)
{
    return level_names[l];
}

void log_set_level(enum log_level l)
{
    for (int i = 0; i < LOG_COMPONENTS; i++)
        log_set_component((enum log_component)i, l);
}

void log_set_component(enum log_component c, enum log_level l)
{
    atomic_store_explicit(&log_levels[c], (int)l - LOG_INFO, memory_order_relaxed);
}

enum log_level log_get_component(enum log_component c)
{
    return (enum log_level)(atomic_load_explicit(&log_levels[c], memory_order_relaxed) + LOG_INFO);
}

bool log_component_parse(struct str name, enum log_component *out)
{
    for (size_t i = 0; i < LOG_COMPONENTS; i++) {
        if (!str_eq(name, str_of(component_names[i]))) continue;
        *out = (enum log_component)i;
        return true;
    }
    return false;
}

const char *log_component_name(enum log_component c)
{
    return component_names[c];
}

/* The path from the source tree's root: this file's own path tells how long the root is. */
static const char *source_path(const char *file)
{
    size_t root = sizeof(__FILE__) - sizeof("base/log.c");
    return strncmp(file, __FILE__, root) == 0 ? file + root : file;
}

static void add_head(struct sb *b, enum log_component c, enum log_level level)
{
    struct timespec now;
    struct tm t;
    must(clock_gettime(CLOCK_REALTIME, &now) == 0);
    must(localtime_r(&now.tv_sec, &t));
    sb_fmt(b, "[%04d-%02d-%02d %02d:%02d:%02d.%03ld][%d][%s][%s] ", t.tm_year + 1900, t.tm_mon + 1,
           t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, now.tv_nsec / 1000000, (int)gettid(),
           log_level_name(level), log_component_name(c));
}

/* Control bytes are escaped: a peer must not be able to forge lines or steer a terminal. */
static void add_escaped(struct sb *b, struct str s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x20 && c != 0x7f)
            sb_char(b, s.ptr[i]);
        else if (c == '\n')
            sb_add(b, STR("\\n"));
        else if (c == '\r')
            sb_add(b, STR("\\r"));
        else if (c == '\t')
            sb_char(b, '\t');
        else
            sb_fmt(b, "\\x%02x", c);
    }
}

void log_write(enum log_component c, enum log_level level, const char *file, int line,
               const char *fmt, ...)
{
    struct sb text = {0}, out = {0};
    va_list ap;
    va_start(ap, fmt);
    sb_vfmt(&text, fmt, ap);
    va_end(ap);
    add_head(&out, c, level);
    sb_fmt(&out, "[%s:%d] ", source_path(file), line);
    add_escaped(&out, sb_str(&text));
    sb_char(&out, '\n');
    int fd = atomic_load_explicit(&log_file, memory_order_acquire);
    /* One write a line, so that lines of threads do not mix; a full disk must not stop the proxy.
     */
    if (write(fd ? fd : STDERR_FILENO, out.ptr, out.len) < 0) errno = 0;
    sb_release(&text);
    sb_release(&out);
}

/* Opens the path and puts it under the descriptor in use, if any. */
static int log_replace(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, LOG_FILE_MODE);
    if (fd < 0) return -errno;
    int old = atomic_load_explicit(&log_file, memory_order_relaxed);
    if (!old) {
        atomic_store_explicit(&log_file, fd, memory_order_release);
        return 0;
    }
    int result = dup3(fd, old, O_CLOEXEC) < 0 ? -errno : 0;
    (void)close(fd); /* the copy stays */
    return result;
}

int log_open(const char *path)
{
    if (!path) {
        int old = atomic_exchange_explicit(&log_file, 0, memory_order_acq_rel);
        if (old) (void)close(old); /* nothing to do about a failure */
        log_path[0] = '\0';
        return 0;
    }
    size_t len = strlen(path);
    if (len >= sizeof(log_path)) return -ENAMETOOLONG;
    int result = log_replace(path);
    if (result == 0) memcpy(log_path, path, len + 1);
    return result;
}

int log_reopen(void)
{
    return log_path[0] ? log_replace(log_path) : 0;
}
