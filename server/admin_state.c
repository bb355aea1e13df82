/* Pages that show the process: who it is, whether it is ready, memory, listeners. */
#include <malloc.h>
#include <stdio.h>
#include <time.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/loop.h"
#include "envoy/admin/v3/init_dump.pb-c.h"
#include "envoy/admin/v3/listeners.pb-c.h"
#include "envoy/admin/v3/memory.pb-c.h"
#include "envoy/admin/v3/server_info.pb-c.h"
#include "proto/print.h"
#include "proxy/net/listener_manager.h"
#include "proxy/runtime/runtime.h"
#include "proxy/config/address_message.h"
#include "server/admin_internal.h"
#include "server/server.h"
#include "server/server_stats.h"
#include "server/version.h"
#include "xds/xds.h"

/* What the outside sees: failing health checks look like draining. */
static enum server_state shown_state(const struct server *s)
{
    return s->state == SERVER_LIVE && s->health_failed ? SERVER_DRAINING : s->state;
}

void admin_page_ready(struct admin_request *r)
{
    static const char *const names[] = {"LIVE", "DRAINING", "PRE_INITIALIZING", "INITIALIZING"};
    enum server_state state = shown_state(r->server);
    r->status = state == SERVER_LIVE ? 200 : 503;
    sb_fmt(&r->out, "%s\n", names[state]);
}

void admin_page_hot_restart_version(struct admin_request *r)
{
    sb_add(&r->out, STR("disabled"));
}

/* --- server_info
 * -------------------------------------------------------------------------------------------------------
 */

static Google__Protobuf__Duration *seconds(struct arena *a, uint64_t value, uint64_t ms)
{
    Google__Protobuf__Duration *d = ARENA_NEW(a, Google__Protobuf__Duration);
    google__protobuf__duration__init(d);
    d->seconds = (int64_t)(value + ms / 1000);
    d->nanos = (int32_t)(ms % 1000) * 1000000;
    return d;
}

static char *text(struct arena *a, const char *z)
{
    return str_z(a, str_of(z));
}

static Envoy__Admin__V3__CommandLineOptions *command_line(struct server *s, struct arena *a)
{
    const struct options *o = &s->options;
    Envoy__Admin__V3__CommandLineOptions *c = ARENA_NEW(a, Envoy__Admin__V3__CommandLineOptions);
    envoy__admin__v3__command_line_options__init(c);
    c->base_id = o->base_id;
    c->concurrency = o->concurrency;
    c->config_path = text(a, o->config_path);
    c->config_yaml = text(a, o->config_yaml);
    c->allow_unknown_static_fields = o->allow_unknown_static;
    c->reject_unknown_dynamic_fields = o->reject_unknown_dynamic;
    c->ignore_unknown_dynamic_fields = o->ignore_unknown_dynamic;
    c->skip_deprecated_logs = o->skip_deprecated_logs;
    c->admin_address_path = text(a, o->admin_address_path);
    c->local_address_ip_version = o->ipv6 ? ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__IP_VERSION__v6
                                          : ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__IP_VERSION__v4;
    c->log_level = text(a, log_level_name(o->log_level));
    c->component_log_level = text(a, o->component_log_level);
    c->log_format =
        text(a, o->log_format ? o->log_format : "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v");
    c->log_path = text(a, o->log_path);
    c->service_cluster = text(a, o->service_cluster);
    c->service_node = text(a, o->service_node);
    c->service_zone = text(a, o->service_zone);
    c->file_flush_interval = seconds(a, 0, o->file_flush_ms);
    c->drain_time = seconds(a, o->drain_time_s, 0);
    c->drain_strategy = o->drain_immediate
                            ? ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__DRAIN_STRATEGY__Immediate
                            : ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__DRAIN_STRATEGY__Gradual;
    c->parent_shutdown_time = seconds(a, o->parent_shutdown_time_s, 0);
    c->mode = ENVOY__ADMIN__V3__COMMAND_LINE_OPTIONS__MODE__Serve;
    c->disable_hot_restart = o->disable_hot_restart;
    c->enable_mutex_tracing = o->mutex_tracing;
    c->restart_epoch = o->restart_epoch;
    c->cpuset_threads = o->cpuset_threads;
    c->base_id_path = text(a, o->base_id_path);
    c->socket_path = text(a, o->socket_path);
    c->socket_mode = o->socket_mode;
    c->enable_core_dump = o->core_dump;
    c->stats_tag = ARENA_ARRAY(a, char *, o->stats_tag_count);
    for (size_t i = 0; i < o->stats_tag_count; i++)
        c->stats_tag[c->n_stats_tag++] = str_z(a, o->stats_tags[i]);
    return c;
}

