/* The path and the host as everybody after this point sees them: dot segments, slashes, escaped
 * slashes, ports. Done once. */
#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/http/path.h"
#include "proxy/http/stream_internal.h"
#include "proxy/net/conn.h"

static int path_hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The byte that %XX at `at` stands for, or -1. */
static int path_escape(struct str s, size_t at)
{
    if (at + 2 >= s.len || s.ptr[at] != '%') return -1;
    int high = path_hex(s.ptr[at + 1]), low = path_hex(s.ptr[at + 2]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Escapes that stand for unreserved bytes are undone, so that "%2e%2e" cannot hide; the others keep
 * their form; bytes that belong in no path are escaped. `out` has room for 3 times the input.
 * False: %00. */
static bool path_unescape_unreserved(struct str in, char *out, size_t *len)
{
    size_t n = 0;
    for (size_t i = 0; i < in.len; i++) {
        int c = path_escape(in, i);
        if (c == 0 || in.ptr[i] == 0) return false;
        char raw = in.ptr[i];
        bool plain = c > 0 && ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                               (c >= 'a' && c <= 'z') || strchr("-._~", c));
        if (plain) {
            out[n++] = (char)c;
            i += 2;
        } else if (strchr("\"<>^`{|}", raw)) {
            out[n++] = '%';
            out[n++] = "0123456789ABCDEF"[(unsigned char)raw >> 4];
            out[n++] = "0123456789ABCDEF"[raw & 15];
        } else {
            out[n++] = raw == '\\' ? '/' : raw;
        }
    }
    *len = n;
    return true;
}

/* "." -> 1, ".." -> 2, else 0. What follows a ';' does not make a dot segment another name. */
static int path_dots(struct str segment)
{
    size_t end = str_find_char(segment, ';');
    if (end != SIZE_MAX) segment.len = end;
    if (str_eq(segment, STR("."))) return 1;
    return str_eq(segment, STR("..")) ? 2 : 0;
}

/* Removes dot segments of text[0..len) in place (RFC 3986 5.2.4); gives back the new length. */
static size_t path_remove_dots(char *text, size_t len)
{
    size_t out = 0;
    for (size_t i = 0; i < len;) {
        size_t end = i + 1;
        while (end < len && text[end] != '/')
            end++;
        int dots = path_dots(str_make(text + i + 1, end - i - 1));
        if (dots == 2) {
            while (out > 0 && text[--out] != '/') {
            }
        }
        if (dots && end == len) text[out++] = '/';
        if (!dots) {
            memmove(text + out, text + i, end - i);
            out += end - i;
        }
        i = end;
    }
    return out;
}

bool path_normalize(struct arena *a, struct str path, struct str *out)
{
    if (path.len == 0 || path.ptr[0] != '/') return false;
    size_t query = str_find_char(path, '?');
    struct str rest = query == SIZE_MAX ? STR_NONE : str_sub(path, query, SIZE_MAX);
    struct str front = str_sub(path, 0, path.len - rest.len);
    char *text = arena_alloc_raw(a, front.len * 3 + rest.len + 1);
    size_t len;
    if (!path_unescape_unreserved(front, text, &len)) return false;
    len = path_remove_dots(text, len);
    if (len == 0) text[len++] = '/';
    if (rest.len) memcpy(text + len, rest.ptr, rest.len);
    *out = str_make(text, len + rest.len);
    return true;
}

struct str path_merge_slashes(struct arena *a, struct str path)
{
    size_t query = str_find_char(path, '?');
    size_t front = query == SIZE_MAX ? path.len : query;
    if (str_find(str_sub(path, 0, front), STR("//")) == SIZE_MAX) return path;
    char *text = arena_alloc_raw(a, path.len);
    size_t n = 0;
    for (size_t i = 0; i < path.len; i++) {
        if (i < front && n && path.ptr[i] == '/' && text[n - 1] == '/') continue;
        text[n++] = path.ptr[i];
    }
    return str_make(text, n);
}

bool path_has_escaped_slash(struct str path)
{
    for (size_t i = 0; i < path.len && path.ptr[i] != '?'; i++) {
        int c = path_escape(path, i);
        if (c == '/' || c == '\\') return true;
    }
    return false;
}

struct str path_unescape_slashes(struct arena *a, struct str path)
{
    char *text = arena_alloc_raw(a, path.len + 1);
    size_t n = 0;
    bool query = false;
    for (size_t i = 0; i < path.len; i++) {
        int c = query ? -1 : path_escape(path, i);
        query |= path.ptr[i] == '?';
        if (c == '/' || c == '\\') {
            text[n++] = (char)c;
            i += 2;
        } else {
            text[n++] = path.ptr[i];
        }
    }
    return str_make(text, n);
}

static const struct edge_refusal edge_fine = {0};

static struct edge_refusal path_refused(struct http_stream *s)
{
    stat_hcm_add(s->m, HCM_STAT_RQ_FAILED_PATH_NORMALIZATION);
    return (struct edge_refusal){.status = 400, .details = "path_normalization_failed"};
}

struct edge_refusal edge_normalize_path(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    struct str path = headers_get(h, HDR_PATH);
    if (!path.ptr) return edge_fine;
    bool redirect = false;
    /* Envoy: a target with a fragment is refused (http_reject_path_with_fragment). */
    if (str_find_char(path, '#') != SIZE_MAX) return path_refused(s);
    if (path.ptr[0] != '/') return edge_fine; /* "*" */
    bool escaped = conf->escaped_slashes > HCM_SLASHES_KEEP && path_has_escaped_slash(path);
    if (escaped) {
        path = path_unescape_slashes(s->arena, path);
        headers_set_id(h, HDR_PATH, path);
        if (conf->escaped_slashes == HCM_SLASHES_REJECT) return path_refused(s);
        redirect = conf->escaped_slashes == HCM_SLASHES_UNESCAPE_REDIRECT;
    }
    if (conf->normalize_path && !path_normalize(s->arena, path, &path)) return path_refused(s);
    if (conf->merge_slashes) path = path_merge_slashes(s->arena, path);
    headers_set_id(h, HDR_PATH, path);
    if (!redirect) return edge_fine;
    stat_hcm_add(s->m, HCM_STAT_RQ_REDIRECTED_WITH_NORMALIZED_PATH);
    return (struct edge_refusal){
        .status = 307, .details = "path_normalization_failed", .location = path};
}

/* "host:port" with the port cut when `any` or when it is `own`. */
struct str host_strip_port(struct str host, bool any, uint16_t own)
{
    size_t colon = str_rfind_char(host, ':');
    size_t bracket = str_rfind_char(host, ']');
    if (colon == SIZE_MAX || (bracket != SIZE_MAX && bracket > colon)) return host;
    if (bracket == SIZE_MAX && str_find_char(host, ':') != colon)
        return host; /* a bare IPv6 address */
    uint32_t port;
    if (!str_to_u32(str_sub(host, colon + 1, SIZE_MAX), &port)) return host;
    return any || port == own ? str_sub(host, 0, colon) : host;
}

void edge_normalize_host(struct http_stream *s, struct headers *h)
{
    const struct hcm_conf *conf = s->m->conf;
    if (!conf->strip_any_port && !conf->strip_matching_port && !conf->strip_trailing_dot) return;
    struct str host = headers_get(h, HDR_AUTHORITY);
    bool connect = str_eq(headers_get(h, HDR_METHOD), STR("CONNECT"));
    if (conf->strip_trailing_dot) {
        struct str name = host_strip_port(host, true, 0);
        if (name.len > 1 && name.ptr[name.len - 1] == '.') {
            struct str port = str_sub(host, name.len, SIZE_MAX);
            name.len--;
            host = str_cat(s->arena, name, port);
        }
    }
    if ((conf->strip_any_port || conf->strip_matching_port) && !connect) {
        host = host_strip_port(host, conf->strip_any_port, addr_port(&s->m->info->local));
    }
    headers_set_id(h, HDR_AUTHORITY, host);
}
