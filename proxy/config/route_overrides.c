/* typed_per_filter_config: settings of filters for one virtual host, route or weighted cluster. */
#include "base/arena.h"
#include "google/protobuf/any.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/http_filter.h"
#include "proxy/config/route_internal.h"

struct wanted {
    struct str message;
    const struct http_filter_type *found;
};

static void look(void *arg, enum extension_kind kind, const struct extension *e)
{
    struct wanted *w = arg;
    if (kind != EXTENSION_HTTP_FILTER || w->found) return;
    const struct http_filter_type *t = (const struct http_filter_type *)e;
    if (t->route_config && str_eq(str_of(t->route_config->name), w->message)) w->found = t;
}

/* By the type of the message; by the filter's name when that tells nothing. */
static const struct http_filter_type *find_filter(const struct conf_at *at, struct str message,
                                                  struct str filter_name)
{
    struct wanted w = {.message = message};
    if (at->cx->registry) registry_each(at->cx->registry, look, &w);
    if (w.found || !at->cx->registry) return w.found;
    const struct extension *e =
        registry_find(at->cx->registry, EXTENSION_HTTP_FILTER, message, filter_name);
    return (const struct http_filter_type *)e;
}

static ProtobufCMessage *unpack(const struct conf_at *at, const Google__Protobuf__Any *any,
                                const ProtobufCMessageDescriptor *desc)
{
    struct proto_path root = proto_path_root(conf_path(at));
    return proto_any_unpack(conf_arena(at), any, desc, at->cx->opts, &root, at->cx->errors);
}

static bool override_conf(const struct conf_at *at, const Google__Protobuf__Any *any, bool optional,
                          struct filter_override *o)
{
    struct str message = proto_any_name(conf_arena(at), any);
    const struct registry *r = at->cx->registry;
    /* It is not there, or it stands in the chain by that name and refuses. */
    if (r && r->missing_filter && registry_find_missing(r, message, true)) return true;
    const struct http_filter_type *t = find_filter(at, message, o->filter_name);
    if (!t) {
        if (optional) return true;
        return conf_fail(at, "no http filter takes \"%.*s\" per route (not supported)",
                         STR_ARG(message));
    }
    if (!t->route_config || !t->route_conf_create) {
        return conf_fail(
            at, "the filter %s does not support virtual host or route specific configurations",
            t->ext.name);
    }
    const ProtobufCMessage *msg = unpack(at, any, t->route_config);
    if (!msg) return false;
    o->type = &t->ext;
    o->conf = t->route_conf_create(at, msg);
    return o->conf != NULL;
}

bool translate_filter_override(const struct conf_at *at, const char *filter_name,
                               const Google__Protobuf__Any *any, struct filter_override **list)
{
    struct arena *a = conf_arena(at);
    struct filter_override *o = ARENA_NEW(a, struct filter_override);
    bool ok = true;
    o->filter_name = str_dup(a, str_of(filter_name));
    if (!any) return conf_fail(at, "a config is needed");
    if (str_eq(proto_any_name(a, any), STR("envoy.config.route.v3.FilterConfig"))) {
        const Envoy__Config__Route__V3__FilterConfig *m =
            (const Envoy__Config__Route__V3__FilterConfig *)unpack(
                at, any, &envoy__config__route__v3__filter_config__descriptor);
        if (!m) return false;
        o->disabled = m->disabled;
        /* `config: {}` only switches it on. */
        if (m->config && proto_any_name(a, m->config).len) {
            struct conf_at config = conf_field(at, "config");
            ok = override_conf(&config, m->config, m->is_optional, o);
        }
    } else {
        ok = override_conf(at, any, false, o);
    }
    o->next = *list;
    *list = o;
    return ok;
}
