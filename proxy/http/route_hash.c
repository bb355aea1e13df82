/* Hashes of requests by the hash policies of their route, with Envoy's own values, so that keys
 * land alike. */
#include <stdio.h>
#include <stdlib.h>

#include "base/addr.h"
#include "base/arena.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/route_ops.h"
#include "proxy/api/stream_info.h"
#include "proxy/http/matcher.h"
#include "proxy/http/route_internal.h"

static int by_bytes(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

/* Envoy: several values are sorted and hashed one after the other, each seeded by the one before.
 */
static bool hash_header(const struct hash_policy *p, const struct headers *h, struct arena *a,
                        uint64_t *hash)
{
    struct str *v = NULL;
    size_t n = 0;
    uint32_t it = 0;
    const struct header *x;
    while ((x = headers_next(h, &it))) {
        if (!str_eq(x->name, p->name)) continue;
        if (!v) v = ARENA_ARRAY(a, struct str, h->live);
        v[n++] = p->regex ? regex_replace_all(p->regex, a, x->value, p->regex_to) : x->value;
    }
    if (!n) return false;
    if (n > 1) qsort(v, n, sizeof *v, by_bytes);
    *hash = 0;
    for (size_t i = 0; i < n; i++)
        *hash = hash_xxh64(v[i], *hash);
    return true;
}

struct str cookie_value(const struct headers *h, struct str name)
{
    uint32_t it = 0;
    const struct header *x;
    while ((x = headers_next(h, &it))) {
        if (x->id != HDR_COOKIE) continue;
        struct str rest = x->value, part, key, value;
        while (str_next(&rest, ';', &part)) {
            if (!str_cut(str_trim(part), '=', &key, &value) || !str_eq(key, name)) continue;
            if (value.len >= 2 && value.ptr[0] == '"' && value.ptr[value.len - 1] == '"')
                value = str_sub(value, 1, value.len - 2);
            return value.ptr ? value : STR("");
        }
    }
    return STR_NONE;
}

/* Envoy: the same on all streams of a connection, so that racing first requests get one cookie. */
static struct str new_cookie(const struct stream_info *info, struct arena *a)
{
    char text[2 * ADDR_TEXT_MAX];
    size_t n = 0;
    if (info->conn && info->conn->local.len) n += addr_format(&info->conn->local, text);
    if (info->conn && info->conn->remote.len) n += addr_format(&info->conn->remote, text + n);
    return str_fmt(a, "%016llx", (unsigned long long)hash_xxh64(str_make(text, n), 0));
}

static bool hash_cookie(const struct hash_policy *p, const struct headers *h,
                        const struct stream_info *info, struct arena *a, uint64_t *hash,
                        struct str *set_cookie)
{
    struct str v = cookie_value(h, p->name);
    if (!v.len && p->has_ttl) {
        v = new_cookie(info, a);
        struct str age =
            p->ttl_s ? str_fmt(a, "; Max-Age=%llu", (unsigned long long)p->ttl_s) : STR_NONE;
        struct str path = p->path.len ? str_fmt(a, "; Path=%.*s", STR_ARG(p->path)) : STR_NONE;
        *set_cookie = str_fmt(a, "%.*s=\"%.*s\"%.*s%.*s%.*s; HttpOnly", STR_ARG(p->name),
                              STR_ARG(v), STR_ARG(age), STR_ARG(path), STR_ARG(p->attributes));
    }
    if (!v.len) return false;
    *hash = hash_xxh64(v, 0);
    return true;
}

static bool hash_source_ip(const struct stream_info *info, uint64_t *hash)
{
    const struct addr *x = info->remote.len ? &info->remote
                           : info->conn     ? &info->conn->remote
                                            : NULL;
    char text[ADDR_TEXT_MAX];
    if (!x || !x->len || !addr_is_ip(x)) return false;
    size_t n = addr_format_ip(x, text);
    *hash = hash_xxh64(str_make(text, n), 0);
    return true;
}

static bool hash_state(const struct hash_policy *p, const struct stream_info *info, struct arena *a,
                       uint64_t *hash)
{
    const struct filter_state_entry *e = filter_state_find(info->state, p->name);
    if (!e && info->conn) e = filter_state_find(info->conn->state, p->name);
    if (!e || !e->text) return false;
    *hash = hash_xxh64(e->text(e->object, a), 0);
    return true;
}

static bool hash_one(const struct hash_policy *p, const struct headers *h,
                     const struct stream_info *info, struct arena *a, uint64_t *hash,
                     struct str *set_cookie)
{
    switch (p->kind) {
    case HASH_HEADER: return hash_header(p, h, a, hash);
    case HASH_COOKIE: return hash_cookie(p, h, info, a, hash, set_cookie);
    case HASH_SOURCE_IP: return hash_source_ip(info, hash);
    case HASH_QUERY: {
        struct str v = query_find(headers_get(h, HDR_PATH), p->name);
        if (v.ptr) *hash = hash_xxh64(v, 0);
        return v.ptr != NULL;
    }
    case HASH_FILTER_STATE: return hash_state(p, info, a, hash);
    case HASH_NOTHING: return false;
    }
    return false;
}

bool route_hash(const struct hash_policy *v, size_t count, const struct headers *h,
                const struct stream_info *info, struct arena *a, uint64_t *hash,
                struct str *set_cookie)
{
    bool has = false;
    *hash = 0;
    *set_cookie = STR_NONE;
    for (size_t i = 0; i < count; i++) {
        uint64_t one = 0;
        if (hash_one(&v[i], h, info, a, &one, set_cookie)) {
            uint64_t turned =
                has ? (*hash << 1) | (*hash >> 63) : 0; /* equal rules must not cancel each other */
            *hash = turned ^ one;
            has = true;
        }
        if (v[i].terminal && has) break;
    }
    return has;
}
