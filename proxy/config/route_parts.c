/* Parts of routes: weighted clusters, redirects, direct responses, hash policies, mirrors. */
#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/substitution_format_string.pb-c.h"
#include "envoy/type/matcher/v3/regex.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/config/route_internal.h"

static bool one_of_names(const struct conf_at *at, const char *what, const char *name,
                         const char *header)
{
    if (name[0] && header[0])
        return conf_fail(at, "only one of %s or cluster_header can be specified", what);
    if (!name[0] && !header[0])
        return conf_fail(at, "one of %s or cluster_header needs to be specified", what);
    return true;
}

static bool weighted_overrides(const struct conf_at *at,
                               const Envoy__Config__Route__V3__WeightedCluster__ClusterWeight *m,
                               struct weighted_cluster *out)
{
    bool ok = true;
    for (size_t i = 0; i < m->n_typed_per_filter_config; i++) {
        struct conf_at here =
            conf_key(at, "typed_per_filter_config", str_of(m->typed_per_filter_config[i]->key));
        ok = translate_filter_override(&here, m->typed_per_filter_config[i]->key,
                                       m->typed_per_filter_config[i]->value, &out->overrides) &&
             ok;
    }
    return ok;
}

static bool weighted_one(struct route_build *b, const struct conf_at *at,
                         const Envoy__Config__Route__V3__WeightedCluster *all,
                         const Envoy__Config__Route__V3__WeightedCluster__ClusterWeight *m,
                         const struct route *r, struct weighted_cluster *out)
{
    struct arena *a = b->a;
    struct conf_at metadata = conf_field(at, "metadata_match"), name = conf_field(at, "name");
    bool request_ok, response_ok;
    if (!one_of_names(at, "name", m->name, m->cluster_header)) return false;
    out->name = str_dup(a, str_of(m->name));
    out->hash = hash_str(out->name);
    out->header = str_dup_lower(a, str_of(m->cluster_header));
    out->weight = m->weight ? m->weight->value : 0;
    if (all->runtime_key_prefix[0])
        out->runtime_key = str_fmt(a, "%s.%s", all->runtime_key_prefix, m->name);
    if (m->host_rewrite_specifier_case ==
        ENVOY__CONFIG__ROUTE__V3__WEIGHTED_CLUSTER__CLUSTER_WEIGHT__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL) {
        out->host_rewrite = str_dup(a, str_of(m->host_rewrite_literal));
    }
    out->request_headers = conf_header_change(
        at, "request_headers_to_add", m->n_request_headers_to_add, m->request_headers_to_add,
        "request_headers_to_remove", m->n_request_headers_to_remove, m->request_headers_to_remove,
        &request_ok);
    out->response_headers = conf_header_change(
        at, "response_headers_to_add", m->n_response_headers_to_add, m->response_headers_to_add,
        "response_headers_to_remove", m->n_response_headers_to_remove,
        m->response_headers_to_remove, &response_ok);
    out->metadata_match =
        route_metadata_merge(r->metadata_match, conf_metadata(&metadata, m->metadata_match), a);
    bool ok = weighted_overrides(at, m, out);
    if (out->name.len) ok = route_uses_cluster(b, &name, out->name) && ok;
    return ok && request_ok && response_ok;
}

bool translate_weighted_clusters(struct route_build *b, const struct conf_at *at,
                                 const Envoy__Config__Route__V3__WeightedCluster *m,
                                 struct route *r)
{
    struct weighted_cluster *v = ARENA_ARRAY(b->a, struct weighted_cluster, m->n_clusters);
    bool ok = true;
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n_clusters; i++) {
        struct conf_at here = conf_index(at, "clusters", i);
        ok = weighted_one(b, &here, m, m->clusters[i], r, &v[i]) && ok;
        sum += v[i].weight;
    }
    r->weighted = v;
    r->weighted_count = m->n_clusters;
    r->weighted_total = sum;
    r->weighted_runtime_prefix = str_dup(b->a, str_of(m->runtime_key_prefix));
    if (m->random_value_specifier_case ==
        ENVOY__CONFIG__ROUTE__V3__WEIGHTED_CLUSTER__RANDOM_VALUE_SPECIFIER_HEADER_NAME) {
        r->weighted_header = str_dup_lower(b->a, str_of(m->header_name));
    } else if (m->random_value_specifier_case ==
               ENVOY__CONFIG__ROUTE__V3__WEIGHTED_CLUSTER__RANDOM_VALUE_SPECIFIER_USE_HASH_POLICY) {
        r->weighted_use_hash_policy = m->use_hash_policy->value;
    }
    struct conf_at clusters = conf_field(at, "clusters");
    if (sum > UINT32_MAX)
        return conf_fail(&clusters, "The sum of weights of all weighted clusters exceeds %u",
                         UINT32_MAX);
    if (!sum)
        return conf_fail(&clusters,
                         "Sum of weights in the weighted_cluster must be greater than 0.");
    return ok;
}

