/* The file of the config cache: what is written is read, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/watch.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "xds/cache_file.h"

enum { IDENTITY = 7, SECTIONS = 3 };

struct fixture {
    struct arena *arena;
    const char *directory, *path;
};

static void fixture_init(struct fixture *f)
{
    f->arena = arena_new("test", 0);
    char *directory = str_z(f->arena, STR("/tmp/skiff-cache-XXXXXX"));
    assert_non_null(mkdtemp(directory));
    f->directory = directory;
    f->path = str_fmt(f->arena, "%s/file", directory).ptr;
    struct sb body = {0};
    for (int i = 0; i < SECTIONS; i++) {
        Envoy__Service__Discovery__V3__DeltaDiscoveryResponse m =
            ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_RESPONSE__INIT;
        m.system_version_info = str_z(f->arena, STR("v"));
        cache_file_add(&body, &m);
    }
    assert_int_equal(cache_file_write(f->arena, f->path, IDENTITY, sb_str(&body)), 0);
    sb_release(&body);
}

static void fixture_release(struct fixture *f)
{
    unlink(f->path);
    rmdir(f->directory);
    arena_free(&f->arena);
}

static bool reads(struct fixture *f, uint64_t identity, const char *expected)
{
    struct cache_sections s;
    struct str why;
    bool ok = cache_file_read(f->arena, f->path, identity, &s, &why);
    if (expected) assert_true(str_find(why, str_of(expected)) != SIZE_MAX);
    return ok;
}

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct cache_sections s;
    struct str why;
    struct stat st;
    assert_true(cache_file_read(f.arena, f.path, IDENTITY, &s, &why));
    assert_int_equal(s.count, SECTIONS);
    assert_string_equal(s.v[2]->system_version_info, "v");
    assert_int_equal(stat(f.path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(reads(&f, IDENTITY + 1, "another node"));
    fixture_release(&f);
}

static void test_no_file_is_no_error(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct cache_sections s;
    struct str why;
    unlink(f.path);
    assert_false(cache_file_read(f.arena, f.path, IDENTITY, &s, &why));
    assert_int_equal(why.len, 0);
    fixture_release(&f);
}

/* Every byte turned, every length cut: never accepted, never a crash. */
static void test_any_damage_is_seen(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct str whole;
    assert_int_equal(file_read(f.arena, f.path, 4096, &whole), 0);
    char *copy = arena_copy(f.arena, whole.ptr, whole.len);
    for (size_t i = 0; i < 2 * whole.len; i++) {
        size_t len = i < whole.len ? whole.len : i - whole.len;
        if (i < whole.len) copy[i] ^= 1;
        int fd = open(f.path, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, copy, len), len);
        close(fd);
        if (i < whole.len) copy[i] ^= 1;
        assert_false(reads(&f, IDENTITY, NULL));
    }
    fixture_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_no_file_is_no_error),
        cmocka_unit_test(test_any_damage_is_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
