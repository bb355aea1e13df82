/* Scoped routes (SRDS). A ScopedRouteConfiguration says which route table a key stands for; all of
 * a source make the sets of scopes of the connection managers that follow it. A set is an internal
 * kind of resource: it needs the route tables of its scopes and is published, as one, when they are
 * there. Scopes with on_demand get their table when a request asks for it. */
#include "base/arena.h"
#include "base/log.h"
#include "base/must.h"
#include "envoy/config/route/v3/route.pb-c.h"
#include "envoy/config/route/v3/scoped_route.pb-c.h"
#include "proto/equal.h"
#include "proto/proto.h"
#include "proxy/config/route.h"
#include "proxy/config/scopes.h"
#include "proxy/http/scopes.h"
#include "xds/source.h"
#include "xds/xds_internal.h"

typedef Envoy__Config__Route__V3__ScopedRouteConfiguration Scope;

/* What a ScopedRouteConfiguration says; on its resource. */
struct scope_facts {
    struct str key, table; /* heap; table empty: resource.object is the inline one */
    bool on_demand, asked; /* asked: a request wanted its table */
};
/* A connection manager's set; on its internal resource. */
struct scope_follower {
    struct list link; /* xds.scope_sets */
    struct resource *set;
    struct str label;        /* heap: scoped_routes.name */
    struct str routes_stats; /* heap: "http.web.rds." */
    Envoy__Config__Core__V3__ConfigSource *routes_source;
    struct arena *arena; /* of routes_source */
};

void scope_facts_free(struct resource *r)
{
    struct scope_facts *f = r->scope;
    r->scope = NULL;
    if (!f) return;
    resource_keep(&f->key, STR_NONE);
    resource_keep(&f->table, STR_NONE);
    mem_free(f);
}

void scope_follower_free(struct resource *set)
{
    struct scope_follower *f = set->scopes;
    set->scopes = NULL;
    if (!f) return;
    list_remove(&f->link);
    resource_keep(&f->label, STR_NONE);
    resource_keep(&f->routes_stats, STR_NONE);
    arena_free(&f->arena);
    mem_free(f);
}

struct str scope_set_label(const struct resource *set)
{
    return set->scopes ? set->scopes->label : STR_NONE;
}

/* --- building a set
 * ------------------------------------------------------------------------------------
 */

struct building {
    struct resource *set;
    struct arena *arena; /* of the new set */
    struct scope_set *scopes;
    struct conf_cx cx; /* needs are in cx.arena: a scratch one */
    size_t all, active, on_demand;
};

static void scope_set_release(struct obj *o)
{
    struct scope_set *s = CONTAINER_OF(o, struct scope_set, obj);
    for (size_t i = 0; i < s->hold_count; i++)
        obj_unref(&s->holds[i]);
}

static void building_add(struct building *b, struct resource *r)
{
    const struct scope_facts *f = r->scope;
    struct scope *s = ARENA_NEW(b->arena, struct scope);
    b->all++;
    b->on_demand += f->on_demand;
    b->active += f->table.len && (!f->on_demand || f->asked); /* Envoy: inline ones do not count */
    s->name = str_dup(b->arena, r->name);
    (void)map_put(&b->scopes->by_key, str_dup(b->arena, f->key), s);
    if (!f->table.len) {
        struct obj *table = obj_ref(r->object);
        b->scopes->holds[b->scopes->hold_count++] = table;
        s->routes = (const struct route_config *)(const void *)table;
        return;
    }
    s->table = str_dup(b->arena, f->table);
    s->table_hash = hash_str(s->table);
    if (f->on_demand && !f->asked) return;
    struct conf_at at = conf_root(&b->cx);
    const struct scope_follower *follower = b->set->scopes;
    conf_need(&at, NEED_ROUTES, s->table, follower->routes_source)->stat_prefix =
        str_fmt(b->cx.arena, "%.*s%.*s.", STR_ARG(follower->routes_stats), STR_ARG(s->table));
}

