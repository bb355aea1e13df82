/* Who is the client? x-forwarded-for and its hops, x-forwarded-proto and -port, internal or
 * external, and what an edge removes. */
#include "base/arena.h"
#include "base/rand.h"
#include "proxy/api/headers.h"
#include "proxy/api/original_ip.h"
#include "proxy/http/stream_internal.h"
#include "proxy/runtime/runtime.h"

/* The address `hops` entries left of the last in x-forwarded-for. False: none. *single: it is the
 * only one. */
static bool xff_address(const struct headers *h, struct arena *a, uint32_t hops, struct addr *out,
                        bool *single)
{
    struct str list = headers_all(h, STR("x-forwarded-for"), a);
    *single = false;
    if (!list.ptr) return false;
    *single = str_find_char(list, ',') == SIZE_MAX;
    struct str left = list, right = STR_NONE;
    for (uint32_t i = 0; i <= hops; i++) {
        if (!left.ptr) return false;
        if (!str_cut_last(left, ',', &left, &right)) {
            right = left;
            left = STR_NONE;
        }
    }
    return addr_parse_ip(str_trim(right), 0, out);
}

static bool xff_internal(const struct hcm_conf *conf, const struct addr *x)
{
    if (!addr_is_ip(x)) return conf->internal_unix;
    for (size_t i = 0; i < conf->internal_range_count; i++) {
        if (cidr_contains(&conf->internal_ranges[i], x)) return true;
    }
    return false;
}

