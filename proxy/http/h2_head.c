/* Heads of HTTP/2 messages: limits while they arrive, rules when they are whole, and their form on
 * the way out. */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/http/h1_chars.h"
#include "proxy/http/h2_internal.h"

static bool h2_head_refuse(struct h2_stream *s, const char *details)
{
    if (!s->refused) s->refused = details;
    return false;
}

/* Limits are counted before anything is stored or joined (RFC 9113 10.5.1). */
static bool h2_head_count(struct h2 *h, struct h2_stream *s, struct str name, struct str value)
{
    s->head_bytes += name.len + value.len + H2_HEADER_OVERHEAD;
    s->head_count++;
    if (s->head_bytes > h->options->max_header_bytes + (size_t)H2_HEADER_OVERHEAD * s->head_count) {
        h2_stat(h, H2_STAT_HEADER_OVERFLOW);
        s->over_limit = true;
        return h2_head_refuse(s, "http2.header_list_size_too_large");
    }
    if (h->options->max_headers && s->head_count > h->options->max_headers) {
        h2_stat(h, H2_STAT_HEADER_OVERFLOW);
        s->over_limit = true;
        return h2_head_refuse(s, "http2.too_many_headers");
    }
    return true;
}

/* nghttp2 let it pass; what must never reach an HTTP/1 peer is looked for again. */
static bool h2_head_bytes_valid(const struct h2 *h, struct str name, struct str value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] == '\0' || value.ptr[i] == '\r' || value.ptr[i] == '\n') return false;
    for (size_t i = 0; h->options->h2_refuse_obs_text && i < value.len; i++)
        if (value.ptr[i] & 0x80) return false;
    if (!name.len) return false;
    return name.ptr[0] == ':' || h1_token_valid(name);
}

bool h2_head_add(struct h2 *h, struct h2_stream *s, struct str name, struct str value)
{
    if (s->refused || !h2_head_count(h, s, name, value)) return false;
    if (!h2_head_bytes_valid(h, name, value))
        return h2_head_refuse(s, "http2.invalid.header.field");
    if (h->options->underscores && h->server && str_find_char(name, '_') != SIZE_MAX) {
        if (h->options->underscores == 2) {
            h2_stat(h, H2_STAT_DROPPED_UNDERSCORES);
            return true;
        }
        h2_stat(h, H2_STAT_REJECTED_UNDERSCORES);
        s->over_limit = true;
        return h2_head_refuse(s, "http2.unexpected_underscore");
    }
    headers_add_copy(s->head, name, value);
    return true;
}

/* Several cookie fields become one (RFC 9113 8.2.3). */
static void h2_join_cookies(struct headers *h)
{
    struct str all = STR_NONE;
    uint32_t it = 0, count = 0;
    for (const struct header *x; (x = headers_next(h, &it));) {
        if (x->id != HDR_COOKIE) continue;
        all = count++ ? str_fmt(h->arena, "%.*s; %.*s", STR_ARG(all), STR_ARG(x->value)) : x->value;
    }
    if (count > 1) headers_set_id(h, HDR_COOKIE, all);
}

static bool h2_request_finish(struct h2_stream *s)
{
    struct headers *h = s->head;
    struct str authority = headers_get(h, HDR_AUTHORITY), host = headers_get(h, HDR_HOST);
    if (host.ptr && authority.ptr && !str_case_eq(host, authority))
        return h2_head_refuse(s, "http2.host_differs_from_authority");
    if (host.ptr && !authority.ptr) headers_add_id(h, HDR_AUTHORITY, host);
    (void)headers_remove_id(h, HDR_HOST);
    authority = headers_get(h, HDR_AUTHORITY);
    if (authority.len && !h1_authority_valid(authority))
        return h2_head_refuse(s, "http2.invalid.header.field");
    struct str path = headers_get(h, HDR_PATH), method = headers_get(h, HDR_METHOD);
    if (!h1_token_valid(method)) return h2_head_refuse(s, "http2.invalid_method");
    if (path.ptr && (!path.len || !h1_target_valid(path)))
        return h2_head_refuse(s, "http2.invalid_path");
    h2_join_cookies(h);
    s->is_head = str_eq(method, STR("HEAD"));
    s->connect = str_eq(method, STR("CONNECT"));
    struct str protocol = headers_get(h, HDR_PROTOCOL);
    if (!s->connect || !protocol.ptr) return true;
    /* RFC 8441: shown as the HTTP/1 upgrade that it means, as Envoy does. */
    s->extended = true;
    headers_set_id(h, HDR_METHOD, STR("GET"));
    headers_add_id(h, HDR_UPGRADE, protocol);
    headers_add_id(h, HDR_CONNECTION, STR("upgrade"));
    (void)headers_remove_id(h, HDR_PROTOCOL);
    return true;
}

