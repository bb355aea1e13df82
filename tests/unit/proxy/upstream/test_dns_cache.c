/* How hosts are called: with a port, whatever the request said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "proxy/api/dns_cache.h"

static void keys_have_a_port(void **state)
{
    static const struct {
        const char *host, *key;
    } rows[] = {
        {"a.test", "a.test:80"},
        {"a.test:8080", "a.test:8080"},
        {"10.0.0.1", "10.0.0.1:80"},
        {"10.0.0.1:1", "10.0.0.1:1"},
        {"[::1]", "[::1]:80"},
        {"[::1]:443", "[::1]:443"},
        {"::1", "[::1]:80"},
        {"a.test:junk", "a.test:junk:80"},
        {"a.test:70000", "a.test:70000:80"},
        {"", ":80"},
    };
    struct arena *a = arena_new("test", 0);
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct str key = dns_cache_key(a, str_of(rows[i].host), 80);
        assert_string_equal(str_z(a, key), rows[i].key);
    }
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keys_have_a_port)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
