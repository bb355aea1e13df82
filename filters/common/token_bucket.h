/* A token bucket that all workers share without a lock: tokens trickle in evenly up to a maximum,
 * as Envoy's atomic bucket does. */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct token_bucket {
    double max;
    double ns_per_token;
    _Atomic uint64_t empty_ns; /* when it would have been empty; 0: not used yet, so full */
};
/* interval_us: the time in which `fill` tokens come. fill and interval_us must not be 0. */
void token_bucket_init(struct token_bucket *b, uint64_t max, uint64_t fill, uint64_t interval_us);
/* Takes one; false: there is none. now_us: the monotonic time of the caller's turn. Any thread. */
bool token_bucket_take(struct token_bucket *b, uint64_t now_us);
/* How many it holds, and the seconds until there is one. Any thread. */
double token_bucket_left(const struct token_bucket *b, uint64_t now_us);
uint64_t token_bucket_next_in_s(const struct token_bucket *b, uint64_t now_us);
