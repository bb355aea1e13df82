/* scoped_routes of a connection manager: how the key is made, and the scopes themselves when they
 * stand in the configuration. */
#include "base/arena.h"
#include "envoy/config/core/v3/config_source.pb-c.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "envoy/config/route/v3/scoped_route.pb-c.h"
#include "proto/equal.h"
#include "proxy/config/hcm_internal.h"
#include "proxy/config/route.h"
#include "proxy/config/scopes.h"
#include "proxy/http/scopes.h"

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ScopedRoutes ScopedRoutes;
typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ScopedRoutes__ScopeKeyBuilder__FragmentBuilder__HeaderValueExtractor
    Extractor;
typedef Envoy__Config__Route__V3__ScopedRouteConfiguration Scope;

static bool scope_fragment(const struct conf_at *at, const Extractor *m, struct scope_fragment *f)
{
    struct arena *a = conf_arena(at);
    f->header = str_dup_lower(a, str_of(m->name));
    f->element_separator = str_dup(a, str_of(m->element_separator));
    switch (m->extract_type_case) {
    case HCM_PB(
        SCOPED_ROUTES__SCOPE_KEY_BUILDER__FRAGMENT_BUILDER__HEADER_VALUE_EXTRACTOR__EXTRACT_TYPE_INDEX):
        f->index = m->index;
        if (f->index && !f->element_separator.len)
            return conf_fail(at, "Index > 0 for empty string element separator.");
        return true;
    case HCM_PB(
        SCOPED_ROUTES__SCOPE_KEY_BUILDER__FRAGMENT_BUILDER__HEADER_VALUE_EXTRACTOR__EXTRACT_TYPE_ELEMENT):
        f->by_key = true;
        f->key = str_dup(a, str_of(m->element->key));
        f->separator = str_dup(a, str_of(m->element->separator));
        return true;
    case HCM_PB(
        SCOPED_ROUTES__SCOPE_KEY_BUILDER__FRAGMENT_BUILDER__HEADER_VALUE_EXTRACTOR__EXTRACT_TYPE__NOT_SET):
    default: return conf_fail(at, "HeaderValueExtractor extract_type not set.");
    }
}

static bool scope_builder(const struct conf_at *at, const ScopedRoutes *m, struct hcm_conf *c)
{
    struct conf_at builder = conf_field(at, "scope_key_builder");
    size_t n = m->scope_key_builder->n_fragments;
    struct scope_fragment *v = ARENA_ARRAY(conf_arena(at), struct scope_fragment, n);
    struct scope_key_builder *b = ARENA_NEW(conf_arena(at), struct scope_key_builder);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at one = conf_index(&builder, "fragments", i),
                       here = conf_field(&one, "header_value_extractor");
        ok &= scope_fragment(&here, m->scope_key_builder->fragments[i]->header_value_extractor,
                             &v[i]);
    }
    *b = (struct scope_key_builder){v, n};
    c->scope_builder = b;
    return ok;
}

struct str scope_key_of(struct arena *a, const Scope *m)
{
    struct sb key = {0};
    for (size_t i = 0; i < m->key->n_fragments; i++)
        scope_key_add(&key, str_of(m->key->fragments[i]->string_key));
    struct str out = str_dup(a, sb_str(&key));
    sb_release(&key);
    return out;
}

static void scope_map_release(void *map)
{
    map_release(map);
}

void scope_set_init(struct arena *a, struct scope_set *s)
{
    arena_on_free(a, scope_map_release, &s->by_key);
}

/* Envoy: a later scope with the key of an earlier one wins. */
static bool scope_inline(const struct conf_at *at, const Scope *m, struct scope_set *set)
{
    struct arena *a = conf_arena(at);
    struct conf_at table = conf_field(at, "route_configuration");
    if (m->route_configuration_name[0])
        return conf_fail(
            at,
            "Fetching routes via RDS (route_configuration_name) is not supported with inline scoped routes.");
    if (!m->route_configuration)
        return conf_fail(at, "You must specify a route_configuration with inline scoped routes.");
    struct scope *s = ARENA_NEW(a, struct scope);
    s->name = str_dup(a, str_of(m->name));
    s->routes = translate_inline_route_config(&table, m->route_configuration);
    (void)map_put(&set->by_key, scope_key_of(a, m), s);
    return s->routes != NULL;
}

static bool scope_list(const struct conf_at *at, const ScopedRoutes *m, struct hcm_conf *c)
{
    struct conf_at list = conf_field(at, "scoped_route_configurations_list");
    struct scope_set *set = ARENA_NEW(conf_arena(at), struct scope_set);
    scope_set_init(conf_arena(at), set);
    bool ok = true;
    for (size_t i = 0; i < m->scoped_route_configurations_list->n_scoped_route_configurations;
         i++) {
        struct conf_at here = conf_index(&list, "scoped_route_configurations", i);
        ok &= scope_inline(
            &here, m->scoped_route_configurations_list->scoped_route_configurations[i], set);
    }
    c->scopes = set;
    return ok;
}

/* Equal subscriptions share a set. */
static bool scope_discovery(const struct conf_at *at, const ScopedRoutes *m, struct hcm_conf *c)
{
    struct arena *a = conf_arena(at);
    struct conf_at srds = conf_field(at, "scoped_rds"),
                   source = conf_field(&srds, "scoped_rds_config_source");
    const Envoy__Config__Core__V3__ConfigSource *routes =
        m->rds_config_source ? m->rds_config_source : m->scoped_rds->scoped_rds_config_source;
    uint64_t h = proto_hash(&m->scoped_rds->base) ^ (proto_hash(&routes->base) << 1);
    c->scopes_name =
        str_fmt(a, "%s/%.*s%016llx", m->name, STR_ARG(c->stat_prefix), (unsigned long long)h);
    c->scopes_hash = hash_str(c->scopes_name);
    struct need *n = conf_need(&source, NEED_SCOPED_ROUTES, c->scopes_name,
                               m->scoped_rds->scoped_rds_config_source);
    n->stat_prefix = str_fmt(a, "%.*sscoped_rds.%s.", STR_ARG(c->stat_prefix), m->name);
    n->routes_source = routes;
    n->routes_stat_prefix = str_fmt(a, "%.*srds.", STR_ARG(c->stat_prefix));
    n->label = str_dup(a, str_of(m->name));
    return true;
}

bool hcm_scoped_routes(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    struct conf_at here = conf_field(at, "scoped_routes");
    const ScopedRoutes *s = m->scoped_routes;
    bool ok = scope_builder(&here, s, c);
    if (s->config_specifier_case == HCM_PB(SCOPED_ROUTES__CONFIG_SPECIFIER_SCOPED_RDS))
        return scope_discovery(&here, s, c) && ok;
    if (s->config_specifier_case ==
        HCM_PB(SCOPED_ROUTES__CONFIG_SPECIFIER_SCOPED_ROUTE_CONFIGURATIONS_LIST))
        return scope_list(&here, s, c) && ok;
    return conf_fail(&here, "one of scoped_route_configurations_list, scoped_rds is required");
}
