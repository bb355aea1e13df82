/* The store of resources: what is wanted, what was accepted, what was refused, and who waits for
 * what. */
#include "base/arena.h"
#include "base/must.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/source.h"
#include "xds/xds_internal.h"

const struct kind_ops *kind_of(enum xds_kind kind)
{
    static const struct kind_ops *const kinds[XDS_KINDS] = {
        [XDS_LISTENER] = &kind_listener,
        [XDS_CLUSTER] = &kind_cluster,
        [XDS_ROUTE] = &kind_route,
        [XDS_ENDPOINT] = &kind_endpoint,
        [XDS_SECRET] = &kind_secret,
        [XDS_RUNTIME] = &kind_runtime,
        [XDS_EXTENSION] = &kind_extension,
        [XDS_VIRTUAL_HOST] = &kind_virtual_host,
        [XDS_SCOPED_ROUTE] = &kind_scoped_route,
        [XDS_SCOPE_SET] = &kind_scope_set,
    };
    must(kind < XDS_KINDS);
    return kinds[kind];
}

bool kind_of_url(struct str type_url, enum xds_kind *kind)
{
    for (int k = 0; k < XDS_SCOPE_SET; k++) { /* a set is no resource of a control plane */
        if (!str_eq(str_of(kind_of((enum xds_kind)k)->type_url), type_url)) continue;
        *kind = (enum xds_kind)k;
        return true;
    }
    return false;
}

struct resource *resource_find(const struct xds *x, enum xds_kind kind, struct str name)
{
    return map_get(&x->store[kind], name);
}

struct resource *resource_get(struct xds *x, enum xds_kind kind, struct str name)
{
    struct resource *r = resource_find(x, kind, name);
    if (r) return r;
    r = mem_alloc(sizeof *r);
    r->x = x;
    r->kind = kind;
    if (name.len < sizeof r->short_name) {
        if (name.len) memcpy(r->short_name, name.ptr, name.len);
        r->name = (struct str){r->short_name, name.len};
    } else {
        resource_keep(&r->name, name);
    }
    list_init(&r->waiting);
    (void)map_put(&x->store[kind], r->name, r); /* was absent */
    return r;
}

void resource_unknow(struct resource *r)
{
    if (r->known) known_remove(r->known, r->hash, r);
    r->known = NULL;
}

/* What only resources of its kind have. */
static void resource_free_own(struct resource *r)
{
    switch (r->kind) {
    case XDS_SECRET: secret_files_free(&r->files); return;
    case XDS_EXTENSION: extension_uses_free(r); return;
    case XDS_ROUTE: vhds_free(r); return;
    case XDS_VIRTUAL_HOST: vhost_free(r); return;
    case XDS_SCOPED_ROUTE: scope_facts_free(r); return;
    case XDS_SCOPE_SET: scope_follower_free(r); return;
    case XDS_LISTENER:
    case XDS_CLUSTER:
    case XDS_ENDPOINT:
    case XDS_RUNTIME:
    case XDS_KINDS: return;
    }
}

static void resource_free(struct resource *r)
{
    resource_unknow(r);
    loop_timer_stop(&r->fetch);
    loop_timer_stop(&r->hold);
    loop_timer_stop(&r->ttl);
    list_remove(&r->waiting);
    resource_free_own(r);
    obj_unref(&r->pending);
    obj_unref(&r->object);
    stat_group_unref(&r->stats);
    resource_keep(&r->version, STR_NONE);
    resource_keep(&r->type_url, STR_NONE);
    resource_keep(&r->bytes, STR_NONE);
    resource_keep(&r->error, STR_NONE);
    resource_keep(&r->error_version, STR_NONE);
    resource_keep(&r->failed_bytes, STR_NONE);
    if (r->name.ptr != r->short_name) resource_keep(&r->name, STR_NONE);
    mem_free(r);
}

void resource_forget(struct resource *r)
{
    if (r->watchers || r->present || r->is_static || r->error.len) return;
    if (r->warming) {
        r->warming = false;
        r->x->warming_clusters--;
    }
    map_remove(&r->x->store[r->kind], r->name);
    resource_free(r);
}

