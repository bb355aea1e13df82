/* Token buckets that filters of one process share by a key of their configuration. Main thread. */
#pragma once
#include <stdint.h>
#include "base/str.h"

struct arena;
struct runtime;
struct token_bucket;

/* The bucket of that key and these numbers, made full if nobody holds one. It lives as long as one
 * of the arenas that it was given for. */
struct shared_bucket_ask {
    struct str key;
    uint64_t max, fill, interval_us;
};
struct token_bucket *shared_bucket_get(struct runtime *rt, struct arena *a,
                                       const struct shared_bucket_ask *q);
