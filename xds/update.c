/* A response from a source: each resource is recognised by its bytes, or decoded, translated and
 * taken over; a bad one is refused by name and the others are applied. */
#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "base/text.h"
#include "proto/decode.h"
#include "proto/proto.h"
#include "xds/cache.h"
#include "xds/source.h"
#include "xds/xds_internal.h"

enum { NACK_MOST = 8192 }; /* bytes of error text; a longer one is cut */

/* The name is field 1 of every resource type of xDS: found without decoding. False: no such field.
 */
static bool resource_peek_name(struct str bytes, struct str *name)
{
    enum { TAG_NAME = 0x0a }; /* field 1, length-delimited */
    size_t at = 1, len = 0;
    unsigned shift = 0;
    *name = STR("");
    if (!bytes.len || (unsigned char)bytes.ptr[0] != TAG_NAME) return false;
    for (;;) {
        if (at >= bytes.len || shift > 28) return false;
        unsigned char b = (unsigned char)bytes.ptr[at++];
        len |= (size_t)(b & 0x7f) << shift;
        shift += 7;
        if (!(b & 0x80)) break;
    }
    if (len > bytes.len - at) return false;
    *name = str_sub(bytes, at, len);
    return true;
}

/* One update on its way. */
struct applying {
    struct xds *x;
    struct source *source;
    const struct mux_update *u;
    enum xds_kind kind;
    const struct kind_ops *ops;
    struct arena *arena; /* of the response */
    struct sb nack;
    size_t refused;
    size_t seen; /* resources of the store that the response had, each counted once */
    bool
        garbled; /* a resource is no message of its type: who knows which one it was meant to be? */
    uint64_t began_us;
    uint64_t hash; /* of the bytes of the resource at hand */
};

static void applying_refuse(struct applying *ap, struct str name, struct str text)
{
    ap->refused++;
    if (ap->nack.len > NACK_MOST) return;
    if (ap->nack.len) sb_add(&ap->nack, STR("; "));
    sb_fmt(&ap->nack, "%s \"%.*s\": %.*s", ap->ops->label, STR_ARG(name), STR_ARG(text));
}

/* Is it in what was read of this response so far? */
static bool applying_has_seen(const struct applying *ap, const struct resource *r)
{
    if (r->seen == ap->x->generation) return true;
    const struct known_slot *s = r->known ? known_find(r->known, r->hash, r->bytes.len) : NULL;
    return s && s->seen == (uint32_t)ap->x->generation;
}

static void applying_saw(struct applying *ap, struct resource *r)
{
    if (r->seen == ap->x->generation) return;
    r->seen = ap->x->generation;
    ap->seen++;
}

/* What every response of the kind has and nothing counts by itself will be recognised by its bytes.
 */
static void applying_know(struct applying *ap, struct resource *r, const struct mux_resource *m)
{
    if (r->known || r->stats || m->ttl_us || !ap->u->full || m->bytes.len >= UINT32_MAX) return;
    r->known = &ap->source->known[ap->kind];
    const struct known_slot slot = {.hash = r->hash,
                                    .resource = r,
                                    .len = (uint32_t)m->bytes.len,
                                    .seen = (uint32_t)ap->x->generation};
    known_put(r->known, &slot);
}

static void resource_refused(struct applying *ap, struct resource *r, const struct mux_resource *m,
                             struct str text)
{
    resource_unknow(r); /* when the good version comes back, it ends the error */
    resource_keep(&r->error, text);
    resource_keep(&r->error_version, m->version);
    if (!r->type_url.len) resource_keep(&r->type_url, m->type_url);
    resource_keep(&r->failed_bytes, m->bytes);
    r->failed_hash = ap->hash;
    r->error_wall_us = loop_wall_us(xds_loop(ap->x));
    log_warn(LOG_C_CONFIG, "%s \"%.*s\" is refused%s: %.*s", ap->ops->label, STR_ARG(r->name),
             r->present ? ", its last good version serves on" : "", STR_ARG(text));
    applying_refuse(ap, r->name, text);
    resource_count(r, SUB_UPDATE_REJECTED);
    if (ap->ops->refused) ap->ops->refused(r, m);
}

/* Route tables that are part of a listener must name clusters that exist (Envoy:
 * validate_clusters). */
static bool store_cluster_known(void *arg, struct str name)
{
    const struct resource *c = resource_find(arg, XDS_CLUSTER, name);
    return c && (c->present || c->is_static);
}

