/* State of the world: DiscoveryRequest and DiscoveryResponse. */
#include "base/arena.h"
#include "base/errors.h"
#include "envoy/service/discovery/v3/discovery.pb-c.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "proto/wire.h"
#include "xds/mux_internal.h"
#include "xds/mux_wire.h"

static void sotw_name(struct sb *out, struct str name)
{
    enum { TAG_RESOURCE_NAMES = 3 << 3 | 2, MORE = 0x80 };
    sb_char(out, TAG_RESOURCE_NAMES);
    size_t len = name.len;
    for (; len >= MORE; len >>= 7)
        sb_char(out, (char)(len | MORE));
    sb_char(out, (char)len);
    sb_add(out, name);
}

/* The names of ten thousand clusters are the same in each ACK: packed once, until they change. A
 * wildcard subscription beside named ones says "*". */
static struct str sotw_names(struct mux_type *t)
{
    if (t->names_packed) return t->packed;
    struct sb out = {0};
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&t->names, &it, &key, &value)) {
        struct mux_name *n = value;
        n->sent = n->users && !n->again;
        t->left_out = t->left_out || n->again;
        n->again = false;
        if (n->sent) sotw_name(&out, key);
        if (n->users) continue;
        map_remove(&t->names, key);
        mux_name_free(n);
    }
    if (t->wildcard && out.len) sotw_name(&out, STR("*"));
    mux_keep(&t->packed, sb_str(&out));
    sb_release(&out);
    t->names_packed = true;
    return t->packed;
}

struct str mux_sotw_request(struct mux *m, struct mux_type *t, const struct mux_answer *answer,
                            struct arena *a)
{
    Envoy__Service__Discovery__V3__DiscoveryRequest r =
        ENVOY__SERVICE__DISCOVERY__V3__DISCOVERY_REQUEST__INIT;
    r.type_url = (char *)(uintptr_t)t->type_url;
    r.version_info = str_z(a, answer ? answer->version : t->version);
    r.response_nonce = str_z(a, answer ? answer->nonce : t->nonce);
    r.node = mux_node_due(m);
    if (answer) r.error_detail = mux_error_detail(a, answer->error);
    struct str head = proto_pack(a, &r.base), names = sotw_names(t);
    char *whole = arena_alloc_raw(a, head.len + names.len);
    if (head.len) memcpy(whole, head.ptr, head.len);
    if (names.len) memcpy(whole + head.len, names.ptr, names.len);
    return str_make(whole, head.len + names.len);
}

/* An Any, by hand: ten thousand of them in a response are not worth a decoder. False: malformed. */
static bool sotw_any(struct str any, struct mux_resource *r)
{
    enum { ANY_TYPE_URL = 1, ANY_VALUE = 2, WIRE_LEN = 2 };
    struct proto_piece p;
    while (any.len) {
        if (!proto_piece_take(&any, &p)) return false;
        if (p.number != ANY_TYPE_URL && p.number != ANY_VALUE) continue;
        if (p.wire != WIRE_LEN) return false;
        if (p.number == ANY_TYPE_URL)
            r->type_url = p.body;
        else
            r->bytes = p.body;
    }
    return true;
}

/* What a response holds: its resources, and the rest for the decoder. */
struct sotw_parts {
    struct mux_resource *resources;
    size_t count;
    struct sb rest;
};

enum { RESPONSE_RESOURCES = 2 };

/* SIZE_MAX: malformed. */
static size_t sotw_count(struct str bytes)
{
    size_t count = 0;
    struct proto_piece p;
    while (bytes.len) {
        if (!proto_piece_take(&bytes, &p)) return SIZE_MAX;
        count += p.number == RESPONSE_RESOURCES;
    }
    return count;
}

/* NULL, or what is wrong. */
static const char *sotw_split(struct str bytes, struct arena *a, struct sotw_parts *parts)
{
    /* A type URL alone takes more bytes than this: more resources than the bytes can hold would
     * only make us allocate. */
    enum { RESOURCE_BYTES_LEAST = 24, WIRE_LEN = 2 };
    size_t count = sotw_count(bytes);
    if (count == SIZE_MAX) return "truncated or malformed bytes";
    if (count > bytes.len / RESOURCE_BYTES_LEAST) return "too many empty resources";
    parts->resources = ARENA_ARRAY(a, struct mux_resource, count);
    while (bytes.len) {
        struct proto_piece p;
        const char *began = bytes.ptr;
        (void)proto_piece_take(&bytes, &p); /* was good when it was counted */
        if (p.number != RESPONSE_RESOURCES)
            sb_add(&parts->rest, str_make(began, (size_t)(bytes.ptr - began)));
        else if (p.wire != WIRE_LEN || !sotw_any(p.body, &parts->resources[parts->count++]))
            return "a resource is truncated or malformed";
    }
    return NULL;
}

static bool sotw_decode(struct str bytes, struct arena *a, struct sotw_parts *parts,
                        struct mux_update *u, struct errors *errors)
{
    const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    const char *wrong = sotw_split(bytes, a, parts);
    if (wrong) return errors_add(errors, STR_NONE, "%s", wrong);
    struct str rest = str_dup(a, sb_str(&parts->rest));
    const Envoy__Service__Discovery__V3__DiscoveryResponse *r = (const void *)proto_unpack(
        a, &envoy__service__discovery__v3__discovery_response__descriptor, rest, &lenient, NULL,
        errors);
    if (!r) return false;
    *u = (struct mux_update){.type_url = str_of(r->type_url),
                             .version = str_of(r->version_info),
                             .nonce = str_of(r->nonce),
                             .resources = parts->resources,
                             .count = parts->count,
                             .full = true};
    if (r->control_plane) u->control_plane = str_of(r->control_plane->identifier);
    for (size_t i = 0; i < parts->count; i++) {
        parts->resources[i].version = u->version;
        if (!mux_resource_unwrap(&parts->resources[i], a, errors)) return false;
    }
    return true;
}

bool mux_sotw_decode(struct str bytes, struct arena *a, struct mux_update *u, struct str *why)
{
    struct errors errors = {.arena = a};
    struct sotw_parts parts = {0};
    bool ok = sotw_decode(bytes, a, &parts, u, &errors);
    sb_release(&parts.rest);
    if (!ok) *why = errors_text(&errors, a, STR("DiscoveryResponse"));
    return ok;
}
