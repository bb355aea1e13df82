/* envoy.filters.listener.tls_inspector: peeks at the ClientHello and tells transport protocol, SNI
 * and ALPN before the filter chain is chosen. Nothing is taken from the socket. */
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.pb-c.h"
#include "filters/common/stats.h"
#include "filters/listener/client_hello.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"

enum tls_inspector_stat {
    STAT_ALPN_FOUND,
    STAT_ALPN_NOT_FOUND,
    STAT_BYTES,
    STAT_TOO_LARGE,
    STAT_SNI_FOUND,
    STAT_SNI_NOT_FOUND,
    STAT_TLS_FOUND,
    STAT_TLS_NOT_FOUND
};
static const struct stat_def tls_inspector_stats[] = {
    [STAT_ALPN_FOUND] = {"alpn_found", STAT_COUNTER, 0},
    [STAT_ALPN_NOT_FOUND] = {"alpn_not_found", STAT_COUNTER, 0},
    [STAT_BYTES] = {"bytes_processed", STAT_HISTOGRAM, 0},
    [STAT_TOO_LARGE] = {"client_hello_too_large", STAT_COUNTER, 0},
    [STAT_SNI_FOUND] = {"sni_found", STAT_COUNTER, 0},
    [STAT_SNI_NOT_FOUND] = {"sni_not_found", STAT_COUNTER, 0},
    [STAT_TLS_FOUND] = {"tls_found", STAT_COUNTER, 0},
    [STAT_TLS_NOT_FOUND] = {"tls_not_found", STAT_COUNTER, 0},
};
enum {
    HELLO_MOST = 16384,         /* of the ClientHello message */
    PEEK_MOST = 16384 + 5 * 16, /* with its record headers */
    RECORD_HEADER = 5,
    RECORD_HANDSHAKE = 22,
    HELLO_TYPE = 1,
    MESSAGE_HEADER = 4,
    EXTENSION_SNI = 0,
    EXTENSION_ALPN = 16,
    ALPN_COUNT_MOST = 64
};

struct tls_inspector {
    struct stat_group *stats;
    size_t hello_most;
    bool close_on_error, ja3, ja4;
};

static const void *tls_inspector_create(const struct conf_at *at,
                                        const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Listener__TlsInspector__V3__TlsInspector *m =
        (const Envoy__Extensions__Filters__Listener__TlsInspector__V3__TlsInspector *)msg;
    struct tls_inspector *c = ARENA_NEW(conf_arena(at), struct tls_inspector);
    c->hello_most = HELLO_MOST;
    c->stats = conf_stat_group(at, STR("tls_inspector."), tls_inspector_stats,
                               sizeof(tls_inspector_stats) / sizeof(tls_inspector_stats[0]));
    if (!m) return c;
    c->ja3 = m->enable_ja3_fingerprinting && m->enable_ja3_fingerprinting->value;
    c->ja4 = m->enable_ja4_fingerprinting && m->enable_ja4_fingerprinting->value;
    if (m->max_client_hello_size) c->hello_most = m->max_client_hello_size->value;
    c->close_on_error = m->close_connection_on_client_hello_parsing_errors;
    return c;
}

/* --- the message
 * -------------------------------------------------------------------------------------------------
 */

static void hello_sni(struct cursor ext, struct accepting *a)
{
    size_t list = take_int(&ext, 2);
    struct cursor names = take_part(&ext, list);
    while (names.left && !names.bad && !ext.bad) {
        size_t type = take_int(&names, 1);
        struct cursor name = take_part(&names, take_int(&names, 2));
        if (names.bad || type != 0) continue;
        a->info->sni = str_dup_lower(a->arena, str_make((const char *)name.p, name.left));
        return;
    }
}

static void hello_alpn(struct cursor ext, struct accepting *a)
{
    struct cursor names = take_part(&ext, take_int(&ext, 2));
    struct str *v = ARENA_ARRAY(a->arena, struct str, ALPN_COUNT_MOST);
    size_t count = 0;
    while (names.left && !names.bad && !ext.bad && count < ALPN_COUNT_MOST) {
        struct cursor name = take_part(&names, take_int(&names, 1));
        if (names.bad) break;
        v[count++] = str_dup(a->arena, str_make((const char *)name.p, name.left));
    }
    a->alpn = v;
    a->alpn_count = count;
}

/* The body of a ClientHello. False: malformed. */
static bool hello_parse(struct cursor c, struct accepting *a)
{
    (void)take_part(&c, 2 + 32);          /* version, random */
    (void)take_part(&c, take_int(&c, 1)); /* session id */
    (void)take_part(&c, take_int(&c, 2)); /* cipher suites */
    (void)take_part(&c, take_int(&c, 1)); /* compression */
    if (c.bad) return false;
    if (c.left == 0) return true;
    struct cursor all = take_part(&c, take_int(&c, 2));
    while (all.left && !all.bad && !c.bad) {
        size_t type = take_int(&all, 2);
        struct cursor ext = take_part(&all, take_int(&all, 2));
        if (all.bad) break;
        if (type == EXTENSION_SNI) hello_sni(ext, a);
        if (type == EXTENSION_ALPN) hello_alpn(ext, a);
    }
    return !all.bad && !c.bad;
}

enum hello_state { HELLO_MORE, HELLO_WHOLE, HELLO_NOT_TLS, HELLO_TOO_LARGE };

