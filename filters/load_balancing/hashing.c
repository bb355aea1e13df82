/* Envoy: a host's key is envoy.lb/hash_key of its metadata, else its hostname (if asked for), else
 * its address. */
#include "filters/load_balancing/hashing.h"

#include "base/arena.h"
#include "base/rand.h"
#include "proxy/api/metadata.h"
#include "proxy/api/upstream.h"
#include "proxy/runtime/runtime.h"

static struct str key_of(const struct host *h, bool by_hostname)
{
    static const struct str path[] = {{"hash_key", 8}};
    const struct metadata *m = host_metadata(h);
    const struct value *v = m ? metadata_find(m, STR("envoy.lb"), path, 1) : NULL;
    if (v && v->kind == VALUE_STRING && v->u.text.len > 0) return v->u.text;
    return by_hostname ? host_name(h) : host_address_text(h);
}

struct hashed_host *hashing_hosts(struct arena *a, const struct lb_hosts *hosts, bool by_hostname,
                                  double *min, double *max)
{
    struct hashed_host *v = ARENA_ARRAY(a, struct hashed_host, hosts->count);
    double sum = 0;
    for (uint32_t i = 0; i < hosts->count; i++)
        sum += host_weight(hosts->v[i]);
    *min = 1;
    *max = 0;
    for (uint32_t i = 0; i < hosts->count; i++) {
        v[i] = (struct hashed_host){hosts->v[i], key_of(hosts->v[i], by_hostname),
                                    host_weight(hosts->v[i]) / sum};
        if (v[i].weight < *min) *min = v[i].weight;
        if (v[i].weight > *max) *max = v[i].weight;
    }
    return v;
}

uint64_t hashing_of(const struct lb_ask *ask)
{
    return ask->has_hash ? ask->hash : rng_next(&ask->worker->rng);
}
