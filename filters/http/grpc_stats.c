/* envoy.filters.http.grpc_stats: counts gRPC calls by service, method and status, and their
 * messages, under the cluster of the route. */
#include "base/arena.h"
#include "envoy/extensions/filters/http/grpc_stats/v3/config.pb-c.h"
#include "google/protobuf/wrappers.pb-c.h"
#include "proxy/api/headers.h"
#include "proxy/api/http_filter.h"
#include "proxy/api/metadata.h"
#include "proxy/api/stream_info.h"
#include "proxy/api/upstream.h"
#include "proxy/runtime/runtime.h"
#include "proxy/stats/stats.h"

/* Statuses that gRPC does not define are counted as success or failure and in the total. */
enum { GRPC_STATUS_MOST = 16, GROUP_GRPC = 2 };
enum grpc_stat {
    GRPC_SUCCESS = GRPC_STATUS_MOST + 1,
    GRPC_FAILURE,
    GRPC_TOTAL,
    GRPC_REQUEST_MESSAGES,
    GRPC_RESPONSE_MESSAGES,
    GRPC_TIME,
    GRPC_STATS
};
static const struct stat_def grpc_defs[GRPC_STATS] = {
    {"0", STAT_COUNTER, STAT_LAZY},
    {"1", STAT_COUNTER, STAT_LAZY},
    {"2", STAT_COUNTER, STAT_LAZY},
    {"3", STAT_COUNTER, STAT_LAZY},
    {"4", STAT_COUNTER, STAT_LAZY},
    {"5", STAT_COUNTER, STAT_LAZY},
    {"6", STAT_COUNTER, STAT_LAZY},
    {"7", STAT_COUNTER, STAT_LAZY},
    {"8", STAT_COUNTER, STAT_LAZY},
    {"9", STAT_COUNTER, STAT_LAZY},
    {"10", STAT_COUNTER, STAT_LAZY},
    {"11", STAT_COUNTER, STAT_LAZY},
    {"12", STAT_COUNTER, STAT_LAZY},
    {"13", STAT_COUNTER, STAT_LAZY},
    {"14", STAT_COUNTER, STAT_LAZY},
    {"15", STAT_COUNTER, STAT_LAZY},
    {"16", STAT_COUNTER, STAT_LAZY},
    [GRPC_SUCCESS] = {"success", STAT_COUNTER, STAT_LAZY},
    [GRPC_FAILURE] = {"failure", STAT_COUNTER, STAT_LAZY},
    [GRPC_TOTAL] = {"total", STAT_COUNTER, STAT_LAZY},
    [GRPC_REQUEST_MESSAGES] = {"request_message_count", STAT_COUNTER, STAT_LAZY},
    [GRPC_RESPONSE_MESSAGES] = {"response_message_count", STAT_COUNTER, STAT_LAZY},
    [GRPC_TIME] = {"upstream_rq_time", STAT_HISTOGRAM, STAT_LAZY},
};

struct grpc_method {
    struct str service, name;
};
struct grpc_conf {
    bool filter_state, all_methods, times, replace_dots;
    const struct grpc_method *methods; /* individual_method_stats_allowlist */
    size_t method_count;
};

/* Where a run of length-prefixed messages stands (gRPC over HTTP/2: one byte, then the length in
 * four, big-endian). */
struct grpc_run {
    uint8_t head[5];
    uint8_t head_len;
    uint64_t left; /* bytes of the message that runs */
    uint64_t messages;
};
struct grpc_stats {
    struct http_filter base;
    bool call;                /* gRPC, to a cluster that is there */
    struct stat_group *stats; /* NULL: nothing to count under, or too many names */
    bool response;            /* the response is gRPC */
    struct grpc_run request_run, response_run;
    struct filter_state_entry *state; /* emit_filter_state: what was left there */
};

typedef Envoy__Extensions__Filters__Http__GrpcStats__V3__FilterConfig GrpcStatsConfig;

static void grpc_allowlist(const struct conf_at *at,
                           const Envoy__Config__Core__V3__GrpcMethodList *m, struct grpc_conf *c)
{
    struct arena *a = conf_arena(at);
    size_t count = 0;
    for (size_t i = 0; i < m->n_services; i++)
        count += m->services[i]->n_method_names;
    struct grpc_method *methods = ARENA_ARRAY(a, struct grpc_method, count);
    for (size_t i = 0; i < m->n_services; i++) {
        struct str service = str_dup(a, str_of(m->services[i]->name));
        for (size_t j = 0; j < m->services[i]->n_method_names; j++)
            methods[c->method_count++] =
                (struct grpc_method){service, str_dup(a, str_of(m->services[i]->method_names[j]))};
    }
    c->methods = methods;
}

