/* What the peer's certificate says, as inputs of matcher trees. */
#include "base/arena.h"
#include "envoy/extensions/matching/common_inputs/ssl/v3/ssl_inputs.pb-c.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/tls_info.h"

/* Envoy: all names of a kind, joined by ","; none: no value. Without TLS there is nothing to look
 * at, and never will be. */
static bool names_found(const struct match_ask *ask, const struct tls_names *names,
                        struct match_value *out)
{
    struct str all = STR_NONE;
    for (size_t i = 0; i < names->count; i++)
        all = str_fmt(ask->scratch, "%.*s%s%.*s", STR_ARG(all), i ? "," : "", STR_ARG(names->v[i]));
    out->present = names->count > 0;
    out->text = all;
    return true;
}

static bool uri_san(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    const struct tls_info *t = ask->conn->tls;
    return t && names_found(ask, &t->peer.uri_san, out);
}

static bool dns_san(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    const struct tls_info *t = ask->conn->tls;
    return t && names_found(ask, &t->peer.dns_san, out);
}

static bool subject(const void *conf, const struct match_ask *ask, struct match_value *out)
{
    (void)conf;
    const struct tls_info *t = ask->conn->tls;
    if (!t) return false;
    out->present = t->peer.subject.len > 0;
    out->text = t->peer.subject;
    return true;
}

enum {
    CONNECTIONS = 1 << MATCH_IN_HTTP | 1 << MATCH_IN_HTTP_RBAC | 1 << MATCH_IN_NETWORK_RBAC |
                  1 << MATCH_IN_CHAINS
};

const struct match_input_type input_uri_san = {
    .ext = {.name = "envoy.matching.inputs.uri_san",
            .config =
                &envoy__extensions__matching__common_inputs__ssl__v3__uri_san_input__descriptor},
    .places = CONNECTIONS,
    .get = uri_san,
};
const struct match_input_type input_dns_san = {
    .ext = {.name = "envoy.matching.inputs.dns_san",
            .config =
                &envoy__extensions__matching__common_inputs__ssl__v3__dns_san_input__descriptor},
    .places = CONNECTIONS,
    .get = dns_san,
};
const struct match_input_type input_subject = {
    .ext = {.name = "envoy.matching.inputs.subject",
            .config =
                &envoy__extensions__matching__common_inputs__ssl__v3__subject_input__descriptor},
    .places = CONNECTIONS,
    .get = subject,
};
