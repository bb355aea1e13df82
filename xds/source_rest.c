/* A control plane that is asked again and again by HTTP (api_type REST): each subscription is a
 * poll of its own with a version of its own, as in Envoy. The next question follows the answer
 * after refresh_delay and as much again at most, by chance. */
#include <malloc.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/rand.h"
#include "proto/decode.h"
#include "proto/json.h"
#include "proto/print.h"
#include "proxy/api/conf_types.h"
#include "proxy/upstream/cluster_manager.h"
#include "xds/cache.h"
#include "xds/mux_wire.h"
#include "xds/rest_call.h"
#include "xds/source.h"

enum {
    REST_ANSWER_MOST = 256 << 20,
    REST_TRIM_FROM = 1 << 20, /* after such an answer memory is given back to the system */
    REST_WAIT_US = 50000      /* the cluster is not there yet: look again */
};

struct source_rest {
    struct source source;
    struct arena *arena; /* of the configuration */
    enum xds_kind kind;
    struct str cluster, path;
    uint64_t delay_us, timeout_us;
    struct map polls; /* struct rest_poll * by name; "": all of the kind */
    struct rng rng;
};
struct rest_poll {
    struct source_rest *rest;
    struct str name, version; /* heap; version: last accepted */
    struct rest_call *call;   /* NULL: between two */
    struct loop_timer timer;
    unsigned users;
};

static struct source_rest *source_rest_of(struct source *s)
{
    return CONTAINER_OF(s, struct source_rest, source);
}

/* Of all that follow the poll. */
static void rest_count(const struct rest_poll *p, enum sub_stat what)
{
    struct source_rest *rest = p->rest;
    struct xds *x = rest->source.x;
    if (!p->name.len) {
        store_source_count(x, &rest->source, what);
        return;
    }
    const struct resource *r = resource_find(x, rest->kind, p->name);
    if (r && r->source == &rest->source) resource_count(r, what);
}

static void rest_poll_stop(struct rest_poll *p)
{
    loop_timer_stop(&p->timer);
    rest_call_cancel(&p->call);
}

static void rest_poll_free(struct rest_poll *p)
{
    rest_poll_stop(p);
    mux_keep(&p->name, STR_NONE);
    mux_keep(&p->version, STR_NONE);
    mem_free(p);
}

/* Nobody follows it any more: it ends. */
static void rest_poll_drop(struct rest_poll *p)
{
    if (--p->users) return;
    map_remove(&p->rest->polls, p->name);
    rest_poll_free(p);
}

/* --- an answer
 * ---------------------------------------------------------------------------------------------- */

/* NULL: told in errors. */
static const Envoy__Service__Discovery__V3__DiscoveryResponse *rest_read(
    const struct source_rest *rest, struct str text, struct arena *a, struct errors *errors)
{
    const ProtobufCMessageDescriptor *desc =
        &envoy__service__discovery__v3__discovery_response__descriptor;
    return (const void *)json_read(a, desc, text, JSON_FORMAT_JSON, NULL,
                                   &rest->source.x->env.dynamic_opts, errors);
}

/* The text of a refusal, or empty. */
static struct str rest_apply(struct rest_poll *p, struct str text, struct arena *a)
{
    struct source_rest *rest = p->rest;
    struct errors errors = {.arena = a};
    const Envoy__Service__Discovery__V3__DiscoveryResponse *r = rest_read(rest, text, a, &errors);
    bool ok = r != NULL;
    struct mux_resource *v = ok ? ARENA_ARRAY(a, struct mux_resource, r->n_resources) : NULL;
    for (size_t i = 0; ok && i < r->n_resources; i++) {
        const Google__Protobuf__Any *any = r->resources[i];
        v[i] =
            (struct mux_resource){.version = str_of(r->version_info),
                                  .type_url = str_of(any->type_url),
                                  .bytes = str_make((const char *)any->value.data, any->value.len)};
        ok = mux_resource_unwrap(&v[i], a, &errors);
        v[i].ttl_us = 0; /* Envoy: only streams know of it */
    }
    if (!ok) {
        rest_count(p, SUB_UPDATE_REJECTED);
        return errors_text(&errors, a, STR("DiscoveryResponse"));
    }
    struct mux_update u = {.type_url = str_of(kind_of(rest->kind)->type_url),
                           .version = str_of(r->version_info),
                           .resources = v,
                           .count = r->n_resources,
                           .full = true};
    struct str error = store_update(rest->source.x, &rest->source, &u, a);
    if (!error.len) mux_keep(&p->version, u.version);
    return error;
}

