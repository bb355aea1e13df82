/* Collected configuration errors. */
#include "base/errors.h"

#include "base/arena.h"

bool errors_vadd(struct errors *e, struct str path, const char *fmt, va_list ap)
{
    if (e->count < ERRORS_MOST) {
        e->v[e->count] = (struct error){
            .path = str_dup(e->arena, path),
            .text = str_vfmt(e->arena, fmt, ap),
        };
    }
    e->count++;
    return false;
}

bool errors_add(struct errors *e, struct str path, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    errors_vadd(e, path, fmt, ap);
    va_end(ap);
    return false;
}

/* "where: path: text", leaving out what is empty. */
static void errors_text_one(const struct error *x, struct sb *b)
{
    if (x->where.len) sb_fmt(b, "%.*s: ", STR_ARG(x->where));
    if (x->path.len) sb_fmt(b, "%.*s: ", STR_ARG(x->path));
    sb_add(b, x->text);
}

struct str errors_text(const struct errors *e, struct arena *a, struct str root)
{
    struct sb b = {0};
    size_t kept = e->count < ERRORS_MOST ? e->count : ERRORS_MOST;
    if (root.len) sb_fmt(&b, "%.*s: ", STR_ARG(root));
    for (size_t i = 0; i < kept; i++) {
        if (i) sb_add(&b, STR("; "));
        errors_text_one(&e->v[i], &b);
    }
    if (e->count > kept) sb_fmt(&b, "; and %zu more", e->count - kept);
    struct str out = str_dup(a, sb_str(&b));
    sb_release(&b);
    return out;
}
