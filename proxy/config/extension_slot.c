/* Places of use of discovered filter configurations, and the translation of what is put there. */
#include "proxy/config/extension_slot.h"

#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/listener/v3/listener.pb-c.h"
#include "proto/decode.h"
#include "proto/equal.h"
#include "proto/proto.h"
#include "proxy/api/http_filter.h"
#include "proxy/runtime/runtime.h"

/* --- life
 * ---------------------------------------------------------------------------------------------
 */

struct extension_slot *extension_slot_ref(struct extension_slot *s)
{
    s->refs++;
    return s;
}

void extension_slot_unref(struct extension_slot **slot)
{
    struct extension_slot *s = *slot;
    *slot = NULL;
    if (!s || --s->refs > 0) return;
    if (s->rt) {
        (void)map_remove(&s->rt->extension_slots, s->key);
        if (runtime_published(s->rt, TABLE_EXTENSIONS, s->key))
            runtime_publish(s->rt, TABLE_EXTENSIONS, s->key, NULL);
    }
    struct arena *a = s->arena;
    arena_free(&a);
}

static void slot_left(void *slot)
{
    struct extension_slot *s = slot;
    extension_slot_unref(&s);
}

void extension_slot_keep(struct arena *a, struct extension_slot *s)
{
    arena_on_free(a, slot_left, extension_slot_ref(s));
}

/* --- what is put into a slot
 * --------------------------------------------------------------------------
 */

/* The words of Envoy's messages. */
static const char *slot_chain_word(const struct extension_slot *s)
{
    return s->kind == EXTENSION_HTTP_FILTER ? "http" : "network";
}

static bool slot_takes(const struct conf_at *at, const struct extension_slot *s, struct str full)
{
    struct sb all = {0};
    for (size_t i = 0; i < s->type_url_count; i++) {
        if (str_eq(s->type_urls[i], full)) {
            sb_release(&all);
            return true;
        }
        if (i) sb_add(&all, STR(", "));
        sb_add(&all, s->type_urls[i]);
    }
    struct str wanted = sb_str(&all);
    conf_fail(at, "Error: filter config has type URL %.*s but expect %.*s.", STR_ARG(full),
              STR_ARG(wanted));
    sb_release(&all);
    return false;
}

static bool slot_check_terminal(const struct conf_at *at, const struct extension_slot *s,
                                bool terminal, const struct extension *e)
{
    if (s->kind == EXTENSION_LISTENER_FILTER || terminal == s->last) return true;
    if (terminal)
        return conf_fail(
            at,
            "Error: terminal filter named %.*s of type %s must be the last filter in a %s filter chain.",
            STR_ARG(s->name), e->name, slot_chain_word(s));
    return conf_fail(
        at,
        "Error: non-terminal filter named %.*s of type %s is the last filter in a %s filter chain.",
        STR_ARG(s->name), e->name, slot_chain_word(s));
}

static bool slot_http(const struct conf_at *at, const struct extension_slot *s,
                      const ProtobufCMessage *msg, struct extension_conf *out)
{
    const struct http_filter_type *t = (const struct http_filter_type *)out->type;
    if (!slot_check_terminal(at, s, t->terminal, out->type)) return false;
    if (t->conf_create) out->conf = t->conf_create(at, msg, s->stat_prefix);
    return !t->conf_create || out->conf;
}

static bool slot_network(const struct conf_at *at, const struct extension_slot *s,
                         const ProtobufCMessage *msg, struct extension_conf *out)
{
    const struct network_filter_type *t = (const struct network_filter_type *)out->type;
    if (!slot_check_terminal(at, s, t->terminal, out->type)) return false;
    if (t->conf_create) out->conf = t->conf_create(at, msg, &s->place);
    return !t->conf_create || out->conf;
}

static bool slot_listener(const struct conf_at *at, const ProtobufCMessage *msg,
                          struct extension_conf *out)
{
    const struct listener_filter_type *t = (const struct listener_filter_type *)out->type;
    if (t->conf_create) out->conf = t->conf_create(at, msg);
    return !t->conf_create || out->conf;
}

