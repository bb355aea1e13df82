/* Heads of messages: finds the end, copies the block once into the stream's arena and lets llhttp
 * cut it into slices of that copy. A head that arrives in pieces is first approved piece by piece,
 * so that junk is refused at once and nothing is parsed twice but the whole. */
#include "base/arena.h"
#include "proxy/http/h1_chars.h"
#include "proxy/http/h1_internal.h"

bool h1_refuse(struct h1 *h, uint32_t status, const char *details)
{
    h->fail_status = status;
    h->fail_details = str_of(details);
    return false;
}

void h1_head_reset(struct h1 *h)
{
    h->head = NULL;
    h->trailers = NULL;
    h->name = h->value = h->url = h->reason = h->method = STR_NONE;
    h->value_open = h->obs_fold = h->trailing = h->message_done = h->interim = false;
    h->line_bytes = 0;
    h->line_count = 0;
    h->scanned = 0;
    h->overhead = 0;
    h->fail_details = STR_NONE;
    h->fail_status = 0;
}

/* --- llhttp's callbacks
 * ---------------------------------------------------------------------------------------- */

static struct h1 *h1_from(llhttp_t *p)
{
    return p->data;
}

/* Spans of a head are contiguous in the block; those of trailers may be cut by slices and are
 * copied: a second span elsewhere is a folded line. False: too much. */
static bool h1_span_add(struct h1 *h, struct str *to, const char *at, size_t len)
{
    if (h->trailing) {
        h->line_bytes += len;
        if (h->line_bytes > h->options->max_header_bytes)
            return h1_refuse(h, 431, "http1.trailers_too_large");
        if (to->len && at != h->slice && at != h->span_end) h->obs_fold = true;
        if (!to->len && to == &h->value && h->span_end &&
            memchr(h->span_end, '\n', (size_t)(at - h->span_end)))
            h->obs_fold = true;
        h->span_end = at + len;
        *to = str_cat(h->stream.arena, *to, str_make(at, len));
        return true;
    }
    *to = to->len ? str_make(to->ptr, to->len + len) : str_make(at, len);
    return true;
}

static int h1_on_url(llhttp_t *p, const char *at, size_t len)
{
    struct h1 *h = h1_from(p);
    return h1_span_add(h, &h->url, at, len) ? 0 : HPE_USER;
}

static int h1_on_field(llhttp_t *p, const char *at, size_t len)
{
    struct h1 *h = h1_from(p);
    if (h->value_open) {
        h->value_open = false;
        h->name = h->value = STR_NONE;
    }
    if (!h->trailing && h->read == H1_READ_CHUNKED) {
        h->trailing = true;
        h->name = h->value = STR_NONE;
    }
    return h1_span_add(h, &h->name, at, len) ? 0 : HPE_USER;
}

static int h1_on_value(llhttp_t *p, const char *at, size_t len)
{
    struct h1 *h = h1_from(p);
    h->value_open = true;
    return h1_span_add(h, &h->value, at, len) ? 0 : HPE_USER;
}

/* Names with underscores: 0 keep, 1 refuse, 2 drop. True: keep the header. */
static bool h1_underscore(struct h1 *h, bool *refused)
{
    if (!h->options->underscores || !h->server || str_find_char(h->name, '_') == SIZE_MAX)
        return true;
    if (h->options->underscores == 1) {
        stat_inc(h->options->stats, H1_STAT_REJECTED_UNDERSCORES);
        *refused = true;
        return h1_refuse(h, 400, "http1.unexpected_underscore");
    }
    stat_inc(h->options->stats, H1_STAT_DROPPED_UNDERSCORES);
    return false;
}

/* The name in lower case, in place where it can be; empty: it is no token. */
static struct str h1_lowered(struct h1 *h)
{
    char *at = h->trailing ? arena_copy(h->stream.arena, h->name.ptr, h->name.len)
                           : h->block + (h->name.ptr - h->block);
    return h1_token_lower(at, h->name.len) ? str_make(at, h->name.len) : STR_NONE;
}

static struct header_cases *h1_cases(struct h1 *h, struct headers *list)
{
    if (!list->cases) {
        list->cases = ARENA_NEW(h->stream.arena, struct header_cases);
        list->cases->proper = h->options->preserve_proper;
    }
    return list->cases;
}

/* The name before it is lowered, as its writer had it. */
static void h1_keep_case(struct h1 *h, struct headers *list, struct str name)
{
    enum { FIRST = 32 };
    struct header_cases *c = h1_cases(h, list);
    if (c->count == c->cap) {
        uint32_t cap = c->cap ? c->cap * 2 : FIRST;
        struct str *v = ARENA_ARRAY(h->stream.arena, struct str, cap);
        if (c->count) memcpy(v, c->v, c->count * sizeof *v);
        c->v = v;
        c->cap = cap;
    }
    c->v[c->count++] = name;
}

/* The reason phrase of a response that passes on. */
static int h1_on_status(llhttp_t *p, const char *at, size_t len)
{
    struct h1 *h = h1_from(p);
    if (!h->options->preserve_reason || h->server) return 0;
    return h1_span_add(h, &h->reason, at, len) ? 0 : HPE_USER;
}

