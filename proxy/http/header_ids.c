/* Header names to small integers: by length, then the few candidates of that length. On the hot
 * path: one lookup a header. */
#include "proxy/api/headers.h"

#define IS(id, text) \
    if (memcmp(name.ptr, text, sizeof(text) - 1) == 0) return HDR_##id

/* Lengths up to 14 hold the names that nearly every message has; the common ones come first.
 * lint: long because it is one flat table in the form of a switch. */
static enum header_id header_id_short(struct str name)
{
    switch (name.len) {
    case 2: IS(TE, "te"); return HDR_OTHER;
    case 3:
        IS(AGE, "age");
        IS(VIA, "via");
        return HDR_OTHER;
    case 4:
        IS(DATE, "date");
        IS(HOST, "host");
        IS(ETAG, "etag");
        IS(VARY, "vary");
        return HDR_OTHER;
    case 5:
        IS(PATH, ":path");
        IS(RANGE, "range");
        return HDR_OTHER;
    case 6:
        IS(ACCEPT, "accept");
        IS(SERVER, "server");
        IS(COOKIE, "cookie");
        IS(EXPECT, "expect");
        IS(ORIGIN, "origin");
        return HDR_OTHER;
    case 7:
        IS(METHOD, ":method");
        IS(SCHEME, ":scheme");
        IS(STATUS, ":status");
        IS(REFERER, "referer");
        IS(TRAILER, "trailer");
        IS(UPGRADE, "upgrade");
        return HDR_OTHER;
    case 8: IS(LOCATION, "location"); return HDR_OTHER;
    case 9: IS(PROTOCOL, ":protocol"); return HDR_OTHER;
    case 10:
        IS(USER_AGENT, "user-agent");
        IS(AUTHORITY, ":authority");
        IS(CONNECTION, "connection");
        IS(KEEP_ALIVE, "keep-alive");
        IS(SET_COOKIE, "set-cookie");
        IS(TRACESTATE, "tracestate");
        return HDR_OTHER;
    case 11:
        IS(GRPC_STATUS, "grpc-status");
        IS(RETRY_AFTER, "retry-after");
        IS(TRACEPARENT, "traceparent");
        return HDR_OTHER;
    case 12:
        IS(CONTENT_TYPE, "content-type");
        IS(GRPC_MESSAGE, "grpc-message");
        IS(GRPC_TIMEOUT, "grpc-timeout");
        IS(X_REQUEST_ID, "x-request-id");
        return HDR_OTHER;
    case 13:
        IS(AUTHORIZATION, "authorization");
        IS(CACHE_CONTROL, "cache-control");
        return HDR_OTHER;
    case 14:
        IS(CONTENT_LENGTH, "content-length");
        IS(HTTP2_SETTINGS, "http2-settings");
        return HDR_OTHER;
    default: return HDR_OTHER;
    }
}

static enum header_id header_id_medium(struct str name)
{
    switch (name.len) {
    case 15:
        IS(ACCEPT_ENCODING, "accept-encoding");
        IS(X_ENVOY_CLUSTER, "x-envoy-cluster");
        IS(X_ENVOY_IP_TAGS, "x-envoy-ip-tags");
        IS(X_FORWARDED_FOR, "x-forwarded-for");
        return HDR_OTHER;
    case 16:
        IS(CONTENT_ENCODING, "content-encoding");
        IS(PROXY_CONNECTION, "proxy-connection");
        IS(WWW_AUTHENTICATE, "www-authenticate");
        IS(X_ENVOY_DEGRADED, "x-envoy-degraded");
        IS(X_ENVOY_INTERNAL, "x-envoy-internal");
        IS(X_ENVOY_RETRY_ON, "x-envoy-retry-on");
        IS(X_FORWARDED_HOST, "x-forwarded-host");
        IS(X_FORWARDED_PORT, "x-forwarded-port");
        return HDR_OTHER;
    case 17:
        IS(TRANSFER_ENCODING, "transfer-encoding");
        IS(X_CLIENT_TRACE_ID, "x-client-trace-id");
        IS(X_FORWARDED_PROTO, "x-forwarded-proto");
        return HDR_OTHER;
    case 18:
        IS(PROXY_AUTHENTICATE, "proxy-authenticate");
        IS(X_ENVOY_OVERLOADED, "x-envoy-overloaded");
        return HDR_OTHER;
    case 19:
        IS(PROXY_AUTHORIZATION, "proxy-authorization");
        IS(X_ENVOY_FORCE_TRACE, "x-envoy-force-trace");
        IS(X_ENVOY_MAX_RETRIES, "x-envoy-max-retries");
        IS(X_ENVOY_RATELIMITED, "x-envoy-ratelimited");
        return HDR_OTHER;
    case 20:
        IS(GRPC_ACCEPT_ENCODING, "grpc-accept-encoding");
        IS(X_ENVOY_ORIGINAL_URL, "x-envoy-original-url");
        return HDR_OTHER;
    case 21:
        IS(X_ENVOY_ATTEMPT_COUNT, "x-envoy-attempt-count");
        IS(X_ENVOY_ORIGINAL_HOST, "x-envoy-original-host");
        IS(X_ENVOY_ORIGINAL_PATH, "x-envoy-original-path");
        IS(X_ENVOY_RETRY_GRPC_ON, "x-envoy-retry-grpc-on");
        return HDR_OTHER;
    case 22: IS(ACCESS_CONTROL_MAX_AGE, "access-control-max-age"); return HDR_OTHER;
    default: return HDR_OTHER;
    }
}

