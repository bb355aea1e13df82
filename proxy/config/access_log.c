/* Access logs and their filters. */
#include "proxy/config/access_log.h"

#include "base/arena.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/type/matcher/v3/metadata.pb-c.h"
#include "envoy/type/v3/percent.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/http/access_log.h"
#include "proxy/http/response_flags.h"

static bool filter_of(const struct conf_at *at,
                      const Envoy__Config__Accesslog__V3__AccessLogFilter *m,
                      struct access_filter *f);

static void comparison(const struct conf_at *at,
                       const Envoy__Config__Accesslog__V3__ComparisonFilter *m,
                       struct access_filter *f)
{
    f->op = (enum access_compare)m->op;
    f->value = m->value->default_value;
    f->runtime_key = str_dup(conf_arena(at), str_of(m->value->runtime_key));
}

static void runtime_filter(const struct conf_at *at,
                           const Envoy__Config__Accesslog__V3__RuntimeFilter *m,
                           struct access_filter *f)
{
    f->kind = ACCESS_FILTER_RUNTIME;
    f->runtime_key = str_dup(conf_arena(at), str_of(m->runtime_key));
    f->denominator = 100;
    f->independent = m->use_independent_randomness;
    if (!m->percent_sampled) return;
    f->numerator = m->percent_sampled->numerator;
    f->denominator = conf_percent_denominator(m->percent_sampled);
}

/* Depth is bounded by that of configuration messages. */
static bool list_filter(const struct conf_at *at, size_t n,
                        Envoy__Config__Accesslog__V3__AccessLogFilter *const *v,
                        struct access_filter *f)
{
    struct access_filter *sub = ARENA_ARRAY(conf_arena(at), struct access_filter, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, "filters", i);
        ok = filter_of(&here, v[i], &sub[i]) && ok;
    }
    f->sub = sub;
    f->count = n;
    return ok;
}

static bool flag_filter(const struct conf_at *at,
                        const Envoy__Config__Accesslog__V3__ResponseFlagFilter *m,
                        struct access_filter *f)
{
    f->kind = ACCESS_FILTER_FLAG;
    for (size_t i = 0; i < m->n_flags; i++) {
        struct conf_at here = conf_index(at, "flags", i);
        enum response_flag flag;
        if (!response_flag_parse(str_of(m->flags[i]), &flag))
            return conf_fail(&here, "unknown response flag %s", m->flags[i]);
        f->bits |= (uint64_t)1 << flag;
    }
    return true;
}

static bool metadata_filter(const struct conf_at *at,
                            const Envoy__Config__Accesslog__V3__MetadataFilter *m,
                            struct access_filter *f)
{
    f->kind = ACCESS_FILTER_METADATA;
    f->if_missing = !m->match_if_key_not_found || m->match_if_key_not_found->value;
    f->has_metadata = m->matcher != NULL;
    struct conf_at here = conf_field(at, "matcher");
    return !m->matcher || conf_metadata_matcher(&here, m->matcher, &f->metadata);
}

static void log_type_filter(const Envoy__Config__Accesslog__V3__LogTypeFilter *m,
                            struct access_filter *f)
{
    f->kind = ACCESS_FILTER_LOG_TYPE;
    f->exclude = m->exclude;
    for (size_t i = 0; i < m->n_types; i++) {
        if ((unsigned)m->types[i] < 64) f->bits |= (uint64_t)1 << (unsigned)m->types[i];
    }
}

static void grpc_filter(const Envoy__Config__Accesslog__V3__GrpcStatusFilter *m,
                        struct access_filter *f)
{
    f->kind = ACCESS_FILTER_GRPC;
    f->exclude = m->exclude;
    for (size_t i = 0; i < m->n_statuses; i++) {
        if ((unsigned)m->statuses[i] < 64) f->bits |= (uint64_t)1 << (unsigned)m->statuses[i];
    }
}