static void xff_append(struct http_stream *s, struct headers *h)
{
    char text[ADDR_TEXT_MAX];
    const struct addr *x = &s->m->info->remote;
    /* Envoy: 127.0.0.1 and ::1 are told as the machine's own address. */
    bool here = addr_is_loopback(x) &&
                (!addr_is_v4(x) || x->sa.v4.sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    if (here && s->m->conf->local_address.len) {
        headers_append(h, STR("x-forwarded-for"), s->m->conf->local_address, STR(","));
        return;
    }
    if (!addr_is_ip(x)) return;
    size_t len = addr_format_ip(x, text);
    headers_append(h, STR("x-forwarded-for"), str_dup(s->arena, str_make(text, len)), STR(","));
}

static struct str xff_own_proto(const struct http_stream *s)
{
    return s->m->info->tls ? STR("https") : STR("http");
}

static void xff_port(struct http_stream *s, struct headers *h)
{
    if (!s->m->conf->append_x_forwarded_port) return;
    if (s->m->conf->xff_hops && headers_has(h, HDR_X_FORWARDED_PORT)) return;
    if (!addr_is_ip(&s->m->info->local)) return;
    headers_set_id(h, HDR_X_FORWARDED_PORT, str_from_u64(s->arena, addr_port(&s->m->info->local)));
}

/* use_remote_address: we are the edge; the peer's address counts. True: addresses may be trusted to
 * tell "internal". */
static bool xff_as_edge(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    bool trusted = !headers_has(h, HDR_X_FORWARDED_FOR), single;
    struct addr found;
    if (conf->xff_hops && xff_address(h, s->arena, conf->xff_hops - 1, &found, &single))
        s->info.remote = found;
    if (!conf->skip_xff_append) xff_append(s, h);
    if (conf->xff_hops == 0 || !headers_has(h, HDR_X_FORWARDED_PROTO))
        headers_set_id(h, HDR_X_FORWARDED_PROTO, xff_own_proto(s));
    xff_port(s, h);
    return trusted;
}

static bool xff_as_inner(struct http_stream *s, const struct headers *h)
{
    struct addr found;
    bool single;
    if (!xff_address(h, s->arena, s->m->conf->xff_hops, &found, &single)) return false;
    s->info.remote = found;
    return single;
}

/* The first extension that finds the client or refuses the request decides. */
static bool xff_by_extensions(struct http_stream *s, struct headers *h, uint32_t *reject)
{
    const struct hcm_conf *conf = s->m->conf;
    const struct addr *peer = &s->m->info->remote;
    for (size_t i = 0; i < conf->original_ip_count; i++) {
        const struct hcm_original_ip *x = &conf->original_ip[i];
        struct original_ip found = {0};
        x->type->detect(x->conf, h, peer, s->arena, &found);
        *reject = found.reject;
        if (found.reject) return false;
        if (!found.skip_xff_append) xff_append(s, h);
        if (!found.found) continue;
        s->info.remote = found.address;
        return found.trusted;
    }
    return false;
}

static void xff_scheme(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    if (!headers_has(h, HDR_X_FORWARDED_PROTO))
        headers_set_id(h, HDR_X_FORWARDED_PROTO, xff_own_proto(s));
    if (conf->scheme_overwrite.len) {
        headers_set_id(h, HDR_SCHEME, conf->scheme_overwrite);
        headers_set_id(h, HDR_X_FORWARDED_PROTO, conf->scheme_overwrite);
    }
    if (headers_has(h, HDR_SCHEME)) return;
    struct str proto = headers_get(h, HDR_X_FORWARDED_PROTO);
    bool known = str_case_eq(proto, STR("http")) || str_case_eq(proto, STR("https"));
    headers_set_id(h, HDR_SCHEME, known ? str_dup_lower(s->arena, proto) : xff_own_proto(s));
}

/* Headers by which a client must not steer us. Envoy: cleanInternalHeaders. */
static void xff_sanitize(struct http_stream *s, struct headers *h, bool edge)
{
    static const enum header_id internal[] = {HDR_X_ENVOY_RETRIABLE_STATUS_CODES,
                                              HDR_X_ENVOY_RETRIABLE_HEADER_NAMES,
                                              HDR_X_ENVOY_RETRY_ON,
                                              HDR_X_ENVOY_RETRY_GRPC_ON,
                                              HDR_X_ENVOY_MAX_RETRIES,
                                              HDR_X_ENVOY_UPSTREAM_ALT_STAT_NAME,
                                              HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_MS,
                                              HDR_X_ENVOY_UPSTREAM_REQUEST_PER_TRY_TIMEOUT_MS,
                                              HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_ALT_RESPONSE,
                                              HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS,
                                              HDR_X_ENVOY_FORCE_TRACE,
                                              HDR_X_ENVOY_IP_TAGS,
                                              HDR_X_ENVOY_ORIGINAL_URL,
                                              HDR_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT};
    static const enum header_id edges[] = {
        HDR_X_ENVOY_DECORATOR_OPERATION, HDR_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER,
        HDR_X_ENVOY_DOWNSTREAM_SERVICE_NODE, HDR_X_ENVOY_ORIGINAL_PATH};
    for (size_t i = 0; i < sizeof internal / sizeof *internal; i++)
        headers_remove_id(h, internal[i]);
    const struct route_config *routes = s->info.route_config;
    for (size_t i = 0; routes && i < routes->internal_only_count; i++)
        headers_remove(h, routes->internal_only_headers[i]);
    if (!edge) return;
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        headers_remove_id(h, edges[i]);
}

static void xff_external_address(struct http_stream *s, struct headers *h)
{
    char text[ADDR_TEXT_MAX];
    if (!addr_is_ip(&s->info.remote)) return;
    size_t len = addr_format_ip(&s->info.remote, text);
    headers_set_id(h, HDR_X_ENVOY_EXTERNAL_ADDRESS, str_dup(s->arena, str_make(text, len)));
}

static void xff_user_agent(struct http_stream *s, struct headers *h)
{
    const struct runtime *rt = s->m->worker->rt;
    if (!s->m->conf->add_user_agent) return;
    headers_set_id(h, HDR_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER, rt->service_cluster);
    if (headers_get(h, HDR_USER_AGENT).len == 0)
        headers_set_id(h, HDR_USER_AGENT, rt->service_cluster);
    if (rt->service_node.len)
        headers_set_id(h, HDR_X_ENVOY_DOWNSTREAM_SERVICE_NODE, rt->service_node);
}

struct edge_refusal edge_addresses(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    struct edge_refusal no = {0};
    bool trusted;
    if (conf->original_ip_count)
        trusted = xff_by_extensions(s, h, &no.status);
    else
        trusted = conf->use_remote_address ? xff_as_edge(s, h) : xff_as_inner(s, h);
    no.details = "rejecting_because_detection_failed";
    if (no.status) return no;
    xff_scheme(s, h);
    bool internal = trusted && xff_internal(conf, &s->info.remote);
    bool edge = !internal && conf->use_remote_address;
    s->info.internal = internal;
    if (internal)
        headers_set_id(h, HDR_X_ENVOY_INTERNAL, STR("true"));
    else
        xff_sanitize(s, h, edge);
    xff_user_agent(s, h);
    if (conf->via.len) headers_append(h, STR("via"), conf->via, STR(", "));
    if (edge) xff_external_address(s, h);
    edge_request_id(s, h, edge);
    return no;
}
