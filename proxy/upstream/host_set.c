/* Building a host set: sorting hosts by priority, locality and health, then Envoy's priority load,
 * panic and locality weights. */
#include "proxy/upstream/host_set.h"

#include "base/arena.h"
#include "base/must.h"
#include "proxy/runtime/values.h"

static bool host_is_excluded(const struct cluster *c, const struct host *h)
{
    uint32_t f = host_health_get(h);
    if (f & HOST_EXCLUDED_IMMEDIATE_HC) return true;
    return c->ignore_new_hosts_until_first_hc && (f & HOST_PENDING_ACTIVE_HC);
}

enum list_kind { LIST_ALL, LIST_HEALTHY, LIST_DEGRADED };

static bool list_wants(const struct cluster *c, enum list_kind kind, const struct host *h)
{
    switch (kind) {
    case LIST_ALL: return true;
    case LIST_HEALTHY: return host_is_healthy(h) && !host_is_excluded(c, h);
    case LIST_DEGRADED: return host_is_degraded(h) && !host_is_excluded(c, h);
    }
    return false;
}

/* Fills a list with those of `from` that belong to it; shares the array when that is all. */
static void list_fill(struct host_set *set, const struct cluster *c, struct lb_source *to,
                      enum list_kind kind, struct host *const *from, uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        n += list_wants(c, kind, from[i]);
    to->ordinal = set->source_count++;
    to->hosts.count = n;
    to->hosts.v = from;
    if (n == 0) return;
    if (n < count) {
        struct host **v = ARENA_ARRAY(set->obj.arena, struct host *, n);
        for (uint32_t i = 0, k = 0; i < count; i++) {
            if (list_wants(c, kind, from[i])) v[k++] = from[i];
        }
        to->hosts.v = v;
    }
    uint32_t first = host_weight_get(to->hosts.v[0]);
    for (uint32_t i = 1; i < n && !to->hosts.weighted; i++)
        to->hosts.weighted = host_weight_get(to->hosts.v[i]) != first;
}

static void list_table(struct host_set *set, const struct cluster *c, struct lb_source *s)
{
    if (!c->lb || !c->lb->table_create || s->hosts.count == 0) return;
    s->table = c->lb->table_create(set->obj.arena, c->lb_conf, &s->hosts);
}

/* Envoy: the weight of a locality times how much of it is available, with the overprovisioning
 * factor. */
static double locality_effective(const struct locality_set *l, uint32_t eligible, uint32_t excluded,
                                 uint32_t overprovisioning)
{
    uint32_t hosts = l->total - excluded;
    if (l->total <= excluded || hosts == 0) return 0;
    double share = overprovisioning / 100.0 * eligible / hosts;
    return l->weight * (share < 1 ? share : 1);
}

static void locality_add(struct host_set *set, const struct cluster *c, struct priority_set *p,
                         const struct host_group *g, uint32_t overprovisioning)
{
    struct locality_set *l = &p->localities[p->locality_count++];
    l->name.region = str_dup(set->obj.arena, g->locality.region);
    l->name.zone = str_dup(set->obj.arena, g->locality.zone);
    l->name.sub_zone = str_dup(set->obj.arena, g->locality.sub_zone);
    l->weight = g->has_weight ? g->weight : 0;
    l->total = g->count;
    struct host **v = ARENA_ARRAY(set->obj.arena, struct host *, g->count);
    if (g->count > 0) memcpy(v, g->hosts, g->count * sizeof(*v));
    list_fill(set, c, &l->healthy, LIST_HEALTHY, v, g->count);
    list_fill(set, c, &l->degraded, LIST_DEGRADED, v, g->count);
    list_table(set, c, &l->healthy);
    list_table(set, c, &l->degraded);
    uint32_t excluded = 0;
    for (uint32_t i = 0; i < g->count; i++)
        excluded += host_is_excluded(c, g->hosts[i]);
    l->healthy_weight = locality_effective(l, l->healthy.hosts.count, excluded, overprovisioning);
    l->degraded_weight = locality_effective(l, l->degraded.hosts.count, excluded, overprovisioning);
    p->by_locality_healthy |= l->healthy_weight > 0;
    p->by_locality_degraded |= l->degraded_weight > 0;
}

