/* Start, run, stop: the order in which everything is made and unmade. */
#include "server/server.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/must.h"
#include "base/watch.h"
#include "filters/registry.h"
#include "proxy/api/conf_types.h"
#include "proxy/http/access_log.h"
#include "proxy/http/hcm.h"
#include "proxy/net/listener_manager.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"
#include "proxy/upstream/cluster_manager.h"
#include "server/admin.h"
#include "server/server_stats.h"
#include "server/status_service.h"
#include "server/version.h"
#include "xds/xds.h"

/* --- telling
 * ---------------------------------------------------------------------------------------------------
 */

/* One line per mistake: "error: file:line:column: path: text". */
static void server_tell(struct server *s, struct errors *errors)
{
    config_locate(&s->config, errors);
    for (size_t i = 0; i < errors->count && i < ERRORS_MOST; i++) {
        const struct error *e = &errors->v[i];
        (void)fprintf(stderr, "error: %.*s%s%.*s%s%.*s\n", STR_ARG(e->where),
                      e->where.len ? ": " : "", STR_ARG(e->path), e->path.len ? ": " : "",
                      STR_ARG(e->text));
    }
    if (errors->count > ERRORS_MOST)
        (void)fprintf(stderr, "error: and %zu more\n", errors->count - ERRORS_MOST);
    (void)fprintf(stderr, "error initializing configuration '%s'\n", s->config.name);
}

/* Was this said of this field before? A control plane sends the same in every cluster: the log has
 * it once, the counters all. */
static bool server_noted(struct server *s, struct str path, struct str text)
{
    enum { NOTES_MOST = 1000 };
    struct str before, field = path;
    (void)str_cut_last(path, '.', &before, &field); /* without a dot the path is the field */
    struct sb key = {0};
    sb_fmt(&key, "%.*s: %.*s", STR_ARG(field), STR_ARG(text));
    bool seen = map_get(&s->notes, sb_str(&key)) != NULL;
    if (!seen && s->notes.count < NOTES_MOST)
        (void)map_put(&s->notes, str_dup(s->arena, sb_str(&key)), s); /* was absent */
    sb_release(&key);
    return seen;
}

/* Ignored, deprecated and unknown fields: said once each, as a warning. */
static void server_note(void *user, enum proto_note_kind kind, struct str path, struct str text)
{
    struct server *s = user;
    if (kind == PROTO_NOTE_DEPRECATED && s->options.skip_deprecated_logs) return;
    server_stats_note(s, kind);
    if (server_noted(s, path, text)) return;
    log_warn(LOG_C_CONFIG, "%.*s: %.*s", STR_ARG(path), STR_ARG(text));
}

static struct proto_opts server_static_opts(struct server *s)
{
    return (struct proto_opts){.unknown = s->options.allow_unknown_static ? PROTO_UNKNOWN_WARN
                                                                          : PROTO_UNKNOWN_REJECT,
                               .on_note = server_note,
                               .user = s};
}

static struct proto_opts server_dynamic_opts(struct server *s)
{
    enum proto_unknown unknown = s->options.reject_unknown_dynamic   ? PROTO_UNKNOWN_REJECT
                                 : s->options.ignore_unknown_dynamic ? PROTO_UNKNOWN_IGNORE
                                                                     : PROTO_UNKNOWN_WARN;
    return (struct proto_opts){.unknown = unknown, .on_note = server_note, .user = s};
}

/* --- signals
 * -----------------------------------------------------------------------------------------------------
 */

void server_exit(struct server *s)
{
    s->exiting = true;
    loop_stop(s->loop);
}

static void server_on_exit_timer(struct loop_timer *t)
{
    server_exit(CONTAINER_OF(t, struct server, exit_timer));
}

void server_exit_soon(struct server *s)
{
    enum { FLUSH_US = 20 * 1000 };
    loop_timer_start(s->loop, &s->exit_timer, FLUSH_US, server_on_exit_timer);
}

static void server_on_end(void *arg, int signo)
{
    log_warn(LOG_C_MAIN, "caught %s", signo == SIGTERM ? "ENVOY_SIGTERM" : "ENVOY_SIGINT");
    server_exit(arg);
}

static void server_on_reopen(void *arg, int signo)
{
    struct server *s = arg;
    (void)signo;
    log_warn(LOG_C_MAIN, "caught SIGUSR1. Reopening access logs.");
    if (log_reopen() < 0)
        log_error(LOG_C_MAIN, "the log cannot be opened again; the old file is written on");
    access_log_reopen(s->rt);
}

static void server_on_hup(void *arg, int signo)
{
    (void)arg;
    (void)signo;
    log_warn(LOG_C_MAIN, "caught and eating SIGHUP. See documentation for how to hot restart.");
}

static void server_signals(struct server *s)
{
    (void)signal(SIGPIPE, SIG_IGN); /* cannot fail for SIGPIPE */
    loop_on_signal(s->loop, SIGTERM, server_on_end, s);
    loop_on_signal(s->loop, SIGINT, server_on_end, s);
    loop_on_signal(s->loop, SIGUSR1, server_on_reopen, s);
    loop_on_signal(s->loop, SIGHUP, server_on_hup, s);
}

/* --- start
 * ---------------------------------------------------------------------------------------------------------
 */

static void server_clusters_ready(void *arg)
{
    struct server *s = arg;
    s->state = SERVER_INITIALIZING;
}

static void server_ready(void *arg)
{
    struct server *s = arg;
    log_info(LOG_C_MAIN, "all dependencies initialized. starting workers");
    listener_manager_start_workers(s->listeners);
    s->state = SERVER_LIVE;
    server_stats_live(s);
}

