/* Whom a request or connection means. */
#include "filters/common/dynamic_forward_proxy.h"

#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"

static struct str state_text(const struct stream_info *s, const struct conn_info *c,
                             struct str name, struct arena *scratch)
{
    const struct filter_state_entry *e = s ? filter_state_find(s->state, name) : NULL;
    if (!e && c) e = filter_state_find(c->state, name);
    return e && e->text ? e->text(e->object, scratch) : STR_NONE;
}

struct dfp_target dfp_target(const struct stream_info *s, const struct conn_info *c,
                             const struct headers *h, struct arena *scratch, uint16_t port)
{
    struct dfp_target out = {.port = port};
    uint16_t number;
    if (!c && s) c = s->conn;
    if (str_to_u16(state_text(s, c, STR("envoy.upstream.dynamic_port"), scratch), &number) &&
        number)
        out.port = number;
    out.host = state_text(s, c, STR("envoy.upstream.dynamic_host"), scratch);
    if (!out.host.len && h) out.host = headers_get(h, HDR_AUTHORITY);
    if (!out.host.len && !h && c) out.host = c->sni;
    return out;
}

void dfp_save_address(struct filter_state **s, struct arena *a, const struct addr *x)
{
    struct filter_state_entry e = {.name = DFP_UPSTREAM_ADDRESS,
                                   .object = arena_copy(a, x, sizeof(*x))};
    (void)filter_state_set(s, a, &e);
}