bool translate_redirect(const struct conf_at *at, const Envoy__Config__Route__V3__RedirectAction *m,
                        struct route *r)
{
    static const uint32_t codes[] = {301, 302, 303, 307, 308};
    struct arena *a = conf_arena(at);
    struct redirect *d = ARENA_NEW(a, struct redirect);
    r->action = ROUTE_REDIRECT;
    r->redirect = d;
    d->host = str_dup(a, str_of(m->host_redirect));
    d->port = m->port_redirect;
    d->strip_query = m->strip_query;
    d->code = codes[(unsigned)m->response_code < 5 ? (unsigned)m->response_code : 0];
    if (d->port > 65535) {
        struct conf_at here = conf_field(at, "port_redirect");
        return conf_fail(&here, "must be 0..65535");
    }
    if (m->scheme_rewrite_specifier_case ==
        ENVOY__CONFIG__ROUTE__V3__REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_HTTPS_REDIRECT) {
        d->https = m->https_redirect;
    } else if (
        m->scheme_rewrite_specifier_case ==
        ENVOY__CONFIG__ROUTE__V3__REDIRECT_ACTION__SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT) {
        d->scheme = str_dup(a, str_of(m->scheme_redirect));
    }
    switch ((int)m->path_rewrite_specifier_case) {
    case ENVOY__CONFIG__ROUTE__V3__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PATH_REDIRECT:
        d->path = str_dup(a, str_of(m->path_redirect));
        return true;
    case ENVOY__CONFIG__ROUTE__V3__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_PREFIX_REWRITE:
        d->prefix_rewrite = str_dup(a, str_of(m->prefix_rewrite));
        return true;
    case ENVOY__CONFIG__ROUTE__V3__REDIRECT_ACTION__PATH_REWRITE_SPECIFIER_REGEX_REWRITE: {
        struct conf_at here = conf_field(at, "regex_rewrite");
        return conf_regex_rewrite(&here, m->regex_rewrite, &d->regex, &d->regex_to);
    }
    default: return true;
    }
}

bool translate_direct_response(struct route_build *b, const struct conf_at *at,
                               const Envoy__Config__Route__V3__DirectResponseAction *m,
                               struct route *r)
{
    r->action = ROUTE_DIRECT_RESPONSE;
    r->direct_status = m->status;
    bool ok = true;
    if (m->body) {
        struct conf_at here = conf_field(at, "body");
        ok = conf_data_source(&here, m->body, b->body_most, &r->direct_body);
    }
    if (m->body_format) {
        struct conf_at here = conf_field(at, "body_format");
        r->direct_format = conf_format(&here, m->body_format);
        ok = r->direct_format && ok;
    }
    return ok;
}

static bool hash_cookie(const struct conf_at *at,
                        const Envoy__Config__Route__V3__RouteAction__HashPolicy__Cookie *m,
                        struct hash_policy *p)
{
    struct arena *a = conf_arena(at);
    struct conf_at ttl = conf_field(at, "ttl");
    uint64_t us = 0;
    p->kind = HASH_COOKIE;
    p->name = str_dup(a, str_of(m->name));
    p->path = str_dup(a, str_of(m->path));
    p->has_ttl = m->ttl != NULL;
    if (!conf_duration(&ttl, m->ttl, 0, &us)) return false;
    p->ttl_s = us / 1000000;
    struct sb out = {0};
    for (size_t i = 0; i < m->n_attributes; i++) {
        sb_fmt(&out, m->attributes[i]->value[0] ? "; %s=%s" : "; %s", m->attributes[i]->name,
               m->attributes[i]->value);
    }
    p->attributes = str_dup(a, sb_str(&out));
    sb_release(&out);
    return true;
}