static bool filter_of(const struct conf_at *at,
                      const Envoy__Config__Accesslog__V3__AccessLogFilter *m,
                      struct access_filter *f)
{
    *f = (struct access_filter){0};
    switch ((int)m->filter_specifier_case) {
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_STATUS_CODE_FILTER:
        f->kind = ACCESS_FILTER_STATUS;
        comparison(at, m->status_code_filter->comparison, f);
        return true;
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_DURATION_FILTER:
        f->kind = ACCESS_FILTER_DURATION;
        comparison(at, m->duration_filter->comparison, f);
        return true;
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_NOT_HEALTH_CHECK_FILTER:
        f->kind = ACCESS_FILTER_NOT_HEALTH_CHECK;
        return true;
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_TRACEABLE_FILTER:
        f->kind = ACCESS_FILTER_TRACEABLE;
        return true;
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_RUNTIME_FILTER:
        runtime_filter(at, m->runtime_filter, f);
        return true;
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_AND_FILTER: {
        struct conf_at here = conf_field(at, "and_filter");
        f->kind = ACCESS_FILTER_AND;
        return list_filter(&here, m->and_filter->n_filters, m->and_filter->filters, f);
    }
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_OR_FILTER: {
        struct conf_at here = conf_field(at, "or_filter");
        f->kind = ACCESS_FILTER_OR;
        return list_filter(&here, m->or_filter->n_filters, m->or_filter->filters, f);
    }
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_HEADER_FILTER: {
        struct conf_at here = conf_field(at, "header_filter"), header = conf_field(&here, "header");
        f->kind = ACCESS_FILTER_HEADER;
        return conf_header_matcher(&header, m->header_filter->header, &f->header);
    }
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_RESPONSE_FLAG_FILTER: {
        struct conf_at here = conf_field(at, "response_flag_filter");
        return flag_filter(&here, m->response_flag_filter, f);
    }
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_GRPC_STATUS_FILTER:
        grpc_filter(m->grpc_status_filter, f);
        return true;
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_METADATA_FILTER: {
        struct conf_at here = conf_field(at, "metadata_filter");
        return metadata_filter(&here, m->metadata_filter, f);
    }
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_LOG_TYPE_FILTER:
        log_type_filter(m->log_type_filter, f);
        return true;
    case ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG_FILTER__FILTER_SPECIFIER_EXTENSION_FILTER: {
        struct conf_at here = conf_field(at, "extension_filter");
        return conf_fail(&here, "access log filter extensions are not supported");
    }
    default: return conf_fail(at, "a filter is needed");
    }
}

static bool entry_of(const struct conf_at *at, const Envoy__Config__Accesslog__V3__AccessLog *m,
                     struct access_log_entry *e)
{
    bool ok = true;
    if (m->filter) {
        struct conf_at here = conf_field(at, "filter");
        struct access_filter *f = ARENA_NEW(conf_arena(at), struct access_filter);
        ok = filter_of(&here, m->filter, f);
        e->filter = f;
    }
    const void *any =
        m->config_type_case == ENVOY__CONFIG__ACCESSLOG__V3__ACCESS_LOG__CONFIG_TYPE_TYPED_CONFIG
            ? m->typed_config
            : NULL;
    const struct ProtobufCMessage *msg = NULL;
    const struct extension *x =
        conf_extension(at, EXTENSION_ACCESS_LOGGER, str_of(m->name), any, &msg);
    if (!x) return false;
    struct conf_at config = conf_field(at, "typed_config");
    e->type = (const struct access_logger_type *)x;
    e->conf = e->type->conf_create(&config, msg);
    return e->conf && ok;
}

const struct access_log_list *translate_access_logs(
    const struct conf_at *at, const char *field, size_t n,
    Envoy__Config__Accesslog__V3__AccessLog *const *v, bool *ok)
{
    *ok = true;
    if (!n) return NULL;
    struct access_log_list *l = ARENA_NEW(conf_arena(at), struct access_log_list);
    l->v = ARENA_ARRAY(conf_arena(at), struct access_log_entry, n);
    l->count = n;
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, field, i);
        *ok = entry_of(&here, v[i], &l->v[i]) && *ok;
    }
    return *ok ? l : NULL;
}

const struct access_filter *translate_access_log_filter(
    const struct conf_at *at, const struct Envoy__Config__Accesslog__V3__AccessLogFilter *m)
{
    struct access_filter *f = ARENA_NEW(conf_arena(at), struct access_filter);
    return filter_of(at, m, f) ? f : NULL;
}
