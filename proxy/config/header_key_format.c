/* header_key_format, for connection managers and clusters alike. */
#include "proxy/config/header_key_format.h"
#include "envoy/config/core/v3/extension.pb-c.h"
#include "envoy/config/core/v3/protocol.pb-c.h"
#include "envoy/extensions/http/header_formatters/preserve_case/v3/preserve_case.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "proto/decode.h"
#include "proxy/api/codec.h"
#include "proxy/api/conf.h"

/* Envoy knows one stateful formatter: preserve_case. */
static bool stateful_formatter(const struct conf_at *at,
                               const Envoy__Config__Core__V3__TypedExtensionConfig *m,
                               struct codec_options *out)
{
    const ProtobufCMessageDescriptor *want =
        &envoy__extensions__http__header_formatters__preserve_case__v3__preserve_case_formatter_config__descriptor;
    struct conf_at place = conf_field(at, "typed_config");
    struct str name = m->typed_config ? proto_any_name(conf_arena(at), m->typed_config) : STR_NONE;
    if (!str_eq(name, str_of(want->name)))
        return conf_fail(&place, "header formatter \"%.*s\" is not supported", STR_ARG(name));
    struct proto_path root = proto_path_root(conf_path(&place));
    const ProtobufCMessage *msg = proto_any_unpack(conf_arena(at), m->typed_config, want,
                                                   at->cx->opts, &root, at->cx->errors);
    if (!msg) return false;
    const Envoy__Extensions__Http__HeaderFormatters__PreserveCase__V3__PreserveCaseFormatterConfig
        *c = (const void *)msg;
    out->preserve_case = true;
    out->preserve_reason = c->forward_reason_phrase;
    out->preserve_proper =
        c->formatter_type_on_envoy_headers ==
        ENVOY__EXTENSIONS__HTTP__HEADER_FORMATTERS__PRESERVE_CASE__V3__PRESERVE_CASE_FORMATTER_CONFIG__FORMATTER_TYPE_ON_ENVOY_HEADERS__PROPER_CASE;
    return true;
}

bool translate_header_key_format(
    const struct conf_at *at,
    const Envoy__Config__Core__V3__Http1ProtocolOptions__HeaderKeyFormat *m,
    struct codec_options *out)
{
    struct conf_at place = conf_field(at, "stateful_formatter");
    if (!m) return true;
    switch (m->header_format_case) {
    case ENVOY__CONFIG__CORE__V3__HTTP1_PROTOCOL_OPTIONS__HEADER_KEY_FORMAT__HEADER_FORMAT_PROPER_CASE_WORDS:
        out->proper_case = true;
        return true;
    case ENVOY__CONFIG__CORE__V3__HTTP1_PROTOCOL_OPTIONS__HEADER_KEY_FORMAT__HEADER_FORMAT_STATEFUL_FORMATTER:
        return stateful_formatter(&place, m->stateful_formatter, out);
    case ENVOY__CONFIG__CORE__V3__HTTP1_PROTOCOL_OPTIONS__HEADER_KEY_FORMAT__HEADER_FORMAT__NOT_SET:
        break;
    }
    return conf_fail(at, "a format is needed");
}
