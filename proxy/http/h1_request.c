/* Rules on a request's head as a whole: version, target, Host, framing, Connection. What is not
 * clearly right is refused, never repaired. */
#include "proxy/api/matcher.h"
#include "proxy/http/h1_chars.h"
#include "proxy/http/h1_internal.h"

enum { H1_NOMINATED_MOST = 10 };

static bool h1_version_accept(struct h1 *h)
{
    if (h->parser.http_major == 1 && h->parser.http_minor == 1) return true;
    if (h->parser.http_major == 1 && h->parser.http_minor == 0 && h->options->accept_http_10) {
        h->http10 = true;
        return true;
    }
    return h1_refuse(h, 426, "low_version");
}

/* "http://authority/path" into its parts. */
static bool h1_absolute_target(struct h1 *h, struct str url, struct str *scheme,
                               struct str *authority, struct str *path)
{
    size_t colon = str_find(url, STR("://"));
    if (colon == SIZE_MAX) return h1_refuse(h, 400, "http1.codec_error");
    *scheme = str_sub(url, 0, colon);
    if (str_case_eq(*scheme, STR("http")))
        *scheme = STR("http");
    else if (str_case_eq(*scheme, STR("https")))
        *scheme = STR("https");
    else
        return h1_refuse(h, 400, "http1.invalid_scheme");
    struct str rest = str_sub(url, colon + 3, SIZE_MAX);
    size_t end = 0;
    while (end < rest.len && !memchr("/?#", rest.ptr[end], 3))
        end++;
    *authority = str_sub(rest, 0, end);
    *path = end < rest.len ? str_sub(rest, end, SIZE_MAX) : STR("/");
    if (!authority->len || !h1_authority_valid(*authority))
        return h1_refuse(h, 400, "http1.invalid_url");
    return true;
}

/* The Host header's value; ptr NULL when there is none. False: several, or an invalid one. */
static bool h1_host(struct h1 *h, struct str *host)
{
    *host = headers_get(h->head, HDR_HOST);
    if (!headers_has(h->head, HDR_HOST)) return true;
    if (headers_remove_id(h->head, HDR_HOST) > 1) return h1_refuse(h, 400, "http1.codec_error");
    if (!h1_authority_valid(*host)) return h1_refuse(h, 400, "http.invalid_authority");
    return true;
}

static bool h1_connect_target(struct h1 *h)
{
    if (!h1_authority_valid(h->url) || h->url.ptr[0] == '/')
        return h1_refuse(h, 400, "http1.invalid_url");
    size_t colon = str_rfind_char(h->url, ':');
    uint16_t port;
    if (colon == SIZE_MAX || colon == 0 ||
        !str_to_u16(str_sub(h->url, colon + 1, SIZE_MAX), &port)) {
        return h1_refuse(h, 400, "http1.invalid_url");
    }
    struct str host;
    if (!h1_host(h, &host)) return false;
    headers_set_id(h->head, HDR_AUTHORITY, h->url);
    headers_remove_id(h->head, HDR_PATH);
    headers_remove_id(h->head, HDR_SCHEME);
    return true;
}

/* Both name the same place? A port of the scheme's own may stand on one side only. */
static bool h1_same_authority(struct str a, struct str b, struct str scheme)
{
    if (str_case_eq(a, b)) return true;
    struct str port = str_eq(scheme, STR("https")) ? STR(":443") : STR(":80");
    if (str_ends(a, port)) a.len -= port.len;
    if (str_ends(b, port)) b.len -= port.len;
    return str_case_eq(a, b);
}

static bool h1_target(struct h1 *h)
{
    struct str url = h->url, scheme = STR_NONE, authority = STR_NONE, path = url, host;
    if (!h1_target_valid(url)) return h1_refuse(h, 400, "http1.codec_error");
    if (h->is_connect) return h1_connect_target(h);
    bool star = url.len == 1 && url.ptr[0] == '*';
    if (star && !str_eq(headers_get(h->head, HDR_METHOD), STR("OPTIONS")))
        return h1_refuse(h, 400, "http1.invalid_url");
    bool absolute = !star && url.ptr[0] != '/' && h->options->allow_absolute_url;
    if (absolute && !h1_absolute_target(h, url, &scheme, &authority, &path)) return false;
    if (!h1_host(h, &host)) return false;
    if (absolute && host.ptr && !h1_same_authority(host, authority, scheme))
        return h1_refuse(h, 400, "http.invalid_authority");
    if (!absolute) authority = host;
    if (!authority.ptr && h->http10 && h->options->default_host_for_http_10.len)
        authority = h->options->default_host_for_http_10;
    headers_set_id(h->head, HDR_PATH, path);
    if (authority.ptr)
        headers_set_id(h->head, HDR_AUTHORITY, authority);
    else
        headers_remove_id(h->head, HDR_AUTHORITY);
    if (scheme.ptr)
        headers_set_id(h->head, HDR_SCHEME, scheme);
    else
        headers_remove_id(h->head, HDR_SCHEME);
    return true;
}

/* One name out of Connection. False: it must not be nominated. */
static bool h1_nominated(struct headers *head, struct str token)
{
    static const char *const kept[] = {"close", "keep-alive", "upgrade", "te", ""};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (str_case_eq(token, str_of(kept[i]))) return true;
    }
    if (token.ptr[0] == ':' || str_case_eq(token, STR("x-forwarded-for")) ||
        str_case_eq(token, STR("x-forwarded-host")) ||
        str_case_eq(token, STR("x-forwarded-proto"))) {
        return false;
    }
    struct str lower = str_dup_lower(head->arena, token);
    if (str_eq(lower, STR("host"))) headers_remove_id(head, HDR_AUTHORITY);
    /* Framing is ours: these cannot be nominated away before we have looked at them. */
    if (str_eq(lower, STR("content-length")) || str_eq(lower, STR("transfer-encoding")))
        return false;
    headers_remove(head, lower);
    return true;
}