void admin_page_server_info(struct admin_request *r)
{
    struct server *s = r->server;
    struct arena *a = r->arena;
    Envoy__Admin__V3__ServerInfo info = ENVOY__ADMIN__V3__SERVER_INFO__INIT;
    uint64_t up = (clock_now_us() - s->rt->start_us) / 1000000;
    static const struct print_opts opts = {
        .pretty = true, .redact = true, .always_primitive = true};
    info.version = text(a, version_text());
    info.state = (Envoy__Admin__V3__ServerInfo__State)shown_state(s);
    info.uptime_current_epoch = seconds(a, up, 0);
    info.uptime_all_epochs = info.uptime_current_epoch;
    info.hot_restart_version = text(a, "disabled");
    info.command_line_options = command_line(s, a);
    info.node = (Envoy__Config__Core__V3__Node *)(uintptr_t)xds_node(s->xds);
    r->content_type = ADMIN_JSON;
    print_json(&r->out, &info.base, &opts);
    /* A field of 1.40's answer that the published API does not have yet. */
    r->out.len -= 2; /* "\n}" */
    sb_add(&r->out, STR(",\n \"hot_restart_initializing\": false\n}\n"));
}

/* --- memory, certificates, unready targets
 * ---------------------------------------------------------------------------------- */

void admin_page_memory(struct admin_request *r)
{
    struct mallinfo2 m = mallinfo2();
    Envoy__Admin__V3__Memory memory = ENVOY__ADMIN__V3__MEMORY__INIT;
    memory.allocated = m.uordblks + m.hblkhd;
    memory.heap_size = m.arena + m.hblkhd;
    memory.pageheap_free = m.fordblks;
    memory.total_physical_bytes = server_stats_resident();
    admin_json(r, &memory.base, true);
}

struct unready {
    struct arena *arena;
    char *names[1024];
    size_t count;
};

static void unready_add(void *arg, struct str name)
{
    struct unready *u = arg;
    if (u->count < sizeof u->names / sizeof u->names[0])
        u->names[u->count++] = str_z(u->arena, name);
}

void admin_page_init_dump(struct admin_request *r)
{
    struct unready *u = ARENA_NEW(r->arena, struct unready);
    Envoy__Admin__V3__UnreadyTargetsDumps dumps = ENVOY__ADMIN__V3__UNREADY_TARGETS_DUMPS__INIT;
    Envoy__Admin__V3__UnreadyTargetsDumps__UnreadyTargetsDump dump =
        ENVOY__ADMIN__V3__UNREADY_TARGETS_DUMPS__UNREADY_TARGETS_DUMP__INIT;
    Envoy__Admin__V3__UnreadyTargetsDumps__UnreadyTargetsDump *list[] = {&dump};
    u->arena = r->arena;
    xds_each_unready(r->server->xds, unready_add, u);
    dump.name = text(r->arena, "init manager Server");
    dump.target_names = u->names;
    dump.n_target_names = u->count;
    dumps.unready_targets_dumps = list;
    dumps.n_unready_targets_dumps = u->count > 0;
    admin_json(r, &dumps.base, false);
}

/* --- listeners
 * ----------------------------------------------------------------------------------------------------------------
 */

struct listeners {
    struct admin_request *r;
    Envoy__Admin__V3__ListenerStatus **v;
    size_t count, cap;
};

static void listener_text(void *arg, const struct listener_view *v)
{
    struct listeners *l = arg;
    char address[ADDR_TEXT_MAX];
    (void)addr_format(v->addr, address);
    sb_fmt(&l->r->out, "%.*s::%s\n", STR_ARG(v->name), address);
}

static void listener_count(void *arg, const struct listener_view *v)
{
    (void)v;
    ((struct listeners *)arg)->cap++;
}

static void listener_json(void *arg, const struct listener_view *v)
{
    struct listeners *l = arg;
    struct arena *a = l->r->arena;
    if (v->address_index == 0) {
        Envoy__Admin__V3__ListenerStatus *status = ARENA_NEW(a, Envoy__Admin__V3__ListenerStatus);
        envoy__admin__v3__listener_status__init(status);
        status->name = str_z(a, v->name);
        status->local_address = address_message(a, v->addr);
        l->v[l->count++] = status;
        return;
    }
    Envoy__Admin__V3__ListenerStatus *status = l->v[l->count - 1];
    if (status->n_additional_local_addresses == 0)
        status->additional_local_addresses =
            ARENA_ARRAY(a, Envoy__Config__Core__V3__Address *, l->cap);
    status->additional_local_addresses[status->n_additional_local_addresses++] =
        address_message(a, v->addr);
}

void admin_page_listeners(struct admin_request *r)
{
    struct listeners l = {.r = r};
    if (!str_eq(admin_param(r, "format"), STR("json"))) {
        listener_manager_each(r->server->listeners, listener_text, &l);
        return;
    }
    listener_manager_each(r->server->listeners, listener_count, &l);
    l.v = ARENA_ARRAY(r->arena, Envoy__Admin__V3__ListenerStatus *, l.cap);
    listener_manager_each(r->server->listeners, listener_json, &l);
    Envoy__Admin__V3__Listeners all = ENVOY__ADMIN__V3__LISTENERS__INIT;
    all.listener_statuses = l.v;
    all.n_listener_statuses = l.count;
    admin_json(r, &all.base, false);
}
