/* envoy.filters.listener.http_inspector: tells HTTP/1.0, HTTP/1.1 or HTTP/2 prior knowledge from
 * the first bytes, as the application protocol for the choice of the filter chain. */
#include "base/arena.h"
#include "envoy/extensions/filters/listener/http_inspector/v3/http_inspector.pb-c.h"
#include "filters/common/stats.h"
#include "proxy/api/network_filter.h"

enum http_inspector_stat { STAT_HTTP10, STAT_HTTP11, STAT_HTTP2, STAT_NOT_FOUND, STAT_READ_ERROR };
static const struct stat_def http_inspector_stats[] = {
    [STAT_HTTP10] = {"http10_found", STAT_COUNTER, 0},
    [STAT_HTTP11] = {"http11_found", STAT_COUNTER, 0},
    [STAT_HTTP2] = {"http2_found", STAT_COUNTER, 0},
    [STAT_NOT_FOUND] = {"http_not_found", STAT_COUNTER, 0},
    [STAT_READ_ERROR] = {"read_error", STAT_COUNTER, 0},
};
enum { PEEK_MOST = 64 * 1024 };

struct http_inspector {
    struct stat_group *stats;
};

static const void *http_inspector_create(const struct conf_at *at,
                                         const struct ProtobufCMessage *msg)
{
    (void)msg;
    struct http_inspector *c = ARENA_NEW(conf_arena(at), struct http_inspector);
    c->stats = conf_stat_group(at, STR("http_inspector."), http_inspector_stats,
                               sizeof(http_inspector_stats) / sizeof(http_inspector_stats[0]));
    return c;
}

static const struct str preface = {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24};
/* Methods as Envoy's list; the request line is read only when it may begin with one. */
static const struct str methods[] = {
    {"GET ", 4},     {"HEAD ", 5},    {"POST ", 5},  {"PUT ", 4},   {"DELETE ", 7},
    {"CONNECT ", 8}, {"OPTIONS ", 8}, {"TRACE ", 6}, {"PATCH ", 6},
};

static bool may_be_method(struct str s)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        size_t n = s.len < methods[i].len ? s.len : methods[i].len;
        if (str_eq(str_sub(s, 0, n), str_sub(methods[i], 0, n))) return true;
    }
    return false;
}

static enum accept_flow http_inspector_found(struct accepting *a, struct stat_group *g, size_t stat,
                                             struct str protocol)
{
    struct str *v = ARENA_NEW(a->arena, struct str);
    *v = protocol;
    a->alpn = v;
    a->alpn_count = 1;
    stat_inc(g, stat);
    return ACCEPT_CONTINUE;
}

static enum accept_flow http_inspector_none(struct stat_group *g)
{
    stat_inc(g, STAT_NOT_FOUND);
    return ACCEPT_CONTINUE;
}

static enum accept_flow http_inspector_line(struct accepting *a, struct stat_group *g,
                                            struct str line)
{
    struct str rest, version;
    if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
    if (!str_cut_last(line, ' ', &rest, &version)) return http_inspector_none(g);
    if (str_eq(version, STR("HTTP/1.1")))
        return http_inspector_found(a, g, STAT_HTTP11, STR("http/1.1"));
    if (str_eq(version, STR("HTTP/1.0")))
        return http_inspector_found(a, g, STAT_HTTP10, STR("http/1.0"));
    return http_inspector_none(g);
}

static enum accept_flow http_inspector_data(void *self, const void *conf, struct accepting *a,
                                            struct str peeked, bool end)
{
    (void)self;
    struct stat_group *g = ((const struct http_inspector *)conf)->stats;
    if (str_eq(a->transport_protocol, STR("tls"))) return ACCEPT_CONTINUE;
    size_t n = peeked.len < preface.len ? peeked.len : preface.len;
    if (str_eq(str_sub(peeked, 0, n), str_sub(preface, 0, n))) {
        if (n == preface.len) return http_inspector_found(a, g, STAT_HTTP2, STR("h2c"));
        return end ? http_inspector_none(g) : ACCEPT_WAIT;
    }
    if (!may_be_method(peeked)) return http_inspector_none(g);
    size_t line = str_find_char(peeked, '\n');
    if (line != SIZE_MAX) return http_inspector_line(a, g, str_sub(peeked, 0, line));
    if (end || peeked.len >= PEEK_MOST) return http_inspector_none(g);
    return ACCEPT_WAIT;
}

/* A TLS connection needs no look at its bytes. */
static enum accept_flow http_inspector_accept(void *self, const void *conf, struct accepting *a)
{
    (void)self;
    (void)conf;
    return str_eq(a->transport_protocol, STR("tls")) ? ACCEPT_CONTINUE : ACCEPT_WAIT;
}

const struct listener_filter_type http_inspector = {
    .ext =
        {.name = "envoy.filters.listener.http_inspector",
         .config =
             &envoy__extensions__filters__listener__http_inspector__v3__http_inspector__descriptor},
    .max_peek = PEEK_MOST,
    .conf_create = http_inspector_create,
    .on_accept = http_inspector_accept,
    .on_data = http_inspector_data,
};
