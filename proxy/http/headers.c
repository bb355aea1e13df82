/* Lists of headers: ordered, with the first place of each known name at hand. */
#include "proxy/api/headers.h"
#include "base/arena.h"
#include "base/must.h"

enum { HEADERS_FIRST_CAP = 24 };

struct headers *headers_new(struct arena *a)
{
    struct headers *h = ARENA_NEW(a, struct headers);
    h->arena = a;
    return h;
}

struct headers *headers_dup(struct arena *a, const struct headers *h)
{
    struct headers *copy = headers_new(a);
    uint32_t it = 0;
    const struct header *x;
    while ((x = headers_next(h, &it)))
        headers_add_copy(copy, x->name, x->value);
    return copy;
}

static void headers_grow(struct headers *h)
{
    uint32_t cap = h->cap ? h->cap * 2 : HEADERS_FIRST_CAP;
    must(cap < UINT16_MAX); /* `first` holds 16-bit places; parsers limit the count far below */
    struct header *v = arena_alloc_raw(h->arena, cap * sizeof *v);
    if (h->count) memcpy(v, h->v, h->count * sizeof *v);
    h->v = v;
    h->cap = cap;
}

static void headers_put(struct headers *h, enum header_id id, struct str name, struct str value)
{
    if (h->count == h->cap) headers_grow(h);
    h->v[h->count] = (struct header){.name = name, .value = value, .id = (uint16_t)id};
    h->count++;
    h->live++;
    h->bytes += name.len + value.len;
    if (id == HDR_OTHER) return;
    if (h->first[id])
        h->repeated = true;
    else
        h->first[id] = (uint16_t)h->count;
}

void headers_add(struct headers *h, struct str name, struct str value)
{
    headers_put(h, header_id_of(name), name, value);
}

void headers_add_id(struct headers *h, enum header_id id, struct str value)
{
    headers_put(h, id, header_name_of(id), value);
}

void headers_add_copy(struct headers *h, struct str name, struct str value)
{
    enum header_id id = header_id_of(name);
    struct str kept = id == HDR_OTHER ? str_dup(h->arena, name) : header_name_of(id);
    headers_put(h, id, kept, str_dup(h->arena, value));
}

/* Index of the first live entry of that name from `from` on; count when there is none. */
static uint32_t headers_seek(const struct headers *h, uint32_t from, enum header_id id,
                             struct str name)
{
    for (uint32_t i = from; i < h->count; i++) {
        const struct header *x = &h->v[i];
        if (x->removed || x->id != id) continue;
        if (id != HDR_OTHER || str_eq(x->name, name)) return i;
    }
    return h->count;
}

/* Index of the first live entry of that name behind one of that name; count when there is none. */
static uint32_t headers_again(const struct headers *h, uint32_t at, enum header_id id,
                              struct str name)
{
    return id == HDR_OTHER || h->repeated ? headers_seek(h, at + 1, id, name) : h->count;
}

static uint32_t headers_first(const struct headers *h, enum header_id id, struct str name)
{
    if (id == HDR_OTHER) return headers_seek(h, 0, id, name);
    return h->first[id] ? (uint32_t)h->first[id] - 1 : h->count;
}

struct str headers_find(const struct headers *h, struct str name)
{
    uint32_t i = headers_first(h, header_id_of(name), name);
    return i < h->count ? h->v[i].value : STR_NONE;
}

struct str headers_all(const struct headers *h, struct str name, struct arena *a)
{
    enum header_id id = header_id_of(name);
    uint32_t i = headers_first(h, id, name);
    if (i == h->count) return STR_NONE;
    uint32_t next = headers_again(h, i, id, name);
    if (next == h->count) return h->v[i].value;
    size_t len = h->v[i].value.len;
    for (uint32_t n = next; n < h->count; n = headers_again(h, n, id, name))
        len += 1 + h->v[n].value.len;
    char *text = arena_alloc_raw(a, len + 1), *at = text;
    for (uint32_t n = i; n < h->count; n = headers_again(h, n, id, name)) {
        if (at != text) *at++ = ',';
        if (h->v[n].value.len) memcpy(at, h->v[n].value.ptr, h->v[n].value.len);
        at += h->v[n].value.len;
    }
    return str_make(text, len);
}

