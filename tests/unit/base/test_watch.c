/* Watched files: replaced by rename, written, and reached through a symbolic link that is swapped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/watch.h"

static char root[] = "/tmp/skiff_watch_XXXXXX";
static int fired;

static void on_change(void *arg)
{
    (void)arg;
    fired++;
}

static void put(const char *name, const char *content)
{
    FILE *f = fopen(name, "w");
    assert_non_null(f);
    assert_true(fputs(content, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* Turns for a while; gives back how often the watch fired. */
static int fired_within(struct loop *l, uint64_t us)
{
    fired = 0;
    for (uint64_t end = clock_now_us() + us; clock_now_us() < end && !fired;) {
        loop_turn(l, false);
        usleep(1000);
    }
    return fired;
}

static void sees_changes(void **state)
{
    struct loop *l = loop_new();
    struct watch_set *s = watch_set_new(l);
    int err;
    (void)state;
    put("file", "1");
    struct watch *w = watch_path(s, STR("file"), on_change, NULL, &err);
    assert_non_null(w);
    put("other", "x");
    assert_int_equal(fired_within(l, 50000), 0);
    put("new", "2");
    assert_int_equal(rename("new", "file"), 0);
    assert_int_equal(fired_within(l, 1000000), 1);
    put("file", "three");
    assert_int_equal(fired_within(l, 1000000), 1);
    watch_free(&w);
    assert_int_equal(mkdir("v1", 0700), 0);
    assert_int_equal(mkdir("v2", 0700), 0);
    put("v1/conf", "a");
    put("v2/conf", "b");
    assert_int_equal(symlink("v1", "..data"), 0);
    assert_int_equal(symlink("..data/conf", "conf"), 0);
    char path[64];
    (void)snprintf(path, sizeof(path), "%s/conf", root);
    w = watch_path(s, str_of(path), on_change, NULL, &err);
    assert_non_null(w);
    assert_int_equal(symlink("v2", "..next"), 0);
    assert_int_equal(fired_within(l, 50000), 0);
    assert_int_equal(rename("..next", "..data"), 0);
    assert_int_equal(fired_within(l, 1000000), 1);
    assert_null(watch_path(s, STR("/nowhere/at/all"), on_change, NULL, &err));
    assert_true(err < 0);
    watch_set_free(&s);
    loop_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sees_changes)};
    if (!mkdtemp(root) || chdir(root) != 0) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    static const char *const names[] = {"file",   "other", "v1/conf", "v2/conf", "conf",
                                        "..data", "v1",    "v2",      root};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        (void)remove(names[i]);
    return failed;
}