/* The endpoints' subscription is counted by each cluster that uses it. */
void resource_count(const struct resource *r, enum sub_stat what)
{
    if (r->kind != XDS_ENDPOINT) {
        sub_count(r->stats, what);
        return;
    }
    enum cluster_eds_event event = what == SUB_UPDATE_REJECTED  ? CLUSTER_EDS_REJECTED
                                   : what == SUB_UPDATE_FAILURE ? CLUSTER_EDS_FAILURE
                                                                : CLUSTER_EDS_TIMEOUT;
    cluster_manager_eds_stat(r->x->env.clusters, r->name, CLUSTER_EDS_ATTEMPT);
    if (what != SUB_UPDATE_ATTEMPT) cluster_manager_eds_stat(r->x->env.clusters, r->name, event);
}

/* --- needs
 * ---------------------------------------------------------------------------------------------------
 */

static enum xds_kind kind_of_need(enum need_kind kind)
{
    switch (kind) {
    case NEED_ENDPOINTS: return XDS_ENDPOINT;
    case NEED_ROUTES: return XDS_ROUTE;
    case NEED_SECRET: return XDS_SECRET;
    case NEED_EXTENSION: return XDS_EXTENSION;
    case NEED_SCOPED_ROUTES: return XDS_SCOPE_SET;
    case NEED_VIRTUAL_HOSTS: break;
    }
    return XDS_KINDS;
}

/* A set of scopes follows all scopes of its source. */
static enum xds_kind source_kind(const struct resource *r)
{
    return r->kind == XDS_SCOPE_SET ? XDS_SCOPED_ROUTE : r->kind;
}

static struct str source_name(const struct resource *r)
{
    return r->kind == XDS_SCOPE_SET ? STR_NONE : r->name;
}

static void resource_timed_out(struct loop_timer *t)
{
    struct resource *r = CONTAINER_OF(t, struct resource, fetch);
    resource_count(r, SUB_INIT_FETCH_TIMEOUT);
    r->late = true;
    kind_of(r->kind)->missing(r);
    store_done(r);
    if (r->kind == XDS_SECRET) secret_demand_gone(r->x, r->name);
}

void resource_subscribe(struct resource *r, uint64_t timeout_us)
{
    r->watchers++;
    /* Envoy: asking is an attempt, too; a file is not asked. */
    if (r->stats && r->source->is_remote) stat_inc(r->stats, SUB_UPDATE_ATTEMPT);
    if (!r->done && timeout_us)
        loop_timer_start(xds_loop(r->x), &r->fetch, timeout_us, resource_timed_out);
    source_watch(r->source, source_kind(r), source_name(r));
}

/* A static secret is translated when something first needs it: one that nothing needs may name
 * files that are not there. */
static bool resource_read(struct resource *r, const struct conf_at *at)
{
    const ProtobufCMessage *msg = r->unread;
    struct errors own = {.arena = at->cx->errors->arena};
    r->unread = NULL;
    if (!msg || store_accept(r, msg, &own, &r->x->env.static_opts)) return true;
    r->unread = msg;
    for (size_t i = 0; i < own.count && i < ERRORS_MOST; i++)
        conf_fail(at, "static secret \"%.*s\": %.*s: %.*s", STR_ARG(r->name),
                  STR_ARG(own.v[i].path), STR_ARG(own.v[i].text));
    return false;
}

/* First watcher of a name: subscribe and start the clock. */
static bool resource_watch(struct resource *r, const struct need *n, const struct conf_at *at)
{
    if (r->is_static) return resource_read(r, at);
    if (r->watchers) {
        r->watchers++;
        return true;
    }
    r->source = source_get(r->x, source_kind(r), n->config_source, at);
    if (!r->source) return false;
    const struct kind_ops *ops = kind_of(r->kind);
    if (n->stat_prefix.len && !r->stats)
        r->stats = stat_group_get(r->x->env.rt->stats, n->stat_prefix,
                                  ops->stats ? ops->stats : sub_stat_defs,
                                  ops->stats ? ops->stat_count : SUB_COUNT);
    resource_subscribe(r, xds_fetch_timeout(n->config_source));
    return true;
}