static void priority_build(struct host_set *set, const struct cluster *c,
                           const struct host_set_input *in, uint32_t priority, struct host **hosts)
{
    struct priority_set *p = &set->priorities[priority];
    uint32_t count = 0;
    size_t groups = 0;
    for (size_t i = 0; i < in->count; i++) {
        const struct host_group *g = &in->groups[i];
        if (g->priority != priority) continue;
        groups++;
        for (uint32_t k = 0; k < g->count; k++) {
            hosts[count++] = host_ref(g->hosts[k]);
            p->excluded += host_is_excluded(c, g->hosts[k]);
            uint32_t weight = host_weight_get(g->hosts[k]);
            if (weight > set->max_weight) set->max_weight = weight;
        }
    }
    list_fill(set, c, &p->all, LIST_ALL, hosts, count);
    list_fill(set, c, &p->healthy, LIST_HEALTHY, hosts, count);
    list_fill(set, c, &p->degraded, LIST_DEGRADED, hosts, count);
    list_table(set, c, &p->healthy);
    list_table(set, c, &p->degraded);
    if (p->healthy.hosts.count == count)
        p->all.table = p->healthy.table;
    else
        list_table(set, c, &p->all);
    set->healthy_count += p->healthy.hosts.count;
    set->degraded_count += p->degraded.hosts.count;
    set->excluded_count += p->excluded;
    if (!c->locality_weighted) return;
    p->localities = ARENA_ARRAY(set->obj.arena, struct locality_set, groups);
    for (size_t i = 0; i < in->count; i++) {
        if (in->groups[i].priority == priority)
            locality_add(set, c, p, &in->groups[i], in->overprovisioning);
    }
}

/* --- priority load
 * -----------------------------------------------------------------------------------------------------------
 */
static uint64_t list_amount(const struct lb_source *s, bool weighted)
{
    if (!weighted) return s->hosts.count;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->hosts.count; i++)
        sum += host_weight_get(s->hosts.v[i]);
    return sum;
}

static uint32_t availability(const struct priority_set *p, const struct lb_source *s,
                             const struct host_set_input *in)
{
    if (p->all.hosts.count <= p->excluded) return 0;
    bool weighted = in->weighted_priority_health;
    uint64_t total = weighted ? list_amount(&p->all, true) : p->all.hosts.count - p->excluded;
    uint64_t share = in->overprovisioning * list_amount(s, weighted) / total;
    return share < 100 ? (uint32_t)share : 100;
}

struct load {
    uint32_t health[2]; /* availability: healthy, degraded */
};

static uint32_t *load_of(struct priority_set *p, int degraded)
{
    return degraded ? &p->degraded_load : &p->healthy_load;
}

/* Gives each priority its share of what is left; the first available one of this kind comes out (or
 * -1). */
static int load_spread(struct host_set *set, const struct load *loads, int degraded,
                       uint32_t normal, uint32_t *left)
{
    int first = -1;
    for (uint32_t i = 0; i < set->priority_count; i++) {
        uint32_t have = loads[i].health[degraded];
        if (first < 0 && have > 0) first = (int)i;
        uint32_t share = have * 100 / normal;
        if (share > *left) share = *left;
        *load_of(&set->priorities[i], degraded) = share;
        *left -= share;
    }
    return first;
}

/* Envoy: with every priority in panic the load follows the number of hosts. */
static void load_in_panic(struct host_set *set)
{
    uint32_t left = 100;
    int first = -1;
    for (uint32_t i = 0; i < set->priority_count; i++) {
        struct priority_set *p = &set->priorities[i];
        p->degraded_load = 0;
        p->healthy_load =
            set->host_count ? (uint32_t)(100ull * p->all.hosts.count / set->host_count) : 0;
        if (first < 0 && p->all.hosts.count > 0) first = (int)i;
        left -= p->healthy_load;
    }
    set->priorities[first < 0 ? 0 : first].healthy_load += left;
}

