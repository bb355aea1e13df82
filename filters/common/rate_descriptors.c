/* Actions to descriptors. */
#include "filters/common/rate_descriptors.h"

#include "base/addr.h"
#include "base/arena.h"
#include "base/text.h"
#include "envoy/config/route/v3/route_components.pb-c.h"
#include "envoy/type/metadata/v3/metadata.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/route.h"
#include "proxy/api/stream_info.h"

#define ACTION(name) ENVOY__CONFIG__ROUTE__V3__RATE_LIMIT__ACTION__ACTION_SPECIFIER_##name

enum rate_kind {
    RATE_SOURCE_CLUSTER,
    RATE_DESTINATION_CLUSTER,
    RATE_HEADER,
    RATE_QUERY,
    RATE_ADDRESS,
    RATE_MASKED_ADDRESS,
    RATE_FIXED,
    RATE_HEADERS_MATCH,
    RATE_QUERY_MATCH,
    RATE_METADATA
};
struct rate_action {
    enum rate_kind kind;
    struct str key, value; /* value: fixed, or the default of metadata */
    struct str name;       /* header or parameter */
    bool skip_if_absent, expect_match, of_route;
    uint32_t bits_v4, bits_v6;
    const struct header_matcher *headers;
    const struct query_matcher *query;
    size_t count;
    struct str ns; /* metadata */
    const struct str *path;
    size_t path_count;
};
struct rate_list {
    const struct rate_action *v;
    size_t count;
};
struct rate_actions {
    struct rate_list *v;
};

bool rate_descriptor_same(const struct rate_descriptor *a, const struct rate_descriptor *b)
{
    if (a->count != b->count) return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!str_eq(a->v[i].key, b->v[i].key) || !str_eq(a->v[i].value, b->v[i].value))
            return false;
    }
    return true;
}

/* --- configuration
 * ---------------------------------------------------------------------------------- */

static struct str text_or(struct arena *a, const char *text, struct str fallback)
{
    return text && text[0] ? str_dup(a, str_of(text)) : fallback;
}

static bool action_headers(const struct conf_at *at,
                           const Envoy__Config__Route__V3__RateLimit__Action__HeaderValueMatch *m,
                           struct rate_action *out)
{
    struct arena *a = conf_arena(at);
    bool ok;
    out->kind = RATE_HEADERS_MATCH;
    out->key = text_or(a, m->descriptor_key, STR("header_match"));
    out->value = str_dup(a, str_of(m->descriptor_value));
    out->expect_match = !m->expect_match || m->expect_match->value;
    out->headers = conf_header_matchers(at, "headers", m->n_headers, m->headers, &ok);
    out->count = m->n_headers;
    return ok;
}

static bool action_query(
    const struct conf_at *at,
    const Envoy__Config__Route__V3__RateLimit__Action__QueryParameterValueMatch *m,
    struct rate_action *out)
{
    struct arena *a = conf_arena(at);
    bool ok;
    out->kind = RATE_QUERY_MATCH;
    out->key = text_or(a, m->descriptor_key, STR("query_match"));
    out->value = str_dup(a, str_of(m->descriptor_value));
    out->expect_match = !m->expect_match || m->expect_match->value;
    out->query = conf_query_matchers(at, "query_parameters", m->n_query_parameters,
                                     m->query_parameters, &ok);
    out->count = m->n_query_parameters;
    return ok;
}

static bool action_metadata(const Envoy__Config__Route__V3__RateLimit__Action__MetaData *m,
                            struct arena *a, struct rate_action *out)
{
    struct str *path = ARENA_ARRAY(a, struct str, m->metadata_key->n_path);
    for (size_t i = 0; i < m->metadata_key->n_path; i++)
        path[i] = str_dup(a, str_of(m->metadata_key->path[i]->key));
    *out = (struct rate_action){
        .kind = RATE_METADATA,
        .key = str_dup(a, str_of(m->descriptor_key)),
        .value = str_dup(a, str_of(m->default_value)),
        .skip_if_absent = m->skip_if_absent,
        .of_route = m->source ==
                    ENVOY__CONFIG__ROUTE__V3__RATE_LIMIT__ACTION__META_DATA__SOURCE__ROUTE_ENTRY,
        .ns = str_dup(a, str_of(m->metadata_key->key)),
        .path = path,
        .path_count = m->metadata_key->n_path};
    return true;
}