static struct str store_cluster_nearest(void *arg, struct str name)
{
    struct xds *x = arg;
    size_t it = 0;
    struct str known, best = STR_NONE;
    void *r;
    while (map_next(&x->store[XDS_CLUSTER], &it, &known, &r))
        if (((const struct resource *)r)->is_static) str_nearer(name, known, &best);
    return best;
}

bool store_accept(struct resource *r, const ProtobufCMessage *msg, struct errors *errors,
                  const struct proto_opts *opts)
{
    struct xds *x = r->x;
    const struct kind_ops *ops = kind_of(r->kind);
    struct conf_cx cx = {.arena = arena_new(ops->label, ops->arena),
                         .errors = errors,
                         .registry = x->env.registry,
                         .rt = x->env.rt,
                         .validate_only = x->env.validate_only,
                         .added_via_api = !r->is_static,
                         .opts = opts,
                         .cluster_known = store_cluster_known,
                         /* for whoever reads files; a control plane's mistakes stay cheap */
                         .cluster_nearest = r->is_static ? store_cluster_nearest : NULL,
                         .cluster_known_arg = x};
    cx.root = str_fmt(errors->arena, "%s \"%.*s\"", ops->label, STR_ARG(r->name));
    if (ops->accept(r, msg, &cx)) return true;
    arena_free(&cx.arena);
    if (!errors->count) (void)errors_add(errors, STR_NONE, "is refused without a reason (a bug)");
    return false;
}

static void resource_expired(struct loop_timer *t)
{
    struct resource *r = CONTAINER_OF(t, struct resource, ttl);
    log_info(LOG_C_CONFIG, "%s \"%.*s\" expired", kind_of(r->kind)->label, STR_ARG(r->name));
    if (!r->present) return;
    resource_unknow(r);
    kind_of(r->kind)->remove(r);
    r->present = false;
    resource_forget(r);
}

static void resource_accepted(struct applying *ap, struct resource *r, const struct mux_resource *m)
{
    resource_unknow(r);
    r->source = ap->source;
    r->present = true;
    if (ap->source->is_remote) cache_changed(ap->x->cache);
    resource_keep(&r->version, m->version);
    resource_keep(&r->type_url, m->type_url);
    resource_keep(&r->bytes, m->bytes);
    r->hash = ap->hash;
    r->updated_wall_us = loop_wall_us(xds_loop(ap->x));
    resource_keep(&r->failed_bytes, STR_NONE);
    if (r->stats && r->kind != XDS_SECRET) stat_inc(r->stats, SUB_CONFIG_RELOAD);
    if (r->stats && r->kind != XDS_EXTENSION && r->kind != XDS_SECRET)
        stat_set(r->stats, SUB_CONFIG_RELOAD_TIME, r->updated_wall_us / 1000);
}

static void applying_told(struct applying *ap, struct resource *r, const struct mux_resource *m)
{
    /* Envoy: what is unchanged keeps the version that it came with, but for secrets. */
    if (r->kind == XDS_SECRET) resource_keep(&r->version, m->version);
    resource_keep(&r->error, STR_NONE);
    r->failed_hash = 0;
    r->cached = ap->source->stale;
    applying_saw(ap, r);
    if (r->kind == XDS_VIRTUAL_HOST) vhds_note_ids(r, m);
    if (r->stats)
        sub_updated(r->stats, ap->u->version, loop_wall_us(xds_loop(ap->x)),
                    clock_now_us() - ap->began_us);
    if (m->ttl_us)
        loop_timer_start(xds_loop(ap->x), &r->ttl, m->ttl_us, resource_expired);
    else
        loop_timer_stop(&r->ttl);
    applying_know(ap, r, m);
    store_done(r);
}

/* Refused: for what it says, or because its bytes are not even a message? */
static bool applying_is_message(struct applying *ap, const struct mux_resource *m)
{
    static const struct proto_opts lenient = {.unknown = PROTO_UNKNOWN_IGNORE};
    struct errors unused = {.arena = ap->arena};
    return proto_unpack(ap->arena, ap->ops->desc, m->bytes, &lenient, NULL, &unused) != NULL;
}

static void applying_new(struct applying *ap, struct resource *r, const struct mux_resource *m)
{
    struct errors errors = {.arena = ap->arena};
    const struct proto_opts *opts = &ap->x->env.dynamic_opts;
    const ProtobufCMessage *msg =
        proto_decode(ap->arena, ap->ops->desc, m->bytes, opts, NULL, &errors);
    if (!msg || !store_accept(r, msg, &errors, opts)) {
        if (!msg && !applying_is_message(ap, m)) ap->garbled = true;
        resource_refused(ap, r, m, errors_text(&errors, ap->arena, STR_NONE));
        return;
    }
    resource_accepted(ap, r, m);
    applying_told(ap, r, m);
}

