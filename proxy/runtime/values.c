/* Look-ups of merged runtime values. */
#include "proxy/runtime/values.h"

#include "proxy/runtime/runtime_internal.h"

static const struct runtime_values *values_of(struct worker *w)
{
    if (w) {
        struct pin *p = map_get(&w->tables[TABLE_RUNTIME], STR(""));
        return p ? CONTAINER_OF(p->obj, struct runtime_values, obj) : NULL;
    }
    struct runtime *rt = runtime_here();
    struct obj *o = rt ? runtime_published(rt, TABLE_RUNTIME, STR("")) : NULL;
    return o ? CONTAINER_OF(o, struct runtime_values, obj) : NULL;
}

const struct runtime_value *runtime_value_find(struct worker *w, struct str key)
{
    if (key.len == 0) return NULL;
    const struct runtime_values *v = values_of(w);
    return v ? map_get(&v->by_key, key) : NULL;
}

uint64_t runtime_u64(struct worker *w, struct str key, uint64_t fallback)
{
    const struct runtime_value *v = runtime_value_find(w, key);
    /* Envoy: a double counts when it is within the range, cut to its integer part. */
    if (!v || !v->has_number || v->number < 0 || v->number >= 18446744073709551616.0)
        return fallback;
    return (uint64_t)v->number;
}

bool runtime_bool(struct worker *w, struct str key, bool fallback)
{
    const struct runtime_value *v = runtime_value_find(w, key);
    return v && v->has_bool ? v->boolean : fallback;
}

double runtime_double(struct worker *w, struct str key, double fallback)
{
    const struct runtime_value *v = runtime_value_find(w, key);
    return v && v->has_number ? v->number : fallback;
}

bool runtime_fraction(struct worker *w, struct str key, uint32_t numerator, uint32_t denominator,
                      uint64_t random)
{
    const struct runtime_value *v = runtime_value_find(w, key);
    if (v && v->has_fraction) {
        numerator = v->numerator;
        denominator = v->denominator;
    } else if (v && v->has_number && v->number >= 0) {
        /* Envoy: a plain number is a percentage. */
        numerator = v->number >= 100 ? 100 : (uint32_t)v->number;
        denominator = 100;
    }
    return denominator && random % denominator < numerator;
}
