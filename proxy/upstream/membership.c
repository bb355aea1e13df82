/* Envoy: an endpoint with the address of an existing host is that host; weight and health status
 * are updated in place. */
#include "proxy/upstream/membership.h"

#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"

struct build {
    const struct cluster *c;
    struct arena *scratch;
    struct map old_by_text; /* struct host * */
    struct map seen;
    bool unique; /* only the first of equal addresses counts (all but STATIC and custom types) */
    bool named;  /* custom types: a host is told by its name, too */
    uint32_t kept;
    bool added, updated;
};

static uint64_t mix(uint64_t h, struct str s)
{
    return (h ^ hash_str(s)) * 0x9E3779B97F4A7C15ull + 1;
}

static uint64_t meaning_of(const struct locality_endpoints *l, const struct endpoint *e)
{
    uint64_t h = mix(mix(mix(e->metadata_hash, l->region), l->zone), l->sub_zone);
    h = mix(mix(mix(h, e->hostname), e->dns), e->health_hostname);
    return h ^ ((uint64_t)(e->health_addr ? addr_port(e->health_addr) : 0) << 1) ^ e->canary;
}

static void host_update(struct build *b, struct host *h, const struct endpoint *e)
{
    uint32_t weight = e->weight ? e->weight : 1;
    if (host_weight_get(h) != weight) {
        atomic_store_explicit(&h->weight, weight, memory_order_relaxed);
        b->updated = true;
    }
    atomic_store_explicit(&h->eds_status, (uint32_t)e->status, memory_order_relaxed);
    uint32_t all = HOST_FAILED_EDS | HOST_DEGRADED_EDS | HOST_EDS_DRAINING;
    uint32_t now = host_health_of_status(e->status);
    if (host_health_change(h, now, all & ~now)) b->updated = true;
}

static struct str key_of(const struct build *b, struct str text, struct str name)
{
    return b->named && name.len ? str_fmt(b->scratch, "%.*s %.*s", STR_ARG(text), STR_ARG(name))
                                : text;
}

/* A host with one reference of the caller's; NULL: a duplicate. */
static struct host *host_for(struct build *b, const struct locality_endpoints *l,
                             const struct endpoint *e)
{
    char text[ADDR_TEXT_MAX];
    struct str key = key_of(b, str_make(text, addr_format(&e->addr, text)), e->hostname);
    if (b->unique) {
        if (map_get(&b->seen, key)) return NULL;
        key = str_dup(b->scratch, key);
        map_put(&b->seen, key, b);
    }
    uint64_t meaning = meaning_of(l, e);
    struct host *old = map_get(&b->old_by_text, key);
    if (old && old->meaning == meaning && old->priority == l->priority) {
        map_remove(&b->old_by_text, key);
        host_update(b, old, e);
        b->kept++;
        return host_ref(old);
    }
    b->added = true;
    struct host_locality where = {l->region, l->zone, l->sub_zone};
    return host_new(e, &e->addr, &where, l->priority, meaning);
}

static void group_fill(struct build *b, struct host_group *g, const struct locality_endpoints *l)
{
    *g = (struct host_group){.locality = {l->region, l->zone, l->sub_zone},
                             .priority = l->priority,
                             .has_weight = l->has_weight,
                             .weight = l->weight};
    g->hosts = ARENA_ARRAY(b->scratch, struct host *, l->count);
    for (size_t i = 0; i < l->count; i++) {
        struct host *h = host_for(b, l, &l->v[i]);
        if (h) g->hosts[g->count++] = h;
    }
}

/* Locality weights matter to balancing, yet no host shows them. */
static bool weights_changed(const struct cluster *c, const struct host_set *old,
                            const struct host_set *now)
{
    if (!c->locality_weighted) return false;
    for (uint32_t i = 0; i < now->priority_count; i++) {
        const struct priority_set *a = &old->priorities[i], *b = &now->priorities[i];
        if (a->locality_count != b->locality_count) return true;
        for (uint32_t k = 0; k < a->locality_count; k++) {
            if (a->localities[k].weight != b->localities[k].weight) return true;
        }
    }
    return false;
}

struct host_set *membership_build(const struct cluster *c, const struct load_assignment *la,
                                  const struct host_set *old, bool *changed, bool *updated)
{
    struct build b = {.c = c,
                      .scratch = arena_new("membership", 1024),
                      .unique = c->discovery != CLUSTER_STATIC && c->discovery != CLUSTER_CUSTOM,
                      .named = c->discovery == CLUSTER_CUSTOM};
    for (uint32_t i = 0; old && i < old->host_count; i++)
        map_put(&b.old_by_text, key_of(&b, old->hosts[i]->text, old->hosts[i]->name),
                old->hosts[i]);
    struct host_group *groups = ARENA_ARRAY(b.scratch, struct host_group, la->count);
    for (size_t i = 0; i < la->count; i++)
        group_fill(&b, &groups[i], &la->v[i]);
    struct host_set_input in = {groups,
                                la->count,
                                la->overprovisioning ? la->overprovisioning : 140,
                                la->weighted_priority_health,
                                la->drops,
                                la->drop_count};
    struct host_set *set = host_set_new(c, &in);
    for (size_t i = 0; i < la->count; i++) {
        for (uint32_t k = 0; k < groups[i].count; k++)
            host_unref(&groups[i].hosts[k]); /* the set has its own now */
    }
    *changed = b.added || b.kept != (old ? old->host_count : 0);
    *updated = *changed || b.updated || !old || old->priority_count != set->priority_count ||
               old->drop_count > 0 || set->drop_count > 0 || weights_changed(c, old, set);
    map_release(&b.seen);
    map_release(&b.old_by_text);
    arena_free(&b.scratch);
    return set;
}