static enum header_id header_id_long(struct str name)
{
    switch (name.len) {
    case 23:
        IS(X_ENVOY_ORIGINAL_METHOD, "x-envoy-original-method");
        IS(X_ENVOY_UPSTREAM_CANARY, "x-envoy-upstream-canary");
        IS(X_FORWARDED_CLIENT_CERT, "x-forwarded-client-cert");
        return HDR_OTHER;
    case 24:
        IS(X_ENVOY_EXTERNAL_ADDRESS, "x-envoy-external-address");
        IS(X_ENVOY_IS_TIMEOUT_RETRY, "x-envoy-is-timeout-retry");
        IS(X_ENVOY_LOCAL_OVERLOADED, "x-envoy-local-overloaded");
        return HDR_OTHER;
    case 25: IS(X_ENVOY_ORIGINAL_DST_HOST, "x-envoy-original-dst-host"); return HDR_OTHER;
    case 27:
        IS(ACCESS_CONTROL_ALLOW_ORIGIN, "access-control-allow-origin");
        IS(X_ENVOY_DECORATOR_OPERATION, "x-envoy-decorator-operation");
        return HDR_OTHER;
    case 28:
        IS(ACCESS_CONTROL_ALLOW_METHODS, "access-control-allow-methods");
        IS(ACCESS_CONTROL_ALLOW_HEADERS, "access-control-allow-headers");
        return HDR_OTHER;
    case 29:
        IS(ACCESS_CONTROL_REQUEST_METHOD, "access-control-request-method");
        IS(ACCESS_CONTROL_EXPOSE_HEADERS, "access-control-expose-headers");
        IS(X_ENVOY_UPSTREAM_SERVICE_TIME, "x-envoy-upstream-service-time");
        return HDR_OTHER;
    case 30:
        IS(ACCESS_CONTROL_REQUEST_HEADERS, "access-control-request-headers");
        IS(X_ENVOY_EXPECTED_RQ_TIMEOUT_MS, "x-envoy-expected-rq-timeout-ms");
        IS(X_ENVOY_RETRIABLE_HEADER_NAMES, "x-envoy-retriable-header-names");
        IS(X_ENVOY_RETRIABLE_STATUS_CODES, "x-envoy-retriable-status-codes");
        IS(X_ENVOY_UPSTREAM_ALT_STAT_NAME, "x-envoy-upstream-alt-stat-name");
        IS(X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_MS, "x-envoy-upstream-rq-timeout-ms");
        return HDR_OTHER;
    case 31:
        IS(X_ENVOY_DOWNSTREAM_SERVICE_NODE, "x-envoy-downstream-service-node");
        return HDR_OTHER;
    case 32:
        IS(ACCESS_CONTROL_ALLOW_CREDENTIALS, "access-control-allow-credentials");
        IS(X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT, "x-envoy-hedge-on-per-try-timeout");
        return HDR_OTHER;
    case 34:
        IS(X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, "x-envoy-downstream-service-cluster");
        return HDR_OTHER;
    case 35:
        IS(X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL, "x-envoy-immediate-health-check-fail");
        IS(X_ENVOY_UPSTREAM_STREAM_DURATION_MS, "x-envoy-upstream-stream-duration-ms");
        return HDR_OTHER;
    case 38:
        IS(X_ENVOY_UPSTREAM_HEALTHCHECKED_CLUSTER, "x-envoy-upstream-healthchecked-cluster");
        IS(X_ENVOY_UPSTREAM_REQUEST_PER_TRY_TIMEOUT_MS, "x-envoy-upstream-rq-per-try-timeout-ms");
        return HDR_OTHER;
    case 40:
        IS(X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_ALT_RESPONSE,
           "x-envoy-upstream-rq-timeout-alt-response");
        return HDR_OTHER;
    default: return HDR_OTHER;
    }
}

enum header_id header_id_of(struct str name)
{
    if (name.len <= 14) return header_id_short(name);
    if (name.len <= 22) return header_id_medium(name);
    return header_id_long(name);
}

struct str header_name_of(enum header_id id)
{
    static const struct str names[HDR_COUNT] = {
        [HDR_OTHER] = {"", 0},
#define X(id, name) [HDR_##id] = {name, sizeof(name) - 1},
#include "proxy/api/headers.def"
#undef X
    };
    return names[id];
}
