/* The key of a request among scoped routes. */
#include "proxy/http/scopes.h"

#include "base/arena.h"
#include "proxy/api/headers.h"

void scope_key_add(struct sb *key, struct str fragment)
{
    sb_fmt(key, "%zu:", fragment.len);
    sb_add(key, fragment);
}

/* The next element; false: there is none. */
static bool next_element(struct str *rest, struct str separator, struct str *element)
{
    if (!rest->ptr) return false;
    size_t at = separator.len ? str_find(*rest, separator) : SIZE_MAX;
    *element = at == SIZE_MAX ? *rest : str_sub(*rest, 0, at);
    *rest = at == SIZE_MAX ? STR_NONE : str_sub(*rest, at + separator.len, SIZE_MAX);
    return true;
}

/* "key=value" with the wanted key. */
static bool element_value(const struct scope_fragment *f, struct str element, struct str *value)
{
    size_t at = str_find(element, f->separator);
    struct str key = at == SIZE_MAX ? element : str_sub(element, 0, at);
    *value = at == SIZE_MAX ? STR("") : str_sub(element, at + f->separator.len, SIZE_MAX);
    return str_eq(key, f->key);
}

static bool fragment_of(const struct scope_fragment *f, struct str value, struct str *out)
{
    struct str element, rest = value;
    for (uint32_t i = 0; next_element(&rest, f->element_separator, &element); i++) {
        if (f->by_key ? element_value(f, element, out) : i == f->index) {
            if (!f->by_key) *out = element;
            return true;
        }
    }
    return false;
}

struct str scope_key(const struct scope_key_builder *b, const struct headers *h, struct arena *a)
{
    struct sb key = {0};
    bool all = true;
    for (size_t i = 0; all && i < b->count; i++) {
        struct str value = headers_find(h, b->v[i].header), fragment;
        all = value.ptr && fragment_of(&b->v[i], value, &fragment);
        if (all) scope_key_add(&key, fragment);
    }
    struct str out = all ? str_dup(a, sb_str(&key)) : STR_NONE;
    sb_release(&key);
    return out;
}
