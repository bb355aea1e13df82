/* envoy.filters.network.ext_authz: asks an authorization service at a connection's first bytes and
 * holds them until it has answered; refused and (unless configured otherwise) doubtful connections
 * are closed. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/core/v3/grpc_service.pb-c.h"
#include "envoy/extensions/filters/network/ext_authz/v3/ext_authz.pb-c.h"
#include "envoy/service/auth/v3/external_auth.pb-c.h"
#include "envoy/type/v3/http_status.pb-c.h"
#include "filters/common/ext_authz.h"
#include "filters/common/stats.h"
#include "google/protobuf/struct.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/metadata.h"
#include "proxy/api/network_filter.h"
#include "proxy/api/side_call.h"
#include "proxy/api/stream_info.h"
#include "proxy/net/conn.h"
#include "proxy/runtime/runtime.h"

enum authz_stat {
    AUTHZ_STAT_ACTIVE,
    AUTHZ_STAT_CX_CLOSED,
    AUTHZ_STAT_DENIED,
    AUTHZ_STAT_DISABLED,
    AUTHZ_STAT_ERROR,
    AUTHZ_STAT_ALLOWED,
    AUTHZ_STAT_OK,
    AUTHZ_STAT_TOTAL,
    AUTHZ_STATS
};
static const struct stat_def authz_stat_defs[AUTHZ_STATS] = {
    [AUTHZ_STAT_ACTIVE] = {"active", STAT_GAUGE, 0},
    [AUTHZ_STAT_CX_CLOSED] = {"cx_closed", STAT_COUNTER, 0},
    [AUTHZ_STAT_DENIED] = {"denied", STAT_COUNTER, 0},
    [AUTHZ_STAT_DISABLED] = {"disabled", STAT_COUNTER, 0},
    [AUTHZ_STAT_ERROR] = {"error", STAT_COUNTER, 0},
    [AUTHZ_STAT_ALLOWED] = {"failure_mode_allowed", STAT_COUNTER, 0},
    [AUTHZ_STAT_OK] = {"ok", STAT_COUNTER, 0},
    [AUTHZ_STAT_TOTAL] = {"total", STAT_COUNTER, 0},
};

struct authz_conf {
    const struct side_target *target;
    struct stat_group *stats;
    const struct metadata_matcher *enabled; /* NULL: always */
    const struct str *namespaces;
    size_t namespace_count;
    struct authz_labels labels;
    bool allow_on_failure, certificate, session;
    bool shadow; /* the verdict is only told, in filter state */
};
enum authz_state { AUTHZ_FRESH, AUTHZ_ASKING, AUTHZ_PASSED, AUTHZ_CLOSED };
struct authz {
    struct network_filter base;
    enum authz_state state;
    uint64_t start_us;
};

/* --- configuration
 * -------------------------------------------------------------------------------------------------
 */
static const void *authz_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                     const struct network_filter_place *place)
{
    (void)place;
    const Envoy__Extensions__Filters__Network__ExtAuthz__V3__ExtAuthz *m = (const void *)msg;
    struct arena *a = conf_arena(at);
    struct authz_conf *c = ARENA_NEW(a, struct authz_conf);
    struct conf_at service = conf_field(at, "grpc_service"),
                   enabled = conf_field(at, "filter_enabled_metadata");
    bool ok = m->grpc_service != NULL || conf_fail(&service, "value is required");
    if (ok) ok = (c->target = conf_grpc_service(&service, m->grpc_service, SIDE_CLUSTER_ANY));
    if (m->filter_enabled_metadata) {
        struct metadata_matcher *x = ARENA_NEW(a, struct metadata_matcher);
        ok = conf_metadata_matcher(&enabled, m->filter_enabled_metadata, x) && ok;
        c->enabled = x;
    }
    struct str *names = ARENA_ARRAY(a, struct str, m->n_metadata_context_namespaces);
    for (size_t i = 0; i < m->n_metadata_context_namespaces; i++)
        names[i] = str_dup(a, str_of(m->metadata_context_namespaces[i]));
    c->namespaces = names;
    c->namespace_count = m->n_metadata_context_namespaces;
    c->allow_on_failure = m->failure_mode_allow;
    c->certificate = m->include_peer_certificate;
    c->session = m->include_tls_session;
    c->shadow = m->shadow_mode;
    c->labels = authz_labels_create(at, str_of(m->bootstrap_metadata_labels_key));
    c->stats = conf_stat_group(at, str_fmt(a, "ext_authz.%s.", m->stat_prefix), authz_stat_defs,
                               AUTHZ_STATS);
    return ok ? c : NULL;
}

