/* x-request-id: made where there is none or where a client must not choose it; carries the decision
 * to trace in its 15th digit. */
#include "base/arena.h"
#include "base/rand.h"
#include "proxy/api/headers.h"
#include "proxy/http/stream_internal.h"
#include "proxy/runtime/runtime.h"

/* Place of the digit in a UUID, and its values. */
enum { TRACE_DIGIT = 14, UUID_LENGTH = 36, PERCENT_100 = 10000 };

static bool request_id_is_uuid(struct str id)
{
    return id.len == UUID_LENGTH && id.ptr[8] == '-' && id.ptr[13] == '-' && id.ptr[18] == '-' &&
           id.ptr[23] == '-';
}

/* 'a' forced, 'b' asked for by the client, '9' sampled, 0 none. */
static char request_id_trace(struct http_stream *s, const struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    struct rng *rng = &s->m->worker->rng;
    if (headers_has(h, HDR_X_CLIENT_TRACE_ID) && rng_below(rng, PERCENT_100) < conf->sample_client)
        return 'b';
    if (headers_has(h, HDR_X_ENVOY_FORCE_TRACE)) return 'a';
    if (rng_below(rng, PERCENT_100) < conf->sample_random) return '9';
    return 0;
}

static void request_id_mark(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    struct str id = headers_get(h, HDR_X_REQUEST_ID);
    if (!conf->tracing || !conf->request_id_tracing || !request_id_is_uuid(id) ||
        id.ptr[TRACE_DIGIT] != '4')
        return;
    char reason = request_id_trace(s, h);
    if (!reason || rng_below(&s->m->worker->rng, PERCENT_100) >= conf->sample_overall) return;
    char *marked = arena_copy(s->arena, id.ptr, id.len);
    marked[TRACE_DIGIT] = reason;
    headers_set_id(h, HDR_X_REQUEST_ID, str_make(marked, id.len));
}

void edge_request_id(struct http_stream *s, struct headers *h, bool edge)
{
    const struct hcm_conf *conf = s->m->conf;
    if (conf->generate_request_id) {
        bool present = headers_get(h, HDR_X_REQUEST_ID).len > 0;
        bool force = edge && !conf->preserve_request_id;
        if (!present || force) {
            char *uuid = arena_alloc_raw(s->arena, UUID_LENGTH + 1);
            rng_uuid(&s->m->worker->rng, uuid);
            headers_set_id(h, HDR_X_REQUEST_ID, str_make(uuid, UUID_LENGTH));
        }
    }
    request_id_mark(s, h);
    s->info.request_id = headers_get(h, HDR_X_REQUEST_ID);
}