static void headers_drop(struct headers *h, uint32_t i)
{
    struct header *x = &h->v[i];
    x->removed = true;
    h->live--;
    h->bytes -= x->name.len + x->value.len;
}

/* Removes the entries of a name from index `from` on. */
static size_t headers_drop_from(struct headers *h, uint32_t from, enum header_id id,
                                struct str name)
{
    size_t gone = 0;
    for (uint32_t i = headers_seek(h, from, id, name); i < h->count;
         i = headers_again(h, i, id, name)) {
        headers_drop(h, i);
        gone++;
    }
    return gone;
}

static void headers_replace(struct headers *h, enum header_id id, struct str name, struct str value)
{
    uint32_t i = headers_first(h, id, name);
    if (i == h->count) {
        headers_put(h, id, name, value);
        return;
    }
    h->bytes += value.len;
    h->bytes -= h->v[i].value.len;
    h->v[i].value = value;
    if (id == HDR_OTHER || h->repeated) headers_drop_from(h, i + 1, id, name);
}

void headers_set(struct headers *h, struct str name, struct str value)
{
    headers_replace(h, header_id_of(name), name, value);
}

void headers_set_id(struct headers *h, enum header_id id, struct str value)
{
    headers_replace(h, id, header_name_of(id), value);
}

void headers_append(struct headers *h, struct str name, struct str value, struct str separator)
{
    uint32_t i = headers_first(h, header_id_of(name), name);
    if (i == h->count) {
        headers_add(h, name, value);
        return;
    }
    struct header *x = &h->v[i];
    if (!x->value.len) separator = STR_NONE;
    struct str joined = str_cat(h->arena, str_cat(h->arena, x->value, separator), value);
    h->bytes += joined.len;
    h->bytes -= x->value.len;
    x->value = joined;
}

size_t headers_remove(struct headers *h, struct str name)
{
    enum header_id id = header_id_of(name);
    if (id != HDR_OTHER) return headers_remove_id(h, id);
    return headers_drop_from(h, 0, id, name);
}

size_t headers_remove_known(struct headers *h, enum header_id id)
{
    size_t gone = headers_drop_from(h, (uint32_t)h->first[id] - 1, id, STR_NONE);
    h->first[id] = 0;
    return gone;
}

uint32_t headers_status(const struct headers *h)
{
    struct str s = headers_get(h, HDR_STATUS);
    if (s.len != 3) return 0;
    uint32_t n = 0;
    for (size_t i = 0; i < 3; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9') return 0;
        n = n * 10 + (uint32_t)(s.ptr[i] - '0');
    }
    return n;
}

void headers_set_status(struct headers *h, uint32_t status)
{
    char *text = arena_alloc_raw(h->arena, 4);
    text[0] = (char)('0' + status / 100 % 10);
    text[1] = (char)('0' + status / 10 % 10);
    text[2] = (char)('0' + status % 10);
    text[3] = 0;
    headers_set_id(h, HDR_STATUS, str_make(text, 3));
}

bool headers_has_token(const struct headers *h, enum header_id id, struct str token)
{
    for (uint32_t i = headers_first(h, id, STR_NONE); i < h->count;
         i = headers_again(h, i, id, STR_NONE)) {
        struct str rest = h->v[i].value, part;
        while (str_next(&rest, ',', &part)) {
            if (str_case_eq(str_trim(part), token)) return true;
        }
    }
    return false;
}

bool headers_grpc_timeout(const struct headers *h, uint64_t *us)
{
    struct str v = headers_get(h, HDR_GRPC_TIMEOUT);
    uint64_t n;
    if (v.len < 2 || v.len > 9 || !str_to_u64(str_sub(v, 0, v.len - 1), &n)) return false;
    switch (v.ptr[v.len - 1]) {
    case 'H': *us = n * 3600 * 1000000; return true;
    case 'M': *us = n * 60 * 1000000; return true;
    case 'S': *us = n * 1000000; return true;
    case 'm': *us = n * 1000; return true;
    case 'u': *us = n; return true;
    case 'n': *us = n / 1000; return true;
    default: return false;
    }
}
