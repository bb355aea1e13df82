/* Certificates that handshakes ask for by name (custom_tls_certificate_selector). Published for
 * each context that asked, in a table of their own: a client's SNI cannot pick a secret that is
 * there for something else. */
#include "base/arena.h"
#include "base/log.h"
#include "proxy/api/tls.h"
#include "xds/source.h"
#include "xds/xds_internal.h"

/* A name that handshakes asked for; it is watched until nobody who may ask is left, or the control
 * plane has none. Lives in xds.asked_secrets. */
struct asked_secret {
    struct resource *resource;
    const struct tls_on_demand **users; /* the contexts whose handshakes asked */
    size_t count, cap;
};

/* What the handshakes of one context see; o NULL: nothing. */
static void publish_to(const struct asked_secret *s, const struct tls_on_demand *who, struct obj *o)
{
    struct arena *a = arena_new("scratch", 0);
    runtime_publish(s->resource->x->env.rt, TABLE_ASKED_SECRETS,
                    tls_on_demand_key(a, who, s->resource->name), o);
    arena_free(&a);
}

static void publish(const struct asked_secret *s, struct obj *o)
{
    for (size_t i = 0; i < s->count; i++) {
        publish_to(s, s->users[i], o);
        stat_inc(s->users[i]->stats, TLS_ON_DEMAND_UPDATED); /* as Envoy: the end is one, too */
    }
}

static void user_add(struct asked_secret *s, const struct tls_on_demand *who)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->users[i] == who) return;
    }
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 2;
        s->users = mem_realloc(s->users, s->cap * sizeof(const struct tls_on_demand *));
    }
    s->users[s->count++] = who;
    stat_inc(who->stats, TLS_ON_DEMAND_REQUESTED);
    stat_add(who->stats, TLS_ON_DEMAND_ACTIVE, 1);
    if (!s->resource->object) return;
    publish_to(s, who, s->resource->object);
    stat_inc(who->stats, TLS_ON_DEMAND_UPDATED);
}

static bool user_drop(struct asked_secret *s, const struct tls_on_demand *who)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->users[i] != who) continue;
        s->users[i] = s->users[--s->count];
        publish_to(s, who, NULL);
        stat_sub(who->stats, TLS_ON_DEMAND_ACTIVE, 1);
        return true;
    }
    return false;
}

/* The entry goes, whoever waits is told; the resource too, unless something else needs it. */
static void asked_end(struct asked_secret *s)
{
    struct resource *r = s->resource;
    struct xds *x = r->x;
    (void)map_remove(&x->asked_secrets, r->name);
    for (size_t i = 0; i < s->count; i++)
        stat_sub(s->users[i]->stats, TLS_ON_DEMAND_ACTIVE, 1);
    demand_answer(x, ON_DEMAND_SECRET, r->name, false);
    r->demanded = false;
    x->demanded--;
    resource_unwatch(r);
    mem_free(s->users);
    mem_free(s);
}

void secret_demand_gone(struct xds *x, struct str name)
{
    struct asked_secret *s = x->asked_secrets.count ? map_get(&x->asked_secrets, name) : NULL;
    if (!s) return;
    publish(s, NULL);
    asked_end(s);
}

void secret_demand_left(struct xds *x, const struct tls_on_demand *who)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&x->asked_secrets, &it, &key, &value)) {
        struct asked_secret *s = value;
        if (user_drop(s, who) && s->count == 0) asked_end(s);
    }
}

void secret_demands_free(struct xds *x)
{
    size_t it = 0;
    struct str key;
    void *value;
    while (map_next(&x->asked_secrets, &it, &key, &value)) {
        publish(value, NULL);
        asked_end(value);
    }
    map_release(&x->asked_secrets);
}

void secret_demand_changed(struct resource *r)
{
    struct xds *x = r->x;
    struct asked_secret *s = r->demanded ? map_get(&x->asked_secrets, r->name) : NULL;
    if (!s) return;
    publish(s, r->object);
    if (r->object) demand_answer(x, ON_DEMAND_SECRET, r->name, true);
}

/* Begins to watch r for handshakes. */
static struct asked_secret *asked_begin(struct resource *r, struct source *source,
                                        const struct tls_on_demand *who)
{
    struct xds *x = r->x;
    if (!r->stats) {
        struct arena *a = arena_new("scratch", 0);
        r->stats = stat_group_get(x->env.rt->stats, str_fmt(a, "sds.%.*s.", STR_ARG(r->name)),
                                  secret_stat_defs, SECRET_STAT_COUNT);
        arena_free(&a);
    }
    struct asked_secret *s = mem_alloc(sizeof *s);
    s->resource = r;
    (void)map_put(&x->asked_secrets, r->name, s); /* was absent */
    r->demanded = true;
    x->demanded++;
    if (r->watchers) {
        r->watchers++;
    } else {
        r->source = source;
        resource_subscribe(r, xds_fetch_timeout(who->source));
    }
    return s;
}

struct resource *secret_demand(struct xds *x, const struct tls_on_demand *who, struct str name)
{
    struct source *source = demand_source(x, XDS_SECRET, who->source, LOG_C_SECRET, "secret", name);
    struct resource *r = resource_get(x, XDS_SECRET, name);
    struct asked_secret *s = map_get(&x->asked_secrets, name);
    /* One name is one secret: what is static or comes from elsewhere is not for handshakes to pick.
     */
    bool other = r->is_static || (r->watchers && r->source != source);
    if (!source || other || (!s && demand_full(x))) {
        resource_forget(r);
        return NULL;
    }
    if (!s) s = asked_begin(r, source, who);
    user_add(s, who);
    return r;
}

void secret_asked(struct xds *x, struct on_demand_call *call)
{
    const struct on_demand_question *q = on_demand_question(call);
    const struct resource *r = secret_demand(x, q->source, q->name);
    if (r && !r->object && !r->done)
        demand_wait(x, r->name, call);
    else
        on_demand_answer(call, r && r->object); /* done without an object: it was given up */
}
