/* Translation of SubstitutionFormatString. */
#include "proxy/config/format.h"

#include "base/arena.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/core/v3/substitution_format_string.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "proto/decode.h"
#include "proxy/http/format_internal.h"

/* Formatter extensions add operators. All that concern us are without settings. */
bool conf_formatters(const struct conf_at *at, size_t n,
                     Envoy__Config__Core__V3__TypedExtensionConfig *const *v, unsigned *extra)
{
    static const char prefix[] = "envoy.extensions.formatter.";
    *extra = 0;
    for (size_t i = 0; i < n; i++) {
        struct conf_at here = conf_index(at, "formatters", i);
        const Envoy__Config__Core__V3__TypedExtensionConfig *e = v[i];
        struct str name =
            e->typed_config ? proto_any_name(conf_arena(at), e->typed_config) : STR_NONE;
        if (str_eq(name, STR("envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"))) {
            *extra |= FORMAT_EXTRA_REQ_WITHOUT_QUERY;
        } else if (!str_eq(name,
                           STR("envoy.extensions.formatter.metadata.v3.Metadata"))) { /* METADATA is
                                                                                         built in */
            if (str_starts(name, STR(prefix)))
                return conf_fail(&here, "formatter \"%.*s\" is not supported", STR_ARG(name));
            return conf_fail(&here, "Formatter not found: %s", e->name);
        }
    }
    return true;
}

const struct format *conf_format(const struct conf_at *at,
                                 const Envoy__Config__Core__V3__SubstitutionFormatString *m)
{
    struct arena *a = conf_arena(at);
    struct format *f = NULL;
    struct str why = STR_NONE, text = STR_NONE;
    unsigned extra;
    if (!conf_formatters(at, m->n_formatters, m->formatters, &extra)) return NULL;
    const char *field = "text_format";
    switch ((int)m->format_case) {
    case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT:
        f = format_new_text(a, str_dup(a, str_of(m->text_format)), extra, m->omit_empty_values,
                            &why);
        break;
    case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_JSON_FORMAT:
        field = "json_format";
        f = format_new_json(a, conf_struct(a, m->json_format), extra, m->omit_empty_values, true,
                            &why);
        break;
    case ENVOY__CONFIG__CORE__V3__SUBSTITUTION_FORMAT_STRING__FORMAT_TEXT_FORMAT_SOURCE: {
        struct conf_at source = conf_field(at, "text_format_source");
        field = "text_format_source";
        if (!conf_data_source(&source, m->text_format_source, 0, &text)) return NULL;
        f = format_new_text(a, text, extra, m->omit_empty_values, &why);
        break;
    }
    default: (void)conf_fail(at, "a format is needed"); return NULL;
    }
    struct conf_at here = conf_field(at, field);
    if (!f) {
        (void)conf_fail(&here, "%.*s", STR_ARG(why));
        return NULL;
    }
    if (m->content_type[0]) f->content_type = str_dup(a, str_of(m->content_type));
    return f;
}