/* A record's payload as far as it is there; in->p moves behind it. False: no handshake record. */
static bool hello_record(struct cursor *in, bool first, struct cursor *part, bool *whole)
{
    struct cursor c = *in;
    *whole = false;
    *part = (struct cursor){c.p, 0, false};
    if (c.left && c.p[0] != RECORD_HANDSHAKE) return false;
    if (c.left > 1 && c.p[1] != 3) return false;
    if (c.left < RECORD_HEADER) return true;
    (void)take_int(&c, 3);
    size_t len = take_int(&c, 2);
    if (len == 0 || (c.left && first && c.p[0] != HELLO_TYPE)) return false;
    *whole = c.left >= len;
    *part = (struct cursor){c.p, *whole ? len : c.left, false};
    in->p = c.p + part->left;
    in->left = c.left - part->left;
    return true;
}

/* The handshake message out of its records. A message of several records is joined in *heap, which
 * the caller frees. */
static enum hello_state hello_join(const struct tls_inspector *conf, struct cursor in,
                                   struct cursor *out, unsigned char **heap)
{
    size_t have = 0, need = MESSAGE_HEADER;
    const unsigned char *bytes = NULL;
    for (bool first = true, whole = true; have < need; first = false) {
        struct cursor part;
        if (!whole) return HELLO_MORE;
        if (!hello_record(&in, first, &part, &whole)) return HELLO_NOT_TLS;
        if (part.left == 0) return HELLO_MORE;
        if (have + part.left > (size_t)HELLO_MOST + RECORD_HEADER) return HELLO_TOO_LARGE;
        if (first) {
            bytes = part.p;
        } else {
            if (!*heap) {
                *heap = mem_alloc((size_t)HELLO_MOST + RECORD_HEADER);
                memcpy(*heap, bytes, have);
                bytes = *heap;
            }
            memcpy(*heap + have, part.p, part.left);
        }
        have += part.left;
        if (have < MESSAGE_HEADER) continue;
        need = MESSAGE_HEADER + ((size_t)bytes[1] << 16 | (size_t)bytes[2] << 8 | bytes[3]);
        if (need > conf->hello_most) return HELLO_TOO_LARGE;
    }
    *out = (struct cursor){bytes + MESSAGE_HEADER, need - MESSAGE_HEADER, false};
    return HELLO_WHOLE;
}

/* --- verdicts
 * --------------------------------------------------------------------------------------------------------
 */

/* Envoy logs what BoringSSL thought of the bytes. */
static struct str tls_inspector_guess(struct str bytes)
{
    static const struct str plain[] = {{"GET ", 4}, {"POST ", 5}, {"HEAD ", 5}, {"PUT ", 4}};
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        if (str_starts(bytes, plain[i]))
            return STR(
                "TLS_error|error:1000009c:SSL routines:OPENSSL_internal:HTTP_REQUEST:TLS_error_end");
    }
    if (str_starts(bytes, STR("CONNE")))
        return STR(
            "TLS_error|error:1000009d:SSL routines:OPENSSL_internal:HTTPS_PROXY_REQUEST:TLS_error_end");
    return STR(
        "TLS_error|error:100000f7:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end");
}

static enum accept_flow tls_inspector_not_tls(const struct tls_inspector *c, struct accepting *a,
                                              struct str bytes)
{
    size_t seen = bytes.len;
    a->info->transport_failure = tls_inspector_guess(bytes);
    stat_inc(c->stats, STAT_TLS_NOT_FOUND);
    stat_record(c->stats, STAT_BYTES, seen);
    return c->close_on_error ? ACCEPT_CLOSE : ACCEPT_CONTINUE;
}

static enum accept_flow tls_inspector_found(const struct tls_inspector *c, struct accepting *a,
                                            size_t seen)
{
    a->transport_protocol = STR("tls");
    stat_inc(c->stats, STAT_TLS_FOUND);
    stat_inc(c->stats, a->info->sni.len ? STAT_SNI_FOUND : STAT_SNI_NOT_FOUND);
    stat_inc(c->stats, a->alpn_count ? STAT_ALPN_FOUND : STAT_ALPN_NOT_FOUND);
    stat_record(c->stats, STAT_BYTES, seen);
    return ACCEPT_CONTINUE;
}

static enum accept_flow tls_inspector_judge(const struct tls_inspector *c, struct accepting *a,
                                            enum hello_state state, struct cursor hello,
                                            struct str seen, bool end)
{
    switch (state) {
    case HELLO_MORE:
        if (seen.len >= PEEK_MOST) break;
        return end ? tls_inspector_not_tls(c, a, seen) : ACCEPT_WAIT;
    case HELLO_NOT_TLS: return tls_inspector_not_tls(c, a, seen);
    case HELLO_TOO_LARGE: break;
    case HELLO_WHOLE:
        if (!hello_parse(hello, a)) return tls_inspector_not_tls(c, a, seen);
        if (c->ja3) a->info->ja3 = hello_ja3(a->arena, hello);
        if (c->ja4) a->info->ja4 = hello_ja4(a->arena, hello);
        return tls_inspector_found(c, a, seen.len);
    }
    stat_inc(c->stats, STAT_TOO_LARGE);
    return ACCEPT_CLOSE;
}

static enum accept_flow tls_inspector_data(void *self, const void *conf, struct accepting *a,
                                           struct str peeked, bool end)
{
    (void)self;
    const struct tls_inspector *c = conf;
    struct cursor in = {(const unsigned char *)peeked.ptr, peeked.len, false}, hello = {0};
    unsigned char *heap = NULL;
    enum hello_state state = hello_join(c, in, &hello, &heap);
    enum accept_flow flow = tls_inspector_judge(c, a, state, hello, peeked, end);
    mem_free(heap);
    return flow;
}

const struct listener_filter_type tls_inspector = {
    .ext =
        {.name = "envoy.filters.listener.tls_inspector",
         .config =
             &envoy__extensions__filters__listener__tls_inspector__v3__tls_inspector__descriptor},
    .max_peek = PEEK_MOST,
    .conf_create = tls_inspector_create,
    .on_data = tls_inspector_data,
};
