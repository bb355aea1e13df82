/* The command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/must.h"
#include "server/options.h"

static struct arena *arena;
static struct options options;
static struct str why;

static int begin(void **state)
{
    (void)state;
    arena = arena_new("test", 0);
    why = STR_NONE;
    return 0;
}

static int end(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

/* Reads a command line of words; the list ends with NULL. */
static bool parse(const char *first, ...)
{
    char *argv[64] = {str_z(arena, STR("skiff"))};
    int argc = 1;
    va_list ap;
    va_start(ap, first);
    for (const char *word = first; word; word = va_arg(ap, const char *))
        argv[argc++] = str_z(arena, str_of(word));
    va_end(ap);
    return options_parse(argc, argv, &options, arena, &why);
}

static void reads_launch_lines_of_control_planes(void **state)
{
    (void)state;
    assert_true(parse("-c", "a.json", "--drain-time-s", "45", "--drain-strategy", "immediate",
                      "--local-address-ip-version", "v6", "--file-flush-interval-msec", "1000",
                      "--disable-hot-restart", "--allow-unknown-static-fields",
                      "--component-log-level", "misc:error", "--skip-deprecated-logs",
                      "--concurrency", "2", NULL));
    assert_string_equal(options.config_path, "a.json");
    assert_int_equal(options.drain_time_s, 45);
    assert_true(options.drain_immediate && options.ipv6 && options.disable_hot_restart &&
                options.allow_unknown_static);
    assert_int_equal(options.concurrency, 2);
    assert_true(parse("--config-yaml", "{}", "--service-node=n", "--service-cluster", "c", "-l",
                      "warn", "-lwarning", "--cpuset-threads", NULL));
    assert_string_equal(options.service_node, "n");
    assert_int_equal(options.log_level, LOG_WARN);
    assert_true(parse("--mode", "validate", "--", "--nonsense", NULL));
    assert_int_equal(options.mode, MODE_VALIDATE);
}

static void has_the_defaults_of_envoy(void **state)
{
    (void)state;
    assert_true(parse(NULL));
    assert_int_equal(options.drain_time_s, 600);
    assert_int_equal(options.parent_shutdown_time_s, 900);
    assert_int_equal(options.file_flush_ms, 10000);
    assert_true(options.concurrency >= 1);
    assert_true(parse("--concurrency", "0", NULL));
    assert_int_equal(options.concurrency, 1);
}

static void tells_what_is_wrong(void **state)
{
    (void)state;
    assert_false(parse("--concurency", "2", NULL));
    assert_string_equal(why.ptr, "unknown argument '--concurency'; did you mean '--concurrency'?");
    assert_false(parse("--concurrency", "two", NULL));
    assert_false(parse("--concurrency", "100000", NULL));
    assert_false(parse("-l", "loud", NULL));
    assert_false(parse("--mode", "dance", NULL));
    assert_false(parse("-c", NULL));
    assert_string_equal(why.ptr, "--config-path needs a value");
    assert_false(parse("--disable-hot-restart=yes", NULL));
    assert_false(parse("stray", NULL));
    assert_false(parse("--stats-tag", "no-colon", NULL));
}

static void reads_octal_modes(void **state)
{
    (void)state;
    assert_true(parse("--socket-mode", "0640", NULL));
    assert_int_equal(options.socket_mode, 0640);
    assert_true(parse("--socket-mode", "7", NULL));
    assert_int_equal(options.socket_mode, 7);
    assert_false(parse("--socket-mode", "0680", NULL));
    assert_false(parse("--socket-mode", "-1", NULL));
    assert_false(parse("--socket-mode", "", NULL));
    assert_false(parse("--socket-mode", "777777777777777", NULL));
}

static void reads_addresses(void **state)
{
    (void)state;
    static const char *const good[] = {"127.0.0.1:0", "[::1]:9903", "/run/status", "@status"};
    static const char *const bad[] = {"",       "localhost:80", "127.0.0.1",
                                      "::1:80", "status",       "1.2.3.4:70000"};
    assert_true(parse(NULL));
    assert_int_equal(options.client_status_address.len, 0);
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(parse("--client-status-address", good[i], NULL));
        assert_string_equal(addr_text(&options.client_status_address, arena).ptr, good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(parse("--client-status-address", bad[i], NULL));
}

static void component_levels(void **state)
{
    (void)state;
    assert_true(options_apply_components("upstream:debug,lua:trace", arena,
                                         &why)); /* lua is one of Envoy's, not ours */
    assert_int_equal(log_get_component(LOG_C_UPSTREAM), LOG_DEBUG);
    assert_false(options_apply_components("upstream", arena, &why));
    assert_false(options_apply_components("upstream:loud", arena, &why));
    log_set_component(LOG_C_UPSTREAM, LOG_INFO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_launch_lines_of_control_planes, begin, end),
        cmocka_unit_test_setup_teardown(has_the_defaults_of_envoy, begin, end),
        cmocka_unit_test_setup_teardown(tells_what_is_wrong, begin, end),
        cmocka_unit_test_setup_teardown(reads_octal_modes, begin, end),
        cmocka_unit_test_setup_teardown(reads_addresses, begin, end),
        cmocka_unit_test_setup_teardown(component_levels, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