void resource_unwatch(struct resource *r)
{
    if (r->is_static || --r->watchers > 0) return;
    loop_timer_stop(&r->fetch);
    source_unwatch(r->source, source_kind(r), source_name(r));
    resource_unknow(r);
    if (r->present) {
        const struct kind_ops *ops = kind_of(r->kind);
        if (ops->left)
            ops->left(r);
        else
            ops->remove(r);
        r->present = false;
    }
    resource_keep(&r->error, STR_NONE);
    r->done = false;
    resource_forget(r);
}

bool store_link_needs(struct resource *r, struct need *needs, struct need_link **to,
                      const struct conf_at *at)
{
    struct need_link *links = NULL;
    bool ok = true;
    for (struct need *n = needs; n; n = n->next) {
        enum xds_kind kind = kind_of_need(n->kind);
        if (kind == XDS_KINDS) {
            ok = conf_fail(
                at,
                "\"%.*s\" would have to be discovered (ECDS, VHDS, SRDS), which is not supported",
                STR_ARG(n->name));
            break;
        }
        struct resource *wanted = resource_get(r->x, kind, n->name);
        struct conf_at need_at = n->path.len ? conf_field(at, n->path.ptr) : *at;
        if (!resource_watch(wanted, n, &need_at)) {
            resource_forget(wanted);
            ok = false;
            break;
        }
        struct need_link *link = mem_alloc(sizeof *link);
        *link = (struct need_link){.resource = wanted, .next = links};
        links = link;
        if (n->slot) link->use = extension_use_add(wanted, n->slot);
        if (kind == XDS_SCOPE_SET) scope_set_follow(wanted, n);
    }
    if (!ok) {
        store_drop_needs(&links);
        return false;
    }
    store_drop_needs(to);
    *to = links;
    return true;
}

void store_drop_needs(struct need_link **from)
{
    struct need_link *l = *from;
    *from = NULL;
    while (l) {
        struct need_link *next = l->next;
        if (l->use) extension_use_drop(l->resource, l->use);
        resource_unwatch(l->resource);
        mem_free(l);
        l = next;
    }
}

/* --- waiting
 * ---------------------------------------------------------------------------------------------------
 */

static void store_wake_now(struct loop_later *later)
{
    struct xds *x = CONTAINER_OF(later, struct xds, wake);
    bool again = true;
    while (again) { /* from the front: what is ready may drop others that wait */
        again = false;
        LIST_FOREACH (&x->waiting, it) {
            struct resource *r = CONTAINER_OF(it, struct resource, waiting);
            if (!kind_of(r->kind)->ready(r)) continue;
            list_remove(&r->waiting);
            again = true;
            break;
        }
    }
    xds_advance(x);
}

void store_wake(struct xds *x)
{
    loop_later(xds_loop(x), &x->wake, store_wake_now);
}

void store_wait(struct resource *r)
{
    if (!list_linked(&r->waiting)) list_push_back(&r->x->waiting, &r->waiting);
    store_wake(r->x);
}

void store_done(struct resource *r)
{
    loop_timer_stop(&r->fetch);
    r->done = true;
    store_wake(r->x);
}

void store_free(struct xds *x)
{
    /* Needs first: they refer to resources of other kinds. */
    for (int k = 0; k < XDS_KINDS; k++) {
        size_t it = 0;
        struct str key;
        void *value;
        while (map_next(&x->store[k], &it, &key, &value)) {
            struct resource *r = value;
            struct need_link **lists[] = {&r->needs, &r->pending_needs};
            for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
                while (*lists[i]) {
                    struct need_link *next = (*lists[i])->next;
                    mem_free(*lists[i]);
                    *lists[i] = next;
                }
            }
        }
    }
    for (int k = 0; k < XDS_KINDS; k++) {
        size_t it = 0;
        struct str key;
        void *value;
        while (map_next(&x->store[k], &it, &key, &value)) {
            map_remove(&x->store[k], key);
            resource_free(value);
        }
        map_release(&x->store[k]);
    }
}