static bool action(const struct conf_at *at, const Envoy__Config__Route__V3__RateLimit__Action *m,
                   struct rate_action *out)
{
    struct arena *a = conf_arena(at);
    struct conf_at place;
    switch ((int)m->action_specifier_case) {
    case ACTION(SOURCE_CLUSTER): out->kind = RATE_SOURCE_CLUSTER; return true;
    case ACTION(DESTINATION_CLUSTER): out->kind = RATE_DESTINATION_CLUSTER; return true;
    case ACTION(REQUEST_HEADERS):
        *out =
            (struct rate_action){.kind = RATE_HEADER,
                                 .key = str_dup(a, str_of(m->request_headers->descriptor_key)),
                                 .name = str_dup_lower(a, str_of(m->request_headers->header_name)),
                                 .skip_if_absent = m->request_headers->skip_if_absent};
        return true;
    case ACTION(QUERY_PARAMETERS):
        *out = (struct rate_action){
            .kind = RATE_QUERY,
            .key = str_dup(a, str_of(m->query_parameters->descriptor_key)),
            .name = str_dup(a, str_of(m->query_parameters->query_parameter_name)),
            .skip_if_absent = m->query_parameters->skip_if_absent};
        return true;
    case ACTION(REMOTE_ADDRESS): out->kind = RATE_ADDRESS; return true;
    case ACTION(MASKED_REMOTE_ADDRESS):
        *out = (struct rate_action){.kind = RATE_MASKED_ADDRESS, .bits_v4 = 32, .bits_v6 = 128};
        if (m->masked_remote_address->v4_prefix_mask_len)
            out->bits_v4 = m->masked_remote_address->v4_prefix_mask_len->value;
        if (m->masked_remote_address->v6_prefix_mask_len)
            out->bits_v6 = m->masked_remote_address->v6_prefix_mask_len->value;
        return true;
    case ACTION(GENERIC_KEY):
        out->kind = RATE_FIXED;
        out->key = text_or(a, m->generic_key->descriptor_key, STR("generic_key"));
        out->value = str_dup(a, str_of(m->generic_key->descriptor_value));
        return true;
    case ACTION(HEADER_VALUE_MATCH):
        place = conf_field(at, "header_value_match");
        return action_headers(&place, m->header_value_match, out);
    case ACTION(QUERY_PARAMETER_VALUE_MATCH):
        place = conf_field(at, "query_parameter_value_match");
        return action_query(&place, m->query_parameter_value_match, out);
    case ACTION(METADATA): return action_metadata(m->metadata, a, out);
    case ACTION(EXTENSION):
        place = conf_field(at, "extension");
        return conf_fail(&place, "rate limit descriptors by extensions are not supported");
    default: return conf_fail(at, "an action is needed");
    }
}

/* What would change the limit is not done: refused, not ignored. */
static bool rate_limit(const struct conf_at *at, const Envoy__Config__Route__V3__RateLimit *m,
                       struct rate_list *out)
{
    struct rate_action *v = ARENA_ARRAY(conf_arena(at), struct rate_action, m->n_actions);
    bool ok = true;
    struct conf_at place;
    if (m->limit) {
        place = conf_field(at, "limit");
        ok = conf_fail(&place, "overrides of limits are not supported");
    }
    if (m->hits_addend) {
        place = conf_field(at, "hits_addend");
        ok = conf_fail(&place, "hits of more than one are not supported");
    }
    if (m->apply_on_stream_done) {
        place = conf_field(at, "apply_on_stream_done");
        ok = conf_fail(&place, "limits at the end of a stream are not supported");
    }
    if (m->disable_key && m->disable_key[0]) {
        place = conf_field(at, "disable_key");
        ok = conf_fail(&place, "switching off by runtime is not supported");
    }
    for (size_t i = 0; i < m->n_actions; i++) {
        place = conf_index(at, "actions", i);
        ok &= action(&place, m->actions[i], &v[i]);
    }
    out->v = v;
    out->count = m->n_actions;
    return ok;
}

const struct rate_actions *conf_rate_actions(const struct conf_at *at, const char *field, size_t n,
                                             struct Envoy__Config__Route__V3__RateLimit *const *v,
                                             bool *ok)
{
    struct rate_actions *out = ARENA_NEW(conf_arena(at), struct rate_actions);
    *ok = true;
    out->v = ARENA_ARRAY(conf_arena(at), struct rate_list, n);
    for (size_t i = 0; i < n; i++) {
        struct conf_at place = conf_index(at, field, i);
        *ok &= rate_limit(&place, v[i], &out->v[i]);
    }
    return *ok && n ? out : NULL;
}

/* --- requests
 * --------------------------------------------------------------------------------------- */

/* Worker results: 1 an entry, 0 none but go on, -1 no descriptor. */
enum rate_result { RATE_STOP = -1, RATE_SKIP, RATE_ADD };

