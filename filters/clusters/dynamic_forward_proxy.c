/* envoy.clusters.dynamic_forward_proxy: its hosts are the names that requests and connections ask
 * for. The filters of that name usually had them resolved before; else the choice waits. */
#include "base/arena.h"
#include "base/map.h"
#include "base/must.h"
#include "envoy/extensions/clusters/dynamic_forward_proxy/v3/cluster.pb-c.h"
#include "filters/common/dynamic_forward_proxy.h"
#include "proxy/api/dns_cache.h"
#include "proxy/api/headers.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/upstream.h"
#include "proxy/runtime/runtime.h"
#include "proxy/upstream/cluster.h"

enum { AGAIN_MOST = 3 };

struct dfp_conf {
    struct dns_cache *cache;
    uint16_t default_port;
};

/* --- configuration
 * -------------------------------------------------------------------------------------------------
 */
/* Envoy: the name asked for is also the server name, and must be in the certificate. */
static bool dfp_secure(const struct conf_at *at, struct cluster *c, bool insecure)
{
    if (!c->socket || insecure) return true;
    if (!c->http->names_chosen) {
        struct upstream_http *http = ARENA_NEW(conf_arena(at), struct upstream_http);
        *http = *c->http;
        http->auto_sni = http->auto_san_validation = true;
        c->http = http;
    }
    if (c->http->auto_sni && c->http->auto_san_validation) return true;
    return conf_fail(
        at,
        "dynamic_forward_proxy cluster must have auto_sni and auto_san_validation true unless allow_insecure_cluster_options is set.");
}

static const void *dfp_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                   struct cluster *c)
{
    const Envoy__Extensions__Clusters__DynamicForwardProxy__V3__ClusterConfig *m =
        (const void *)msg;
    struct dfp_conf *conf = ARENA_NEW(conf_arena(at), struct dfp_conf);
    struct conf_at here = conf_field(at, "dns_cache_config");
    if (!m->dns_cache_config) {
        (void)conf_fail(&here, "value is required");
        return NULL;
    }
    if (!c->lb || !c->lb->whole_cluster) {
        (void)conf_fail(
            at, "cluster: LB policy is not valid for this cluster type, use CLUSTER_PROVIDED");
        return NULL;
    }
    conf->default_port = c->socket ? DFP_TLS_PORT : DFP_PORT;
    conf->cache = conf_dns_cache(&here, m->dns_cache_config);
    return conf->cache && dfp_secure(at, c, m->allow_insecure_cluster_options) ? conf : NULL;
}

static bool dfp_start(struct cluster *c, struct runtime *rt)
{
    (void)rt;
    const struct dfp_conf *conf = c->custom_conf;
    dns_cache_feed(conf->cache, c);
    return true;
}

static void dfp_stop(struct cluster *c, struct runtime *rt)
{
    (void)rt;
    dns_cache_unfeed(c);
}

/* --- choosing
 * ------------------------------------------------------------------------------------------------------
 */
struct dfp_table {
    struct map by_name; /* keys are the hosts' own names */
};
struct dfp_cursor {
    struct list waiting; /* struct dfp_wait */
};
struct dfp_wait {
    struct dns_wait dns;
    struct list link;
    struct lb_later *later;
};

static void dfp_table_release(void *p)
{
    map_release(&((struct dfp_table *)p)->by_name);
}

static const void *dfp_table_create(struct arena *a, const void *conf, const struct lb_hosts *hosts)
{
    struct dfp_table *t = ARENA_NEW(a, struct dfp_table);
    (void)conf;
    arena_on_free(a, dfp_table_release, t);
    for (uint32_t i = 0; i < hosts->count; i++)
        (void)map_put(&t->by_name, host_name(hosts->v[i]), hosts->v[i]);
    return t;
}

static void dfp_cursor_init(void *cursor, const void *conf, struct worker *w)
{
    (void)conf, (void)w;
    list_init(&((struct dfp_cursor *)cursor)->waiting);
}

static struct lb_later *wait_end(struct dfp_wait *w)
{
    struct lb_later *later = w->later;
    dns_cache_forget(&w->dns);
    list_remove(&w->link);
    mem_free(w);
    return later;
}

static void dfp_cursor_release(void *cursor)
{
    struct dfp_cursor *c = cursor;
    for (struct list *it; (it = list_first(&c->waiting));) {
        struct lb_later *later = wait_end(CONTAINER_OF(it, struct dfp_wait, link));
        later->done(later, LB_AGAIN, NULL);
    }
}

static void wait_done(struct dns_wait *dns, enum dns_answer a)
{
    struct lb_later *later = wait_end(CONTAINER_OF(dns, struct dfp_wait, dns));
    later->done(later, a == DNS_RESOLVED ? LB_AGAIN : LB_NONE, NULL);
}

static void wait_cancel(struct lb_later *later)
{
    (void)wait_end(later->priv[0]);
}

static enum lb_answer dfp_wait(struct dfp_cursor *cursor, const struct dfp_conf *conf,
                               const struct lb_ask *ask, struct str key, struct lb_later *later)
{
    if (ask->again >= AGAIN_MOST) return LB_NONE;
    struct dfp_wait *w = mem_alloc(sizeof(*w));
    w->dns.done = wait_done;
    w->later = later;
    later->priv[0] = w;
    later->cancel = wait_cancel;
    list_push_back(&cursor->waiting, &w->link);
    if (dns_cache_ask(ask->worker, conf->cache, key, conf->default_port, &w->dns) == DNS_LATER)
        return LB_LATER;
    (void)wait_end(w);
    return LB_NONE;
}

static enum lb_answer dfp_choose(void *cursor, const void *conf, const void *table,
                                 const struct lb_hosts *hosts, const struct lb_ask *ask,
                                 struct lb_later *later, struct host **out)
{
    const struct dfp_conf *c = conf;
    const struct dfp_table *t = table;
    (void)hosts;
    struct dfp_target to = dfp_target(ask->stream, ask->downstream, ask->headers,
                                      ask->worker->scratch, c->default_port);
    if (!to.host.len) return LB_NONE;
    struct str key = dns_cache_key(ask->worker->scratch, to.host, to.port);
    *out = t ? map_get(&t->by_name, key) : NULL;
    return *out ? LB_HOST : dfp_wait(cursor, c, ask, key, later);
}

static const struct lb_policy_type dfp_policy = {
    .ext = {.name = "envoy.clusters.dynamic_forward_proxy"},
    .cursor_size = sizeof(struct dfp_cursor),
    .whole_cluster = true,
    .table_create = dfp_table_create,
    .cursor_init = dfp_cursor_init,
    .choose = dfp_choose,
    .cursor_release = dfp_cursor_release,
};

const struct cluster_type dynamic_forward_proxy_cluster = {
    .ext =
        {.name = "envoy.clusters.dynamic_forward_proxy",
         .config =
             &envoy__extensions__clusters__dynamic_forward_proxy__v3__cluster_config__descriptor},
    .conf_create = dfp_conf_create,
    .lb = &dfp_policy,
    .start = dfp_start,
    .stop = dfp_stop,
};