/* The bytes of a version in use, once in the response: there is nothing to do. */
static bool applying_unchanged(struct applying *ap, const struct mux_resource *m)
{
    if (m->name.len || m->ttl_us) return false;
    struct known_slot *s = known_find(&ap->source->known[ap->kind], ap->hash, m->bytes.len);
    if (!s || s->seen == (uint32_t)ap->x->generation) return false;
    s->seen = (uint32_t)ap->x->generation;
    ap->seen++;
    return true;
}

/* A wrapper with another name than what is in it would be found under neither. Virtual hosts alone
 * are named apart from their own name. */
static bool applying_misnamed(struct applying *ap, const struct mux_resource *m)
{
    enum { SHOWN = 200 };
    struct str inner;
    if (!m->name.len || ap->kind == XDS_VIRTUAL_HOST) return false;
    if (!resource_peek_name(m->bytes, &inner) || str_eq(inner, m->name)) return false;
    inner = str_sub(inner, 0, SHOWN);
    applying_refuse(ap, m->name,
                    str_fmt(ap->arena, "has the name \"%.*s\" inside", STR_ARG(inner)));
    return true;
}

/* Whom a resource of the response is for; NULL: nobody, or it is refused. */
static struct resource *applying_find(struct applying *ap, const struct mux_resource *m,
                                      struct str name)
{
    if (!utf8_valid(name)) {
        ap->garbled = true;
        applying_refuse(ap, STR_NONE, STR("has a name that is not UTF-8"));
        return NULL;
    }
    if (!str_eq(m->type_url, str_of(ap->ops->type_url))) {
        ap->garbled = true; /* who knows what it was meant to be */
        applying_refuse(ap, name,
                        str_fmt(ap->arena, "has type \"%.*s\" in a response of type \"%s\"",
                                STR_ARG(m->type_url), ap->ops->type_url));
        return NULL;
    }
    if (applying_misnamed(ap, m)) return NULL;
    struct resource *r = resource_find(ap->x, ap->kind, name);
    if (!r && !ap->ops->full && !(ap->ops->wants && ap->ops->wants(ap->x, name)))
        return NULL; /* a name that nobody wants */
    if (r && r->source && r->source != ap->source && !ap->ops->full)
        return NULL; /* wanted from another source */
    if (r && r->is_static) {
        applying_refuse(ap, name, STR("is already defined in the bootstrap's static_resources"));
        return NULL;
    }
    if (!r) return resource_get(ap->x, ap->kind, name);
    if (applying_has_seen(ap, r)) {
        applying_refuse(ap, name, STR("stands twice in the response"));
        return NULL;
    }
    return r;
}

static void applying_one(struct applying *ap, const struct mux_resource *m)
{
    struct str name = m->name;
    if (!m->type_url.len &&
        !m->bytes.len) { /* a wrapper without a resource: a heartbeat for the TTL */
        struct resource *r = resource_find(ap->x, ap->kind, name);
        if (r && r->present && m->ttl_us)
            loop_timer_start(xds_loop(ap->x), &r->ttl, m->ttl_us, resource_expired);
        if (r) applying_saw(ap, r);
        if (ap->kind == XDS_VIRTUAL_HOST && !(r && r->present)) vhds_absent(ap->x, m);
        return;
    }
    if (str_eq(m->type_url, str_of(ap->ops->type_url))) {
        ap->hash = hash_str(m->bytes);
        if (applying_unchanged(ap, m)) return;
    }
    bool named = name.len || resource_peek_name(m->bytes, &name);
    struct resource *r = applying_find(ap, m, name);
    if (!r && !named && !ap->ops->full && !applying_is_message(ap, m))
        applying_refuse(ap, name, STR("is no message of its type"));
    if (!r) return;
    /* 64 bits of hash and the length: ten thousand unchanged resources must not cost a walk through
     * all their bytes. */
    if (r->present && r->hash == ap->hash && r->bytes.len == m->bytes.len) {
        applying_told(ap, r, m);
    } else if (r->failed_hash == ap->hash && str_eq(r->failed_bytes, m->bytes)) {
        /* the same mistake again: the same answer, for next to nothing */
        applying_saw(ap, r);
        if (!applying_is_message(ap, m)) ap->garbled = true;
        applying_refuse(ap, r->name, r->error);
        resource_count(r, SUB_UPDATE_REJECTED);
    } else {
        applying_new(ap, r, m);
        applying_saw(ap, r);
    }
}