struct extension_conf *translate_extension_conf(struct conf_cx *cx, const struct extension_slot *s,
                                                const Google__Protobuf__Any *config)
{
    struct conf_at root = conf_root(cx), at = conf_field(&root, "typed_config");
    struct extension_conf *c = obj_new_in(cx->arena, sizeof *c);
    const ProtobufCMessage *msg;
    cx->scope = s->kind == EXTENSION_NETWORK_FILTER ? s->place.listener_stat_prefix : STR_NONE;
    c->obj.name = str_dup(cx->arena, s->key);
    if (!slot_takes(&at, s, proto_any_name(cx->arena, config))) return NULL;
    c->type = conf_extension(&root, s->kind, s->name, config, &msg);
    if (!c->type) return NULL;
    bool ok = s->kind == EXTENSION_HTTP_FILTER      ? slot_http(&at, s, msg, c)
              : s->kind == EXTENSION_NETWORK_FILTER ? slot_network(&at, s, msg, c)
                                                    : slot_listener(&at, msg, c);
    return ok ? c : NULL;
}

/* --- places
 * -------------------------------------------------------------------------------------------
 */

static uint64_t mix(uint64_t h, uint64_t v)
{
    return (h ^ v) * 0x9e3779b97f4a7c15ull;
}

/* The listener without its chains: all that a network filter may ask of it. */
static const Envoy__Config__Listener__V3__Listener *place_listener(
    struct arena *a, const struct network_filter_place *place)
{
    if (!place->listener_msg) return NULL;
    Envoy__Config__Listener__V3__Listener bare =
        *(const Envoy__Config__Listener__V3__Listener *)place->listener_msg;
    bare.n_filter_chains = 0;
    bare.filter_chains = NULL;
    bare.default_filter_chain = NULL;
    return (const void *)proto_dup(a, &bare.base);
}

static uint64_t place_hash(const struct network_filter_place *p)
{
    uint64_t h = mix(hash_str(p->listener_stat_prefix), hash_str(p->listener_name));
    h = mix(h, (uint64_t)p->traffic_direction * 2 + p->has_tls);
    if (!p->listener_msg) return h;
    Envoy__Config__Listener__V3__Listener bare =
        *(const Envoy__Config__Listener__V3__Listener *)p->listener_msg;
    bare.n_filter_chains = 0;
    bare.filter_chains = NULL;
    bare.default_filter_chain = NULL;
    return mix(h, proto_hash(&bare.base));
}

/* Equal places have equal keys. */
static struct str place_key(struct arena *a, const struct extension_place *p,
                            const Envoy__Config__Core__V3__ExtensionConfigSource *m)
{
    uint64_t h = mix(proto_hash(&m->base), hash_str(p->stat_prefix) * 2 + p->last);
    if (p->network) h = mix(h, place_hash(p->network));
    return str_fmt(a, "%s/%.*s/%016llx", extension_kind_category(p->kind), STR_ARG(p->name),
                   (unsigned long long)h);
}

static struct extension_slot *slot_new(const struct conf_at *at, const struct extension_place *p,
                                       const Envoy__Config__Core__V3__ExtensionConfigSource *m)
{
    struct arena *a = arena_new("extension slot", 1024);
    struct extension_slot *s = ARENA_NEW(a, struct extension_slot);
    s->arena = a;
    s->refs = 1;
    s->kind = p->kind;
    s->name = str_dup(a, p->name);
    s->key = place_key(a, p, m);
    s->hash = hash_str(s->key);
    s->last = p->last;
    s->no_wait = m->apply_default_config_without_warming;
    s->stat_prefix = str_dup(a, p->stat_prefix);
    s->type_urls = ARENA_ARRAY(a, struct str, m->n_type_urls);
    s->type_url_count = m->n_type_urls;
    for (size_t i = 0; i < m->n_type_urls; i++)
        s->type_urls[i] = str_dup(a, proto_url_name(str_of(m->type_urls[i])));
    if (m->default_config) s->default_config = (const void *)proto_dup(a, &m->default_config->base);
    if (p->network) {
        s->place = *p->network;
        s->place.listener_stat_prefix = str_dup(a, p->network->listener_stat_prefix);
        s->place.listener_name = str_dup(a, p->network->listener_name);
        s->place.listener_msg = place_listener(a, p->network);
    }
    s->rt = at->cx->validate_only ? NULL : at->cx->rt;
    return s;
}

