/* HTTP headers of one message: an ordered list with known names as small integers; pseudo-headers
 * (":path") are entries too. Names are lower case. All bytes live in (or outlive) the list's arena.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/str.h"

struct arena;

/* Known names: proxy/api/headers.def has X(ID, "name"), one a line. */
enum header_id {
    HDR_OTHER = 0,
#define X(id, name) HDR_##id,
#include "proxy/api/headers.def"
#undef X
    HDR_COUNT
};

struct header {
    struct str name, value;
    uint16_t id;  /* enum header_id */
    bool removed; /* tombstone: skip it */
};
/* How an HTTP/1 peer wrote the names (preserve_case), for a peer that speaks HTTP/1, too. */
struct header_cases {
    struct str *v; /* as written; in the arena */
    uint32_t count, cap;
    bool proper;       /* names that it did not write: "X-Name", not "x-name" */
    struct str reason; /* of a status line, to be passed on; may be empty */
};
struct headers {
    struct header_cases *cases; /* NULL: nobody asked for them */
    struct header *v;           /* in the arena */
    uint32_t count, cap;
    uint32_t live; /* entries that are not removed */
    size_t bytes;  /* names + values of live entries */
    struct arena *arena;
    bool repeated;             /* a known name was added twice: looking for a second one may pay */
    uint16_t first[HDR_COUNT]; /* index + 1 of the first live entry with that id; 0: none */
};

/* An empty list in the arena. */
struct headers *headers_new(struct arena *a);
struct headers *headers_dup(struct arena *a, const struct headers *h); /* deep copy */
enum header_id header_id_of(struct str lower_name);
struct str header_name_of(enum header_id id);

/* First value; ptr NULL when absent. */
static inline struct str headers_get(const struct headers *h, enum header_id id)
{
    return h->first[id] ? h->v[h->first[id] - 1].value : STR_NONE;
}
static inline bool headers_has(const struct headers *h, enum header_id id)
{
    return h->first[id] != 0;
}
/* By name (lower case); first value; ptr NULL when absent. */
struct str headers_find(const struct headers *h, struct str name);
/* All values of a name joined with "," in the arena `a`, as Envoy's matchers see them; ptr NULL
 * when absent. */
struct str headers_all(const struct headers *h, struct str name, struct arena *a);
/* Appends an entry; bytes are borrowed (must outlive the list) / copied. Name must be lower case.
 */
void headers_add(struct headers *h, struct str name, struct str value);
void headers_add_id(struct headers *h, enum header_id id, struct str value);
void headers_add_copy(struct headers *h, struct str name, struct str value);
/* Replaces all entries of the name by one (keeps the first's place), or appends. */
void headers_set(struct headers *h, struct str name, struct str value);
void headers_set_id(struct headers *h, enum header_id id, struct str value);
/* Appends ",value" to the first entry of the name, or adds it (Envoy's appendCopy). */
void headers_append(struct headers *h, struct str name, struct str value, struct str separator);
size_t headers_remove(struct headers *h, struct str name);
size_t headers_remove_known(struct headers *h, enum header_id id); /* present; see below */
static inline size_t headers_remove_id(struct headers *h, enum header_id id)
{
    return h->first[id] ? headers_remove_known(h, id) : 0;
}
/* it = 0; while ((x = headers_next(h, &it))) */
static inline const struct header *headers_next(const struct headers *h, uint32_t *it)
{
    while (*it < h->count) {
        const struct header *x = &h->v[(*it)++];
        if (!x->removed) return x;
    }
    return NULL;
}
/* Status of a response (":status"); 0 when absent. Set keeps the text form. */
uint32_t headers_status(const struct headers *h);
void headers_set_status(struct headers *h, uint32_t status);
/* Token lists: does the comma-separated value of id contain the token (case-insensitively)? */
bool headers_has_token(const struct headers *h, enum header_id id, struct str token);
/* grpc-timeout: at most 8 digits and a unit. False: absent or junk. */
bool headers_grpc_timeout(const struct headers *h, uint64_t *us);
/* Is the content type gRPC's: "application/grpc" or "application/grpc+..."? (application/grpc-web
 * is not, as in Envoy.) */
static inline bool headers_is_grpc(const struct headers *h)
{
    struct str t = headers_get(h, HDR_CONTENT_TYPE);
    return str_starts(t, STR("application/grpc")) && (t.len == 16 || t.ptr[16] == '+');
}
