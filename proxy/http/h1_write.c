/* Writing messages: heads are put together in one piece, bodies are framed as the head said. Never
 * sends more or less than it declared. */
#include "base/arena.h"
#include "proxy/http/h1_internal.h"

enum { H1_HEAD_ON_STACK = 2048, H1_LINE_EXTRA = 160 };

struct h1_text {
    char *at;
};

static void h1_put(struct h1_text *t, struct str s)
{
    if (s.len) memcpy(t->at, s.ptr, s.len);
    t->at += s.len;
}

/* "content-type" as "Content-Type". */
static void h1_put_proper(struct h1_text *t, struct str name)
{
    bool first = true;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        *t->at++ = first && c >= 'a' && c <= 'z' ? (char)(c & ~0x20) : c;
        first = !((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'));
    }
}

static void h1_put_name(struct h1_text *t, const struct h1 *h, const struct header_cases *cases,
                        struct str name)
{
    for (uint32_t i = 0; cases && i < cases->count; i++) {
        if (!str_case_eq(cases->v[i], name)) continue;
        h1_put(t, cases->v[i]);
        return;
    }
    if (cases ? cases->proper : h->options->proper_case)
        h1_put_proper(t, name);
    else
        h1_put(t, name);
}

static void h1_put_header(struct h1_text *t, const struct h1 *h, const struct header_cases *cases,
                          struct str name, struct str value)
{
    h1_put_name(t, h, cases, name);
    *t->at++ = ':';
    *t->at++ = ' ';
    h1_put(t, value);
    *t->at++ = '\r';
    *t->at++ = '\n';
}

/* Bytes that the list takes at most on the wire. */
static size_t h1_size(const struct headers *list)
{
    size_t reason = list->cases ? list->cases->reason.len : 0;
    return list->bytes + (size_t)list->live * 4 + reason + H1_LINE_EXTRA;
}

static void h1_put_list(struct h1_text *t, const struct h1 *h, const struct headers *list)
{
    uint32_t it = 0;
    const struct header *x;
    while ((x = headers_next(list, &it))) {
        if (x->id == HDR_HOST || x->id == HDR_TRANSFER_ENCODING) continue; /* framing is ours */
        if (x->name.ptr[0] == ':') continue;
        h1_put_header(t, h, list->cases, x->name, x->value);
    }
}

static void h1_out(struct h1 *h, struct buf *out, bool end)
{
    h->counts.wire_sent += out->len;
    conn_write(h->base.conn, out, end);
}

/* --- framing
 * -----------------------------------------------------------------------------------------------------------
 */

/* Requests of these methods say nothing about a body that they do not have. Envoy: GET, HEAD,
 * DELETE, CONNECT, TRACE. */
static bool h1_bodiless_method(struct str method)
{
    return str_eq(method, STR("GET")) || str_eq(method, STR("HEAD")) ||
           str_eq(method, STR("CONNECT")) || str_eq(method, STR("DELETE")) ||
           str_eq(method, STR("TRACE"));
}

/* Chooses how the body is framed; *line is the header that says so, empty when none is to be added.
 */
static enum h1_write h1_request_plan(struct h1 *h, const struct headers *list, bool end,
                                     struct str *name, struct str *value)
{
    uint64_t length;
    if (h->is_connect || h->is_upgrade) return H1_WRITE_TUNNEL;
    if (h1_content_length(list, &length)) {
        h->write_left = length;
        return H1_WRITE_LENGTH;
    }
    if (end) {
        if (!h1_bodiless_method(headers_get(list, HDR_METHOD))) {
            *name = STR("content-length");
            *value = STR("0");
        }
        return H1_WRITE_NONE;
    }
    *name = STR("transfer-encoding");
    *value = STR("chunked");
    return H1_WRITE_CHUNKED;
}

static enum h1_write h1_response_plan(struct h1 *h, const struct headers *list, uint32_t status,
                                      bool end, struct str *name, struct str *value)
{
    uint64_t length;
    if (status == 101 || (h->is_connect && status >= 200 && status < 300)) return H1_WRITE_TUNNEL;
    if (status < 200 || status == 204) return H1_WRITE_NONE;
    bool bodiless = h->is_head || status == 304;
    if (h1_content_length(list, &length)) {
        h->write_left = length;
        return bodiless ? H1_WRITE_NONE : H1_WRITE_LENGTH;
    }
    if (end && status == 304) return H1_WRITE_NONE;
    if (end && !h->is_head) {
        *name = STR("content-length");
        *value = STR("0");
        return H1_WRITE_NONE;
    }
    if (h->http10) {
        h->last = true; /* HTTP/1.0 knows no chunks: the end of the connection ends the body */
        return bodiless ? H1_WRITE_NONE : H1_WRITE_CLOSE;
    }
    *name = STR("transfer-encoding");
    *value = STR("chunked");
    return bodiless ? H1_WRITE_NONE : H1_WRITE_CHUNKED;
}

/* --- heads
 * ----------------------------------------------------------------------------------------------------------------
 */

static void h1_put_status_line(struct h1_text *t, uint32_t status, bool http10, struct str reason)
{
    h1_put(t, http10 ? STR("HTTP/1.0 ") : STR("HTTP/1.1 "));
    *t->at++ = (char)('0' + status / 100 % 10);
    *t->at++ = (char)('0' + status / 10 % 10);
    *t->at++ = (char)('0' + status % 10);
    *t->at++ = ' ';
    h1_put(t, reason.len ? reason : http_status_text(status));
    h1_put(t, STR("\r\n"));
}

static void h1_put_request_line(struct h1_text *t, const struct h1 *h, const struct headers *list)
{
    struct str authority = headers_get(list, HDR_AUTHORITY);
    h1_put(t, headers_get(list, HDR_METHOD));
    *t->at++ = ' ';
    if (h->is_connect) {
        h1_put(t, authority);
    } else {
        if (h->options->send_fully_qualified_url) {
            h1_put(t, headers_get(list, HDR_SCHEME));
            h1_put(t, STR("://"));
            h1_put(t, authority);
        }
        h1_put(t, headers_get(list, HDR_PATH));
    }
    h1_put(t, STR(" HTTP/1.1\r\n"));
    h1_put_header(t, h, list->cases, STR("host"), authority);
}

static void h1_put_head(struct h1_text *t, const struct h1 *h, const struct headers *list,
                        uint32_t status, struct str name, struct str value)
{
    if (h->server)
        h1_put_status_line(t, status, h->http10, list->cases ? list->cases->reason : STR_NONE);
    else
        h1_put_request_line(t, h, list);
    h1_put_list(t, h, list);
    if (name.len) h1_put_header(t, h, list->cases, name, value);
    h1_put(t, STR("\r\n"));
}

static void h1_send_head(struct h1 *h, const struct headers *list, uint32_t status, struct str name,
                         struct str value)
{
    char stack[H1_HEAD_ON_STACK];
    size_t most = h1_size(list);
    /* A fully qualified target and Host repeat the authority. */
    most += headers_get(list, HDR_AUTHORITY).len * 2;
    char *text = most <= sizeof stack ? stack : arena_alloc_raw(h->stream.arena, most);
    struct h1_text t = {text};
    h1_put_head(&t, h, list, status, name, value);
    size_t len = (size_t)(t.at - text);
    struct buf out = {0};
    buf_append(&out, text, len);
    h->counts.header_sent += len;
    h1_out(h, &out, false);
}

static void h1_note_request(struct h1 *h, const struct headers *list)
{
    struct str method = headers_get(list, HDR_METHOD);
    h->is_head = str_eq(method, STR("HEAD"));
    h->is_connect = str_eq(method, STR("CONNECT"));
    h->is_upgrade = !h->is_connect && headers_has(list, HDR_UPGRADE) &&
                    headers_has_token(list, HDR_CONNECTION, STR("upgrade"));
}

void h1_send_headers(struct codec_stream *s, struct headers *list, bool end)
{
    struct h1 *h = h1_of(s->codec);
    struct str name = STR_NONE, value = STR_NONE;
    uint32_t status = h->server ? headers_status(list) : 0;
    if (!h->open || h->write != H1_WRITE_IDLE) return;
    if (h->server) {
        if (h->drain && status != 101) headers_set_id(list, HDR_CONNECTION, STR("close"));
        h->write = (uint8_t)h1_response_plan(h, list, status, end, &name, &value);
        if (headers_has_token(list, HDR_CONNECTION, STR("close"))) h->last = true;
        if (status == 204 || status < 200) headers_remove_id(list, HDR_CONTENT_LENGTH);
    } else {
        h1_note_request(h, list);
        h->sent_mark = conn_bytes_written(h->base.conn);
        h->write = (uint8_t)h1_request_plan(h, list, end, &name, &value);
        if (headers_has_token(list, HDR_CONNECTION, STR("close"))) h->peer_close = true;
    }
    h1_send_head(h, list, status, name, value);
    if (!end) return;
    if (h->write == H1_WRITE_LENGTH && h->write_left)
        h->last = h->peer_close = true; /* promised more than there is */
    h->write = H1_WRITE_DONE;
    h1_settle(h);
}

void h1_send_1xx(struct codec_stream *s, struct headers *list)
{
    struct h1 *h = h1_of(s->codec);
    if (!h->open || !h->server || h->write != H1_WRITE_IDLE || h->http10) return;
    h1_send_head(h, list, headers_status(list), STR_NONE, STR_NONE);
}

/* --- bodies
 * -------------------------------------------------------------------------------------------------------------
 */

static void h1_chunk(struct buf *out, struct buf *data)
{
    char line[20];
    size_t at = sizeof line;
    line[--at] = '\n';
    line[--at] = '\r';
    for (size_t n = data->len; n; n >>= 4)
        line[--at] = "0123456789abcdef"[n & 15];
    buf_append(out, line + at, sizeof line - at);
    buf_move(out, data);
    buf_append(out, "\r\n", 2);
}

/* Keeps to the declared length: cuts what is too much. */
static void h1_measured(struct h1 *h, struct buf *out, struct buf *data, bool end)
{
    uint64_t n = data->len < h->write_left ? data->len : h->write_left;
    if (n < data->len) h->last = h->peer_close = true;
    buf_move_n(out, data, (size_t)n);
    h->write_left -= n;
    if (end && h->write_left) h->last = h->peer_close = true;
}

void h1_send_data(struct codec_stream *s, struct buf *data, bool end)
{
    struct h1 *h = h1_of(s->codec);
    struct buf out = {0};
    if (!h->open) {
        buf_release(data);
        return;
    }
    bool tunnel = h->write == H1_WRITE_TUNNEL;
    if (h->write == H1_WRITE_LENGTH)
        h1_measured(h, &out, data, end);
    else if (h->write == H1_WRITE_CHUNKED && data->len)
        h1_chunk(&out, data);
    else if (h->write == H1_WRITE_CLOSE || tunnel)
        buf_move(&out, data);
    buf_release(data);
    if (end && h->write == H1_WRITE_CHUNKED) buf_append(&out, "0\r\n\r\n", 5);
    if (out.len || (end && tunnel)) h1_out(h, &out, end && tunnel);
    if (!end) return;
    h->write = H1_WRITE_DONE;
    h1_settle(h);
}

/* HTTP/1 has no place for them. */
void h1_send_metadata(struct codec_stream *s, struct buf *block)
{
    const struct h1 *h = h1_of(s->codec);
    buf_release(block);
    if (h->options->stats) stat_inc(h->options->stats, H1_STAT_METADATA_UNSUPPORTED);
}

void h1_send_trailers(struct codec_stream *s, struct headers *list)
{
    struct h1 *h = h1_of(s->codec);
    struct buf out = {0};
    if (!h->open) return;
    if (h->write == H1_WRITE_CHUNKED && h->options->enable_trailers) {
        char *text = arena_alloc_raw(h->stream.arena, h1_size(list));
        struct h1_text t = {text};
        h1_put(&t, STR("0\r\n"));
        h1_put_list(&t, h, list);
        h1_put(&t, STR("\r\n"));
        buf_append(&out, text, (size_t)(t.at - text));
    } else if (h->write == H1_WRITE_CHUNKED) {
        buf_append(&out, "0\r\n\r\n", 5);
    } else if (h->write == H1_WRITE_LENGTH && h->write_left) {
        h->last = h->peer_close = true;
    }
    if (out.len) h1_out(h, &out, false);
    h->write = H1_WRITE_DONE;
    h1_settle(h);
}