/* Envoy asks this of HTTP and listener filters only. */
static bool slot_check_types(const struct conf_at *at, const struct extension_slot *s)
{
    if (s->kind == EXTENSION_NETWORK_FILTER) return true;
    bool ok = true;
    for (size_t i = 0; i < s->type_url_count; i++) {
        struct conf_at place = conf_index(at, "type_urls", i);
        if (registry_find(at->cx->registry, s->kind, s->type_urls[i], STR_NONE)) continue;
        ok = conf_fail(&place, "Error: no %sfactory found for a required type URL %.*s.",
                       s->kind == EXTENSION_LISTENER_FILTER ? "listener " : "",
                       STR_ARG(s->type_urls[i]));
    }
    return ok;
}

/* The default is translated once to see that it can be, and thrown away. */
static bool slot_check_default(const struct conf_at *at, const struct extension_slot *s)
{
    if (!s->default_config)
        return !s->no_wait ||
               conf_fail(
                   at,
                   "Error: filter config %.*s applied without warming but has no default config.",
                   STR_ARG(s->name));
    struct conf_at place = conf_field(at, "default_config");
    struct errors own = {.arena = at->cx->errors->arena};
    struct conf_cx cx = *at->cx;
    cx.arena = arena_new("default", 512);
    cx.errors = &own;
    cx.needs = NULL;
    bool ok = translate_extension_conf(&cx, s, s->default_config) != NULL;
    for (size_t i = 0; i < own.count && i < ERRORS_MOST; i++)
        conf_fail(&place, "%.*s: %.*s", STR_ARG(own.v[i].path), STR_ARG(own.v[i].text));
    arena_free(&cx.arena);
    return ok;
}

/* The subscription's statistics: as Envoy, by kind and name. */
static struct str slot_stat_prefix(struct arena *a, const struct extension_slot *s)
{
    const char *kind = s->kind == EXTENSION_HTTP_FILTER      ? "http_filter"
                       : s->kind == EXTENSION_NETWORK_FILTER ? "network_filter"
                                                             : "tcp_listener_filter";
    return str_fmt(a, "extension_config_discovery.%s.%.*s.", kind, STR_ARG(s->name));
}

const struct extension_slot *translate_extension_slot(
    const struct conf_at *at, const Envoy__Config__Core__V3__ExtensionConfigSource *m,
    const struct extension_place *place)
{
    struct conf_at here = conf_field(at, "config_discovery"),
                   source = conf_field(&here, "config_source");
    struct extension_slot *s = slot_new(at, place, m);
    if (!slot_check_types(&here, s) || !slot_check_default(&here, s)) {
        s->rt = NULL;
        extension_slot_unref(&s);
        return NULL;
    }
    struct extension_slot *known = s->rt ? map_get(&s->rt->extension_slots, s->key) : NULL;
    if (known) {
        s->rt = NULL;
        extension_slot_unref(&s);
        s = extension_slot_ref(known);
    } else if (s->rt) {
        (void)map_put(&s->rt->extension_slots, s->key, s); /* was absent */
    }
    arena_on_free(conf_arena(at), slot_left, s);
    struct need *n = conf_need(&source, NEED_EXTENSION, place->name, m->config_source);
    n->slot = s;
    n->stat_prefix = slot_stat_prefix(conf_arena(at), s);
    return s;
}
