/* Runtime values (Envoy's runtime layers, already merged): numbers, booleans, strings and fractions
 * by key. */
#pragma once
#include "proxy/runtime/runtime.h"

/* Published as TABLE_RUNTIME "" ; immutable. */
struct runtime_value {
    struct str text; /* as configured */
    bool has_number, has_bool, has_fraction;
    double number;
    bool boolean;
    uint32_t numerator, denominator; /* fraction: denominator 100, 10,000 or 1,000,000 */
};
struct runtime_values {
    struct obj obj;
    struct map by_key; /* struct runtime_value * in the arena */
};
/* Worker thread (main: reads the published object). NULL: not set. */
const struct runtime_value *runtime_value_find(struct worker *w, struct str key);
/* The integer value, or fallback when unset or not a number. */
uint64_t runtime_u64(struct worker *w, struct str key, uint64_t fallback);
bool runtime_bool(struct worker *w, struct str key, bool fallback);
double runtime_double(struct worker *w, struct str key, double fallback);
/* Envoy featureEnabled(): key empty or unset: numerator/denominator of the default. A plain number
 * in runtime counts per hundred. `random` decides. */
bool runtime_fraction(struct worker *w, struct str key, uint32_t numerator, uint32_t denominator,
                      uint64_t random);
