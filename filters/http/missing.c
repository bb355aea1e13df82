/* HTTP filters of Envoy that we do not have. One that is switched off in the connection manager's
 * list is taken; where a route switches it on, requests are refused rather than served without it.
 */
#include "base/arena.h"
#include "filters/registry.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"

static enum http_flow missing_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)h, (void)end;
    const struct str *name = f->conf;
    struct local_reply r = {
        .status = 500,
        .grpc_status = -1,
        .details = str_fmt(http_filter_arena(f), "filter_not_supported{%.*s}", STR_ARG(*name))};
    http_filter_reply(f, &r);
    return HTTP_HOLD_ALL;
}

const struct http_filter_type http_missing = {
    .ext = {.name = "skiff.filters.http.missing"},
    .instance_size = sizeof(struct http_filter),
    .decode_headers = missing_decode_headers,
};

#define F "envoy.extensions.filters.http."
const struct registry_missing filters_missing[] = {
    {F "adaptive_concurrency.v3.AdaptiveConcurrency", NULL},
    {F "admission_control.v3.AdmissionControl", NULL},
    {F "api_key_auth.v3.ApiKeyAuth", F "api_key_auth.v3.ApiKeyAuthPerRoute"},
    {F "aws_lambda.v3.Config", F "aws_lambda.v3.PerRouteConfig"},
    {F "aws_request_signing.v3.AwsRequestSigning",
     F "aws_request_signing.v3.AwsRequestSigningPerRoute"},
    {F "bandwidth_limit.v3.BandwidthLimit", F "bandwidth_limit.v3.BandwidthLimit"},
    {F "basic_auth.v3.BasicAuth", F "basic_auth.v3.BasicAuthPerRoute"},
    {F "composite.v3.Composite", NULL},
    {F "credential_injector.v3.CredentialInjector", NULL},
    {F "decompressor.v3.Decompressor", NULL},
    {F "dynamic_modules.v3.DynamicModuleFilter",
     F "dynamic_modules.v3.DynamicModuleFilterPerRoute"},
    {F "ext_proc.v3.ExternalProcessor", F "ext_proc.v3.ExtProcPerRoute"},
    {F "gcp_authn.v3.GcpAuthnFilterConfig", NULL},
    {F "geoip.v3.Geoip", NULL},
    {F "grpc_http1_bridge.v3.Config", NULL},
    {F "grpc_http1_reverse_bridge.v3.FilterConfig",
     F "grpc_http1_reverse_bridge.v3.FilterConfigPerRoute"},
    {F "grpc_json_transcoder.v3.GrpcJsonTranscoder",
     F "grpc_json_transcoder.v3.GrpcJsonTranscoder"},
    {F "grpc_web.v3.GrpcWeb", NULL},
    {F "header_to_metadata.v3.Config", F "header_to_metadata.v3.Config"},
    {F "ip_tagging.v3.IPTagging", NULL},
    {F "json_to_metadata.v3.JsonToMetadata", NULL},
    {F "lua.v3.Lua", F "lua.v3.LuaPerRoute"},
    {F "oauth2.v3.OAuth2", NULL},
    {F "original_src.v3.OriginalSrc", NULL},
    {F "proto_message_extraction.v3.ProtoMessageExtractionConfig", NULL},
    {F "rate_limit_quota.v3.RateLimitQuotaFilterConfig",
     F "rate_limit_quota.v3.RateLimitQuotaOverride"},
    {F "ratelimit.v3.RateLimit", F "ratelimit.v3.RateLimitPerRoute"},
    {F "set_filter_state.v3.Config", NULL},
    {F "set_metadata.v3.Config", NULL},
    {F "stateful_session.v3.StatefulSession", F "stateful_session.v3.StatefulSessionPerRoute"},
    {F "tap.v3.Tap", NULL},
    {F "wasm.v3.Wasm", NULL},
    {NULL, NULL},
};
