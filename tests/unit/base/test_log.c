/* The log line and collected errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/watch.h"

static void a_line_cannot_be_forged(void **state)
{
    struct arena *a = arena_new("test", 0);
    char path[] = "/tmp/skiff_log_XXXXXX";
    struct str out;
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(log_open(path), 0);
    log_info(LOG_C_MAIN, "evil\n[fake]\x1b[31m %d", 5);
    log_debug(LOG_C_MAIN, "not shown");
    log_set_component(LOG_C_HTTP, LOG_TRACE);
    log_trace(LOG_C_HTTP, "shown");
    assert_int_equal(log_reopen(), 0);
    assert_int_equal(log_open(NULL), 0);
    assert_int_equal(file_read(a, path, 10000, &out), 0);
    assert_true(str_find(out, STR("][info][main] [tests/unit/base/test_log.c:")) != SIZE_MAX);
    assert_true(str_find(out, STR("] evil\\n[fake]\\x1b[31m 5\n[")) != SIZE_MAX);
    assert_true(str_find(out, STR("not shown")) == SIZE_MAX);
    assert_true(str_ends(out, STR("] shown\n")));
    assert_int_equal(file_read(a, path, 10, &out), -EFBIG);
    unlink(path);
    arena_free(&a);
}

static void names_levels_and_components(void **state)
{
    enum log_level l;
    enum log_component c;
    (void)state;
    assert_true(log_level_parse(STR("warn"), &l) && l == LOG_WARN);
    assert_true(log_level_parse(STR("warning"), &l) && l == LOG_WARN);
    assert_false(log_level_parse(STR("loud"), &l));
    for (int i = 0; i < LOG_COMPONENTS; i++) {
        assert_true(log_component_parse(str_of(log_component_name((enum log_component)i)), &c));
        assert_int_equal(c, i);
    }
}

static void errors_are_joined_and_capped(void **state)
{
    struct errors e = {.arena = arena_new("test", 0)};
    (void)state;
    assert_false(errors_add(&e, STR("a.b"), "must be %d", 1));
    assert_false(errors_add(&e, STR_NONE, "bad"));
    struct str text = errors_text(&e, e.arena, STR("Cluster \"x\""));
    assert_string_equal(text.ptr, "Cluster \"x\": a.b: must be 1; bad");
    for (int i = 0; i < 30; i++)
        errors_add(&e, STR("p"), "t");
    assert_true(str_ends(errors_text(&e, e.arena, STR_NONE), STR("; p: t; and 12 more")));
    arena_free(&e.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_cannot_be_forged),
        cmocka_unit_test(names_levels_and_components),
        cmocka_unit_test(errors_are_joined_and_capped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
