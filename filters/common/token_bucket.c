/* The bucket is one number: the time at which it would have been empty. Its content is the time
 * since then over the time of one token. */
#include "filters/common/token_bucket.h"

/* The clock begins at boot; a full bucket may hold more time than has passed since. */
#define BEFORE_BOOT_NS ((uint64_t)1 << 62)

void token_bucket_init(struct token_bucket *b, uint64_t max, uint64_t fill, uint64_t interval_us)
{
    b->max = (double)max;
    b->ns_per_token = (double)interval_us * 1000 / (double)fill;
    atomic_store_explicit(&b->empty_ns, 0, memory_order_relaxed);
}

bool token_bucket_take(struct token_bucket *b, uint64_t now_us)
{
    uint64_t now_ns = now_us * 1000 + BEFORE_BOOT_NS;
    uint64_t was = atomic_load_explicit(&b->empty_ns, memory_order_relaxed);
    for (;;) {
        /* Workers' clocks differ by a turn: a time before the mark is an empty bucket. */
        double tokens = was == 0       ? b->max
                        : now_ns > was ? (double)(now_ns - was) / b->ns_per_token
                                       : 0;
        if (tokens > b->max) tokens = b->max;
        if (tokens < 1) return false;
        double left_ns = (tokens - 1) * b->ns_per_token;
        uint64_t next = left_ns >= (double)now_ns ? 1 : now_ns - (uint64_t)left_ns;
        if (atomic_compare_exchange_weak_explicit(&b->empty_ns, &was, next, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    }
}

double token_bucket_left(const struct token_bucket *b, uint64_t now_us)
{
    uint64_t now_ns = now_us * 1000 + BEFORE_BOOT_NS;
    uint64_t was = atomic_load_explicit(&b->empty_ns, memory_order_relaxed);
    double tokens = was == 0 ? b->max : now_ns > was ? (double)(now_ns - was) / b->ns_per_token : 0;
    return tokens > b->max ? b->max : tokens;
}

uint64_t token_bucket_next_in_s(const struct token_bucket *b, uint64_t now_us)
{
    double left = token_bucket_left(b, now_us);
    if (left >= 1) return 0;
    return (uint64_t)(((1 - left) * b->ns_per_token + 999999999) / 1000000000);
}