bool h1_sanitize_connection(struct headers *head)
{
    struct str rest = headers_all(head, STR("connection"), head->arena), token;
    unsigned count = 0;
    while (str_next(&rest, ',', &token)) {
        if (++count > H1_NOMINATED_MOST || !h1_nominated(head, str_trim(token))) return false;
    }
    return true;
}

bool h1_transfer_coding(struct h1 *h, bool *chunked)
{
    *chunked = headers_has(h->head, HDR_TRANSFER_ENCODING);
    if (!*chunked) return true;
    struct str coding = headers_all(h->head, STR("transfer-encoding"), h->stream.arena);
    if (!str_case_eq(coding, STR("chunked")))
        return h1_refuse(h, 501, "http1.invalid_transfer_encoding");
    if (h->http10) return h1_refuse(h, 400, "http1.transfer_encoding_not_allowed");
    if (headers_has(h->head, HDR_CONTENT_LENGTH)) {
        if (!h->options->allow_chunked_length)
            return h1_refuse(h, 400, "http1.content_length_and_chunked_not_allowed");
        headers_remove_id(h->head, HDR_CONTENT_LENGTH);
    }
    return true;
}

bool h1_content_length(const struct headers *head, uint64_t *out)
{
    struct str text = headers_get(head, HDR_CONTENT_LENGTH);
    return text.ptr && str_to_u64(text, out);
}

static bool h1_request_framing(struct h1 *h)
{
    bool chunked;
    uint64_t length = 0;
    if (!h1_transfer_coding(h, &chunked)) return false;
    bool sized = headers_has(h->head, HDR_CONTENT_LENGTH);
    if (sized && !h1_content_length(h->head, &length))
        return h1_refuse(h, 400, "http1.codec_error");
    if (h->is_connect || h->is_upgrade) {
        const char *connect =
            chunked ? "http1.transfer_encoding_not_allowed" : "http1.content_length_not_allowed";
        if (chunked || length)
            return h1_refuse(h, 400, h->is_upgrade ? "http1.body_disallowed" : connect);
        h->read = H1_READ_TUNNEL;
        return true;
    }
    h->remaining = length;
    h->read = chunked ? H1_READ_CHUNKED : length ? H1_READ_LENGTH : H1_READ_DONE;
    return true;
}

/* "upgrade: h2c" is answered by going on with HTTP/1 (RFC 7540 3.2 is obsolete). */
static void h1_drop_h2c(struct headers *head)
{
    if (!str_case_eq(headers_get(head, HDR_UPGRADE), STR("h2c"))) return;
    headers_remove_id(head, HDR_UPGRADE);
    headers_remove_id(head, HDR_HTTP2_SETTINGS);
}

/* ignore_http_11_upgrade: of the protocols that are offered, those are not seen. */
static void h1_drop_ignored(const struct codec_options *o, struct headers *head)
{
    struct str rest = headers_get(head, HDR_UPGRADE), one, kept = STR_NONE;
    while (str_next(&rest, ',', &one)) {
        one = str_trim(one);
        if (string_match_any(o->ignore_upgrades, o->ignore_upgrade_count, one)) continue;
        kept = kept.len ? str_fmt(head->arena, "%.*s,%.*s", STR_ARG(kept), STR_ARG(one)) : one;
    }
    if (kept.len)
        headers_set_id(head, HDR_UPGRADE, kept);
    else
        headers_remove_id(head, HDR_UPGRADE);
}

static bool h1_request_connection(struct h1 *h)
{
    struct headers *head = h->head;
    h->peer_close = h->http10;
    if (headers_has(head, HDR_UPGRADE)) {
        h1_drop_h2c(head);
        if (h->options->ignore_upgrade_count) h1_drop_ignored(h->options, head);
    }
    if (!headers_has(head, HDR_CONNECTION)) return true;
    if (headers_has_token(head, HDR_CONNECTION, STR("close")))
        h->peer_close = true;
    else if (h->http10 && headers_has_token(head, HDR_CONNECTION, STR("keep-alive")))
        h->peer_close = false;
    if (!h1_sanitize_connection(head)) return h1_refuse(h, 400, "http1.connection_header_rejected");
    h->is_upgrade = !h->is_connect && headers_has(head, HDR_UPGRADE) &&
                    headers_has_token(head, HDR_CONNECTION, STR("upgrade"));
    return true;
}

/* "METHOD SP target SP HTTP/1.x" and nothing else: llhttp forgives more spaces. */
static bool h1_line_strict(const struct h1 *h, size_t method)
{
    const char *target = h->url.ptr;
    return target == h->block + method + 1 && target[-1] == ' ' &&
           memcmp(target + h->url.len, " HTTP/", 6) == 0;
}

bool h1_request_accept(struct h1 *h)
{
    struct str method = h->method;
    if (!method.len) method = str_of(llhttp_method_name((llhttp_method_t)h->parser.method));
    if (str_eq(method, STR("PRI"))) return h1_refuse(h, 400, "http1.codec_error");
    if (!h1_version_accept(h)) return false;
    if (!h1_line_strict(h, method.len)) return h1_refuse(h, 400, "http1.codec_error");
    headers_set_id(h->head, HDR_METHOD, method);
    h->is_head = str_eq(method, STR("HEAD"));
    h->is_connect = h->parser.method == HTTP_CONNECT;
    return h1_target(h) && h1_request_connection(h) && h1_request_framing(h);
}
