/* The chain of HTTP filters of a connection manager. */
#include "base/arena.h"
#include "base/log.h"
#include "google/protobuf/any.pb-c.h"
#include "proto/decode.h"
#include "proxy/config/extension_slot.h"
#include "proxy/config/hcm_internal.h"

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__HttpFilter HttpFilter;

/* An optional filter that we do not know is left out. */
static bool hcm_filter_left_out(const struct conf_at *at, const HttpFilter *m,
                                const Google__Protobuf__Any *any)
{
    if (!m->is_optional) return false;
    struct str type = any ? proto_any_name(conf_arena(at), any) : STR_NONE;
    if (registry_find(at->cx->registry, EXTENSION_HTTP_FILTER, type, str_of(m->name))) return false;
    log_warn(LOG_C_CONFIG, "optional HTTP filter \"%s\" (%.*s) is not supported and left out",
             m->name, STR_ARG(type));
    return true;
}

static bool hcm_filter_discovered(const struct conf_at *at, const HttpFilter *m,
                                  struct str stat_prefix, bool last, struct http_filter_conf *out)
{
    struct extension_place place = {.kind = EXTENSION_HTTP_FILTER,
                                    .name = str_of(m->name),
                                    .last = last,
                                    .stat_prefix = stat_prefix};
    out->name = str_dup(conf_arena(at), str_of(m->name));
    out->disabled = m->disabled;
    out->slot = translate_extension_slot(at, m->config_discovery, &place);
    return out->slot != NULL;
}

/* A filter that Envoy has and we have not, and that is off unless a route switches it on. There the
 * request is refused: nothing is ever served without it. Told in the log once, as an ignored field.
 */
static bool hcm_filter_missing(const struct conf_at *at, const HttpFilter *m,
                               const Google__Protobuf__Any *any, struct http_filter_conf *out)
{
    const struct registry *r = at->cx->registry;
    if (!m->disabled || !any || !r->missing_filter) return false;
    struct arena *a = conf_arena(at);
    struct str type = proto_any_name(a, any);
    if (!registry_find_missing(r, type, false)) return false;
    struct str *name = ARENA_NEW(a, struct str);
    *name = str_dup(a, str_of(m->name));
    *out = (struct http_filter_conf){.name = *name,
                                     .type = (const struct http_filter_type *)r->missing_filter,
                                     .conf = name,
                                     .disabled = true};
    const struct proto_opts *opts = at->cx->opts;
    if (opts && opts->on_note)
        opts->on_note(opts->user, PROTO_NOTE_IGNORED, conf_path(at),
                      str_fmt(a, "%.*s is not supported: routes that switch it on answer 500",
                              STR_ARG(type)));
    return true;
}

static bool hcm_filter(const struct conf_at *at, const HttpFilter *m,
                       const Google__Protobuf__Any *any, struct str stat_prefix,
                       struct http_filter_conf *out)
{
    const ProtobufCMessage *msg;
    if (hcm_filter_missing(at, m, any, out)) return true;
    const struct extension *e =
        conf_extension(at, EXTENSION_HTTP_FILTER, str_of(m->name), any, &msg);
    if (!e) return false;
    struct conf_at config = conf_field(at, "typed_config");
    out->name = str_dup(conf_arena(at), str_of(m->name));
    out->type = (const struct http_filter_type *)e;
    out->disabled = m->disabled;
    if (!out->type->conf_create) return true;
    out->conf = out->type->conf_create(&config, msg, stat_prefix);
    return out->conf != NULL;
}

/* Envoy: exactly the last filter is terminal. */
static bool hcm_check_terminal(const struct conf_at *at, const char *field,
                               const struct http_filter_conf *v, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool last = i + 1 == n;
        if (v[i].slot || v[i].type->terminal == last) continue; /* a slot: when it is filled */
        struct conf_at place = conf_index(at, field, i);
        if (last) {
            return conf_fail(
                &place,
                "Error: non-terminal filter named %.*s of type %s is the last filter in a http filter chain.",
                STR_ARG(v[i].name), v[i].type->ext.name);
        }
        return conf_fail(
            &place,
            "Error: terminal filter named %.*s of type %s must be the last filter in a http filter chain.",
            STR_ARG(v[i].name), v[i].type->ext.name);
    }
    return true;
}

bool hcm_filters(const struct conf_at *at, const char *field, size_t n, HttpFilter *const *v,
                 struct str stat_prefix, struct http_filter_chain *out)
{
    struct http_filter_conf *filters = ARENA_ARRAY(conf_arena(at), struct http_filter_conf, n);
    size_t count = 0;
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at place = conf_index(at, field, i);
        bool typed = v[i]->config_type_case == HCM_PB(HTTP_FILTER__CONFIG_TYPE_TYPED_CONFIG);
        const Google__Protobuf__Any *any = typed ? v[i]->typed_config : NULL;
        bool made;
        if (v[i]->config_type_case == HCM_PB(HTTP_FILTER__CONFIG_TYPE_CONFIG_DISCOVERY)) {
            made = hcm_filter_discovered(&place, v[i], stat_prefix, i + 1 == n, &filters[count]);
        } else {
            if (hcm_filter_left_out(&place, v[i], any)) continue;
            made = hcm_filter(&place, v[i], any, stat_prefix, &filters[count]);
        }
        count += made;
        ok &= made;
    }
    out->v = filters;
    out->count = count;
    return ok && hcm_check_terminal(at, field, filters, count);
}