static const void *grpc_conf_create(const struct conf_at *at, const struct ProtobufCMessage *msg,
                                    struct str stat_prefix)
{
    const GrpcStatsConfig *m = (const void *)msg;
    struct grpc_conf *c = ARENA_NEW(conf_arena(at), struct grpc_conf);
    (void)stat_prefix;
    c->filter_state = m->emit_filter_state;
    c->times = m->enable_upstream_stats;
    c->replace_dots = m->replace_dots_in_grpc_service_name;
#define SPECIFIER(x) \
    ENVOY__EXTENSIONS__FILTERS__HTTP__GRPC_STATS__V3__FILTER_CONFIG__PER_METHOD_STAT_SPECIFIER_##x
    if (m->per_method_stat_specifier_case == SPECIFIER(STATS_FOR_ALL_METHODS))
        c->all_methods = m->stats_for_all_methods->value;
    if (m->per_method_stat_specifier_case == SPECIFIER(INDIVIDUAL_METHOD_STATS_ALLOWLIST))
        grpc_allowlist(at, m->individual_method_stats_allowlist, c);
#undef SPECIFIER
    return c;
}

static bool grpc_listed(const struct grpc_conf *c, struct str service, struct str method)
{
    for (size_t i = 0; i < c->method_count; i++)
        if (str_eq(c->methods[i].service, service) && str_eq(c->methods[i].name, method))
            return true;
    return false;
}

/* "cluster.web.grpc.", with "pkg.Service.Method." behind it where the method is counted apart.
 * Empty: all methods are, and the path has none. */
static struct str grpc_prefix(struct grpc_stats *me, const struct grpc_conf *c, struct str cluster,
                              struct str path)
{
    struct arena *a = http_filter_arena(&me->base);
    struct str service, method, query;
    (void)str_cut(path, '?', &path, &query); /* without a query all of it is the path */
    bool named = path.len > 1 && path.ptr[0] == '/' &&
                 str_cut(str_sub(path, 1, SIZE_MAX), '/', &service, &method) && method.len &&
                 service.len && str_find_char(method, '/') == SIZE_MAX;
    if (!named && c->all_methods) return STR_NONE;
    if (!named || !(c->all_methods || grpc_listed(c, service, method)))
        return str_fmt(a, "cluster.%.*s.grpc.", STR_ARG(cluster));
    struct str prefix = str_fmt(a, "cluster.%.*s.grpc.%.*s.%.*s.", STR_ARG(cluster),
                                STR_ARG(service), STR_ARG(method));
    char *at = (char *)(uintptr_t)prefix.ptr + strlen("cluster..grpc.") + cluster.len;
    /* Names of the list stay as they are: Envoy made their statistics before. */
    for (size_t i = 0; c->replace_dots && c->all_methods && i < service.len; i++)
        if (at[i] == '.') at[i] = '_';
    return prefix;
}

static enum http_flow grpc_decode_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct grpc_stats *me = (struct grpc_stats *)f;
    (void)end;
    if (!headers_is_grpc(h)) return HTTP_CONTINUE;
    struct str name = http_filter_cluster(f);
    struct upstream_cluster *uc = name.len ? upstream_find(f->worker, name, hash_str(name)) : NULL;
    if (!uc) return HTTP_CONTINUE;
    struct stream_info *info = http_filter_info(f);
    upstream_name_facts(uc, info);
    struct str prefix = grpc_prefix(me, f->conf, info->up.cluster_stat, headers_get(h, HDR_PATH));
    me->call = true;
    if (prefix.len == 0) return HTTP_CONTINUE;
    me->stats = upstream_named_stats(f->worker, prefix, GROUP_GRPC, grpc_defs, GRPC_STATS);
    return HTTP_CONTINUE;
}

/* How many messages began in `data`. */
static uint64_t grpc_count(struct grpc_run *run, const struct buf *data)
{
    uint64_t before = run->messages;
    size_t at = 0, len = buf_len(data);
    while (at < len) {
        if (run->left) {
            uint64_t n = len - at < run->left ? len - at : run->left;
            run->left -= n;
            at += n;
            continue;
        }
        if (run->head_len == 0) run->messages++; /* counted at its first byte, as Envoy does */
        size_t n = buf_copy_out(data, at, run->head + run->head_len, 5 - run->head_len);
        run->head_len = (uint8_t)(run->head_len + n);
        at += n;
        if (run->head_len < 5) break;
        run->left = (uint64_t)run->head[1] << 24 | (uint64_t)run->head[2] << 16 |
                    (uint64_t)run->head[3] << 8 | run->head[4];
        run->head_len = 0;
    }
    return run->messages - before;
}