static int h1_on_value_complete(llhttp_t *p)
{
    struct h1 *h = h1_from(p);
    h->value_open = true;
    if (h->obs_fold) return h1_refuse(h, 400, "http1.codec_error") ? 0 : HPE_USER;
    if (++h->line_count > h->options->max_headers) {
        (void)h1_refuse(h, 431, h->trailing ? "http1.too_many_trailers" : "http1.too_many_headers");
        return HPE_USER;
    }
    struct str value = str_trim(h->value);
    if (!h1_value_valid(value)) return h1_refuse(h, 400, "http1.invalid_characters") ? 0 : HPE_USER;
    struct str written = h->options->preserve_case ? str_dup(h->stream.arena, h->name) : STR_NONE;
    h->name = h1_lowered(h);
    if (!h->name.len)
        return h1_refuse(h, 400, "http1.codec_error") ? 0
                                                      : HPE_USER; /* llhttp takes an empty one */
    bool refused = false;
    if (!h1_underscore(h, &refused)) return refused ? HPE_USER : 0;
    struct headers **list = h->trailing ? &h->trailers : &h->head;
    if (!*list) *list = headers_new(h->stream.arena);
    headers_add(*list, h->name, value);
    if (written.len) h1_keep_case(h, *list, written);
    return 0;
}

static int h1_on_headers_complete(llhttp_t *p)
{
    struct h1 *h = h1_from(p);
    if (h->reason.len && h1_value_valid(h->reason)) h1_cases(h, h->head)->reason = h->reason;
    h->reason = STR_NONE;
    return HPE_PAUSED;
}

static int h1_on_scanned(llhttp_t *p)
{
    (void)p;
    return HPE_PAUSED;
}

static int h1_on_message_complete(llhttp_t *p)
{
    h1_from(p)->message_done = true;
    return HPE_PAUSED;
}

/* Data of a chunk: moves its bytes out of the input without a copy. */
static int h1_on_body(llhttp_t *p, const char *at, size_t len)
{
    struct h1 *h = h1_from(p);
    size_t start = (size_t)(at - h->slice);
    buf_drain(h->in, start - h->slice_used);
    buf_move_n(&h->body, h->in, len);
    h->slice_used = start + len;
    h->overhead = 0;
    return 0;
}

const llhttp_settings_t h1_settings = {
    .on_url = h1_on_url,
    .on_status = h1_on_status,
    .on_header_field = h1_on_field,
    .on_header_value = h1_on_value,
    .on_header_value_complete = h1_on_value_complete,
    .on_headers_complete = h1_on_headers_complete,
    .on_body = h1_on_body,
    .on_message_complete = h1_on_message_complete,
};
const llhttp_settings_t h1_scan_settings = {.on_headers_complete = h1_on_scanned};

/* --- the head
 * --------------------------------------------------------------------------------------------------
 */

static void h1_parser_start(struct h1 *h, const llhttp_settings_t *settings)
{
    llhttp_init(&h->parser, h->server ? HTTP_REQUEST : HTTP_RESPONSE, settings);
    h->parser.data = h;
    if (h->options->allow_chunked_length) llhttp_set_lenient_chunked_length(&h->parser, 1);
}

/* llhttp knows the registered methods only. Where any token is a method, it reads GET instead of
 * the one that stands at the front of `head` (CONNECT says what follows: that one it must see).
 * H1_MORE: the method is not whole. H1_NEXT: *skip bytes were read. */
static enum h1_step h1_parse_method(struct h1 *h, struct str head, size_t *skip)
{
    enum { METHOD_MOST = 1024 };
    *skip = 0;
    if (!h->server || !h->options->allow_custom_methods) return H1_NEXT;
    size_t space = str_find_char(head, ' ');
    struct str method = str_sub(head, 0, space);
    bool fine = method.len <= METHOD_MOST && (!head.len || h1_token_valid(method));
    if (!fine) return h1_refuse(h, 400, "http1.codec_error") ? H1_NEXT : H1_FAILED;
    if (space == SIZE_MAX) return H1_MORE;
    h->method = method;
    if (str_eq(method, STR("CONNECT"))) return H1_NEXT;
    *skip = method.len;
    return llhttp_execute(&h->parser, "GET", 3) == HPE_OK ? H1_NEXT : H1_FAILED;
}

/* Gives a parser error Envoy's name. Always H1_FAILED. */
static enum h1_step h1_parser_failed(struct h1 *h, enum llhttp_errno e)
{
    if (h->fail_details.len) return H1_FAILED; /* a callback said why */
    if (e == HPE_INVALID_VERSION && h->server &&
        str_eq(str_of(llhttp_get_error_reason(&h->parser)), STR("Invalid HTTP version"))) {
        (void)h1_refuse(h, 426, "low_version");
    } else if (e == HPE_INVALID_TRANSFER_ENCODING) {
        (void)h1_refuse(h, 501, "http1.invalid_transfer_encoding");
    } else if (e == HPE_UNEXPECTED_CONTENT_LENGTH && h->head &&
               headers_has(h->head, HDR_TRANSFER_ENCODING)) {
        (void)h1_refuse(h, 400, "http1.content_length_and_chunked_not_allowed");
    } else if (e == HPE_INVALID_HEADER_TOKEN &&
               str_find(str_of(llhttp_get_error_reason(&h->parser)), STR("value")) != SIZE_MAX) {
        (void)h1_refuse(h, 400, "http1.invalid_characters");
    } else {
        (void)h1_refuse(h, 400, "http1.codec_error");
    }
    return H1_FAILED;
}

