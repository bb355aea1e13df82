/* Kinds of pools. */
#include "proxy/upstream/pool_kind.h"

#include <string.h>

#include "base/map.h"
#include "proxy/api/headers.h"
#include "proxy/api/lb_policy.h"

static struct str server_name_of(const struct upstream_cluster *uc, const struct lb_ask *ask)
{
    const struct upstream_http *h = uc->conf->http;
    if ((!h->auto_sni && !h->auto_san_validation) || !uc->conf->socket || !ask->headers)
        return STR_NONE;
    struct str value = STR_NONE, host, port;
    if (h->override_auto_sni_header.len)
        value = headers_find(ask->headers, h->override_auto_sni_header);
    if (!value.len) value = headers_get(ask->headers, HDR_AUTHORITY);
    uint16_t number;
    if (str_cut_last(value, ':', &host, &port) && str_to_u16(port, &number)) value = host;
    return value;
}

void pool_kind_of(const struct upstream_cluster *uc, const struct lb_ask *ask, const struct host *h,
                  struct pool_kind *out)
{
    const struct transport_socket *socket = upstream_socket(uc, h);
    *out = (struct pool_kind){.server_name = server_name_of(uc, ask)};
    const struct conn_info *client = ask->downstream;
    if (!client && ask->stream) client = ask->stream->conn;
    if (uc->conf->pool_per_downstream && client) out->downstream = client->id;
    const struct original_src *source = upstream_source(ask);
    if (source) out->source = *source;
    if (socket) out->names = upstream_names_of(ask);
    if (!socket || !socket->per_downstream) return;
    out->per_downstream = upstream_proxied(ask, &out->proxied) != NULL;
    out->per_tlvs = socket->per_tlvs;
}

static uint64_t mix(uint64_t hash, struct str s)
{
    return s.len ? hash_xxh64(s, hash) : hash;
}

static struct str addr_bytes(const struct addr *a)
{
    return str_make((const char *)&a->sa, a->len);
}

uint64_t pool_kind_hash(const struct pool_kind *k)
{
    uint64_t hash = k->server_name.len ? hash_str(k->server_name) : 0;
    hash = mix(mix(mix(hash, k->names.sni), k->names.sans), k->names.alpn);
    hash = mix(hash, addr_bytes(&k->source.from)) + k->source.mark;
    if (k->downstream)
        hash = mix(hash, str_make((const char *)&k->downstream, sizeof k->downstream));
    if (!k->per_downstream) return hash;
    hash = mix(mix(hash, addr_bytes(&k->proxied.from)), addr_bytes(&k->proxied.to));
    return k->per_tlvs ? mix(hash, k->proxied.tlvs) : hash;
}

bool pool_kind_same(const struct pool_kind *a, const struct pool_kind *b)
{
    if (a->downstream != b->downstream || !str_eq(a->server_name, b->server_name) ||
        a->per_downstream != b->per_downstream)
        return false;
    if (!str_eq(a->names.sni, b->names.sni) || !str_eq(a->names.sans, b->names.sans) ||
        !str_eq(a->names.alpn, b->names.alpn))
        return false;
    if (a->source.mark != b->source.mark || a->source.from.len != b->source.from.len ||
        (a->source.from.len && !addr_eq(&a->source.from, &b->source.from)))
        return false;
    if (!a->per_downstream) return true;
    return addr_eq(&a->proxied.from, &b->proxied.from) && addr_eq(&a->proxied.to, &b->proxied.to) &&
           (!a->per_tlvs || str_eq(a->proxied.tlvs, b->proxied.tlvs));
}

size_t pool_kind_size(const struct pool_kind *k)
{
    return k->server_name.len + k->names.sni.len + k->names.sans.len + k->names.alpn.len +
           k->proxied.tlvs.len;
}

static struct str put(char **room, struct str s)
{
    char *at = *room;
    if (s.len) memcpy(at, s.ptr, s.len);
    *room += s.len;
    return str_make(at, s.len);
}

void pool_kind_copy(struct pool_kind *to, const struct pool_kind *from, char *room)
{
    *to = *from;
    to->server_name = put(&room, from->server_name);
    to->names.sni = put(&room, from->names.sni);
    to->names.sans = put(&room, from->names.sans);
    to->names.alpn = put(&room, from->names.alpn);
    to->proxied.tlvs = put(&room, from->proxied.tlvs);
}