static struct scope_set *building_new(struct building *b, size_t most)
{
    struct scope_set *s = obj_new_in(b->arena, sizeof *s);
    scope_set_init(b->arena, s);
    s->obj.on_free = scope_set_release;
    s->obj.name = str_dup(b->arena, b->set->name);
    s->holds = ARENA_ARRAY(b->arena, struct obj *, most);
    return s;
}

static void scope_set_build(struct resource *set)
{
    struct xds *x = set->x;
    struct errors errors = {.arena = arena_new("scratch", 0)};
    struct building b = {.set = set, .arena = arena_new("scopes", 512)};
    b.cx = (struct conf_cx){.arena = errors.arena,
                            .errors = &errors,
                            .registry = x->env.registry,
                            .rt = x->env.rt,
                            .added_via_api = true,
                            .opts = &x->env.dynamic_opts};
    b.scopes = building_new(&b, x->store[XDS_SCOPED_ROUTE].count);
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&x->store[XDS_SCOPED_ROUTE], &it, &key, &value)) {
        struct resource *r = value;
        if (r->present && r->scope && r->source == set->source) building_add(&b, r);
    }
    struct conf_at at = conf_root(&b.cx);
    obj_unref(&set->pending);
    if (store_link_needs(set, b.cx.needs, &set->pending_needs, &at)) {
        set->pending = &b.scopes->obj;
        stat_set(set->stats, SCOPE_ALL, b.all);
        stat_set(set->stats, SCOPE_ACTIVE, b.active);
        stat_set(set->stats, SCOPE_ON_DEMAND, b.on_demand);
        store_wait(set);
    } else {
        struct obj *o = &b.scopes->obj;
        struct str why = errors_text(&errors, errors.arena, STR_NONE);
        log_error(LOG_C_ROUTER, "scoped routes \"%.*s\" cannot be followed: %.*s",
                  STR_ARG(set->scopes->label), STR_ARG(why));
        obj_unref(&o);
    }
    arena_free(&errors.arena);
}

/* --- following
 * ---------------------------------------------------------------------------------------
 */

/* Has the source answered another set? Then no answer of its own will come for this one. */
static bool scope_source_known(const struct resource *set)
{
    LIST_FOREACH (&set->x->scope_sets, it) {
        const struct resource *other = CONTAINER_OF(it, struct scope_follower, link)->set;
        if (other != set && other->source == set->source && other->done) return true;
    }
    return false;
}

void scope_set_follow(struct resource *set, const struct need *n)
{
    if (set->scopes) return;
    struct scope_follower *f = mem_alloc(sizeof *f);
    f->set = set;
    f->arena = arena_new("config source", 256);
    f->routes_source = (void *)proto_dup(f->arena, n->routes_source);
    resource_keep(&f->label, n->label);
    resource_keep(&f->routes_stats, n->routes_stat_prefix);
    set->scopes = f;
    list_push_back(&set->x->scope_sets, &f->link);
    set->present = true;
    if (!scope_source_known(set)) return;
    scope_set_build(set);
    store_done(set);
}

/* Two scopes of a source with one key: the text of the refusal, and whose it is; or empty. */
static struct str scope_conflict(struct xds *x, struct source *s, struct arena *a,
                                 struct str *second)
{
    struct map keys = {0};
    struct str text = STR_NONE;
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&x->store[XDS_SCOPED_ROUTE], &it, &key, &value) && !text.len) {
        struct resource *r = value;
        if (!r->present || !r->scope || r->source != s) continue;
        struct resource *first = map_put(&keys, r->scope->key, r);
        if (!first) continue;
        bool later = str_cmp(first->name, r->name) < 0;
        *second = later ? r->name : first->name;
        text = str_fmt(
            a,
            "Error adding/updating scoped route(s): scope key conflict found, first scope is '%.*s', second scope is '%.*s'",
            STR_ARG(later ? first->name : r->name), STR_ARG(*second));
    }
    map_release(&keys);
    return text;
}

