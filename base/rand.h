/* Random numbers: a fast generator per worker and the system's for secrets. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* xoshiro256**; not for secrets. */
struct rng {
    uint64_t s[4];
};
void rng_init(struct rng *r, uint64_t seed); /* seed 0: from the system */
uint64_t rng_next(struct rng *r);
/* Uniform in [0, n); n > 0. */
uint64_t rng_below(struct rng *r, uint64_t n);
/* From getrandom(2); aborts if the system has none. */
void rand_bytes(void *to, size_t n);
/* A random UUID (version 4) as 36 characters plus NUL. */
void rng_uuid(struct rng *r, char out[37]);
