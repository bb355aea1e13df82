/* The overload manager, as far as there is one: how many downstream connections all listeners
 * together may have. */
#include "base/arena.h"
#include "base/log.h"
#include "envoy/config/overload/v3/overload.pb-c.h"
#include "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/conf.h"
#include "proxy/runtime/runtime.h"
#include "server/server.h"
#include "server/server_stats.h"

/* The monitor of connections limits; what other monitors watch leads nowhere here, since no action
 * is taken (the slice says so of actions). */
static bool overload_monitor(struct server *s, const struct conf_at *at,
                             const Envoy__Config__Overload__V3__ResourceMonitor *m)
{
    const ProtobufCMessageDescriptor *connections =
        &envoy__extensions__resource_monitors__downstream_connections__v3__downstream_connections_config__descriptor;
    struct conf_at place = conf_field(at, "typed_config");
    const Google__Protobuf__Any *any =
        m->config_type_case ==
                ENVOY__CONFIG__OVERLOAD__V3__RESOURCE_MONITOR__CONFIG_TYPE_TYPED_CONFIG
            ? m->typed_config
            : NULL;
    struct str type = any ? proto_any_name(s->arena, any) : STR_NONE;
    if (!str_starts(type, STR("envoy.extensions.resource_monitors.")))
        return conf_fail(&place,
                         "Didn't find a registered implementation for '%s' with type URL: '%.*s'",
                         m->name, STR_ARG(type));
    if (!str_eq(type, str_of(connections->name))) {
        log_warn(
            LOG_C_CONFIG,
            "overload_manager: the resource monitor \"%s\" is not supported and watches nothing",
            m->name);
        server_stats_note(s, PROTO_NOTE_IGNORED);
        return true;
    }
    struct proto_path root = proto_path_root(conf_path(&place));
    const Envoy__Extensions__ResourceMonitors__DownstreamConnections__V3__DownstreamConnectionsConfig
        *c =
            (const void *)proto_any_unpack(s->arena, any, connections, NULL, &root, at->cx->errors);
    if (!c) return false;
    s->rt->connections_most = (uint64_t)c->max_active_downstream_connections;
    return true;
}

bool server_overload_configure(struct server *s, struct errors *errors)
{
    const Envoy__Config__Overload__V3__OverloadManager *m = s->config.bootstrap->overload_manager;
    struct conf_cx cx = {.arena = s->arena, .errors = errors, .rt = s->rt};
    struct conf_at root = conf_root(&cx), at = conf_field(&root, "overload_manager");
    bool ok = true;
    for (size_t i = 0; m && i < m->n_resource_monitors; i++) {
        struct conf_at place = conf_index(&at, "resource_monitors", i);
        for (size_t k = 0; k < i; k++) {
            if (str_eq(str_of(m->resource_monitors[k]->name),
                       str_of(m->resource_monitors[i]->name)))
                ok = conf_fail(&place, "Duplicate resource monitor %s",
                               m->resource_monitors[i]->name);
        }
        ok &= overload_monitor(s, &place, m->resource_monitors[i]);
    }
    return ok;
}
