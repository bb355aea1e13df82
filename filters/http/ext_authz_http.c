/* An authorization service that speaks plain HTTP: 200 is a yes, 5xx a failure, all else a no. */
#include "base/arena.h"
#include "filters/http/ext_authz.h"
#include "proxy/api/headers.h"
#include "proxy/api/stream_info.h"

static bool named(const struct ext_authz_names *n, struct str name)
{
    return n->count > 0 && string_match_any(n->v, n->count, name);
}

/* Envoy: these go there always. */
static bool goes_always(const struct header *x)
{
    return x->id == HDR_METHOD || x->id == HDR_PATH || x->id == HDR_AUTHORITY ||
           x->id == HDR_AUTHORIZATION;
}

static bool goes(const struct ext_authz_conf *c, const struct header *x)
{
    if (c->disallowed_count && string_match_any(c->disallowed, c->disallowed_count, x->name))
        return false;
    if (goes_always(x) || named(&c->http->allowed, x->name)) return true;
    return c->allowed_count > 0 && string_match_any(c->allowed, c->allowed_count, x->name);
}

/* What belongs to one connection or message alone never travels on. */
static bool framing(const struct header *x)
{
    return x->id == HDR_CONTENT_LENGTH || x->id == HDR_TRANSFER_ENCODING ||
           x->id == HDR_CONNECTION || x->id == HDR_UPGRADE || x->id == HDR_TE ||
           str_eq(x->name, STR("host"));
}

struct headers *ext_authz_http_ask(struct arena *a, const struct ext_authz_conf *c,
                                   const struct stream_info *info, struct str body, bool partial)
{
    struct headers *h = headers_new(a);
    const struct header *x;
    headers_add_id(h, HDR_CONTENT_LENGTH, str_fmt(a, "%zu", body.len));
    for (uint32_t it = 0; (x = headers_next(info->req, &it));) {
        if (framing(x) || !goes(c, x)) continue;
        if (x->id == HDR_PATH)
            headers_add_id(h, HDR_PATH, str_cat(a, c->http->prefix, x->value));
        else
            headers_add(h, x->name, x->value);
    }
    if (body.len)
        headers_set(h, STR("x-envoy-auth-partial-body"), partial ? STR("true") : STR("false"));
    header_change_apply(c->http->add, h, info);
    return h;
}

static void add(struct ext_authz_ops *ops, const struct header *x, enum ext_authz_how how)
{
    ops->v[ops->count++] = (struct ext_authz_op){x->name, x->value, how};
}

static bool client_wants(const struct ext_authz_names *n, const struct header *x)
{
    return n->count == 0 || x->id == HDR_WWW_AUTHENTICATE || x->id == HDR_LOCATION ||
           named(n, x->name);
}

void ext_authz_http_read(struct arena *a, const struct ext_authz_conf *c, const struct headers *h,
                         struct ext_authz_http_answer *out)
{
    const struct ext_authz_http *http = c->http;
    const struct header *x;
    struct ext_authz_ops *all[] = {&out->request, &out->response, &out->denial, &out->metadata};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        *all[i] =
            (struct ext_authz_ops){ARENA_ARRAY(a, struct ext_authz_op, 2 * (size_t)h->live + 1), 0};
    out->remove = headers_find(h, STR("x-envoy-auth-headers-to-remove"));
    for (uint32_t it = 0; (x = headers_next(h, &it));) {
        bool remove = str_eq(x->name, STR("x-envoy-auth-headers-to-remove"));
        if (x->name.ptr[0] == ':' || framing(x) || remove) continue;
        if (named(&http->upstream, x->name)) add(&out->request, x, EXT_AUTHZ_SET);
        if (named(&http->append, x->name)) add(&out->request, x, EXT_AUTHZ_ADD);
        if (named(&http->client_ok, x->name)) add(&out->response, x, EXT_AUTHZ_ADD);
        if (named(&http->metadata, x->name)) add(&out->metadata, x, EXT_AUTHZ_SET);
        if (client_wants(&http->client, x)) add(&out->denial, x, EXT_AUTHZ_SET);
    }
}
