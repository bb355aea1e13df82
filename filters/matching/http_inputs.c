/* What is known of a request and its response, as inputs of matcher trees. */
#include "base/arena.h"
#include "base/text.h"
#include "envoy/extensions/matching/common_inputs/environment_variable/v3/input.pb-c.h"
#include "envoy/type/matcher/v3/http_inputs.pb-c.h"
#include "envoy/type/matcher/v3/status_code_input.pb-c.h"
#include "proxy/api/headers.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/stream_info.h"

#include <stdlib.h>

static bool text_found(struct str text, struct match_value *out)
{
    out->present = text.ptr != NULL;
    out->text = text;
    return true;
}

/* --- headers and trailers: the four messages are the same
 * ------------------------------------------- */

static const void *header_name_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Type__Matcher__V3__HttpRequestHeaderMatchInput *m = (const void *)msg;
    struct str *name = ARENA_NEW(conf_arena(at), struct str);
    *name = str_dup_lower(conf_arena(at), str_of(m->header_name));
    if (str_eq(*name, STR("host"))) *name = STR(":authority");
    return name;
}

static bool header_of(const struct headers *h, const void *conf, const struct match_ask *ask,
                      struct match_value *out)
{
    const struct str *name = conf;
    if (!h) return false;
    return text_found(headers_all(h, *name, ask->scratch), out);
}

static bool request_header(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    return header_of(ask->request, conf, ask, out);
}

static bool request_trailer(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    return header_of(ask->request_trailers, conf, ask, out);
}

static bool response_header(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    return header_of(ask->response, conf, ask, out);
}

static bool response_trailer(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    return header_of(ask->response_trailers, conf, ask, out);
}

/* --- query parameters
 * ------------------------------------------------------------------------------- */

static const void *query_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Type__Matcher__V3__HttpRequestQueryParamMatchInput *m = (const void *)msg;
    struct str *name = ARENA_NEW(conf_arena(at), struct str);
    *name = str_dup(conf_arena(at), str_of(m->query_param));
    return name;
}

static bool query_param(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    const struct str *wanted = conf;
    if (!ask->request) return false;
    struct str path = headers_get(ask->request, HDR_PATH), query = STR_NONE, pair;
    if (!str_cut(path, '?', &path, &query)) return true;
    size_t end = str_find_char(query, '#');
    if (end != SIZE_MAX) query.len = end;
    while (str_next(&query, '&', &pair)) {
        struct str name = pair, value = STR("");
        (void)str_cut(pair, '=', &name, &value);
        if (str_eq(percent_decode(ask->scratch, name), *wanted))
            return text_found(percent_decode(ask->scratch, value), out);
    }
    return true;
}

/* --- status codes
 * ----------------------------------------------------------------------------------- */

static bool status_code(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    if (!ask->response) return false;
    uint32_t status = headers_status(ask->response);
    return status ? text_found(str_fmt(ask->scratch, "%u", status), out) : true;
}

static bool status_code_class(const void *conf, const struct match_ask *ask,
                              struct match_value *out)
{
    (void)conf;
    if (!ask->response) return false;
    uint32_t status = headers_status(ask->response);
    if (status < 100 || status > 599) return true;
    return text_found(str_fmt(ask->scratch, "%uxx", status / 100), out);
}

/* --- the process's environment: read once
 * ------------------------------------------------------------ */

static const void *environment_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Matching__CommonInputs__EnvironmentVariable__V3__Config *m =
        (const void *)msg;
    struct str *value = ARENA_NEW(conf_arena(at), struct str);
    const char *text = getenv(m->name);
    if (text) *value = str_dup(conf_arena(at), str_of(text));
    return value;
}

static bool environment(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)ask;
    return text_found(*(const struct str *)conf, out);
}

/* --- descriptors
 * ------------------------------------------------------------------------------------ */

#define HTTP_INPUT(symbol, text, message, ...)                                               \
    const struct match_input_type symbol = {                                                 \
        .ext = {.name = text, .config = &envoy__type__matcher__v3__##message##__descriptor}, \
        __VA_ARGS__}

HTTP_INPUT(input_request_header, "envoy.matching.inputs.request_headers",
           http_request_header_match_input, .conf_create = header_name_create,
           .places = 1 << MATCH_IN_HTTP | 1 << MATCH_IN_HTTP_RBAC | 1 << MATCH_IN_ROUTES,
           .get = request_header);
HTTP_INPUT(input_request_trailer, "envoy.matching.inputs.request_trailers",
           http_request_trailer_match_input, .conf_create = header_name_create,
           .places = 1 << MATCH_IN_HTTP, .get = request_trailer);
HTTP_INPUT(input_response_header, "envoy.matching.inputs.response_headers",
           http_response_header_match_input, .conf_create = header_name_create,
           .places = 1 << MATCH_IN_HTTP, .get = response_header);
HTTP_INPUT(input_response_trailer, "envoy.matching.inputs.response_trailers",
           http_response_trailer_match_input, .conf_create = header_name_create,
           .places = 1 << MATCH_IN_HTTP, .get = response_trailer);
HTTP_INPUT(input_query_param, "query_params", http_request_query_param_match_input,
           .conf_create = query_create, .places = 1 << MATCH_IN_HTTP, .get = query_param);
HTTP_INPUT(input_status_code, "envoy.matching.inputs.status_code_input",
           http_response_status_code_match_input, .places = 1 << MATCH_IN_HTTP, .get = status_code);
HTTP_INPUT(input_status_code_class, "envoy.matching.inputs.status_code_class_input",
           http_response_status_code_class_match_input, .places = 1 << MATCH_IN_HTTP,
           .get = status_code_class);

const struct match_input_type input_environment = {
    .ext =
        {.name = "envoy.matching.common_inputs.environment_variable",
         .config =
             &envoy__extensions__matching__common_inputs__environment_variable__v3__config__descriptor},
    .places = ~0u,
    .conf_create = environment_create,
    .get = environment,
};
