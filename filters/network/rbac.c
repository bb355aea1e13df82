/* envoy.filters.network.rbac: closes connections that the policies do not allow; shadow policies
 * only tell what they would have done. */
#include "envoy/extensions/filters/network/rbac/v3/rbac.pb-c.h"

#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/rbac/v3/rbac.pb-c.h"
#include "filters/common/rbac.h"
#include "filters/common/stats.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/metadata.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/stream_info.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

struct rbac_conf {
    const struct rbac_rules *rules, *shadow; /* NULL: none */
    struct stat_group *stats, *shadow_stats;
    struct str shadow_prefix; /* of statistics and metadata keys */
    bool continuous;
    uint64_t delay_us;
};
struct rbac_filter {
    struct network_filter base;
    struct loop_timer timer;
    bool decided, denied;
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
    *out = tree ? rbac_create_matcher(&place, tree, false) : rbac_create(&place, rules, false);
    return *out != NULL;
}

static const void *rbac_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                    const struct network_filter_place *place)
{
    (void)place;
    const Envoy__Extensions__Filters__Network__Rbac__V3__RBAC *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct rbac_conf *c = ARENA_NEW(a, struct rbac_conf);
    struct conf_at delay = conf_field(at, "delay_deny");
    bool ok = rbac_pick(at, "matcher", m->matcher, "rules", m->rules, &c->rules);
    ok &= rbac_pick(at, "shadow_matcher", m->shadow_matcher, "shadow_rules", m->shadow_rules,
                    &c->shadow);
    ok &= conf_duration(&delay, m->delay_deny, 0, &c->delay_us);
    c->continuous =
        m->enforcement_type ==
        ENVOY__EXTENSIONS__FILTERS__NETWORK__RBAC__V3__RBAC__ENFORCEMENT_TYPE__CONTINUOUS;
    c->shadow_prefix = str_dup(a, str_of(m->shadow_rules_stat_prefix));
    /* Istio's prefix is "tcp.": Envoy's scopes drop a dot at the end. */
    struct str prefix = str_of(m->stat_prefix);
    if (str_ends(prefix, STR("."))) prefix = str_sub(prefix, 0, prefix.len - 1);
    c->stats = conf_stat_group(at, str_fmt(a, "%.*s.rbac.", STR_ARG(prefix)), rbac_enforced_stats,
                               RBAC_STAT_COUNT);
    const char *dot = c->shadow_prefix.len ? "." : "";
    struct str shadow_stats =
        str_fmt(a, "%.*s.rbac.%.*s%s", STR_ARG(prefix), STR_ARG(c->shadow_prefix), dot);
    c->shadow_stats = conf_stat_group(at, shadow_stats, rbac_shadow_stats, RBAC_STAT_COUNT);
    return ok ? c : NULL;
}

/* --- decisions
 * -----------------------------------------------------------------------------------------------------------------
 */

static struct rbac_filter *rbac_of(struct network_filter *f)
{
    return CONTAINER_OF(f, struct rbac_filter, base);
}

static void rbac_note(struct network_filter *f, struct str ns, struct str key,
                      const struct value *v)
{
    metadata_set(&network_filter_info(f)->metadata, network_filter_arena(f), ns, key, v);
}

static void rbac_note_result(struct network_filter *f, struct str prefix, bool allowed,
                             struct str policy)
{
    struct arena *a = network_filter_arena(f);
    struct str ns = STR("envoy.filters.network.rbac");
    if (policy.ptr) {
        struct value name = {.kind = VALUE_STRING, .u.text = policy};
        rbac_note(f, ns, str_cat(a, prefix, STR("effective_policy_id")), &name);
    }
    struct value result = {.kind = VALUE_STRING,
                           .u.text = allowed ? STR("allowed") : STR("denied")};
    rbac_note(f, ns, str_cat(a, prefix, STR("engine_result")), &result);
}

static void rbac_shadow(struct network_filter *f, const struct rbac_ask *ask)
{
    const struct rbac_conf *c = f->conf;
    if (!c->shadow) return;
    struct rbac_verdict v = rbac_ask(c->shadow, ask);
    stat_inc(c->shadow_stats, v.allowed ? RBAC_STAT_ALLOWED : RBAC_STAT_DENIED);
    rbac_note_result(f, str_cat(network_filter_arena(f), c->shadow_prefix, STR("shadow_")),
                     v.allowed, v.policy);
}

/* True: it may pass. */
static bool rbac_enforce(struct network_filter *f, const struct rbac_ask *ask)
{
    const struct rbac_conf *c = f->conf;
    if (!c->rules) return true;
    struct rbac_verdict v = rbac_ask(c->rules, ask);
    stat_inc(c->stats, v.allowed ? RBAC_STAT_ALLOWED : RBAC_STAT_DENIED);
    if (v.has_hint) {
        struct value hint = {.kind = VALUE_BOOL, .u.boolean = v.hint};
        rbac_note(f, STR("envoy.common"), STR("access_log_hint"), &hint);
    }
    if (v.allowed) return true;
    network_filter_info(f)->termination_details =
        rbac_denied_details(network_filter_arena(f), v.policy);
    return false;
}

static void rbac_delay_over(struct loop_timer *t)
{
    struct rbac_filter *r = CONTAINER_OF(t, struct rbac_filter, timer);
    conn_close(r->base.conn, CONN_CLOSE_NOW);
}

static enum net_flow rbac_deny(struct network_filter *f)
{
    const struct rbac_conf *c = f->conf;
    struct rbac_filter *r = rbac_of(f);
    r->denied = true;
    if (c->delay_us) {
        conn_pause_read(f->conn, true);
        loop_timer_start(f->worker->loop, &r->timer, c->delay_us, rbac_delay_over);
    } else {
        conn_close(f->conn, CONN_CLOSE_NOW);
    }
    return NET_HOLD;
}

static enum net_flow rbac_on_read(struct network_filter *f, struct buf *data, bool end)
{
    (void)data, (void)end;
    const struct rbac_conf *c = f->conf;
    struct rbac_filter *r = rbac_of(f);
    if (r->denied) return NET_HOLD;
    if (r->decided && !c->continuous) return NET_CONTINUE;
    const struct conn_info *info = network_filter_info(f);
    struct rbac_ask ask = {.conn = info,
                           .dynamic = info->metadata,
                           .scratch = f->worker->scratch,
                           .worker = f->worker};
    rbac_shadow(f, &ask);
    ask.dynamic = info->metadata;
    r->decided = true;
    return rbac_enforce(f, &ask) ? NET_CONTINUE : rbac_deny(f);
}

static void rbac_on_close(struct network_filter *f)
{
    loop_timer_stop(&rbac_of(f)->timer);
}

const struct network_filter_type network_rbac = {
    .ext = {.name = "envoy.filters.network.rbac",
            .config = &envoy__extensions__filters__network__rbac__v3__rbac__descriptor},
    .instance_size = sizeof(struct rbac_filter),
    .conf_create = rbac_conf_create,
    .on_read = rbac_on_read,
    .on_close = rbac_on_close,
};