static void rest_accept(struct rest_poll *p, struct str body)
{
    struct arena *a = arena_new("decode", 0);
    bool big = body.len >= REST_TRIM_FROM;
    struct str error = rest_apply(p, body, a);
    if (error.len)
        log_warn(LOG_C_CONFIG, "REST config for %.*s rejected: %.*s", STR_ARG(p->rest->path),
                 STR_ARG(error));
    arena_free(&a);
    if (big) (void)malloc_trim(0);
}

static void rest_fail(struct rest_poll *p, const struct rest_answer *answer)
{
    struct source_rest *rest = p->rest;
    if (answer->status)
        log_warn(LOG_C_CONFIG, "REST update for %.*s failed: %.*s answered %u", STR_ARG(rest->path),
                 STR_ARG(rest->cluster), answer->status);
    else
        log_warn(LOG_C_CONFIG, "REST update for %.*s failed: %.*s: %.*s", STR_ARG(rest->path),
                 STR_ARG(rest->cluster), STR_ARG(answer->why));
    rest_count(p, SUB_UPDATE_FAILURE);
    cache_source_failed(rest->source.x->cache, &rest->source);
}

static void rest_due(struct loop_timer *t);

static void rest_answered(void *arg, const struct rest_answer *answer)
{
    enum { OK = 200, NOT_MODIFIED = 304 };
    struct rest_poll *p = arg;
    struct source_rest *rest = p->rest;
    p->call = NULL;
    loop_timer_start(xds_loop(rest->source.x), &p->timer,
                     rest->delay_us + rng_below(&rest->rng, rest->delay_us), rest_due);
    if (answer->status != OK && answer->status != NOT_MODIFIED) {
        rest_fail(p, answer);
        return;
    }
    cache_source_answered(rest->source.x->cache, &rest->source);
    p->users++; /* what is accepted may give the poll up */
    if (answer->status == OK)
        rest_accept(p, answer->body);
    else
        rest_count(p, SUB_UPDATE_ATTEMPT);
    rest_poll_drop(p);
}

/* --- a question
 * ---------------------------------------------------------------------------------------------- */

static struct str rest_question(const struct rest_poll *p, struct arena *a)
{
    const struct print_opts opts = {0};
    Envoy__Service__Discovery__V3__DiscoveryRequest q =
        ENVOY__SERVICE__DISCOVERY__V3__DISCOVERY_REQUEST__INIT;
    Envoy__Config__Core__V3__Node node = *p->rest->source.x->node;
    node.n_client_features = 0; /* Envoy: said on streams only */
    char *name = str_z(a, p->name);
    q.node = &node;
    q.version_info = str_z(a, p->version);
    q.type_url = (char *)(uintptr_t)kind_of(p->rest->kind)->type_url;
    q.resource_names = &name;
    q.n_resource_names = p->name.len ? 1 : 0;
    return print_to(a, &q.base, &opts);
}

static void rest_due(struct loop_timer *t)
{
    struct rest_poll *p = CONTAINER_OF(t, struct rest_poll, timer);
    struct source_rest *rest = p->rest;
    struct xds *x = rest->source.x;
    if (!cluster_manager_active(x->env.clusters, rest->cluster)) {
        loop_timer_start(xds_loop(x), &p->timer, REST_WAIT_US, rest_due);
        return;
    }
    struct arena *a = arena_new("rest question", 0);
    const struct rest_ask ask = {.cluster = rest->cluster,
                                 .path = rest->path,
                                 .body = rest_question(p, a),
                                 .timeout_us = rest->timeout_us,
                                 .answer_most = REST_ANSWER_MOST};
    p->call = rest_call_new(x->env.rt, &ask, &x->rest_calls, rest_answered, p);
    arena_free(&a);
}

/* --- the source
 * ---------------------------------------------------------------------------------------------- */

static void source_rest_start(struct source *s)
{
    size_t it = 0;
    void *value;
    while (map_next(&source_rest_of(s)->polls, &it, NULL, &value))
        loop_timer_start(xds_loop(s->x), &((struct rest_poll *)value)->timer, 0, rest_due);
}