static void server_identity(struct server *s)
{
    const Envoy__Config__Core__V3__Node *n = s->config.bootstrap->node;
    const struct options *o = &s->options;
    s->rt->service_node = o->service_node ? str_of(o->service_node) : n ? str_of(n->id) : STR_NONE;
    s->rt->service_cluster = o->service_cluster ? str_of(o->service_cluster)
                             : n                ? str_of(n->cluster)
                                                : STR_NONE;
    s->rt->service_zone = o->service_zone    ? str_of(o->service_zone)
                          : n && n->locality ? str_of(n->locality->zone)
                                             : STR_NONE;
    if (n && n->metadata) s->rt->node_metadata = conf_struct(s->rt->arena, n->metadata);
}

static void server_make(struct server *s)
{
    unsigned workers = s->options.concurrency;
    s->loop = loop_new();
    s->stats = stats_new(workers + 2); /* main, the workers, the log thread */
    stats_thread_enter(s->stats, 0);
    s->rt = runtime_new(s->loop, s->stats, workers);
    s->rt->server = s;
    s->watches = watch_set_new(s->loop);
    server_stats_start(s);
    s->clusters = cluster_manager_new(s->rt);
    runtime_add_hooks(s->rt, &http_worker_hooks);
    access_log_start(s->rt, (uint64_t)s->options.file_flush_ms * 1000,
                     (size_t)s->options.file_flush_min_kb * 1024);
    s->listeners = listener_manager_new(
        s->rt); /* last: its connections end while all that they use is there */
    listener_manager_set_drain(s->listeners, (uint64_t)s->options.drain_time_s * 1000000,
                               s->options.drain_immediate ? LISTENER_DRAIN_IMMEDIATE
                                                          : LISTENER_DRAIN_GRADUAL);
}

static void server_make_xds(struct server *s)
{
    struct xds_env env = {.rt = s->rt,
                          .clusters = s->clusters,
                          .listeners = s->listeners,
                          .registry = &filters_registry,
                          .watches = s->watches,
                          .static_opts = server_static_opts(s),
                          .dynamic_opts = server_dynamic_opts(s),
                          .validate_only = s->options.mode == MODE_VALIDATE,
                          .cache_directory = s->options.config_cache,
                          .on_clusters = server_clusters_ready,
                          .on_ready = server_ready,
                          .arg = s};
    s->xds = xds_new(&env);
}

/* Unmakes in the reverse order; each part may be missing. */
static void server_unmake(struct server *s)
{
    loop_timer_stop(&s->exit_timer);
    admin_stop(&s->admin);
    status_service_stop(&s->status);
    if (s->running) listener_manager_stop_listening(s->listeners, LISTENER_STOP_ALL);
    if (s->xds) xds_stop(s->xds);
    if (s->running) runtime_stop(s->rt);
    listener_manager_free(&s->listeners);
    xds_free(&s->xds);
    cluster_manager_free(&s->clusters);
    if (s->rt) access_log_stop(s->rt); /* no log file is open any more */
    server_stats_stop(s);
    watch_set_free(&s->watches);
    if (s->rt) runtime_free(&s->rt);
    stats_free(&s->stats);
    if (s->loop) loop_free(&s->loop);
    config_release(&s->config);
    map_release(&s->notes);
}

static bool server_log(struct server *s, struct errors *errors)
{
    struct str why;
    log_set_level(s->options.log_level);
    if (!options_apply_components(s->options.component_log_level, s->arena, &why))
        return errors_add(errors, STR_NONE, "%.*s", STR_ARG(why));
    int err = s->options.log_path ? log_open(s->options.log_path) : 0;
    return err == 0 || errors_add(errors, STR_NONE, "cannot open the log file %s: %s",
                                  s->options.log_path, strerror(-err));
}

static int server_serve(struct server *s, struct errors *errors)
{
    if (!admin_start(s, &s->admin, errors)) return 1;
    if (!status_service_start(s, &s->status, errors)) return 1;
    config_release(&s->config); /* no error needs a line of the text any more */
    (void)malloc_trim(0);       /* reading took far more memory than running needs */
    server_signals(s);
    s->running = true;
    runtime_start(s->rt);
    xds_start(s->xds);
    log_info(LOG_C_MAIN, "starting main dispatch loop");
    if (!s->exiting) loop_run(s->loop); /* a signal came while the above waited for the workers */
    log_info(LOG_C_MAIN, "exiting");
    return 0;
}

static int server_run(struct server *s, struct errors *errors)
{
    struct proto_opts opts = server_static_opts(s);
    if (!server_log(s, errors)) return 1;
    log_info(LOG_C_MAIN, "initializing skiff (version %s) with %u workers", version_text(),
             s->options.concurrency);
    if (!config_read(&s->config, &s->options, &opts, s->arena, errors)) return 1;
    server_make(s);
    server_identity(s);
    server_make_xds(s);
    if (!server_stats_configure(s, errors)) return 1;
    if (!server_overload_configure(s, errors)) return 1;
    if (!xds_load_bootstrap(s->xds, &s->config.bootstrap->base, errors)) return 1;
    if (s->options.mode == MODE_VALIDATE) {
        if (!admin_check(s, errors)) return 1;
        (void)printf("configuration '%s' OK\n",
                     s->options.config_path ? s->options.config_path : "");
        return 0;
    }
    return server_serve(s, errors);
}

int server_main(const struct options *o)
{
    struct server s = {.options = *o, .state = SERVER_PRE_INITIALIZING};
    s.arena = arena_new("process", 0);
    struct errors errors = {.arena = s.arena};
    int code = server_run(&s, &errors);
    if (errors.count) server_tell(&s, &errors);
    server_unmake(&s);
    arena_free(&s.arena);
    return code;
}