struct str scopes_settle(struct xds *x, struct source *s, const struct mux_update *u, bool refused,
                         uint64_t took_us, struct arena *a, struct str *name)
{
    struct str conflict = scope_conflict(x, s, a, name);
    LIST_FOREACH_SAFE (&x->scope_sets, it, next) {
        struct resource *set = CONTAINER_OF(it, struct scope_follower, link)->set;
        if (set->source != s) continue;
        if (refused || conflict.len) {
            sub_count(set->stats, SUB_UPDATE_REJECTED);
        } else {
            sub_updated(set->stats, u->version, loop_wall_us(xds_loop(x)), took_us);
            resource_keep(&set->version, u->version);
        }
        /* Envoy: what conflicts is refused as a whole; the last good set serves on. */
        if (!conflict.len) scope_set_build(set);
        store_done(set);
    }
    return conflict;
}

/* --- requests ask for a scope's table
 * ---------------------------------------------------------------------
 */

static struct str scope_demand(struct arena *a, struct str set, struct str scope)
{
    return str_fmt(a, "%.*s/%.*s", STR_ARG(set), STR_ARG(scope));
}

void scope_asked(struct xds *x, struct on_demand_call *call)
{
    const struct on_demand_question *q = on_demand_question(call);
    struct resource *set = resource_find(x, XDS_SCOPE_SET, q->name),
                    *scope = resource_find(x, XDS_SCOPED_ROUTE, q->key);
    if (!set || !set->scopes || !scope || !scope->present || !scope->scope ||
        !scope->scope->table.len) {
        on_demand_answer(call, false);
        return;
    }
    const struct resource *table = resource_find(x, XDS_ROUTE, scope->scope->table);
    if (table && table->object && (scope->scope->asked || !scope->scope->on_demand)) {
        on_demand_answer(call, true);
        return;
    }
    struct arena *a = arena_new("scratch", 0);
    demand_wait(x, scope_demand(a, q->name, q->key), call);
    arena_free(&a);
    if (scope->scope->on_demand && !scope->scope->asked) {
        scope->scope->asked = true;
        scope_set_build(set);
    } else if (!set->pending) {
        demand_answer_scopes(set); /* it was asked for before and does not come */
    }
}

void demand_answer_scopes(struct resource *set)
{
    struct xds *x = set->x;
    if (!x->demands.count) return;
    struct arena *a = arena_new("scratch", 0);
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&x->store[XDS_SCOPED_ROUTE], &it, &key, &value)) {
        const struct resource *r = value;
        if (!r->scope || !r->scope->table.len) continue;
        const struct resource *table = resource_find(x, XDS_ROUTE, r->scope->table);
        demand_answer(x, ON_DEMAND_SCOPE, scope_demand(a, set->name, r->name),
                      table && table->object);
    }
    arena_free(&a);
}

/* --- the kind of scopes
 * ---------------------------------------------------------------------------------
 */

static bool kind_scope_accept(struct resource *r, const ProtobufCMessage *msg, struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx), table_at = conf_field(&root, "route_configuration"),
                   name_at = conf_field(&root, "route_configuration_name");
    const Scope *m = (const Scope *)msg;
    struct route_config *table = NULL;
    if (m->route_configuration) {
        table = translate_route_config_at(cx, &table_at, m->route_configuration);
        if (!table) return false;
    } else if (!m->route_configuration_name[0]) {
        return conf_fail(&name_at, "route_configuration_name is empty.");
    }
    struct scope_facts *f = mem_alloc(sizeof *f);
    resource_keep(&f->key, scope_key_of(cx->errors->arena, m));
    if (!table) resource_keep(&f->table, str_of(m->route_configuration_name));
    f->on_demand = m->on_demand && !table;
    f->asked = r->scope && r->scope->asked;
    scope_facts_free(r);
    r->scope = f;
    obj_unref(&r->object);
    if (table)
        r->object = &table->obj;
    else
        arena_free(&cx->arena);
    return true;
}

