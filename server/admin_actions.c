/* Pages that change the process: log levels, health, draining, the end; and profilers, which there
 * are none of. */
#include <signal.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "proxy/http/access_log.h"
#include "proxy/net/listener_manager.h"
#include "proxy/runtime/runtime.h"
#include "server/admin_internal.h"
#include "server/server.h"

/* --- log levels
 * ----------------------------------------------------------------------------------------------------------
 */

/* Envoy's loggers. Those that Skiff's code does not write to keep their level, so that tools find
 * what they set. */
static const char *const loggers[] = {"a2a",
                                      "admin",
                                      "ai_protocol_manager",
                                      "alternate_protocols_cache",
                                      "aws",
                                      "assert",
                                      "backtrace",
                                      "basic_auth",
                                      "cache_filter",
                                      "client",
                                      "config",
                                      "connection",
                                      "conn_handler",
                                      "compression",
                                      "credential_injector",
                                      "decompression",
                                      "dns",
                                      "dubbo",
                                      "envoy_bug",
                                      "ext_authz",
                                      "ext_proc",
                                      "rocketmq",
                                      "file",
                                      "filter",
                                      "forward_proxy",
                                      "geolocation",
                                      "grpc",
                                      "happy_eyeballs",
                                      "hc",
                                      "health_checker",
                                      "http",
                                      "http2",
                                      "hystrix",
                                      "init",
                                      "io",
                                      "jwt",
                                      "json_rpc",
                                      "kafka",
                                      "key_value_store",
                                      "lua",
                                      "local_rate_limit",
                                      "main",
                                      "matcher",
                                      "mcp",
                                      "misc",
                                      "mongo",
                                      "multi_connection",
                                      "notification",
                                      "oauth2",
                                      "quic",
                                      "quic_stream",
                                      "pool",
                                      "rate_limit_quota",
                                      "rbac",
                                      "rds",
                                      "redis",
                                      "router",
                                      "runtime",
                                      "stats",
                                      "secret",
                                      "sse",
                                      "tap",
                                      "testing",
                                      "thrift",
                                      "tracing",
                                      "upstream",
                                      "udp",
                                      "wasm",
                                      "websocket",
                                      "golang",
                                      "stats_sinks",
                                      "dynamic_modules",
                                      "ip_tagging"};
_Static_assert(ARRAY_LEN(loggers) <= SERVER_LOGGERS_MOST,
               "server.h has too little room for levels");

/* Where the level of a logger that is not ours is kept: one more than the level; 0: that of
 * --log-level. */
static uint8_t *logger_kept(struct server *s, size_t index)
{
    return &s->other_loggers[index];
}

static enum log_level logger_level(struct server *s, size_t index)
{
    enum log_component c;
    if (log_component_parse(str_of(loggers[index]), &c)) return log_get_component(c);
    uint8_t kept = *logger_kept(s, index);
    return kept ? (enum log_level)(kept - 1) : s->options.log_level;
}

static bool logger_set(struct server *s, struct str name, enum log_level level, bool really)
{
    enum log_component c;
    for (size_t i = 0; i < ARRAY_LEN(loggers); i++) {
        if (!str_eq(name, str_of(loggers[i]))) continue;
        if (really && log_component_parse(name, &c))
            log_set_component(c, level);
        else if (really)
            *logger_kept(s, i) = (uint8_t)(level + 1);
        return true;
    }
    return false;
}

static void logging_list(struct admin_request *r)
{
    sb_add(&r->out, STR("active loggers:\n"));
    for (size_t i = 0; i < ARRAY_LEN(loggers); i++)
        sb_fmt(&r->out, "  %s: %s\n", loggers[i], log_level_name(logger_level(r->server, i)));
    sb_char(&r->out, '\n');
}

static void logging_usage(struct admin_request *r, const char *why)
{
    admin_error(r, 400,
                "error: %s\n\nusage: /logging?<name>=<level> (change single level)\n"
                "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
                "usage: /logging?level=<level> (change all levels)\n"
                "usage: /logging?group=<group_name>:<level> (change group of loggers)\n"
                "levels: trace debug info warning error critical off \n",
                why);
    logging_list(r);
}

/* One change; NULL: done, else why not. */
static const char *logging_set(struct server *s, struct str name, struct str level, bool really)
{
    enum log_level l;
    if (!log_level_parse(level, &l)) return "unknown logger level";
    return logger_set(s, name, l, really) ? NULL : "unknown logger name";
}