static void h2_response_finish(struct h2_stream *s)
{
    if (!s->extended || headers_status(s->head) != 200) return;
    headers_set_status(s->head, 101);
    headers_add_id(s->head, HDR_CONNECTION, STR("upgrade"));
    headers_add_id(s->head, HDR_UPGRADE, s->protocol);
}

bool h2_head_finish(struct h2 *h, struct h2_stream *s, bool trailers)
{
    if (s->refused) return false;
    if (trailers) return true;
    if (h->server) return h2_request_finish(s);
    h2_response_finish(s);
    return true;
}

/* --- out
 * ------------------------------------------------------------------------------------------------------------
 */

static bool h2_hop_by_hop(const struct header *x)
{
    switch (x->id) {
    case HDR_CONNECTION:
    case HDR_KEEP_ALIVE:
    case HDR_PROXY_CONNECTION:
    case HDR_TRANSFER_ENCODING:
    case HDR_UPGRADE:
    case HDR_HTTP2_SETTINGS:
    case HDR_HOST: return true;
    case HDR_TE: return !str_case_eq(x->value, STR("trailers"));
    default: return false;
    }
}

static void h2_nv(nghttp2_nv *to, struct str name, struct str value)
{
    /* nghttp2 copies; its struct just lacks const. */
    *to = (nghttp2_nv){(uint8_t *)(uintptr_t)name.ptr,
                       (uint8_t *)(uintptr_t)(value.ptr ? value.ptr : ""), name.len, value.len,
                       NGHTTP2_NV_FLAG_NONE};
}

/* What an upgrade becomes on the wire: CONNECT with :protocol, or status 200. */
static struct str h2_pseudo_value(const struct h2_stream *s, const struct header *x, bool server)
{
    if (!s->extended) return x->value;
    if (!server && x->id == HDR_METHOD) return STR("CONNECT");
    if (server && x->id == HDR_STATUS && str_eq(x->value, STR("101"))) return STR("200");
    return x->value;
}

nghttp2_nv *h2_head_wire(const struct h2_stream *s, const struct headers *h, bool server,
                         bool trailers, size_t *count)
{
    nghttp2_nv *v = mem_array(h->live + 2, sizeof *v);
    size_t n = 0;
    uint32_t it = 0;
    bool tunnel = s->extended && (!server || headers_status(h) == 101);
    bool plain_connect = !server && s->connect && !s->extended;
    for (const struct header *x; !trailers && (x = headers_next(h, &it));) {
        if (!x->name.len || x->name.ptr[0] != ':') continue;
        /* RFC 9113 8.5: a plain CONNECT has neither scheme nor path. */
        if (plain_connect && (x->id == HDR_SCHEME || x->id == HDR_PATH)) continue;
        if (x->id == HDR_PROTOCOL) continue;
        h2_nv(&v[n++], x->name, h2_pseudo_value(s, x, server));
    }
    if (!server && s->extended && !trailers)
        h2_nv(&v[n++], STR(":protocol"), headers_get(h, HDR_UPGRADE));
    it = 0;
    for (const struct header *x; (x = headers_next(h, &it));) {
        if (!x->name.len || x->name.ptr[0] == ':' || h2_hop_by_hop(x)) continue;
        if (tunnel && x->id == HDR_CONTENT_LENGTH) continue;
        h2_nv(&v[n++], x->name, x->value);
    }
    *count = n;
    return v;
}