static void applying_gone(struct applying *ap, struct resource *r)
{
    resource_keep(&r->error, STR_NONE);
    r->failed_hash = 0;
    resource_unknow(r);
    if (r->present) {
        r->present = false;
        cache_changed(ap->x->cache);
        ap->ops->remove(r);
    }
    r->late = false;
    if (r->watchers) {
        ap->ops->missing(r);
        store_done(r);
    }
    resource_forget(r);
}

/* State of the world: listeners and clusters that the response lacks are gone. */
static void applying_sweep(struct applying *ap)
{
    size_t it = 0;
    struct str key;
    void *value;
    const struct map *store = &ap->x->store[ap->kind];
    if (ap->seen == store->count - ap->x->statics[ap->kind]) return; /* it lacks none */
    while (map_next(store, &it, &key, &value)) {
        struct resource *r = value;
        bool others = r->source && r->source != ap->source;
        if (r->demanded && !r->present) continue; /* the response may be older than the question */
        if (!r->is_static && !others && !applying_has_seen(ap, r)) applying_gone(ap, r);
    }
}

static void applying_removed(struct applying *ap)
{
    for (size_t i = 0; i < ap->u->removed_count; i++) {
        struct str name = ap->u->removed[i];
        struct resource *r = resource_find(ap->x, ap->kind, name);
        if (r && ap->kind == XDS_SECRET && r->source == ap->source) {
            secret_demand_gone(ap->x, name); /* may free it */
            r = resource_find(ap->x, ap->kind, name);
        }
        if (!r || r->is_static) continue;
        if (applying_has_seen(ap, r))
            applying_refuse(ap, r->name, STR("is added and removed by the same response"));
        else if (!ap->ops->stays || !r->watchers || !r->present)
            applying_gone(ap, r);
    }
}

struct str store_update(struct xds *x, struct source *s, const struct mux_update *u,
                        struct arena *a)
{
    struct applying ap = {.x = x, .source = s, .u = u, .arena = a, .began_us = clock_now_us()};
    if (!kind_of_url(u->type_url, &ap.kind))
        return str_fmt(a, "unknown type \"%.*s\"", STR_ARG(u->type_url));
    ap.ops = kind_of(ap.kind);
    x->generation++;
    /* A virtual host may come under a new name, with the domains of the old one. */
    if (ap.kind == XDS_VIRTUAL_HOST) applying_removed(&ap);
    for (size_t i = 0; i < u->count; i++)
        applying_one(&ap, &u->resources[i]);
    if (u->full && ap.ops->full && !ap.garbled)
        applying_sweep(&ap); /* Envoy: a garbled response removes nothing */
    if (ap.kind == XDS_VIRTUAL_HOST)
        vhds_settle(x, s, u, ap.refused > 0, clock_now_us() - ap.began_us);
    else
        applying_removed(&ap);
    if (ap.kind == XDS_SCOPED_ROUTE) {
        struct str name = STR_NONE,
                   conflict = scopes_settle(x, s, u, ap.refused > 0, clock_now_us() - ap.began_us,
                                            a, &name);
        if (conflict.len) applying_refuse(&ap, name, conflict);
    }
    struct top *top = xds_top(x, ap.kind);
    if (top) {
        if (ap.refused) {
            sub_count(top->stats, SUB_UPDATE_REJECTED);
        } else {
            sub_updated(top->stats, u->version, loop_wall_us(xds_loop(x)),
                        clock_now_us() - ap.began_us);
            resource_keep(&top->version, u->version);
        }
        xds_top_updated(x, ap.kind);
    }
    char *nack = str_z(a, sb_str(&ap.nack));
    size_t len = ap.nack.len;
    sb_release(&ap.nack);
    if (utf8_valid(str_make(nack, len))) return str_make(nack, len);
    /* Bytes of a garbled resource got into the text; a control plane could not read such a request.
     */
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)nack[i] >= 0x80) nack[i] = '?';
    return str_make(nack, len);
}

void store_source_failed(struct xds *x, struct source *s)
{
    cache_source_failed(x->cache, s);
    store_source_count(x, s, SUB_UPDATE_FAILURE);
}

void store_source_count(struct xds *x, struct source *s, enum sub_stat what)
{
    if (x->cds.source == s) sub_count(x->cds.stats, what);
    if (x->lds.source == s) sub_count(x->lds.stats, what);
    for (int k = 0; k < XDS_KINDS; k++) {
        size_t it = 0;
        struct str key;
        void *value;
        if (kind_of((enum xds_kind)k)->full) continue;
        while (map_next(&x->store[k], &it, &key, &value)) {
            struct resource *r = value;
            if (r->source == s && r->watchers) resource_count(r, what);
        }
    }
}