static bool hash_one(const struct conf_at *at,
                     const Envoy__Config__Route__V3__RouteAction__HashPolicy *m,
                     struct hash_policy *p)
{
    struct arena *a = conf_arena(at);
    p->terminal = m->terminal;
    switch ((int)m->policy_specifier_case) {
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_HEADER: {
        struct conf_at header = conf_field(at, "header"),
                       regex = conf_field(&header, "regex_rewrite");
        p->kind = HASH_HEADER;
        p->name = str_dup_lower(a, str_of(m->header->header_name));
        if (str_eq(p->name, STR("host"))) p->name = STR(":authority");
        return !m->header->regex_rewrite ||
               conf_regex_rewrite(&regex, m->header->regex_rewrite, &p->regex, &p->regex_to);
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_COOKIE: {
        struct conf_at here = conf_field(at, "cookie");
        return hash_cookie(&here, m->cookie, p);
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_CONNECTION_PROPERTIES:
        p->kind = m->connection_properties->source_ip ? HASH_SOURCE_IP : HASH_NOTHING;
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_QUERY_PARAMETER:
        p->kind = HASH_QUERY;
        p->name = str_dup(a, str_of(m->query_parameter->name));
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HASH_POLICY__POLICY_SPECIFIER_FILTER_STATE:
        p->kind = HASH_FILTER_STATE;
        p->name = str_dup(a, str_of(m->filter_state->key));
        return true;
    default: return conf_fail(at, "a policy specifier is needed");
    }
}

bool translate_hash_policies(const struct conf_at *at, size_t n,
                             Envoy__Config__Route__V3__RouteAction__HashPolicy *const *v,
                             const struct hash_policy **out, size_t *count)
{
    if (!n) return true;
    struct hash_policy *list = ARENA_ARRAY(conf_arena(at), struct hash_policy, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, "hash_policy", i);
        ok = hash_one(&here, v[i], &list[i]) && ok;
    }
    *out = list;
    *count = n;
    return ok;
}

bool translate_mirror(const struct conf_at *at,
                      const Envoy__Config__Route__V3__RouteAction__RequestMirrorPolicy *m,
                      struct mirror_policy *out)
{
    bool ok = true;
    struct arena *a = conf_arena(at);
    if (!one_of_names(at, "cluster", m->cluster, m->cluster_header)) return false;
    out->cluster = str_dup(a, str_of(m->cluster));
    out->hash = hash_str(out->cluster);
    out->cluster_header = str_dup_lower(a, str_of(m->cluster_header));
    out->disable_shadow_host_suffix = m->disable_shadow_host_suffix_append;
    out->host_rewrite = str_dup(a, str_of(m->host_rewrite_literal));
    if (m->runtime_fraction) {
        struct conf_at here = conf_field(at, "runtime_fraction");
        struct conf_fraction f = conf_runtime_fraction(&here, m->runtime_fraction);
        out->has_fraction = true;
        out->runtime_key = f.runtime_key;
        out->numerator = f.numerator;
        out->denominator = f.denominator;
    }
    out->request_headers =
        conf_header_mutations(at, "request_headers_mutations", m->n_request_headers_mutations,
                              m->request_headers_mutations, &ok);
    return ok;
}

static bool mirror_one(struct route_build *b, const struct conf_at *at,
                       const Envoy__Config__Route__V3__RouteAction__RequestMirrorPolicy *m,
                       struct mirror_policy *out)
{
    struct conf_at cluster = conf_field(at, "cluster");
    return translate_mirror(at, m, out) &&
           (!out->cluster.len || route_uses_cluster(b, &cluster, out->cluster));
}

const struct mirror_policy *translate_mirrors(
    struct route_build *b, const struct conf_at *at, const char *field, size_t n,
    Envoy__Config__Route__V3__RouteAction__RequestMirrorPolicy *const *v, bool *ok)
{
    *ok = true;
    if (!n) return NULL;
    struct mirror_policy *out = ARENA_ARRAY(b->a, struct mirror_policy, n);
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        *ok = mirror_one(b, &here, v[i], &out[i]) && *ok;
    }
    return *ok ? out : NULL;
}