static enum rate_result absent(const struct rate_action *x)
{
    return x->skip_if_absent ? RATE_SKIP : RATE_STOP;
}

static enum rate_result add_query(const struct rate_action *x, const struct rate_ask *ask,
                                  struct rate_entry *out)
{
    struct str path = headers_get(ask->h, HDR_PATH), query = STR_NONE, pair;
    if (!str_cut(path, '?', &path, &query)) return absent(x);
    while (str_next(&query, '&', &pair)) {
        struct str name = pair, value = STR_NONE;
        (void)str_cut(pair, '=', &name, &value);
        if (!str_eq(percent_decode(ask->a, name), x->name)) continue;
        value = percent_decode(ask->a, value);
        if (!value.len) return absent(x);
        *out = (struct rate_entry){x->key, value};
        return RATE_ADD;
    }
    return absent(x);
}

static enum rate_result add_address(const struct rate_action *x, const struct rate_ask *ask,
                                    struct rate_entry *out)
{
    char text[ADDR_TEXT_MAX];
    const struct addr *from = ask->info->remote.len ? &ask->info->remote : &ask->info->conn->remote;
    struct cidr range;
    if (!addr_is_ip(from)) return RATE_STOP;
    struct str ip = str_dup(ask->a, str_make(text, addr_format_ip(from, text)));
    if (x->kind == RATE_ADDRESS) {
        *out = (struct rate_entry){STR("remote_address"), ip};
        return RATE_ADD;
    }
    if (!cidr_make(ip, addr_is_v4(from) ? x->bits_v4 : x->bits_v6, &range)) return RATE_STOP;
    *out = (struct rate_entry){STR("masked_remote_address"), cidr_text(&range, ask->a)};
    return RATE_ADD;
}

static enum rate_result add_metadata(const struct rate_action *x, const struct rate_ask *ask,
                                     struct rate_entry *out)
{
    const struct route *r = ask->info->route;
    const struct metadata *md = x->of_route ? (r ? r->metadata : NULL) : ask->info->dynamic;
    const struct value *v = metadata_find(md, x->ns, x->path, x->path_count);
    struct str text = v && v->kind == VALUE_STRING && v->u.text.len ? v->u.text : x->value;
    if (!text.len) return absent(x);
    *out = (struct rate_entry){x->key, text};
    return RATE_ADD;
}

static enum rate_result add_matched(const struct rate_action *x, bool fits, struct rate_entry *out)
{
    if (fits != x->expect_match) return RATE_STOP;
    *out = (struct rate_entry){x->key, x->value};
    return RATE_ADD;
}

static enum rate_result add(const struct rate_action *x, const struct rate_ask *ask,
                            struct rate_entry *out)
{
    struct str text;
    switch (x->kind) {
    case RATE_SOURCE_CLUSTER:
        *out = (struct rate_entry){STR("source_cluster"), ask->service_cluster};
        return RATE_ADD;
    case RATE_DESTINATION_CLUSTER:
        if (!ask->info->route || !ask->info->route->cluster.len) return RATE_STOP;
        *out = (struct rate_entry){STR("destination_cluster"), ask->info->route->cluster};
        return RATE_ADD;
    case RATE_HEADER:
        text = headers_all(ask->h, x->name, ask->a);
        if (!text.ptr) return absent(x);
        if (!text.len) return RATE_STOP;
        *out = (struct rate_entry){x->key, text};
        return RATE_ADD;
    case RATE_QUERY: return add_query(x, ask, out);
    case RATE_ADDRESS:
    case RATE_MASKED_ADDRESS: return add_address(x, ask, out);
    case RATE_FIXED: *out = (struct rate_entry){x->key, x->value}; return RATE_ADD;
    case RATE_HEADERS_MATCH:
        return add_matched(x, header_match_all(x->headers, x->count, ask->h, ask->a), out);
    case RATE_QUERY_MATCH:
        return add_matched(
            x, query_match_all(x->query, x->count, headers_get(ask->h, HDR_PATH), ask->a), out);
    case RATE_METADATA: return add_metadata(x, ask, out);
    }
    return RATE_STOP;
}

bool rate_descriptor_of(const struct rate_actions *v, size_t i, const struct rate_ask *ask,
                        struct rate_descriptor *out)
{
    const struct rate_list *list = &v->v[i];
    struct rate_entry *entries = ARENA_ARRAY(ask->a, struct rate_entry, list->count);
    *out = (struct rate_descriptor){.v = entries};
    for (size_t k = 0; k < list->count; k++) {
        enum rate_result r = add(&list->v[k], ask, &entries[out->count]);
        if (r == RATE_STOP) return false;
        if (r == RATE_ADD) out->count++;
    }
    return out->count > 0;
}
