/* RouteAction and retry policies. */
#include "base/arena.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/proxy_protocol.pb-c.h"
#include "envoy/type/matcher/v3/regex.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proto/decode.h"
#include "proxy/config/route_internal.h"

static const struct format *field_format(const struct conf_at *at, const char *field,
                                         const char *text, bool omit_empty)
{
    struct conf_at here = conf_field(at, field);
    struct str why = STR_NONE;
    const struct format *f =
        format_parse(conf_arena(at), str_dup(conf_arena(at), str_of(text)), omit_empty, &why);
    if (!f) (void)conf_fail(&here, "%.*s", STR_ARG(why));
    return f;
}

static bool action_cluster(struct route_build *b, const struct conf_at *at,
                           const Envoy__Config__Route__V3__RouteAction *m, struct route *r)
{
    switch ((int)m->cluster_specifier_case) {
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER: {
        struct conf_at here = conf_field(at, "cluster");
        r->cluster = str_dup(b->a, str_of(m->cluster));
        r->cluster_hash = hash_str(r->cluster);
        return route_uses_cluster(b, &here, r->cluster);
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__CLUSTER_SPECIFIER_CLUSTER_HEADER:
        r->cluster_header = str_dup_lower(b->a, str_of(m->cluster_header));
        if (str_eq(r->cluster_header, STR("host"))) r->cluster_header = STR(":authority");
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS: {
        struct conf_at here = conf_field(at, "weighted_clusters");
        return translate_weighted_clusters(b, &here, m->weighted_clusters, r);
    }
    default: return conf_fail(at, "cluster specifier plugins are not supported");
    }
}

static bool action_host(const struct conf_at *at, const Envoy__Config__Route__V3__RouteAction *m,
                        struct route *r)
{
    struct arena *a = conf_arena(at);
    r->append_x_forwarded_host = m->append_x_forwarded_host;
    switch ((int)m->host_rewrite_specifier_case) {
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL:
        if (m->host_rewrite_literal[0]) r->host_rewrite = HOST_REWRITE_LITERAL;
        r->host_rewrite_value = str_dup(a, str_of(m->host_rewrite_literal));
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_AUTO_HOST_REWRITE:
        if (m->auto_host_rewrite->value) r->host_rewrite = HOST_REWRITE_AUTO;
        r->auto_host_rewrite = m->auto_host_rewrite->value;
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_HEADER:
        if (m->host_rewrite_header[0]) r->host_rewrite = HOST_REWRITE_HEADER;
        r->host_rewrite_value = str_dup_lower(a, str_of(m->host_rewrite_header));
        return true;
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE_PATH_REGEX: {
        struct conf_at here = conf_field(at, "host_rewrite_path_regex");
        r->host_rewrite = HOST_REWRITE_PATH_REGEX;
        return conf_regex_rewrite(&here, m->host_rewrite_path_regex, &r->host_rewrite_regex,
                                  &r->host_rewrite_value);
    }
    case ENVOY__CONFIG__ROUTE__V3__ROUTE_ACTION__HOST_REWRITE_SPECIFIER_HOST_REWRITE:
        if (!m->host_rewrite[0]) return true;
        r->host_rewrite = HOST_REWRITE_FORMAT;
        r->host_rewrite_format = field_format(at, "host_rewrite", m->host_rewrite, false);
        return r->host_rewrite_format != NULL;
    default: return true;
    }
}

static bool action_path(const struct conf_at *at, const Envoy__Config__Route__V3__RouteAction *m,
                        struct route *r)
{
    int ways =
        (m->prefix_rewrite[0] != '\0') + (m->regex_rewrite != NULL) + (m->path_rewrite[0] != '\0');
    if (ways > 1)
        return conf_fail(
            at, "only one of prefix_rewrite, regex_rewrite or path_rewrite can be specified");
    r->prefix_rewrite = str_dup(conf_arena(at), str_of(m->prefix_rewrite));
    if (m->regex_rewrite) {
        struct conf_at here = conf_field(at, "regex_rewrite");
        return conf_regex_rewrite(&here, m->regex_rewrite, &r->regex_rewrite, &r->regex_rewrite_to);
    }
    if (!m->path_rewrite[0]) return true;
    r->path_rewrite_format = field_format(at, "path_rewrite", m->path_rewrite, true);
    return r->path_rewrite_format != NULL;
}

static bool duration(const struct conf_at *at, const char *field,
                     const Google__Protobuf__Duration *m, bool *has, uint64_t *us)
{
    struct conf_at here = conf_field(at, field);
    if (!m) return true;
    *has = true;
    return conf_duration(&here, m, 0, us);
}

static bool action_times(const struct conf_at *at, const Envoy__Config__Route__V3__RouteAction *m,
                         struct route *r)
{
    r->timeout_us = 15000000;
    bool ok = duration(at, "timeout", m->timeout, &r->has_timeout, &r->timeout_us);
    ok = duration(at, "idle_timeout", m->idle_timeout, &r->has_idle_timeout, &r->idle_timeout_us) &&
         ok;
    ok = duration(at, "flush_timeout", m->flush_timeout, &r->has_flush_timeout,
                  &r->flush_timeout_us) &&
         ok;
    ok = duration(at, "max_grpc_timeout", m->max_grpc_timeout, &r->has_max_grpc_timeout,
                  &r->max_grpc_timeout_us) &&
         ok;
    ok = duration(at, "grpc_timeout_offset", m->grpc_timeout_offset, &r->has_legacy_grpc_offset,
                  &r->legacy_grpc_offset_us) &&
         ok;
    if (!m->max_stream_duration) return ok;
    const Envoy__Config__Route__V3__RouteAction__MaxStreamDuration *d = m->max_stream_duration;
    struct conf_at here = conf_field(at, "max_stream_duration");
    ok = duration(&here, "max_stream_duration", d->max_stream_duration, &r->has_max_stream_duration,
                  &r->max_stream_duration_us) &&
         ok;
    ok = duration(&here, "grpc_timeout_header_max", d->grpc_timeout_header_max,
                  &r->has_grpc_timeout_max, &r->grpc_timeout_max_us) &&
         ok;
    return duration(&here, "grpc_timeout_header_offset", d->grpc_timeout_header_offset,
                    &r->has_grpc_timeout_offset, &r->grpc_timeout_offset_us) &&
           ok;
}

static bool action_upgrades(const struct conf_at *at,
                            const Envoy__Config__Route__V3__RouteAction *m, struct route *r)
{
    if (!m->n_upgrade_configs) return true;
    struct upgrade_conf *v = ARENA_ARRAY(conf_arena(at), struct upgrade_conf, m->n_upgrade_configs);
    for (size_t i = 0; i < m->n_upgrade_configs; i++) {
        const Envoy__Config__Route__V3__RouteAction__UpgradeConfig *x = m->upgrade_configs[i];
        struct conf_at here = conf_index(at, "upgrade_configs", i),
                       connect = conf_field(&here, "connect_config");
        v[i].type = str_dup(conf_arena(at), str_of(x->upgrade_type));
        v[i].enabled = !x->enabled || x->enabled->value;
        for (size_t k = 0; k < i; k++) {
            if (str_case_eq(v[k].type, v[i].type))
                return conf_fail(&here, "Duplicate upgrade %s", x->upgrade_type);
        }
        if (!x->connect_config) continue;
        if (!str_case_eq(v[i].type, STR("CONNECT"))) {
            return conf_fail(&connect, "Non-CONNECT upgrade type %s has ConnectConfig",
                             x->upgrade_type);
        }
        const Envoy__Config__Core__V3__ProxyProtocolConfig *proxy =
            x->connect_config->proxy_protocol_config;
        if (proxy) /* Envoy: TLVs are not sent here */
            v[i].proxy_header =
                proxy->version == ENVOY__CONFIG__CORE__V3__PROXY_PROTOCOL_CONFIG__VERSION__V2 ? 2
                                                                                              : 1;
        v[i].terminate_connect = true;
        v[i].allow_post = x->connect_config->allow_post;
    }
    r->upgrades = v;
    r->upgrade_count = m->n_upgrade_configs;
    return true;
}

static bool action_internal_redirect(const struct conf_at *at,
                                     const Envoy__Config__Route__V3__InternalRedirectPolicy *m,
                                     struct route *r)
{
    struct arena *a = conf_arena(at);
    struct internal_redirect *x = ARENA_NEW(a, struct internal_redirect);
    struct str *copy = ARENA_ARRAY(a, struct str, m->n_response_headers_to_copy);
    if (m->n_predicates) {
        struct conf_at here = conf_index(at, "predicates", 0);
        return conf_fail(&here, "internal redirect predicates are not supported");
    }
    for (size_t i = 0; i < m->n_redirect_response_codes; i++) {
        uint32_t code = m->redirect_response_codes[i];
        if (code == 301 || code == 302 || code == 303 || code == 307 || code == 308)
            x->codes |= 1U << (code - 300);
    }
    if (!m->n_redirect_response_codes) x->codes = 1U << 2;
    for (size_t i = 0; i < m->n_response_headers_to_copy; i++)
        copy[i] = str_dup_lower(a, str_of(m->response_headers_to_copy[i]));
    x->cross_scheme = m->allow_cross_scheme_redirect;
    x->copy_headers = copy;
    x->copy_count = m->n_response_headers_to_copy;
    r->internal_redirect = x;
    r->max_internal_redirects = m->max_internal_redirects ? m->max_internal_redirects->value : 1;
    return true;
}

bool translate_route_action(struct route_build *b, const struct conf_at *at,
                            const Envoy__Config__Route__V3__RouteAction *m, struct route *r)
{
    static const uint32_t not_found[] = {503, 404, 500};
    struct conf_at metadata = conf_field(at, "metadata_match"),
                   retry = conf_field(at, "retry_policy");
    bool mirrors_ok, ok = true;
    r->action = ROUTE_FORWARD;
    r->cluster_not_found_code = not_found[(unsigned)m->cluster_not_found_response_code < 3
                                              ? (unsigned)m->cluster_not_found_response_code
                                              : 0];
    r->metadata_match = conf_metadata(&metadata, m->metadata_match);
    ok = action_cluster(b, at, m, r) && ok;
    ok = action_path(at, m, r) && ok;
    ok = action_host(at, m, r) && ok;
    ok = action_times(at, m, r) && ok;
    if (m->retry_policy) {
        r->retry = translate_retry_policy(&retry, m->retry_policy);
        ok = r->retry && ok;
    }
    ok = translate_hash_policies(at, m->n_hash_policy, m->hash_policy, &r->hash, &r->hash_count) &&
         ok;
    r->mirrors = translate_mirrors(b, at, "request_mirror_policies", m->n_request_mirror_policies,
                                   m->request_mirror_policies, &mirrors_ok);
    r->mirror_count = r->mirrors ? m->n_request_mirror_policies : 0;
    r->high_priority = m->priority == ENVOY__CONFIG__CORE__V3__ROUTING_PRIORITY__HIGH;
    ok = action_upgrades(at, m, r) && ok;
    if (m->internal_redirect_policy) {
        struct conf_at here = conf_field(at, "internal_redirect_policy");
        ok = action_internal_redirect(&here, m->internal_redirect_policy, r) && ok;
    }
    return ok && mirrors_ok;
}

static bool retry_backoff(const struct conf_at *at, const Envoy__Config__Route__V3__RetryPolicy *m,
                          struct retry_policy *p)
{
    p->backoff_base_us = 25000;
    if (m->retry_back_off) {
        struct conf_at here = conf_field(at, "retry_back_off"),
                       base = conf_field(&here, "base_interval"),
                       most = conf_field(&here, "max_interval");
        if (!conf_duration(&base, m->retry_back_off->base_interval, 25000, &p->backoff_base_us))
            return false;
        if (p->backoff_base_us < 1000) p->backoff_base_us = 1000;
        if (!conf_duration(&most, m->retry_back_off->max_interval, p->backoff_base_us * 10,
                           &p->backoff_max_us))
            return false;
        if (p->backoff_max_us < p->backoff_base_us) {
            return conf_fail(
                &most, "retry_policy.max_interval must greater than or equal to the base_interval");
        }
    } else {
        p->backoff_max_us = p->backoff_base_us * 10;
    }
    if (!m->rate_limited_retry_back_off) return true;
    const Envoy__Config__Route__V3__RetryPolicy__RateLimitedRetryBackOff *l =
        m->rate_limited_retry_back_off;
    struct conf_at here = conf_field(at, "rate_limited_retry_back_off"),
                   most = conf_field(&here, "max_interval");
    p->reset_headers = arena_array(conf_arena(at), l->n_reset_headers, sizeof p->reset_headers[0]);
    p->reset_header_count = l->n_reset_headers;
    for (size_t i = 0; i < l->n_reset_headers; i++) {
        p->reset_headers[i].name = str_dup_lower(conf_arena(at), str_of(l->reset_headers[i]->name));
        p->reset_headers[i].seconds =
            l->reset_headers[i]->format ==
            ENVOY__CONFIG__ROUTE__V3__RETRY_POLICY__RESET_HEADER_FORMAT__SECONDS;
    }
    return conf_duration(&most, l->max_interval, 300000000, &p->reset_max_us);
}

static bool retry_predicates(const struct conf_at *at,
                             const Envoy__Config__Route__V3__RetryPolicy *m, struct retry_policy *p)
{
    for (size_t i = 0; i < m->n_retry_host_predicate; i++) {
        const Envoy__Config__Route__V3__RetryPolicy__RetryHostPredicate *x =
            m->retry_host_predicate[i];
        struct conf_at here = conf_index(at, "retry_host_predicate", i);
        struct str type =
            x->config_type_case ? proto_any_name(conf_arena(at), x->typed_config) : STR_NONE;
        if (str_eq(type,
                   STR("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"))) {
            p->previous_hosts = true;
        } else if (
            str_eq(
                type,
                STR("envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate"))) {
            p->omit_canary = true;
        } else {
            return conf_fail(&here, "retry host predicate \"%s\" (%.*s) is not supported", x->name,
                             STR_ARG(type));
        }
    }
    if (m->retry_priority) {
        struct conf_at here = conf_field(at, "retry_priority");
        return conf_fail(&here, "retry priorities are not supported");
    }
    if (m->n_retry_options_predicates) {
        struct conf_at here = conf_index(at, "retry_options_predicates", 0);
        return conf_fail(&here, "retry options predicates are not supported");
    }
    return true;
}

const struct retry_policy *translate_retry_policy(const struct conf_at *at,
                                                  const Envoy__Config__Route__V3__RetryPolicy *m)
{
    struct arena *a = conf_arena(at);
    struct retry_policy *p = ARENA_NEW(a, struct retry_policy);
    struct conf_at try_time = conf_field(at, "per_try_timeout"),
                   idle_time = conf_field(at, "per_try_idle_timeout");
    bool headers_ok, request_ok;
    (void)retry_on_parse(str_of(m->retry_on),
                         &p->on); /* Envoy: names that it does not know are skipped */
    (void)retry_grpc_on_parse(str_of(m->retry_on), &p->on);
    p->num_retries = m->num_retries ? m->num_retries->value : 1;
    p->host_selection_attempts = m->host_selection_retry_max_attempts > 0
                                     ? (uint32_t)m->host_selection_retry_max_attempts
                                     : 1;
    bool ok = conf_duration(&try_time, m->per_try_timeout, 0, &p->per_try_timeout_us);
    ok = conf_duration(&idle_time, m->per_try_idle_timeout, 0, &p->per_try_idle_timeout_us) && ok;
    ok = retry_backoff(at, m, p) && ok;
    ok = retry_predicates(at, m, p) && ok;
    p->status_code_count = m->n_retriable_status_codes;
    if (p->status_code_count) {
        p->status_codes = arena_copy(a, m->retriable_status_codes,
                                     p->status_code_count * sizeof *p->status_codes);
    }
    p->retriable_headers = conf_header_matchers(at, "retriable_headers", m->n_retriable_headers,
                                                m->retriable_headers, &headers_ok);
    p->retriable_header_count = p->retriable_headers ? m->n_retriable_headers : 0;
    p->retriable_request_headers =
        conf_header_matchers(at, "retriable_request_headers", m->n_retriable_request_headers,
                             m->retriable_request_headers, &request_ok);
    p->retriable_request_header_count =
        p->retriable_request_headers ? m->n_retriable_request_headers : 0;
    return ok && headers_ok && request_ok ? p : NULL;
}
