/* Shared token buckets: a map of the process, counted by the configurations that use them. */
#include "filters/common/shared_bucket.h"

#include <string.h>

#include "base/arena.h"
#include "base/must.h"
#include "filters/common/token_bucket.h"
#include "proxy/runtime/runtime.h"

struct shared_bucket {
    struct token_bucket bucket;
    struct runtime *rt;
    size_t users;
    struct str key; /* behind the struct */
};

static void shared_bucket_leave(void *arg)
{
    struct shared_bucket *b = arg;
    if (--b->users) return;
    (void)map_remove(&b->rt->shared_buckets, b->key);
    if (b->rt->shared_buckets.count == 0) map_release(&b->rt->shared_buckets);
    mem_free(b);
}

struct token_bucket *shared_bucket_get(struct runtime *rt, struct arena *a,
                                       const struct shared_bucket_ask *q)
{
    /* Envoy: other numbers are another bucket. */
    struct str key =
        str_fmt(a, "%llu/%llu/%llu/%.*s", (unsigned long long)q->max, (unsigned long long)q->fill,
                (unsigned long long)q->interval_us, STR_ARG(q->key));
    struct shared_bucket *b = map_get(&rt->shared_buckets, key);
    if (!b) {
        b = mem_alloc(sizeof(*b) + key.len);
        memcpy(b + 1, key.ptr, key.len);
        b->key = str_make((char *)(b + 1), key.len);
        b->rt = rt;
        token_bucket_init(&b->bucket, q->max, q->fill, q->interval_us);
        (void)map_put(&rt->shared_buckets, b->key, b);
    }
    b->users++;
    arena_on_free(a, shared_bucket_leave, b);
    return &b->bucket;
}
