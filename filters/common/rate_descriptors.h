/* Descriptors of a request for rate limits: lists of keys and values that the actions of
 * envoy.config.route.v3.RateLimit make. Made on main, asked in workers. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "proxy/api/conf.h"

struct arena;
struct headers;
struct stream_info;
struct str;
struct Envoy__Config__Route__V3__RateLimit;

struct rate_entry {
    struct str key, value;
};
struct rate_descriptor {
    const struct rate_entry *v;
    size_t count;
};
bool rate_descriptor_same(const struct rate_descriptor *a, const struct rate_descriptor *b);

/* One RateLimit: its actions. */
struct rate_actions;
/* Arrays as protobuf-c has them; NULL: told, or none (*ok). */
const struct rate_actions *conf_rate_actions(const struct conf_at *at, const char *field, size_t n,
                                             struct Envoy__Config__Route__V3__RateLimit *const *v,
                                             bool *ok);
struct rate_ask {
    const struct headers *h;
    const struct stream_info *info;
    struct str service_cluster; /* ours */
    struct arena *a;
};
/* The descriptor of the i-th RateLimit. False: an action gave nothing, so there is none. */
bool rate_descriptor_of(const struct rate_actions *v, size_t i, const struct rate_ask *ask,
                        struct rate_descriptor *out);
