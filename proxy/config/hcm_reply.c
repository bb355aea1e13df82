/* local_reply_config: mappers and body formats. */
#include "base/arena.h"
#include "envoy/config/accesslog/v3/accesslog.pb-c.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/substitution_format_string.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/config/access_log.h"
#include "proxy/config/hcm_internal.h"
#include "proxy/http/access_log.h"
#include "proxy/http/local_reply.h"

typedef Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ResponseMapper Mapper;

static const struct local_reply_format *hcm_reply_format(
    const struct conf_at *at, const char *field,
    const Envoy__Config__Core__V3__SubstitutionFormatString *m, bool *ok)
{
    if (!m) return NULL;
    struct conf_at place = conf_field(at, field);
    struct local_reply_format *f = ARENA_NEW(conf_arena(at), struct local_reply_format);
    f->format = conf_format(&place, m);
    if (!f->format)
        *ok = false;
    else
        f->content_type = format_content_type(f->format);
    return f;
}

static bool hcm_mapper_matches(struct worker *w, const void *filter, const struct stream_info *info)
{
    return access_filter_pass(filter, w, info, ACCESS_LOG_TYPE_NONE);
}

static bool hcm_mapper(const struct conf_at *at, const Mapper *m, struct local_reply_mapper *out)
{
    bool ok = true;
    struct conf_at body = conf_field(at, "body");
    if (m->status_code) out->status = m->status_code->value;
    out->has_body = m->body != NULL;
    if (m->body) ok = conf_data_source(&body, m->body, 0, &out->body);
    out->format = hcm_reply_format(at, "body_format_override", m->body_format_override, &ok);
    bool headers_ok = true;
    out->headers = conf_header_change(at, "headers_to_add", m->n_headers_to_add, m->headers_to_add,
                                      "headers_to_remove", 0, NULL, &headers_ok);
    struct conf_at filter = conf_field(at, "filter");
    out->filter = translate_access_log_filter(&filter, m->filter);
    out->match = hcm_mapper_matches;
    return out->filter && ok && headers_ok;
}

bool hcm_local_reply(const struct conf_at *at, const Hcm *m, struct hcm_conf *c)
{
    if (!m->local_reply_config) return true;
    struct conf_at here = conf_field(at, "local_reply_config");
    struct local_reply_conf *r = ARENA_NEW(conf_arena(at), struct local_reply_conf);
    size_t n = m->local_reply_config->n_mappers;
    struct local_reply_mapper *mappers = ARENA_ARRAY(conf_arena(at), struct local_reply_mapper, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        struct conf_at place = conf_index(&here, "mappers", i);
        ok &= hcm_mapper(&place, m->local_reply_config->mappers[i], &mappers[i]);
    }
    r->mappers = mappers;
    r->mapper_count = n;
    r->format = hcm_reply_format(&here, "body_format", m->local_reply_config->body_format, &ok);
    c->local_reply = r;
    return ok;
}