/* --- the answer
 * ----------------------------------------------------------------------------------------------------
 */
static struct authz *authz_of(struct network_filter *f)
{
    return CONTAINER_OF(f, struct authz, base);
}

static void authz_note(struct network_filter *f, struct str key, const struct value *v)
{
    metadata_set(&network_filter_info(f)->metadata, network_filter_arena(f),
                 STR("envoy.filters.network.ext_authz"), key, v);
}

static void authz_metadata(struct authz *z, const Envoy__Service__Auth__V3__CheckResponse *r,
                           enum authz_verdict verdict)
{
    struct network_filter *f = &z->base;
    struct arena *a = network_filter_arena(f);
    if (r && r->dynamic_metadata) {
        const struct value *v = conf_struct(a, r->dynamic_metadata);
        for (size_t i = 0; i < v->u.fields.count; i++)
            authz_note(f, v->u.fields.fields[i].name, &v->u.fields.fields[i].value);
    }
    if (verdict != AUTHZ_OK) return;
    uint64_t us = loop_now_us(f->worker->loop) - z->start_us;
    struct value ms = {.kind = VALUE_NUMBER, .u.number = (double)(us / 1000)};
    authz_note(f, STR("ext_authz_duration"), &ms);
}

static void authz_close(struct authz *z, enum authz_verdict verdict)
{
    const struct authz_conf *c = z->base.conf;
    struct conn_info *info = network_filter_info(&z->base);
    stat_inc(c->stats, AUTHZ_STAT_CX_CLOSED);
    z->state = AUTHZ_CLOSED;
    info->flags |= (uint64_t)1 << RF_UAEX;
    info->code_details = verdict == AUTHZ_DENIED ? STR("ext_authz_denied") : STR("ext_authz_error");
    conn_close(z->base.conn, CONN_CLOSE_NOW);
}

/* The status that an HTTP client would see; 0: none. */
static double authz_status(const Envoy__Service__Auth__V3__CheckResponse *r,
                           enum authz_verdict verdict)
{
    enum { FORBIDDEN = 403 };
    const Envoy__Service__Auth__V3__DeniedHttpResponse *d = NULL;
    switch ((int)(r ? r->http_response_case : 0)) {
    case ENVOY__SERVICE__AUTH__V3__CHECK_RESPONSE__HTTP_RESPONSE_DENIED_RESPONSE:
        d = r->denied_response;
        break;
    case ENVOY__SERVICE__AUTH__V3__CHECK_RESPONSE__HTTP_RESPONSE_ERROR_RESPONSE:
        d = r->error_response;
        break;
    default: break;
    }
    if (verdict == AUTHZ_OK) return 0;
    if (d && d->status && d->status->code) return (double)d->status->code;
    return verdict == AUTHZ_DENIED ? FORBIDDEN : 0;
}

/* Envoy: a filter after this one may act on the verdict. */
static void authz_tell(struct authz *z, const Envoy__Service__Auth__V3__CheckResponse *r,
                       enum authz_verdict verdict)
{
    static const struct str words[] = {
        [AUTHZ_OK] = {"OK", 2}, [AUTHZ_DENIED] = {"DENIED", 6}, [AUTHZ_ERROR] = {"ERROR", 5}};
    struct arena *a = network_filter_arena(&z->base);
    double status = authz_status(r, verdict);
    struct value_field *f = ARENA_ARRAY(a, struct value_field, 2);
    f[0] = (struct value_field){.name = STR("check_result"),
                                .value = {.kind = VALUE_STRING, .u.text = words[verdict]}};
    f[1] = (struct value_field){.name = STR("status_code"),
                                .value = {.kind = VALUE_NUMBER, .u.number = status}};
    struct value *v = ARENA_NEW(a, struct value);
    *v = (struct value){.kind = VALUE_STRUCT,
                        .u.fields = {.fields = f, .count = status > 0 ? 2 : 1}};
    struct filter_state_entry e = {.name = STR("envoy.filters.network.ext_authz"),
                                   .object = v,
                                   .text = value_text,
                                   .value = v,
                                   .fields = true,
                                   .read_only = true};
    (void)filter_state_set(&network_filter_info(&z->base)->state, a, &e);
}

