/* Listener filters that read what strangers send first: ClientHellos whole, in pieces and broken,
 * PROXY headers of both versions, HTTP's first line. Every prefix and many mutations are shown to
 * them; under ASan nothing may be read that is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "base/rand.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"

extern const struct listener_filter_type tls_inspector, http_inspector, proxy_protocol_listener;

struct world {
    struct arena *arena;
    struct errors errors;
    struct conf_cx cx;
    struct conn_info info;
    struct accepting a;
};

static void world_init(struct world *x)
{
    *x = (struct world){0};
    x->arena = arena_new("test", 0);
    x->errors.arena = x->arena;
    x->cx = (struct conf_cx){.arena = x->arena, .errors = &x->errors};
    x->a = (struct accepting){.info = &x->info, .arena = x->arena};
}

static void world_release(struct world *x)
{
    arena_free(&x->arena);
}

/* Shows a copy of exactly that size, so that ASan sees any step over its end. */
static enum accept_flow show(struct world *x, const struct listener_filter_type *t,
                             const void *conf, struct str bytes, bool end)
{
    char *copy = malloc(bytes.len ? bytes.len : 1);
    assert_non_null(copy);
    if (bytes.len) memcpy(copy, bytes.ptr, bytes.len);
    x->info = (struct conn_info){0};
    x->a = (struct accepting){.info = &x->info, .arena = x->arena};
    enum accept_flow flow = t->on_data(NULL, conf, &x->a, str_make(copy, bytes.len), end);
    free(copy);
    return flow;
}

static const void *conf_of(struct world *x, const struct listener_filter_type *t)
{
    struct conf_at at = conf_root(&x->cx);
    const void *c = t->conf_create(&at, NULL);
    assert_non_null(c);
    return c;
}

/* --- ClientHellos
 * ---------------------------------------------------------------------------------------------- */

struct bytes {
    char v[2048];
    size_t len;
};

static void put(struct bytes *b, const void *p, size_t n)
{
    memcpy(b->v + b->len, p, n);
    b->len += n;
}
static void put_int(struct bytes *b, size_t v, size_t size)
{
    for (size_t i = size; i-- > 0;)
        b->v[b->len++] = (char)(v >> (8 * i));
}

/* A hello with SNI "Www.Example.com" and ALPN h2, http/1.1; in records of at most `record` bytes.
 */
static struct bytes hello_of(size_t record)
{
    struct bytes ext = {.len = 0}, body = {.len = 0}, out = {.len = 0};
    const char sni[] = "Www.Example.com";
    put_int(&ext, 0x1234, 2), put_int(&ext, 0, 2);
    put_int(&ext, 0, 2), put_int(&ext, 20, 2), put_int(&ext, 18, 2), put_int(&ext, 0, 1),
        put_int(&ext, 15, 2), put(&ext, sni, 15);
    put_int(&ext, 16, 2), put_int(&ext, 14, 2), put_int(&ext, 12, 2),
        put(&ext, "\x02h2\x08http/1.1", 12);
    put_int(&body, 0x0303, 2);
    for (int i = 0; i < 32; i++)
        put_int(&body, 7, 1);
    put_int(&body, 0, 1), put_int(&body, 2, 2), put_int(&body, 0x1301, 2), put_int(&body, 1, 1),
        put_int(&body, 0, 1);
    put_int(&body, ext.len, 2), put(&body, ext.v, ext.len);
    struct bytes message = {.len = 0};
    put_int(&message, 1, 1), put_int(&message, body.len, 3), put(&message, body.v, body.len);
    for (size_t at = 0; at < message.len; at += record) {
        size_t n = message.len - at < record ? message.len - at : record;
        put_int(&out, 22, 1), put_int(&out, 0x0301, 2), put_int(&out, n, 2),
            put(&out, message.v + at, n);
    }
    return out;
}

static void a_hello_tells_name_and_protocols_however_it_is_cut(void **state)
{
    (void)state;
    const size_t records[] = {2000, 50, 7, 1};
    for (size_t r = 0; r < ARRAY_LEN(records); r++) {
        struct world x;
        world_init(&x);
        const void *conf = conf_of(&x, &tls_inspector);
        struct bytes b = hello_of(records[r]);
        for (size_t n = 0; n < b.len; n++) {
            assert_int_equal(show(&x, &tls_inspector, conf, str_make(b.v, n), false), ACCEPT_WAIT);
            assert_int_equal(show(&x, &tls_inspector, conf, str_make(b.v, n), true),
                             ACCEPT_CONTINUE);
            assert_int_equal(x.a.transport_protocol.len, 0);
        }
        assert_int_equal(show(&x, &tls_inspector, conf, str_make(b.v, b.len), false),
                         ACCEPT_CONTINUE);
        assert_true(str_eq(x.a.transport_protocol, STR("tls")));
        assert_true(str_eq(x.info.sni, STR("www.example.com")));
        assert_int_equal(x.a.alpn_count, 2);
        assert_true(str_eq(x.a.alpn[1], STR("http/1.1")));
        world_release(&x);
    }
}

static void what_is_no_hello_is_told_at_once(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    const void *conf = conf_of(&x, &tls_inspector);
    const struct str plain[] = {STR("G"), STR("GET / HTTP/1.1\r\n"), STR("\x16\x02"),
                                STR("\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"),
                                STR("\x16\x03\x01\x00\x00")};
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        assert_int_equal(show(&x, &tls_inspector, conf, plain[i], false), ACCEPT_CONTINUE);
        assert_int_equal(x.a.transport_protocol.len, 0);
    }
    /* A message that claims 16 MiB is refused by its length. */
    assert_int_equal(
        show(&x, &tls_inspector, conf, STR("\x16\x03\x01\x40\x00\x01\xff\xff\xff"), false),
        ACCEPT_CLOSE);
    world_release(&x);
}

