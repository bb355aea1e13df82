/* Hosts: one block of memory each (the texts behind the struct), counted atomically because pools
 * of workers may outlive the host set. */
#include "proxy/upstream/host.h"

#include <stdlib.h>

#include "base/arena.h"
#include "base/must.h"
#include "proxy/api/lb_policy.h"
#include "proxy/api/metadata.h"
#include "proxy/api/upstream.h"
#include "proxy/upstream/cluster.h"

static struct str text_put(char **at, struct str s)
{
    char *to = *at;
    if (s.len > 0) memcpy(to, s.ptr, s.len);
    to[s.len] = 0;
    *at += s.len + 1;
    return str_make(to, s.len);
}

static void value_dup_to(struct arena *a, struct value *to, const struct value *from)
{
    *to = *from;
    if (from->kind == VALUE_STRING) {
        to->u.text = str_dup(a, from->u.text);
    } else if (from->kind == VALUE_LIST) {
        to->u.list.items = ARENA_ARRAY(a, struct value, from->u.list.count);
        for (size_t i = 0; i < from->u.list.count; i++)
            value_dup_to(a, &to->u.list.items[i], &from->u.list.items[i]);
    } else if (from->kind == VALUE_STRUCT) {
        to->u.fields.fields = ARENA_ARRAY(a, struct value_field, from->u.fields.count);
        for (size_t i = 0; i < from->u.fields.count; i++) {
            to->u.fields.fields[i].name = str_dup(a, from->u.fields.fields[i].name);
            value_dup_to(a, &to->u.fields.fields[i].value, &from->u.fields.fields[i].value);
        }
    }
}

static const struct metadata *host_own_metadata(struct host *h, const struct metadata *from)
{
    if (!from) return NULL;
    if (!h->arena) h->arena = arena_new("host", 256);
    struct metadata *to = ARENA_NEW(h->arena, struct metadata);
    value_dup_to(h->arena, &to->root, &from->root);
    to->proxy_tlvs = str_dup(h->arena, from->proxy_tlvs);
    return to;
}

/* Envoy: endpoints that are UNHEALTHY, DRAINING or TIMEOUT take no traffic; DEGRADED only when
 * others are short. */
uint32_t host_health_of_status(int status)
{
    enum { HEALTH_UNHEALTHY = 2, HEALTH_DRAINING = 3, HEALTH_TIMEOUT = 4, HEALTH_DEGRADED = 5 };
    if (status == HEALTH_UNHEALTHY || status == HEALTH_TIMEOUT) return HOST_FAILED_EDS;
    if (status == HEALTH_DRAINING) return HOST_EDS_DRAINING;
    return status == HEALTH_DEGRADED ? HOST_DEGRADED_EDS : 0;
}

struct host *host_new(const struct endpoint *e, const struct addr *addr,
                      const struct host_locality *l, uint32_t priority, uint64_t meaning)
{
    char text[ADDR_TEXT_MAX];
    size_t text_len = addr_format(addr, text);
    struct str name = e->hostname.len > 0 ? e->hostname : e->dns;
    size_t size = sizeof(struct host) + text_len + name.len + e->health_hostname.len +
                  l->region.len + l->zone.len + l->sub_zone.len + 6;
    if (e->health_addr) size += sizeof(struct addr) + _Alignof(struct addr);
    size = (size + 63) & ~(size_t)63;
    struct host *h = aligned_alloc(64, size);
    must(h != NULL);
    memset(h, 0, size);
    char *at = (char *)(h + 1);
    h->text = text_put(&at, str_make(text, text_len));
    h->name = text_put(&at, name);
    h->health_name = text_put(&at, e->health_hostname);
    h->locality.region = text_put(&at, l->region);
    h->locality.zone = text_put(&at, l->zone);
    h->locality.sub_zone = text_put(&at, l->sub_zone);
    h->addr = *addr;
    if (e->health_addr) {
        size_t align = _Alignof(struct addr);
        at += (align - (uintptr_t)at % align) % align;
        h->health_addr = memcpy(at, e->health_addr, sizeof(struct addr));
    }
    h->priority = priority;
    h->meaning = meaning;
    h->canary = e->canary;
    h->metadata = host_own_metadata(h, e->metadata);
    h->locality_metadata = host_own_metadata(h, e->locality_metadata);
    atomic_init(&h->refs, 1);
    atomic_init(&h->weight, e->weight ? e->weight : 1);
    atomic_init(&h->health, host_health_of_status(e->status));
    atomic_init(&h->eds_status, (uint32_t)e->status);
    return h;
}

struct host *host_ref(struct host *h)
{
    atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
    return h;
}

void host_unref(struct host **hp)
{
    struct host *h = *hp;
    *hp = NULL;
    if (!h || atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) != 1) return;
    arena_free(&h->arena);
    free(h);
}

bool host_health_change(struct host *h, uint32_t set, uint32_t clear)
{
    uint32_t was = host_health_get(h);
    uint32_t now = (was & ~clear) | set;
    atomic_store_explicit(&h->health, now, memory_order_relaxed);
    return was != now;
}

struct str host_health_text(const struct host *h, struct arena *a)
{
    static const char *const names[] = {
        "/failed_active_hc",    "/failed_outlier_check",
        "/failed_eds_health",   "/degraded_active_hc",
        "/degraded_eds_health", "/pending_dynamic_removal",
        "/pending_active_hc",   "/excluded_via_immediate_hc_fail",
        "/active_hc_timeout",   "/eds_status_draining",
    };
    uint32_t flags = host_health_get(h);
    if (flags == 0) return STR("healthy");
    struct str out = STR_NONE;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (flags & (1u << i)) out = str_cat(a, out, str_of(names[i]));
    }
    return out;
}

/* --- what proxy/api promises about hosts
 * --------------------------------------------------------------------------------------- */
uint32_t host_weight(const struct host *h)
{
    return host_weight_get(h);
}
uint32_t host_active_requests(const struct host *h)
{
    return atomic_load_explicit(&h->cells.rq_active, memory_order_relaxed);
}
const struct addr *host_address(const struct host *h)
{
    return &h->addr;
}
struct str host_address_text(const struct host *h)
{
    return h->text;
}
struct str host_name(const struct host *h)
{
    return h->name;
}
const struct metadata *host_metadata(const struct host *h)
{
    return h->metadata;
}
bool host_canary(const struct host *h)
{
    return h->canary;
}
