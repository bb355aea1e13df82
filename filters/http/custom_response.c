/* envoy.filters.http.custom_response: other answers instead of those that a matcher tree picks.
 * Redirect policies are refused. */
#include "base/arena.h"
#include "base/must.h"
#include "envoy/config/core/v3/base.pb-c.h"
#include "envoy/config/core/v3/substitution_format_string.pb-c.h"
#include "envoy/extensions/filters/http/custom_response/v3/custom_response.pb-c.h"
#include "envoy/extensions/http/custom_response/local_response_policy/v3/local_response_policy.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/match_tree.h"
#include "proxy/api/stream_info.h"

struct custom_conf {
    const struct match_tree *tree;   /* NULL: nothing is answered for */
    const struct custom_conf *outer; /* of the less specific level, asked next */
};
struct custom_policy {
    bool has_body;
    struct str body;
    const struct format *format;
    uint32_t status; /* 0: as it was */
    const struct header_change *headers;
};
struct custom_filter {
    struct http_filter base;
    bool answered;
};

/* --- configuration
 * ---------------------------------------------------------------------------------- */

static const void *custom_action(const struct conf_at *at, struct str name,
                                 const struct Google__Protobuf__Any *any, void *arg)
{
    (void)arg;
    const Envoy__Extensions__Http__CustomResponse__LocalResponsePolicy__V3__LocalResponsePolicy *m =
        (const void *)conf_match_action(
            at, name, any,
            &envoy__extensions__http__custom_response__local_response_policy__v3__local_response_policy__descriptor);
    if (!m) return NULL;
    struct custom_policy *p = ARENA_NEW(conf_arena(at), struct custom_policy);
    struct conf_at body = conf_field(at, "body"), format = conf_field(at, "body_format");
    bool ok = true, headers_ok;
    if (m->body) {
        p->has_body = true;
        ok = conf_data_source(&body, m->body, 0, &p->body);
    }
    if (m->body_format) {
        p->format = conf_format(&format, m->body_format);
        ok &= p->format != NULL;
    }
    if (m->status_code) p->status = m->status_code->value;
    p->headers = conf_header_change(at, "response_headers_to_add", m->n_response_headers_to_add,
                                    m->response_headers_to_add, "", 0, NULL, &headers_ok);
    return ok && headers_ok ? p : NULL;
}

static struct custom_conf *custom_of(const struct conf_at *at, const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__CustomResponse__V3__CustomResponse *m =
        (const void *)msg;
    struct custom_conf *c = ARENA_NEW(conf_arena(at), struct custom_conf);
    struct conf_at place = conf_field(at, "custom_response_matcher");
    struct match_tree_use use = {.place = MATCH_IN_HTTP, .action = custom_action};
    if (!m->custom_response_matcher) return c;
    c->tree = conf_match_tree(&place, m->custom_response_matcher, &use);
    return c->tree ? c : NULL;
}

static const void *custom_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                      struct str stat_prefix)
{
    (void)stat_prefix;
    return custom_of(at, msg);
}

static const void *custom_route_conf_create(const struct conf_at *at,
                                            const struct ProtobufCMessage *msg)
{
    return custom_of(at, msg);
}

static const void *custom_route_conf_merge(struct arena *a, const void *outer, const void *inner)
{
    struct custom_conf *c = ARENA_NEW(a, struct custom_conf);
    *c = *(const struct custom_conf *)inner;
    c->outer = outer;
    return c;
}

/* --- responses
 * -------------------------------------------------------------------------------------- */

static const struct custom_policy *custom_find(struct http_filter *f, const struct headers *h)
{
    const struct stream_info *info = http_filter_info(f);
    struct match_ask ask = {.worker = f->worker,
                            .scratch = http_filter_arena(f),
                            .conn = info->conn,
                            .info = info,
                            .response = h};
    const void *action;
    for (const struct custom_conf *c = f->route_conf; c; c = c->outer) {
        if (c->tree && match_tree_find(c->tree, &ask, &action) == MATCH_FOUND) return action;
    }
    const struct custom_conf *c = f->conf;
    return c->tree && match_tree_find(c->tree, &ask, &action) == MATCH_FOUND ? action : NULL;
}

struct custom_edit {
    const struct custom_policy *policy;
    const struct stream_info *info;
};

static void custom_edit(void *arg, struct headers *h)
{
    const struct custom_edit *x = arg;
    header_change_apply(x->policy->headers, h, x->info);
}

static enum http_flow custom_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    struct custom_filter *x = CONTAINER_OF(f, struct custom_filter, base);
    const struct custom_policy *p = x->answered ? NULL : custom_find(f, h);
    if (!p) return HTTP_CONTINUE;
    x->answered = true;
    struct stream_info *info = http_filter_info(f);
    struct str body = p->body;
    info->code_details = STR(""); /* as Envoy's */
    if (p->format) {
        info->local_reply_body = body;
        body = format_dup(p->format, info, http_filter_arena(f));
    }
    struct custom_edit *edit = ARENA_NEW(http_filter_arena(f), struct custom_edit);
    *edit = (struct custom_edit){.policy = p, .info = info};
    struct local_reply reply = {.status = p->status ? p->status : headers_status(h),
                                .body = body,
                                .grpc_status = -1,
                                .edit = custom_edit,
                                .edit_arg = edit};
    http_filter_reply(f, &reply);
    return HTTP_HOLD_ALL;
}

const struct http_filter_type http_custom_response = {
    .ext =
        {.name = "envoy.filters.http.custom_response",
         .config =
             &envoy__extensions__filters__http__custom_response__v3__custom_response__descriptor},
    .route_config =
        &envoy__extensions__filters__http__custom_response__v3__custom_response__descriptor,
    .instance_size = sizeof(struct custom_filter),
    .conf_create = custom_conf_create,
    .route_conf_create = custom_route_conf_create,
    .route_conf_merge = custom_route_conf_merge,
    .encode_headers = custom_encode_headers,
};