static void mutations_never_read_over_the_end(void **state)
{
    (void)state;
    struct rng rng;
    rng_init(&rng, 7);
    const struct listener_filter_type *types[] = {&tls_inspector, &http_inspector,
                                                  &proxy_protocol_listener};
    const struct bytes whole = hello_of(2000), cut = hello_of(40);
    struct bytes pp = {.len = 0};
    put(&pp, "\r\n\r\n\0\r\nQUIT\n\x21\x11", 14), put_int(&pp, 12 + 8, 2),
        put(&pp, "\1\2\3\4\5\6\7\x08\0\x50\0\x51", 12), put(&pp, "\2\0\5hello", 8);
    const struct bytes *seeds[] = {&whole, &cut, &pp};
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct world x;
        world_init(&x);
        const void *conf = conf_of(&x, types[t]);
        for (int i = 0; i < 6000; i++) {
            struct bytes b = *seeds[i % 3];
            for (uint64_t k = 1 + rng_below(&rng, 4); k > 0; k--)
                b.v[rng_below(&rng, b.len)] = (char)rng_next(&rng);
            (void)show(&x, types[t], conf,
                       str_make(b.v, rng_below(&rng, 3) ? b.len : rng_below(&rng, b.len)),
                       rng_below(&rng, 2));
        }
        world_release(&x);
    }
}

/* --- PROXY
 * -------------------------------------------------------------------------------------------------------
 */

static void proxy_headers_give_addresses(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    const void *conf = conf_of(&x, &proxy_protocol_listener);
    const struct {
        struct str bytes;
        enum accept_flow flow;
        const char *remote;
        size_t consume;
    } cases[] = {
        {STR("PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\nGET"), ACCEPT_CONTINUE, "1.2.3.4:1000", 36},
        {STR("PROXY TCP6 ::1 ::2 1 2\r\n"), ACCEPT_CONTINUE, "[::1]:1", 24},
        {STR("PROXY UNKNOWN\r\n"), ACCEPT_CONTINUE, NULL, 15},
        {STR("PROXY UNKNOWN some text\r\n"), ACCEPT_CONTINUE, NULL, 25},
        {STR("PROXY TCP4 1.2.3.4 5.6.7.8 1000"), ACCEPT_WAIT, NULL, 0},
        {STR("PRO"), ACCEPT_WAIT, NULL, 0},
        {STR("PROXY TCP4 1.2.3.4 5.6.7.8 1000 99999\r\n"), ACCEPT_DROP, NULL, 0},
        {STR("PROXY TCP4 ::1 ::2 1 2\r\n"), ACCEPT_DROP, NULL, 0},
        {STR("PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n"), ACCEPT_DROP, NULL, 0},
        {STR("PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n"), ACCEPT_DROP, NULL, 0},
        {STR("GET / HTTP/1.1\r\n"), ACCEPT_DROP, NULL, 0},
        {STR("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x09\x09\x09\x09\x08\x08\x08\x08\0\x07\0\x06"),
         ACCEPT_CONTINUE, "9.9.9.9:7", 28},
        {STR("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"), ACCEPT_CONTINUE, NULL, 16},
        {STR("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b\x09\x09\x09\x09\x08\x08\x08\x08\0\x07\0"),
         ACCEPT_DROP, NULL, 0},
        {STR("\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"), ACCEPT_DROP, NULL, 0},
        {STR("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0e\x09\x09\x09\x09\x08\x08\x08\x08\0\x07\0\x06\x02\x00"),
         ACCEPT_DROP, NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(show(&x, &proxy_protocol_listener, conf, cases[i].bytes, false),
                         cases[i].flow);
        assert_int_equal(x.a.consume, cases[i].consume);
        if (!cases[i].remote) {
            if (cases[i].flow == ACCEPT_CONTINUE) assert_int_equal(x.info.remote.len, 0);
            continue;
        }
        char text[ADDR_TEXT_MAX];
        (void)addr_format(&x.info.remote, text);
        assert_string_equal(text, cases[i].remote);
    }
    world_release(&x);
}

/* --- HTTP
 * ------------------------------------------------------------------------------------------------------------
 */

static void first_lines_tell_the_version(void **state)
{
    (void)state;
    struct world x;
    world_init(&x);
    const void *conf = conf_of(&x, &http_inspector);
    const struct {
        struct str bytes;
        enum accept_flow flow;
        const char *protocol;
    } cases[] = {
        {STR("GET / HTTP/1.1\r\n"), ACCEPT_CONTINUE, "http/1.1"},
        {STR("GET / HTTP/1.0\r\n"), ACCEPT_CONTINUE, "http/1.0"},
        {STR("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ACCEPT_CONTINUE, "h2c"},
        {STR("GET / HT"), ACCEPT_WAIT, NULL},
        {STR("P"), ACCEPT_WAIT, NULL},
        {STR("SSH-2.0-x"), ACCEPT_CONTINUE, NULL},
        {STR("GET / HTTP/3.0\r\n"), ACCEPT_CONTINUE, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(show(&x, &http_inspector, conf, cases[i].bytes, false), cases[i].flow);
        assert_int_equal(x.a.alpn_count, cases[i].protocol ? 1 : 0);
        if (cases[i].protocol) assert_true(str_eq(x.a.alpn[0], str_of(cases[i].protocol)));
    }
    world_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hello_tells_name_and_protocols_however_it_is_cut),
        cmocka_unit_test(what_is_no_hello_is_told_at_once),
        cmocka_unit_test(mutations_never_read_over_the_end),
        cmocka_unit_test(proxy_headers_give_addresses),
        cmocka_unit_test(first_lines_tell_the_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