static void authz_on_end(struct side_call *call, void *arg, const struct side_end *e)
{
    (void)call;
    struct authz *z = arg;
    const struct authz_conf *c = z->base.conf;
    const Envoy__Service__Auth__V3__CheckResponse *r;
    static const enum authz_stat counts[] = {[AUTHZ_OK] = AUTHZ_STAT_OK,
                                             [AUTHZ_DENIED] = AUTHZ_STAT_DENIED,
                                             [AUTHZ_ERROR] = AUTHZ_STAT_ERROR};
    enum authz_verdict verdict = authz_response(z->base.worker->scratch, e, &r);
    stat_dec(c->stats, AUTHZ_STAT_ACTIVE);
    stat_inc(c->stats, counts[verdict]);
    authz_metadata(z, r, verdict);
    if (c->shadow) {
        authz_tell(z, r, verdict);
        z->state = AUTHZ_PASSED;
        network_filter_resume(&z->base);
        return;
    }
    if (verdict == AUTHZ_DENIED || (verdict == AUTHZ_ERROR && !c->allow_on_failure)) {
        authz_close(z, verdict);
        return;
    }
    if (verdict == AUTHZ_ERROR) stat_inc(c->stats, AUTHZ_STAT_ALLOWED);
    z->state = AUTHZ_PASSED;
    network_filter_resume(&z->base);
}

static const struct side_events authz_events = {.on_end = authz_on_end};

/* --- the question
 * --------------------------------------------------------------------------------------------------
 */
static void authz_ask(struct authz *z)
{
    struct network_filter *f = &z->base;
    const struct authz_conf *c = f->conf;
    struct arena *a = f->worker->scratch;
    const struct conn_info *info = network_filter_info(f);
    struct authz_peers peers = {info, c->certificate, c->session};
    Envoy__Service__Auth__V3__CheckRequest *r = authz_request_new(a, &peers);
    authz_request_labels(a, r, &c->labels);
    authz_request_metadata(a, r, info->metadata, c->namespaces, c->namespace_count);
    struct stream_info stream = {.arena = a,
                                 .worker = f->worker,
                                 .conn = network_filter_info(f),
                                 .remote = info->remote,
                                 .dynamic = info->metadata};
    struct side_ask q = {.worker = f->worker,
                         .owner = network_filter_calls(f),
                         .target = c->target,
                         .events = &authz_events,
                         .arg = z,
                         .info = &stream};
    if (!c->target->timeout_us) q.timeout_us = AUTHZ_TIMEOUT_MS * 1000;
    z->state = AUTHZ_ASKING;
    z->start_us = loop_now_us(f->worker->loop);
    stat_inc(c->stats, AUTHZ_STAT_ACTIVE);
    stat_inc(c->stats, AUTHZ_STAT_TOTAL);
    (void)side_grpc(&q, authz_method, NULL, authz_request_pack(a, r));
}

static enum net_flow authz_on_read(struct network_filter *f, struct buf *data, bool end)
{
    struct authz *z = authz_of(f);
    const struct authz_conf *c = f->conf;
    (void)data, (void)end;
    switch (z->state) {
    case AUTHZ_PASSED: return NET_CONTINUE;
    case AUTHZ_ASKING:
    case AUTHZ_CLOSED: return NET_HOLD;
    case AUTHZ_FRESH: break;
    }
    if (c->enabled && !metadata_match(c->enabled, network_filter_info(f)->metadata)) {
        stat_inc(c->stats, AUTHZ_STAT_DISABLED);
        return NET_CONTINUE;
    }
    authz_ask(z);
    return NET_HOLD;
}

static void authz_on_close(struct network_filter *f)
{
    const struct authz_conf *c = f->conf;
    if (authz_of(f)->state == AUTHZ_ASKING) stat_dec(c->stats, AUTHZ_STAT_ACTIVE);
}

const struct network_filter_type network_ext_authz = {
    .ext = {.name = "envoy.filters.network.ext_authz",
            .config = &envoy__extensions__filters__network__ext_authz__v3__ext_authz__descriptor},
    .instance_size = sizeof(struct authz),
    .conf_create = authz_conf_create,
    .on_read = authz_on_read,
    .on_close = authz_on_close,
};