/* A line that begins with white space continues the one before it (RFC 9112 5.2): never accepted.
 */
static bool h1_is_folded(struct str block)
{
    const char *at = block.ptr, *end = block.ptr + block.len;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) && ++at < end) {
        if (*at == ' ' || *at == '\t') return true;
    }
    return false;
}

/* llhttp takes a bare LF for the empty line. */
static bool h1_ends_well(struct str block)
{
    return str_ends(block, STR("\r\n\r\n"));
}

/* The whole head is at the front of the input and `len` bytes long (or a bit longer: the parser
 * knows). */
static enum h1_step h1_parse_block(struct h1 *h, struct buf *in, struct str block)
{
    h->block = arena_copy(h->stream.arena, block.ptr, block.len);
    h->head = headers_new(h->stream.arena);
    if (h->server) {
        /* Pseudo-headers stand first; h1_request_accept fills them in. */
        headers_add_id(h->head, HDR_METHOD, STR_NONE);
        headers_add_id(h->head, HDR_PATH, STR_NONE);
        headers_add_id(h->head, HDR_AUTHORITY, STR_NONE);
        headers_add_id(h->head, HDR_SCHEME, STR_NONE);
    } else {
        headers_add_id(h->head, HDR_STATUS, STR_NONE);
    }
    h1_parser_start(h, &h1_settings);
    size_t skip;
    enum h1_step step = h1_parse_method(h, str_make(h->block, block.len), &skip);
    if (step != H1_NEXT) return h1_parser_failed(h, HPE_INVALID_METHOD);
    enum llhttp_errno e = llhttp_execute(&h->parser, h->block + skip, block.len - skip);
    if (e != HPE_PAUSED) return h1_parser_failed(h, e);
    size_t used = (size_t)(llhttp_get_error_pos(&h->parser) - h->block);
    struct str head = str_make(h->block, used);
    if (h1_is_folded(head) || !h1_ends_well(head))
        return h1_refuse(h, 400, "http1.codec_error") ? H1_NEXT : H1_FAILED;
    buf_drain(in, used);
    h->counts.header_received += used;
    h->counts.wire_received += used;
    bool fine = h->server ? h1_request_accept(h) : h1_response_accept(h);
    return fine ? H1_NEXT : H1_FAILED;
}

/* Approves the bytes that came since the last look. */
static enum h1_step h1_scan(struct h1 *h, struct buf *in)
{
    size_t most = h->options->max_header_bytes;
    size_t seen = in->len < most ? in->len : most;
    struct str all = buf_peek(in, seen);
    if (!h->scanned) {
        h1_parser_start(h, &h1_scan_settings);
        enum h1_step step = h1_parse_method(h, all, &h->scanned);
        if (step != H1_NEXT) return step;
    }
    enum llhttp_errno e = llhttp_execute(&h->parser, all.ptr + h->scanned, all.len - h->scanned);
    if (e == HPE_PAUSED) {
        size_t used = (size_t)(llhttp_get_error_pos(&h->parser) - all.ptr);
        return h1_parse_block(h, in, str_make(all.ptr, used));
    }
    if (e != HPE_OK) {
        /* Parse what is there for the details that only the whole parse finds (too many headers,
         * bad values). */
        enum h1_step step = h1_parse_block(h, in, all);
        return step == H1_NEXT ? h1_parser_failed(h, e) : step;
    }
    h->scanned = all.len;
    if (in->len < most) return H1_MORE;
    (void)h1_refuse(h, 431, "http1.headers_too_large");
    return H1_FAILED;
}

/* Behind the first empty line; 0: there is none. A few memchr beat memmem, which looks at each
 * byte. */
static size_t h1_head_end(struct str front)
{
    const char *at = front.ptr, *end = front.ptr + front.len;
    while (at < end && (at = memchr(at, '\n', (size_t)(end - at)))) {
        at++;
        if (end - at >= 2 && at[0] == '\r' && at[1] == '\n' && at - front.ptr >= 2 &&
            at[-2] == '\r')
            return (size_t)(at + 2 - front.ptr);
    }
    return 0;
}

enum h1_step h1_read_head(struct h1 *h, struct buf *in)
{
    struct str front = buf_front(in);
    if (!h->scanned) {
        size_t len = h1_head_end(front);
        if (len && len <= h->options->max_header_bytes)
            return h1_parse_block(h, in, str_make(front.ptr, len));
    }
    return h1_scan(h, in);
}
