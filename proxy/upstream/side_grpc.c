/* gRPC over HTTP/2 for side calls: frames of five bytes and a message, the status in the trailers.
 * Where a status has to be made, it is the one that Envoy's client makes. */
#include "base/arena.h"
#include "base/must.h"
#include "base/text.h"
#include "proxy/api/headers.h"
#include "proxy/http/local_reply.h"
#include "proxy/upstream/side_internal.h"

enum { FRAME_HEAD = 5 };
enum {
    GRPC_OK = 0,
    GRPC_UNKNOWN = 2,
    GRPC_EXHAUSTED = 8,
    GRPC_INTERNAL = 13,
    GRPC_UNAVAILABLE = 14
};

static void frame(struct buf *out, struct str message)
{
    uint32_t n = (uint32_t)message.len;
    unsigned char head[FRAME_HEAD] = {0, (unsigned char)(n >> 24), (unsigned char)(n >> 16),
                                      (unsigned char)(n >> 8), (unsigned char)n};
    must(message.len <= UINT32_MAX);
    buf_append(out, head, sizeof(head));
    buf_append_str(out, message);
}

/* The largest unit that keeps the number within eight digits. */
static struct str timeout_text(struct arena *a, uint64_t us)
{
    enum { DIGITS_MOST = 99999999 };
    if (us / 1000 <= DIGITS_MOST) return str_fmt(a, "%llum", (unsigned long long)(us / 1000));
    if (us / 1000000 <= DIGITS_MOST) return str_fmt(a, "%lluS", (unsigned long long)(us / 1000000));
    return STR("99999999S");
}

static struct side_call *grpc_start(const struct side_ask *q, enum side_shape shape,
                                    struct str method, const struct headers *more, struct buf *body)
{
    struct arena *a = arena_new("side call head", 0);
    struct headers *h = headers_new(a);
    uint64_t timeout = q->timeout_us ? q->timeout_us : q->target->timeout_us;
    headers_add_id(h, HDR_METHOD, STR("POST"));
    headers_add_id(h, HDR_PATH, method);
    headers_add_id(h, HDR_AUTHORITY,
                   q->target->authority.len ? q->target->authority : q->target->cluster);
    headers_add_id(h, HDR_TE, STR("trailers"));
    headers_add_id(h, HDR_CONTENT_TYPE, STR("application/grpc"));
    if (timeout) headers_add_id(h, HDR_GRPC_TIMEOUT, timeout_text(a, timeout));
    const struct header *x;
    for (uint32_t it = 0; more && (x = headers_next(more, &it));)
        headers_add(h, x->name, x->value);
    struct side_call *c = side_start(q, shape, h, body, shape == SIDE_GRPC_ONE);
    arena_free(&a);
    return c;
}

struct side_call *side_grpc(const struct side_ask *q, struct str method, const struct headers *h,
                            struct str message)
{
    struct buf body = {0};
    frame(&body, message);
    return grpc_start(q, SIDE_GRPC_ONE, method, h, &body);
}

struct side_call *side_grpc_stream(const struct side_ask *q, struct str method,
                                   const struct headers *h)
{
    return grpc_start(q, SIDE_GRPC_STREAM, method, h, NULL);
}

void side_call_send_message(struct side_call *c, struct str message, bool end)
{
    struct buf body = {0};
    frame(&body, message);
    side_call_send(c, &body, end);
}

/* --- the answer
 * ------------------------------------------------------------------------------------------------
 */
static void message_take(struct side_call *c, size_t len)
{
    if (c->shape == SIDE_GRPC_ONE) {
        buf_release(&c->message); /* Envoy: the last one counts */
        buf_move_n(&c->message, &c->in, len);
        c->has_message = true;
        return;
    }
    struct str message = buf_peek(&c->in, len);
    if (c->events->on_message) c->events->on_message(c, c->arg, str_sub(message, 0, len));
    buf_drain(&c->in, len);
}

void side_grpc_deliver(struct side_call *c)
{
    while (!c->over && c->pauses == 0 && c->in.len >= FRAME_HEAD) {
        if (c->ended && c->end.failure != SIDE_OK) return;
        const unsigned char *head = (const unsigned char *)buf_peek(&c->in, FRAME_HEAD).ptr;
        size_t len = (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
        if (head[0] != 0 && len > 0) { /* Envoy: compressed messages were not asked for */
            side_ended(c, SIDE_BAD_MESSAGE, STR("compressed message"));
            return;
        }
        if (len > c->answer_most) {
            side_ended(c, SIDE_TOO_LARGE, STR("message too large"));
            return;
        }
        if (c->in.len < FRAME_HEAD + len) return;
        buf_drain(&c->in, FRAME_HEAD);
        message_take(c, len);
    }
}

bool side_grpc_headers(struct side_call *c)
{
    enum { STATUS_OK = 200 };
    if (c->end.status == STATUS_OK) return true;
    c->end.grpc_status = (uint32_t)grpc_status_of_http(c->end.status);
    side_ended(c, SIDE_OK, STR_NONE);
    return false;
}

/* The status that the peer gave, in trailers or in headers without a body. */
static bool peer_status(const struct side_call *c, uint32_t *status, struct str *message)
{
    const struct headers *t = c->end.trailers;
    if (!t || !headers_has(t, HDR_GRPC_STATUS)) return false;
    uint32_t n;
    *status = str_to_u32(headers_get(t, HDR_GRPC_STATUS), &n) ? n : GRPC_UNKNOWN;
    *message = percent_decode(c->arena, headers_get(t, HDR_GRPC_MESSAGE));
    return true;
}

static uint32_t failure_status(const struct side_call *c)
{
    switch (c->end.failure) {
    case SIDE_TOO_LARGE: return GRPC_EXHAUSTED;
    case SIDE_BAD_MESSAGE: return GRPC_INTERNAL;
    case SIDE_RESET:
    case SIDE_TIMEOUT: return c->end.status ? GRPC_INTERNAL : GRPC_UNAVAILABLE;
    case SIDE_OK:
    case SIDE_NO_CLUSTER:
    case SIDE_NO_HOST:
    case SIDE_OVERFLOW:
    case SIDE_CONNECT_FAILED:
    case SIDE_CONNECT_TIMEOUT: return GRPC_UNAVAILABLE;
    }
    return GRPC_UNAVAILABLE;
}

void side_grpc_end(struct side_call *c)
{
    struct side_end *e = &c->end;
    if (c->only_headers) e->trailers = e->headers; /* gRPC: an answer of trailers only */
    if (e->failure != SIDE_OK) {
        e->grpc_status = failure_status(c);
        e->grpc_message = e->details;
        return;
    }
    if (!peer_status(c, &e->grpc_status, &e->grpc_message) && e->grpc_status == GRPC_OK)
        e->grpc_status = GRPC_UNKNOWN;
    if (c->shape != SIDE_GRPC_ONE || e->grpc_status != GRPC_OK) return;
    if (c->has_message)
        e->message = str_sub(buf_peek(&c->message, c->message.len), 0, c->message.len);
    else
        e->grpc_status = GRPC_INTERNAL; /* Envoy: no message */
}