/* "a:debug,b:info": all or nothing. */
static const char *logging_set_paths(struct server *s, struct str paths)
{
    for (int really = 0; really < 2; really++) {
        struct str rest = paths, one, name, level;
        while (str_next(&rest, ',', &one)) {
            if (!str_cut(one, ':', &name, &level)) return "empty logger name or empty logger level";
            const char *why = logging_set(s, name, level, really == 1);
            if (why) return why;
        }
    }
    return NULL;
}

static void logging_set_all(struct server *s, enum log_level l)
{
    log_set_level(l);
    for (size_t i = 0; i < ARRAY_LEN(loggers); i++)
        *logger_kept(s, i) = (uint8_t)(l + 1);
}

void admin_page_logging(struct admin_request *r)
{
    const char *why = NULL;
    enum log_level l;
    if (r->param_count > 1) {
        logging_usage(r, "invalid number of parameters");
        return;
    }
    if (r->param_count == 1 && r->params[0].value.len) {
        struct str name = r->params[0].name, value = r->params[0].value;
        if (str_eq(name, STR("paths")) || str_eq(name, STR("group"))) {
            why = logging_set_paths(r->server, value);
        } else if (str_eq(name, STR("level"))) {
            if (log_level_parse(value, &l))
                logging_set_all(r->server, l);
            else
                why = "unknown logger level";
        } else {
            why = logging_set(r->server, name, value, true);
        }
    }
    if (why)
        logging_usage(r, why);
    else
        logging_list(r);
}

/* --- health and drain
 * ------------------------------------------------------------------------------------------------------
 */

void admin_page_healthcheck_fail(struct admin_request *r)
{
    r->server->health_failed = true;
    atomic_store_explicit(&r->server->rt->health_failed, true, memory_order_relaxed);
    sb_add(&r->out, STR("OK\n"));
}

void admin_page_healthcheck_ok(struct admin_request *r)
{
    r->server->health_failed = false;
    atomic_store_explicit(&r->server->rt->health_failed, false, memory_order_relaxed);
    sb_add(&r->out, STR("OK\n"));
}

static void drained_all(void *arg)
{
    struct server *s = arg;
    listener_manager_stop_listening(s->listeners, LISTENER_STOP_ALL);
}

static void drained_inbound(void *arg)
{
    struct server *s = arg;
    listener_manager_stop_listening(s->listeners, LISTENER_STOP_INBOUND);
}

void admin_page_drain_listeners(struct admin_request *r)
{
    struct server *s = r->server;
    bool inbound = admin_param(r, "inboundonly").ptr != NULL;
    enum listener_stop which = inbound ? LISTENER_STOP_INBOUND : LISTENER_STOP_ALL;
    bool skip_exit = admin_param(r, "skip_exit").ptr != NULL;
    bool graceful = admin_param(r, "graceful").ptr != NULL;
    if (skip_exit)
        listener_manager_drain(s->listeners, which, NULL, NULL);
    else if (graceful)
        listener_manager_drain(s->listeners, which, inbound ? drained_inbound : drained_all, s);
    else
        listener_manager_stop_listening(s->listeners, which);
    sb_add(&r->out, STR("OK\n"));
}

/* The answer goes out first: connections are flushed before the timer fires. */
void admin_page_quit(struct admin_request *r)
{
    server_exit_soon(r->server);
    sb_add(&r->out, STR("OK\n"));
}

void admin_page_reopen_logs(struct admin_request *r)
{
    access_log_reopen(r->server->rt);
    sb_add(&r->out, STR("OK\n"));
}

/* --- what there is not
 * -------------------------------------------------------------------------------------------------------
 */

void admin_page_contention(struct admin_request *r)
{
    sb_add(
        &r->out,
        STR("Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing."));
}

void admin_page_profiler(struct admin_request *r)
{
    struct str enable = admin_param(r, "enable");
    bool heap = str_eq(r->path, STR("/heapprofiler")),
         known = str_eq(enable, STR("y")) || str_eq(enable, STR("n"));
    if (heap)
        admin_error(r, 501, "The current build does not support heap profiler");
    else if (!known)
        admin_error(r, 400, "?enable=<y|n>\n");
    else if (str_eq(r->path, STR("/cpuprofiler")))
        admin_error(r, 500, "failure to start the profiler");
    else
        admin_error(r, 501, "The current build does not support allocation profiler");
}

void admin_page_no_heap_dump(struct admin_request *r)
{
    admin_error(r, 501, "Heap dump not supported by the current build\n");
}
