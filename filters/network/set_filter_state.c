/* envoy.filters.network.set_filter_state: objects of the connection's filter state, made from
 * formats when the connection is up. */
#include "base/arena.h"
#include "envoy/extensions/filters/common/set_filter_state/v3/value.pb-c.h"
#include "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/metadata.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/runtime/runtime.h"

#define FILTER_STATE(name) Envoy__Extensions__Filters__Common__SetFilterState__V3__##name

/* What an object is made of: a text that does not fit makes none (Envoy). */
enum state_kind { STATE_TEXT, STATE_BOOL, STATE_NUMBER, STATE_IP, STATE_ADDRESS };
struct state_factory {
    const char *name;
    enum state_kind kind;
};
/* Envoy's factories whose objects something here reads; others would be without effect. */
static const struct state_factory factories[] = {
    {"envoy.bool", STATE_BOOL},
    {"envoy.hashable_string", STATE_TEXT},
    {"envoy.network.application_protocols", STATE_TEXT},
    {"envoy.network.ip", STATE_IP},
    {"envoy.network.transport_socket.original_dst_address", STATE_ADDRESS},
    {"envoy.network.upstream_server_name", STATE_TEXT},
    {"envoy.network.upstream_subject_alt_names", STATE_TEXT},
    {"envoy.string", STATE_TEXT},
    {"envoy.tcp_proxy.cluster", STATE_TEXT},
    {"envoy.tcp_proxy.disable_tunneling", STATE_BOOL},
    {"envoy.tcp_proxy.per_connection_idle_timeout_ms", STATE_NUMBER},
};
struct state_rule {
    struct str key;
    enum state_kind kind;
    const struct format *format;
    bool read_only, shared, skip_if_empty;
};
struct state_conf {
    const struct state_rule *v;
    size_t count;
};

/* --- configuration
 * ----------------------------------------------------------------------------------- */

static const struct state_factory *factory_find(struct str name)
{
    for (size_t i = 0; i < sizeof(factories) / sizeof(factories[0]); i++) {
        if (str_eq(str_of(factories[i].name), name)) return &factories[i];
    }
    return NULL;
}

static bool conf_rule(const struct conf_at *at, const FILTER_STATE(FilterStateValue) * m,
                      struct state_rule *out)
{
    bool own = m->factory_key && m->factory_key[0];
    struct str factory = str_of(own ? m->factory_key : m->object_key);
    struct conf_at place = conf_field(at, own ? "factory_key" : "object_key");
    struct conf_at format = conf_field(at, "format_string");
    const struct state_factory *f = factory_find(factory);
    if (!f) return conf_fail(&place, "'%.*s' does not have an object factory", STR_ARG(factory));
    *out = (struct state_rule){.key = str_dup(conf_arena(at), str_of(m->object_key)),
                               .kind = f->kind,
                               .format = conf_format(&format, m->format_string),
                               .read_only = m->read_only,
                               .shared = m->shared_with_upstream != 0,
                               .skip_if_empty = m->skip_if_empty};
    return out->format != NULL;
}

static const void *set_state_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                    const struct network_filter_place *place)
{
    (void)place;
    const Envoy__Extensions__Filters__Network__SetFilterState__V3__Config *m = (const void *)msg;
    struct state_conf *c = ARENA_NEW(conf_arena(at), struct state_conf);
    struct state_rule *v = ARENA_ARRAY(conf_arena(at), struct state_rule, m->n_on_new_connection);
    bool ok = true;
    for (size_t i = 0; i < m->n_on_new_connection; i++) {
        struct conf_at one = conf_index(at, "on_new_connection", i);
        ok &= conf_rule(&one, m->on_new_connection[i], &v[i]);
    }
    c->v = v;
    c->count = m->n_on_new_connection;
    return ok ? c : NULL;
}

/* --- the filter
 * -------------------------------------------------------------------------------------- */

static bool text_fits(enum state_kind kind, struct str text)
{
    struct addr addr;
    uint64_t number;
    switch (kind) {
    case STATE_TEXT: return true;
    case STATE_BOOL: return str_eq(text, STR("true")) || str_eq(text, STR("false"));
    case STATE_NUMBER: return str_to_u64(text, &number);
    case STATE_IP: return addr_parse_ip(text, 0, &addr);
    case STATE_ADDRESS: return addr_parse(text, &addr) && addr_is_ip(&addr);
    }
    return false;
}

static struct str state_text(const void *object, struct arena *a)
{
    (void)a;
    return *(const struct str *)object;
}

static void rule_apply(struct network_filter *f, const struct state_rule *r,
                       const struct stream_info *info)
{
    struct conn_info *conn = network_filter_info(f);
    struct arena *a = network_filter_arena(f);
    struct str text = format_dup(r->format, info, a);
    if ((r->skip_if_empty && text.len == 0) || !text_fits(r->kind, text)) return;
    struct str *object = ARENA_NEW(a, struct str);
    *object = text;
    struct filter_state_entry e = {.name = r->key,
                                   .object = object,
                                   .text = state_text,
                                   .read_only = r->read_only,
                                   .shared = r->shared};
    (void)filter_state_set(&conn->state, a, &e); /* one that is read-only stays */
}

static enum net_flow set_state_on_new(struct network_filter *f)
{
    const struct state_conf *c = f->conf;
    struct conn_info *conn = network_filter_info(f);
    struct stream_info info = {.arena = f->worker->scratch,
                               .worker = f->worker,
                               .conn = conn,
                               .start_us = conn->start_us,
                               .start_wall_us = conn->start_wall_us,
                               .remote = conn->remote,
                               .dynamic = conn->metadata};
    for (size_t i = 0; i < c->count; i++)
        rule_apply(f, &c->v[i], &info);
    return NET_CONTINUE;
}

const struct network_filter_type network_set_filter_state = {
    .ext = {.name = "envoy.filters.network.set_filter_state",
            .config =
                &envoy__extensions__filters__network__set_filter_state__v3__config__descriptor},
    .instance_size = sizeof(struct network_filter),
    .conf_create = set_state_create,
    .on_new = set_state_on_new,
};
