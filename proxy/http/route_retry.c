/* Names of retry conditions (x-envoy-retry-on, x-envoy-retry-grpc-on, retry_policy.retry_on). */
#include "proxy/api/route.h"

struct condition {
    const char *name;
    uint32_t bit;
};
static const struct condition conditions[] = {
    {"5xx", RETRY_5XX},
    {"gateway-error", RETRY_GATEWAY_ERROR},
    {"connect-failure", RETRY_CONNECT_FAILURE},
    {"retriable-4xx", RETRY_RETRIABLE_4XX},
    {"refused-stream", RETRY_REFUSED_STREAM},
    {"reset", RETRY_RESET},
    {"retriable-status-codes", RETRY_RETRIABLE_STATUS_CODES},
    {"retriable-headers", RETRY_RETRIABLE_HEADERS},
    {"envoy-ratelimited", RETRY_ENVOY_RATELIMITED},
    {"reset-before-request", RETRY_RESET_BEFORE_REQUEST},
    {"http3-post-connect-failure", RETRY_HTTP3_POST_CONNECT_FAILURE},
};
static const struct condition grpc_conditions[] = {
    {"cancelled", RETRY_GRPC_CANCELLED},
    {"deadline-exceeded", RETRY_GRPC_DEADLINE_EXCEEDED},
    {"resource-exhausted", RETRY_GRPC_RESOURCE_EXHAUSTED},
    {"unavailable", RETRY_GRPC_UNAVAILABLE},
    {"internal", RETRY_GRPC_INTERNAL},
};

static bool parse(struct str list, const struct condition *v, size_t n, uint32_t *on)
{
    struct str name;
    bool all = true;
    while (str_next(&list, ',', &name)) {
        bool known = false;
        name = str_trim(name);
        for (size_t i = 0; i < n && !known; i++) {
            if (!str_eq(name, str_of(v[i].name))) continue;
            *on |= v[i].bit;
            known = true;
        }
        all = all && known;
    }
    return all;
}

bool retry_on_parse(struct str list, uint32_t *on)
{
    return parse(list, conditions, sizeof conditions / sizeof conditions[0], on);
}

bool retry_grpc_on_parse(struct str list, uint32_t *on)
{
    return parse(list, grpc_conditions, sizeof grpc_conditions / sizeof grpc_conditions[0], on);
}
