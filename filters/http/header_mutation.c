/* envoy.filters.http.header_mutation: changes headers and trailers by lists of mutations, those of
 * the routes after the filter's own. */
#include "base/arena.h"
#include "envoy/extensions/filters/http/header_mutation/v3/header_mutation.pb-c.h"
#include "proxy/api/conf_types.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/stream_info.h"

struct mutation_conf {
    const struct header_change *request, *response, *request_trailers, *response_trailers;
    bool specific_wins;
    const struct mutation_conf *outer; /* settings of less specific levels */
};

static bool mutation_lists(const struct conf_at *at,
                           const Envoy__Extensions__Filters__Http__HeaderMutation__V3__Mutations *m,
                           struct mutation_conf *c)
{
    bool request, response, request_trailers, response_trailers;
    c->request = conf_header_mutations(at, "request_mutations", m->n_request_mutations,
                                       m->request_mutations, &request);
    c->response = conf_header_mutations(at, "response_mutations", m->n_response_mutations,
                                        m->response_mutations, &response);
    c->request_trailers =
        conf_header_mutations(at, "request_trailers_mutations", m->n_request_trailers_mutations,
                              m->request_trailers_mutations, &request_trailers);
    c->response_trailers =
        conf_header_mutations(at, "response_trailers_mutations", m->n_response_trailers_mutations,
                              m->response_trailers_mutations, &response_trailers);
    return request && response && request_trailers && response_trailers;
}

static const void *mutation_conf_create(const struct conf_at *at,
                                        const struct ProtobufCMessage *msg, struct str stat_prefix)
{
    (void)stat_prefix;
    const Envoy__Extensions__Filters__Http__HeaderMutation__V3__HeaderMutation *m =
        (const void *)msg;
    struct mutation_conf *c = ARENA_NEW(conf_arena(at), struct mutation_conf);
    struct conf_at here = conf_field(at, "mutations");
    c->specific_wins = m->most_specific_header_mutations_wins;
    return !m->mutations || mutation_lists(&here, m->mutations, c) ? c : NULL;
}

static const void *mutation_route_conf_create(const struct conf_at *at,
                                              const struct ProtobufCMessage *msg)
{
    const Envoy__Extensions__Filters__Http__HeaderMutation__V3__HeaderMutationPerRoute *m =
        (const void *)msg;
    struct mutation_conf *c = ARENA_NEW(conf_arena(at), struct mutation_conf);
    struct conf_at here = conf_field(at, "mutations");
    return !m->mutations || mutation_lists(&here, m->mutations, c) ? c : NULL;
}

static const void *mutation_merge(struct arena *a, const void *outer, const void *inner)
{
    struct mutation_conf *c = arena_copy(a, inner, sizeof *c);
    c->outer = outer;
    return c;
}

enum what { REQUEST, RESPONSE, REQUEST_TRAILERS, RESPONSE_TRAILERS };

static void mutate_one(const struct mutation_conf *c, enum what what, struct headers *h,
                       const struct stream_info *info)
{
    switch (what) {
    case REQUEST: header_change_apply(c->request, h, info); return;
    case RESPONSE: header_change_apply(c->response, h, info); return;
    case REQUEST_TRAILERS: header_change_apply(c->request_trailers, h, info); return;
    case RESPONSE_TRAILERS: header_change_apply(c->response_trailers, h, info); return;
    }
}

/* At most four levels. Envoy: the last one wins, so the order is from specific to general unless it
 * is to be the other way. */
static void mutate_levels(const struct mutation_conf *c, bool specific_last, enum what what,
                          struct headers *h, const struct stream_info *info)
{
    if (!c) return;
    if (specific_last) mutate_levels(c->outer, specific_last, what, h, info);
    mutate_one(c, what, h, info);
    if (!specific_last) mutate_levels(c->outer, specific_last, what, h, info);
}

static enum http_flow mutate(struct http_filter *f, enum what what, struct headers *h)
{
    const struct mutation_conf *c = f->conf;
    const struct stream_info *info = http_filter_info(f);
    (void)http_filter_route(f); /* route_conf is that of the route from here on */
    mutate_one(c, what, h, info);
    mutate_levels(f->route_conf, c->specific_wins, what, h, info);
    return HTTP_CONTINUE;
}

static enum http_flow mutation_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    return mutate(f, REQUEST, h);
}

static enum http_flow mutation_decode_trailers(struct http_filter *f, struct headers *t)
{
    return mutate(f, REQUEST_TRAILERS, t);
}

static enum http_flow mutation_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    (void)end;
    return mutate(f, RESPONSE, h);
}

static enum http_flow mutation_encode_trailers(struct http_filter *f, struct headers *t)
{
    return mutate(f, RESPONSE_TRAILERS, t);
}

const struct http_filter_type http_header_mutation = {
    .ext =
        {.name = "envoy.filters.http.header_mutation",
         .config =
             &envoy__extensions__filters__http__header_mutation__v3__header_mutation__descriptor},
    .route_config =
        &envoy__extensions__filters__http__header_mutation__v3__header_mutation_per_route__descriptor,
    .instance_size = sizeof(struct http_filter),
    .upstream = true,
    .conf_create = mutation_conf_create,
    .route_conf_create = mutation_route_conf_create,
    .route_conf_merge = mutation_merge,
    .decode_headers = mutation_decode_headers,
    .decode_trailers = mutation_decode_trailers,
    .encode_headers = mutation_encode_headers,
    .encode_trailers = mutation_encode_trailers,
};
