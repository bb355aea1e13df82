/* Counted configuration objects, each in an arena of its own. */
#include "proxy/runtime/obj.h"

#include "base/arena.h"
#include "base/must.h"

enum { OBJ_ARENA_EXTRA = 512 };

void *obj_new(size_t size, const char *what)
{
    return obj_new_in(arena_new(what, size + OBJ_ARENA_EXTRA), size);
}

void *obj_new_in(struct arena *a, size_t size)
{
    must(size >= sizeof(struct obj));
    struct obj *o = arena_alloc(a, size);
    o->arena = a;
    o->refs = 1;
    return o;
}

struct obj *obj_ref(struct obj *o)
{
    o->refs++;
    return o;
}

void obj_unref(struct obj **op)
{
    struct obj *o = *op;
    *op = NULL;
    if (!o) return;
    must(o->refs > 0);
    if (--o->refs) return;
    if (o->on_free) o->on_free(o);
    struct arena *a = o->arena;
    arena_free(&a);
}
