/* envoy.filters.http.rbac: refuses requests that the policies do not allow; shadow policies only
 * tell what they would have done. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/rbac/v3/rbac.pb-c.h"
#include "envoy/extensions/filters/http/rbac/v3/rbac.pb-c.h"
#include "filters/common/rbac.h"
#include "filters/common/stats.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/metadata.h"
#include "proxy/api/route.h"
#include "proxy/api/stream_info.h"

struct rbac_conf {
    const struct rbac_rules *rules, *shadow; /* NULL: none */
    struct str prefix, shadow_prefix;        /* of metadata keys */
    struct stat_group *stats, *shadow_stats; /* NULL in settings of routes: the filter's count */
};

/* --- configuration
 * -------------------------------------------------------------------------------------------------------------
 */

/* Envoy: a matcher wins over rules. */
static bool rbac_pick(const struct conf_at *at, const char *tree_field,
                      const struct Xds__Type__Matcher__V3__Matcher *tree, const char *rules_field,
                      const Envoy__Config__Rbac__V3__RBAC *rules, const struct rbac_rules **out)
{
    if (!tree && !rules) return true;
    struct conf_at place = conf_field(at, tree ? tree_field : rules_field);
    *out = tree ? rbac_create_matcher(&place, tree, true) : rbac_create(&place, rules, true);
    return *out != NULL;
}

static struct rbac_conf *rbac_rules_of(const struct conf_at *at,
                                       const Envoy__Extensions__Filters__Http__Rbac__V3__RBAC *m)
{
    struct rbac_conf *c = ARENA_NEW(conf_arena(at), struct rbac_conf);
    bool ok = rbac_pick(at, "matcher", m->matcher, "rules", m->rules, &c->rules);
    ok &= rbac_pick(at, "shadow_matcher", m->shadow_matcher, "shadow_rules", m->shadow_rules,
                    &c->shadow);
    c->prefix = str_dup(conf_arena(at), str_of(m->rules_stat_prefix));
    c->shadow_prefix = str_dup(conf_arena(at), str_of(m->shadow_rules_stat_prefix));
    return ok ? c : NULL;
}

static const void *rbac_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                    struct str stat_prefix)
{
    const Envoy__Extensions__Filters__Http__Rbac__V3__RBAC *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct rbac_conf *c = rbac_rules_of(at, m);
    if (!c) return NULL;
    struct str enforced = str_fmt(a, "%.*srbac.%s%s", STR_ARG(stat_prefix), m->rules_stat_prefix,
                                  m->rules_stat_prefix[0] ? "." : "");
    struct str shadow = str_fmt(a, "%.*srbac.%.*s%s", STR_ARG(stat_prefix),
                                STR_ARG(c->shadow_prefix), c->shadow_prefix.len ? "." : "");
    c->stats = conf_stat_group(at, enforced, rbac_enforced_stats, RBAC_STAT_COUNT);
    c->shadow_stats = conf_stat_group(at, shadow, rbac_shadow_stats, RBAC_STAT_COUNT);
    return c;
}

/* Without `rbac` the filter is off for the route. */
static const void *rbac_route_conf_create(const struct conf_at *at,
                                          const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__Rbac__V3__RBACPerRoute *m = (const void *)msg;
    struct conf_at here = conf_field(at, "rbac");
    return m->rbac ? rbac_rules_of(&here, m->rbac) : ARENA_NEW(conf_arena(at), struct rbac_conf);
}

/* --- decisions
 * -----------------------------------------------------------------------------------------------------------------
 */

static void rbac_note(struct http_filter *f, struct str ns, struct str key, struct value v)
{
    metadata_set(&http_filter_info(f)->dynamic, http_filter_arena(f), ns, key, &v);
}

static void rbac_note_result(struct http_filter *f, struct str prefix, bool allowed,
                             struct str policy)
{
    struct arena *a = http_filter_arena(f);
    struct str ns = STR("envoy.filters.http.rbac");
    if (policy.ptr)
        rbac_note(f, ns, str_cat(a, prefix, STR("effective_policy_id")),
                  (struct value){.kind = VALUE_STRING, .u.text = policy});
    rbac_note(
        f, ns, str_cat(a, prefix, STR("engine_result")),
        (struct value){.kind = VALUE_STRING, .u.text = allowed ? STR("allowed") : STR("denied")});
}

static enum http_flow rbac_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    struct stream_info *info = http_filter_info(f);
    const struct rbac_conf *main_conf = f->conf;
    const struct route *r = http_filter_route(f);
    const struct rbac_conf *c =
        f->route_conf ? f->route_conf : f->conf; /* after the route is known */
    struct rbac_ask ask = {.conn = info->conn,
                           .info = info,
                           .headers = h,
                           .dynamic = info->dynamic,
                           .route = r ? r->metadata : NULL,
                           .scratch = http_filter_arena(f),
                           .worker = f->worker};
    if (c->shadow) {
        struct rbac_verdict v = rbac_ask(c->shadow, &ask);
        stat_inc(main_conf->shadow_stats, v.allowed ? RBAC_STAT_ALLOWED : RBAC_STAT_DENIED);
        rbac_note_result(f, str_cat(ask.scratch, c->shadow_prefix, STR("shadow_")), v.allowed,
                         v.policy);
    }
    if (!c->rules) return HTTP_CONTINUE;
    struct rbac_verdict v = rbac_ask(c->rules, &ask);
    stat_inc(main_conf->stats, v.allowed ? RBAC_STAT_ALLOWED : RBAC_STAT_DENIED);
    rbac_note_result(f, str_cat(ask.scratch, c->prefix, STR("enforced_")), v.allowed, v.policy);
    if (v.has_hint) {
        rbac_note(f, STR("envoy.common"), STR("access_log_hint"),
                  (struct value){.kind = VALUE_BOOL, .u.boolean = v.hint});
    }
    if (v.allowed) return HTTP_CONTINUE;
    struct local_reply reply = {.status = 403,
                                .body = STR("RBAC: access denied"),
                                .details = rbac_denied_details(http_filter_arena(f), v.policy),
                                .grpc_status = -1};
    http_filter_reply(f, &reply);
    return HTTP_HOLD_ALL;
}

const struct http_filter_type http_rbac = {
    .ext = {.name = "envoy.filters.http.rbac",
            .config = &envoy__extensions__filters__http__rbac__v3__rbac__descriptor},
    .route_config = &envoy__extensions__filters__http__rbac__v3__rbacper_route__descriptor,
    .instance_size = sizeof(struct http_filter),
    .conf_create = rbac_conf_create,
    .route_conf_create = rbac_route_conf_create,
    .decode_headers = rbac_decode_headers,
};
