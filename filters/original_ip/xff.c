/* envoy.http.original_ip_detection.xff: the client by x-forwarded-for, so many hops from the end or
 * the last address that is no trusted proxy's. */
#include "base/arena.h"
#include "envoy/config/core/v3/address.pb-c.h"
#include "envoy/extensions/http/original_ip_detection/xff/v3/xff.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/original_ip.h"

struct xff_conf {
    uint32_t hops;
    bool by_ranges;
    const struct cidr *trusted;
    size_t count;
    bool skip_append;
};

static const void *xff_create(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Http__OriginalIpDetection__Xff__V3__XffConfig *m = (const void *)msg;
    struct xff_conf *c = ARENA_NEW(conf_arena(at), struct xff_conf);
    struct conf_at field = conf_field(at, "xff_trusted_cidrs");
    bool ok = true;
    c->hops = m->xff_num_trusted_hops;
    c->skip_append = !m->skip_xff_append || m->skip_xff_append->value;
    if (!m->xff_trusted_cidrs) return c;
    if (c->hops)
        ok = conf_fail(&field, "Cannot set both xff_num_trusted_hops and xff_trusted_cidrs");
    struct cidr *v = ARENA_ARRAY(conf_arena(at), struct cidr, m->xff_trusted_cidrs->n_cidrs);
    for (size_t i = 0; i < m->xff_trusted_cidrs->n_cidrs; i++) {
        struct conf_at place = conf_index(&field, "cidrs", i);
        const Envoy__Config__Core__V3__CidrRange *r = m->xff_trusted_cidrs->cidrs[i];
        ok &= conf_cidr(&place, str_of(r->address_prefix), r->prefix_len ? r->prefix_len->value : 0,
                        &v[i]);
    }
    c->by_ranges = m->xff_trusted_cidrs->n_cidrs > 0;
    c->trusted = v;
    c->count = m->xff_trusted_cidrs->n_cidrs;
    return ok ? c : NULL;
}

static bool is_trusted(const struct xff_conf *c, const struct addr *x)
{
    for (size_t i = 0; i < c->count; i++) {
        if (addr_is_ip(x) && cidr_contains(&c->trusted[i], x)) return true;
    }
    return false;
}

/* The last element of *list, which loses it. False: none left. */
static bool last_of(struct str *list, struct str *last)
{
    if (!list->ptr) return false;
    if (!str_cut_last(*list, ',', list, last)) {
        *last = *list;
        *list = STR_NONE;
    }
    *last = str_trim(*last);
    return true;
}

static void by_hops(const struct xff_conf *c, struct str list, struct original_ip *out)
{
    struct str last = STR_NONE;
    out->trusted = str_find_char(list, ',') == SIZE_MAX;
    for (uint32_t i = 0; i <= c->hops; i++) {
        if (!last_of(&list, &last)) return;
    }
    out->found = addr_parse_ip(last, 0, &out->address);
}

/* Envoy: an unreadable address on the way finds nothing; a whole list of proxies gives its first.
 */
static void by_ranges(const struct xff_conf *c, struct str list, struct original_ip *out)
{
    struct str last;
    struct addr x;
    while (last_of(&list, &last)) {
        if (!last.len) continue;
        out->found = addr_parse_ip(last, 0, &x);
        if (!out->found) return;
        out->address = x;
        if (!is_trusted(c, &x)) return;
    }
}

static void xff_detect(const void *conf, const struct headers *h, const struct addr *peer,
                       struct arena *scratch, struct original_ip *out)
{
    const struct xff_conf *c = conf;
    out->skip_xff_append = c->skip_append;
    struct str list = headers_all(h, STR("x-forwarded-for"), scratch);
    if (!list.ptr || (c->by_ranges && !is_trusted(c, peer))) return;
    if (c->by_ranges)
        by_ranges(c, list, out);
    else
        by_hops(c, list, out);
}

const struct original_ip_type original_ip_xff = {
    .ext = {.name = "envoy.http.original_ip_detection.xff",
            .config =
                &envoy__extensions__http__original_ip_detection__xff__v3__xff_config__descriptor},
    .conf_create = xff_create,
    .detect = xff_detect,
};
