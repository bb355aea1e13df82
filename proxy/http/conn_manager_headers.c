/* What the connection manager checks and changes: requests before the first filter, responses
 * before the codec. Behaviour as Envoy 1.40's (conn_manager_impl, conn_manager_utility). */
#include "base/arena.h"
#include "proxy/api/early_headers.h"
#include "proxy/api/headers.h"
#include "proxy/http/stream_internal.h"
#include "proxy/runtime/runtime.h"

static struct edge_refusal edge_refuse(uint32_t status, const char *details)
{
    return (struct edge_refusal){.status = status, .details = details};
}

/* A bad message ends an HTTP/1 connection unless it was configured otherwise. */
void edge_close_after(struct http_stream *s)
{
    s->m->close_next |=
        s->m->codec->ops->kind == CODEC_H1 && !s->m->conf->stream_error_on_bad_message;
}

struct edge_refusal edge_check_request(struct http_stream *s, struct headers *h)
{
    bool connect = str_eq(headers_get(h, HDR_METHOD), STR("CONNECT"));
    struct str path = headers_get(h, HDR_PATH);
    if (!headers_has(h, HDR_AUTHORITY)) {
        return edge_refuse(400, "missing_host_header");
    }
    if (!connect && path.len == 0) return edge_refuse(404, "missing_path_rejected");
    if (path.len && path.ptr[0] != '/') {
        stat_hcm_add(s->m, HCM_STAT_RQ_NON_RELATIVE_PATH);
        return edge_refuse(404, "absolute_path_rejected");
    }
    struct edge_refusal no = edge_normalize_path(s, h);
    if (!no.status) edge_normalize_host(s, h);
    return no;
}

static bool edge_is_upgrade(const struct headers *h)
{
    return headers_has(h, HDR_UPGRADE) && headers_has_token(h, HDR_CONNECTION, STR("upgrade"));
}

/* Connection-bound headers end here. */
static void edge_hop_by_hop(struct headers *h)
{
    if (!edge_is_upgrade(h)) { /* an upgrade goes on to the upstream */
        headers_remove_id(h, HDR_CONNECTION);
        headers_remove_id(h, HDR_UPGRADE);
    }
    headers_remove_id(h, HDR_X_ENVOY_INTERNAL);
    headers_remove_id(h, HDR_KEEP_ALIVE);
    headers_remove_id(h, HDR_PROXY_CONNECTION);
    headers_remove_id(h, HDR_TRANSFER_ENCODING);
    if (!headers_has(h, HDR_TE)) return;
    bool trailers = headers_has_token(h, HDR_TE, STR("trailers"));
    headers_remove_id(h, HDR_TE);
    if (trailers) headers_add_id(h, HDR_TE, STR("trailers"));
}

/* Headers that are one to Envoy however many lines they came in: the values are joined, once,
 * before anybody reads them. */
static void edge_join(struct headers *h)
{
    static const bool joined[HDR_COUNT] = {[HDR_CONTENT_TYPE] = true,
                                           [HDR_EXPECT] = true,
                                           [HDR_GRPC_TIMEOUT] = true,
                                           [HDR_USER_AGENT] = true,
                                           [HDR_VIA] = true,
                                           [HDR_X_CLIENT_TRACE_ID] = true,
                                           [HDR_X_ENVOY_DECORATOR_OPERATION] = true,
                                           [HDR_X_ENVOY_DOWNSTREAM_SERVICE_CLUSTER] = true,
                                           [HDR_X_ENVOY_DOWNSTREAM_SERVICE_NODE] = true,
                                           [HDR_X_ENVOY_EXPECTED_RQ_TIMEOUT_MS] = true,
                                           [HDR_X_ENVOY_EXTERNAL_ADDRESS] = true,
                                           [HDR_X_ENVOY_FORCE_TRACE] = true,
                                           [HDR_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT] = true,
                                           [HDR_X_ENVOY_IP_TAGS] = true,
                                           [HDR_X_ENVOY_MAX_RETRIES] = true,
                                           [HDR_X_ENVOY_ORIGINAL_PATH] = true,
                                           [HDR_X_ENVOY_ORIGINAL_URL] = true,
                                           [HDR_X_ENVOY_RETRIABLE_HEADER_NAMES] = true,
                                           [HDR_X_ENVOY_RETRIABLE_STATUS_CODES] = true,
                                           [HDR_X_ENVOY_RETRY_GRPC_ON] = true,
                                           [HDR_X_ENVOY_RETRY_ON] = true,
                                           [HDR_X_ENVOY_UPSTREAM_ALT_STAT_NAME] = true,
                                           [HDR_X_ENVOY_UPSTREAM_REQUEST_PER_TRY_TIMEOUT_MS] = true,
                                           [HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_ALT_RESPONSE] =
                                               true,
                                           [HDR_X_ENVOY_UPSTREAM_REQUEST_TIMEOUT_MS] = true,
                                           [HDR_X_FORWARDED_CLIENT_CERT] = true,
                                           [HDR_X_FORWARDED_FOR] = true,
                                           [HDR_X_FORWARDED_HOST] = true,
                                           [HDR_X_FORWARDED_PORT] = true,
                                           [HDR_X_FORWARDED_PROTO] = true,
                                           [HDR_X_REQUEST_ID] = true};
    for (uint32_t i = 0; i < h->count; i++) {
        const struct header *x = &h->v[i];
        if (x->removed || !joined[x->id] || h->first[x->id] == i + 1) continue;
        struct str name = header_name_of((enum header_id)x->id);
        headers_set_id(h, (enum header_id)x->id, headers_all(h, name, h->arena));
    }
}

static void edge_early(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    for (size_t i = 0; i < conf->early_count; i++)
        conf->early[i].type->mutate(conf->early[i].conf, h, &s->info);
}

struct edge_refusal edge_mutate_request(struct http_stream *s, struct headers *h)
{
    edge_early(s, h);
    edge_join(h);
    edge_hop_by_hop(h);
    struct edge_refusal no = edge_addresses(s, h);
    edge_xfcc(s, h);
    return no;
}

/* --- responses
 * -------------------------------------------------------------------------------------------------------------
 */

static void edge_server(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    if (conf->server_header == HCM_SERVER_PASS_THROUGH) return;
    if (conf->server_header == HCM_SERVER_APPEND_IF_ABSENT && headers_has(h, HDR_SERVER)) return;
    headers_set_id(h, HDR_SERVER, conf->server_name);
}

void edge_mutate_response(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    const struct headers *req = s->info.req;
    if (!s->tunnel || !edge_is_upgrade(h)) {
        headers_remove_id(h, HDR_CONNECTION);
        headers_remove_id(h, HDR_UPGRADE);
    }
    headers_remove_id(h, HDR_TRANSFER_ENCODING);
    headers_remove_id(h, HDR_KEEP_ALIVE);
    headers_remove_id(h, HDR_PROXY_CONNECTION);
    if (!headers_has(h, HDR_DATE))
        headers_add_id(h, HDR_DATE, str_dup(s->arena, worker_date(s->m->worker)));
    edge_server(s, h);
    if (req && s->info.request_id.len &&
        (conf->request_id_in_response || headers_has(req, HDR_X_ENVOY_FORCE_TRACE))) {
        headers_set_id(h, HDR_X_REQUEST_ID, s->info.request_id);
    }
    if (conf->via.len) headers_append(h, STR("via"), conf->via, STR(", "));
}