/* healthy_panic_threshold, which runtime may override (read when hosts change, as Envoy does). */
static double panic_percent(const struct cluster *c)
{
    uint64_t over = runtime_u64(NULL, STR("upstream.healthy_panic_threshold"), UINT64_MAX);
    double percent = over == UINT64_MAX ? c->panic_percent : (double)over;
    return percent < 100 ? percent : 100;
}

static bool priority_in_panic(const struct cluster *c, const struct priority_set *p)
{
    uint32_t hosts = p->all.hosts.count > p->excluded ? p->all.hosts.count - p->excluded : 0;
    double percent = hosts ? 100.0 * (p->healthy.hosts.count + p->degraded.hosts.count) / hosts : 0;
    return percent < panic_percent(c);
}

static void load_compute(struct host_set *set, const struct cluster *c,
                         const struct host_set_input *in)
{
    struct load *loads = mem_array(set->priority_count, sizeof(*loads));
    uint64_t sum = 0;
    for (uint32_t i = 0; i < set->priority_count; i++) {
        const struct priority_set *p = &set->priorities[i];
        loads[i].health[0] = availability(p, &p->healthy, in);
        loads[i].health[1] = availability(p, &p->degraded, in);
        sum += loads[i].health[0] + loads[i].health[1];
    }
    uint32_t normal = sum < 100 ? (uint32_t)sum : 100;
    uint32_t left = 100;
    if (normal > 0) {
        int healthy = load_spread(set, loads, 0, normal, &left);
        int degraded = load_spread(set, loads, 1, normal, &left);
        if (healthy >= 0)
            set->priorities[healthy].healthy_load += left;
        else if (degraded >= 0)
            set->priorities[degraded].degraded_load += left;
    }
    mem_free(loads);
    if (normal == 0 && panic_percent(c) <= 0) {
        set->priorities[0].healthy_load = 100;
        return;
    }
    bool all_panic = true;
    for (uint32_t i = 0; i < set->priority_count; i++) {
        struct priority_set *p = &set->priorities[i];
        p->panic = normal < 100 && priority_in_panic(c, p);
        all_panic = all_panic && p->panic;
    }
    if (all_panic) load_in_panic(set);
}

static void host_set_free(struct obj *o)
{
    struct host_set *set = CONTAINER_OF(o, struct host_set, obj);
    for (uint32_t i = 0; i < set->host_count; i++)
        host_unref(&set->hosts[i]);
}

static size_t size_guess(const struct cluster *c, size_t priorities, size_t hosts, size_t groups)
{
    size_t n = sizeof(struct host_set) + priorities * sizeof(struct priority_set) +
               hosts * 2 * sizeof(void *) + c->obj.name.len + 144;
    if (c->locality_weighted)
        n += groups * (sizeof(struct locality_set) + 48) + hosts * sizeof(void *);
    return n < 65536 ? n : 65536;
}

struct host_set *host_set_new(const struct cluster *c, const struct host_set_input *in)
{
    uint32_t priorities = 1, hosts = 0;
    for (size_t i = 0; i < in->count; i++) {
        if (in->groups[i].priority + 1 > priorities) priorities = in->groups[i].priority + 1;
        hosts += in->groups[i].count;
    }
    struct arena *a = arena_new("hosts", size_guess(c, priorities, hosts, in->count));
    struct host_set *set = obj_new_in(a, sizeof(*set));
    set->obj.name = c->obj.name.len > 0 ? str_dup(a, c->obj.name) : STR_NONE;
    set->obj.on_free = host_set_free;
    set->priority_count = priorities;
    set->priorities = ARENA_ARRAY(a, struct priority_set, priorities);
    set->hosts = ARENA_ARRAY(a, struct host *, hosts);
    for (uint32_t i = 0; i < priorities; i++) {
        priority_build(set, c, in, i, set->hosts + set->host_count);
        set->host_count += set->priorities[i].all.hosts.count;
    }
    load_compute(set, c, in);
    set->drop_count = (uint32_t)in->drop_count;
    set->drops = ARENA_ARRAY(a, struct drop_overload, in->drop_count);
    for (size_t i = 0; i < in->drop_count; i++) {
        set->drops[i] = in->drops[i];
        set->drops[i].category = str_dup(a, in->drops[i].category);
    }
    return set;
}
