/* Pages that change the process: log levels, health, draining, the end; and profilers, which there are none of. */
#include <signal.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/loop.h"
#include "proxy/http/access_log.h"
#include "proxy/net/listener_manager.h"
#include "proxy/runtime/runtime.h"
#include "server/admin_internal.h"
#include "server/server.h"

/* --- log levels ---------------------------------------------------------------------------------------------------------- */

static void logging_list(struct sb *out)
{
    sb_add(out, STR("active loggers:\n"));
    for (int c = 0; c < LOG_COMPONENTS; c++) {
        enum log_component component = (enum log_component)c;
        sb_fmt(out, "  %s: %s\n", log_component_name(component), log_level_name(log_get_component(component)));
    }
    sb_char(out, '\n');
}

static void logging_usage(struct admin_request *r, const char *why)
{
    admin_error(r, 400, "error: %s\n\nusage: /logging?<name>=<level> (change single level)\n"
                        "usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)\n"
                        "usage: /logging?level=<level> (change all levels)\n"
                        "usage: /logging?group=<group_name>:<level> (change group of loggers)\n"
                        "levels: trace debug info warning error critical off \n", why);
    logging_list(&r->out);
}

/* One change; NULL: done, else why not. */
static const char *logging_set(struct str name, struct str level, bool really)
{
    enum log_component c;
    enum log_level l;
    if (!log_level_parse(level, &l)) return "unknown logger level";
    if (!log_component_parse(name, &c)) return "unknown logger name";
    if (really) log_set_component(c, l);
    return NULL;
}

/* "a:debug,b:info": all or nothing. */
static const char *logging_set_paths(struct str paths)
{
    for (int really = 0; really < 2; really++) {
        struct str rest = paths, one, name, level;
        while (str_next(&rest, ',', &one)) {
            if (!str_cut(one, ':', &name, &level)) return "empty logger name or empty logger level";
            const char *why = logging_set(name, level, really == 1);
            if (why) return why;
        }
    }
    return NULL;
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
            why = logging_set_paths(value);
        } else if (str_eq(name, STR("level"))) {
            if (log_level_parse(value, &l)) log_set_level(l);
            else why = "unknown logger level";
        } else {
            why = logging_set(name, value, true);
        }
    }
    if (why) logging_usage(r, why);
    else logging_list(&r->out);
}

/* --- health and drain ------------------------------------------------------------------------------------------------------ */

void admin_page_healthcheck_fail(struct admin_request *r)
{
    r->server->health_failed = true;
    sb_add(&r->out, STR("OK\n"));
}

void admin_page_healthcheck_ok(struct admin_request *r)
{
    r->server->health_failed = false;
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
    if (skip_exit && !graceful) {
        admin_error(r, 400, "skip_exit requires graceful\n");
        return;
    }
    if (skip_exit) listener_manager_drain(s->listeners, which, NULL, NULL);
    else if (graceful) listener_manager_drain(s->listeners, which, inbound ? drained_inbound : drained_all, s);
    else listener_manager_stop_listening(s->listeners, which);
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

/* --- what there is not ------------------------------------------------------------------------------------------------------- */

void admin_page_contention(struct admin_request *r)
{
    sb_add(&r->out, STR("Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing."));
}

void admin_page_profiler(struct admin_request *r)
{
    bool cpu = str_eq(r->path, STR("/cpuprofiler"));
    if (cpu) admin_error(r, 500, "failure to start the profiler\n");
    else admin_error(r, 501, "The current build does not support heap profiler\n");
}

void admin_page_no_heap_dump(struct admin_request *r)
{
    admin_error(r, 501, "Heap dump not supported by the current build\n");
}