static void kind_scope_remove(struct resource *r)
{
    scope_facts_free(r);
    obj_unref(&r->object);
}

static bool kind_scope_ready(struct resource *r)
{
    (void)r; /* waits for nothing */
    return true;
}

static void kind_scope_missing(struct resource *r)
{
    (void)r; /* nobody waits for one by name */
}

static bool kind_scope_wants(const struct xds *x, struct str name)
{
    (void)name;
    return !list_empty(&x->scope_sets);
}

const struct kind_ops kind_scoped_route = {
    .type_url = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
    .label = "ScopedRouteConfiguration",
    .desc = &envoy__config__route__v3__scoped_route_configuration__descriptor,
    .full = true,
    .accept = kind_scope_accept,
    .remove = kind_scope_remove,
    .ready = kind_scope_ready,
    .missing = kind_scope_missing,
    .wants = kind_scope_wants,
};

/* --- the kind of sets
 * -----------------------------------------------------------------------------------
 */

static bool kind_scope_set_accept(struct resource *r, const ProtobufCMessage *msg,
                                  struct conf_cx *cx)
{
    struct conf_at root = conf_root(cx);
    (void)r;
    (void)msg;
    return conf_fail(&root, "is no resource of a control plane");
}

/* Nobody follows the source any more: what it said is forgotten. */
static void scopes_forget(struct resource *set)
{
    struct xds *x = set->x;
    size_t it = 0;
    struct str key;
    void *value;
    LIST_FOREACH (&x->scope_sets, link) {
        const struct resource *other = CONTAINER_OF(link, struct scope_follower, link)->set;
        if (other != set && other->source == set->source) return;
    }
    while (map_next(&x->store[XDS_SCOPED_ROUTE], &it, &key, &value)) {
        struct resource *r = value;
        if (r->source != set->source) continue;
        kind_scope_remove(r);
        resource_unknow(r);
        r->present = false;
        resource_keep(&r->error, STR_NONE);
        resource_forget(r);
    }
}

static void kind_scope_set_remove(struct resource *set)
{
    scopes_forget(set);
    list_remove(&set->waiting);
    obj_unref(&set->pending);
    store_drop_needs(&set->pending_needs);
    store_drop_needs(&set->needs);
    retire(set->x, TABLE_SCOPES, XDS_SCOPE_SET, set->name);
    demand_answer_scopes(set);
    scope_follower_free(set);
}

static bool kind_scope_set_ready(struct resource *set)
{
    for (const struct need_link *l = set->pending_needs; l; l = l->next)
        if (!l->resource->done || l->resource->pending) return false;
    list_remove(&set->waiting);
    struct need_link *before = set->needs;
    set->needs = set->pending_needs;
    set->pending_needs = NULL;
    set->updated_wall_us = loop_wall_us(xds_loop(set->x));
    if (set->stats) stat_inc(set->stats, SUB_CONFIG_RELOAD);
    if (set->stats) stat_set(set->stats, SUB_CONFIG_RELOAD_TIME, set->updated_wall_us / 1000);
    runtime_publish(set->x->env.rt, TABLE_SCOPES, set->name, set->pending);
    obj_unref(&set->pending);
    store_drop_needs(&before);
    demand_answer_scopes(set);
    store_wake(set->x);
    return true;
}

static void kind_scope_set_missing(struct resource *set)
{
    (void)set; /* whoever waits goes on without: requests get 404 until it comes */
}

const struct kind_ops kind_scope_set = {
    .type_url = "", /* of our own making */
    .label = "scoped_routes",
    .desc = &envoy__config__route__v3__scoped_route_configuration__descriptor,
    .stats = scope_stat_defs,
    .stat_count = SCOPE_STAT_COUNT,
    .accept = kind_scope_set_accept,
    .remove = kind_scope_set_remove,
    .ready = kind_scope_set_ready,
    .missing = kind_scope_set_missing,
};