static void source_rest_watch(struct source *s, enum xds_kind kind, struct str name)
{
    struct source_rest *rest = source_rest_of(s);
    struct rest_poll *p = map_get(&rest->polls, name);
    (void)kind; /* a source serves one kind */
    if (!p) {
        p = mem_alloc(sizeof *p);
        p->rest = rest;
        mux_keep(&p->name, name);
        (void)map_put(&rest->polls, p->name, p);
        if (s->started) loop_timer_start(xds_loop(s->x), &p->timer, 0, rest_due);
    }
    p->users++;
}

static void source_rest_unwatch(struct source *s, enum xds_kind kind, struct str name)
{
    struct rest_poll *p = map_get(&source_rest_of(s)->polls, name);
    (void)kind;
    if (p) rest_poll_drop(p);
}

static void source_rest_stop(struct source *s)
{
    size_t it = 0;
    void *value;
    while (map_next(&source_rest_of(s)->polls, &it, NULL, &value))
        rest_poll_stop(value);
}

static void source_rest_free(struct source *s)
{
    struct source_rest *rest = source_rest_of(s);
    size_t it = 0;
    void *value;
    while (map_next(&rest->polls, &it, NULL, &value))
        rest_poll_free(value);
    map_release(&rest->polls);
    struct arena *a = rest->arena;
    arena_free(&a);
}
static const struct source_ops source_rest_ops = {.start = source_rest_start,
                                                  .watch = source_rest_watch,
                                                  .unwatch = source_rest_unwatch,
                                                  .stop = source_rest_stop,
                                                  .free = source_rest_free};

static const char *const rest_paths[XDS_KINDS] = {
    [XDS_LISTENER] = "/v3/discovery:listeners",
    [XDS_CLUSTER] = "/v3/discovery:clusters",
    [XDS_ROUTE] = "/v3/discovery:routes",
    [XDS_ENDPOINT] = "/v3/discovery:endpoints",
    [XDS_SECRET] = "/v3/discovery:secrets",
    [XDS_RUNTIME] = "/v3/discovery:runtime",
    [XDS_EXTENSION] = "/v3/discovery:extension_configs",
    [XDS_SCOPED_ROUTE] = "/v3/discovery:scoped-routes",
};

static bool rest_settings(struct source_rest *rest,
                          const Envoy__Config__Core__V3__ApiConfigSource *api,
                          const struct conf_at *at)
{
    enum { TIMEOUT_US = 1000000 };
    struct conf_at services = conf_field(at, "grpc_services"),
                   names = conf_field(at, "cluster_names"), delay = conf_field(at, "refresh_delay"),
                   timeout = conf_field(at, "request_timeout");
    if (api->n_grpc_services)
        return conf_fail(&services, "REST has cluster_names, not a gRPC service");
    if (api->n_cluster_names != 1)
        return conf_fail(&names, "REST needs exactly one cluster, has %zu", api->n_cluster_names);
    if (at->cx->cluster_known &&
        !at->cx->cluster_known(at->cx->cluster_known_arg, str_of(api->cluster_names[0])))
        return conf_fail(&names, "no static cluster is named '%s'", api->cluster_names[0]);
    if (!api->refresh_delay) return conf_fail(&delay, "is required for REST");
    rest->cluster = str_dup(rest->arena, str_of(api->cluster_names[0]));
    return conf_duration(&delay, api->refresh_delay, 0, &rest->delay_us) &&
           conf_duration(&timeout, api->request_timeout, TIMEOUT_US, &rest->timeout_us);
}

struct source *source_rest_new(struct xds *x, const Envoy__Config__Core__V3__ApiConfigSource *api,
                               enum xds_kind kind, const struct conf_at *at)
{
    enum { DELAY_LEAST_US = 1000 }; /* 0 would keep both sides busy */
    struct conf_at type = conf_field(at, "api_type");
    if (!rest_paths[kind]) {
        conf_fail(&type, "REST is not possible for %s", kind_of(kind)->label);
        return NULL;
    }
    struct arena *a = arena_new("xds source", 1024);
    struct source_rest *rest = ARENA_NEW(a, struct source_rest);
    rest->arena = a;
    rest->kind = kind;
    rest->path = str_of(rest_paths[kind]);
    rest->source.x = x;
    rest->source.ops = &source_rest_ops;
    rest->source.is_remote = true;
    rng_init(&rest->rng, 0);
    if (!rest_settings(rest, api, at)) {
        arena_free(&a);
        return NULL;
    }
    if (rest->delay_us < DELAY_LEAST_US) rest->delay_us = DELAY_LEAST_US;
    return &rest->source;
}
