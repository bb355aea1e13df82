/* Lines of field paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/errors.h"
#include "proto/source.h"

static const char text[] = "staticResources:\n"
                           "  listeners:\n"
                           "  - name: a\n"
                           "    filter_chains:\n"
                           "    - filters:\n"
                           "      - typed_config:\n"
                           "          '@type': type.googleapis.com/x\n"
                           "          stat_prefix: y\n"
                           "          m: {'k.1': {v: 2}}\n"
                           "      - typed_config:\n"
                           "          '@type': type.googleapis.com/xds.type.v3.TypedStruct\n"
                           "          value:\n"
                           "            domain: z\n"
                           "  clusters: {name: c}\n";

static void at(const char *path, size_t want_depth, uint32_t want_line, uint32_t want_column)
{
    struct source *s = source_new(STR("f"), STR(text), JSON_FORMAT_YAML);
    uint32_t line, column;
    assert_int_equal(source_locate(s, str_of(path), &line, &column), want_depth);
    assert_int_equal(line, want_line);
    assert_int_equal(column, want_column);
    source_free(&s);
}

static void finds_the_deepest_part(void **state)
{
    (void)state;
    at("static_resources.listeners[0].name", 4, 3, 5);
    at("static_resources.listeners[0].filter_chains[0].filters[0].typed_config.stat_prefix", 9, 8,
       11);
    at("static_resources.listeners[0].filter_chains[0].filters[0].typed_config.m[\"k.1\"].v", 11, 9,
       23);
    at("static_resources.listeners[0].filter_chains[0].filters[1].typed_config.domain", 9, 13, 13);
    at("static_resources.clusters[0].name", 4, 14, 14);
    at("static_resources.listeners[0].nothing.below[3]", 3, 3, 5);
    at("static_resources.listeners[7]", 2, 2, 3);
    at("admin", 0, 1, 1);
}

static void names_the_source_that_leads_deepest(void **state)
{
    (void)state;
    struct arena *arena = arena_new("test", 0);
    struct errors errors = {.arena = arena};
    struct source *sources[2] = {
        source_new(STR("f"), STR(text), JSON_FORMAT_YAML),
        source_new(STR("g"), STR("{\"static_resources\": {}}"), JSON_FORMAT_JSON)};
    errors_add(&errors, STR("static_resources.listeners[0].name"), "bad");
    errors_add(&errors, STR("static_resources"), "bad");
    errors_add(&errors, STR("nowhere"), "bad");
    source_locate_errors(sources, 2, &errors);
    assert_string_equal(errors.v[0].where.ptr, "f:3:5");
    assert_string_equal(errors.v[1].where.ptr, "g:1:2");
    assert_int_equal(errors.v[2].where.len, 0);
    source_free(&sources[0]);
    source_free(&sources[1]);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_deepest_part),
        cmocka_unit_test(names_the_source_that_leads_deepest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
