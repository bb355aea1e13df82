/* RouteMatch. */
#include "base/addr.h"
#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/type/matcher/v3/address.pb-c.h"
#include "envoy/type/matcher/v3/filter_state.pb-c.h"
#include "envoy/type/matcher/v3/metadata.pb-c.h"
#include "envoy/type/matcher/v3/regex.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/route_ops.h"
#include "proxy/config/route_internal.h"
#include "xds/core/v3/cidr.pb-c.h"

static bool match_path(const struct conf_at *at, const Envoy__Config__Route__V3__RouteMatch *m,
                       struct route_entry *e)
{
    struct arena *a = conf_arena(at);
    struct route *r = &e->route;
    switch ((int)m->path_specifier_case) {
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_PREFIX:
        r->path_kind = PATH_PREFIX;
        r->path = str_dup(a, str_of(m->prefix));
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_PATH:
        r->path_kind = PATH_EXACT;
        r->path = str_dup(a, str_of(m->path));
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_PATH_SEPARATED_PREFIX:
        r->path_kind = PATH_SEPARATED_PREFIX;
        r->path = str_dup(a, str_of(m->path_separated_prefix));
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_SAFE_REGEX: {
        struct conf_at here = conf_field(at, "safe_regex");
        r->path_kind = PATH_REGEX;
        r->path = str_dup(a, str_of(m->safe_regex->regex));
        e->regex = conf_regex(&here, m->safe_regex);
        return e->regex != NULL;
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_CONNECT_MATCHER:
        r->path_kind = PATH_CONNECT;
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_MATCH__PATH_SPECIFIER_PATH_MATCH_POLICY: {
        struct conf_at here = conf_field(at, "path_match_policy");
        return conf_fail(&here, "path match policies are not supported");
    }
    default: return conf_fail(at, "a path specifier is needed");
    }
}

static enum route_yes_no yes_no(const Google__Protobuf__BoolValue *v)
{
    return !v ? ROUTE_ANY : v->value ? ROUTE_YES : ROUTE_NO;
}

static bool match_metadata(const struct conf_at *at, const Envoy__Config__Route__V3__RouteMatch *m,
                           struct route_conditions *e)
{
    if (!m->n_dynamic_metadata) return true;
    struct metadata_matcher *v =
        ARENA_ARRAY(conf_arena(at), struct metadata_matcher, m->n_dynamic_metadata);
    bool ok = true;
    for (size_t i = 0; i < m->n_dynamic_metadata; i++) {
        struct conf_at here = conf_index(at, "dynamic_metadata", i);
        ok = conf_metadata_matcher(&here, m->dynamic_metadata[i], &v[i]) && ok;
    }
    e->metadata = v;
    e->metadata_count = m->n_dynamic_metadata;
    return ok;
}

static bool match_state_ranges(const struct conf_at *at,
                               const Envoy__Type__Matcher__V3__AddressMatcher *m,
                               struct filter_state_matcher *out)
{
    struct cidr *v = ARENA_ARRAY(conf_arena(at), struct cidr, m->n_ranges);
    for (size_t i = 0; i < m->n_ranges; i++) {
        struct conf_at here = conf_index(at, "ranges", i);
        const Xds__Core__V3__CidrRange *r = m->ranges[i];
        if (!cidr_make(str_of(r->address_prefix), r->prefix_len ? r->prefix_len->value : 0,
                       &v[i])) {
            return conf_fail(&here, "is no address range: %s", r->address_prefix);
        }
    }
    out->ranges = v;
    out->range_count = m->n_ranges;
    out->invert = m->invert_match;
    return true;
}

static bool match_state(const struct conf_at *at, const Envoy__Config__Route__V3__RouteMatch *m,
                        struct route_conditions *e)
{
    if (!m->n_filter_state) return true;
    struct filter_state_matcher *v =
        ARENA_ARRAY(conf_arena(at), struct filter_state_matcher, m->n_filter_state);
    bool ok = true;
    for (size_t i = 0; i < m->n_filter_state; i++) {
        const Envoy__Type__Matcher__V3__FilterStateMatcher *x = m->filter_state[i];
        struct conf_at here = conf_index(at, "filter_state", i);
        v[i].key = str_dup(conf_arena(at), str_of(x->key));
        if (x->matcher_case ==
            ENVOY__TYPE__MATCHER__V3__FILTER_STATE_MATCHER__MATCHER_ADDRESS_MATCH) {
            struct conf_at address = conf_field(&here, "address_match");
            ok = match_state_ranges(&address, x->address_match, &v[i]) && ok;
        } else {
            struct conf_at string = conf_field(&here, "string_match");
            ok = conf_string_matcher(&string, x->string_match, &v[i].string) && ok;
        }
    }
    e->state = v;
    e->state_count = m->n_filter_state;
    return ok;
}

static bool match_cookies(const struct conf_at *at, const Envoy__Config__Route__V3__RouteMatch *m,
                          struct route_conditions *e)
{
    if (!m->n_cookies) return true;
    struct cookie_matcher *v = ARENA_ARRAY(conf_arena(at), struct cookie_matcher, m->n_cookies);
    bool ok = true;
    for (size_t i = 0; i < m->n_cookies; i++) {
        struct conf_at here = conf_index(at, "cookies", i);
        struct conf_at string = conf_field(&here, "string_match");
        v[i].name = str_dup(conf_arena(at), str_of(m->cookies[i]->name));
        v[i].invert = m->cookies[i]->invert_match;
        ok = conf_string_matcher(&string, m->cookies[i]->string_match, &v[i].string) && ok;
    }
    e->cookies = v;
    e->cookie_count = m->n_cookies;
    return ok;
}

static bool match_more(const struct conf_at *at, const Envoy__Config__Route__V3__RouteMatch *m,
                       struct route_conditions *e)
{
    bool headers_ok, query_ok;
    e->grpc = m->grpc != NULL;
    if (m->runtime_fraction) {
        struct conf_at here = conf_field(at, "runtime_fraction");
        struct conf_fraction f = conf_runtime_fraction(&here, m->runtime_fraction);
        e->has_fraction = true;
        e->runtime_key = f.runtime_key;
        e->numerator = f.numerator;
        e->denominator = f.denominator;
    }
    e->headers = conf_header_matchers(at, "headers", m->n_headers, m->headers, &headers_ok);
    e->header_count = e->headers ? m->n_headers : 0;
    e->query = conf_query_matchers(at, "query_parameters", m->n_query_parameters,
                                   m->query_parameters, &query_ok);
    e->query_count = e->query ? m->n_query_parameters : 0;
    if (m->tls_context) {
        e->tls_presented = yes_no(m->tls_context->presented);
        e->tls_validated = yes_no(m->tls_context->validated);
    }
    bool ok = match_metadata(at, m, e);
    ok = match_state(at, m, e) && ok;
    ok = match_cookies(at, m, e) && ok;
    return ok && headers_ok && query_ok;
}

bool translate_route_match(const struct conf_at *at, const Envoy__Config__Route__V3__RouteMatch *m,
                           struct route_entry *e)
{
    bool ok = match_path(at, m, e);
    e->ignore_case = m->case_sensitive && !m->case_sensitive->value;
    if (!m->grpc && !m->runtime_fraction && !m->n_headers && !m->n_query_parameters &&
        !m->tls_context && !m->n_dynamic_metadata && !m->n_filter_state && !m->n_cookies)
        return ok;
    struct route_conditions *more = ARENA_NEW(conf_arena(at), struct route_conditions);
    e->more = more;
    return match_more(at, m, more) && ok;
}

const struct route_match *conf_route_match(const struct conf_at *at,
                                           const struct Envoy__Config__Route__V3__RouteMatch *m)
{
    struct route_match *out = ARENA_NEW(conf_arena(at), struct route_match);
    return translate_route_match(at, m, &out->entry) ? out : NULL;
}
