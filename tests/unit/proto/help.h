/* What the tests of proto/ share: an arena, an errors list, wire bytes by hand. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/arena.h"
#include "base/errors.h"
#include "base/str.h"
#include "proto/notes.h"

/* One test's world. */
struct world {
    struct arena *arena;
    struct errors errors;
    size_t notes; /* how many, and the last of them */
    enum proto_note_kind note_kind;
    struct str note_path, note_text;
};

static inline struct world world_new(void)
{
    struct world w = {.arena = arena_new("test", 0)};
    w.errors.arena = w.arena;
    return w;
}

static inline void world_on_note(void *user, enum proto_note_kind kind, struct str path,
                                 struct str text)
{
    struct world *w = user;
    w->notes++;
    w->note_kind = kind;
    w->note_path = path;
    w->note_text = text;
}

static inline void assert_str(struct str got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.ptr ? got.ptr : "", want, got.len);
}

/* The one error of the list has this path and contains this text. */
static inline void assert_error(const struct world *w, const char *path, const char *text)
{
    assert_int_equal(w->errors.count, 1);
    assert_str(w->errors.v[0].path, path);
    if (str_find(w->errors.v[0].text, str_of(text)) == SIZE_MAX)
        fail_msg("no \"%s\" in \"%.*s\"", text, STR_ARG(w->errors.v[0].text));
}