static struct str grpc_state_text(const void *object, struct arena *a)
{
    const struct grpc_stats *me = object;
    return str_fmt(a, "%llu,%llu", (unsigned long long)me->request_run.messages,
                   (unsigned long long)me->response_run.messages);
}

/* The object lives as long as the stream: the filter's instance does, too. */
static void grpc_leave_state(struct grpc_stats *me)
{
    const struct grpc_conf *c = me->base.conf;
    if (!c->filter_state || me->state) return;
    struct stream_info *info = http_filter_info(&me->base);
    struct filter_state_entry entry = {
        .name = STR("envoy.filters.http.grpc_stats"), .object = me, .text = grpc_state_text};
    me->state = filter_state_set(&info->state, http_filter_arena(&me->base), &entry)
                    ? info->state->first
                    : NULL;
}

static enum http_flow grpc_decode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct grpc_stats *me = (struct grpc_stats *)f;
    (void)end;
    if (!me->call) return HTTP_CONTINUE;
    uint64_t n = grpc_count(&me->request_run, data);
    if (n == 0) return HTTP_CONTINUE;
    grpc_leave_state(me);
    stat_add(me->stats, GRPC_REQUEST_MESSAGES, n);
    return HTTP_CONTINUE;
}

/* The status of the call, which may stand in the headers already. */
static void grpc_count_status(struct grpc_stats *me, const struct headers *h)
{
    struct str text = headers_get(h, HDR_GRPC_STATUS);
    uint64_t status;
    if (text.len == 0) return;
    bool known = str_to_u64(text, &status) && status <= GRPC_STATUS_MOST;
    if (known) stat_inc(me->stats, status);
    stat_inc(me->stats, known && status == 0 ? GRPC_SUCCESS : GRPC_FAILURE);
    stat_inc(me->stats, GRPC_TOTAL);
}

static void grpc_record_time(struct grpc_stats *me)
{
    const struct grpc_conf *c = me->base.conf;
    struct stream_info *info = http_filter_info(&me->base);
    if (!c->times || !info->last_rx_us) return;
    uint64_t now = loop_now_us(me->base.worker->loop);
    stat_record(me->stats, GRPC_TIME, now > info->last_rx_us ? (now - info->last_rx_us) / 1000 : 0);
}

static bool grpc_is_response(const struct headers *h, bool end)
{
    if (end) return headers_get(h, HDR_GRPC_STATUS).len > 0;
    return str_eq(headers_get(h, HDR_STATUS), STR("200")) && headers_is_grpc(h);
}

static enum http_flow grpc_encode_headers(struct http_filter *f, struct headers *h, bool end)
{
    struct grpc_stats *me = (struct grpc_stats *)f;
    if (!me->call) return HTTP_CONTINUE;
    me->response = grpc_is_response(h, end);
    if (!me->response) return HTTP_CONTINUE;
    grpc_count_status(me, h);
    if (end) grpc_record_time(me);
    return HTTP_CONTINUE;
}

static enum http_flow grpc_encode_data(struct http_filter *f, struct buf *data, bool end)
{
    struct grpc_stats *me = (struct grpc_stats *)f;
    (void)end;
    if (!me->call || !me->response) return HTTP_CONTINUE;
    uint64_t n = grpc_count(&me->response_run, data);
    if (n == 0) return HTTP_CONTINUE;
    grpc_leave_state(me);
    stat_add(me->stats, GRPC_RESPONSE_MESSAGES, n);
    return HTTP_CONTINUE;
}

static enum http_flow grpc_encode_trailers(struct http_filter *f, struct headers *t)
{
    struct grpc_stats *me = (struct grpc_stats *)f;
    if (!me->call || !me->response) return HTTP_CONTINUE;
    grpc_count_status(me, t);
    grpc_record_time(me);
    return HTTP_CONTINUE;
}

const struct http_filter_type http_grpc_stats = {
    .ext = {.name = "envoy.filters.http.grpc_stats",
            .config = &envoy__extensions__filters__http__grpc_stats__v3__filter_config__descriptor},
    .instance_size = sizeof(struct grpc_stats),
    .conf_create = grpc_conf_create,
    .decode_headers = grpc_decode_headers,
    .decode_data = grpc_decode_data,
    .encode_headers = grpc_encode_headers,
    .encode_data = grpc_encode_data,
    .encode_trailers = grpc_encode_trailers,
};
